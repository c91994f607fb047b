"""How long a full rebuild of the embedded graph takes, and how much memory.

    python benchmarks/load.py [--edges N] [--items N] [--users N]

The last line is one JSON object: {"seconds", "peak_mib"}; the peak is the process's, the generated data included.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from generated import shop

from catalograph.kg.stores import open_store


def main() -> None:
    """Generate, load, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("users", 100_000), ("items", 200_000), ("edges", 2_000_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    nodes, edges = shop(**vars(parser.parse_args()))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.lbug"
        store = open_store(f"ladybug:{path}")
        start = time.perf_counter()
        counts = store.rebuild(nodes, edges)
        seconds = time.perf_counter() - start
        store.close()
        size = path.stat().st_size / 2**20
    loaded = sum(counts.nodes.values()) + sum(counts.edges.values())
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    print(f"{loaded:,} nodes and edges in {seconds:.1f} s, {loaded / seconds:,.0f} a second; file {size:.0f} MiB")
    print(json.dumps({"seconds": round(seconds, 2), "peak_mib": round(peak)}))


if __name__ == "__main__":
    main()
