"""A publication on a Neo4j server: each list is replaced in one transaction, so no reader ever finds an empty one.

Our edges carry MARK like the graph's own, so what removes a node takes them along, but no schema has their types. A
note names all that is ours before the first of it is written, and the version once the last of it is. Whoever publishes
holds the note by a token: a newer publication ends an older one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import neo4j
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import GraphError, StoreError
from ..loaders.catalogue import EdgeKey
from . import neo4j_read
from .bolt import Bolt, ask, in_lanes
from .neo4j_notes import Notes, notes_in
from .neo4j_write import ROWS, merge_edges, rows_of, run, until_done
from .schema import ARROW_TYPES, MARK, MARKED, META, RETIRED, quoted
from .writeback import (
    ENDS,
    NOTE,
    PROPERTIES,
    TABLE,
    Published,
    VectorKey,
    difference,
    of_note,
    renewed,
    to_note,
    whole_lists,
)

LANES = 4  # transactions with vectors in flight; edges share their ends, so they go one after the other
VECTORS = 200  # of a transaction: of 384 numbers 1,000 went in half as fast
INDEX_S = 600  # to wait until an index is filled
NODE = f"(m:{META} {{id: '{NOTE}'}})"
HOLD = f"MATCH {NODE} SET m.touched = timestamp() WITH m WHERE m.token = $token RETURN count(m) AS n"
T = TypeVar("T")


def read_published(bolt: Bolt) -> Published | None:
    """What stands there; its version is "" while a publication is unfinished."""
    note = bolt.reading(_note_in)
    if note is None:
        return None
    version, lists, vectors = note
    edges = {key: neo4j_read.count_edges(bolt, key) for key in lists}
    return Published(version, edges, {key: len(_ids_with(bolt, key)) for key in vectors})


def publish(
    bolt: Bolt, version: str, lists: Mapping[EdgeKey, pa.Table], vectors: Mapping[VectorKey, pa.Table], notes: Notes
) -> None:
    """Make these lists and vectors what is published; `notes` are the graph's.

    Raises:
        GraphError: relations or properties of these names are there and not ours.
        StoreError: another publication or a rebuild has begun meanwhile.
    """
    before, old_lists, old_vectors = bolt.reading(_note_in) or ("", [], [])
    _refuse_what_is_not_ours(bolt, lists, vectors.keys() - set(old_vectors))
    meanwhile = version if before == version else ""
    writing = _Writing(bolt, notes.generation, to_note(meanwhile, {*old_lists, *lists}, {*old_vectors, *vectors}))
    for key, ranked in lists.items():
        writing.replace_lists(key, ranked, version)
    for key in set(old_lists) - lists.keys():
        writing.remove_edges(key)
    for place, table in vectors.items():
        _declare_index(bolt, place, table["vector"].type.list_size)  # a filled property takes longer to index
        if before != version or len(_ids_with(bolt, place)) != table.num_rows:
            writing.replace_vectors(place, table)
        bolt.read("CALL db.awaitIndex($name, $seconds)", {"name": _index_name(place), "seconds": INDEX_S})
    for place in set(old_vectors) - vectors.keys():
        writing.remove_vectors(place)
    writing.send(f"MATCH {NODE} SET m.value = $note RETURN count(m) AS n", note=to_note(version, lists, vectors))


def withdraw(bolt: Bolt, notes: Notes) -> None:
    """Remove all that is ours, the note last; a relation the shop declares itself by now is the shop's."""
    note = bolt.reading(_note_in)
    if note is None:
        return
    _, lists, vectors = note
    writing = _Writing(bolt, notes.generation, to_note("", lists, vectors))
    for place in vectors:
        writing.remove_vectors(place)
    for key in lists:
        if notes.schema is None or key.relation not in notes.schema.relations():
            writing.remove_edges(key)
    writing.end()


