"""The seam to a graph database: arrays in, arrays out, no Cypher outside this folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..loaders.catalogue import EdgeKey
from .schema import Schema
from .writeback import Publication, Published

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
    (source, target); `columns` holds one numpy array per property, as :func:`numpy_of` gives it."""

    source: np.ndarray
    target: np.ndarray
    columns: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Batch:
    """A set of changes that is applied whole, and once: a second one with the same id changes nothing.

    In this order: nodes to delete go with all their edges, nodes are added or have the given columns set, all edges of
    a relation that leave the given sources go and so do single edges (tables of `source` and `target`), edges are added
    or have the given columns set. What to delete or to replace and is not there is no error. Tables look as in
    `rebuild`; labels, relations and columns exist already.
    """

    id: str
    nodes: Mapping[str, pa.Table] = field(default_factory=dict)
    edges: Mapping[EdgeKey, pa.Table] = field(default_factory=dict)
    replace_edges_of: Mapping[EdgeKey, Sequence[str]] = field(default_factory=dict)
    delete_nodes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    delete_edges: Mapping[EdgeKey, pa.Table] = field(default_factory=dict)


class GraphStore(Protocol):
    """What the rest of the package may ask of a graph database. Every implementation passes tests/test_store.py."""

    dialect: ClassVar[str]  # "ladybug", "neo4j": which text of a named query it gets where there are two

    def rebuild(self, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table]) -> Counts:
        """Replace the whole graph; readers see the old or the new one.

        Raises:
            GraphError: a duplicate or null id, a duplicate pair, or an edge to nowhere; the old graph stays.
        """
        ...

    def apply(self, batch: Batch) -> Counts:
        """Change the graph by one batch, wholly or not at all; readers see the graph before or after it.

        Raises:
            GraphError: a label, relation or column the graph does not have, or a row `rebuild` would refuse.
        """
        ...

    def holds(self, batch: str) -> bool:
        """Whether a batch of this id was applied since the last rebuild."""
        ...

    def schema(self) -> Schema:
        """What the graph declares."""
        ...

    def counts(self) -> Counts:
        """How much it holds."""
        ...

    def generation(self) -> int:
        """Another number whenever what `nodes` and `edges` read has changed.

        Raises:
            StoreError: the graph is being changed at this moment, so no two readings belong together.
        """
        ...

    def nodes(self, label: str, columns: Sequence[str] = ()) -> pa.Table:
        """`id` and the columns asked for, sorted by id (code point order)."""
        ...

    def edges(self, key: EdgeKey, columns: Sequence[str] = ()) -> EdgeArrays:
        """All edges of one relation as rows of `nodes(key.source)` and `nodes(key.target)`."""
        ...

    def run(self, text: str, parameters: Parameters, *, timeout_s: float = 30.0) -> pa.Table:
        """Run one of our own read queries (see :mod:`.named`)."""
        ...

    def analyst(
        self, text: str, parameters: Parameters, *, timeout_s: float = 30.0, max_rows: int = 10_000
    ) -> pa.Table:
        """Run text somebody typed, behind the read-only gate.

        Raises:
            QueryError: the gate refuses it, it does not parse, runs too long or answers too much.
        """
        ...

    def publish(self, publication: Publication) -> Published:
        """Put a model's lists and vectors beside the graph, in place of the ones published before.

        A source's list is replaced whole; publishing the same again changes nothing. Returns what then stands there.

        Raises:
            GraphError: the graph has relations or properties of that name itself, or none of the ids.
        """
        ...

    def published(self) -> Published | None:
        """What of a publication stands beside the graph; `schema`, `counts` and the export do not show it."""
        ...

    def withdraw(self) -> None:
        """Take the publication away: the graph is as if nothing had been published."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


def without_password(url: str) -> str:
    """A store's URL as it may be shown, should somebody have put credentials into it."""
    scheme, found, rest = url.rpartition("://")
    return scheme + found + rest.rpartition("@")[2]


def numpy_of(column: pa.ChunkedArray) -> np.ndarray:
    """A property as numpy: a missing int or float is a float64 NaN, a missing bool False, a missing string None."""
    if column.null_count and pa.types.is_integer(column.type):
        column = pc.cast(column, pa.float64())
    if pa.types.is_boolean(column.type):
        column = pc.fill_null(column, False)
    return np.asarray(column.to_numpy(zero_copy_only=False))
