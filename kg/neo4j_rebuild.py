"""A rebuild beside whoever reads: write what is new, sweep what is old, then declare it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import neo4j
import pyarrow as pa

from ..errors import StoreError
from ..loaders.catalogue import EdgeKey
from .bolt import Bolt, in_lanes
from .neo4j_notes import Claim, claim, constrain, constraint, finish, hold
from .neo4j_read import count
from .neo4j_write import (
    ROWS,
    Run,
    check_taken,
    merge_edges,
    merge_nodes,
    remove_nodes,
    rows_of,
    run,
    take_back,
    until_done,
)
from .schema import MARK, Schema, quoted
from .store import Counts

LANES = 2  # transactions with nodes in flight; edges share their ends, so they go one after the other


def rebuild(
    bolt: Bolt, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table], schema: Schema, *, adopt: bool
) -> Counts:
    """Make the graph that of the tables, whatever an earlier rebuild that was broken off has left."""
    if not adopt:
        _refuse_labels_of_others(bolt, schema)
    constrain(bolt, schema.nodes)
    claimed = claim(bolt, schema)
    send = partial(_claimed, bolt, claimed)
    for label, table in nodes.items():
        _write_nodes(send, claimed, label, table.select(["id", *schema.nodes[label]]))
    for key, table in edges.items():
        _write_edges(send, claimed, key, table.select(["source", "target", *schema.edges[key]]))
    _sweep(send, claimed)
    counts = count(bolt, schema)
    _compare(bolt, counts, nodes, edges)
    finish(bolt, claimed, schema, counts)
    for label in claimed.footprint.nodes.keys() - schema.nodes.keys():
        bolt.declare(f"DROP CONSTRAINT {constraint(label)} IF EXISTS")
    return counts


def _refuse_labels_of_others(bolt: Bolt, schema: Schema) -> None:
    for label in schema.nodes:
        text = f"MATCH (n:{quoted(label)}) WHERE n.{MARK} IS NULL RETURN count(n) AS n"
        others = bolt.read(text)[0]["n"]
        if others:
            raise StoreError(
                f"{bolt.url}: {others:,} {label} nodes there are not of this shop; give it a database of its own or "
                "another label, or say adopt = true under [store] to take those over whose id the shop has"
            )


def _claimed(bolt: Bolt, claimed: Claim, text: str, **values: Any) -> int:
    """A statement in a transaction of its own, which ends without effect when the claim is lost."""

    def work(transaction: neo4j.ManagedTransaction) -> int:
        record = run(transaction, text, generation=claimed.generation, **values)
        hold(transaction, claimed, bolt.url)
        check_taken(record, values)
        return int(record["n"])

    return bolt.write(work)


def _write_nodes(send: Run, claimed: Claim, label: str, table: pa.Table) -> None:
    take_back(send, label, table["id"])
    _, *columns = table.column_names
    text = merge_nodes(label, columns, claimed.footprint.nodes[label].keys() - columns)
    in_lanes(lambda start: send(text, rows=rows_of(table, start)), range(0, table.num_rows, ROWS), LANES)


def _write_edges(send: Run, claimed: Claim, key: EdgeKey, table: pa.Table) -> None:
    _, _, *columns = table.column_names
    text = merge_edges(key, columns, claimed.footprint.edges[key].keys() - columns)
    ordered = table.sort_by("source")  # edges of one source lie side by side then, and are read side by side
    for start in range(0, table.num_rows, ROWS):
        send(text, rows=rows_of(ordered, start))


def _sweep(send: Run, claimed: Claim) -> None:
    """Remove what older generations left."""
    for relation in claimed.footprint.relations():
        pattern = f"MATCH ()-[r:{quoted(relation)}]->() WHERE r.{MARK} < $generation"
        until_done(send, f"{pattern} WITH r LIMIT $most DELETE r RETURN count(*) AS n")
    for label, columns in claimed.footprint.nodes.items():
        remove_nodes(send, label, columns, f"MATCH (n:{quoted(label)}) WHERE n.{MARK} < $generation")


def _compare(bolt: Bolt, counts: Counts, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table]) -> None:
    there = {**counts.nodes, **{"-".join(key): n for key, n in counts.edges.items()}}
    given = {**nodes, **{"-".join(key): table for key, table in edges.items()}}
    for what, table in given.items():
        if there[what] != table.num_rows:
            raise StoreError(
                f"{bolt.url}: {there[what]:,} {what} are there, {table.num_rows:,} were given; somebody else writes "
                "there, run it again"
            )
