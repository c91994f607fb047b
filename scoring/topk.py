"""Exact top-K: of scores, or of inner products that are never all held. Ties go to the smaller item row, so lists are
reproducible.

A row of n scores is cut into groups; the k best items lie in the k groups with the largest maxima, so one pass for the
maxima and a sort of a few thousand candidates replace a sort of everything.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from ..errors import CatalographError

BLOCK_BYTES = 256 << 20  # scores held at once by `search`


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
    own = torch.from_numpy(np.array(scores, np.float32))
    if allowed is not None:
        own[:, torch.from_numpy(~allowed)] = -torch.inf
    return _listed(own, k, hidden)


def search(
    queries: np.ndarray,
    vectors: np.ndarray,
    k: int,
    hidden: sp.csr_matrix | None = None,
    allowed: np.ndarray | None = None,
    *,
    block_bytes: int = BLOCK_BYTES,
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`top_k` of queries float32 [user, d] times vectors float32 [item, d], at most `block_bytes` of it at once.

    Items that are not allowed are not multiplied at all.
    """
    columns = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)
    if allowed is not None:
        vectors, hidden = vectors[columns], None if hidden is None else sp.csr_matrix(hidden[:, columns])
    right, left = torch.from_numpy(vectors).T, torch.from_numpy(queries)
    step = max(block_bytes // max(4 * len(columns), 1), 1)
    buffer = torch.empty(min(step, len(left)), len(columns))
    found = []
    for start in range(0, len(left), step):
        rows = left[start : start + step]
        scores = torch.mm(rows, right, out=buffer[: len(rows)])
        found.append(_listed(scores, k, None if hidden is None else hidden[start : start + step]))
    if not found:
        return np.empty((0, k), np.int64), np.empty((0, k), np.float32)
    items, best = (np.concatenate(part) for part in zip(*found, strict=True))
    return np.where(items >= 0, np.append(columns, -1)[items], -1), best


def _listed(scores: Tensor, k: int, hidden: sp.csr_matrix | None) -> tuple[np.ndarray, np.ndarray]:
    """Hide (in place), select, and fill up with -1."""
    if k < 1:
        raise CatalographError(f"k must be at least 1 (got {k})")
    if hidden is not None:
        scores[hidden.nonzero()] = -torch.inf
    items, best = _best(scores, min(k, scores.shape[1]))
    items[best == -torch.inf] = -1
    missing = k - items.shape[1]
    if missing:
        items = torch.nn.functional.pad(items, (0, missing), value=-1)
        best = torch.nn.functional.pad(best, (0, missing), value=-torch.inf)
    return items.numpy(), best.numpy()


def _best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Columns int64 [user, k] and their scores. Groups are columns j, j + size, j + 2 size …: with the chosen groups in
    order, their members read slab by slab are in column order."""
    n_users, n_items = scores.shape
    slabs = math.isqrt(n_items // max(k, 1))  # balances n / slabs maxima against k * slabs candidates
    if slabs < 2:
        return _selected(scores, torch.arange(n_items).expand(n_users, -1), k)
    size = -(-n_items // slabs)
    maxima = _group_maxima(scores, size)
    groups = torch.topk(maxima, k).indices.sort(1).values
    columns = (torch.arange(0, n_items, size)[None, :, None] + groups[:, None, :]).flatten(1)
    inside = columns < n_items
    candidates = scores.gather(1, columns.clamp(max=n_items - 1)).masked_fill(~inside, -torch.inf)
    items, best = _selected(candidates, columns, k)
    # A group left out may hold an item that ties with the last place and has a smaller row: look at all columns then.
    border = best[:, -1:]
    tied = (maxima == border).sum(1) > (maxima.gather(1, groups) == border).sum(1)
    rows = torch.nonzero(tied & (border[:, 0] > -torch.inf)).ravel()
    if len(rows):
        items[rows], best[rows] = _selected(scores[rows], torch.arange(n_items).expand(len(rows), -1), k)
    return items, best


def _group_maxima(scores: Tensor, size: int) -> Tensor:
    """float32 [user, size]: the largest of columns j, j + size, …"""
    n_users, n_items = scores.shape
    whole = n_items // size
    maxima = scores.as_strided((n_users, whole, size), (scores.stride(0), size, 1)).amax(1)
    rest = scores[:, whole * size :]
    maxima[:, : rest.shape[1]] = torch.maximum(maxima[:, : rest.shape[1]], rest)
    return maxima


def _selected(candidates: Tensor, columns: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of candidates [user, c]; `columns` [user, c] rise along each row."""
    values, _ = torch.topk(candidates, k)
    if torch.isnan(values).any():  # NaN counts as the largest
        row, place = torch.isnan(candidates).nonzero()[0].tolist()
        raise CatalographError(
            f"the score of user row {row} for item row {int(columns[row, place])} is NaN; check that term's inputs"
        )
    border = values[:, -1:]
    above, tied = candidates > border, candidates == border
    room = k - above.sum(1, keepdim=True)
    taken = (above | (tied & (tied.cumsum(1) <= room))).nonzero()[:, 1].view(len(candidates), k)
    best, order = torch.sort(candidates.gather(1, taken), dim=1, descending=True, stable=True)
    return columns.gather(1, taken.gather(1, order)), best
