"""Stage one: a blend of all terms finds each user's best few hundred items; stage two re-ranks them.

Two blends are fitted and the one whose pool holds more of the held-out items is taken: `learned` (softmax over the
whole catalogue) and `strongest` (the eight terms that rank best alone, each divided by its spread; where they say
nothing, as of a user without a history, what most people took comes first).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import TypeVar

import numpy as np
import scipy.sparse as sp
import torch

from . import approximate
from .approximate import DenseIndex
from .context import Context, peak_of
from .folded import blended, values_at
from .metrics import is_held_out, rank_metrics
from .placed import Placed
from .terms import Prior, Term, dense, family
from .topk import top_k

BATCH = 128  # users scored at once, at most
SAMPLE = 3_000  # users the learned blend is fitted on
STRONGEST = 8
BATCH_MIB = 16.0  # of scores that a thread holds: what stays in the caches is faster than what does not
TIE = 1e-4  # of the popularity in a blend of the strongest terms, whose spreads are 1
ROWS = 8 * BATCH  # users whose pools are held at once, [user, pool size, term] float32
T = TypeVar("T")


@dataclass(frozen=True)
class Scorable:
    """Terms with the profile rows of all users: everything needed to score anyone.

    hidden: sparse [user, item], nonzero = never recommended to this user. allowed: bool [item].
    about_items, about_users: float32 [item or user, feature], what the heads read beside the terms. index: finds pools
    without a look at every item; None looks at every one. batch_mib: what a thread holds of float32 [user, item].
    placed: the terms on a device, where pools are made then.
    """

    terms: tuple[Term, ...]
    profiles: dict[str, sp.csr_matrix]
    hidden: sp.csr_matrix
    allowed: np.ndarray
    about_items: np.ndarray
    about_users: np.ndarray
    index: DenseIndex | None = None
    batch_mib: float = BATCH_MIB
    placed: Placed | None = None

    def batch(self, held: int) -> int:
        """Users of whom `held` scores of every item fit into the memory, and one at least."""
        return users_that_fit(len(self.allowed), held, self.batch_mib)

    def rows(self, users: np.ndarray) -> dict[str, sp.csr_matrix]:
        """The profile rows of a batch of user rows."""
        return {name: matrix[users] for name, matrix in self.profiles.items()}

    def dense(self, users: np.ndarray) -> np.ndarray:
        """float32 [term, user, item] for a batch of user rows."""
        return dense(self.terms, self.rows(users))

    def forbidden(self, users: np.ndarray) -> np.ndarray:
        """bool [user, item]: seen already, or not a candidate."""
        return np.asarray((self.hidden[users].toarray() != 0) | ~self.allowed)

    def features(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """float32 [user, n, feature] of items int64 [user, n] (an empty place, -1, reads as item 0)."""
        about = self.about_users[users][:, None]
        about = np.broadcast_to(about, (*items.shape, about.shape[-1]))
        return np.concatenate([self.about_items[np.maximum(items, 0)], about], axis=2)


def users_that_fit(n_items: int, held: int = 1, mib: float = BATCH_MIB) -> int:
    """Users of whom `held` scores of every item fit into so much memory: one at least, and BATCH at most."""
    return min(max(int(mib * 2**20) // (4 * held * max(n_items, 1)), 1), BATCH)


def chunks(users: np.ndarray) -> list[np.ndarray]:
    """User rows in parts whose pools may be held at once."""
    return np.split(users, range(ROWS, len(users), ROWS))


@dataclass(frozen=True)
class Pool:
    """items: int64 [user, size], best first, -1 where a user has fewer. values: float32 [user, size, term]."""

    items: np.ndarray
    values: np.ndarray
    context: Context

    def recall(self, held_out: sp.csr_matrix) -> float:
        """Share of the held-out pairs [user of the pool, item] that the pool holds."""
        return float(is_held_out(self.items, held_out).sum() / max(held_out.nnz, 1))


def in_batches(users: np.ndarray, work: Callable[[np.ndarray], T], *, size: int = BATCH) -> Iterator[T]:
    """`work` over batches of users, in order; numpy, scipy and torch let go of the interpreter lock."""
    cores = torch.get_num_threads()  # a thread that has not settled for its number would take over that of ours
    yield from _threads(cores).map(work, np.split(users, range(size, len(users), size)))


@cache
def _threads(cores: int) -> ThreadPoolExecutor:
    """Each on one core: many short products on all cores would mostly wait for one another."""
    return ThreadPoolExecutor(cores, "pool", torch.set_num_threads, (1,))


def fill(scorable: Scorable, users: np.ndarray, weights: np.ndarray, size: int, only: np.ndarray | None = None) -> Pool:
    """The pools of these users; `only`, bool [item], narrows the items and leaves the context as it is without."""
    size = min(size, scorable.hidden.shape[1])
    masks = [scorable.allowed] if only is None else [scorable.allowed, scorable.allowed & only]

    def one(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = _pooled(scorable, batch, weights, size, masks)
        (items, values), (all_items, all_values) = found[-1], found[0]
        return items, values, peak_of(all_values, all_items)

    if scorable.placed is None:
        found = in_batches(users, one, size=scorable.batch(2))
    else:  # a device works on one batch at a time
        step = scorable.placed.batch()
        found = (one(batch) for batch in np.split(users, range(step, len(users), step)))
    items, values, peak = (np.concatenate(part) for part in zip(*found, strict=True))
    return Pool(items, values, Context(scorable.features(users, items), peak))


def _pooled(
    scorable: Scorable, batch: np.ndarray, weights: np.ndarray, size: int, masks: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Items int64 [user, size] and values float32 [user, size, term] of a batch's pools, for each bool [item] mask."""
    rows, hidden = scorable.rows(batch), scorable.hidden[batch]
    if scorable.index is not None:
        near = partial(approximate.pooled, scorable.index, scorable.terms, rows, weights, size, hidden)
        lists = [near(mask) for mask in masks]
    elif scorable.placed is not None:
        return scorable.placed.pooled(rows, hidden, weights, size, masks)
    else:
        scores = blended(scorable.terms, weights, rows)
        lists = [top_k(scores, size, hidden, mask)[0] for mask in masks]
    return [(items, values_at(scorable.terms, rows, items)) for items in lists]


