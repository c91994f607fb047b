"""What the terms may look at: histories cut at one moment, the graph's relations, text vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from ..config import RelationSection
from ..kg.log import InteractionLog
from ..kg.snapshot import Snapshot
from ..loaders.catalogue import HELD_OUT, INTERACTED

if TYPE_CHECKING:
    from ..gnn.train import RelationVectors

DAY_MS = 86_400_000
LINK_WEIGHT, ATTRIBUTE_WEIGHT = 1.0, 0.3  # of a relation's rows beside the users' rows, unless shop.toml says


@dataclass(frozen=True)
class Relation:
    """One relation type of items: members [item, entity] 0/1 over all its target labels; links [item, item] when
    some targets are items themselves (no self-loops)."""

    name: str
    members: sp.csr_matrix
    links: sp.csr_matrix | None
    weight: float


@dataclass(frozen=True)
class Histories:
    """Distinct (user, item) pairs, sorted by user, oldest first (by their newest event).

    back: int64, 0 for the user's newest pair. count: events of the pair. first, last: float64 days, or None.
    """

    n_users: int
    n_items: int
    user: np.ndarray
    item: np.ndarray
    back: np.ndarray
    count: np.ndarray
    first: np.ndarray | None
    last: np.ndarray | None
    ordered: bool

    def matrix(self, weight: np.ndarray | None = None) -> sp.csr_matrix:
        """Sparse float32 [user, item] of the given pair weights (default 1)."""
        values = np.ones(len(self.user), np.float32) if weight is None else weight.astype(np.float32)
        return sp.csr_matrix((values, (self.user, self.item)), shape=(self.n_users, self.n_items))


@dataclass(frozen=True)
class Evidence:
    """All a term family reads. `now` is the cut in days since 1970 (None without times); nothing here lies after it."""

    log: InteractionLog
    histories: Histories
    relations: tuple[Relation, ...]
    text: np.ndarray | None
    now: float | None
    gnn: RelationVectors | None = None

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return self.histories.n_items


def histories_of(log: InteractionLog) -> Histories:
    """Pairs of a log (already sorted by user, oldest first)."""
    key = log.user * log.n_items + log.item
    order = np.argsort(key, kind="stable")
    newest = order[np.flatnonzero(np.diff(key[order], append=-1))]
    oldest = order[np.flatnonzero(np.diff(key[order], prepend=-1))]
    count = np.diff(np.flatnonzero(np.diff(key[order], prepend=-1)), append=len(order))
    rank = np.argsort(newest)  # log order of each pair's newest event: by user, then time
    newest, oldest, count = newest[rank], oldest[rank], count[rank]
    user, item = log.user[newest], log.item[newest]
    ends = np.cumsum(np.bincount(user, minlength=log.n_users))
    back = ends[user] - 1 - np.arange(len(user))
    first = None if log.at is None else log.at[oldest] / DAY_MS
    last = None if log.at is None else log.at[newest] / DAY_MS
    return Histories(log.n_users, log.n_items, user, item, back, count, first, last, log.ordered)


def relations_of(
    snapshot: Snapshot, item_label: str, settings: Mapping[str, RelationSection], derived: frozenset[str] = frozenset()
) -> tuple[Relation, ...]:
    """The relations of items, one per type with its targets side by side.

    `derived` relations are left out: they were computed from the whole training part, so a model fitted on an
    earlier cut would see that cut's future in them. The walks derive the same facts from the log instead.
    """
    parts: dict[str, list[sp.csr_matrix]] = {}
    links: dict[str, sp.csr_matrix] = {}
    n_items = len(snapshot.ids[item_label])
    for key in snapshot.relations():
        usable = settings[key.relation].use if key.relation in settings else True
        if key.source != item_label or key.relation in derived | {INTERACTED, HELD_OUT} or not usable:
            continue
        source, target = snapshot.relation(key).numpy()
        shape = (n_items, len(snapshot.ids[key.target]))
        members = sp.csr_matrix((np.ones(len(source), np.float32), (source, target)), shape=shape)
        parts.setdefault(key.relation, []).append(members)
        if key.target == item_label:
            loops = source == target
            ones = np.ones(int((~loops).sum()), np.float32)
            links[key.relation] = sp.csr_matrix((ones, (source[~loops], target[~loops])), shape=(n_items, n_items))
    return tuple(
        Relation(
            name, sp.csr_matrix(sp.hstack(matrices, format="csr")), links.get(name), _weight(name, links, settings)
        )
        for name, matrices in sorted(parts.items())
    )


def _weight(name: str, links: Mapping[str, sp.csr_matrix], settings: Mapping[str, RelationSection]) -> float:
    told = settings[name].weight if name in settings else None
    return told if told is not None else LINK_WEIGHT if name in links else ATTRIBUTE_WEIGHT
