"""A batch: checked against the graph, then written whole in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import neo4j
import pyarrow as pa

from ..errors import StoreError
from ..loaders.catalogue import EdgeKey
from .bolt import Bolt, ask
from .checks import check_batch
from .neo4j_notes import LOCK, Notes, holds_batch, note_batch, notes_in
from .neo4j_write import ROWS, check_taken, merge_edges, merge_nodes, remove_nodes, rows_of, run, take_back
from .schema import MARK, MARKED, quoted
from .store import Batch, Counts

TRIES = 5  # while others change the graph between check and writing


def apply(bolt: Bolt, batch: Batch, *, adopt: bool) -> None:
    """Write a batch in one transaction, unless it was written before.

    Raises:
        GraphError: see :func:`~.checks.check_batch`.
        StoreError: the graph is being rebuilt, or an id is that of a node of others.
    """
    for _ in range(TRIES):
        held, notes = bolt.reading(lambda transaction: (holds_batch(transaction, batch.id), notes_in(transaction)))
        if held:
            return
        if notes.schema is None or notes.unfinished:
            raise StoreError(f"{bolt.url}: {notes.complaint}")
        check_batch(batch, notes.schema, partial(_ids_at_ends, bolt, batch))
        if bolt.write(partial(_write_batch, bolt.url, batch, notes, adopt)):
            return
    raise StoreError(f"{bolt.url}: the graph changed {TRIES} times before batch {batch.id!r} was written; try again")


def _ids_at_ends(bolt: Bolt, batch: Batch, label: str) -> pa.ChunkedArray:
    """Those ids of a label that the graph has and the batch's edges speak of."""
    ends = [t[end] for key, t in batch.edges.items() for end in ("source", "target") if getattr(key, end) == label]
    spoken = {id_ for column in ends for id_ in column.to_pylist()}
    text = (
        f"UNWIND $ids AS id MATCH (n:{quoted(label)} {{id: id}}) WHERE {MARKED.format('n')} RETURN collect(n.id) AS i"
    )
    found = bolt.read(text, {"ids": sorted(id_ for id_ in spoken if id_ is not None)})[0]["i"]
    return pa.chunked_array([pa.array(found, pa.string())])


def _write_batch(url: str, batch: Batch, checked: Notes, adopt: bool, transaction: neo4j.ManagedTransaction) -> bool:
    """Whether it is written; it is not when the graph is no longer what it was checked against."""
    ask(transaction, LOCK).consume()
    notes = notes_in(transaction)
    if holds_batch(transaction, batch.id):
        return True
    if notes.generation != checked.generation or notes.unfinished or notes.counts is None:
        return False
    generation = notes.generation + 1
    writing = _Batch(partial(run, transaction, generation=generation), notes, adopt, url)
    writing.write(batch)
    note_batch(transaction, batch.id, generation, Counts(writing.nodes, writing.edges))
    return True


class _Batch:
    """One batch on its way in, and the counts after each step."""

    def __init__(self, run: Callable[..., neo4j.Record], notes: Notes, adopt: bool, url: str) -> None:
        assert notes.schema is not None
        assert notes.counts is not None
        self._run, self._schema, self._adopt, self._url = run, notes.schema, adopt, url
        self.nodes, self.edges = dict(notes.counts.nodes), dict(notes.counts.edges)

    def write(self, batch: Batch) -> None:
        for label, ids in batch.delete_nodes.items():
            self._delete_nodes(label, sorted(set(ids)))
        for label, table in batch.nodes.items():
            self._merge_nodes(label, table)
        for key, sources in batch.replace_edges_of.items():
            self._delete_edges(key, "source", sorted(set(sources)))
        for key, table in batch.delete_edges.items():
            self._delete_pairs(key, table)
        for key, table in batch.edges.items():
            columns = [name for name in table.column_names if name not in ("source", "target")]
            text, ordered = merge_edges(key, columns), table.select(["source", "target", *columns])
            for start in range(0, table.num_rows, ROWS):
                rows = rows_of(ordered, start)
                record = self._run(text, rows=rows)
                check_taken(record, {"rows": rows})
                self.edges[key] += record["new"]

    def _n(self, text: str, **values: Any) -> int:
        record = self._run(text, **values)
        check_taken(record, values)
        return int(record["n"])

    def _delete_nodes(self, label: str, ids: Sequence[str]) -> None:
        for key in self._schema.edges:
            for end in ("source", "target"):
                if getattr(key, end) == label:
                    self._delete_edges(key, end, ids)
        chosen = f"UNWIND $ids AS id MATCH (n:{quoted(label)} {{id: id}}) WHERE {MARKED.format('n')}"
        self.nodes[label] -= remove_nodes(self._n, label, self._schema.nodes[label], chosen, ids=ids)

    def _delete_edges(self, key: EdgeKey, end: str, ids: Sequence[str]) -> None:
        source, target = (" {id: id}" if end == name else "" for name in ("source", "target"))
        pattern = (
            f"MATCH (:{quoted(key.source)}{source})-[r:{quoted(key.relation)}]->(:{quoted(key.target)}{target}) "
            f"WHERE {MARKED.format('r')}"
        )
        self.edges[key] -= self._n(f"UNWIND $ids AS id {pattern} DELETE r RETURN count(*) AS n", ids=ids)

    def _delete_pairs(self, key: EdgeKey, table: pa.Table) -> None:
        pattern = (
            f"MATCH (:{quoted(key.source)} {{id: row[0]}})-[r:{quoted(key.relation)}]->"
            f"(:{quoted(key.target)} {{id: row[1]}}) WHERE {MARKED.format('r')}"
        )
        ordered = table.select(["source", "target"])
        for start in range(0, table.num_rows, ROWS):
            rows = rows_of(ordered, start)
            record = self._run(f"UNWIND $rows AS row {pattern} DELETE r RETURN count(*) AS n", rows=rows)
            self.edges[key] -= record["n"]

    def _merge_nodes(self, label: str, table: pa.Table) -> None:
        ids, pattern = table["id"].to_pylist(), f"UNWIND $ids AS id MATCH (n:{quoted(label)} {{id: id}})"
        take_back(self._n, label, table["id"])
        if not self._adopt and self._n(f"{pattern} WHERE n.{MARK} IS NULL RETURN count(n) AS n", ids=ids):
            raise StoreError(f"{self._url}: a {label} node there has an id of the batch and is not of this shop")
        known = self._n(f"{pattern} WHERE {MARKED.format('n')} RETURN count(n) AS n", ids=ids)
        columns = [name for name in table.column_names if name != "id"]
        text, ordered = merge_nodes(label, columns), table.select(["id", *columns])
        for start in range(0, table.num_rows, ROWS):
            self._n(text, rows=rows_of(ordered, start))
        self.nodes[label] += len(ids) - known
