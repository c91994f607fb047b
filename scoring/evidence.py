"""What the terms may look at: histories cut at one moment, the graph's relations, text vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from ..config import RelationSection
from ..kg.log import InteractionLog
from ..kg.snapshot import Snapshot
from ..loaders.catalogue import HELD_OUT, INTERACTED, EdgeKey

if TYPE_CHECKING:
    from ..gnn.train import RelationVectors
    from .terms import Term

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
class Known:
    """What an earlier model found that still holds, in the rows of now.

    terms: family -> a term of it that nothing has touched. families: all the earlier model has; where the data decides
    between two kinds of term, its weights are those of the kind it has. near: the text neighbours of before, sparse
    [item, item], and new_text: bool [item], whose texts are new since.
    """

    families: frozenset[str]
    terms: Mapping[str, Term]
    near: sp.csr_matrix | None = None
    new_text: np.ndarray | None = None


@dataclass(frozen=True)
class Evidence:
    """All a term family reads. `now` is the cut in days since 1970 (None without times); nothing here lies after it.

    known: of an earlier model, when its weights are to be kept. device: where near texts are searched.
    """

    log: InteractionLog
    histories: Histories
    relations: tuple[Relation, ...]
    text: np.ndarray | None
    now: float | None
    gnn: RelationVectors | None = None
    known: Known | None = None
    device: str = "cpu"

    def has(self, families: Iterable[str], otherwise: bool) -> bool:
        """Whether the model has one of these families; `otherwise`, where nothing was fitted before."""
        return otherwise if self.known is None else not self.known.families.isdisjoint(families)

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


@dataclass(frozen=True)
class Edges:
    """Edges from items to the nodes of one label: rows of both, int64 [edge], and how many nodes the label has."""

    source: np.ndarray
    target: np.ndarray
    n_targets: int
    to_items: bool


def keys_of(snapshot: Snapshot, item_label: str, derived: frozenset[str]) -> list[EdgeKey]:
    """The relations that begin at items and may be in a model, whether shop.toml switches them off or not.

    `derived` relations are left out: they were computed from the whole training part, so a model fitted on an
    earlier cut would see that cut's future in them. The walks derive the same facts from the log instead.
    """
    left_out = derived | {INTERACTED, HELD_OUT}
    return [key for key in snapshot.relations() if key.source == item_label and key.relation not in left_out]


def relations_of(
    snapshot: Snapshot, item_label: str, settings: Mapping[str, RelationSection], derived: frozenset[str] = frozenset()
) -> tuple[Relation, ...]:
    """The relations of items that are in use, one per type with its targets side by side; see :func:`keys_of`."""
    found: dict[str, list[Edges]] = {}
    for key in keys_of(snapshot, item_label, derived):
        if key.relation in settings and not settings[key.relation].use:
            continue
        source, target = snapshot.relation(key).numpy()
        edges = Edges(source, target, len(snapshot.ids[key.target]), key.target == item_label)
        found.setdefault(key.relation, []).append(edges)
    return relations_from(found, len(snapshot.ids[item_label]), settings)


def unread_relations(snapshot: Snapshot, item_label: str, user_label: str) -> frozenset[str]:
    """The relation types that lead into items alone, from what is no item and no user: no model reads them."""
    keys = snapshot.relations()
    into = {key.relation for key in keys if key.target == item_label and key.source not in (item_label, user_label)}
    return frozenset(into - {key.relation for key in keys if key.source == item_label})


def relations_from(
    found: Mapping[str, Sequence[Edges]], n_items: int, settings: Mapping[str, RelationSection]
) -> tuple[Relation, ...]:
    """Relations out of their edges per label, in the order of their names."""
    return tuple(_relation(name, edges, n_items, settings) for name, edges in sorted(found.items()))


def _relation(name: str, found: Sequence[Edges], n_items: int, settings: Mapping[str, RelationSection]) -> Relation:
    parts, links = [], None
    for edges in found:
        ones = np.ones(len(edges.source), np.float32)
        parts.append(sp.csr_matrix((ones, (edges.source, edges.target)), shape=(n_items, edges.n_targets)))
        if edges.to_items:
            apart = edges.source != edges.target
            links = sp.csr_matrix((ones[apart], (edges.source[apart], edges.target[apart])), shape=(n_items, n_items))
    members = sp.csr_matrix(sp.hstack(parts, format="csr"))
    return Relation(name, members, links, _weight(name, links is not None, settings))


def _weight(name: str, linked: bool, settings: Mapping[str, RelationSection]) -> float:
    told = settings[name].weight if name in settings else None
    return told if told is not None else LINK_WEIGHT if linked else ATTRIBUTE_WEIGHT
