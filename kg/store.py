"""The seam to a graph database: arrays in, arrays out, no Cypher outside this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Batch:
    """Changes applied as one; a batch whose `id` was applied before changes nothing."""

    id: str
    upsert_nodes: Mapping[str, pa.Table] = field(default_factory=dict)
    upsert_edges: Mapping[EdgeKey, pa.Table] = field(default_factory=dict)
    replace_edges_of: Mapping[EdgeKey, Sequence[str]] = field(default_factory=dict)  # source ids: old edges go first
    delete_nodes: Mapping[str, Sequence[str]] = field(default_factory=dict)  # with their edges


class GraphStore(Protocol):
    """What the rest of the package may ask of a graph database. Every implementation passes tests/test_store.py."""

    def rebuild(self, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table]) -> Counts:
        """Replace the whole graph; readers see the old or the new one.

        Raises:
            GraphError: a duplicate or null id, a duplicate pair, or an edge to nowhere; the old graph stays.
        """
        ...

    def apply(self, batch: Batch) -> Counts:
        """Apply one batch of changes, whole or not at all."""
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


def open_store(url: str) -> GraphStore:
    """`ladybug:PATH` (embedded, the default), or `memory:` (networkx, for tests and as the reference).

    Raises:
        ConfigError: the URL names no store we know.
    """
    raise NotImplementedError
