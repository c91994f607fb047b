"""Training of the relation vectors with a ranking loss; the best epoch by validation NDCG@10 is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import GnnSection
from ..errors import CatalographError, ConfigError
from ..kg.log import InteractionLog
from ..pyg import HeteroData
from ..seeding import seeded
from . import processes
from .embed import RelationVectors, Weights
from .model import START_GATE, RelationalEncoder, graph_for_training, make_encoder

__all__ = ["RelationVectors", "Weights", "propagate", "train_relational"]

WARM_UP = 50  # steps to the full learning rate, which then falls to LAST_RATE of it
LAST_RATE = 0.05
IN_BATCH = 0.25  # other targets of the batch among the negatives, as a share of the uniform ones: popular items


def train_relational(
    data: HeteroData,
    item: str,
    log: InteractionLog,
    text: np.ndarray | None,
    section: GnnSection,
    *,
    exclude: frozenset[str],
    valid: tuple[np.ndarray, np.ndarray] | None,
    seed: int,
    device: str = "cpu",
    init: Weights | None = None,
    sequential: bool | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> RelationVectors:
    """Fit on the events of `log` (training only, sorted by user, oldest first); of equal pairs the newest counts.

    Loss: softmax at `temperature` of the true item among sampled and in-batch ones (van den Oord et al. 2018), given
    the user's items before it; or, unless `sequential` (default: the log has an order), a random few of the others.
    `valid` (users, items; int64 [n] pairs) picks the epoch. Without it there are as many epochs as `init` was best
    after, else all. `init`, from the same graph, is where the weights start, if it has any. Nothing stops early: the
    learning rate falls over all epochs.
    Equal seeds give equal results on the CPU; the generator of the caller is left as it was.

    Raises:
        ConfigError: gnn.model names no usable module.
        CatalographError: nobody has two items to learn from, or the loss is not finite.
    """
    pairs, ordered = _distinct(log), log.ordered if sequential is None else sequential
    with seeded(seed, device):
        graph = graph_for_training(data, item, text, exclude)
        encoder = make_encoder(section.model, graph, item, section.dim, section.layers)
        ranker = _Ranker(encoder, graph.to(device), item, section).to(device)  # made on the CPU: one start everywhere
        if init is not None and init.state:
            ranker.load_state_dict(_fitting(init, encoder, START_GATE))
        if not ordered:
            nn.init.zeros_(ranker.decay)  # it may come from when the order counted
        lessons = _Lessons(pairs, section, ordered)
        if not len(lessons):
            raise CatalographError("no user has two items to learn relation vectors from; set gnn.model = 'none'")
        ranker.decay.requires_grad_(ordered)
        epochs = init.best_epoch if valid is None and init is not None and init.best_epoch else section.epochs
        measured, best = [], ranker.state_dict()
        for epoch, loss in enumerate(_epochs(ranker, lessons, epochs, pairs)):
            if valid is not None:
                reached = _ndcg(_vectors(ranker, pairs, ordered, ()), pairs, valid)
                measured.append(processes.of_first(reached))  # all must keep the same epoch
            found = f", validation NDCG@10 {measured[-1]:.4f}" if measured else ""
            say(f"relation vectors of {len(log):,} events, epoch {epoch + 1} of {epochs}: loss {loss:.3f}{found}")
            if not measured or epoch == int(np.argmax(measured)):
                best = {name: value.clone() for name, value in ranker.state_dict().items()}
        ranker.load_state_dict(best)
        return _vectors(ranker, pairs, ordered, tuple(measured), whole=True)


def propagate(
    data: HeteroData,
    item: str,
    log: InteractionLog,
    text: np.ndarray | None,
    section: GnnSection,
    *,
    exclude: frozenset[str],
    trained: Weights,
    rows: np.ndarray,
) -> RelationVectors:
    """The vectors that the weights of `trained` give on another graph and log: nothing is learned.

    rows: int64 [item], the row each item had when the weights were learned, -1 for a new one. A new item has no free
    vector, so its text and its neighbours speak for it; a relation the weights do not know passes nothing on. The
    state stays that of `trained`, its free vectors in the order of the new items.

    Raises:
        ConfigError: the weights are of a team's own module, which may read anything of a graph.
    """
    if section.model != "relational":
        raise ConfigError(f"gnn.model {section.model!r} is a module of your own, which only a rebuild can run; rebuild")
    with torch.random.fork_rng(devices=[]):
        graph = graph_for_training(data, item, text, exclude)
        encoder = RelationalEncoder(graph, item, section.dim, section.layers)
        ranker = _Ranker(encoder, graph, item, section)
    trained = moved(trained, rows)
    ranker.load_state_dict(_fitting(trained, encoder, -torch.inf))
    ranker.eval()
    ordered = bool(trained.state["decay"].any())  # it stays at zero where the order does not count
    found = _vectors(ranker, _distinct(log), ordered, trained.validation, whole=True)
    return replace(found, state=trained.state, gated=trained.gated)


def moved(trained: Weights, rows: np.ndarray) -> Weights:
    """The weights with the free vectors of other items: rows int64 [item], -1 for a new one, which gets zeros.

    Raises:
        ConfigError: they are of a team's own module.
    """
    if "encoder.free" not in trained.state or not {"encoder.gates"} <= trained.state.keys():
        raise ConfigError(
            "the GNN is a module of your own, whose weights only fit the graph they were learned on; rebuild"
        )
    free = trained.state["encoder.free"]
    kept = free.new_zeros(len(rows), free.size(1))
    kept[torch.from_numpy(rows >= 0)] = free[torch.from_numpy(rows[rows >= 0])]
    return Weights(state=trained.state | {"encoder.free": kept}, gated=trained.gated, validation=trained.validation)


def _fitting(trained: Weights, encoder: nn.Module, missing: float) -> dict[str, Tensor]:
    """The state with a gate for every relation of this graph; `missing` for those that had none in training."""
    if not isinstance(encoder, RelationalEncoder):
        return trained.state
    gates = torch.full_like(encoder.gates, missing)
    for place, name in enumerate(encoder.relations):
        if name in trained.gated:
            gates[place] = trained.state["encoder.gates"][trained.gated.index(name)]
    return trained.state | {"encoder.gates": gates}


class _Ranker(nn.Module):
    """Item vectors, and the query of a history: a decayed sum of its items times a matrix."""

    def __init__(self, encoder: nn.Module, graph: HeteroData, item: str, section: GnnSection) -> None:
        super().__init__()
        self.encoder, self.section = encoder, section
        self.graph, self.store = graph, graph[item]
        self.decay = nn.Parameter(torch.zeros(section.history))
        self.projection = nn.Parameter(torch.eye(section.dim) + 0.01 * torch.randn(section.dim, section.dim))

    def items(self, hidden: Tensor) -> Tensor:
        """Unit vectors float32 [item, dim], the items of bool [item] `hidden` without their identity."""
        self.store.hidden = hidden
        vectors, shape = self.encoder(self.graph), (len(hidden), self.section.dim)
        if tuple(vectors.shape) != shape:
            raise ConfigError(f"gnn.model {self.section.model!r} gives {tuple(vectors.shape)}; it must give {shape}")
        return F.normalize(vectors, dim=1)

    def queries(self, items: Tensor, histories: Tensor) -> Tensor:
        """Unit vectors float32 [event, dim]; histories int64 [event, history], len(items) = none."""
        padded = torch.cat([items, items.new_zeros(1, items.size(1))])
        summed = (padded[histories] * self.decay.exp()[None, :, None]).sum(1)
        return F.normalize(summed @ self.projection, dim=1)

    def _dropped(self, n_items: int) -> Tensor:
        """bool [item]: hidden in this step, so that text and neighbours learn to speak for it. Nobody when there are
        neither: nothing would be left of the item."""
        informed = "x" in self.store or bool(self.graph.edge_types)
        share = self.section.id_dropout if informed else 0.0
        return torch.rand(n_items, device=self.projection.device) < share

    def forward(self, histories: Tensor, targets: Tensor, unseen: Tensor) -> Tensor:
        """Mean cross entropy of the targets int64 [event] among themselves, drawn items and each other.

        Of several processes each answers for its share of the events; all draw the same negatives out of the whole.
        """
        section = self.section
        items = self.items(unseen | self._dropped(len(unseen)))
        drawn = torch.randint(len(items), (section.negatives,), device=items.device)
        others = torch.randint(len(targets), (int(section.negatives * IN_BATCH),), device=items.device)
        negatives = torch.cat([drawn, targets[others]])
        events, mine = len(targets), processes.share(len(targets))
        query, targets = self.queries(items, histories[mine]) / section.temperature, targets[mine]
        right = (query * items[targets]).sum(1, keepdim=True)
        wrong = (query @ items[negatives].T).masked_fill(targets[:, None] == negatives[None], -torch.inf)
        total = F.cross_entropy(torch.cat([right, wrong], 1), torch.zeros_like(targets), reduction="sum")
        return total * processes.count() / events  # gradients are averaged over the processes


@dataclass(frozen=True)
class _Lessons:
    """Batches of (histories int64 [event, history], targets int64 [event]) out of a log of distinct pairs."""

    pairs: InteractionLog
    section: GnnSection
    ordered: bool

    def __len__(self) -> int:
        """Events with another item of the same user before them (or, unordered, anywhere)."""
        per_user = np.bincount(self.pairs.user)
        return int((per_user - self.ordered)[per_user > 1].sum())

    def epoch(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All lessons once, in a new order."""
        histories = self._before() if self.ordered else self._others()
        rows = torch.from_numpy(np.flatnonzero(histories[:, 0] < self.pairs.n_items))
        for batch in rows[torch.randperm(len(rows))].split(self.section.batch_size):
            yield torch.from_numpy(histories[batch]), torch.from_numpy(self.pairs.item[batch])

    def _before(self) -> np.ndarray:
        """The items of the same user one, two, … events back; n_items where there is none."""
        back = np.arange(len(self.pairs))[:, None] - 1 - np.arange(self.section.history)
        same = (back >= 0) & (self.pairs.user[np.maximum(back, 0)] == self.pairs.user[:, None])
        return np.asarray(np.where(same, self.pairs.item[np.maximum(back, 0)], self.pairs.n_items))

    def _others(self) -> np.ndarray:
        """Other items of the same user, drawn without repetition: the next ones round a shuffled circle."""
        user, n = self.pairs.user, len(self.pairs)
        shuffled = np.lexsort((torch.rand(n).numpy(), user))  # rows of the log; each user's stay together
        sizes = np.bincount(user, minlength=self.pairs.n_users)[user]
        first = np.searchsorted(user, user)
        step = 1 + np.arange(self.section.history)
        place = first[:, None] + (np.arange(n)[:, None] - first[:, None] + step) % sizes[:, None]
        found = np.where(step < sizes[:, None], self.pairs.item[shuffled[place]], self.pairs.n_items)
        histories: np.ndarray = np.empty_like(found)
        histories[shuffled] = found
        return histories


