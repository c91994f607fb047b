"""Reasons of a built shop: how many recommended items have a path, how soon one explanation is there, does it carry.

    python benchmarks/explain.py BUILD [--users N] [-k N] [--fidelity N]

BUILD is a build folder with a published version. Users are drawn, and each of their k best items is explained. The last
line is one JSON object: path_share, the share of items with a path of at most three edges from the user; walked_share,
the share whose first path is walked by a term of the model; p50_ms and p99_ms of one explanation, alone, after a first
one that builds the index. With --fidelity, of so many users' best items: fall_path, how far the score falls in the mean
without the edges of the first path, and fall_random, without others of the same relations.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from catalograph import Recommender
from catalograph.scoring.explain import Explanation


def main() -> None:
    """Ask, count, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    for name, default in (("--users", 200), ("-k", 10), ("--fidelity", 0)):
        parser.add_argument(name, type=int, default=default)
    asked = parser.parse_args()
    shop = Recommender.load(asked.build)
    active = np.unique(shop.bundle.log.user)
    drawn = np.random.default_rng(0).permutation(active)[: asked.users]
    users = shop.bundle.users["id"].take(drawn).to_pylist()
    lists = shop.recommend(users, asked.k)
    start = time.perf_counter()
    shop.explain(users[0], lists[0][0].item)
    print(f"the first explanation, with the index: {time.perf_counter() - start:.1f} s")
    found: list[Explanation] = []
    seconds = []
    for user, listed in zip(users, lists, strict=True):
        for place in listed:
            start = time.perf_counter()
            found.append(shop.explain(user, place.item))
            seconds.append(time.perf_counter() - start)
    p50, p99 = 1e3 * np.quantile(seconds, [0.5, 0.99])
    figures = {
        "items": len(found),
        "path_share": round(float(np.mean([bool(why.paths) for why in found])), 4),
        "walked_share": round(float(np.mean([any(path.score > 0 for path in why.paths[:1]) for why in found])), 4),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
    }
    if asked.fidelity:
        figures |= falls(shop, users[: asked.fidelity], [listed[0].item for listed in lists])
    print(json.dumps(figures))


def falls(shop: Recommender, users: list[str], items: list[str]) -> dict[str, float]:
    """The mean falls of the users' best items."""
    measured = []
    for user, item in zip(users, items, strict=False):
        found = shop.fidelity(user, item, shop.explain(user, item).paths[0].triples)
        measured.append((found.score - found.without_path, found.score - found.without_random))
    path, random = np.mean(measured, axis=0)
    return {"fall_path": round(float(path), 4), "fall_random": round(float(random), 4)}


if __name__ == "__main__":
    main()
