"""Does the service stay up under load while its model changes: requests, failures, latency, memory.

    python benchmarks/serve.py --build build/online-retail [--minutes 10] [--workers 1] [--clients 32]

Serves a copy of a build on loopback, measures how many requests a second it answers at most (clients that ask again as
soon as they are answered; the median of several windows, the first left out), and then keeps up 80 % of that while the
bundle is published anew three times and a torn one once. Nine of ten requests are /recommend for one customer, the
others /explain, /similar and /events. Arrivals do not wait for answers, so a stall shows in every request that comes
meanwhile. The last line is one JSON object: {"requests", "failed", "why", "p50_ms", "p99_ms", "p99_ms_between",
"slowest_ms", "per_s", "max_per_s", "max_per_s_after", "versions", "refused", "mib"}; failed is every answer but 200,
lost ones included, and why counts them by status; p99_ms_between leaves out what was due in the AFTER_S seconds after a
version was published, and slowest_ms is the slowest answer of each tenth of the time; where the maximum is another one
afterwards the machine had other work; mib is what the processes of the service have to themselves, without the bundle
they map: at the start, nine times on the way, at the end.
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
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil

from catalograph import Recommender
from catalograph.scoring import versions

PROGRAM = "import sys; from catalograph.cli import main; sys.exit(main(sys.argv[1:]))"
TOML = '[shop]\nname = "load"\n[items]\nfile = "none.csv"\n[serve]\nrate_per_s = 1e9\nwaiting = 10000\npoll_s = 1\n'

KEPT_S = 3  # the service closes a connection after five seconds without a request
WINDOWS = 5  # of the measured maximum
AFTER_S = 20  # in which a new version is found, loaded, tried and swapped in, and what waited meanwhile is answered

VERSION = re.compile(rb'"version":"([^"]*)"')  # reading a whole /explain would cost the client more than asking it

Question = tuple[str, dict[str, object]]


@dataclass
class Tally:
    """What came back. due, ends: when requests were to be sent and when the good answers came, by the clock of
    perf_counter. seconds: from one to the other, of all answers."""

    due: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)
    versions: set[str] = field(default_factory=set)


class Client:
    """As little of HTTP as a load needs, over kept connections: what the client costs, the service lacks."""

    def __init__(self, address: str) -> None:
        self._host, _, port = address.removeprefix("http://").partition(":")
        self._port = int(port)
        self._idle: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and content.

        Raises:
            OSError, EOFError: no answer came, or not in time.
        """
        async with asyncio.timeout(30):
            reader, writer = self._kept() or await asyncio.open_connection(self._host, self._port)
            content = b"" if body is None else json.dumps(body).encode()
            head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
            found = await reader.readexactly(int(length[1]) if length else 0)
        self._idle.append((time.perf_counter(), reader, writer))
        return int(answer.split(maxsplit=2)[1]), found

    def _kept(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        while self._idle:
            since, reader, writer = self._idle.pop()
            if time.perf_counter() - since < KEPT_S:
                return reader, writer
            writer.close()
        return None


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
    client = Client(address)
    await ready(client)
    most = await measured_maximum(client, bodies, clients, min(seconds / 3, 30))
    print(f"at most {most:.0f} requests/s by {clients} clients", file=sys.stderr)
    mib, tally, asked = [memory(running)], Tally(), set[asyncio.Task[None]]()
    swaps = asyncio.create_task(publish_all(build, seconds))
    watching = asyncio.create_task(watch(running, mib, seconds / 10))
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
    published = await swaps
    watching.cancel()
    mib.append(memory(running))
    _, figures = await client.ask("GET", "/metrics")
    found = re.search(r'swaps_total{outcome="refused"} (.*)', figures.decode())
    ms, sent = 1000 * np.array(tally.seconds), np.array(tally.due)
    (p50, p99), between = np.percentile(ms, (50, 99)), away_from(published, sent)
    tenth = np.minimum((sent - start) / (count / (0.8 * most)) * 10, 9).astype(int)
    return {
        "requests": count,
        "failed": tally.failed.total(),
        "why": dict(tally.failed),
        "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1),
        "p99_ms_between": round(np.percentile(ms[between], 99), 1) if between.any() else None,
        "slowest_ms": [round(ms[tenth == n].max(initial=0)) for n in range(10)],
        "per_s": round(count / took),
        "max_per_s": round(most),
        "max_per_s_after": round(await measured_maximum(client, bodies, clients, min(seconds / 3, 30))),
        "versions": len(tally.versions),
        "refused": int(float(found[1])) if found else 0,
        "mib": mib,
    }


async def ready(client: Client) -> None:
    """Wait until the service says so."""
    for _ in range(600):
        try:
            if (await client.ask("GET", "/ready"))[0] == 200:
                return
        except (OSError, EOFError):
            await asyncio.sleep(0.2)
    sys.exit("the service did not become ready")


async def measured_maximum(client: Client, bodies: Iterator[Question], clients: int, seconds: float) -> float:
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


async def ask(client: Client, question: Question, tally: Tally, since: float) -> None:
    """One request, timed from when it was due."""
    try:
        status, content = await client.ask("POST", *question)
        said = str(status)
    except (OSError, EOFError) as e:
        said = type(e).__name__
    end = time.perf_counter()
    tally.due.append(since)
    tally.seconds.append(end - since)
    if said != "200":
        tally.failed[said] += 1
        return
    tally.ends.append(end)
    found = VERSION.search(content)
    if found:
        tally.versions.add(found[1].decode())


async def watch(running: subprocess.Popen[bytes], mib: list[int], every: float) -> None:
    """The service's memory from time to time, until it is cancelled."""
    while True:
        await asyncio.sleep(every)
        mib.append(await asyncio.to_thread(memory, running))


def away_from(moments: list[float], due: np.ndarray) -> np.ndarray:
    """bool [request]: was not due in the AFTER_S seconds after any of the moments."""
    since = due[:, None] - np.array(moments)
    return np.asarray(~((since >= 0) & (since < AFTER_S)).any(1))


async def publish_all(build: Path, seconds: float) -> list[float]:
    """Three good versions and, before the last, a torn one; when each began to be written."""
    begun = []
    for torn in (False, False, True, False):
        await asyncio.sleep(seconds / 5)
        begun.append(time.perf_counter())
        await asyncio.to_thread(publish_copy, build, torn)
    return begun


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
    """MiB of the service's processes that no file backs: a bundle's pages go when others need the memory."""
    processes = [psutil.Process(running.pid), *psutil.Process(running.pid).children(recursive=True)]
    own: int = sum(part.anonymous for process in processes for part in process.memory_maps())
    return round(own / 2**20)


if __name__ == "__main__":
    main()