class _Writing:
    """The right to publish, until somebody else takes it."""

    def __init__(self, bolt: Bolt, generation: int, note: str) -> None:
        self._bolt, self._generation, self._token = bolt, generation, secrets.token_hex(8)
        claim = f"MERGE {NODE} SET m.token = $token, m.value = $note"
        bolt.write(lambda transaction: ask(transaction, claim, token=self._token, note=note).consume())

    def replace_lists(self, key: EdgeKey, ranked: pa.Table, version: str) -> None:
        """Write what changes, the lists of a source together."""
        old = _read_lists(self._bolt, key)
        new, gone = difference(old, renewed(old, ranked, version))
        put, take = merge_edges(key, PROPERTIES), _delete_edges(key)

        def write(batch: tuple[pa.Table, pa.Table], transaction: neo4j.ManagedTransaction) -> None:
            for text, table in zip((put, take), batch, strict=True):  # what is new first: no list is ever empty
                for start in range(0, table.num_rows, ROWS):
                    run(transaction, text, generation=self._generation, rows=rows_of(table, start))

        for batch in whole_lists(new, gone, ROWS):
            self._in_one(partial(write, batch))

    def end(self) -> None:
        """Delete the note, if it is still ours; one that is gone was ours, in an attempt whose answer got lost."""

        def work(transaction: neo4j.ManagedTransaction) -> int:
            ask(transaction, f"MATCH {NODE} WHERE m.token = $token DELETE m", token=self._token).consume()
            return int(ask(transaction, f"MATCH {NODE} RETURN count(*) AS n").single(strict=True)["n"])

        if self._bolt.write(work):
            raise self._lost()

    def remove_edges(self, key: EdgeKey) -> None:
        """All of one relation."""
        pattern = f"MATCH ()-[r:{quoted(key.relation)}]->() WHERE {MARKED.format('r')}"
        until_done(self.send, f"{pattern} WITH r LIMIT $most DELETE r RETURN count(*) AS n")

    def replace_vectors(self, place: VectorKey, table: pa.Table) -> None:
        """Every vector of the table; nodes that have none there lose theirs."""
        label, name = place
        node = f"MATCH (n:{quoted(label)} {{id: row[0]}})"
        put = f"UNWIND $rows AS row {node} CALL db.create.setNodeVectorProperty(n, $name, row[1]) RETURN count(*) AS n"
        take = f"UNWIND $rows AS row {node} REMOVE n.{quoted(name)} RETURN count(*) AS n"
        in_lanes(
            lambda start: self.send(put, rows=rows_of(table.slice(start, VECTORS), 0), name=name),
            range(0, table.num_rows, VECTORS),
            LANES,
        )
        left = _ids_with(self._bolt, place) - set(table["id"].to_pylist())
        self.send(take, rows=[[id_] for id_ in sorted(left)])

    def remove_vectors(self, place: VectorKey) -> None:
        """Index and property, also of nodes that others hold on to."""
        label, name = place
        self._bolt.declare(f"DROP INDEX {quoted(_index_name(place))} IF EXISTS")
        for nodes in (f"(n:{quoted(label)}) WHERE {MARKED.format('n')}", f"(n:{RETIRED}) WHERE n._label = $label"):
            text = f"MATCH {nodes} AND n.{quoted(name)} IS NOT NULL WITH n LIMIT $most"
            until_done(self.send, f"{text} REMOVE n.{quoted(name)} RETURN count(*) AS n", label=label)

    def send(self, text: str, **values: Any) -> int:
        """A statement in a transaction of its own."""
        return self._in_one(lambda transaction: int(run(transaction, text, **values)["n"]))

    def _in_one(self, work: Callable[[neo4j.ManagedTransaction], T]) -> T:
        """One transaction, without effect when the right is lost or the graph is being rebuilt."""

        def held(transaction: neo4j.ManagedTransaction) -> T:
            result = work(transaction)
            notes = notes_in(transaction)
            if notes.unfinished:
                raise StoreError(f"{self._bolt.url}: {notes.complaint}")
            if not ask(transaction, HOLD, token=self._token).single(strict=True)["n"]:
                raise self._lost()
            return result

        return self._bolt.write(held)

    def _lost(self) -> StoreError:
        return StoreError(f"{self._bolt.url}: another publication has begun and ended this one; wait for it")


