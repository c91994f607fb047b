"""Vectors by text digest, in one folder per encoder: what was encoded once is never encoded again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file


def text_digests(texts: Sequence[str]) -> np.ndarray:
    """uint8 [n, 32]: SHA-256 of each text's UTF-8 bytes."""
    joined = b"".join(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts)
    return np.frombuffer(joined, np.uint8).reshape(-1, 32)


class VectorCache:
    """Shards of (digests uint8 [n, 32], vectors float32 [n, dim]); a torn shard is ignored, never trusted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._place: dict[bytes, np.ndarray] = {}
        for shard in sorted(folder.glob("*.safetensors")):
            try:
                held = load_file(shard)
                pairs = zip(held["digests"], held["vectors"], strict=True)
            except (SafetensorError, OSError, KeyError, ValueError):
                continue
            self._place.update((digest.tobytes(), vector) for digest, vector in pairs)

    def get(self, digest: np.ndarray) -> np.ndarray | None:
        """The vector of one text digest, float32 [dim]."""
        return self._place.get(digest.tobytes())

    def add(self, digests: np.ndarray, vectors: np.ndarray) -> None:
        """Keep vectors float32 [n, dim]; the shard appears whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(digests.tobytes()).hexdigest()[:24]
        part = self._folder / f"{name}.part"
        save_file({"digests": np.ascontiguousarray(digests), "vectors": np.ascontiguousarray(vectors)}, part)
        os.replace(part, self._folder / f"{name}.safetensors")
        self._place.update((digest.tobytes(), vector) for digest, vector in zip(digests, vectors, strict=True))
