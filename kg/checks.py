"""What every store checks before it writes: names it can hold, ids that are unique, edges whose ends exist."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import GraphError, did_you_mean
from ..loaders.catalogue import EdgeKey
from .schema import MARK, META, RETIRED, REVERSE, Schema
from .store import Batch

RESERVED = (MARK, "id", "source", "target", "_id", "_label", "_src", "_dst", "num_nodes", "edge_index", "ids")


def check_graph(nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table]) -> Schema:
    """The schema of a graph that may be written.

    Raises:
        GraphError: naming the label or relation, the row and the value of the first broken rule.
    """
    schema = Schema.of(nodes, edges)
    _check_names([META, RETIRED, *schema.nodes, *schema.relations()], "label or relation type")
    for relation in schema.relations():
        if relation.startswith(REVERSE):
            raise GraphError(
                f"relation type {relation!r}: {REVERSE!r} marks reverse relations in the export; rename it"
            )
    for columns in (*schema.nodes.values(), *map(schema.unified, schema.relations())):
        _check_names([*RESERVED, *columns], "property")
    for label, table in nodes.items():
        _check_ids(label, table)
    ids = {label: table["id"] for label, table in nodes.items()}
    for key, table in edges.items():
        _check_edges(key, table, ids)
    return schema


def check_batch(batch: Batch, schema: Schema, ids_of: Callable[[str], pa.ChunkedArray]) -> None:
    """Raises GraphError as :func:`check_graph`, and for a label, relation or column the graph does not have."""
    given = Schema.of(batch.nodes, batch.edges)
    for label in (*given.nodes, *batch.delete_nodes):
        _check_known(label, schema.nodes, given.nodes.get(label, {}), schema.nodes.get(label, {}))
    for key in (*given.edges, *batch.replace_edges_of, *batch.delete_edges):
        names = {"-".join(known): known for known in schema.edges}
        _check_known("-".join(key), names, given.edges.get(key, {}), schema.edges.get(key, {}))
    for label, table in batch.nodes.items():
        _check_ids(label, table)
        for id_ in set(batch.delete_nodes.get(label, ())) & set(table["id"].to_pylist()):
            raise GraphError(f"{label} {id_!r} is both written and deleted in batch {batch.id!r}; use two batches")
    ends = {label for key in batch.edges for label in (key.source, key.target)}
    ids = {label: _ids_after(batch, label, ids_of(label)) for label in ends}
    for key, table in batch.edges.items():
        _check_edges(key, table, ids)


def _check_known(what: str, known: Iterable[str], given: Mapping[str, str], columns: Mapping[str, str]) -> None:
    if what not in known:
        raise GraphError(f"the graph has no {what!r}{did_you_mean(what, known)}; a new kind of fact needs a rebuild")
    for name, kind in given.items():
        if columns.get(name) != kind:
            raise GraphError(
                f"{what}.{name} is {kind}, the graph has {columns.get(name, 'no such column')}; rebuild it instead"
            )


def _ids_after(batch: Batch, label: str, ids: pa.ChunkedArray) -> pa.ChunkedArray:
    gone = pa.array(list(batch.delete_nodes.get(label, ())), pa.string())
    kept = ids.filter(pc.invert(pc.is_in(ids, gone)))
    new = batch.nodes[label]["id"] if label in batch.nodes else pa.chunked_array([], pa.string())
    return pa.chunked_array([*kept.chunks, *new.chunks], pa.string())


def _check_names(names: Iterable[str], what: str) -> None:
    """Upper and lower case are one name to the embedded engine."""
    seen: dict[str, str] = {}
    for name in names:
        if not name.isprintable() or any(sign in name for sign in "`'\\") or not name:
            raise GraphError(f"{name!r} cannot be a {what}: use letters, digits and _")
        if name.lower() in seen:
            raise GraphError(f"{name!r} cannot be a {what} beside {seen[name.lower()]!r}; rename one")
        seen[name.lower()] = name


def _check_finite(what: str, table: pa.Table) -> None:
    """The embedded engine loses a whole column to a NaN beside an infinity; a query finds neither."""
    for field in table.schema:
        if pa.types.is_floating(field.type):
            row = pc.index(pc.is_finite(table[field.name]), False).as_py()
            if row >= 0:
                value = table[field.name][row].as_py()
                raise GraphError(f"{what}: row {row + 1} has {field.name} {value}; numbers are finite, or missing")


def _check_ids(label: str, table: pa.Table) -> None:
    _check_finite(label, table)
    ids = table["id"]
    if ids.null_count:
        raise GraphError(f"{label}: row {pc.index(pc.is_null(ids), True).as_py() + 1} has no id")
    codes = pc.dictionary_encode(ids.combine_chunks()).indices.to_numpy(zero_copy_only=False)
    row = _first_repeated(codes)
    if row is not None:
        raise GraphError(f"{label}: id {ids[row].as_py()!r} stands twice, again in row {row + 1}; ids are unique")


def _check_edges(key: EdgeKey, table: pa.Table, ids: Mapping[str, pa.ChunkedArray]) -> None:
    _check_finite(key.relation, table)
    rows = []
    for end, label in (("source", key.source), ("target", key.target)):
        if label not in ids:
            raise GraphError(f"{key.relation}: there is no label {label!r}{did_you_mean(label, ids)}")
        found = pc.index_in(table[end], ids[label])
        if found.null_count:
            row = pc.index(pc.is_null(found), True).as_py()
            value = table[end][row].as_py()
            raise GraphError(f"{key.relation}: row {row + 1} has {end} {value!r}, which is no {label}")
        rows.append(found.to_numpy().astype(np.int64))
    repeated = _first_repeated(rows[0] * len(ids[key.target]) + rows[1])
    if repeated is not None:
        source, target = (table[end][repeated].as_py() for end in ("source", "target"))
        raise GraphError(
            f"{key.relation}: {source!r} -> {target!r} stands twice, again in row {repeated + 1}; one edge per pair"
        )


def _first_repeated(codes: np.ndarray) -> int | None:
    """The first row whose code an earlier row has."""
    order = np.argsort(codes, kind="stable")
    again = order[1:][codes[order[1:]] == codes[order[:-1]]]
    return int(again.min()) if len(again) else None
