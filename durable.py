"""Files that a kill at any moment leaves whole, and folders that one process at a time may change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import ArtifactError

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise ArtifactError(f"{folder}: another process is building here; wait for it to end, or say --out") from None
    except OSError as e:
        raise ArtifactError(f"{folder}: cannot be written ({e.strerror})") from None
    try:
        yield
    finally:
        lock.release()
