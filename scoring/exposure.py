"""Whose items are shown: the shares of a relation's values (brands, price bands) in lists, catalogue and sales."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..kg.snapshot import Snapshot
from ..loaders.catalogue import HELD_OUT, INTERACTED
from .folds import Fold

SHOWN = 12  # values by their share of the catalogue; the others are one row
NONE, OTHERS = "(none)", "(others)"


@dataclass(frozen=True)
class Attribute:
    """share: sparse [item, value], an item's values share it evenly; the last value is "(none)"."""

    relation: str
    names: list[str]
    share: sp.csr_matrix


def attributes_of(snapshot: Snapshot, item_label: str) -> Iterator[Attribute]:
    """Relations of items to few values: at most half as many as there are items."""
    n_items = len(snapshot.ids[item_label])
    for key in snapshot.relations():
        n_values = len(snapshot.ids[key.target])
        if key.source != item_label or key.relation in (INTERACTED, HELD_OUT) or 2 * n_values > n_items:
            continue
        item, value = snapshot.relation(key).numpy()
        count = np.bincount(item, minlength=n_items)
        bare = np.flatnonzero(count == 0)
        rows, columns = np.concatenate([item, bare]), np.concatenate([value, np.full(len(bare), n_values)])
        weight = 1 / np.maximum(count, 1)[rows]
        share = sp.csr_matrix((weight, (rows, columns)), shape=(n_items, n_values + 1))
        yield Attribute(key.relation, [*snapshot.called(key.target), NONE], share)


def exposure(attribute: Attribute, lists: np.ndarray, test: Fold, allowed: np.ndarray) -> dict[str, Any]:
    """Shares by value of what may be recommended, of the training sales and of the lists int64 [user, k].

    distance: half the sum of |shown - sales| over all values: the share of places that would have to change hands.
    """
    n_items = test.seen.n_items
    sales = np.bincount(np.unique(test.seen.user * n_items + test.seen.item) % n_items, minlength=n_items)
    shown = np.bincount(lists[lists >= 0], minlength=n_items)
    catalogue, sold, seen = (_shares(attribute, weight) for weight in (allowed.astype(float), sales, shown))
    order = np.argsort(-catalogue, kind="stable")
    rows = [(attribute.names[n], catalogue[n], sold[n], seen[n]) for n in order[:SHOWN]]
    rest = order[SHOWN:]
    if len(rest):
        rows.append((OTHERS, catalogue[rest].sum(), sold[rest].sum(), seen[rest].sum()))
    return {
        "relation": attribute.relation,
        "distance": float(np.abs(seen - sold).sum() / 2),
        "values": [
            {"value": name, "catalogue": float(c), "sales": float(s), "shown": float(v)}
            for name, c, s, v in rows
            if c or s or v
        ],
    }


def _shares(attribute: Attribute, weight: np.ndarray) -> np.ndarray:
    total = weight @ attribute.share
    return np.asarray(total / max(total.sum(), 1e-12))
