"""A service for tests: in this process over a copy of a built shop, or as the command a user runs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file
from starlette.testclient import TestClient

from catalograph.config import ServeSection
from catalograph.scoring import bundle, versions
from catalograph.service.app import create_app
from catalograph.service.settings import Serving

HERE = "http://127.0.0.1"


def copy_of(build: Path, to: Path) -> Path:
    """A build folder whose bundles and pointer may be changed."""
    to.mkdir()
    shutil.copy(build / "current", to)
    shutil.copytree(build / "bundles", to / "bundles")
    return to


def publish_again(build: Path, spoil: Callable[[Path], None] | None = None, *, signed: bool = False):
    """Publish the served bundle under the next number, its arrays spoilt if so asked; returns its name.

    signed: by somebody who wrote the spoilt arrays on purpose, so that the manifest's digests fit them.
    """
    now = versions.published(build)
    digest = now.name.partition("-")[2]
    place = now.with_name(f"{max(int(other.name[:4]) for other in now.parent.iterdir()) + 1:04}-{digest}")
    shutil.copytree(now, place)
    if spoil is not None:
        spoil(place / "model.safetensors")
    if signed:
        manifest = json.loads((place / bundle.MANIFEST).read_text("utf-8"))
        manifest["files"] = bundle.digests(place)
        (place / bundle.MANIFEST).write_text(json.dumps(manifest), "utf-8")
    versions.publish(place)
    return place.name


def torn(file: Path) -> None:
    """Only the first half was written."""
    os.truncate(file, file.stat().st_size // 2)


def flipped(file: Path) -> None:
    """One bit of the last array is another."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def of_nonsense(file: Path) -> None:
    """Every weight of the pool is no number."""
    arrays = {name: array.copy() for name, array in load_file(file).items()}
    arrays["blend"] = arrays["blend"] * np.nan
    save_file(arrays, file)


@contextmanager
def client(build: Path, *, keyed: bool = False, keys: Path | None = None, **limits: float):
    """A client of the application in this process."""
    serving = Serving(build, ServeSection(**{"rate_per_s": 1e6, "poll_s": 0.05} | limits), keyed, keys)
    with TestClient(create_app(serving), base_url=HERE, raise_server_exceptions=False) as asking:
        yield asking


def eventually(holds, seconds: float = 20):
    """Wait until `holds()`; returns what it gave."""
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.02)
    return found


def free_port():
    """One nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextmanager
def process(*arguments: str | Path):
    """`catalograph serve` with these arguments.

    Yields its process, its address once it is ready, and a function that reads its log, a dict a line.
    """
    port = free_port()
    program = "import sys; from catalograph.cli import main; sys.exit(main(sys.argv[1:]))"
    told = ["serve", *map(str, arguments), "--port", str(port)]
    with tempfile.TemporaryFile("w+") as log:  # a pipe nobody reads would fill, and stop it
        running = subprocess.Popen([sys.executable, "-c", program, *told], stderr=log)

        def lines_so_far():
            log.seek(0)
            return lines(log.read())

        try:
            eventually(lambda: running.poll() is not None or is_ready(f"{HERE}:{port}"), 120)
            assert running.poll() is None, lines_so_far()
            yield running, f"{HERE}:{port}", lines_so_far
        finally:
            running.terminate()  # before it is killed: workers outlive a parent that cannot tell them
            try:
                running.wait(90)
            finally:
                running.kill()


def is_ready(address: str):
    """Whether it says so."""
    try:
        with urllib.request.urlopen(f"{address}/ready", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def lines(text: str):
    """Log lines."""
    return [json.loads(line) for line in text.splitlines()]
