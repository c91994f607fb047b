"""What an item's properties lead to: [[attributes]] made again for one item, from values that a batch changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import polars as pl
import pyarrow as pa

from ..config import AttributeSection, ShopConfig
from ..loaders.attributes import HIGH, LOW, attribute, borders_of
from ..loaders.catalogue import EdgeKey
from .schema import ColumnType, Schema

POLARS: Mapping[ColumnType, type[pl.DataType]] = {
    "bool": pl.Boolean,
    "int64": pl.Int64,
    "float64": pl.Float64,
    "string": pl.String,
}
Pair = tuple[str, str]


class Nodes(Protocol):
    """What there was before the batch: a store, or a catalogue's tables."""

    def nodes(self, label: str, columns: Sequence[str] = ()) -> pa.Table:
        """`id` and the columns asked for."""
        ...


@dataclass
class Made:
    """nodes: label -> id -> properties. edges: key -> pairs of ids."""

    nodes: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    edges: dict[EdgeKey, set[Pair]] = field(default_factory=lambda: defaultdict(set))


class Followed:
    """The relations that are made from properties of items in the graph, and from nothing else: what a column of the
    item table gives that is no property, or a table of [[edges]], cannot be made again here.

    Bands cut by quantiles are those of the last rebuild: their nodes tell the borders.
    """

    def __init__(self, config: ShopConfig, schema: Schema, before: Nodes) -> None:
        self._item, self._before = config.items.label, before
        self._kinds = schema.nodes[self._item]
        self._borders: dict[str, list[float]] = {}
        self._sections: dict[EdgeKey, list[AttributeSection]] = defaultdict(list)
        for section in config.attributes:
            self._sections[EdgeKey(self._item, section.relation, section.label)].append(section)
        told = {EdgeKey(self._item, section.relation, section.target_label) for section in config.edges}
        for key, sections in list(self._sections.items()):
            if key in told or key not in schema.edges or not all(self._is_told(s, schema) for s in sections):
                del self._sections[key]

    def _is_told(self, section: AttributeSection, schema: Schema) -> bool:
        """Whether the graph has all that a section is made from; before bands knew their ends it had not."""
        cut = not isinstance(section.bands, int) or schema.nodes[section.label].get(LOW) == "float64"
        return section.column in self._kinds and cut

    def touched(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[EdgeKey]:
        """The relations whose properties differ between two rows of an item."""
        for key, sections in self._sections.items():
            if any(before.get(section.column) != after.get(section.column) for section in sections):
                yield key

    def made(self, key: EdgeKey, id_: str, row: Mapping[str, Any]) -> Made:
        """What a row of an item leads to by this relation."""
        made = Made()
        for section in self._sections[key]:
            name = section.column
            kinds: dict[str, type[pl.DataType]] = {"id": pl.String, name: POLARS[self._kinds[name]]}
            item = pl.DataFrame({"id": [id_], name: [row.get(name)]}, schema=kinds)
            nodes, edges = attribute(item, name, section, self._item, self._borders_of(section))
            for edge, table in edges.items():
                made.edges[edge].update(table.select("source", "target").iter_rows())
            ends = {id_ for pairs in made.edges.values() for pair in pairs for id_ in pair}
            for label, table in nodes.items():  # among them the bands that it is not in
                made.nodes[label].update((node.pop("id"), node) for node in table.to_dicts() if node["id"] in ends)
        return made

    def _borders_of(self, section: AttributeSection) -> list[float] | None:
        if not isinstance(section.bands, int):
            return None
        if section.label not in self._borders:
            bands = pl.from_arrow(self._before.nodes(section.label, [LOW, HIGH]))
            assert isinstance(bands, pl.DataFrame)
            self._borders[section.label] = borders_of(bands)
        return self._borders[section.label]
