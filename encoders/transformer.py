"""Texts to vectors M(s) by a BERT-family model, through sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..config import EncoderSection
from ..errors import ConfigError
from .cache import VectorCache, text_digests
from .weights import Weights, resolve

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SHARD = 4_096  # texts encoded between two writes of the cache: what an interruption costs


def encode(
    texts: Sequence[str], section: EncoderSection, *, cache: Path, device: str = "cpu", progress: bool = False
) -> np.ndarray:
    """float32 [text, dim] of unit length; an empty text is the zero vector.

    Equal texts are encoded once, batches are made by length, and vectors already in `cache` are read, not computed.

    Raises:
        ConfigError: the model cannot be loaded.
    """
    weights = resolve(section.model)
    store = VectorCache(cache / f"{weights.digest[:16]}-{section.max_tokens}")
    digests = text_digests(texts)
    missing = {d.tobytes(): n for n, d in enumerate(digests) if texts[n].strip() and store.get(d) is None}
    if missing:
        model = _load(weights, section, device)
        rows = sorted(missing.values(), key=lambda n: (len(texts[n]), n))
        for start in range(0, len(rows), SHARD):
            shard = rows[start : start + SHARD]
            vectors = model.encode(
                [texts[n] for n in shard],
                batch_size=section.batch_size,
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=progress,
            )
            store.add(digests[shard], np.asarray(vectors, np.float32))
    found = [store.get(digest) for digest in digests]
    dim = next((len(vector) for vector in found if vector is not None), 1)
    return np.stack([np.zeros(dim, np.float32) if vector is None else vector for vector in found])


def _load(weights: Weights, section: EncoderSection, device: str) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415  heavy: only when a text is missing

    try:
        model = SentenceTransformer(weights.location, device=device)
    except (OSError, ValueError) as e:
        first = str(e).splitlines()[0]
        raise ConfigError(
            f"encoder.model {section.model!r} cannot be loaded ({first}); name a folder or 'packaged'"
        ) from None
    model.max_seq_length = section.max_tokens
    return model
