"""Everybody's lists as a folder of Parquet files, which several processes or machines may write side by side.

part-0003-of-0008.parquet    user, item (string), score (float64), rank (int64, 1 is the best)

A part has its name once it is complete, and is not made again. Parts are cut where lists are made batch by batch, so
they hold exactly what one process would have written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..durable import move_in
from ..errors import ArtifactError, ConfigError
from . import bundle as bundles
from . import versions
from .pool import ROWS
from .recommender import Recommender

COLUMNS = ["user", "item", "score", "rank"]
PLAIN: Mapping[str, Any] = {"where": None, "diversify": 0.0, "cap": {}, "exclude": []}


def write_all(
    build: Path,
    target: Path,
    *,
    shape: Mapping[str, Any],
    parts: int = 1,
    only: int | None = None,
    processes: int = 1,
    device: str = "cpu",
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Every user's list into the folder `target`, in so many `parts`, or `only` one of them (from 1).

    shape: the arguments of `Recommender.recommended_lists` beside the users: k, where, diversify, cap, exclude. device:
    where they are made, as of `Recommender.load`.

    Raises:
        ArtifactError: nothing is published in `build`, or `target` holds parts of another model, of other lists or of
            another number of parts.
        ConfigError: `only` is no part, or the lists cannot be made.
    """
    if only is not None and not 1 <= only <= parts:
        raise ConfigError(f"shard {only}/{parts}: the first number goes from 1 to the second")
    place = versions.published(build)
    target.mkdir(parents=True, exist_ok=True)
    wanted = [only] if only is not None else list(range(1, parts + 1))
    one = partial(_write, place, target, shape, parts, device)
    with _mapping(min(processes, len(wanted))) as mapped:
        for number, rows in zip(wanted, mapped(one, wanted), strict=True):
            say(f"part {number} of {parts}: " + ("there already" if rows is None else f"{rows:,} places"))


@contextmanager
def _mapping(processes: int) -> Iterator[Callable[..., Iterator[int | None]]]:
    """`map`, or the same by several processes that share the threads."""
    if processes == 1:
        yield map
        return
    threads = max(torch.get_num_threads() // processes, 1)
    with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (threads,)) as executor:
        yield executor.map


def _write(place: Path, target: Path, shape: Mapping[str, Any], parts: int, device: str, number: int) -> int | None:
    """One part; returns its rows, or None where it is there already."""
    name = target / f"part-{number:04}-of-{parts:04}.parquet"
    wished = {**PLAIN, **shape, "exclude": sorted(shape.get("exclude", []))}
    told = {"version": place.name, "parts": str(parts)} | {
        key: json.dumps(value, sort_keys=True) for key, value in wished.items()
    }
    origin = {key.encode(): value.encode() for key, value in told.items()}
    for other in target.glob("part-*.parquet"):
        _check_alike(other, origin)
    if name.exists():
        return None
    shop = Recommender(*bundles.load(place), device=device)
    users = shop.bundle.users["id"]
    batches = np.array_split(np.arange(0, len(users), ROWS), parts)[number - 1]
    rows, part = 0, name.with_suffix(".part")
    schema = pa.schema(list(zip(COLUMNS, (pa.string(), pa.string(), pa.float64(), pa.int64()), strict=True)))
    with pq.ParquetWriter(part, schema.with_metadata(origin)) as writer:
        for start in batches.tolist():
            several = users[start : start + ROWS].to_pylist()
            found = shop.recommended_lists(several, **shape).rename_columns(COLUMNS)
            writer.write_table(found.cast(schema).replace_schema_metadata(origin))
            rows += found.num_rows
    move_in(part, name)
    return rows


def _check_alike(other: Path, origin: dict[bytes, bytes]) -> None:
    try:
        said = pq.read_schema(other).metadata or {}
    except (pa.ArrowInvalid, OSError) as e:
        raise ArtifactError(f"{other} is no Parquet file ({e}); delete it, or name another folder") from None
    for key, value in origin.items():
        if said.get(key) != value:
            held = said.get(key, b"none").decode(errors="replace")
            raise ArtifactError(f"{other} is of {key.decode()} {held}, not {value.decode()}; name another folder")
