"""Linear autoencoders and the low-pass filter: item x item and low-rank matrices with a closed form."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse as sp
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from ..gnn.walks import degrees, scaled
from .topk import search

NEAR_POWER = 3  # of the cosine between texts
MOST = 30_000  # items of which all pairs are held at once: 3.4 GiB
THREADS = 2
LONG = 400  # entries of a row from which it is multiplied dense

Rows = sp.csr_matrix  # [context, item]: users, baskets or entities of the graph, weighted


def stacked(rows: list[sp.csr_matrix]) -> sp.csr_matrix:
    """All rows in one matrix, empty ones dropped, float32."""
    matrix = sp.csr_matrix(sp.vstack(rows, format="csr"), dtype=np.float32)
    return matrix[np.diff(matrix.indptr) > 0]


def gram(rows: Rows, *, block: int = 2_048) -> np.ndarray:
    """X^T X, dense float32 [item, item]. The rows that hold most of the products (a shop's main category) are
    multiplied dense, `block` of them at once; the others by blocks of items, so that nothing is held sparse and dense
    at once."""
    long = np.diff(rows.indptr) > LONG
    crowded, rows = rows[long], rows[~long]
    found = np.zeros((rows.shape[1], rows.shape[1]), np.float32)
    columns, parts = sp.csr_matrix(rows.T), [slice(start, start + block) for start in range(0, len(found), block)]
    for start in range(0, crowded.shape[0], block):
        dense = crowded[start : start + block].toarray().astype(np.float32, copy=False)
        for part in parts:
            found[part] += dense[:, part].T @ dense
    for part in parts:
        found[part] += (columns[part] @ rows).toarray()
    return found


def ease(rows: Rows, ridge: float) -> np.ndarray:
    """EASE (Steck 2019, eq. 8): B = I - P diag(1/P), P = (X^T X + ridge I)^-1; dense [item, item], diagonal 0."""
    g = torch.from_numpy(gram(rows))
    g.diagonal().add_(ridge)
    torch.linalg.cholesky(g, out=g)
    inverse = torch.cholesky_inverse(g).mT.contiguous()  # symmetric, and by rows: what reads it would copy it each time
    del g
    inverse /= -inverse.diagonal().clone()
    inverse.fill_diagonal_(0)
    return inverse.numpy()


def local_ease(
    rows: Rows, *, ridge: float = 100.0, neighbours: int = 100, batch: int = 256, most: int = MOST
) -> sp.csr_matrix:
    """EASE restricted, per target item j, to the items i with the largest G_ij / sqrt(G_ii).

    Solves (G_NN + ridge I) x = G_Nj: O(items * neighbours^3) instead of O(items^3). Batched Cholesky, since the
    matrices are positive definite (batched LU is not reliable on every BLAS). Of a catalogue above `most` items only
    those with the most entries take part, since all pairs are held: of the others too little is known to be solved for.
    """
    taking_part = np.sort(np.argsort(-np.bincount(rows.indices, minlength=rows.shape[1]), kind="stable")[:most])
    g = torch.from_numpy(gram(sp.csr_matrix(rows[:, taking_part]) if len(taking_part) < rows.shape[1] else rows))
    n_items = len(g)
    size = min(neighbours, n_items - 1)
    inverse_norm, pairs = g.diagonal().clamp(min=1e-6).rsqrt(), g.numpy().ravel()

    def solve(j: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The neighbours int64 [target, size] of some targets, and their weights."""
        closeness = g[j] * inverse_norm
        closeness[torch.arange(len(j)), j] = -1
        near = torch.topk(closeness, size, dim=1).indices
        places = (near[:, :, None] * n_items + near[:, None, :]).numpy()
        inner = torch.from_numpy(pairs.take(places)) + ridge * torch.eye(
            size
        )  # by two index arrays torch takes three times as long
        x = torch.cholesky_solve(g[near, j[:, None]].unsqueeze(2), torch.linalg.cholesky(inner)).squeeze(2)
        return near, x

    with ThreadPoolExecutor(THREADS) as executor:  # waiting for memory is most of the work
        solved = list(executor.map(solve, torch.arange(n_items).split(batch)))
    source, value = (torch.cat(part).ravel().numpy() for part in zip(*solved, strict=True))
    places = (taking_part[source], np.repeat(taking_part, size))
    weights = sp.csr_matrix((value, places), shape=(rows.shape[1], rows.shape[1]))
    weights.eliminate_zeros()
    return weights


def low_pass(rows: Rows, *, rank: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """The `rank` lowest graph frequencies as (L, V), float32 [item, rank] each: score = p L V^T.

    N = D_c^-1/2 X D_i^-1/2; V spans its top right singular vectors; L = D_i^-1/2 V, V = D_i^0.3 V: the ideal low-pass
    filter of GF-CF (Shen et al. 2021, eq. 12) with the popularity exponent eased.

    The vectors are those of the matrix, not of where the search for them starts (Lanczos to machine precision), so one
    more item hardly moves the scores of the others; unless the graph falls into more than `rank` parts, each of which
    has a vector of the frequency 0.
    """
    of_context, of_item = degrees(rows)
    normal = scaled(rows, of_context, of_item, 0.5, 0.5)
    vectors = _singular(normal, min(rank, min(normal.shape) - 1))
    root = np.sqrt(np.maximum(of_item, 1e-9))[:, None]
    left = np.where(of_item[:, None] > 0, vectors / root, 0)
    return left.astype(np.float32), (vectors * root**0.6).astype(np.float32)


def _singular(matrix: sp.csr_matrix, rank: int) -> np.ndarray:
    """float32 [column, rank]: the top right singular vectors, none of a matrix without entries."""
    back, size = sp.csr_matrix(matrix.T), matrix.shape[1]
    if rank < 1 or not matrix.nnz:
        return np.zeros((size, 0), np.float32)
    squared = LinearOperator((size, size), matvec=lambda v: back @ (matrix @ v), dtype=np.float32)
    random = np.random.default_rng(0)  # also where the search starts again, once it has seen a whole part of the graph
    start = random.standard_normal(size).astype(np.float32)
    vectors: np.ndarray = eigsh(squared, k=rank, v0=start, rng=random)[1][:, ::-1]
    return vectors


def text_neighbours(text: np.ndarray, *, keep: int = 100, device: str = "cpu") -> sp.csr_matrix:
    """Cosine^NEAR_POWER to the `keep` nearest other items; text float32 [item, dim] of unit length."""
    n_items = len(text)
    itself = sp.eye_array(n_items, format="csr", dtype=np.float32)
    near, cosine = search(text, text, min(keep, n_items - 1), sp.csr_matrix(itself), device=device)
    row = np.repeat(np.arange(n_items), near.shape[1])
    values = np.maximum(cosine.ravel(), 0) ** NEAR_POWER
    return sp.csr_matrix((values, (row, near.ravel())), shape=(n_items, n_items))


def renewed_neighbours(text: np.ndarray, before: sp.csr_matrix, new: np.ndarray, *, keep: int = 100) -> sp.csr_matrix:
    """:func:`text_neighbours` where only the texts of bool [item] `new` are others than `before` was made from.

    before: sparse [item, item] in the rows of now, without retired items. A row whose neighbours all stayed can only
    gain a new text; the others are searched again.
    """
    n_items = len(text)
    size = min(keep, n_items - 1)
    entries = np.diff(before.indptr)
    stale = new | (entries < size) | (np.bincount(_rows_of(before), new[before.indices], minlength=n_items) > 0)
    fresh, kept = np.flatnonzero(new), np.flatnonzero(~stale)
    itself = sp.csr_matrix(sp.eye_array(n_items, format="csr", dtype=np.float32))
    again = np.flatnonzero(stale)
    near, cosine = search(text[again], text, size, itself[again])
    values = [np.maximum(cosine, 0).ravel() ** NEAR_POWER]
    rows, columns = [np.repeat(again, near.shape[1])], [near.ravel()]
    if len(kept):
        old = before[kept]
        all_columns = np.concatenate(
            [old.indices.reshape(len(kept), size), np.broadcast_to(fresh, (len(kept), len(fresh)))], 1
        )
        closeness = np.maximum(text[kept] @ text[fresh].T, 0) ** NEAR_POWER
        all_values = np.concatenate([old.data.reshape(len(kept), size), closeness], 1)
        order = np.lexsort((all_columns, -all_values), axis=1)[:, :size]
        rows.append(np.repeat(kept, size))
        columns.append(np.take_along_axis(all_columns, order, 1).ravel())
        values.append(np.take_along_axis(all_values, order, 1).ravel())
    entries_ = (np.concatenate(values).astype(np.float32), (np.concatenate(rows), np.concatenate(columns)))
    return sp.csr_matrix(entries_, shape=(n_items, n_items))


def _rows_of(matrix: sp.csr_matrix) -> np.ndarray:
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def largest(weights: np.ndarray, keep: int = 500) -> sp.csr_matrix:
    """A dense [item, item] matrix as sparse rows of its `keep` entries of largest magnitude."""
    if weights.shape[1] <= keep:
        return sp.csr_matrix(weights)
    size = np.abs(weights)
    border = np.partition(size, -keep, axis=1)[:, -keep][:, None]
    return sp.csr_matrix(np.where(size >= border, weights, 0))
