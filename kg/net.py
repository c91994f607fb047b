"""What a batch of changes comes to: checked against a graph's schema, one state per node and edge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatchmethod
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from ..config import ShopConfig
from ..errors import DataError, did_you_mean
from ..loaders import changes as ch
from ..loaders.catalogue import HELD_OUT, INTERACTED, EdgeKey
from .followed import Followed, Led, Nodes, Pair
from .schema import ARROW_TYPES, ColumnType, Schema
from .store import Batch

Row = dict[str, ch.Value]  # all properties of a node or edge
MOST_HINTED = 50_000  # ids compared with an unknown one


@dataclass
class Net:
    """nodes: label -> id -> row, of new and changed ones. gone: label -> ids of retired ones.

    cut: edges to take away; emptied: sources that lose all edges of a relation; edges: what is written after that.
    forgotten: (user, item) whose interactions of before go. events: the interactions to add, in order.
    """

    nodes: dict[str, dict[str, Row]] = field(default_factory=lambda: defaultdict(dict))
    gone: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    edges: dict[EdgeKey, dict[Pair, Row]] = field(default_factory=lambda: defaultdict(dict))
    cut: dict[EdgeKey, set[Pair]] = field(default_factory=lambda: defaultdict(set))
    emptied: dict[EdgeKey, set[str]] = field(default_factory=lambda: defaultdict(set))
    forgotten: set[Pair] = field(default_factory=set)
    events: list[ch.Interaction] = field(default_factory=list)

    def batch(self, id_: str, schema: Schema) -> Batch:
        """As a store applies it; the edges of the interactions are for others to add."""
        nodes = {
            label: table_of(["id"], [((id_,), row) for id_, row in rows.items()], schema.nodes[label])
            for label, rows in self.nodes.items()
            if rows
        }
        return Batch(
            id_,
            nodes,
            {key: table_of(ENDS, rows.items(), schema.edges[key]) for key, rows in self.edges.items() if rows},
            {key: sorted(sources) for key, sources in self.emptied.items() if sources},
            {label: sorted(ids) for label, ids in self.gone.items() if ids},
            {
                key: table_of(ENDS, [(pair, {}) for pair in sorted(pairs)], {})
                for key, pairs in self.cut.items()
                if pairs
            },
        )


ENDS = ["source", "target"]


def table_of(
    keys: Sequence[str], rows: Iterable[tuple[Sequence[str], Mapping[str, Any]]], kinds: Mapping[str, ColumnType]
) -> pa.Table:
    """Key columns and typed properties; a property that a row lacks is null."""
    held = list(rows)
    columns = {name: pa.array([ids[n] for ids, _ in held], pa.string()) for n, name in enumerate(keys)}
    for name, kind in kinds.items():
        columns[name] = pa.array([row.get(name) for _, row in held], ARROW_TYPES[kind])
    return pa.table(columns)


def net_of(changes: ch.Changes, config: ShopConfig, schema: Schema, before: Nodes) -> Net:
    """The changes one after the other, each checked against the graph of before and the changes in front of it.

    Raises:
        DataError: naming the change, the field, the value and what to do.
    """
    made = _Netting(config, schema, before)
    for change, place in zip(changes.changes, changes.places, strict=True):
        try:
            made.take(change)
        except _ChangeError as e:
            raise DataError(f"{place}, {e}") from None
    return made.net


class _ChangeError(Exception):
    """What is wrong with a change."""


class _Netting:
    def __init__(self, config: ShopConfig, schema: Schema, before: Nodes) -> None:
        self.net = Net()
        self._config, self._schema, self._before = config, schema, before
        self._item, self._user = config.items.label, config.users.label
        self._followed = Followed(config, schema, before)
        self._known: dict[str, set[str]] = {}
        self._rows: dict[str, dict[str, Row]] = {}
        self._linked: set[tuple[str, str]] = set()  # (label, id) at an end of an edge or event of this batch

    @singledispatchmethod
    def take(self, change: object) -> None:
        raise TypeError(f"{type(change).__name__} is no change")

    @take.register
    def _(self, change: ch.UpsertItem) -> None:
        keys = {name: self._keys_of(name, where=f"field 'relations.{name}'") for name in change.relations}
        self._follow(change, *self._upsert(self._item, change.id, change.properties))
        for relation, targets in change.relations.items():
            for key in keys[relation]:
                self._empty(key, change.id)
            for target in targets:
                source = ch.End(label=self._item, id=change.id)
                self._relate(source, relation, target, {}, f"field 'relations.{relation}'")

    @take.register
    def _(self, change: ch.RetireItem) -> None:
        self._retire(self._item, change.id)

    @take.register
    def _(self, change: ch.UpsertUser) -> None:
        self._upsert(self._user, change.id, change.properties)

    @take.register
    def _(self, change: ch.RetireUser) -> None:
        self._retire(self._user, change.id)

    @take.register
    def _(self, change: ch.UpsertNode) -> None:
        self._upsert(self._other(change.label), change.id, change.properties)

    @take.register
    def _(self, change: ch.RetireNode) -> None:
        self._retire(self._other(change.label), change.id)

    @take.register
    def _(self, change: ch.Relate) -> None:
        self._relate(change.source, change.relation, change.target, change.properties, "field 'target'")

    @take.register
    def _(self, change: ch.Unrelate) -> None:
        key, source, target = self._edge(change.source, change.relation, change.target, "field 'target'")
        self.net.edges[key].pop((source, target), None)
        self.net.cut[key].add((source, target))

    @take.register
    def _(self, change: ch.Interaction) -> None:
        section, told = self._config.interactions, change.model_dump(exclude_none=True)
        for name, column in (("at", section.time), ("quantity", section.quantity), ("label", section.label)):
            if column is not None and name not in told:
                raise _ChangeError(f"field {name!r} is missing; the shop tells {name!r} of every interaction")
        for name, column in (
            ("at", section.time),
            ("position", section.position),
            ("quantity", section.quantity),
            ("kind", section.kind),
            ("label", section.label),
        ):
            if column is None and name in told:
                raise _ChangeError(
                    f"field {name!r}: {told[name]!r}: the shop has no such column of interactions; leave it out"
                )
        if change.quantity is not None and change.quantity <= 0 and section.returns != "keep":
            raise _ChangeError(f"field 'quantity': {change.quantity:g} is not above 0; leave returns out")
        if not self._config.has_interactions:
            raise _ChangeError("field 'op': the shop has no [interactions] in shop.toml to add to")
        if self._config.has_item_table:
            self._must_be(self._item, change.item, "field 'item'")
        else:
            self._add(self._item, change.item, "field 'item'")
        self._add(self._user, change.user, "field 'user'")
        self._linked |= {(self._user, change.user), (self._item, change.item)}
        self.net.events.append(change)

    @take.register
    def _(self, change: ch.RetireInteraction) -> None:
        self._must_be(self._user, change.user, "field 'user'")
        self._must_be(self._item, change.item, "field 'item'")
        pair = change.user, change.item
        self.net.forgotten.add(pair)
        if {(self._user, change.user), (self._item, change.item)} <= self._linked:
            self.net.events = [event for event in self.net.events if (event.user, event.item) != pair]

    def _follow(self, change: ch.UpsertItem, before: Row, after: Row) -> None:
        """[[attributes]] follow the properties they are made from, unless the change names the relation itself."""
        for key in self._followed.touched(before, after):
            if key.relation in change.relations:
                continue
            old, new = (self._followed.led(key, row) for row in (before, after))
            if old.targets != new.targets:
                self._empty(key, change.id)
                self._arrive(key, change.id, new)

    def _arrive(self, key: EdgeKey, item: str, led: Led) -> None:
        """Draw an item's edges to where its properties lead, and above those the nodes that are new."""
        fresh = {
            (label, id_)
            for label, rows in led.nodes.items()
            for id_, row in rows.items()
            if self._add(label, id_, f"field 'properties', which lead to it by {key.relation}", row)
        }
        above = ((up, pair) for up, pairs in led.up.items() for pair in pairs if (up.source, pair[0]) in fresh)
        for edge, pair in [*((key, (item, target)) for target in led.targets), *above]:
            self._linked |= {(edge.source, pair[0]), (edge.target, pair[1])}
            self.net.edges[edge][pair] = {}

    def _upsert(self, label: str, id_: str, properties: Mapping[str, Any]) -> tuple[Row, Row]:
        """Its properties before and after."""
        self._check_not_gone(label, id_, "field 'id'")
        kinds = self._schema.nodes[label]
        given = {name: _typed(name, value, kinds, label) for name, value in properties.items()}
        row = self.net.nodes[label].get(id_) or self._present(label).get(id_) or self._fresh(label, id_)
        self.net.nodes[label][id_] = {**row, **given}
        return row, self.net.nodes[label][id_]

    def _fresh(self, label: str, id_: str) -> Row:
        """A new node; where only its id is known, it is called by it."""
        row: Row = dict.fromkeys(self._schema.nodes[label])
        named = label not in (self._item, self._user) and self._schema.nodes[label].get("name") == "string"
        return row | {"name": id_} if named else row

    def _add(self, label: str, id_: str, where: str, told: Mapping[str, Any] = MappingProxyType({})) -> bool:
        """Make a node that is not there yet, of what is told of it; whether it was not there."""
        self._check_not_gone(label, id_, where)
        new = id_ not in self._ids(label) and id_ not in self.net.nodes[label]
        if new:
            kinds = self._schema.nodes[label]
            self.net.nodes[label][id_] = self._fresh(label, id_) | {n: v for n, v in told.items() if n in kinds}
        return new

    def _retire(self, label: str, id_: str) -> None:
        if id_ not in self.net.nodes[label] and id_ not in self.net.gone[label]:
            self._must_be(label, id_, "field 'id'")
        self.net.nodes[label].pop(id_, None)
        self.net.gone[label].add(id_)
        if (label, id_) not in self._linked:
            return
        for key, rows in self.net.edges.items():
            ends = [n for n, end in enumerate((key.source, key.target)) if end == label]
            for pair in [pair for pair in rows if any(pair[n] == id_ for n in ends)]:
                del rows[pair]
        if label in (self._item, self._user):
            own = "item" if label == self._item else "user"
            self.net.events = [event for event in self.net.events if getattr(event, own) != id_]

    def _empty(self, key: EdgeKey, source: str) -> None:
        self.net.emptied[key].add(source)
        if (key.source, source) not in self._linked:
            return
        for pair in [pair for pair in self.net.edges[key] if pair[0] == source]:
            del self.net.edges[key][pair]

    def _relate(
        self, source: str | ch.End, relation: str, target: str | ch.End, properties: Mapping[str, Any], where: str
    ) -> None:
        key, one, other = self._edge(source, relation, target, where)
        kinds = self._schema.edges[key]
        row = {name: _typed(name, value, kinds, relation) for name, value in properties.items()}
        self._must_be(key.source, one, "field 'source'")
        if key.target in (self._item, self._user):
            self._must_be(key.target, other, where)
        else:
            self._add(key.target, other, where)
        self._linked |= {(key.source, one), (key.target, other)}
        self.net.edges[key][one, other] = row

    def _edge(self, source: str | ch.End, relation: str, target: str | ch.End, where: str) -> tuple[EdgeKey, str, str]:
        """The relation between these two labels; one that loading has turned round, to leave its item, either way."""
        start = source if isinstance(source, ch.End) else ch.End(label=self._item, id=source)
        back = EdgeKey(self._item, relation, start.label)
        to_item = not isinstance(target, ch.End) or target.label == self._item
        if start.label not in (self._item, self._user) and to_item and back in self._schema.edges:
            return back, target.id if isinstance(target, ch.End) else target, start.id
        keys = self._keys_of(relation, start.label)
        if isinstance(target, ch.End):
            keys = [key for key in keys if key.target == target.label]
            if not keys:
                raise _ChangeError(
                    f"{where}: no {start.label}-{relation}->{target.label} in the graph; a rebuild can add it"
                )
        elif len(keys) > 1:
            labels = ", ".join(key.target for key in keys)
            shown = f'{{"label": "{keys[0].target}", "id": "{target}"}}'
            raise _ChangeError(f"{where}: {relation} leads to {labels}; write {shown}")
        return keys[0], start.id, target.id if isinstance(target, ch.End) else target

    def _keys_of(self, relation: str, source: str | None = None, where: str = "field 'relation'") -> list[EdgeKey]:
        label, found = source or self._item, self._schema.relations()
        made = {INTERACTED, HELD_OUT} | ({self._config.baskets.relation} if self._config.baskets else set())
        if relation in made:
            raise _ChangeError(f"{where}: {relation} is made from the interactions; change those")
        keys = [key for key in found.get(relation, ()) if key.source == label]
        if not keys:
            known = [name for name, all_keys in found.items() if any(key.source == label for key in all_keys)]
            hint = did_you_mean(relation, set(known) - made)
            raise _ChangeError(f"{where}: the graph has no {relation!r} of {label}{hint}; a new one needs a rebuild")
        return keys

    def _other(self, label: str) -> str:
        """A label that is not the items' or the users'."""
        for own, op in ((self._item, "item"), (self._user, "user")):
            if label == own:
                raise _ChangeError(f"field 'label': {label} nodes are the shop's {op}s; say upsert_{op} or retire_{op}")
        if label not in self._schema.nodes:
            hint = did_you_mean(label, set(self._schema.nodes) - {self._item, self._user})
            raise _ChangeError(f"field 'label': the graph has no {label!r}{hint}; a new one needs a rebuild")
        return label

    def _must_be(self, label: str, id_: str, where: str) -> None:
        self._check_not_gone(label, id_, where)
        known = self._ids(label)
        if id_ not in known and id_ not in self.net.nodes[label]:
            hint = did_you_mean(id_, known) if len(known) < MOST_HINTED else ""
            raise _ChangeError(f"{where}: there is no {label} {id_!r}{hint}; add it before this change")

    def _check_not_gone(self, label: str, id_: str, where: str) -> None:
        if id_ in self.net.gone[label]:
            raise _ChangeError(
                f"{where}: {label} {id_!r} is retired earlier in this batch; put this into a later batch"
            )

    def _ids(self, label: str) -> set[str]:
        if label not in self._known:
            self._known[label] = set(self._before.nodes(label)["id"].to_pylist())
        return self._known[label]

    def _present(self, label: str) -> dict[str, Row]:
        """id -> properties of every node there was."""
        if label not in self._rows:
            rows = self._before.nodes(label, list(self._schema.nodes[label])).to_pylist()
            self._rows[label] = {row.pop("id"): row for row in rows}
        return self._rows[label]


def _typed(name: str, value: Any, kinds: Mapping[str, ColumnType], what: str) -> ch.Value:
    """A property's value as its column holds it."""
    where = f"field 'properties.{name}'"
    if name not in kinds:
        raise _ChangeError(
            f"{where}: {what} has no such property{did_you_mean(name, kinds)}; a new one needs a rebuild"
        )
    if value is None:
        return None
    found = READ[kinds[name]](value)
    if found is None:
        raise _ChangeError(f"{where}: {str(value)[:80]!r} is no {kinds[name]}; write {WRITTEN[kinds[name]]}")
    return found


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        return None
    return int(value) if -(2**63) <= value < 2**63 else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


READ: Mapping[ColumnType, Callable[[Any], ch.Value]] = {
    "bool": lambda value: value if isinstance(value, bool) else None,
    "int64": _whole,
    "float64": _number,
    "string": lambda value: value if isinstance(value, str) else None,
}
WRITTEN: Mapping[ColumnType, str] = {
    "bool": "true or false",
    "int64": "a whole number (a time as milliseconds since 1970)",
    "float64": "a number",
    "string": "a text in double quotes",
}
