"""The reference store: a networkx graph in memory. Small and obvious; it speaks no Cypher."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import ClassVar

import networkx as nx
import numpy as np
import pyarrow as pa

from ..errors import QueryError, StoreError, UnknownIdError
from ..loaders.catalogue import EdgeKey
from .checks import check_batch, check_graph
from .schema import ARROW_TYPES, Schema
from .store import Batch, Counts, EdgeArrays, Parameters, numpy_of
from .writeback import Publication, Published


class MemoryStore:
    """Nodes are (label, id), edges carry their relation as key."""

    dialect: ClassVar[str] = "none"

    def __init__(self) -> None:
        self._graph: nx.MultiDiGraph[tuple[str, str]] = nx.MultiDiGraph()
        self._schema: Schema | None = None
        self._batches: set[str] = set()
        self._generation = 0

    def rebuild(self, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table]) -> Counts:
        """Replace the graph."""
        self._schema = check_graph(nodes, edges)
        self._graph, self._batches = nx.MultiDiGraph(), set()
        self._write(nodes, edges)
        return self.counts()

    def apply(self, batch: Batch) -> Counts:
        """Change the graph."""
        if batch.id not in self._batches:
            check_batch(batch, self.schema(), lambda label: self.nodes(label)["id"])
            for label, ids in batch.delete_nodes.items():
                self._graph.remove_nodes_from([(label, id_) for id_ in ids])
            for key, sources in batch.replace_edges_of.items():
                gone = [(s, t) for s, t, _ in self._edges(key) if s in set(sources)]
                self._remove_edges(key, gone)
            for key, table in batch.delete_edges.items():
                self._remove_edges(key, zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True))
            self._write(batch.nodes, batch.edges)
            self._batches.add(batch.id)
        return self.counts()

    def holds(self, batch: str) -> bool:
        """Whether it was applied."""
        return batch in self._batches

    def _remove_edges(self, key: EdgeKey, pairs: Iterable[tuple[str, str]]) -> None:
        self._graph.remove_edges_from([((key.source, s), (key.target, t), key.relation) for s, t in pairs])

    def _write(self, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table]) -> None:
        """networkx adds what is new and updates the properties of what is there."""
        self._generation += 1
        for label, table in nodes.items():
            self._graph.add_nodes_from(((label, row.pop("id")), row) for row in table.to_pylist())
        for key, table in edges.items():
            for row in table.to_pylist():
                ends = (key.source, row.pop("source")), (key.target, row.pop("target"))
                self._graph.add_edges_from([(*ends, key.relation, row)])

    def schema(self) -> Schema:
        """As given to `rebuild`."""
        if self._schema is None:
            raise StoreError("the graph in memory is empty; rebuild it first")
        return self._schema

    def counts(self) -> Counts:
        """Nodes per label, edges per relation."""
        schema = self.schema()
        nodes = {label: sum(node[0] == label for node in self._graph) for label in schema.nodes}
        return Counts(nodes, {key: len(self._edges(key)) for key in schema.edges})

    def generation(self) -> int:
        """How often it was written."""
        return self._generation

    def nodes(self, label: str, columns: Sequence[str] = ()) -> pa.Table:
        """`id` and columns, sorted by id."""
        declared = self.schema().nodes.get(label)
        if declared is None:
            raise UnknownIdError(f"the graph has no label {label!r}")
        found = ((node[1], data) for node, data in self._graph.nodes(data=True) if node[0] == label)
        rows = sorted(found, key=itemgetter(0))
        arrays = {"id": pa.array([id_ for id_, _ in rows], pa.string())}
        for name in columns:
            arrays[name] = pa.array([data.get(name) for _, data in rows], ARROW_TYPES[declared[name]])
        return pa.table(arrays)

    def edges(self, key: EdgeKey, columns: Sequence[str] = ()) -> EdgeArrays:
        """Rows of the two labels, sorted."""
        kinds = self.schema().edges.get(key)
        if kinds is None:
            raise UnknownIdError(f"the graph has no relation {'-'.join(key)}")
        rows = [
            {id_: n for n, id_ in enumerate(self.nodes(label)["id"].to_pylist())} for label in (key.source, key.target)
        ]
        found = sorted((((rows[0][s], rows[1][t]), data) for s, t, data in self._edges(key)), key=itemgetter(0))
        ends = np.array([pair for pair, _ in found], np.int64).reshape(-1, 2)
        values = {
            name: numpy_of(
                pa.chunked_array([pa.array([data.get(name) for _, data in found], ARROW_TYPES[kinds[name]])])
            )
            for name in columns
        }
        return EdgeArrays(ends[:, 0], ends[:, 1], values)

    def _edges(self, key: EdgeKey) -> list[tuple[str, str, dict[str, object]]]:
        return [
            (source[1], target[1], data)
            for source, target, relation, data in self._graph.edges(keys=True, data=True)
            if (source[0], relation, target[0]) == key
        ]

    def run(self, text: str, parameters: Parameters, *, timeout_s: float = 30.0) -> pa.Table:
        """Not here."""
        raise QueryError("the store in memory speaks no Cypher; use ladybug:PATH")

    def analyst(
        self, text: str, parameters: Parameters, *, timeout_s: float = 30.0, max_rows: int = 10_000
    ) -> pa.Table:
        """Not here."""
        raise QueryError("the store in memory speaks no Cypher; use ladybug:PATH")

    def publish(self, publication: Publication) -> Published:
        """Not here."""
        raise StoreError("the store in memory ends with the command; publish to ladybug:PATH or a server")

    def published(self) -> None:
        """Nothing is."""

    def withdraw(self) -> None:
        """Nothing is published."""

    def close(self) -> None:
        """Nothing is held."""
