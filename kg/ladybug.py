"""The embedded store on LadybugDB, pinned to 0.20.4. The file is a projection: it can always be rebuilt.

Why the code looks as it does (docs/decisions/0002-ladybug-pin.md): COPY only into a fresh file that is then renamed in,
a new connection per statement with data, results by `get_as_arrow` with the row count checked, no parallel edges.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ladybug
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import GraphError, QueryError, StoreError, UnknownIdError
from ..loaders.catalogue import EdgeKey
from .checks import check_graph
from .readonly import check
from .schema import ColumnType, Schema
from .store import Counts, EdgeArrays, Parameters

BUFFER_BYTES = 1 << 30  # the engine's default is 80 % of the machine's memory
TYPES: Mapping[ColumnType, str] = {"bool": "BOOL", "int64": "INT64", "float64": "DOUBLE", "string": "STRING"}
META = "CatalographMeta"  # the one node that keeps the schema


def quoted(name: str) -> str:
    """A label, relation or property for Cypher text; names come from a checked schema, back-ticks guard words."""
    if "`" in name or "\\" in name:
        raise GraphError(f"{name!r} cannot be a name in the graph")
    return f"`{name}`"


class LadybugStore:
    """A graph in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._database: Any = None

    def rebuild(self, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table]) -> Counts:
        """See :class:`~catalograph.kg.store.GraphStore`; the new file is complete before it takes the old one's place."""
        schema = Schema.of(nodes, edges)
        check_graph(nodes, edges)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(self._path.name + ".part")
        _remove(part)
        database = ladybug.Database(str(part), buffer_pool_size=BUFFER_BYTES)
        try:
            _create(database, schema)
            _copy(database, nodes, edges, schema)
            counts = _counts(database, schema)
            wanted = Counts({k: t.num_rows for k, t in nodes.items()}, {k: t.num_rows for k, t in edges.items()})
            if counts != wanted:
                raise StoreError(f"{self._path}: the engine stored {counts}, given {wanted}; the old graph stays")
            _execute(database, "CHECKPOINT")
        finally:
            database.close()
        with part.open("rb") as handle:
            os.fsync(handle.fileno())
        self.close()
        os.replace(part, self._path)
        _remove(part)
        return counts

    def schema(self) -> Schema:
        """Read back from the file itself."""
        rows = self._table(f"MATCH (m:{META}) RETURN m.value AS value").to_pylist()
        if not rows:
            raise StoreError(f"{self._path}: no schema inside; run `catalograph rebuild --full`")
        kept = json.loads(rows[0]["value"])
        return Schema(kept["nodes"], {EdgeKey(*key): columns for key, columns in kept["edges"]})

    def counts(self) -> Counts:
        """Nodes per label, edges per relation."""
        return _counts(self._open(), self.schema())

    def nodes(self, label: str, columns: Sequence[str] = ()) -> pa.Table:
        """`id` and columns, sorted by id."""
        return self._nodes(label, columns).drop_columns(["__offset"])

    def _nodes(self, label: str, columns: Sequence[str]) -> pa.Table:
        if label not in self.schema().nodes:
            raise UnknownIdError(f"the graph has no label {label!r}")
        names = ["id", *columns]
        wanted = ", ".join(f"n.{quoted(name)} AS {quoted('c_' + name)}" for name in names)
        table = self._table(f"MATCH (n:{quoted(label)}) RETURN {wanted}, offset(id(n)) AS `__offset`")
        table = table.rename_columns([*names, "__offset"])
        order = np.argsort(np.asarray(table["id"].to_pylist(), dtype=object), kind="stable")
        return table.take(pa.array(order))

    def edges(self, key: EdgeKey, columns: Sequence[str] = ()) -> EdgeArrays:
        """Integer lists, not records: offsets out of the engine, mapped to rows through an array."""
        source_row, target_row = (self._row_of_offset(label) for label in (key.source, key.target))
        wanted = "".join(f", r.{quoted(name)} AS {quoted('c_' + name)}" for name in columns)
        pattern = f"MATCH (a:{quoted(key.source)})-[r:{quoted(key.relation)}]->(b:{quoted(key.target)})"
        table = self._table(f"{pattern} RETURN offset(id(a)) AS s, offset(id(b)) AS t{wanted}")
        count = self._table(f"{pattern} RETURN count(*) AS n")["n"][0].as_py()
        if count != table.num_rows:
            raise StoreError(f"{self._path}: {key.relation} has {count} edges, the engine handed out {table.num_rows}")
        source, target = source_row[table["s"].to_numpy()], target_row[table["t"].to_numpy()]
        order = np.argsort(source * (len(target_row) + 1) + target, kind="stable")
        values = {name: numpy_of(table[f"c_{name}"])[order] for name in columns}
        return EdgeArrays(source[order], target[order], values)

    def _row_of_offset(self, label: str) -> np.ndarray:
        offsets = self._nodes(label, ())["__offset"].to_numpy()
        rows = np.full(int(offsets.max(initial=-1)) + 1, -1, np.int64)
        rows[offsets] = np.arange(len(offsets))
        return rows

    def run(self, text: str, parameters: Parameters, *, timeout_s: float = 30.0) -> pa.Table:
        """One of our own read queries."""
        return self._table(text, parameters, timeout_s=timeout_s)

    def analyst(
        self, text: str, parameters: Parameters, *, timeout_s: float = 30.0, max_rows: int = 10_000
    ) -> pa.Table:
        """Typed text, behind the gate, on a database opened read-only."""
        table = self._table(check(text), parameters, timeout_s=timeout_s)
        if table.num_rows > max_rows:
            raise QueryError(f"the query answers {table.num_rows:,} rows, at most {max_rows:,} are shown; add LIMIT")
        return table

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _open(self) -> Any:
        if self._database is None:
            if not self._path.is_file():
                raise StoreError(f"{self._path}: no graph here; run `catalograph rebuild SHOP.toml` first")
            try:
                self._database = ladybug.Database(str(self._path), read_only=True, buffer_pool_size=BUFFER_BYTES)
            except RuntimeError as e:
                raise StoreError(f"{self._path}: cannot be opened ({_one_line(e)}); rebuild with --full") from None
        return self._database

    def _table(self, text: str, parameters: Parameters | None = None, *, timeout_s: float = 300.0) -> pa.Table:
        return _execute(self._open(), text, dict(parameters or {}), timeout_s)


