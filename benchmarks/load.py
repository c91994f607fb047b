"""How long a full rebuild of a graph store takes, and how much memory.

    python benchmarks/load.py [--store URL] [--edges N] [--items N] [--users N]

The last line is one JSON object: {"seconds", "relationships_per_s", "peak_mib"}; the peak is this process's, with the
generated data. Without --store the graph is an embedded file. On a Neo4j server the database must be the benchmark's
alone; it is built and then rebuilt, and the figures are those of the first time, so start from an empty one.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from generated import BOUGHT, shop

from catalograph.kg.stores import open_store


def main() -> None:
    """Generate, load, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", metavar="URL", help="bolt://HOST:PORT; default: an embedded file")
    for name, default in (("users", 100_000), ("items", 200_000), ("edges", 2_000_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    nodes, edges = shop(users=asked.users, items=asked.items, edges=asked.edges)
    seconds = []
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.lbug"
        store = open_store(asked.store or f"ladybug:{path}")
        for _ in range(2 if asked.store else 1):
            start = time.perf_counter()
            counts = store.rebuild(nodes, edges)
            seconds.append(time.perf_counter() - start)
        store.close()
        size = "" if asked.store else f"; file {path.stat().st_size / 2**20:.0f} MiB"
    loaded = sum(counts.nodes.values()) + sum(counts.edges.values())
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    again = f", again {seconds[1]:.1f} s" if asked.store else ""
    print(f"{loaded:,} nodes and edges in {seconds[0]:.1f} s{again}, {loaded / seconds[0]:,.0f} a second{size}")
    rate = round(counts.edges[BOUGHT] / seconds[0])
    print(json.dumps({"seconds": round(seconds[0], 2), "relationships_per_s": rate, "peak_mib": round(peak)}))


if __name__ == "__main__":
    main()
