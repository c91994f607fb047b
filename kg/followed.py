"""What an item's properties lead to: [[attributes]] made again for one item, from values that a batch changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import polars as pl
import pyarrow as pa

from ..config import AttributeSection, ShopConfig
from ..loaders.attributes import HIGH, LOW, Bands, attribute
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
class Led:
    """Where values lead. targets: ids. nodes: label -> id -> properties of these and of what is above them. up: the
    edges above them, key -> pairs of ids."""

    targets: set[str] = field(default_factory=set)
    nodes: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    up: dict[EdgeKey, set[Pair]] = field(default_factory=lambda: defaultdict(set))

    def add(self, other: Led) -> None:
        """Where the values of another property lead, too."""
        self.targets |= other.targets
        for label, rows in other.nodes.items():
            self.nodes[label].update(rows)
        for key, pairs in other.up.items():
            self.up[key] |= pairs


class Followed:
    """The relations that are made from properties of items in the graph, and from nothing else: what a column of the
    item table gives that is no property, or a table of [[edges]], cannot be made again here.

    Bands cut by quantiles are those of the last rebuild: their nodes tell the borders.
    """

    def __init__(self, config: ShopConfig, schema: Schema, before: Nodes) -> None:
        self._item, self._before = config.items.label, before
        self._kinds = schema.nodes[self._item]
        self._bands: dict[tuple[str, str, str], Bands] = {}
        self._known: dict[tuple[EdgeKey, str, Any], Led] = {}  # a category is that of many items
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

    def led(self, key: EdgeKey, row: Mapping[str, Any]) -> Led:
        """Where the properties of an item lead by this relation."""
        found = Led()
        for section in self._sections[key]:
            value = row.get(section.column)
            if value is not None:
                found.add(self._banded(section, value) if section.bands is not None else self._of(key, section, value))
        return found

    def _banded(self, section: AttributeSection, value: float) -> Led:
        place = (section.relation, section.label, section.column)
        if place not in self._bands:
            self._bands[place] = self._cut(section)
        bands = self._bands[place]
        node = bands.nodes.row(int(bands.places(np.array(value))), named=True)
        return Led({node["id"]}, {section.label: {node.pop("id"): node}})

    def _cut(self, section: AttributeSection) -> Bands:
        if isinstance(section.bands, tuple):
            return Bands(section.bands)
        nodes = pl.from_arrow(self._before.nodes(section.label, [LOW, HIGH]))
        assert isinstance(nodes, pl.DataFrame)
        return Bands.of_nodes(nodes)

    def _of(self, key: EdgeKey, section: AttributeSection, value: Any) -> Led:
        """Texts are taken apart as a rebuild takes them apart."""
        name, place = section.column, (key, section.column, value)
        if place not in self._known:
            kinds: dict[str, type[pl.DataType]] = {"id": pl.String, name: POLARS[self._kinds[name]]}
            nodes, edges = attribute(pl.DataFrame({"id": [""], name: [value]}, schema=kinds), name, section, self._item)
            found = Led(set(edges.pop(key)["target"]))
            for label, table in nodes.items():
                found.nodes[label] = {node.pop("id"): node for node in table.to_dicts()}
            for up, table in edges.items():
                found.up[up] = set(table.select("source", "target").iter_rows())
            self._known[place] = found
        return self._known[place]