def learn_blend(
    scorable: Scorable,
    held_out: sp.csr_matrix,
    users: np.ndarray,
    *,
    seed: int,
    epochs: int = 5,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Weights float64 [term] by softmax over the whole catalogue, terms divided by the mean of their rows' largest
    magnitudes.

    Loss: cross-entropy against the held-out items of each user, a user's weight growing with sqrt(how many).
    start: the weights of an earlier version, from which it goes on.
    """
    users, size = users[:SAMPLE], scorable.batch(len(scorable.terms))
    scale = torch.from_numpy(_magnitudes(scorable, users[:BATCH], size) + 1e-8)
    first = torch.full((len(scale),), 3.0 / len(scale)) if start is None else torch.tensor(start).float() * scale
    weight = torch.nn.Parameter(first)
    optimizer = torch.optim.Adam([weight], lr=0.3)
    batches = max(len(users) // 64, 1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=epochs * batches)
    random = np.random.default_rng(seed)
    for _ in range(epochs):
        for batch in np.array_split(random.permutation(users), batches):
            wanted = held_out[batch].multiply(scorable.allowed).sum(1)
            total = max(float(np.sqrt(wanted).sum()), 1e-9)
            optimizer.zero_grad()
            for part in np.split(batch, range(size, len(batch), size)):  # gradients add up, memory does not
                values = torch.from_numpy(scorable.dense(part))
                scores = torch.einsum("k,kui->ui", weight / scale, values)
                scores = scores.masked_fill(torch.from_numpy(scorable.forbidden(part)), -1e9)
                target = torch.from_numpy(held_out[part].toarray() * scorable.allowed)
                (summed_loss(scores, target) / total).backward()
            optimizer.step()
            schedule.step()
    return (weight.detach() / scale).double().numpy()


def _magnitudes(scorable: Scorable, users: np.ndarray, size: int) -> np.ndarray:
    """float32 [term]: the mean of each user's largest magnitude. Not of the largest value: some terms are never above
    0 (how long an item was not sold), and their largest is close to it where something was sold just now."""
    found = in_batches(users, lambda batch: np.abs(scorable.dense(batch)).max(2), size=size)
    return np.asarray(np.concatenate(list(found), axis=1).mean(1), np.float32)


def softmax_loss(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cross-entropy in nats of scores [user, item]; a row of n targets weighs sqrt(n)."""
    return summed_loss(scores, target) / target.sum(1).sqrt().sum().clamp(min=1e-9)


def summed_loss(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The same before it is divided by the rows' weights."""
    target = target / target.sum(1, keepdim=True).clamp(min=1).sqrt()
    return -(torch.log_softmax(scores, 1) * target).sum()


def strongest_blend(scorable: Scorable, held_out: sp.csr_matrix, users: np.ndarray, *, k: int = 10) -> np.ndarray:
    """Weights float64 [term]: 1/spread for the eight terms with the best NDCG@k alone, 0 for the others; but TIE for
    the popularity, which orders what the eight say nothing about."""
    users = users[:700]

    def one(batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = scorable.dense(batch)
        alone = [top_k(v, k, scorable.hidden[batch], scorable.allowed)[0] for v in values]
        top = -np.partition(-values, min(50, values.shape[2] - 1), axis=2)[:, :, :50]
        spread = np.abs(top.mean(2) - values.mean(2)).sum(1)
        return np.stack([rank_metrics(items, held_out[batch], k).ndcg.sum() for items in alone]), spread

    found = in_batches(users, one, size=scorable.batch(len(scorable.terms)))
    ndcg, spread = (np.sum(part, axis=0) for part in zip(*found, strict=True))
    weights = np.zeros(len(scorable.terms))
    best = np.argsort(-ndcg, kind="stable")[:STRONGEST]
    weights[best] = len(users) / (spread[best] + 1e-6)
    for number, term in enumerate(scorable.terms):
        if isinstance(term, Prior) and family(term.name) == "popularity" and not weights[number]:
            weights[number] = TIE / max(float(term.values.max(initial=0)), 1.0)
    return weights


@dataclass(frozen=True)
class Question:
    """Users of one cut and what they must find: held_out sparse [user, item], users int64 rows of it."""

    scorable: Scorable
    held_out: sp.csr_matrix
    users: np.ndarray


def choose_blend(
    fit: Question, check: Question, *, kind: str, size: int, seed: int, start: np.ndarray | None = None
) -> tuple[str, np.ndarray, dict[str, float]]:
    """The blend with the higher pool recall on the check users: its name, weights, and the recall of each tried."""
    makers = {
        "learned": lambda: learn_blend(fit.scorable, fit.held_out, fit.users, seed=seed, start=start),
        "strongest": lambda: strongest_blend(fit.scorable, fit.held_out, fit.users),
    }
    tried = {name: make() for name, make in makers.items() if kind in ("auto", name)}
    sample = check.users[:1_000]
    recall = {name: fill(check.scorable, sample, w, size).recall(check.held_out[sample]) for name, w in tried.items()}
    best = max(recall, key=lambda name: recall[name])
    return best, tried[best], recall