def _execute(database: Any, text: str, parameters: dict[str, Any] | None = None, timeout_s: float = 600.0) -> pa.Table:
    connection = ladybug.Connection(database)
    try:
        connection.set_query_timeout(int(timeout_s * 1000))
        result = connection.execute(text, parameters or {})
        if isinstance(result, list):
            raise QueryError("one statement at a time")
        return _plain(result.get_as_arrow(-1))
    except RuntimeError as e:
        raise QueryError(f"the query does not run: {_one_line(e)}") from None
    finally:
        connection.close()


def _plain(table: pa.Table) -> pa.Table:
    """128-bit integers (sums) as int64, so that both engines answer alike."""
    fields = [pa.field(f.name, pa.int64() if pa.types.is_decimal(f.type) else f.type) for f in table.schema]
    return table.cast(pa.schema(fields)) if any(pa.types.is_decimal(f.type) for f in table.schema) else table


def _create(database: Any, schema: Schema) -> None:
    for label, columns in schema.nodes.items():
        declared = "".join(f", {quoted(name)} {TYPES[kind]}" for name, kind in columns.items())
        _execute(database, f"CREATE NODE TABLE {quoted(label)}(id STRING{declared}, PRIMARY KEY(id))")
    for relation, keys in _by_relation(schema).items():
        ends = ", ".join(f"FROM {quoted(key.source)} TO {quoted(key.target)}" for key in keys)
        columns = unified(schema, keys)
        declared = "".join(f", {quoted(name)} {TYPES[kind]}" for name, kind in columns.items())
        _execute(database, f"CREATE REL TABLE {quoted(relation)}({ends}{declared})")
    _execute(database, f"CREATE NODE TABLE {META}(id STRING, value STRING, PRIMARY KEY(id))")
    _execute(database, "CREATE MACRO type(r) AS label(r)")
    _execute(database, "CREATE MACRO toInteger(x) AS CAST(x AS INT64)")
    kept = {"nodes": schema.nodes, "edges": [[list(key), columns] for key, columns in schema.edges.items()]}
    _execute(database, f"CREATE (:{META} {{id: 'schema', value: $value}})", {"value": json.dumps(kept)})


def _by_relation(schema: Schema) -> dict[str, list[EdgeKey]]:
    relations: dict[str, list[EdgeKey]] = {}
    for key in schema.edges:
        relations.setdefault(key.relation, []).append(key)
    return relations


def unified(schema: Schema, keys: Sequence[EdgeKey]) -> dict[str, ColumnType]:
    """The columns of one relation type over all its label pairs."""
    columns: dict[str, ColumnType] = {}
    for key in keys:
        for name, kind in schema.edges[key].items():
            if columns.setdefault(name, kind) != kind:
                raise GraphError(
                    f"{key.relation}.{name} is {columns[name]} for one pair of labels and {kind} for another"
                )
    return columns


def _copy(database: Any, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table], schema: Schema) -> None:
    for label, table in nodes.items():
        if table.num_rows:
            ordered = table.select(["id", *schema.nodes[label]])
            _execute(database, f"COPY {quoted(label)} FROM $rows", {"rows": ordered})
    relations = _by_relation(schema)
    for key, table in edges.items():
        if not table.num_rows:
            continue
        keys = relations[key.relation]
        columns = unified(schema, keys)
        for name in columns:
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(table.num_rows, table.schema.field(0).type))  # noqa: PLW2901
        ordered = table.select(["source", "target", *columns])
        ends = f" (from='{key.source}', to='{key.target}')" if len(keys) > 1 else ""
        _execute(database, f"COPY {quoted(key.relation)} FROM $rows{ends}", {"rows": ordered})


def _counts(database: Any, schema: Schema) -> Counts:
    nodes = {n: _count(database, f"MATCH (n:{quoted(n)}) RETURN count(*) AS n") for n in schema.nodes}
    edges = {
        key: _count(
            database,
            f"MATCH (:{quoted(key.source)})-[r:{quoted(key.relation)}]->(:{quoted(key.target)}) RETURN count(*) AS n",
        )
        for key in schema.edges
    }
    return Counts(nodes, edges)


def _count(database: Any, text: str) -> int:
    return int(_execute(database, text)["n"][0].as_py())


def numpy_of(column: pa.ChunkedArray) -> np.ndarray:
    """A column as numpy; missing ints become float64 NaN."""
    if column.null_count and pa.types.is_integer(column.type):
        column = pc.cast(column, pa.float64())
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _remove(path: Path) -> None:
    for suffix in ("", ".wal", ".shadow", ".tmp"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
