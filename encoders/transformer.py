"""Texts to vectors M(s) by a BERT-family model, through sentence-transformers."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError

from ..config import EncoderSection
from ..errors import ConfigError
from .cache import VectorCache, text_digests
from .weights import Weights, resolve

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

SHARD = 1_024  # texts encoded between two writes of the cache: what an interruption costs, and a step of the bar
SHELVES = "text"  # of a build folder: its vectors, by encoder
INTEGERS = "int8.onnx"
HUB_TIMEOUT_S = 10.0
TELL_S = 10.0


def encode(
    texts: Sequence[str],
    section: EncoderSection,
    *,
    cache: Path | None,
    device: str = "cpu",
    progress: bool = False,
) -> np.ndarray:
    """float32 [text, dim] of unit length; an empty text is the zero vector (dim is 1 when all are empty).

    Equal texts are encoded once, batches are made by length, and vectors already in the folder `cache` are read, not
    computed: with all of them there, no model is loaded. Progress is shown on stderr.

    Raises:
        ConfigError: the model cannot be loaded.
        ArtifactError, MissingExtraError: the packaged weights, or the integers of `int8`, are damaged or absent.
    """
    weights = resolve(section.model)
    shelf = None if cache is None else cache / _shelf(weights, section)
    store = VectorCache(shelf)
    digests = text_digests(texts)
    missing = {d.tobytes(): n for n, d in enumerate(digests) if texts[n].strip() and store.get(d) is None}
    if missing:
        model = opened(weights, section, device, shelf)
        rows = sorted(missing.values(), key=lambda n: (len(texts[n]), texts[n]))
        shards = [rows[start : start + SHARD] for start in range(0, len(rows), SHARD)]
        with reduced(device) if section.precision == "reduced" else nullcontext():
            for shard in _tracked(shards, len(rows), progress):
                store.add(digests[shard], vectors_of(model, [texts[n] for n in shard], section.batch_size))
    found = [store.get(digest) for digest in digests]
    dim = next((len(vector) for vector in found if vector is not None), 1)
    vectors = np.zeros((len(texts), dim), np.float32)
    for row, vector in enumerate(found):
        if vector is not None:
            vectors[row] = vector
    return vectors


def reduced_type(device: str) -> torch.dtype:
    """The cheapest type this hardware multiplies matrices in without loss that matters: bfloat16 where there are units
    for it, float16 on older CUDA, else float32."""
    import torch  # noqa: PLC0415  heavy

    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    has_units = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if has_units else torch.float32


def reduced(device: str) -> AbstractContextManager[object]:
    """Matrix products in :func:`reduced_type`; sums and weights stay float32."""
    import torch  # noqa: PLC0415  heavy

    kind = reduced_type(device)
    return torch.autocast(device.partition(":")[0], kind, enabled=kind != torch.float32)


def _shelf(weights: Weights, section: EncoderSection) -> str:
    """Names what decides a vector besides its text."""
    layers = f"-{section.keep_layers}" if section.keep_layers else ""
    precision = "" if section.precision == "full" else f"-{section.precision}"
    return f"{weights.digest[:16]}-{section.max_tokens}{layers}{precision}"


def _tracked(shards: Sequence[list[int]], texts: int, progress: bool) -> Iterable[list[int]]:
    """The shards, with a bar on stderr where somebody watches, and a line now and then where a file does."""
    console = Console(stderr=True)
    if not progress or console.is_terminal:
        return track(shards, "encode", console=console, transient=True, disable=not progress)
    return _told(shards, texts)


def _told(shards: Sequence[list[int]], texts: int) -> Iterator[list[int]]:
    done, told = 0, time.monotonic()
    for shard in shards:
        yield shard
        done += len(shard)
        if time.monotonic() - told > TELL_S and done < texts:
            told = time.monotonic()
            print(f"{'':<9} {done:,} of {texts:,} texts encoded", file=sys.stderr, flush=True)


def encode_with(model: SentenceTransformer, section: EncoderSection, texts: Sequence[str]) -> np.ndarray:
    """As :func:`encode`, by a model that is loaded."""
    rows = sorted({text for text in texts if text.strip()}, key=lambda text: (len(text), text))
    with reduced("cpu") if section.precision == "reduced" else nullcontext():
        found = dict(zip(rows, vectors_of(model, rows, section.batch_size), strict=True)) if rows else {}
    nothing = np.zeros(model.get_embedding_dimension() or 1, np.float32)
    return np.stack([found.get(text, nothing) for text in texts]) if texts else np.empty((0, len(nothing)), np.float32)


def vectors_of(model: SentenceTransformer, texts: list[str], batch_size: int) -> np.ndarray:
    """float32 [text, dim] of unit length.

    Batches are of texts that are equally long to the model: what it reads of each, not its characters, decides how
    much of a batch is padding.
    """
    length = np.array([len(words) for words in words_of(model, texts)], int)
    vectors = np.zeros((len(texts), model.get_embedding_dimension() or 1), np.float32)
    order = np.argsort(length, kind="stable")
    for rows in np.split(order, range(batch_size, len(order), batch_size)) if len(order) else []:
        batch = [texts[row] for row in rows.tolist()]
        vectors[rows] = model.encode(
            batch, batch_size=batch_size, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
        )
    return vectors


def words_of(model: SentenceTransformer, texts: list[str]) -> list[list[int]]:
    """The numbers of the words and pieces of words the model reads of each text."""
    if not texts:
        return []
    read = model.tokenizer(texts, truncation=True, max_length=model.max_seq_length, add_special_tokens=False)
    return [list(numbers) for numbers in read["input_ids"]]


def import_early() -> None:
    """Begin to import what encoding needs, beside the caller's other work: it takes seconds. A process that ends
    before leaves it."""
    Thread(target=import_module, args=("sentence_transformers",), daemon=True).start()


def open_encoder(section: EncoderSection, cache: Path) -> SentenceTransformer:
    """The encoder as :func:`encode` runs it, on the CPU; `cache` is what it was given."""
    weights = resolve(section.model)
    return opened(weights, section, "cpu", cache / _shelf(weights, section))


def opened(weights: Weights, section: EncoderSection, device: str, shelf: Path | None) -> SentenceTransformer:
    """The model at its precision; in a folder `shelf` are its integers."""
    if section.precision != "int8":
        return load_model(weights, section, device)
    from .quantised import check_possible, quantised  # noqa: PLC0415  heavy

    check_possible()
    return quantised(load_model(weights, section, "cpu"), None if shelf is None else shelf / INTEGERS)


def load_model(weights: Weights, section: EncoderSection, device: str) -> SentenceTransformer:
    """The model, reading at most `max_tokens` tokens (or fewer, where it was made for fewer), and `keep_layers` of its
    layers.

    A folder without a sentence-transformers configuration gets mean pooling over its tokens.
    """
    try:
        with quiet():
            model = _open(weights.location, device)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as e:
        reason = (str(e).splitlines() or [type(e).__name__])[0]
        advice = "name a folder, a model of the hub or 'packaged'"
        raise ConfigError(f"encoder.model {section.model!r} cannot be loaded ({reason}); {advice}") from None
    if section.keep_layers:
        _prune(model, section.keep_layers)
    made_for = model.max_seq_length
    model.max_seq_length = section.max_tokens if made_for is None else min(section.max_tokens, made_for)
    return model


def _prune(model: SentenceTransformer, layers: int) -> None:
    """Keep evenly spaced layers, the first among them (Sajjad et al. 2023 compare the choices).

    Raises:
        ConfigError: the model has fewer, or keeps them where no BERT does.
    """
    bert: Any = model[0].model
    found = getattr(getattr(bert, "encoder", None), "layer", None)
    if found is None or len(found) < layers:
        has = "no encoder.layer list" if found is None else f"{len(found)} layers"
        raise ConfigError(f"encoder.keep_layers = {layers}, and the model has {has}; say keep_layers = 0 for all")
    kept = np.linspace(0, len(found), layers, endpoint=False).round().astype(int)
    bert.encoder.layer = type(found)([found[n] for n in kept])
    bert.config.num_hidden_layers = layers


def _open(location: str, device: str) -> SentenceTransformer:
    """From the folder or from the hub's local cache; the network is asked once, and only for what is not here."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415  heavy: only when a text is missing

    try:
        return SentenceTransformer(location, device=device, local_files_only=True)
    except OSError:
        if Path(location).is_dir():
            raise
    _ask_hub(location)
    return SentenceTransformer(location, device=device)


def _ask_hub(name: str) -> None:
    """One request instead of the minute of retries a download makes without a network."""
    from huggingface_hub import model_info  # noqa: PLC0415

    try:
        model_info(name, timeout=HUB_TIMEOUT_S)
    except Exception as e:  # its kinds of error follow the http library of the day
        raise OSError(f"not a folder, and the model hub does not give it: {str(e).splitlines()[0]}") from None


def quiet() -> AbstractContextManager[None]:
    """transformers draws a bar for the weights it reads and writes, a matter of milliseconds."""
    from transformers.utils import logging  # noqa: PLC0415

    return without_bars(logging)


@contextmanager
def without_bars(switch: Any) -> Iterator[None]:
    """No bars of a library's own meanwhile; switch: what turns them on and off, as `datasets` does itself."""
    shown = switch.is_progress_bar_enabled()
    switch.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            switch.enable_progress_bar()
