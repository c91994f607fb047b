"""Exact top-K: of scores, or of inner products that are never all held. Ties go to the smaller item row, so lists are
reproducible.

A row of n scores is cut into groups. The k-th largest of their maxima is reached by k items at least and by few more,
so one pass for the maxima and a sort of what reaches it replace a sort of everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from threading import Lock

import numpy as np
import scipy.sparse as sp
import torch
from threadpoolctl import ThreadpoolController

from ..errors import CatalographError
from .product import as_tensor

BLOCK_BYTES = 256 << 20  # scores held at once by `search`
FEWEST = 128  # queries that are worth a thread, and of a block: fewer read all vectors for too little
MOST = 512  # queries of a block: more make the product no faster
CROWD = 2  # times k groups that reach the border are too many to look into one by one

Lists = tuple[np.ndarray, np.ndarray]  # items int64 [user, k] and scores float32 [user, k]
Block = Callable[[np.ndarray, sp.csr_matrix | None], Lists]  # queries and what is hidden from them -> lists
Lister = Callable[[np.ndarray, int, int], Block]  # vectors, k, and how many queries a block has at most

_alone = Lock()  # BLAS's threads are the process's: a limit set within another's would restore that one, for good


class _NaNError(CatalographError):
    def __init__(self, user: int, item: int) -> None:
        super().__init__(f"the score of user row {user} for item row {item} is NaN; check that term's inputs")
        self.user, self.item = user, item


def top_k(scores: np.ndarray, k: int, hidden: sp.csr_matrix | None = None, allowed: np.ndarray | None = None) -> Lists:
    """items int64 [user, k] and scores float32 [user, k], best first, ties by smaller row.

    Args:
        scores: float32 [user, item].
        k: how many; beyond what a user has left, items are -1 and scores -inf.
        hidden: sparse [user, item], nonzero = never shown to this user.
        allowed: bool [item], False = never shown.

    Raises:
        CatalographError: a score is NaN, or k is below 1.
    """
    _check(k)
    n_users, n_items = scores.shape
    room = _room(n_users, n_items, k)
    room[:, :n_items] = scores
    if allowed is not None:
        room[:, :n_items][:, ~allowed] = -np.inf
    _hide(room, hidden)
    return _filled(*_listed(room, n_items, k), k)


def search(
    queries: np.ndarray,
    vectors: np.ndarray,
    k: int,
    hidden: sp.csr_matrix | None = None,
    allowed: np.ndarray | None = None,
    *,
    block_bytes: int = BLOCK_BYTES,
    device: str = "cpu",
) -> Lists:
    """:func:`top_k` of queries float32 [user, d] times vectors float32 [item, d], at most `block_bytes` of it at once.

    Items that are not allowed are not multiplied at all. device: where torch multiplies and selects, "cuda" for one.
    """
    _check(k)
    columns = np.arange(len(vectors)) if allowed is None else np.flatnonzero(allowed)
    if allowed is not None:
        vectors, hidden = vectors[columns], None if hidden is None else sp.csr_matrix(hidden[:, columns])
    fitting = block_bytes // max(4 * len(columns), 1)  # users whose scores may be held at once
    if device != "cpu":
        return _searched(
            partial(_on_device, device), queries, vectors, columns, k, hidden, range(len(queries)), fitting
        )
    cores = min(torch.get_num_threads(), len(queries) // FEWEST, fitting // FEWEST)
    listed = partial(_searched, _on_host, queries, vectors, columns, k, hidden)
    if cores > 1 and _alone.acquire(blocking=False):
        try:
            return _shared(listed, len(queries), fitting, cores)
        finally:
            _alone.release()
    return listed(range(len(queries)), fitting)


def _check(k: int) -> None:
    if k < 1:
        raise CatalographError(f"k must be at least 1 (got {k})")


def _shared(listed: Callable[[range, int], Lists], n_users: int, fitting: int, cores: int) -> Lists:
    """A part of the users on each core: where products and lists take turns on all cores, their threads wait for each
    other."""
    size = -(-n_users // cores)
    parts = [range(start, min(start + size, n_users)) for start in range(0, n_users, size)]
    with (
        _blas().limit(limits=1, user_api="blas"),
        ThreadPoolExecutor(cores, "search", torch.set_num_threads, (1,)) as threads,
    ):
        return _joined(list(threads.map(lambda part: listed(part, fitting // cores), parts)))


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all libraries of the process: some milliseconds


def _searched(
    lister: Lister,
    queries: np.ndarray,
    vectors: np.ndarray,
    columns: np.ndarray,
    k: int,
    hidden: sp.csr_matrix | None,
    users: range,
    fitting: int,
) -> Lists:
    """The lists of some users, block by block of at most `fitting`; columns: the rows of items."""
    step = min(max(fitting, 1), MOST)
    listed = lister(vectors, k, min(step, len(users)))
    found = [(np.empty((0, k), np.int64), np.empty((0, k), np.float32))]
    for start in users[::step]:
        rows = slice(start, min(start + step, users.stop))
        try:
            found.append(_filled(*listed(queries[rows], None if hidden is None else hidden[rows]), k))
        except _NaNError as e:
            raise _NaNError(start + e.user, int(columns[e.item])) from None
    items, best = _joined(found)
    return np.where(items >= 0, np.append(columns, -1)[items], -1), best


def _on_host(vectors: np.ndarray, k: int, most: int) -> Block:
    """Lists of blocks of at most `most` users, all in the same memory."""
    n_items = len(vectors)
    room = _room(most, n_items, k)

    def listed(queries: np.ndarray, hidden: sp.csr_matrix | None) -> Lists:
        block = room[: len(queries)]
        # NumPy's OpenBLAS: torch's MKL takes half as long again on processors that are not Intel's.
        np.matmul(queries, vectors.T, out=block[:, :n_items])
        _hide(block, hidden)
        return _listed(block, n_items, k)

    return listed


def _on_device(device: str, vectors: np.ndarray, k: int, most: int) -> Block:
    """The same where torch computes."""
    right = as_tensor(vectors).to(device).T

    def listed(queries: np.ndarray, hidden: sp.csr_matrix | None) -> Lists:
        scores = as_tensor(queries).to(device) @ right
        hide(scores, hidden)
        items, best = best_of(scores, k)
        return items.cpu().numpy(), best.cpu().numpy()

    return listed


def hide(scores: torch.Tensor, hidden: sp.csr_matrix | None) -> None:
    """-inf where `hidden`, sparse [user, item], is not 0."""
    if hidden is not None:
        place = (torch.from_numpy(rows).to(scores.device, torch.int64) for rows in hidden.nonzero())
        scores[tuple(place)] = -torch.inf


def best_of(scores: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`top_k` on the device of `scores`, at most as many as there are items: a GPU reads a row faster than a
    grouping of it would pay."""
    k = min(k, scores.shape[1])
    wrong = scores.isnan().nonzero()
    if len(wrong):
        raise _NaNError(*wrong[0].tolist())
    border = scores.topk(k).values.amin(1, keepdim=True) if k else scores
    above, tied = scores > border, scores == border
    room = k - above.sum(1, keepdim=True)
    taken = (above | (tied & (tied.cumsum(1, dtype=torch.int32) <= room))).nonzero()[:, 1].view(len(scores), k)
    best, order = scores.gather(1, taken).sort(dim=1, descending=True, stable=True)
    return taken.gather(1, order), best


