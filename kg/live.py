"""A live Neo4j graph as a shop's source: it is read, never written, and gives the tables that files would."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import polars as pl

from ..config import EdgesSection, NodesSection, ShopConfig, is_label
from ..errors import ConfigError, DataError, did_you_mean
from ..loaders.catalogue import HELD_OUT, INTERACTED
from ..loaders.checks import Origin, Rejects, Sheet
from ..loaders.source import Columns, Files
from ..loaders.tables import ROW
from . import live_schema as schema
from .bolt import Bolt
from .live_read import Place, Way, along, nodes
from .schema import REVERSE

NAMES = ("name", "title", "label")  # what a node is called, where its id is something else
ADVICE = "; correct it there or in shop.toml, or set shop.on_bad_rows = 'quarantine'"


class LiveGraph:
    """The [graph] of a shop.toml. Sections that name a file are read from that file all the same.

    Methods are those of :class:`~catalograph.loaders.source.Source`. Messages name label or relation type, internal id,
    property and value.
    """

    def __init__(self, config: ShopConfig) -> None:
        assert config.graph is not None
        self._config, self._graph = config, config.graph
        self._files, self._bolt = Files(config), Bolt(config.graph.url)
        self._ids: dict[str, str] = {}
        self._keys: dict[str, pl.DataFrame] = {}
        self._names: dict[str, pl.DataFrame | None] = {}
        self._open: frozenset[str] = frozenset()  # labels whose nodes are made from the relations

    def items(self, columns: Columns, rejects: Rejects) -> Sheet | None:
        """The nodes of items.label."""
        return self._nodes(self._config.items.label, columns, rejects)

    def users(self, columns: Columns, rejects: Rejects) -> Sheet | None:
        """The nodes of users.label, unless the events come from a file."""
        if self._config.interactions.file is not None:
            return self._files.users(columns, rejects)
        return self._nodes(self._config.users.label, columns, rejects)

    def events(self, columns: Columns, rejects: Rejects) -> Sheet:
        """Every way from a user to an item over interactions.relation."""
        section = self._config.interactions
        if section.file is not None:
            return self._files.events(columns, rejects)
        way = Way(self._config.users.label, section.relation, self._config.items.label)
        events = self._along(way, ("user", "item"), columns, rejects)
        if events.frame.is_empty():
            raise DataError(f"{self._bolt.url}: nothing leads along {way}; check the labels and interactions.relation")
        return events

    def relations(self, rejects: Rejects) -> Sequence[EdgesSection]:
        """The [[edges]] and, with graph.others, the relations of items that none of them names."""
        found = (*self._config.edges, *(self._others(rejects) if self._graph.others else ()))
        closed = {self._config.items.label, self._config.users.label}
        ends = [self._ends(section) for section in found if section.file is None]
        self._open = frozenset(label for pair in ends for label in pair) - closed
        return found

    def edges(self, section: EdgesSection, columns: Columns, rejects: Rejects) -> Sheet:
        """A row for every two nodes: `count` of their relations, and what the newest of them says."""
        if section.file is not None:
            return self._files.edges(section, columns, rejects)
        source, target = self._ends(section)
        sheet = self._along(Way(source, (section.relation,), target), ("source", "target"), columns, rejects)
        last = [pl.col(name).last() for name in (ROW, *columns)]
        pairs = sheet.frame.sort(ROW).group_by("source", "target").agg(*last, count=pl.len().cast(pl.Int64))
        return sheet.with_frame(pairs.sort("source", "target"))

    def nodes(self, section: NodesSection, columns: Columns, rejects: Rejects) -> Sheet:
        """Of the section's file: what the graph itself holds needs no section."""
        return self._files.nodes(section, columns, rejects)

    def names(self, label: str) -> pl.DataFrame | None:
        """What the nodes of a label are called; of nodes with one id, what the oldest is."""
        if label in self._open and label not in self._names:
            known = schema.properties(self._bolt, label)
            called = next((name for name in NAMES if name in known), self._id(label))
            sheet = self._nodes(label, {"name": (called, "string")}, Rejects(quarantine=True)).typed("id").typed("name")
            named = sheet.frame.drop_nulls().sort(ROW)
            self._names[label] = named.unique("id", keep="first", maintain_order=True).select("id", "name")
        return self._names.get(label)

    def digest(self) -> str:
        """Changes with every transaction the database commits, whatever it touches, and with the files."""
        return f"{self._bolt.state()} {self._files.digest()}"

    def close(self) -> None:
        """Let go of the connections."""
        self._bolt.close()

    def _ends(self, section: EdgesSection) -> tuple[str, str]:
        return section.source_label or self._config.items.label, section.target_label

    def _nodes(self, label: str, columns: Columns, rejects: Rejects) -> Sheet:
        """`id` and the columns of all nodes of a label."""
        self._check(label, schema.labels(self._bolt), "label")
        told: Columns = {"id": (self._id(label), "string"), **columns}
        names = {name: property_ for name, (property_, _) in told.items()}
        for property_ in names.values():
            if not schema.has_property(self._bolt, label, property_):
                hint = did_you_mean(property_, schema.properties(self._bolt, label))
                raise DataError(f"{self._bolt.url}: no {label} has a property {property_!r}{hint}")
        return Sheet(nodes(self._bolt, label, told), self._origin(label, "n"), names, rejects)

    def _along(self, way: Way, ends: tuple[str, str], columns: Columns, rejects: Rejects) -> Sheet:
        """The ids of both ends of every way, under the names given, and the columns."""
        types = schema.relation_types(self._bolt)
        for relation in way.relations:
            self._check(relation, types, "relation type")
        keys = {end: self._key(label, rejects) for end, label in zip(ends, (way.start, way.end), strict=True)}
        places = {
            name: Place(self._variable(way, property_), property_, kind) for name, (property_, kind) in columns.items()
        }
        origin, frame = self._origin("-".join(way.relations), "r"), along(self._bolt, way, places)
        read = frame.height
        for (end, key), row in zip(keys.items(), ("a", "b"), strict=True):
            frame = frame.join(
                key.select(pl.col(ROW).alias(row), pl.col("id").alias(end)), on=row, maintain_order="left"
            )
        rejects.count(origin.name, "an end was set aside, or is newer than this reading", read - frame.height)
        names = {end: f"{label}.{self._id(label)}" for end, label in zip(ends, (way.start, way.end), strict=True)}
        return Sheet(frame, origin, {**names, **{name: place.property for name, place in places.items()}}, rejects)

    def _key(self, label: str, rejects: Rejects) -> pl.DataFrame:
        """ROW and the `id` of every node of a label; that of an item or user is told before its relations are."""
        if label not in self._keys:
            sheet = self._nodes(label, {}, Rejects(quarantine=True) if rejects.quarantine else rejects).typed("id")
            alike = {self._config.items.label: self._config.items.repeats, self._config.users.label: "fail"}
            strict = alike.get(label) == "fail" and not rejects.quarantine
            self._keys[label] = (sheet.unique("id") if strict else sheet).frame
        return self._keys[label]

    def _variable(self, way: Way, property_: str) -> str:
        found = schema.variable_with(self._bolt, way, property_)
        if found is None:
            hint = did_you_mean(property_, schema.way_properties(self._bolt, way))
            raise DataError(f"{self._bolt.url}: nothing along {way} has a property {property_!r}{hint}")
        return found

    def _id(self, label: str) -> str:
        """The property that holds the ids of a label: told, or the likeliest."""
        if label not in self._ids:
            self._ids[label] = self._told_id(label) or self._guessed_id(label)
        return self._ids[label]

    def _told_id(self, label: str) -> str | None:
        for section in (self._config.items, self._config.users):
            if label == section.label:
                return str(section.id)
        live = [section for section in self._config.edges if section.file is None]
        told = sorted({name for section in live for name in self._told_by(section, label)})
        if len(told) > 1:
            raise ConfigError(f"edges: the ids of {label} are told as {' and '.join(told)}; name one property")
        return told[0] if told else None

    def _told_by(self, section: EdgesSection, label: str) -> list[str]:
        ends = zip(self._ends(section), (section.source, section.target), strict=True)
        return [property_ for end, property_ in ends if end == label and property_ is not None]

    def _guessed_id(self, label: str) -> str:
        found = schema.identifier(self._bolt, label)
        if found is None:
            raise DataError(
                f"{self._bolt.url}: no property is filled and different on every {label}; "
                "tell the one to take as id by target (or source) in [[edges]], or leave the relation out by graph.skip"
            )
        return found

    def _others(self, rejects: Rejects) -> Iterable[EdgesSection]:
        """Relations of items that no section names. What users reach is behaviour and would tell the held-out part."""
        items, users, bolt = self._config.items.label, self._config.users.label, self._bolt
        events = self._config.interactions.relation
        for relation in schema.relation_types(bolt):
            if relation in self._graph.skip:
                continue
            if not schema.can_be_quoted(relation):
                rejects.count(relation, "its name cannot stand in a query", 1)
                continue
            told = self._told_ends(relation)
            found = [(labels, n) for labels, n in schema.ends(bolt, items, relation) if not labels & told]
            label_of = schema.one_label(found, (items, users))
            counts: Counter[str] = Counter()
            for labels, n in found:
                counts[label_of.get(labels, "")] += n
            for label, n in sorted(counts.items()):
                reason = self._why_not(relation, label)
                if reason is None:
                    yield EdgesSection(relation=relation, target_label=label)
                elif relation not in events:
                    rejects.count(relation, reason, n)

    def _why_not(self, relation: str, label: str) -> str | None:
        """Why a relation of items to a label is not taken unasked."""
        items, users = self._config.items.label, self._config.users.label
        if not label:
            return "leads to nodes without a label"
        if relation in (INTERACTED, HELD_OUT) or relation.startswith(REVERSE):
            return "has a name that is kept for other things here"
        if not (is_label(relation) and is_label(label)):
            return f"leads to {label!r}: a name here holds no quotes, back-ticks or back-slashes"
        if label != items and (label == users or schema.touches(self._bolt, users, label)):
            return f"leads to {label}, which users reach too: name it in [[edges]] if it is no behaviour"
        return None

    def _told_ends(self, relation: str) -> frozenset[str]:
        """The labels that [[edges]] name beside items for a relation type."""
        items = self._config.items.label
        pairs = [self._ends(s) for s in self._config.edges if s.file is None and s.relation == relation]
        beside = [set(pair) - {items} if pair != (items, items) else {items} for pair in pairs if items in pair]
        return frozenset().union(*beside)

    def _check(self, name: str, known: Iterable[str], what: str) -> None:
        if name not in known:
            raise DataError(f"{self._bolt.url}: the graph has no {what} {name!r}{did_you_mean(name, known)}")

    def _origin(self, name: str, variable: str) -> Origin:
        row = f"{name} with id({variable}) = "
        return Origin(name, self._bolt.url, row, "property", "it", ADVICE)
