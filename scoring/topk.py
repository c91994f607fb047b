"""Exact top-K over dense scores; equal scores are ordered by the smaller item row, so lists are reproducible."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ..errors import CatalographError


def top_k(
    scores: np.ndarray, k: int, hidden: sp.csr_matrix | None = None, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """items int64 [user, k] and scores float32 [user, k], best first, ties by smaller row.

    Args:
        scores: float32 [user, item].
        k: how many; beyond what a user has left, items are -1 and scores -inf.
        hidden: sparse [user, item], nonzero = never shown to this user.
        allowed: bool [item], False = never shown.

    Raises:
        CatalographError: a score is NaN, or k is below 1.
    """
    if k < 1:
        raise CatalographError(f"k must be at least 1 (got {k})")
    if np.isnan(scores).any():
        row, column = np.argwhere(np.isnan(scores))[0]
        raise CatalographError(f"the score of user row {row} for item row {column} is NaN; check that term's inputs")
    scores = np.array(scores, np.float32)
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    if hidden is not None:
        scores[hidden.nonzero()] = -np.inf
    width = min(k, scores.shape[1])
    items = _by_score_then_row(scores, width)
    best = np.take_along_axis(scores, items, 1)
    items[best == -np.inf] = -1
    if width < k:
        pad = ((0, 0), (0, k - width))
        items, best = np.pad(items, pad, constant_values=-1), np.pad(best, pad, constant_values=-np.inf)
    return items, best


def _by_score_then_row(scores: np.ndarray, k: int) -> np.ndarray:
    """int64 [user, k]. A partition finds the k-th value; of the items that tie with it, the smallest rows are taken."""
    n_items = scores.shape[1]
    if k == n_items:
        return np.argsort(-scores, axis=1, kind="stable")
    border = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
    picked = np.empty((len(scores), k), np.int64)
    for row, (values, least) in enumerate(zip(scores, border[:, 0], strict=True)):
        above = np.flatnonzero(values > least)
        picked[row, : len(above)] = above
        picked[row, len(above) :] = np.flatnonzero(values == least)[: k - len(above)]
    chosen = np.take_along_axis(scores, picked, 1)
    return np.take_along_axis(picked, np.lexsort((picked, -chosen), axis=1), 1)