def _joined(parts: Sequence[Lists]) -> Lists:
    items, best = zip(*parts, strict=True)
    return np.concatenate(items), np.concatenate(best)


def _slabs(n_items: int, k: int) -> int:
    """How many items a group has: balances n / slabs maxima against the k * slabs members of the groups that are looked
    into; a maximum costs half of what a member does."""
    return max(math.isqrt(n_items // max(2 * k, 1)), 1)


def _room(n_users: int, n_items: int, k: int) -> np.ndarray:
    """float32 [user, item] with as many columns of -inf behind the items as fill the last slab."""
    slabs = _slabs(n_items, k)
    room = np.empty((n_users, slabs * -(-n_items // slabs)), np.float32)
    room[:, n_items:] = -np.inf
    return room


def _hide(room: np.ndarray, hidden: sp.csr_matrix | None) -> None:
    if hidden is not None:
        room[hidden.nonzero()] = -np.inf


def _listed(room: np.ndarray, n_items: int, k: int) -> Lists:
    if not n_items:
        return np.empty((len(room), 0), np.int64), np.empty((len(room), 0), np.float32)
    return _best(room, min(k, n_items), _slabs(n_items, k))


def _filled(items: np.ndarray, best: np.ndarray, k: int) -> Lists:
    """What nobody may see is no item, and missing places are filled up with -1."""
    items[best == -np.inf] = -1
    missing = ((0, 0), (0, k - items.shape[1]))
    return np.pad(items, missing, constant_values=-1), np.pad(best, missing, constant_values=-np.inf)


def _best(scores: np.ndarray, k: int, slabs: int) -> Lists:
    """Columns int64 [user, k] and their scores. A group is columns j, j + size, j + 2 size …; the k-th largest maximum
    is the border, and nothing below it can be in the list."""
    (users, width), size = scores.shape, scores.shape[1] // slabs
    maxima = scores.reshape(users, slabs, size).max(1)
    if np.isnan(maxima).any():
        raise _NaNError(*np.argwhere(np.isnan(scores))[0].tolist())
    border = np.partition(maxima, -k)[:, -k, None]
    reaching = (maxima >= border) & (maxima > -np.inf)
    crowded = np.count_nonzero(reaching, axis=1) > CROWD * k  # of equal scores
    reaching[crowded] = False
    user, group = np.divmod(np.flatnonzero(reaching), size)
    cells = (user * width + group)[:, None] + np.arange(0, width, size)
    cells = np.sort(cells[scores.ravel().take(cells) >= border[user]])  # by user and column, as ties want them
    items, best = _sorted(scores, cells, k)
    if crowded.any():
        items[crowded], best[crowded] = _selected(scores[crowded], k)
    return items, best


def _sorted(scores: np.ndarray, cells: np.ndarray, k: int) -> Lists:
    """The k best of some cells int64 [cell] of the table, ascending; a row with fewer ends in column 0 with -inf."""
    user, column = np.divmod(cells, scores.shape[1])
    counts = np.bincount(user, minlength=len(scores))
    place = np.arange(len(cells)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (len(scores), max(counts.max(initial=0), k))
    items, best = np.zeros(shape, np.int64), np.full(shape, -np.inf, np.float32)
    items[user, place], best[user, place] = column, scores.ravel()[cells]
    order = np.argsort(-best, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(items, order, 1), np.take_along_axis(best, order, 1)


def _selected(scores: np.ndarray, k: int) -> Lists:
    """The k best of a row: columns int64 [user, k] and their scores."""
    border = np.partition(scores, -k)[:, -k, None]
    above, tied = scores > border, scores == border
    room = k - above.sum(1, keepdims=True)
    taken = np.nonzero(above | (tied & (tied.cumsum(1) <= room)))[1].reshape(len(scores), k)
    best = np.take_along_axis(scores, taken, 1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(taken, order, 1), np.take_along_axis(best, order, 1)
