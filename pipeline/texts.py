"""Item texts to vectors M(s), by the encoder a shop names or by what fine-tuning made of it."""

from __future__ import annotations

import time

import numpy as np

from ..config import EncoderSection
from ..encoders.finetune import taken, tune
from ..encoders.node_text import compose
from ..encoders.transformer import SHELVES, encode
from ..kg.log import InteractionLog
from ..kg.snapshot import Snapshot
from ..loaders.catalogue import Catalogue
from ..scoring.evidence import Relation
from ..scoring.lessons import lessons_of
from .workshop import Workshop


def tuned(
    workshop: Workshop,
    catalogue: Catalogue,
    snapshot: Snapshot,
    train: InteractionLog,
    relations: tuple[Relation, ...],
) -> EncoderSection:
    """The encoder shop.toml names, or what fine-tuning made of it: in this run, or in an earlier one on the same."""
    config, start = workshop.config, time.perf_counter()
    texts = _texts(workshop, catalogue, snapshot)
    if config.encoder.finetune.way == "none" or texts is None:
        return config.encoder
    lessons, check = lessons_of(
        texts,
        lambda: _vectors(workshop, texts, config.encoder),
        train,
        relations,
        catalogue,
        snapshot,
        config,
        workshop.seed,
    )
    told: list[str] = []
    place = tune(
        lessons,
        config.encoder,
        check,
        folder=(workshop.home or workshop.folder) / "encoder",
        device=workshop.device,
        seed=workshop.seed,
        progress=True,
        say=told.append,
    )
    workshop.line("tune", "; ".join(told) or f"unchanged, encoder {place.name}", start)
    return taken(place, config.encoder)


def encoded(workshop: Workshop, catalogue: Catalogue, snapshot: Snapshot, encoder: EncoderSection) -> np.ndarray | None:
    """M(s), float32 [item, dim], or None where nothing names a text."""
    start, texts = time.perf_counter(), _texts(workshop, catalogue, snapshot)
    if texts is None:
        return None
    vectors = _vectors(workshop, texts, encoder)
    workshop.line("encode", f"{len(texts):,} items, {vectors.shape[1]} dimensions", start)
    return vectors


def _texts(workshop: Workshop, catalogue: Catalogue, snapshot: Snapshot) -> list[str] | None:
    fields = workshop.config.text_fields
    return compose(snapshot, catalogue.item_label, fields) if fields else None


def _vectors(workshop: Workshop, texts: list[str], encoder: EncoderSection) -> np.ndarray:
    cache = workshop.folder / SHELVES
    return np.asarray(encode(texts, encoder, cache=cache, device=workshop.device, progress=True))
