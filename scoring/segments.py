"""Who gains and who loses: the users by the length of their history, the items by how many users have them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from .folds import Fold
from .metrics import rank_metrics

NEW, LIGHT = 5, 20  # items in the history, at most
HEAD = 0.2  # of the items with a user


@dataclass(frozen=True)
class Segment:
    """users: bool [user of the list]; items: bool [item]; `meaning` says the border in words."""

    name: str
    meaning: str
    users: np.ndarray
    items: np.ndarray


def segments_of(test: Fold, users: np.ndarray) -> list[Segment]:
    """Users new, light and heavy; items of the head, of the tail and cold, by the training part alone."""
    pairs = np.unique(test.seen.user * test.seen.n_items + test.seen.item)
    length = np.bincount(pairs // test.seen.n_items, minlength=test.seen.n_users)[users]
    popularity = np.bincount(pairs % test.seen.n_items, minlength=test.seen.n_items)
    sold = np.flatnonzero(popularity)
    head = np.zeros(len(popularity), bool)
    head[sold[np.argsort(-popularity[sold], kind="stable")][: int(np.ceil(HEAD * len(sold)))]] = True
    everybody, everything = np.ones(len(users), bool), np.ones(len(popularity), bool)
    return [
        Segment("new users", f"up to {NEW} items so far", length <= NEW, everything),
        Segment("light users", f"{NEW + 1} to {LIGHT} items so far", (length > NEW) & (length <= LIGHT), everything),
        Segment("heavy users", f"more than {LIGHT} items so far", length > LIGHT, everything),
        Segment("head items", f"the {HEAD:.0%} of the items most users have", everybody, head),
        Segment("tail items", "the others that somebody has", everybody, ~head & (popularity > 0)),
        Segment("cold items", "nobody has them yet", everybody, popularity == 0),
    ]


def ndcg_within(segment: Segment, lists: np.ndarray, test: Fold, users: np.ndarray, k: int) -> np.ndarray:
    """float64 [user] NDCG@k of lists int64 [user, >= k] where only the segment's held-out items are asked for.

    NaN for users outside the segment or with none of its items held out.
    """
    held_out = sp.csr_matrix(test.held_out[users] @ sp.diags_array(segment.items.astype(np.float32)))
    held_out.eliminate_zeros()
    asked = segment.users & (np.diff(held_out.indptr) > 0)
    ndcg = np.full(len(users), np.nan)
    ndcg[asked] = rank_metrics(lists[asked], held_out[asked], k).ndcg
    return ndcg