def _note_in(transaction: neo4j.ManagedTransaction) -> tuple[str, list[EdgeKey], list[VectorKey]] | None:
    record = ask(transaction, f"MATCH {NODE} RETURN m.value AS value").single()
    return of_note(record["value"]) if record else None


def _refuse_what_is_not_ours(bolt: Bolt, relations: Iterable[EdgeKey], new: Iterable[VectorKey]) -> None:
    """Edges of these relations without MARK, and properties that no note names."""
    for key in relations:
        text = f"MATCH ()-[r:{quoted(key.relation)}]->() WHERE r.{MARK} IS NULL RETURN count(r) AS n"
        others = bolt.read(text)[0]["n"]
        if others:
            raise GraphError(
                f"{bolt.url}: {others:,} {key.relation} relations there are not ours, and a publication is not mixed "
                "with them; rename those"
            )
    for label, name in new:
        if _ids_with(bolt, (label, name)):
            raise GraphError(f"{bolt.url}: {label} nodes there have a property {name!r} that is not ours; rename it")


def _read_lists(bolt: Bolt, key: EdgeKey) -> pa.Table:
    """What is published of one relation, as TABLE."""
    kinds = {name: ARROW_TYPES[kind] for name, kind in PROPERTIES.items()}
    edges = neo4j_read.edges(bolt, key, kinds, labels=True)
    for end, label in zip(ENDS, (key.source, key.target), strict=True):
        nodes = neo4j_read.nodes(bolt, label, {"id": pa.string()})
        edges = edges.append_column(end, nodes["id"].take(pc.index_in(edges[f"__{end}"], nodes["__id"])))
    return edges.select(TABLE.names).cast(TABLE)


def _delete_edges(key: EdgeKey) -> str:
    ends = [f"(:{quoted(label)} {{id: row[{n}]}})" for n, label in enumerate((key.source, key.target))]
    pattern = f"{ends[0]}-[r:{quoted(key.relation)}]->{ends[1]}"
    return f"UNWIND $rows AS row MATCH {pattern} WHERE {MARKED.format('r')} DELETE r RETURN count(*) AS n"


def _ids_with(bolt: Bolt, place: VectorKey) -> set[str]:
    """The nodes of ours that have the property."""
    label, name = place
    text = f"MATCH (n:{quoted(label)}) WHERE n.{quoted(name)} IS NOT NULL AND {MARKED.format('n')}"
    return set(bolt.read(f"{text} RETURN collect(n.id) AS ids")[0]["ids"])


def _index_name(place: VectorKey) -> str:
    return " ".join(("catalograph", *place))


def _declare_index(bolt: Bolt, place: VectorKey, dimensions: int) -> None:
    """A cosine index over the property; one of other dimensions is replaced."""
    label, column = place
    text = "SHOW VECTOR INDEXES YIELD name, options WHERE name = $name RETURN options.indexConfig AS config"
    found = bolt.read(text, {"name": _index_name(place)})
    name = quoted(_index_name(place))
    if found and found[0]["config"]["vector.dimensions"] != dimensions:
        bolt.declare(f"DROP INDEX {name} IF EXISTS")
    settings = f"{{indexConfig: {{`vector.dimensions`: {dimensions}, `vector.similarity_function`: 'cosine'}}}}"
    bolt.declare(
        f"CREATE VECTOR INDEX {name} IF NOT EXISTS FOR (n:{quoted(label)}) ON (n.{quoted(column)}) OPTIONS {settings}"
    )
