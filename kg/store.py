"""The seam to a graph database: arrays in, arrays out, no Cypher outside this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from ..loaders.catalogue import EdgeKey
from .schema import Schema

Scalar = str | int | float | bool | None
Parameters = Mapping[str, Scalar | Sequence[str] | Sequence[int] | Sequence[float]]


@dataclass(frozen=True)
class Counts:
    """How much a graph holds: nodes per label, edges per relation."""

    nodes: Mapping[str, int]
    edges: Mapping[EdgeKey, int]


@dataclass(frozen=True)
class EdgeArrays:
    """One relation as numbers: `source` and `target` are int64 rows of the label's `nodes()` table, sorted by
    (source, target); `columns` holds one numpy array per property, NaN where an int or float is missing."""

    source: np.ndarray
    target: np.ndarray
    columns: Mapping[str, np.ndarray]


class GraphStore(Protocol):
    """What the rest of the package may ask of a graph database. Every implementation passes tests/test_store.py."""

    def rebuild(self, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table]) -> Counts:
        """Replace the whole graph; readers see the old or the new one.

        Raises:
            GraphError: a duplicate or null id, a duplicate pair, or an edge to nowhere; the old graph stays.
        """
        ...

    def schema(self) -> Schema:
        """What the graph declares."""
        ...

    def counts(self) -> Counts:
        """How much it holds."""
        ...

    def nodes(self, label: str, columns: Sequence[str] = ()) -> pa.Table:
        """`id` and the columns asked for, sorted by id (code point order)."""
        ...

    def edges(self, key: EdgeKey, columns: Sequence[str] = ()) -> EdgeArrays:
        """All edges of one relation as rows of `nodes(key.source)` and `nodes(key.target)`."""
        ...

    def run(self, text: str, parameters: Parameters, *, timeout_s: float = 30.0) -> pa.Table:
        """Run one of our own read queries (see :mod:`.queries`)."""
        ...

    def analyst(
        self, text: str, parameters: Parameters, *, timeout_s: float = 30.0, max_rows: int = 10_000
    ) -> pa.Table:
        """Run text somebody typed, behind the read-only gate.

        Raises:
            QueryError: the gate refuses it, it does not parse, runs too long or answers too much.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