def _epochs(ranker: _Ranker, lessons: _Lessons, epochs: int, pairs: InteractionLog) -> Iterator[float]:
    """Train; yields the mean loss after each epoch."""
    section, device = ranker.section, ranker.projection.device
    unseen = torch.from_numpy(_unseen(pairs)).to(device)
    together = processes.together(ranker)
    optimizer = torch.optim.Adam(ranker.parameters(), lr=section.learning_rate)
    total = epochs * -(-len(lessons) // section.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / WARM_UP, 1.0) * max(LAST_RATE, 1 - step / total)
    )
    for epoch in range(epochs):
        ranker.train()
        losses = []
        for histories, targets in lessons.epoch():
            loss = together(histories.to(device), targets.to(device), unseen)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        if not np.isfinite(losses).all():
            raise CatalographError(f"the loss of the GNN is not finite in epoch {epoch + 1}; lower gnn.learning_rate")
        ranker.eval()
        yield float(np.mean(losses))


def _distinct(log: InteractionLog) -> InteractionLog:
    """The newest event of each (user, item) pair."""
    key = log.user * log.n_items + log.item
    newest = len(log) - 1 - np.unique(key[::-1], return_index=True)[1]
    return log.where(np.sort(newest))


def _unseen(pairs: InteractionLog) -> np.ndarray:
    """bool [item]: no event tells anything about it."""
    return np.asarray(np.bincount(pairs.item, minlength=pairs.n_items) == 0)


