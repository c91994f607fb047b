"""Exact top-K over the same vectors: ours, implicit, faiss and numpy, with and without a filter that keeps 1 %.

    python benchmarks/topk.py [--users N] [--items N] [--dim N] [-k N]

The last line is one JSON object: ratio_implicit, ratio_faiss, ratio_numpy (their seconds over ours; above 1 we are
faster), the same with `_filtered` (each library filters the way it offers: faiss by a selector, implicit by
filter_items, numpy afterwards), and peak_share, the seconds of the matrix product alone over ours. Medians of seven
runs taken in turn. All libraries get two threads; every list is compared with ours. Where there is a GPU, ratio_cuda
tells how many times as fast our search is there, vectors and lists carried over and back within the time.

    python benchmarks/topk.py --approximate [--items N] [--dim N] [-k N]

The index of `model.search = "approximate"` over vectors with structure (noise around a thousand centres, of lengths
that differ): {"build_s", "index_mib", "exact_ms", "approximate_ms", "cells", "recall"}; one user at a time, one
thread, medians; recall is the share of the k best that are among what the pool asks the index for, cells the share of
its cells that a query looks into.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import numpy as np
import scipy.sparse as sp
import torch
from implicit.cpu.topk import topk as implicit_topk
from threadpoolctl import threadpool_limits

from catalograph.scoring.approximate import WIDER, DenseIndex, share_of
from catalograph.scoring.terms import LowRank
from catalograph.scoring.topk import search

THREADS, BLOCK = 2, 500  # users of a block, for those that have no blocks of their own
ALONE = 200  # single requests timed


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--users", 10_000), ("--items", 100_000), ("--dim", 256), ("-k", 50)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--approximate", action="store_true")
    asked = parser.parse_args()
    if asked.approximate:
        print(json.dumps(approximately(asked.items, asked.dim, asked.k)))
        return
    torch.set_num_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    threadpool_limits(THREADS, "blas")
    random = np.random.default_rng(0)
    queries = random.standard_normal((asked.users, asked.dim), dtype=np.float32)
    vectors = random.standard_normal((asked.items, asked.dim), dtype=np.float32)
    allowed = random.random(asked.items) < 0.01
    figures: dict[str, float] = {}
    for suffix, kept in (("", None), ("_filtered", allowed)):
        seconds, lists = timed(methods(queries, vectors, asked.k, kept))
        for name in lists.keys() - {"ours"}:
            check_alike(queries, vectors, lists["ours"], lists[name], name)
        print(f"{suffix.strip('_') or 'all items'}: " + ", ".join(f"{n} {s:.3f} s" for n, s in seconds.items()))
        figures |= {f"ratio_{n}{suffix}": round(s / seconds["ours"], 2) for n, s in seconds.items() if n in RIVALS}
        if "cuda" in seconds:
            figures[f"ratio_cuda{suffix}"] = round(seconds["ours"] / seconds["cuda"], 2)
        if kept is None:
            figures["peak_share"] = round(seconds["product"] / seconds["ours"], 3)
    alone = sorted(one(queries[n : n + 1], vectors, asked.k) for n in range(min(ALONE, asked.users)))
    print(f"one user: p50 {1e3 * alone[len(alone) // 2]:.1f} ms, p99 {1e3 * alone[int(0.99 * len(alone))]:.1f} ms")
    print(json.dumps(figures))


RIVALS = ("implicit", "faiss", "numpy")
Found = np.ndarray | None
Method = Callable[[], Found]


def methods(queries: np.ndarray, vectors: np.ndarray, k: int, allowed: np.ndarray | None) -> dict[str, Method]:
    """Name -> a call that returns item rows int64 [user, k]."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    refused = None if allowed is None else np.flatnonzero(~allowed).astype(np.int32)

    def by_faiss() -> np.ndarray:
        if allowed is None:
            return np.asarray(index.search(queries, k)[1])
        parameters: Any = faiss.SearchParameters  # its stub knows no arguments
        filtered = parameters(sel=faiss.IDSelectorBatch(np.flatnonzero(allowed)))
        return np.asarray(index.search(queries, k, params=filtered)[1])

    on_gpu: dict[str, Method] = {"cuda": lambda: search(queries, vectors, k, allowed=allowed, device="cuda")[0]}
    return (on_gpu if torch.cuda.is_available() else {}) | {
        "ours": lambda: search(queries, vectors, k, allowed=allowed)[0],
        "implicit": lambda: np.asarray(
            implicit_topk(vectors, queries, k, filter_items=refused, num_threads=THREADS)[0], np.int64
        ),
        "faiss": by_faiss,
        "numpy": lambda: by_numpy(queries, vectors, k, allowed),
        "product": lambda: product(queries, vectors),
    }


