"""What a batch of changes costs beside the rebuild it saves, and whether it gives the same scores.

    python benchmarks/update.py SHOP.toml --build build/<shop> [--changes 1000] [--only interaction] [--data DIR]

The build is copied first and stays as it is. The copy is rebuilt in full, the texts' vectors of the build being known,
and then updated. The batch is drawn from the shop itself: two thirds interactions, the rest new and changed items,
relations, new customers, and some of each retired. `--fit-known` leaves the rebuild out and takes the seconds that the
build's last one spent on fitting its model. The last line is one JSON object:
{"update_s", "rebuild_s", "ratio", "largest_difference"}: seconds from the call to the published version, of both; the
largest difference of a score, over 500 users and all items, from a whole rebuild with the same weights.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from same_weights import rebuilt_with_weights

from catalograph import Changes
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop
from catalograph.scoring import bundle as bundles
from catalograph.scoring import versions
from catalograph.scoring.bundle import Bundle
from catalograph.scoring.update import update

SHARES = {
    "interaction": 0.66,
    "new item": 0.05,
    "new title": 0.05,
    "relate": 0.08,
    "unrelate": 0.04,
    "new user": 0.06,
    "retire_item": 0.02,
    "retire_user": 0.02,
    "retire_interaction": 0.02,
}
USERS = 500


def main() -> None:
    """Copy, update, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shop", type=Path)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--changes", type=int, default=1_000)
    parser.add_argument("--only", choices=list(SHARES))
    parser.add_argument("--fit-known", action="store_true")
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        out = Path(folder) / "build"
        shutil.copytree(asked.build, out)
        rebuild_s = _fit_s(out) if asked.fit_known else _rebuild_s(asked.shop, out, asked.data)
        before = bundles.load(versions.published(out))
        batch = Changes.of("benchmark", drawn(before[0], asked.changes, asked.only))
        start = time.perf_counter()
        done = update(out, batch)
        update_s = time.perf_counter() - start
        print(f"{done.counts} in {update_s:.1f} s, version {done.version}", flush=True)
        after = bundles.load(versions.published(out))[0]
        workshop = open_workshop(asked.shop, out=out, data=asked.data, device="cpu", say=print)
        difference = largest_difference(after, rebuilt_with_weights(workshop, *before))
    figures = {"update_s": update_s, "rebuild_s": rebuild_s, "ratio": rebuild_s / update_s}
    print(json.dumps({name: round(value, 2) for name, value in figures.items()} | {"largest_difference": difference}))


def _fit_s(out: Path) -> float:
    return float(bundles.load(versions.published(out))[0].model.report["fit_s"])


def _rebuild_s(shop: Path, out: Path, data: Path | None) -> float:
    start = time.perf_counter()
    rebuild(open_workshop(shop, out=out, data=data, device="cpu", full=True, say=print))
    return time.perf_counter() - start


def drawn(shop: Bundle, n: int, only: str | None) -> list[dict[str, Any]]:
    """n changes that fit this shop and each other, the same every time."""
    random = np.random.default_rng(0)
    kinds = random.choice(list(SHARES), n, p=list(SHARES.values())) if only is None else np.full(n, only)
    items, users = (random.permutation(table["id"].to_pylist()).tolist() for table in (shop.items, shop.users))
    gone_items, gone_users = (int((kinds == kind).sum()) for kind in ("retire_item", "retire_user"))
    leaving = {"retire_item": items[:gone_items], "retire_user": users[:gone_users]}
    items, users = items[gone_items:], users[gone_users:]
    edges = shop.edges
    if shop.config["baskets"]:  # made from purchases; a change names those
        edges = edges.filter(pc.not_equal(pc.cast(edges["relation"], pa.string()), shop.config["baskets"]["relation"]))
    links = edges.take(pa.array(random.integers(len(edges), size=n))).to_pylist()
    made = []
    for number, kind in enumerate(kinds.tolist()):
        if kind in leaving:
            made.append({"op": kind, "id": leaving[kind].pop()})
        else:
            user = f"new-{number}" if kind == "new user" else users[random.integers(len(users))]
            made.append(_change(shop, kind, number, user, items[random.integers(len(items))], links[number]))
    return [change for kind in (0, 1) for change in made if change["op"].startswith("retire") == bool(kind)]


def _change(shop: Bundle, kind: str, number: int, user: str, item: str, link: dict[str, Any]) -> dict[str, Any]:
    title = shop.config["items"]["title"]
    if kind in ("interaction", "new user"):
        return {"op": "interaction", "user": user, "item": item, **_told(shop, number)}
    if kind == "retire_interaction":
        return {"op": kind, "user": user, "item": item}
    target = {"label": link["label"], "id": link["target"]}
    if kind == "new item":
        properties = {title: f"A new thing, number {number}"} if title else {}
        return {
            "op": "upsert_item",
            "id": f"new-{number}",
            "properties": properties,
            "relations": {link["relation"]: [target]},
        }
    if kind == "new title":
        return {"op": "upsert_item", "id": item, "properties": {title: f"Another thing, number {number}"}}
    source = item if kind == "relate" else shop.items["id"][link["source"]].as_py()
    return {"op": kind, "source": source, "relation": link["relation"], "target": target}


def _told(shop: Bundle, number: int) -> dict[str, Any]:
    """What this shop tells of an interaction: just before its newest one."""
    section, log = shop.config["interactions"], shop.log
    told: dict[str, Any] = {}
    if section["time"] is not None and log.at is not None:
        told["at"] = int(log.at.max()) - 1_000 * number
    if section["quantity"] is not None:
        told["quantity"] = 1
    if section["label"] is not None:
        told["label"] = 1
    return told


def largest_difference(one: Bundle, other: Bundle) -> float:
    """Over the scores of the same users for all items."""
    assert one.items["id"].equals(other.items["id"])
    assert one.users.equals(other.users)
    users = np.random.default_rng(0).permutation(len(one.users))[:USERS]
    worst, scorables = 0.0, [bundle.model.scorable(bundle.log) for bundle in (one, other)]
    items = np.arange(len(one.items))
    for some in np.array_split(users, max(len(users) // 25, 1)):
        parts = [
            bundle.model.parts(scorable, some, items, bundle.model.peaks(scorable, some)).sum(-1)
            for bundle, scorable in zip((one, other), scorables, strict=True)
        ]
        worst = max(worst, float(np.abs(parts[0] - parts[1]).max()))
    return worst


if __name__ == "__main__":
    main()