@torch.no_grad()
def _vectors(
    ranker: _Ranker, pairs: InteractionLog, ordered: bool, measured: tuple[float, ...], *, whole: bool = False
) -> RelationVectors:
    """The result as it stands; R_s and the state only when `whole`."""
    items = ranker.items(torch.from_numpy(_unseen(pairs)).to(ranker.projection.device))
    parts, relations = items.new_zeros(len(items), 0, items.size(1)), tuple[str, ...]()
    if whole and isinstance(ranker.encoder, RelationalEncoder):
        parts, relations = ranker.encoder.by_relation(ranker.graph), ranker.encoder.relations
    longest = int(np.bincount(pairs.user).max())
    decay = ranker.decay.exp().cpu().numpy() if ordered else np.ones(longest, np.float32)
    return RelationVectors(
        items.cpu().numpy(),
        relations,
        parts.cpu().numpy(),
        decay,
        ranker.projection.detach().cpu().numpy(),
        ranker.section.temperature,
        validation=measured,
        state={name: value.detach().cpu().clone() for name, value in ranker.state_dict().items()} if whole else {},
        gated=relations,
    )


def _ndcg(vectors: RelationVectors, pairs: InteractionLog, valid: tuple[np.ndarray, np.ndarray]) -> float:
    """Mean NDCG@10 of held-out pairs, each judged alone, the user's training items masked."""
    users, row = np.unique(valid[0], return_inverse=True)
    gains = np.zeros(len(row))
    histories, seen = _profiles(pairs, vectors.decay, users)
    queries = vectors.queries(histories)
    for start in range(0, len(users), 512):
        scores = queries[start : start + 512] @ vectors.items.T
        scores[seen[start : start + 512].nonzero()] = -np.inf
        here = np.flatnonzero((row >= start) & (row < start + 512))
        of_pair = scores[row[here] - start]
        rank = (of_pair > of_pair[np.arange(len(here)), valid[1][here]][:, None]).sum(1)
        gains[here] = np.where(rank < 10, 1 / np.log2(rank + 2.0), 0)
    return float(gains.mean())


def _profiles(pairs: InteractionLog, decay: np.ndarray, users: np.ndarray) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """[user, item] of the given users: the weights of their histories, and 1 for every item they have."""
    back = np.searchsorted(pairs.user, pairs.user, side="right") - 1 - np.arange(len(pairs))
    weight = np.where(back < len(decay), decay[np.minimum(back, len(decay) - 1)], 0).astype(np.float32)
    shape = (pairs.n_users, pairs.n_items)
    place = (pairs.user, pairs.item)
    weights = sp.csr_matrix((weight, place), shape=shape)[users]
    return weights, sp.csr_matrix((np.ones_like(weight), place), shape=shape)[users]