def by_numpy(queries: np.ndarray, vectors: np.ndarray, k: int, allowed: np.ndarray | None) -> np.ndarray:
    """Scores in blocks, a mask, argpartition, a sort of the k."""
    found = []
    for start in range(0, len(queries), BLOCK):
        scores = queries[start : start + BLOCK] @ vectors.T
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
        near = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, near, 1), axis=1)
        found.append(np.take_along_axis(near, order, 1))
    return np.concatenate(found)


def product(queries: np.ndarray, vectors: np.ndarray) -> None:
    """The matrix product alone, in blocks."""
    room = np.empty((BLOCK, len(vectors)), np.float32)
    for start in range(0, len(queries), BLOCK):
        rows = queries[start : start + BLOCK]
        np.matmul(rows, vectors.T, out=room[: len(rows)])


def timed(methods: dict[str, Method], repeats: int = 7) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Median seconds of each, measured in turn so that a busy moment meets all of them, and the lists they gave."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    lists: dict[str, np.ndarray] = {}
    for _ in range(repeats):
        for name, method in methods.items():
            start = time.perf_counter()
            found = method()
            seconds[name].append(time.perf_counter() - start)
            if found is not None:
                lists[name] = found
    return {name: statistics.median(times) for name, times in seconds.items()}, lists


def check_alike(queries: np.ndarray, vectors: np.ndarray, ours: np.ndarray, theirs: np.ndarray, name: str) -> None:
    """Two libraries round sums differently, so items may trade places; then their products are equal but for that."""
    user, place = np.nonzero(ours != theirs)
    here, there = ((queries[user] * vectors[items[user, place]]).sum(1) for items in (ours, theirs))
    assert np.allclose(here, there, atol=1e-3), f"{name} gives other lists"


def approximately(items: int, dim: int, k: int) -> dict[str, float]:
    """Build the index, ask it, and compare."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    threadpool_limits(1, "blas")
    random = np.random.default_rng(0)
    centres = random.standard_normal((1_000, dim), dtype=np.float32)

    def some(n: int) -> np.ndarray:
        noise = 0.7 * random.standard_normal((n, dim), dtype=np.float32)
        made: np.ndarray = centres[random.integers(0, len(centres), n)] + noise
        return made

    vectors, queries = some(items), some(ALONE)
    vectors *= random.lognormal(0, 0.3, (items, 1)).astype(np.float32)
    identity = sp.eye_array(ALONE, items, format="csr", dtype=np.float32)
    left = np.zeros_like(vectors)
    left[:ALONE] = queries  # somebody who has item n asks for what query n finds
    term, rows = LowRank("generated.uniform", "uniform", left, vectors), {"uniform": sp.csr_matrix(identity)}
    start = time.perf_counter()
    index = DenseIndex.of((term,), np.ones(1), rows, k)
    assert index is not None
    build_s = time.perf_counter() - start
    queries = some(ALONE)  # not those it was made to find
    seconds, lists = [], []
    for n in range(ALONE):
        start = time.perf_counter()
        best = search(queries[n : n + 1], vectors, k)[0]
        between = time.perf_counter()
        lists.append((best, index.nearest(queries[n : n + 1], WIDER * k)))
        seconds.append((between - start, time.perf_counter() - between))
    exact, approximate = (1e3 * float(np.median(part)) for part in zip(*seconds, strict=True))
    recall = share_of(*(np.concatenate(part) for part in zip(*lists, strict=True)))
    with TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")
        size = (Path(folder) / "index").stat().st_size / 2**20
    figures = {"build_s": build_s, "index_mib": size, "exact_ms": exact, "approximate_ms": approximate}
    figures |= {"cells": index.looked_into, "recall": recall}
    return {name: round(figure, 3) for name, figure in figures.items()}


def one(query: np.ndarray, vectors: np.ndarray, k: int) -> float:
    """Seconds for one user."""
    start = time.perf_counter()
    search(query, vectors, k)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
