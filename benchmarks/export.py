"""How fast edges with a time column leave a graph store: as integer columns, and one record per edge.

    python benchmarks/export.py [--store URL] [--edges N] [--items N] [--users N] [--keep]

The last line is one JSON object: {"edges_per_s", "row_edges_per_s"}, both over the same edges. The first figure is the
median of five readings, each from a closed store: the ids of both ends' nodes, then the edges, mapped to sorted rows.
Without --store the graph is an embedded file. On a Neo4j server the database must be the benchmark's alone: it is
rebuilt, unless --keep finds the graph of an earlier run there.
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

import ladybug
import neo4j
from generated import BOUGHT, shop

from catalograph.errors import StoreError
from catalograph.kg.bolt import Bolt, ask
from catalograph.kg.export import export_snapshot
from catalograph.kg.store import GraphStore
from catalograph.kg.stores import open_store

ROWS = "MATCH (u:User)-[r:INTERACTED]->(i:Item) RETURN u.id, i.id, r.last_at"


def main() -> None:
    """Generate, load, read three ways, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", metavar="URL", help="bolt://HOST:PORT; default: an embedded file")
    parser.add_argument("--keep", action="store_true", help="read what an earlier run has put there")
    for name, default in (("users", 100_000), ("items", 200_000), ("edges", 2_000_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.lbug"
        url = asked.store or f"ladybug:{path}"
        store = open_store(url)
        if not (asked.keep and _holds(store, asked.edges)):
            store.rebuild(*shop(users=asked.users, items=asked.items, edges=asked.edges))
        by_columns = statistics.median(_columns(url) for _ in range(5))
        by_rows = _seconds(lambda: _neo4j_rows(url)) if asked.store else _seconds(lambda: _ladybug_rows(path))
        start = time.perf_counter()
        snapshot = export_snapshot(store)
        whole = time.perf_counter() - start
        store.close()
    number = snapshot.relation(BOUGHT).shape[1]
    print(f"{number:,} edges: {by_columns:.2f} s as columns, {by_rows:.2f} s as records")
    print(f"whole snapshot with digest: {whole:.2f} s")
    print(json.dumps({"edges_per_s": round(number / by_columns), "row_edges_per_s": round(number / by_rows)}))


def _holds(store: GraphStore, edges: int) -> bool:
    try:
        return dict(store.counts().edges) == {BOUGHT: edges}
    except StoreError:
        return False


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _columns(url: str) -> float:
    store = open_store(url)
    seconds = _seconds(lambda: store.edges(BOUGHT, ["last_at"]))
    store.close()
    return seconds


def _ladybug_rows(path: Path) -> None:
    with ladybug.Database(str(path), read_only=True) as database, ladybug.Connection(database) as connection:
        result: Any = connection.execute(ROWS)
        while result.has_next():
            result.get_next()
        result.close()


def _neo4j_rows(url: str) -> None:
    def work(transaction: neo4j.ManagedTransaction) -> int:
        return sum(1 for _ in ask(transaction, ROWS))

    bolt = Bolt(url)
    bolt.reading(work)
    bolt.close()


if __name__ == "__main__":
    main()
