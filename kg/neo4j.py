"""The store on a Neo4j server, in production: a graph beside those of others, one shop per database.

Readers never wait: a rebuild writes into the graph they read and sweeps afterwards. `generation` tells when what they
read has moved. Why and how: docs/decisions/0007-neo4j-generations.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import QueryError, StoreError, UnknownIdError
from ..loaders.catalogue import EdgeKey
from . import neo4j_batch, neo4j_read, neo4j_rebuild, neo4j_writeback, worker
from .bolt import Bolt
from .checks import check_graph
from .neo4j_answer import answer
from .neo4j_notes import Notes, complete_import, holds_batch, read_notes
from .readonly import check
from .schema import ARROW_TYPES, Schema
from .store import Batch, Counts, EdgeArrays, Parameters, numpy_of
from .writeback import Publication, Published, check_publication, within_graph

TRIES = 5  # to read something that does not change meanwhile
T = TypeVar("T")


class Neo4jStore:
    """The graph of one shop in one database of a Neo4j 5.26 or 2025 server, Community or Enterprise."""

    dialect: ClassVar[str] = "neo4j"

    def __init__(self, url: str, *, adopt: bool = False) -> None:
        """Connects at the first use; `adopt` takes over nodes of others that have our labels and ids."""
        self._bolt, self._url, self._adopt = Bolt(url), url, adopt
        self._ids: dict[str, tuple[int, pa.ChunkedArray]] = {}  # label: generation, internal ids in rows of nodes()

    def __repr__(self) -> str:
        return f"Neo4jStore({self._bolt.url!r})"

    def rebuild(self, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table]) -> Counts:
        """See :class:`~catalograph.kg.store.GraphStore`; meanwhile readers see old facts and new ones.

        Raises:
            StoreError: also when it was broken off. Then both are there until the next rebuild, which ends it.
        """
        schema = check_graph(nodes, edges)
        try:
            return neo4j_rebuild.rebuild(self._bolt, nodes, edges, schema, adopt=self._adopt)
        except QueryError as e:
            raise StoreError(f"{self._bolt.url}: not written to the end ({e}); run it again") from None

    def apply(self, batch: Batch) -> Counts:
        """See :class:`~catalograph.kg.store.GraphStore`."""
        self.generation()
        try:
            neo4j_batch.apply(self._bolt, batch, adopt=self._adopt)
        except QueryError as e:
            raise StoreError(f"{self._bolt.url}: batch {batch.id!r} is not written ({e})") from None
        return self.counts()

    def holds(self, batch: str) -> bool:
        """See :class:`~catalograph.kg.store.GraphStore`."""
        return self._bolt.reading(lambda transaction: holds_batch(transaction, batch))

    def schema(self) -> Schema:
        """As noted by the last rebuild that was finished."""
        return self._schema_of(self._notes())

    def counts(self) -> Counts:
        """Nodes per label, edges per relation; during a rebuild old and new ones together."""
        notes = self._notes()
        self._schema_of(notes)
        return neo4j_read.counts(self._bolt, notes)

    def generation(self) -> int:
        """See :class:`~catalograph.kg.store.GraphStore`.

        Raises:
            StoreError: a rebuild is under way or was broken off, so there is no one state to read.
        """
        notes = self._notes()
        if notes.unfinished:
            raise StoreError(f"{self._bolt.url}: {notes.complaint}")
        self._schema_of(notes)
        if notes.imported:
            notes = complete_import(self._bolt, notes)
        return notes.generation

    def nodes(self, label: str, columns: Sequence[str] = ()) -> pa.Table:
        """`id` and columns, sorted by id."""
        return self._steady(lambda notes: self._nodes(notes, label, columns))

    def _nodes(self, notes: Notes, label: str, columns: Sequence[str]) -> pa.Table:
        kinds = self._schema_of(notes).nodes.get(label)
        if kinds is None:
            raise UnknownIdError(f"the graph has no label {label!r}")
        types = {name: ARROW_TYPES[kinds[name]] for name in columns}
        table = neo4j_read.nodes(self._bolt, label, {"id": pa.string(), **types})
        table = table.take(pc.sort_indices(table["id"]))  # bytes of UTF-8 sort as code points do
        self._ids[label] = notes.generation, table["__id"]
        return table.select(["id", *columns])

    def edges(self, key: EdgeKey, columns: Sequence[str] = ()) -> EdgeArrays:
        """Integer lists of internal ids, mapped to rows; as many as the store counts, or an error."""
        return self._steady(lambda notes: self._edges(notes, key, columns))

    def _edges(self, notes: Notes, key: EdgeKey, columns: Sequence[str]) -> EdgeArrays:
        schema = self._schema_of(notes)
        if notes.unfinished:
            raise StoreError(f"{self._bolt.url}: {notes.complaint}")
        kinds = schema.edges.get(key)
        if kinds is None:
            raise UnknownIdError(f"the graph has no relation {'-'.join(key)}")
        for label in {key.source, key.target}:
            if self._ids.get(label, (None,))[0] != notes.generation:
                self._nodes(notes, label, ())
        types = {name: ARROW_TYPES[kinds[name]] for name in columns}
        several = len(schema.relations()[key.relation]) > 1
        table = neo4j_read.edges(self._bolt, key, types, labels=several)
        source, target = (
            pc.index_in(table[end], self._ids[label][1])
            for end, label in (("__source", key.source), ("__target", key.target))
        )
        ours = pc.and_(pc.is_valid(source), pc.is_valid(target))  # a relation of ours may lead to a node of others
        if not pc.all(ours).as_py():
            table, source, target = table.filter(ours), source.filter(ours), target.filter(ours)
        self._check_number(notes, key, table.num_rows)
        rows = [end.to_numpy().astype(np.int64) for end in (source, target)]
        order = np.argsort(rows[0] * (len(self._ids[key.target][1]) + 1) + rows[1], kind="stable")
        values = {name: numpy_of(table[name])[order] for name in columns}
        return EdgeArrays(rows[0][order], rows[1][order], values)

    def _check_number(self, notes: Notes, key: EdgeKey, found: int) -> None:
        """Against what is noted; against the database itself where others have had their hands in it."""
        if notes.counts is None or notes.counts.edges[key] != found:
            counted = neo4j_read.count_edges(self._bolt, key)
            if counted != found:
                raise StoreError(f"{self._bolt.url}: {key.relation} has {counted} edges, {found} came out; try again")

    def _steady(self, read: Callable[[Notes], T]) -> T:
        """What `read` finds while the graph stands still; tried again when it has moved meanwhile."""
        for _ in range(TRIES):
            notes = self._notes()
            try:
                found = read(notes)
            except StoreError:
                if self._notes() == notes:
                    raise
                continue
            if self._notes() == notes:
                return found
        raise StoreError(f"{self._bolt.url}: the graph changed {TRIES} times while it was read; try again later")

    def run(self, text: str, parameters: Parameters, *, timeout_s: float = 30.0) -> pa.Table:
        """One of our own read queries."""
        return answer(self._bolt, text, parameters, timeout_s=timeout_s)

    def analyst(
        self, text: str, parameters: Parameters, *, timeout_s: float = 30.0, max_rows: int = 10_000
    ) -> pa.Table:
        """Typed text, behind the gate, in a transaction that may only read and a process that can be killed."""
        self._notes()  # a server that is down is told apart from a bad query
        return worker.ask(self._url, check(text, parameters), parameters, timeout_s=timeout_s, max_rows=max_rows)

    def publish(self, publication: Publication) -> Published:
        """See :class:`~catalograph.kg.store.GraphStore`; a reader finds some lists old and some new meanwhile.

        Raises:
            StoreError: also when it was broken off; publishing again ends it.
        """
        notes = self._notes()
        check_publication(publication, self._schema_of(notes))
        if notes.unfinished:
            raise StoreError(f"{self._bolt.url}: {notes.complaint}")
        lists, vectors = within_graph(publication, lambda label: self.nodes(label)["id"])
        try:
            neo4j_writeback.publish(self._bolt, publication.version, lists, vectors, notes)
        except QueryError as e:
            raise StoreError(f"{self._bolt.url}: not published to the end ({e}); run it again") from None
        published = self.published()
        assert published is not None
        return published

    def published(self) -> Published | None:
        """As noted, counted in the graph."""
        return neo4j_writeback.read_published(self._bolt)

    def withdraw(self) -> None:
        """Remove it list by list; broken off, it is ended by running it again."""
        try:
            neo4j_writeback.withdraw(self._bolt, self._notes())
        except QueryError as e:
            raise StoreError(f"{self._bolt.url}: not taken out to the end ({e}); run it again") from None

    def close(self) -> None:
        """Let go of the connections."""
        self._bolt.close()
        self._ids.clear()

    def _notes(self) -> Notes:
        return read_notes(self._bolt)

    def _schema_of(self, notes: Notes) -> Schema:
        if notes.schema is None:
            raise StoreError(f"{self._bolt.url}: {notes.complaint}")
        return notes.schema
