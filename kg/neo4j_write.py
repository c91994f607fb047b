"""The statements that change a Neo4j graph, for rebuilds and batches alike.

What we write carries the generation it was last written in (MARK); whatever has none belongs to others and is never
touched. Why it is done so: docs/decisions/0007-neo4j-generations.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import neo4j
import pyarrow as pa

from ..errors import StoreError
from ..loaders.catalogue import EdgeKey
from .bolt import ask
from .schema import MARK, MARKED, RETIRED, quoted

ROWS = 10_000  # of a statement: 2,000 and 40,000 were slower


Run = Callable[..., int]  # (text, **values): runs a statement, `$generation` being set, and gives its `n`


def run(transaction: neo4j.ManagedTransaction, text: str, **values: Any) -> neo4j.Record:
    """The one record of a statement."""
    return ask(transaction, text, values).single(strict=True)


def check_taken(record: neo4j.Record, values: Mapping[str, Any]) -> None:
    """Raises StoreError when a statement was given rows and has not found the nodes of them all."""
    sent = len(values.get("rows", ()))
    if sent and record["n"] != sent:
        raise StoreError(f"of {sent:,} rows {record['n']:,} found their nodes; does somebody else remove them?")


def rows_of(table: pa.Table, start: int) -> list[list[Any]]:
    """ROWS rows from `start` on, as parameters."""
    columns = [column.to_pylist() for column in table.slice(start, ROWS).columns]
    return list(map(list, zip(*columns, strict=True)))


def merge_nodes(label: str, columns: Iterable[str], gone: Iterable[str] = ()) -> str:
    """Rows are (id, *columns); columns that are `gone` are removed."""
    values = [f"n.{quoted(name)} = row[{place}]" for place, name in enumerate(columns, 1)]
    values += [f"n.{quoted(name)} = null" for name in sorted(gone)]
    marked = ", ".join([f"n.{MARK} = $generation", *values])
    return f"UNWIND $rows AS row MERGE (n:{quoted(label)} {{id: row[0]}}) SET {marked} RETURN count(*) AS n"


def merge_edges(key: EdgeKey, columns: Iterable[str], gone: Iterable[str] = ()) -> str:
    """Rows are (source, target, *columns). MERGE would take a relation of others between the same nodes for ours."""
    given = [(quoted(name), f"row[{place}]") for place, name in enumerate(columns, 2)]
    made = ", ".join([f"{MARK}: $generation", *(f"{name}: {value}" for name, value in given)])
    given += [(quoted(name), "null") for name in sorted(gone)]
    changed = ", ".join([f"r.{MARK} = $generation", *(f"r.{name} = {value}" for name, value in given)])
    arrow = f"[r:{quoted(key.relation)}]"
    return (
        "UNWIND $rows AS row "
        f"MATCH (a:{quoted(key.source)} {{id: row[0]}}) MATCH (b:{quoted(key.target)} {{id: row[1]}}) "
        f"WITH row, a, b, [(a)-{arrow}->(b) WHERE {MARKED.format('r')} | r] AS known "
        f"FOREACH (r IN known[..1] | SET {changed}) "
        f"FOREACH (_ IN CASE WHEN known = [] THEN [1] ELSE [] END | "
        f"CREATE (a)-[:{quoted(key.relation)} {{{made}}}]->(b)) "
        "RETURN count(*) AS n, sum(CASE WHEN known = [] THEN 1 ELSE 0 END) AS new"
    )


def remove_nodes(run: Run, label: str, columns: Iterable[str], chosen: str, **values: Any) -> int:
    """Take the `chosen` nodes n out of the graph; how many they were.

    A node that others hold on to, by a relation or a label, stays without our label and columns. The plain DELETE
    fails, and with it the transaction, should one have come to hold on meanwhile.
    """
    ours = f"{chosen} MATCH (n)-[r]-() WHERE {MARKED.format('r')} WITH DISTINCT r LIMIT $most DELETE r"
    until_done(run, f"{ours} RETURN count(*) AS n", **values)
    stripped = "".join(f", n.{quoted(name)}" for name in columns)
    held = (
        f"{chosen} WITH n WHERE size(labels(n)) > 1 OR EXISTS {{ (n)--() }} WITH n LIMIT $most "
        f"SET n:{RETIRED}, n._label = $label REMOVE n:{quoted(label)}, n.{MARK}{stripped} RETURN count(*) AS n"
    )
    retired = until_done(run, held, label=label, **values)
    return retired + until_done(run, f"{chosen} WITH n LIMIT $most DELETE n RETURN count(*) AS n", **values)


def until_done(run: Run, text: str, **values: Any) -> int:
    """Run a statement that does `$most` things at a time until it finds no more; how many it did."""
    total = 0
    while found := run(text, most=ROWS, **values):
        total += found
    return total


def take_back(run: Run, label: str, ids: pa.ChunkedArray) -> None:
    """A retired node whose id the shop has again is ours again, with what others hung on it."""
    pattern = f"MATCH (n:{RETIRED} {{_label: $label}})"
    if run(f"{pattern} RETURN count(n) AS n", label=label):
        text = f"SET n:{quoted(label)}, n.{MARK} = $generation REMOVE n:{RETIRED}, n._label RETURN count(*) AS n"
        run(f"{pattern} WHERE n.id IN $ids {text}", label=label, ids=ids.to_pylist())
