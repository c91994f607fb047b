"""Heads: the learned function f that ranks the pooled items: a network of :mod:`.nets`, or the mean of several."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..seeding import seeded
from .boosted import BoostedHead
from .context import Context
from .nets import Gated, Linear, Mean, Mlp, Parts
from .pool import Pool, softmax_loss

KINDS: Mapping[str, type[Linear] | type[Gated]] = {"linear": Linear, "gated": Gated, "mlp": Mlp}
ENSEMBLE, MLPS = "ensemble", "mlps"
MEMBERS = {ENSEMBLE: ("gated", "mlp", "gated", "mlp"), MLPS: ("mlp", "mlp")}  # each from a seed of its own
DECAY = {"linear": 1e-3, "gated": 1e-3, "mlp": 1e-2}  # AdamW's weight decay
CONSTANT_RATE, NETWORK_RATE = 0.03, 0.003
LEAST = 50  # steps of training
SAME = 1e-6  # of a mean: a smaller spread is rounding
ROWS = 16  # users whose parts are computed at once: what stays in the caches is faster
ROWS_THERE = 1_024  # the same where a GPU computes


@dataclass(frozen=True)
class Sample:
    """What a head learns from: term values float32 [user, pool, term], their context, target bool [user, pool]."""

    values: np.ndarray
    context: Context
    target: np.ndarray

    @classmethod
    def of(cls, pool: Pool, target: np.ndarray) -> Sample:
        """The users whose pool holds one of their held-out items.

        The others teach nothing: a held-out item forced into the pool would teach the head to tell pooled from
        unpooled items instead of good from bad.
        """
        useful = np.flatnonzero(target.any(1))
        return cls(pool.values[useful], pool.context.of(useful), target[useful])

    @classmethod
    def joined(cls, samples: Sequence[Sample]) -> Sample:
        """All users of several samples."""
        contexts = [sample.context for sample in samples]
        return cls(
            np.concatenate([sample.values for sample in samples]),
            Context(np.concatenate([c.features for c in contexts]), np.concatenate([c.peak for c in contexts])),
            np.concatenate([sample.target for sample in samples]),
        )


@dataclass(frozen=True)
class Head:
    """A fitted head. Its scores are the sums of its contributions."""

    kind: str
    net: Parts

    @property
    def reads_context(self) -> bool:
        """Whether the context matters at all."""
        return self.kind != "linear"

    def contributions(self, values: np.ndarray, context: Context) -> np.ndarray:
        """float32 [user, item, term]: each term's part of the score of values [user, item, term]."""
        return self._over_users(self.net, values, context)

    def scores(self, values: np.ndarray, context: Context) -> np.ndarray:
        """float32 [user, item]."""
        return self._over_users(self.net.scores, values, context)

    @torch.no_grad()
    def _over_users(self, work: Callable[..., Tensor], values: np.ndarray, context: Context) -> np.ndarray:
        device, found = self.net.spread.device, []
        step = ROWS if device.type == "cpu" else ROWS_THERE
        for start in _starts(values, step):
            rows = slice(start, start + step)
            inputs = (values[rows], context.features[rows], context.peak[rows])
            found.append(work(*(torch.from_numpy(part).to(device) for part in inputs)).cpu().numpy())
        return np.concatenate(found)

    def on(self, device: str) -> Head:
        """The same head, computing there."""
        return Head(self.kind, deepcopy(self.net).to(device))

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything learned, by name; :meth:`of_arrays` gives the head back."""
        return {name: value.cpu().numpy() for name, value in self.net.state_dict().items()}

    @classmethod
    def of_arrays(cls, kind: str, arrays: Mapping[str, np.ndarray]) -> Head:
        """A head from the arrays of another.

        Raises:
            KeyError, RuntimeError: the arrays are not those of a head of this kind.
        """
        features = next((len(array) for name, array in arrays.items() if name.endswith("center")), 0)
        net = untrained(kind, len(arrays["spread"]), features)
        net.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
        return cls(kind, net.eval())


def untrained(kind: str, terms: int, features: int) -> Parts:
    """The network of a head, as it starts."""
    if kind in MEMBERS:
        return Mean([untrained(name, terms, features) for name in MEMBERS[kind]])
    return KINDS[kind](terms, features)


def _starts(values: np.ndarray, step: int = ROWS) -> range:
    return range(0, max(len(values), 1), step)


def fit_head(
    kind: str,
    sample: Sample,
    *,
    seed: int,
    epochs: int = 10,
    batch: int = 128,
    start: Parts | None = None,
    device: str = "cpu",
) -> Head:
    """Softmax over each user's pool. AdamW, learning rates falling linearly to 0. The head itself is on the CPU.

    start: the network of an earlier head of this kind, whose weights and spreads it goes on from.

    `epochs` times through the users, more often where that makes fewer than LEAST steps: a small shop's head would
    hardly move from where it starts.
    Equal seeds give equal heads; the generator of the caller is left as it was.
    """
    if kind in MEMBERS:
        names = MEMBERS[kind]
        first = start.parts() if isinstance(start, Mean) else [None] * len(names)
        members = [
            fit_head(name, sample, seed=seed + n, epochs=epochs, batch=batch, start=one, device=device)
            for n, (name, one) in enumerate(zip(names, first, strict=True))
        ]
        return Head(kind, Mean([member.net for member in members]).eval())
    with seeded(seed, device):
        net = KINDS[kind](sample.values.shape[-1], sample.context.features.shape[-1])
        if start is None:
            net = _standardised(net, sample)
        else:
            net.load_state_dict(start.state_dict())
        net.to(device)  # started on the CPU: one start everywhere
        constant = [net.constant]
        network = [p for name, p in net.named_parameters() if name != "constant"]
        groups = [{"params": constant, "lr": CONSTANT_RATE}, {"params": network, "lr": NETWORK_RATE}]
        optimizer = torch.optim.AdamW(groups[: 1 + bool(network)], weight_decay=DECAY[kind])
        steps_per_epoch = max(-(-len(sample.target) // batch), 1)
        epochs = max(epochs, -(-LEAST // steps_per_epoch))
        steps = epochs * steps_per_epoch
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
        inputs = [
            torch.from_numpy(part)
            for part in (sample.values, sample.context.features, sample.context.peak, sample.target)
        ]
        for _ in range(epochs):
            for rows in torch.randperm(len(sample.target)).split(batch):
                *known, target = (part[rows].to(device) for part in inputs)
                loss = softmax_loss(net.scores(*known), target.float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return Head(kind, net.cpu().eval())


def mlps_of(ensemble: Head) -> Head:
    """The ensemble's perceptrons alone, which are better than all of it in some shops: nothing is fitted."""
    assert isinstance(ensemble.net, Mean)
    return Head(MLPS, Mean([member for member in ensemble.net.parts() if isinstance(member, Mlp)]).eval())


