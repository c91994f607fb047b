"""How seconds and memory grow with a shop, stage by stage, and how near its recommendations come to the truth.

    python benchmarks/scale.py OUT [--events 250000 500000 1000000 …] [--seed N]

builds a generated shop (planted.py) of each size through `rebuild`, each in a process of its own, lists 2,000
customers, and writes OUT/scale.json and OUT/scale.svg. The last line is one JSON object: per stage the exponent p of
seconds ~ events^p (least squares over the logarithms; `cpu` of processor seconds, which other jobs on the machine
change less), and per size its stages' seconds and peak MiB (Linux), with NDCG@10 of the model, and of the chances the
shop was drawn from: no recommender can be expected to do better.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from planted import DAY_MS, DAYS, START_MS, Plan, write_shop

from catalograph import Recommender
from catalograph.kg.log import InteractionLog
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop
from catalograph.scoring.evidence import histories_of
from catalograph.scoring.folds import Fold, fold_of
from catalograph.scoring.metrics import rank_metrics
from catalograph.scoring.topk import top_k

CLOCKS = (time.perf_counter, time.process_time)
LISTED = 2_000  # customers
CUT_MS = START_MS + (DAYS - 28) * DAY_MS  # 2023-12-04, the shop's [split]


def main() -> None:
    """Build every size, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--events", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # a child: one size, in this process
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measured(asked.events[0], asked.seed, asked.out)))
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    sizes = []
    for events in sorted(asked.events):
        with TemporaryDirectory(dir=asked.out) as folder:
            command = [sys.executable, __file__, folder, "--one", "--events", str(events), "--seed", str(asked.seed)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        sizes.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(sizes[-1]))
    document = {"exponents": {key: exponents(sizes, key) for key in ("seconds", "cpu")}, "sizes": sizes}
    (asked.out / "scale.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    draw(sizes, asked.out / "scale.svg")
    print(json.dumps(document))


def measured(events: int, seed: int, folder: Path) -> dict[str, Any]:
    """One size: what it is, seconds and peak MiB of its stages, and how good its lists are."""
    stages = Stages()
    plan = Plan.of(events, seed)
    shop = write_shop(plan, folder / "shop")
    stages.ended("generate")
    summary = rebuild(open_workshop(shop, out=folder / "build", device="cpu", say=stages.told))
    made = Recommender.load(folder / "build")
    stages.ended("read")
    made.recommended_lists(made.bundle.users["id"].to_pylist()[:LISTED])
    stages.ended("lists")
    return {
        "events": int(plan.activity.sum()),
        "users": len(plan.activity),
        "items": len(plan.popularity),
        "stages": stages.found,
        "ndcg@10": round(summary["metrics"]["rows"][0]["ndcg@10"], 4),
        "truth_ndcg@10": round(of_truth(plan, held_out(plan, folder / "shop" / "events.parquet")), 4),
    }


class Stages:
    """Seconds and peak memory of one stage after the other, by the lines the pipeline says at their ends."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}
        self._begin()

    def told(self, line: str) -> None:
        """A line of the pipeline; those that begin with a stage's name end it."""
        print(line, file=sys.stderr)
        if not line.startswith(" "):
            self.ended(line.partition(" ")[0])

    def ended(self, name: str) -> None:
        """The stage is over, and the next begins."""
        seconds, cpu = (now() - then for now, then in zip(CLOCKS, self._start, strict=True))
        self.found[name] = {"seconds": round(seconds, 2), "cpu": round(cpu, 2), "peak_mib": _status("VmHWM") // 1024}
        self._begin()

    def _begin(self) -> None:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew from what is held
        self._start = [now() for now in CLOCKS]


def _status(key: str) -> int:
    """A figure of this process in KiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def held_out(plan: Plan, file: Path) -> Fold:
    """The test part of the shop, as the pipeline cuts it."""
    table = pq.read_table(file)
    user, item = (np.array([int(id_[1:]) for id_ in table[name].to_pylist()]) for name in ("user", "item"))
    log = InteractionLog(len(plan.activity), len(plan.popularity), user, item)  # blocks are in the order of users
    before = table["time"].cast("int64").to_numpy() < CUT_MS
    return fold_of(log.where(before), log.where(~before), None)


def of_truth(plan: Plan, fold: Fold) -> float:
    """NDCG@10 of lists by the true chances, over at most LISTED test customers."""
    users = np.sort(fold.users[:LISTED])
    have = histories_of(fold.seen).matrix()[users]
    items, _ = top_k(plan.truth(users), 10, have)
    return float(rank_metrics(items, fold.held_out[users], 10).ndcg.mean())


def exponents(sizes: list[dict[str, Any]], key: str) -> dict[str, float]:
    """p of seconds ~ events^p per stage, where all sizes took measurable time; key: "seconds" or "cpu"."""
    if len(sizes) < 2:
        return {}
    events = np.log([size["events"] for size in sizes])
    found = {}
    for name in sizes[0]["stages"]:
        seconds = np.array([size["stages"][name][key] for size in sizes])
        if (seconds >= 0.05).all():
            found[name] = round(float(np.polyfit(events, np.log(seconds), 1)[0]), 2)
    return found


def draw(sizes: list[dict[str, Any]], file: Path) -> None:
    """Seconds and peak memory by events, both axes logarithmic."""
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib import pyplot as plt  # noqa: PLC0415

    mpl.use("svg")
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5))
    events = [size["events"] for size in sizes]
    for axis, key, label in zip(axes, ("seconds", "peak_mib"), ("seconds", "peak MiB"), strict=True):
        for name in sizes[0]["stages"]:
            axis.loglog(events, [max(size["stages"][name][key], 0.01) for size in sizes], marker="o", label=name)
        axis.set(xlabel="events", ylabel=label)
        axis.grid(alpha=0.3)
    axes[1].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(file)


if __name__ == "__main__":
    main()
