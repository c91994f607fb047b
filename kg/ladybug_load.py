"""How a graph gets into a LadybugDB file: declarations and COPY for a fresh one, LOAD FROM … MERGE for a batch.

COPY is not in the engine's log, so it only ever fills a fresh file; UNWIND and comma patterns plan cross products, so
every end of an edge has a MATCH of its own (docs/decisions/0002-ladybug-pin.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ..errors import StoreError
from ..loaders.catalogue import EdgeKey
from .engine import ask, connected, execute
from .schema import ARROW_TYPES, META, ColumnType, Schema, quoted
from .store import Batch, Counts

TYPES: Mapping[ColumnType, str] = {"bool": "BOOL", "int64": "INT64", "float64": "DOUBLE", "string": "STRING"}
NO_PAIR = EdgeKey(META, "", META)  # never has an edge


def create(database: Any, schema: Schema) -> None:
    """Tables, the two macros that Neo4j has as functions, and one node that keeps the schema readable."""
    execute(database, f"CREATE NODE TABLE {META}(id STRING, value STRING, PRIMARY KEY(id))")
    for label, columns in schema.nodes.items():
        execute(database, f"CREATE NODE TABLE {quoted(label)}(id STRING{_declared(columns)}, PRIMARY KEY(id))")
    for relation, keys in schema.relations().items():
        # A type with one pair of labels would answer OPTIONAL MATCH against its direction as if it went that way.
        ends = ", ".join(f"FROM {quoted(key.source)} TO {quoted(key.target)}" for key in (*keys, NO_PAIR))
        execute(database, f"CREATE REL TABLE {quoted(relation)}({ends}{_declared(schema.unified(relation))})")
    execute(database, "CREATE MACRO type(r) AS label(r)")
    execute(database, "CREATE MACRO toInteger(x) AS CAST(x AS INT64)")
    execute(database, f"CREATE (:{META} {{id: 'schema', value: $value}})", {"value": schema.to_json()})


def read_schema(database: Any) -> Schema | None:
    """What :func:`create` kept."""
    rows = execute(database, f"MATCH (m:{META} {{id: 'schema'}}) RETURN m.value AS value").to_pylist()
    return Schema.from_json(rows[0]["value"]) if rows else None


def copy(database: Any, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table], schema: Schema) -> None:
    """Fill a fresh file."""
    for label, table in nodes.items():
        if table.num_rows:
            ordered = table.select(["id", *schema.nodes[label]])
            execute(database, f"COPY {quoted(label)} FROM $rows", {"rows": ordered})
    for key, table in edges.items():
        if table.num_rows:
            ordered = _with_all(table, schema.unified(key.relation))
            text = f"COPY {quoted(key.relation)} FROM $rows (from='{key.source}', to='{key.target}')"
            execute(database, text, {"rows": ordered})


def count(database: Any, schema: Schema) -> Counts:
    """Nodes per label and edges per relation, counted by the engine."""
    nodes = {label: _number(database, f"MATCH (n:{quoted(label)}) RETURN count(*) AS n") for label in schema.nodes}
    return Counts(nodes, {key: count_edges(database, key) for key in schema.edges})


def count_edges(database: Any, key: EdgeKey) -> int:
    """The edges of one relation, counted by the engine."""
    return _number(database, f"MATCH {pattern(key)} RETURN count(*) AS n")


def holds_batch(database: Any, id_: str) -> bool:
    """Whether :func:`merge` has written this batch."""
    text = f"MATCH (m:{META} {{id: $id}}) RETURN m.id AS id"
    return bool(execute(database, text, {"id": f"batch:{id_}"}).num_rows)


def merge(database: Any, batch: Batch) -> None:
    """Write a checked batch in one transaction, its marker last."""
    with connected(database) as connection:
        ask(connection, "BEGIN TRANSACTION")
        for label, ids in batch.delete_nodes.items():
            _load(connection, [list(ids)], f"MATCH (n:{quoted(label)} {{id: c0}}) DETACH DELETE n")
        for label, table in batch.nodes.items():
            _merge_nodes(connection, label, table)
        for key, sources in batch.replace_edges_of.items():
            _load(connection, [list(sources)], f"MATCH {pattern(key, 'c0')} DELETE r")
        for key, table in batch.delete_edges.items():
            _load(connection, [table["source"], table["target"]], f"MATCH {pattern(key, 'c0', 'c1')} DELETE r")
        for key, table in batch.edges.items():
            _merge_edges(connection, key, table)
        ask(connection, f"CREATE (:{META} {{id: $id, value: ''}})", {"id": f"batch:{batch.id}"})
        ask(connection, "COMMIT")


def pattern(key: EdgeKey, source: str = "", target: str = "") -> str:
    """`(a:S)-[r:R]->(b:T)`, with the ends' ids where given."""
    ends = [f"{{id: {column}}}" if column else "" for column in (source, target)]
    return (
        f"(a:{quoted(key.source)} {ends[0]})-[r:{quoted(key.relation)}]->(b:{quoted(key.target)} {ends[1]})"
    ).replace(" )", ")")


def _merge_nodes(connection: Any, label: str, table: pa.Table) -> None:
    columns = [name for name in table.column_names if name != "id"]
    node = f"(n:{quoted(label)} {{id: c0}})"
    values = [table[name] for name in ("id", *columns)]
    _load(connection, values, f"MERGE {node}{_set('n', columns, 1)}")
    _check(connection, values[:1], f"MATCH {node}", label)


def _merge_edges(connection: Any, key: EdgeKey, table: pa.Table) -> None:
    columns = [name for name in table.column_names if name not in ("source", "target")]
    values = [table[name] for name in ("source", "target", *columns)]
    ends = f"MATCH (a:{quoted(key.source)} {{id: c0}}) MATCH (b:{quoted(key.target)} {{id: c1}})"
    _load(connection, values, f"{ends} MERGE (a)-[r:{quoted(key.relation)}]->(b){_set('r', columns, 2)}")
    _check(connection, values[:2], f"MATCH {pattern(key, 'c0', 'c1')}", key.relation)


def _load(connection: Any, columns: Sequence[Any], text: str) -> pa.Table | None:
    """Columns become c0, c1, …, which clash with no word of the language."""
    rows = pa.table({f"c{n}": column for n, column in enumerate(columns)})
    return ask(connection, f"LOAD FROM $rows {text}", {"rows": rows}) if rows.num_rows else None


def _check(connection: Any, columns: Sequence[Any], text: str, what: str) -> None:
    """Every row of the batch must be found again before it is committed."""
    found = _load(connection, columns, f"{text} RETURN count(*) AS n")
    if found is not None and found["n"][0].as_py() != len(columns[0]):
        raise StoreError(f"{what}: {len(columns[0])} rows written, {found['n'][0].as_py()} found; nothing was changed")


def _set(variable: str, columns: Sequence[str], first: int) -> str:
    values = ", ".join(f"{variable}.{quoted(name)} = c{n}" for n, name in enumerate(columns, first))
    return f" SET {values}" if values else ""


def _declared(columns: Mapping[str, ColumnType]) -> str:
    return "".join(f", {quoted(name)} {TYPES[kind]}" for name, kind in columns.items())


def _with_all(table: pa.Table, columns: Mapping[str, ColumnType]) -> pa.Table:
    """Columns that only other label pairs of the relation have are missing values here."""
    for name, kind in columns.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, ARROW_TYPES[kind]))
    return table.select(["source", "target", *columns])


def _number(database: Any, text: str) -> int:
    return int(execute(database, text)["n"][0].as_py())
