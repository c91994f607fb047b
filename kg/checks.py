"""What every store checks before it writes: keys that are there and unique, edges whose ends exist."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import GraphError
from ..loaders.catalogue import EdgeKey


def check_graph(nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table]) -> None:
    """Raises GraphError naming the label or relation, the row and the value of the first broken rule."""
    for label, table in nodes.items():
        ids = table["id"]
        if ids.null_count:
            raise GraphError(f"{label}: row {pc.index(pc.is_null(ids), True).as_py() + 1} has no id")
        if len(pc.unique(ids)) != len(ids):
            raise GraphError(f"{label}: id {_first_repeated(ids)!r} stands twice; ids are unique")
    for key, table in edges.items():
        for end, label in (("source", key.source), ("target", key.target)):
            if label not in nodes:
                raise GraphError(f"{key.relation}: there is no label {label!r}")
            lost = pc.invert(pc.is_in(table[end], nodes[label]["id"]))
            if pc.any(lost).as_py():
                row = pc.index(lost, True).as_py()
                raise GraphError(
                    f"{key.relation}: row {row + 1} has {end} {table[end][row].as_py()!r}, which is no {label}"
                )
        ends = table.select(["source", "target"])
        if ends.group_by(["source", "target"]).aggregate([]).num_rows != ends.num_rows:
            many = ends.group_by(["source", "target"]).aggregate([([], "count_all")])
            first = many.filter(pc.greater(many["count_all"], 1)).slice(0, 1).to_pylist()[0]
            raise GraphError(
                f"{key.relation}: {first['source']!r} -> {first['target']!r} stands twice; one edge per pair"
            )


def _first_repeated(ids: pa.ChunkedArray) -> str:
    counts = pc.value_counts(ids)
    return str(counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py())
