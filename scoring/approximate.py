"""The pool without a look at every item, for a million items and more (docs/decisions/0013-approximate-pool.md).

A blend is a sum of sparse walks, whose own entries say which items they reach, and of a dense part, which gives every
item a score: factors, text, relation vectors and priors. The dense part is one inner product,

    sum_k w_k <q_k, v_k> + sum_l w_l prior_l = <q, v>,    q = (q_1, …, 1),  v = (w_1 v_1, …, sum_l w_l prior_l)

so an index over v finds its best items. The candidates are what walks reach and what the index finds; their blend is
computed exactly, so an item is missed only if no walk reaches it and the index overlooks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from ..errors import MissingExtraError
from .terms import ItemItem, LowRank, Prior, ProfileRows, Term
from .topk import search, top_k

FEW = 50_000  # allowed items, at most, that are all looked at: an index might find none of what a filter lets through
ENOUGH = 0.99  # share of the best items by the dense part that the cells looked into must hold
WIDER = 4  # times the pool's size that the index is asked for: what a user has is among it


class DenseIndex:
    """Items by the dense part of a blend, in cells around centres (an inverted file, Jégou et al. 2011). A query looks
    into the cells whose centres have the largest inner products with it."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def of(cls, terms: Sequence[Term], weights: np.ndarray, rows: ProfileRows, size: int) -> DenseIndex | None:
        """Of the items of these terms under a blend, float64 [term]; None where the blend has no dense part.

        It looks into as many cells as find ENOUGH of the `size` best items of the users whose profile rows are given.

        Raises:
            MissingExtraError: the extra `approximate` is not installed.
        """
        faiss, vectors = _faiss(), _vectors(terms, weights)
        if vectors is None:
            return None
        cells = max(int(2 * len(vectors) ** 0.5), 1)
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], cells, faiss.METRIC_INNER_PRODUCT
        )
        index.cp.niter, index.cp.min_points_per_centroid, index.cp.max_points_per_centroid = 10, 1, 64
        index.train(vectors)
        index.add(vectors)
        made, queries = cls(index), queries_of(terms, weights, rows)
        best = search(queries, vectors, min(size, len(vectors)))[0]
        index.nprobe = max(cells // 64, 1)
        while index.nprobe < cells and share_of(best, made.nearest(queries, WIDER * size)) < ENOUGH:
            index.nprobe = min(2 * index.nprobe, cells)
        return made

    @classmethod
    def opened(cls, file: Path) -> DenseIndex:
        """Mapped from a file of :meth:`save`.

        Raises:
            MissingExtraError: the extra `approximate` is not installed. RuntimeError: the file is something else.
        """
        faiss = _faiss()
        return cls(faiss.read_index(str(file), faiss.IO_FLAG_MMAP))

    def save(self, file: Path) -> None:
        """Write it."""
        _faiss().write_index(self._index, str(file))

    @property
    def looked_into(self) -> float:
        """Share of the cells a query looks into."""
        return float(self._index.nprobe / self._index.nlist)

    def nearest(self, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
        """Per query float32 [user, d] the rows of about the k items with the largest inner products, of those allowed,
        bool [item]: int64 [user, k], -1 where the cells hold fewer."""
        if allowed is None:
            return np.asarray(self._index.search(queries, k)[1])
        faiss = _faiss()
        let_through = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        told = faiss.SearchParametersIVF(sel=let_through, nprobe=self._index.nprobe)
        return np.asarray(self._index.search(queries, k, params=told)[1])


def share_of(wanted: np.ndarray, found: np.ndarray) -> float:
    """Share of the items int64 [user, n] that are among the found ones [user, m]; -1 is no item."""
    same = sum(len(np.intersect1d(one[one >= 0], other)) for one, other in zip(wanted, found, strict=True))
    return same / max(int((wanted >= 0).sum()), 1)


def _faiss() -> Any:
    if find_spec("faiss") is None:
        raise MissingExtraError("model.search = 'approximate' needs faiss: pip install 'catalograph[approximate]'")
    import faiss  # noqa: PLC0415

    return faiss


def _vectors(terms: Sequence[Term], weights: np.ndarray) -> np.ndarray | None:
    """float32 [item, d]: v of the module's formula."""
    used = [(term, weight) for term, weight in zip(terms, weights, strict=True) if weight]
    parts = [np.float32(weight) * term.right for term, weight in used if isinstance(term, LowRank)]
    priors = [np.float32(weight) * term.values for term, weight in used if isinstance(term, Prior)]
    if priors:
        parts.append(np.sum(priors, axis=0)[:, None])
    return np.concatenate(parts, axis=1) if parts else None


def queries_of(terms: Sequence[Term], weights: np.ndarray, rows: ProfileRows) -> np.ndarray:
    """float32 [user, d]: q of the module's formula."""
    used = [term for term, weight in zip(terms, weights, strict=True) if weight]
    parts = [term.queries(rows) for term in used if isinstance(term, LowRank)]
    if any(isinstance(term, Prior) for term in used):
        parts.append(np.ones((next(iter(rows.values())).shape[0], 1), np.float32))
    return np.concatenate(parts, axis=1)


def pooled(
    index: DenseIndex,
    terms: Sequence[Term],
    rows: ProfileRows,
    weights: np.ndarray,
    size: int,
    hidden: sp.csr_matrix,
    allowed: np.ndarray,
) -> np.ndarray:
    """int64 [user, size], best first, -1 where fewer are found: the pools of profile rows [user, item]."""
    walked = sp.csr_matrix(hidden.shape)
    for term, weight in zip(terms, weights, strict=True):
        if weight and isinstance(term, ItemItem):
            walked = sp.csr_matrix(walked + np.float32(weight) * (rows[term.profile] @ term.weights))
    queries = queries_of(terms, weights, rows)
    few = np.flatnonzero(allowed) if allowed.sum() <= FEW else np.empty(0, np.int64)
    found = np.full((hidden.shape[0], size), -1, np.int64)
    for user, near in enumerate(index.nearest(queries, WIDER * size, allowed)):
        mine = {name: matrix[[user]] for name, matrix in rows.items()}
        items = np.unique(np.concatenate([walked[[user]].indices, near[near >= 0], few]))
        items = np.setdiff1d(items[allowed[items]], hidden[[user]].indices)
        if not len(items):
            continue
        scores = walked[[user]][:, items].toarray()
        for term, weight in zip(terms, weights, strict=True):
            if weight and not isinstance(term, ItemItem):
                scores += np.float32(weight) * term.at(mine, items)
        places, _ = top_k(scores, min(size, len(items)))
        found[user, : places.shape[1]] = items[places[0]]
    return found
