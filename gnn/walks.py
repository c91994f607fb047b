"""Closed-form walks: graph convolutions without weights, one sparse item x item matrix each.

Throughout, a *context* is anything that holds items (a user, a basket, a brand): X is a sparse [context, item] matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

BLOCK = 2_048  # items whose whole walks are held at once, before the strongest steps are kept
SMALLEST, LARGEST = 2, 3_000  # items a context must have to pass something on: fewer link nothing, more everything
KEEP = 300  # entries kept per row of a walk; measured: more changes nothing but the memory


def degrees(matrix: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Sums of rows and of columns, float32."""
    rows = np.asarray(matrix.sum(1), dtype=np.float32).ravel()
    return rows, np.asarray(matrix.sum(0), dtype=np.float32).ravel()


def scaled(matrix: sp.csr_matrix, rows: np.ndarray, columns: np.ndarray, alpha: float, beta: float) -> sp.csr_matrix:
    """D_rows^-alpha M D_columns^-beta; degrees below one count as one."""
    left = sp.diags_array((np.maximum(rows, 1.0) ** -alpha).astype(np.float32))
    right = sp.diags_array((np.maximum(columns, 1.0) ** -beta).astype(np.float32))
    return sp.csr_matrix(left @ matrix @ right)


def without_diagonal(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The same matrix with an empty diagonal: an item is no reason for itself."""
    coo = matrix.tocoo()
    keep = coo.row != coo.col
    return sp.csr_matrix((coo.data[keep], (coo.row[keep], coo.col[keep])), shape=matrix.shape)


def strongest(matrix: sp.csr_matrix, keep: int = KEEP) -> sp.csr_matrix:
    """Each row's `keep` largest entries (ties at the border all stay)."""
    matrix = matrix.tocsr()
    for row in np.flatnonzero(np.diff(matrix.indptr) > keep):
        values = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]]
        values[values < np.partition(values, -keep)[-keep]] = 0
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def shared_context(contexts: sp.csr_matrix, alpha: float, beta: float) -> sp.csr_matrix:
    """Items reached over a shared context: D_i^-alpha X^T D_c^-alpha X D_j^-beta, diagonal 0.

    RP3beta (Paudel et al. 2017, eq. 4) with the exponent of the two transition steps freed. Weights in X
    (recency, say) shape the walk; the degrees count entries, not weights.
    """
    everything = np.arange(contexts.shape[1])
    blocks = [everything[start : start + BLOCK] for start in range(0, len(everything), BLOCK)]
    rows, walk = sp.csr_matrix(contexts.T), _Walk.over(contexts, alpha, beta)
    return sp.csr_matrix(sp.vstack([strongest(walk.steps(rows[b], b, contexts, everything)) for b in blocks], "csr"))


def reached(contexts: sp.csr_matrix, alpha: float, beta: float, targets: np.ndarray) -> sp.csr_matrix:
    """The columns `targets` (int64 rows of items) of :func:`shared_context`, with all their entries."""
    sources, walk = np.arange(contexts.shape[1]), _Walk.over(contexts, alpha, beta)
    return walk.steps(sp.csr_matrix(contexts.T), sources, sp.csr_matrix(contexts[:, targets]), targets)


@dataclass(frozen=True)
class _Walk:
    """The exponents of a walk, and how many entries contexts and items have, float32 [context] and [item]."""

    of_context: np.ndarray
    of_item: np.ndarray
    alpha: float
    beta: float

    @classmethod
    def over(cls, contexts: sp.csr_matrix, alpha: float, beta: float) -> _Walk:
        present = contexts.copy()
        present.data = np.ones_like(present.data)
        return cls(*degrees(present), alpha, beta)

    def steps(
        self, left: sp.csr_matrix, sources: np.ndarray, right: sp.csr_matrix, targets: np.ndarray
    ) -> sp.csr_matrix:
        """[source, target] from left [source, context] and right [context, target]; int64 rows of items."""
        middle = sp.diags_array((np.maximum(self.of_context, 1.0) ** -self.alpha).astype(np.float32))
        walk = sp.csr_matrix(left @ middle @ right)
        source, target = np.repeat(sources, np.diff(walk.indptr)), targets[walk.indices]
        for end, exponent in ((source, self.alpha), (target, self.beta)):
            walk.data *= (np.maximum(self.of_item, 1.0) ** -exponent).astype(np.float32)[end]
        walk.data[source == target] = 0  # an item is no reason for itself
        walk.eliminate_zeros()
        return walk


def directed(links: sp.csr_matrix, alpha: float = 0.5, beta: float = 0.3) -> sp.csr_matrix:
    """One step along item -> item links: D_out^-alpha A D_in^-beta."""
    out, into = degrees(links)
    return strongest(scaled(links, out, into, alpha, beta))


def followers(user: np.ndarray, item: np.ndarray, n_items: int, *, window: int = 5) -> sp.csr_matrix:
    """T[i, j] = sum over users of 1/gap for j at most `window` events after i; rows sorted by user, oldest first."""
    total = empty(n_items)
    for gap in range(1, window + 1):
        same = user[:-gap] == user[gap:]
        weight = np.full(int(same.sum()), 1.0 / gap, np.float32)
        total = total + sp.csr_matrix((weight, (item[:-gap][same], item[gap:][same])), shape=total.shape)
    return without_diagonal(sp.csr_matrix(total))


def empty(n_items: int) -> sp.csr_matrix:
    """No walk at all: float32 [item, item] of zeros."""
    shape = (n_items, n_items)
    return sp.csr_matrix((np.empty(0, np.float32), (np.empty(0, np.int64), np.empty(0, np.int64))), shape=shape)


def informative(members: sp.csr_matrix) -> sp.csr_matrix:
    """[context, item] rows with at least SMALLEST and fewer than LARGEST items."""
    sizes = np.diff(members.indptr)
    return members[(sizes >= SMALLEST) & (sizes < LARGEST)]
