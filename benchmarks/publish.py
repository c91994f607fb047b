"""How fast a publication gets into a store: vectors with their index, and lists of similar items.

    python benchmarks/publish.py [--store URL] [--items N] [--n N] [--dim D]
    python benchmarks/publish.py --build build/online-retail

The first makes up a shop; without --store in the embedded store, which keeps no vectors. A server's database must be
the benchmark's alone; the shop stays in it. The last line is one JSON object: {"vectors_per_s", "edges_per_s",
"renewed_edges_per_s"}; vectors include waiting for their index, renewed edges are those of a next version with half of
the places changed.

The second asks a published model: {"lists_per_s", "agreement"}, the lists of similar items it makes a second, and the
share of their first 20 places that are also among the 20 nearest by each vector `catalograph publish` writes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from generated import shop

from catalograph import Recommender
from catalograph.kg.store import GraphStore
from catalograph.kg.stores import open_store
from catalograph.kg.writeback import SIMILAR_TO, Publication
from catalograph.loaders.catalogue import EdgeKey

KEY, PLACE = EdgeKey("Item", SIMILAR_TO, "Item"), ("Item", "text_vector")


def main() -> None:
    """Publish, or ask a model; print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("items", 20_000), ("n", 20), ("dim", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--store", metavar="URL", help="bolt://HOST:PORT; default: an embedded file")
    parser.add_argument("--build", type=Path)
    asked = parser.parse_args()
    if asked.build:
        print(json.dumps(_of_model(Recommender.load(asked.build))))
        return
    with TemporaryDirectory() as folder:
        store = open_store(asked.store or f"ladybug:{Path(folder) / 'graph.lbug'}")
        store.rebuild(*shop(users=1_000, items=asked.items, edges=10_000))
        figures = _of_store(store, asked.items, asked.n, asked.dim)
        store.close()
    print(json.dumps(figures))


def _of_store(store: GraphStore, items: int, n: int, dim: int) -> dict[str, int]:
    random = np.random.default_rng(0)
    ids = store.nodes("Item")["id"]
    array = pa.FixedSizeListArray.from_arrays(pa.array(random.normal(size=items * dim).astype(np.float32)), dim)
    vectors = {PLACE: pa.table({"id": ids, "vector": array})}
    steps = random.integers(1, items // (2 * n), 2 * n).cumsum()  # so many different neighbours of everybody
    first, renewed = _lists(ids, steps[:n]), _lists(ids, steps[n // 2 : n // 2 + n])
    figures = {}
    for name, publication in (
        ("vectors_per_s", Publication("1", {}, vectors)),
        ("edges_per_s", Publication("1", {KEY: first}, vectors)),
        ("renewed_edges_per_s", Publication("2", {KEY: renewed})),
    ):
        start = time.perf_counter()
        published = store.publish(publication)
        seconds = time.perf_counter() - start
        count = published.vectors.get(PLACE, 0) if name == "vectors_per_s" else published.edges[KEY]
        if count:
            figures[name] = round(count / seconds)
    store.withdraw()
    return figures


def _lists(ids: pa.ChunkedArray, steps: np.ndarray) -> pa.Table:
    row = np.repeat(np.arange(len(ids)), len(steps))
    rank = np.tile(np.arange(1, len(steps) + 1), len(ids))
    target = (row + steps[rank - 1]) % len(ids)
    return pa.table(
        {"source": ids.take(pa.array(row)), "target": ids.take(pa.array(target)), "score": 1 / rank, "rank": rank}
    )


def _of_model(model: Recommender) -> dict[str, object]:
    start = time.perf_counter()
    table = model.similar_lists(20)
    seconds = time.perf_counter() - start
    lists: dict[str, set[str]] = {}
    for source, target in zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True):
        lists.setdefault(source, set()).add(target)
    agreement = {name: _agreement(lists, vectors) for name, vectors in model.item_vectors().items()}
    return {"lists_per_s": round(len(lists) / seconds), "agreement": agreement}


def _agreement(lists: dict[str, set[str]], vectors: pa.Table) -> float:
    ids = vectors["id"].to_pylist()
    array = np.stack(vectors["vector"].to_numpy())
    shares = []
    for row, id_ in enumerate(ids):
        likeness = array @ array[row]
        likeness[row] = -np.inf
        nearest = np.argpartition(-likeness, 20)[:20]
        if id_ in lists:
            shares.append(len(lists[id_] & {ids[other] for other in nearest}) / len(lists[id_]))
    return round(float(np.mean(shares)), 3)


if __name__ == "__main__":
    main()
