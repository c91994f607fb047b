"""Does the service stay up under load while its model changes: requests, failures, latency, memory.

    python benchmarks/serve.py --build build/online-retail [--minutes 10] [--workers 1] [--clients 32]

Serves a copy of a build on loopback, measures how many requests a second it answers at most (clients that ask again as
soon as they are answered; the median of several windows, the first left out), and then keeps up 80 % of
that while the bundle is published anew three times and a torn one once. Nine of ten requests are /recommend for one
customer, the others /explain, /similar and /events. Arrivals do not wait for answers, so a stall shows in every request
that comes meanwhile. The last line is one JSON object: {"requests", "failed", "p50_ms", "p99_ms", "per_s", "max_per_s",
"versions", "refused", "mib_start", "mib_end"}; failed is every answer but 200, lost ones included; mib is what the
processes of the service have to themselves, without the bundle they map.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import psutil

from catalograph import Recommender
from catalograph.scoring import versions

PROGRAM = "import sys; from catalograph.cli import main; sys.exit(main(sys.argv[1:]))"
TOML = '[shop]\nname = "load"\n[items]\nfile = "none.csv"\n[serve]\nrate_per_s = 1e9\nwaiting = 10000\npoll_s = 1\n'

WINDOWS = 5  # of the measured maximum

Question = tuple[str, dict[str, object]]


@dataclass
class Tally:
    """What came back. ends: when the good answers did, by the clock of perf_counter."""

    ends: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failed: int = 0
    versions: set[str] = field(default_factory=set)


def main() -> None:
    """Serve, load, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    for name, default in (("workers", 1), ("clients", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        build = Path(folder) / "build"
        build.mkdir()
        shutil.copy(asked.build / "current", build)
        shutil.copytree(asked.build / "bundles", build / "bundles")
        (Path(folder) / "shop.toml").write_text(TOML, encoding="utf-8")
        model = Recommender.load(build)
        bodies = questions(*(table["id"].to_pylist() for table in (model.bundle.users, model.bundle.items)))
        del model
        with (Path(folder) / "log").open("w") as log:
            running, address = start(Path(folder), build, asked.workers, log)
            try:
                found = asyncio.run(load(running, address, bodies, build, asked.minutes * 60, asked.clients))
            finally:
                running.terminate()
                running.wait(60)
    print(json.dumps(found))


def start(folder: Path, build: Path, workers: int, log: object) -> tuple[subprocess.Popen[bytes], str]:
    """The service as a user starts it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = ["serve", str(folder / "shop.toml"), "--out", str(build), "--port", str(port), "--without-keys"]
    command = [sys.executable, "-c", PROGRAM, *told, "--workers", str(workers)]
    return subprocess.Popen(command, stderr=log), f"http://127.0.0.1:{port}"  # type: ignore[call-overload]


def questions(users: list[str], items: list[str]) -> Iterator[Question]:
    """Endless, the same for every run."""
    draw, n = random.Random(0), 0
    while True:
        user, item, n = draw.choice(users), draw.choice(items), n + 1
        event = {"id": f"{os.getpid()}-{n}", "user": user, "item": item, "kind": "click"}
        kinds: list[Question] = [
            ("/recommend", {"users": [user], "k": 10}),
            ("/explain", {"user": user, "item": item}),
            ("/similar", {"item": item}),
            ("/events", {"events": [event]}),
        ]
        yield draw.choices(kinds, (90, 3, 3, 4))[0]


async def load(
    running: subprocess.Popen[bytes],
    address: str,
    bodies: Iterator[Question],
    build: Path,
    seconds: float,
    clients: int,
) -> dict[str, object]:
    """Find the maximum, hold 80 % of it, swap meanwhile."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    async with httpx.AsyncClient(base_url=address, timeout=30, limits=limits) as client:
        await ready(client)
        most = await measured_maximum(client, bodies, clients, min(seconds / 3, 30))
        print(f"at most {most:.0f} requests/s by {clients} clients", file=sys.stderr)
        before, tally, asked = memory(running), Tally(), set[asyncio.Task[None]]()
        swaps = asyncio.create_task(publish_all(build, seconds))
        start = time.perf_counter()
        count = int(seconds * 0.8 * most)
        for n in range(count):
            due = start + n / (0.8 * most)
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            task = asyncio.create_task(ask(client, next(bodies), tally, due))
            asked.add(task)
            task.add_done_callback(asked.discard)
        await asyncio.gather(*asked)
        took = time.perf_counter() - start
        await swaps
        figures = (await client.get("/metrics")).text
    found = re.search(r'swaps_total{outcome="refused"} (.*)', figures)
    refused = int(float(found[1])) if found else 0
    p50, p99 = np.percentile(tally.seconds, (50, 99)) * 1000
    return {
        "requests": count,
        "failed": tally.failed,
        "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1),
        "per_s": round(count / took),
        "max_per_s": round(most),
        "versions": len(tally.versions),
        "refused": refused,
        "mib_start": before,
        "mib_end": memory(running),
    }


async def ready(client: httpx.AsyncClient) -> None:
    """Wait until the service says so."""
    for _ in range(600):
        try:
            if (await client.get("/ready")).status_code == 200:
                return
        except httpx.TransportError:
            await asyncio.sleep(0.2)
    sys.exit("the service did not become ready")


async def measured_maximum(
    client: httpx.AsyncClient, bodies: Iterator[Question], clients: int, seconds: float
) -> float:
    """Good answers a second when each of so many clients asks as soon as it was answered.

    The median of WINDOWS, so that neither a quiet nor a busy moment of the machine is taken for the rule; what comes
    before them warms up.
    """
    tally, start = Tally(), time.perf_counter()

    async def one() -> None:
        while time.perf_counter() < start + seconds:
            await ask(client, next(bodies), tally, time.perf_counter())

    await asyncio.gather(*(one() for _ in range(clients)))
    edges = start + np.linspace(0, seconds, WINDOWS + 2)[1:]
    counts, _ = np.histogram(tally.ends, edges)
    return float(np.median(counts) / np.diff(edges)[0])


async def ask(client: httpx.AsyncClient, question: Question, tally: Tally, since: float) -> None:
    """One request, timed from when it was due."""
    try:
        answer = await client.post(question[0], json=question[1])
        good = answer.status_code == 200
        if good and "version" in (said := answer.json()):
            tally.versions.add(said["version"])
    except httpx.TransportError:
        good = False
    tally.failed += not good
    end = time.perf_counter()
    tally.seconds.append(end - since)
    if good:
        tally.ends.append(end)


async def publish_all(build: Path, seconds: float) -> None:
    """Three good versions and, before the last, a torn one."""
    for torn in (False, False, True, False):
        await asyncio.sleep(seconds / 5)
        await asyncio.to_thread(publish_copy, build, torn)


def publish_copy(build: Path, torn: bool) -> None:
    """The newest whole bundle under the next number."""
    shelf = sorted((build / "bundles").iterdir(), key=lambda place: place.name)
    good = next(place for place in reversed(shelf) if not place.name.endswith("-torn"))
    place = good.with_name(f"{int(shelf[-1].name[:4]) + 1:04}-{'torn' if torn else 'good'}")
    shutil.copytree(good, place)
    if torn:
        os.truncate(place / "model.safetensors", (place / "model.safetensors").stat().st_size // 2)
    versions.publish(place)


def memory(running: subprocess.Popen[bytes]) -> int:
    """MiB the service's processes have to themselves."""
    processes = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    own: int = sum(process.memory_full_info().uss for process in processes)
    return round(own / 2**20)


if __name__ == "__main__":
    main()
