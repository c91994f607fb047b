"""How fast edges with a time column leave the embedded graph: as integer columns, and one record per edge.

    python benchmarks/export.py [--edges N] [--items N] [--users N]

The last line is one JSON object: {"edges_per_s", "row_edges_per_s"}. Each reading starts from a closed file; the first
figure is the median of five and includes mapping the engine's offsets to sorted rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ladybug
from generated import BOUGHT, shop

from catalograph.kg.export import export_snapshot
from catalograph.kg.stores import open_store


def main() -> None:
    """Generate, load, read three ways, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("users", 100_000), ("items", 200_000), ("edges", 2_000_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    nodes, edges = shop(**vars(parser.parse_args()))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.lbug"
        store = open_store(f"ladybug:{path}")
        store.rebuild(nodes, edges)
        by_columns = statistics.median(_columns(path) for _ in range(5))
        by_rows = _rows(path)
        start = time.perf_counter()
        snapshot = export_snapshot(store)
        whole = time.perf_counter() - start
        store.close()
    number = snapshot.relation(BOUGHT).shape[1]
    print(f"{number:,} edges: {by_columns:.2f} s as columns, {by_rows:.2f} s as records")
    print(f"whole snapshot with digest: {whole:.2f} s")
    print(json.dumps({"edges_per_s": round(number / by_columns), "row_edges_per_s": round(number / by_rows)}))


def _columns(path: Path) -> float:
    store = open_store(f"ladybug:{path}")
    start = time.perf_counter()
    store.edges(BOUGHT, ["last_at"])
    seconds = time.perf_counter() - start
    store.close()
    return seconds


def _rows(path: Path) -> float:
    text = "MATCH (u:User)-[r:INTERACTED]->(i:Item) RETURN u.id, i.id, r.last_at"
    start = time.perf_counter()
    with ladybug.Database(str(path), read_only=True) as database, ladybug.Connection(database) as connection:
        result: Any = connection.execute(text)
        while result.has_next():
            result.get_next()
        seconds = time.perf_counter() - start
        result.close()
    return seconds


if __name__ == "__main__":
    main()