def _standardised(net: Linear | Gated, sample: Sample) -> Linear | Gated:
    """The net with the sample's spreads."""
    net.spread = torch.from_numpy(_divisor(*_moments(sample.values), 1e-8))
    if isinstance(net, Gated):
        mean, spread = _moments(sample.context.features)
        net.center, net.width = torch.from_numpy(mean), torch.from_numpy(_divisor(mean, spread, 1e-6))
    return net


def _divisor(mean: np.ndarray, spread: np.ndarray, least: float) -> np.ndarray:
    """What values are divided by. By infinity where all were equal: nothing was learned of them, so nothing is said
    of an item that differs, as one sold for the first time may."""
    return np.where(spread > SAME * np.abs(mean), spread + np.float32(least), np.float32(np.inf))


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation, float32 [column], of values [user, item, column]; in float64, some users at once."""
    total = square = np.zeros(values.shape[-1])
    for start in _starts(values):
        some = values[start : start + ROWS].astype(np.float64)
        total, square = total + some.sum((0, 1)), square + (some**2).sum((0, 1))
    mean = total / max(values[..., 0].size, 1)
    variance = square / max(values[..., 0].size, 1) - mean**2
    return mean.astype(np.float32), np.sqrt(np.maximum(variance, 0)).astype(np.float32)


def rank_pool(head: Head | BoostedHead, pool: Pool, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k best of each pool: places int64 [user, k] in it, items int64 (-1 = empty), scores float32, best first."""
    scores = np.where(pool.items >= 0, head.scores(pool.values, pool.context), -np.inf)
    places = np.lexsort((pool.items, -scores), axis=1)[:, :k]
    return places, np.take_along_axis(pool.items, places, 1), np.take_along_axis(scores, places, 1)
