"""The node in which a Neo4j store keeps its notes: schema, counts, generation, and who is rebuilding.

A rebuild takes many transactions. It claims the node with a token of its own, and each of its transactions ends by
locking the node and looking whether the token still stands; so the newest claim wins, whatever became of the process
that held the last one, and nothing an older rebuild sends arrives after it has lost.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import neo4j

from ..errors import StoreError
from ..loaders.catalogue import EdgeKey
from .bolt import Bolt, ask
from .schema import META, Schema, quoted
from .store import Counts

NODE = f"(m:{META} {{id: 'graph'}})"
LOCK = f"MATCH {NODE} SET m.touched = timestamp()"  # held to the end of the transaction; read after it, not before


@dataclass(frozen=True)
class Notes:
    """What the node says.

    generation: moves with every change that was finished. schema, counts: of the last finished state; None before the
    first one. imported: that state came from files, and its constraints are missing. footprint: everything an
    unfinished rebuild may have left, or None when there is none; it began at `since`, ms UTC, and writes generation
    `writing`.
    """

    generation: int = 0
    schema: Schema | None = None
    counts: Counts | None = None
    writing: int | None = None
    footprint: Schema | None = None
    since: int = 0
    imported: bool = False

    @property
    def unfinished(self) -> str:
        """When the rebuild that is not finished began; "" when there is none."""
        if self.footprint is None:
            return ""
        return datetime.fromtimestamp(self.since / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")

    @property
    def complaint(self) -> str:
        """Why there is no one state to read or to change."""
        if self.unfinished:
            return (
                f"a rebuild began {self.unfinished} and is under way, or was broken off; wait for it or run "
                "`catalograph rebuild` again"
            )
        return "no graph here; run `catalograph rebuild SHOP.toml --store URL` first"


@dataclass(frozen=True)
class Claim:
    """The right to rebuild: `generation` is the mark of what it writes, `footprint` what may be there to sweep."""

    token: str
    generation: int
    footprint: Schema


def read_notes(bolt: Bolt) -> Notes:
    """The notes; empty ones in a database we have not written to."""
    return bolt.reading(notes_in)


def notes_in(transaction: neo4j.ManagedTransaction) -> Notes:
    """The notes, inside a transaction."""
    record = ask(transaction, f"MATCH {NODE} RETURN properties(m) AS m").single()
    kept: dict[str, Any] = record["m"] if record else {}
    schema, counts, footprint = (kept.get(name) for name in ("schema", "counts", "footprint"))
    return Notes(
        kept.get("generation", 0),
        Schema.from_json(schema) if schema else None,
        _counts(counts) if counts else None,
        kept.get("writing"),
        Schema.from_json(footprint) if footprint else None,
        kept.get("since", 0),
        kept.get("imported", False),
    )


def claim(bolt: Bolt, schema: Schema) -> Claim:
    """Begin a rebuild; one that is under way elsewhere ends at its next transaction."""
    token = secrets.token_hex(8)

    def work(transaction: neo4j.ManagedTransaction) -> Claim:
        ask(transaction, f"MERGE {NODE} SET m.touched = timestamp()").consume()
        notes = notes_in(transaction)
        left = [found for found in (notes.schema, notes.footprint) if found is not None]
        claimed = Claim(token, max(notes.generation, notes.writing or 0) + 1, _together(*left, schema))
        values = {"token": token, "writing": claimed.generation, "footprint": claimed.footprint.to_json()}
        text = "SET m.token = $token, m.writing = $writing, m.footprint = $footprint, m.since = timestamp()"
        ask(transaction, f"MATCH {NODE} {text}", values).consume()
        return claimed

    return bolt.write(work)


def hold(transaction: neo4j.ManagedTransaction, claimed: Claim, url: str) -> None:
    """The last statement of each transaction of a rebuild.

    Raises:
        StoreError: a newer rebuild has taken over.
    """
    text = f"{LOCK} WITH m WHERE m.token = $token RETURN count(m) AS n"
    if not ask(transaction, text, token=claimed.token).single(strict=True)["n"]:
        raise StoreError(f"{url}: another rebuild of this graph has begun, so this one has ended; wait for that one")


def finish(bolt: Bolt, claimed: Claim, schema: Schema, counts: Counts) -> None:
    """What was built becomes what the store declares; batches of before are forgotten."""
    values = {"generation": claimed.generation, "schema": schema.to_json(), "counts": _json(counts)}

    def work(transaction: neo4j.ManagedTransaction) -> None:
        if notes_in(transaction).generation == claimed.generation:
            return  # an attempt whose answer got lost was this far already
        hold(transaction, claimed, bolt.url)
        ask(transaction, f"MATCH (b:{META}) WHERE b.id STARTS WITH 'batch:' DELETE b").consume()
        text = "SET m.generation = $generation, m.schema = $schema, m.counts = $counts"
        ask(
            transaction, f"MATCH {NODE} {text} REMOVE m.token, m.writing, m.footprint, m.since, m.imported", values
        ).consume()

    bolt.write(work)


def holds_batch(transaction: neo4j.ManagedTransaction, id_: str) -> bool:
    """Whether a batch was applied since the last rebuild."""
    text = f"MATCH (b:{META} {{id: $id}}) RETURN count(b) AS n"
    return bool(ask(transaction, text, id=f"batch:{id_}").single(strict=True)["n"])


def note_batch(transaction: neo4j.ManagedTransaction, id_: str, generation: int, counts: Counts) -> None:
    """A batch was applied, in the same transaction."""
    text = f"MATCH {NODE} SET m.generation = $generation, m.counts = $counts CREATE (:{META} {{id: $id}})"
    ask(transaction, text, id=f"batch:{id_}", generation=generation, counts=_json(counts)).consume()


def imported_notes(schema: Schema, counts: Counts, generation: int) -> dict[str, Any]:
    """The properties of the node where a graph comes from files, which can declare no constraint."""
    kept = {"id": "graph", "generation": generation, "schema": schema.to_json(), "counts": _json(counts)}
    return {**kept, "imported": True}


def constrain(bolt: Bolt, labels: Iterable[str]) -> None:
    """Declare that ids are unique, for our notes as well; where they are not, the server says so."""
    for label in (META, *labels):
        rule = f"FOR (n:{quoted(label)}) REQUIRE n.id IS UNIQUE"
        bolt.declare(f"CREATE CONSTRAINT {constraint(label)} IF NOT EXISTS {rule}")


def constraint(label: str) -> str:
    """The name of the constraint on a label's ids."""
    return quoted(f"catalograph {label}")


def complete_import(bolt: Bolt, notes: Notes) -> Notes:
    """What a graph from files still lacks."""
    assert notes.schema is not None
    constrain(bolt, notes.schema.nodes)
    bolt.write(lambda transaction: ask(transaction, f"MATCH {NODE} REMOVE m.imported").consume())
    return replace(notes, imported=False)


def _together(*schemas: Schema) -> Schema:
    """Every label, relation and column of any of them."""
    nodes: dict[str, dict[str, Any]] = {}
    edges: dict[EdgeKey, dict[str, Any]] = {}
    for schema in schemas:
        for label, columns in schema.nodes.items():
            nodes.setdefault(label, {}).update(columns)
        for key, columns in schema.edges.items():
            edges.setdefault(key, {}).update(columns)
    return Schema(nodes, edges)


def _json(counts: Counts) -> str:
    return json.dumps({"nodes": dict(counts.nodes), "edges": [[list(key), n] for key, n in counts.edges.items()]})


def _counts(text: str) -> Counts:
    kept = json.loads(text)
    return Counts(kept["nodes"], {EdgeKey(*key): n for key, n in kept["edges"]})
