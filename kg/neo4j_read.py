"""How a graph gets out of Neo4j: counts, and columns as a few long lists instead of a record per node or edge."""

from __future__ import annotations

from collections.abc import Mapping

import neo4j
import pyarrow as pa

from ..loaders.catalogue import EdgeKey
from .bolt import Bolt
from .bulk import in_chunks
from .neo4j_notes import Notes
from .schema import MARKED, Schema, quoted
from .store import Counts


def count(bolt: Bolt, schema: Schema) -> Counts:
    """What is ours, counted one by one."""
    nodes = {label: _number(bolt, f"(n:{quoted(label)})", "n") for label in schema.nodes}
    return Counts(nodes, {key: count_edges(bolt, key) for key in schema.edges})


def count_edges(bolt: Bolt, key: EdgeKey) -> int:
    """How many edges of a relation are ours."""
    return _number(bolt, _pattern(key, labels=True), "r")


def counts(bolt: Bolt, notes: Notes) -> Counts:
    """The noted counts while the database's own totals agree with them, else counted one by one."""
    assert notes.schema is not None
    if notes.unfinished or notes.counts is None or _totals(bolt, notes.schema) != _sums(notes.counts):
        return count(bolt, notes.schema)
    return notes.counts


def nodes(bolt: Bolt, label: str, types: Mapping[str, pa.DataType]) -> pa.Table:
    """Internal ids as `__id` and the columns, in no order."""
    return _columns(bolt, f"(n:{quoted(label)})", "n", {"__id": "id(n)"}, types)


def edges(bolt: Bolt, key: EdgeKey, types: Mapping[str, pa.DataType], *, labels: bool) -> pa.Table:
    """Internal ids of the ends as `__source` and `__target`, and the columns, in no order.

    Without `labels` whatever relation of ours has this type, wherever it leads; that saves a third of the time.
    """
    ends = {"__source": "id(a)", "__target": "id(b)"}
    return _columns(bolt, _pattern(key, labels=labels), "r", ends, types)


def _pattern(key: EdgeKey, *, labels: bool) -> str:
    source, target = (f":{quoted(label)}" if labels else "" for label in (key.source, key.target))
    return f"(a{source})-[r:{quoted(key.relation)}]->(b{target})"


def _columns(
    bolt: Bolt, pattern: str, one: str, numbers: Mapping[str, str], types: Mapping[str, pa.DataType]
) -> pa.Table:
    """`numbers` are never null, so `collect` keeps them all; of properties it would drop the nulls."""
    lists = [f"collect({number}) AS c{place}" for place, number in enumerate(numbers.values())]
    kept = [f"c{place}" for place in range(len(numbers))]
    kept += [f"[x IN found | x.{quoted(name)}] AS c{place}" for place, name in enumerate(types, len(numbers))]
    text = f"WITH collect({one}) AS found, {', '.join(lists)} RETURN {', '.join(kept)}"
    fields = pa.schema([*((name, pa.int64()) for name in numbers), *types.items()])

    def table(record: neo4j.Record) -> pa.Table:
        return pa.table([pa.array(values, field.type) for values, field in zip(record, fields, strict=True)], fields)

    found = in_chunks(bolt, pattern, one, f"AND {MARKED.format(one)} {text}", table)
    return pa.concat_tables([fields.empty_table(), *found])


def _number(bolt: Bolt, pattern: str, one: str) -> int:
    return int(bolt.read(f"MATCH {pattern} WHERE {MARKED.format(one)} RETURN count(*) AS n")[0]["n"])


def _totals(bolt: Bolt, schema: Schema) -> dict[str, int]:
    """Nodes per label and relations per type, whoever's; the database keeps these numbers."""
    asked = {f"n {label}": f"(:{quoted(label)})" for label in schema.nodes}
    asked |= {f"r {relation}": f"()-[:{quoted(relation)}]->()" for relation in schema.relations()}
    if not asked:
        return {}
    text = ", ".join(f"COUNT {{ {pattern} }} AS c{place}" for place, pattern in enumerate(asked.values()))
    return dict(zip(asked, bolt.read(f"RETURN {text}")[0], strict=True))


def _sums(counts: Counts) -> dict[str, int]:
    found = {f"n {label}": n for label, n in counts.nodes.items()}
    for key, n in counts.edges.items():
        found[f"r {key.relation}"] = found.get(f"r {key.relation}", 0) + n
    return found
