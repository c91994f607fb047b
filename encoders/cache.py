"""Vectors by text digest, in one folder per encoder: what was encoded once is never encoded again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file


def text_digests(texts: Sequence[str]) -> np.ndarray:
    """uint8 [n, 32]: SHA-256 of each text's UTF-8 bytes."""
    joined = b"".join(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts)
    return np.frombuffer(joined, np.uint8).reshape(-1, 32)


class VectorCache:
    """Append-only shards of (digests uint8 [n, 32], vectors float32 [n, dim]), each with a checksum over both.

    A shard that is torn or damaged is ignored and its texts are encoded again. Without a folder, memory is all.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._vector: dict[bytes, np.ndarray] = {}
        for shard in sorted(folder.glob("*.safetensors")) if folder is not None else ():
            self._remember(*_read(shard))

    def get(self, digest: np.ndarray) -> np.ndarray | None:
        """The vector of one text digest, float32 [dim]."""
        return self._vector.get(digest.tobytes())

    def add(self, digests: np.ndarray, vectors: np.ndarray) -> None:
        """Keep vectors float32 [n, dim]; the shard appears whole or not at all."""
        if self._folder is not None:
            _write(self._folder, np.ascontiguousarray(digests), np.ascontiguousarray(vectors))
        self._remember(digests, vectors)

    def _remember(self, digests: np.ndarray, vectors: np.ndarray) -> None:
        self._vector.update((digest.tobytes(), vector) for digest, vector in zip(digests, vectors, strict=True))


def _write(folder: Path, digests: np.ndarray, vectors: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(digests.tobytes()).hexdigest()[:24]
    part = folder / f"{name}.{os.getpid()}.part"
    save_file({"digests": digests, "vectors": vectors}, part, metadata={"sha256": _checksum(digests, vectors)})
    os.replace(part, folder / f"{name}.safetensors")


def _read(shard: Path) -> tuple[np.ndarray, np.ndarray]:
    nothing = np.empty((0, 32), np.uint8), np.empty((0, 0), np.float32)
    try:
        with safe_open(shard, framework="np") as held:
            digests, vectors = held.get_tensor("digests"), held.get_tensor("vectors")
            whole = (held.metadata() or {}).get("sha256") == _checksum(digests, vectors)
    except (SafetensorError, OSError):
        return nothing
    return (digests, vectors) if whole else nothing


def _checksum(digests: np.ndarray, vectors: np.ndarray) -> str:
    return hashlib.sha256(digests.tobytes() + vectors.tobytes()).hexdigest()
