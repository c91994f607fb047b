"""What the graph holds: labels, relation types and their typed columns, declared once for every store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from ..errors import GraphError
from ..loaders.catalogue import EdgeKey

ColumnType = Literal["bool", "int64", "float64", "string"]  # times are int64 milliseconds since 1970 UTC
ARROW_TYPES: Mapping[ColumnType, pa.DataType] = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
}
REVERSE = "rev_"  # prefix of reverse relations in the export, as PyG's ToUndirected names them
META = "CatalographMeta"  # the label a store may keep its own notes under
MARK = "_generation"  # the property that tells what a store wrote from what others put beside it
MARKED = f"{{}}.{MARK} IS NOT NULL"  # of a variable
RETIRED = "CatalographRetired"  # the label of a node that had to go while others still hold on to it


def quoted(name: str) -> str:
    """A label, relation or property for Cypher text.

    :mod:`.checks` has refused such names before they are stored; here they are refused once more, because what
    stands in a store may have been put there by somebody else.
    """
    if "`" in name or "\\" in name:
        raise GraphError(f"{name!r} cannot stand in a query; names have no back-tick and no backslash")
    return f"`{name}`"


@dataclass(frozen=True)
class Schema:
    """Columns by label and by relation. `id` of nodes and `source`/`target` of edges are implied, not listed."""

    nodes: Mapping[str, Mapping[str, ColumnType]]
    edges: Mapping[EdgeKey, Mapping[str, ColumnType]]

    @classmethod
    def of(cls, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table]) -> Schema:
        """The schema the tables already have.

        Raises:
            GraphError: a table lacks its key columns, or a column has a type no store can hold.
        """
        return cls(
            {label: _columns(table, ("id",), label) for label, table in nodes.items()},
            {key: _columns(table, ("source", "target"), key.relation) for key, table in edges.items()},
        )

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """What :meth:`to_json` wrote."""
        kept = json.loads(text)
        return cls(kept["nodes"], {EdgeKey(*key): columns for key, columns in kept["edges"]})

    def to_json(self) -> str:
        """As a store keeps it beside the graph."""
        edges = [[list(key), columns] for key, columns in self.edges.items()]
        return json.dumps({"nodes": self.nodes, "edges": edges})

    def relations(self) -> dict[str, list[EdgeKey]]:
        """The label pairs of each relation type."""
        found: dict[str, list[EdgeKey]] = {}
        for key in self.edges:
            found.setdefault(key.relation, []).append(key)
        return found

    def unified(self, relation: str) -> dict[str, ColumnType]:
        """The columns of one relation type over all its label pairs.

        Raises:
            GraphError: two pairs give one column different types.
        """
        columns: dict[str, ColumnType] = {}
        for key in self.relations()[relation]:
            for name, kind in self.edges[key].items():
                if columns.setdefault(name, kind) != kind:
                    raise GraphError(
                        f"{relation}.{name} is {columns[name]} for one pair of labels and {kind} for another"
                    )
        return columns


def _columns(table: pa.Table, keys: tuple[str, ...], what: str) -> dict[str, ColumnType]:
    known = {arrow: name for name, arrow in ARROW_TYPES.items()}
    for key in keys:
        if key not in table.column_names:
            raise GraphError(f"{what}: the table has no column {key!r}; it has {table.column_names}")
        if table.schema.field(key).type != pa.string():
            raise GraphError(f"{what}.{key} is {table.schema.field(key).type}; keys are strings")
    columns: dict[str, ColumnType] = {}
    for column in table.schema:
        if column.name in keys:
            continue
        if column.type not in known:
            raise GraphError(f"{what}.{column.name} is {column.type}; a graph holds {', '.join(ARROW_TYPES)}")
        columns[column.name] = known[column.type]
    return columns
