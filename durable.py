"""Files that a kill at any moment leaves whole, and folders that one process at a time may change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import ArtifactError, CatalographError

LOCK = ".lock"


def replace_text(file: Path, text: str) -> None:
    """Write UTF-8 beside the file and rename it in: readers find the old text or the new one."""
    part = file.with_name(file.name + ".part")
    part.write_text(text, encoding="utf-8")
    move_in(part, file)


def move_in(part: Path, place: Path) -> None:
    """Give a finished file or folder its name, with its bytes on the disk before and the name after."""
    for inner in part.rglob("*") if part.is_dir() else ():
        sync(inner)
    sync(part)
    os.replace(part, place)
    sync(place.parent)


def sync(path: Path) -> None:
    """Onto the disk; folders count only where they can be opened."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder on Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Only one process builds in a folder; the lock goes with the process, however it ends.

    Raises:
        ArtifactError: another one does, or the folder cannot be written.
    """
    told = f"{folder}: another process is building here; wait for it to end, or say --out"
    with locked(folder / LOCK, folder, told, ArtifactError):
        yield


@contextmanager
def locked(lock: Path, what: Path, taken: str, error: type[CatalographError]) -> Iterator[None]:
    """Hold a lock file, whose folder is made, or raise `error`: `taken`, or that `what` cannot be written."""
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock, timeout=0)
        held.acquire()
    except Timeout:
        raise error(taken) from None
    except OSError as e:
        raise error(f"{what}: cannot be written ({e.strerror})") from None
    try:
        yield
    finally:
        held.release()
