"""Does a relation know the test part? How often it links histories to test items, against held-out training items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from ..gnn.walks import informative
from .evidence import Relation, histories_of
from .folds import Fold
from .metrics import bootstrap_interval

USERS = 1_000  # looked at, at most
TIMES = 1.5  # as often, from here on, is suspicious if it is beyond chance


@dataclass(frozen=True)
class Linkage:
    """How often a relation links an item of the history to a held-out item, over all such pairs of a user.

    test, train: mean over users of the share of linked pairs; `train` of items held out of the training part.
    ci95: of test - train. declared: `leaks = true` in shop.toml.
    """

    relation: str
    test: float
    train: float
    ci95: tuple[float, float]
    declared: bool

    @property
    def suspicious(self) -> bool:
        """Test items are linked more often than held-out training items are, and not by chance.

        A relation made of all events links both alike and is not found this way: say `leaks = true` of it.
        """
        return self.ci95[0] > 0 and self.test > TIMES * self.train


def linkages(relations: tuple[Relation, ...], test: Fold, train: Fold, declared: frozenset[str]) -> list[Linkage]:
    """One per relation. `train` is a fold cut from the training part the way the test part was."""
    found = []
    for relation in relations:
        here, there = shares(relation, test), shares(relation, train)
        interval = _apart(here, there)
        found.append(
            Linkage(relation.name, float(here.mean()), float(there.mean()), interval, relation.name in declared)
        )
    return found


def shares(relation: Relation, fold: Fold) -> np.ndarray:
    """float64 [user]: of all pairs (item of the history, held-out item), the share that is linked.

    Linked: both have an entity in common that the walks use too (one that everybody has says nothing), or the one
    names the other. A share of pairs, so that the length of a history alone changes nothing.
    """
    members = sp.csr_matrix(informative(sp.csr_matrix(relation.members.T)).T)
    seen, users = histories_of(fold.seen).matrix(), fold.users[:USERS]
    links = None if relation.links is None else sp.csr_matrix(relation.links + relation.links.T)
    found = np.empty(len(users))
    for place, user in enumerate(users):
        history, asked = seen[[user]].indices, fold.held_out[[user]].indices
        met = members[history] @ members[asked].T
        if links is not None:
            met = met + links[history][:, asked]
        found[place] = np.count_nonzero(met.toarray()) / (len(history) * len(asked))
    return found


def _apart(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """95 % interval of mean(a) - mean(b), users of both drawn anew and independently."""
    low_a, high_a = bootstrap_interval(a, np.zeros_like(a))
    low_b, high_b = bootstrap_interval(b, np.zeros_like(b), seed=1)
    below = np.hypot(a.mean() - low_a, high_b - b.mean())
    above = np.hypot(high_a - a.mean(), b.mean() - low_b)
    difference = a.mean() - b.mean()
    return float(difference - below), float(difference + above)
