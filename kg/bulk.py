"""Many values out of Neo4j in few records: lists of about a hundred thousand, over a few sessions at once.

A record per node or relation costs thirty times as much. Nodes and relations are collected, which are never null, and
properties are taken from them in list comprehensions, because `collect` drops nulls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import neo4j
import numpy as np

from .bolt import Bolt, in_lanes

CHUNK = 100_000  # matches of one record
BLOCK = 1_024  # ids counted together
LANES = 3  # sessions that read at once
T = TypeVar("T")


def in_chunks(
    bolt: Bolt, pattern: str, one: str, rest: str, take: Callable[[neo4j.Record], T], *, most: int | None = None
) -> list[T]:
    """`take` of the one record that `MATCH {pattern} WHERE … {rest}` answers for each group of about CHUNK matches.

    one: the variable of a node or relation of the pattern whose internal ids make the groups. rest: goes on after a
    condition, with AND or with another clause, and aggregates to one record. most: of the groups, evenly spread.
    """
    text = f"UNWIND $ranges AS s UNWIND range(s[0], s[1]) AS i MATCH {pattern} WHERE id({one}) = i {rest}"

    def read(ranges: Sequence[Sequence[int]]) -> T:
        (record,) = bolt.read(text, {"ranges": ranges})
        return take(record)

    spans = _spans(bolt, pattern, one)
    return in_lanes(read, spans[:: math.ceil(len(spans) / most)] if most and spans else spans, LANES)


def _spans(bolt: Bolt, pattern: str, one: str) -> list[list[list[int]]]:
    """Ranges of internal ids, in groups that hold about CHUNK matches each; ids without a match are mostly left out."""
    text = f"MATCH {pattern} WITH id({one}) / {BLOCK} AS block, count(*) AS n RETURN collect(block), collect(n)"
    blocks, numbers = (np.array(values, np.int64) for values in bolt.read(text)[0])
    order = np.argsort(blocks)
    groups = np.cumsum(numbers[order]) // CHUNK
    cuts = [0, *(np.flatnonzero(np.diff(groups)) + 1), len(blocks)]
    return [_ranges(blocks[order][low:high]) for low, high in pairwise(cuts) if high > low]


def _ranges(blocks: np.ndarray) -> list[list[int]]:
    """[first id, last id] of each run of neighbouring blocks."""
    cuts = [0, *(np.flatnonzero(np.diff(blocks) > 1) + 1), len(blocks)]
    return [[int(blocks[low]) * BLOCK, int(blocks[high - 1]) * BLOCK + BLOCK - 1] for low, high in pairwise(cuts)]
