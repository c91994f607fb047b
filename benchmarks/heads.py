"""Which head ranks best on validation users: a shop's folds played through once, then every head on the same pools.

    python benchmarks/heads.py SHOP.toml [--data DIR] [--out DIR] [--seeds N]

A line per head and seed: {"head", "seed", "ndcg", "recall", "hr", "precision", "seconds"}; the test part is not read.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from catalograph.pipeline.workshop import open_workshop
from catalograph.pipeline.world import build_world
from catalograph.scoring.head import KINDS, MEMBERS, fit_head, rank_pool
from catalograph.scoring.metrics import rank_metrics
from catalograph.scoring.model import rehearse


def main() -> None:
    """Rehearse once, fit each kind of head with each seed, print what the check users get."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shop", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    workshop = open_workshop(
        options.shop, data=options.data, out=options.out, say=lambda line: print(line, file=sys.stderr)
    )
    given = build_world(workshop).given
    rehearsal, k = rehearse(given, workshop.say), given.config.evaluation.k
    for kind in (*KINDS, *MEMBERS):
        for seed in range(options.seeds):
            start = time.perf_counter()
            head = fit_head(kind, rehearsal.sample, seed=seed)
            spent = round(time.perf_counter() - start, 1)
            found = rank_metrics(rank_pool(head, rehearsal.checked, k)[1], rehearsal.held_out, k)
            rates = {name: round(float(rate.mean()), 4) for name, rate in vars(found).items()}
            print(json.dumps({"head": kind, "seed": seed, **rates, "seconds": spent}), flush=True)


if __name__ == "__main__":
    main()
