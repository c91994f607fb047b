"""A first shop.toml for a Neo4j graph: what it holds, guessed into settings that load as they stand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from ..config import ShopConfig, is_label
from ..errors import ConfigError, DataError, did_you_mean
from ..loaders import draft_items, draft_log
from ..loaders.checks import Rejects
from ..loaders.draft_log import Log
from ..loaders.guess import Roles
from ..loaders.hints import ITEM, RESERVED, TAKEN, USER, Names, words
from ..loaders.profile import Column, Table
from ..loaders.tables import ROW
from ..loaders.toml_draft import Block, render
from . import live_schema as schema
from .bolt import Bolt
from .live import LiveGraph
from .live_read import Place, Way, along, nodes
from .schema import quoted

TITLE: Final = (
    "Drafted by `catalograph init` from a graph; what was seen stands beside each guess. See docs/live-graph.md."
)
CHUNKS: Final = 4  # of nodes, and of events, that are looked at: some hundred thousand
MAKESHIFT: Final = ("name", "title", "label", "code", "value")  # ids where none tells nodes apart
MOST: Final = 0.9  # of the nodes, for a makeshift id


@dataclass(frozen=True)
class Told:
    """A label, its id property, and a table of its nodes, or of some of them."""

    label: str
    id: str
    table: Table
    count: int

    @property
    def key(self) -> Column:
        """The column of ids."""
        return self.table.columns[self.id]

    def size(self) -> str:
        """For a comment."""
        seen = "" if self.table.rows == self.count else f", {self.table.rows:,} of them looked at"
        return f"(:{self.label}): {self.count:,} nodes{seen}"


def draft_graph(url: str, *, name: str, user: str | None = None, item: str | None = None) -> str:
    """The text of a shop.toml for the graph at an address; `user` and `item` name labels that cannot be guessed.

    Raises:
        ConfigError: nothing tells users, items and the way between.
        DataError: items or users have no property to tell them apart by.
    """
    with closing(Bolt(url)) as bolt:
        return _Draft(bolt, url, user, item).text(name)


class _Draft:
    """The blocks of one draft, and what will have to be set aside."""

    def __init__(self, bolt: Bolt, url: str, user: str | None, item: str | None) -> None:
        self._bolt, self._url, self._links = bolt, url, schema.links(bolt)
        self._bad: list[str] = []
        self._skip: list[str] = []
        self._way, *self._other_ways = self._ways(user, item)
        self._users, self._items = self._told(self._way.start), self._told(self._way.end)
        self._names = Names([*RESERVED, *schema.labels(bolt), *schema.relation_types(bolt)])

    def text(self, name: str) -> str:
        """All of it."""
        log, notes = self._log(), list[str]()
        known, people, edges = self._items_blocks(), self._users_block(), self._edges(notes)
        held_out = [draft_log.baskets(log), draft_log.split(log)]
        blocks = [*self._head(name, notes), *known, people, *edges, self._interactions(log), *held_out]
        drafted: str = render([TITLE], [block for block in blocks if block is not None])
        return drafted

    def _head(self, name: str, notes: list[str]) -> list[Block]:
        """[shop] and [graph]."""
        shop, graph = Block("[shop]", why=self._bad), Block("[graph]", why=notes)
        shop.add("name", name)
        if self._bad:
            shop.add("on_bad_rows", "quarantine", 'what breaks a rule is set aside; "fail" would stop at the first')
        graph.add("url", self._url, "credentials come from NEO4J_USERNAME and NEO4J_PASSWORD")
        if self._skip:
            graph.add("skip", sorted(set(self._skip)), "the relations above")
        return [shop, graph]

    def _items_blocks(self) -> list[Block]:
        block = Block("[items]", why=[self._items.size()])
        block.add("label", self._items.label)
        return [block, *draft_items.fill(block, self._items.table, self._items.key, self._names, ())]

    def _users_block(self) -> Block:
        block, key = Block("[users]", why=[self._users.size()]), self._users.key
        block.add("label", self._users.label)
        block.add("id", key.name, key.seen())
        draft_items.add_properties(block, [c for c in self._users.table.columns.values() if c is not key])
        return block

    def _interactions(self, log: Log) -> Block:
        block = Block("[interactions]", why=[str(self._way)])
        block.add("relation", _one_or_all(self._way.relations))
        for way in self._other_ways[:3]:
            if (way.start, way.end) == (self._way.start, self._way.end):
                block.add("relation", _one_or_all(way.relations), str(way), off=True)
        draft_log.fill(block, log)
        if self._bad and log.quantity is not None and not block.get("returns"):
            block.add("returns", "drop", "should there be any that are not above 0")
        return block

    # What users took

    def _ways(self, user: str | None, item: str | None) -> list[Way]:
        """Ways of one step or two from users to items, the likeliest first."""
        labels = [label for label in schema.labels(self._bolt) if is_label(label)]
        users, items = _called(labels, user, USER, "--user"), _called(labels, item, ITEM, "--item")
        found = [way for u in users for i in items if u != i for way in self._ways_between(u, i)]
        if not found:
            seen = ", ".join(labels[:10]) or "none"
            raise ConfigError(
                f"{self._url}: no relation leads from users to items by their names; the labels are {seen}; "
                "say which they are by --user LABEL --item LABEL"
            )
        return sorted(found, key=self._rank, reverse=True)

    def _ways_between(self, user: str, item: str) -> Iterator[Way]:
        for first, middle in self._beside(user):
            if middle == item:
                yield Way(user, (first,), item)
            elif middle != user:
                yield from (Way(user, (first, then), item) for then, end in self._beside(middle) if end == item)

    def _beside(self, label: str) -> list[tuple[str, str]]:
        """(relation type, label) of what a label is linked to, in any direction."""
        found = [(relation, ends) for starts, relation, ends, _ in self._links if label in starts]
        found += [(relation, starts) for starts, relation, ends, _ in self._links if label in ends]
        pairs = ((relation, other) for relation, others in found for other in others)
        return list(dict.fromkeys((r, other) for r, other in pairs if is_label(r) and is_label(other)))

    def _rank(self, way: Way) -> tuple[bool, int, int, int]:
        """Ways that speak of taking come first, then short ones, then those between most nodes."""
        middles = [label for r, label in self._beside(way.start) if len(way.relations) > 1 and r == way.relations[0]]
        said = {word for name in (*way.relations, *middles) for word in words(name)}
        ends = [schema.count(self._bolt, f"(:{quoted(label)})") for label in (way.end, way.start)]
        return bool(said & TAKEN), -len(way.relations), ends[0], ends[1]

    def _log(self) -> Log:
        """The events, or some of them, as a table."""
        told = schema.way_properties(self._bolt, self._way)
        keys = [key for key in told if schema.can_be_quoted(key) and key not in ("a", "b", ROW)]
        places = {key: Place(told[key], key, "time") for key in keys}
        frame = along(self._bolt, self._way, places, most=CHUNKS)
        total = schema.count(self._bolt, self._way.pattern())
        if frame.height < total:
            self._bad.append(f"{frame.height:,} of {total:,} events were looked at; others may differ")
        events = frame.select(pl.col("a", "b").cast(pl.String)).with_columns(frame[key] for key in keys)
        table = Table.of("-".join(self._way.relations), events, "events")
        log = Log(Roles(table, table.columns["a"], table.columns["b"]))
        self._bad += log.bad
        return log

    # What is known of items

    def _told(self, label: str) -> Told:
        """Items or users, with an id: the property that tells them apart, or one that nearly does."""
        bolt, count = self._bolt, schema.count(self._bolt, f"(:{quoted(label)})")
        id_ = schema.identifier(bolt, label)
        keys = {*filter(schema.can_be_quoted, schema.properties(bolt, label)), *([id_] if id_ else [])} - {ROW}
        table = Table.of(label, nodes(bolt, label, {key: (key, "time") for key in sorted(keys)}, most=CHUNKS), "nodes")
        if table.rows < count:
            table = self._kept_to(table, label)
        if id_ is None:
            likely = [c for c in table.columns.values() if c.is_id_like and c.distinct >= MOST * table.rows]
            if not likely:
                raise DataError(f"{self._url}: no property tells the {label} nodes apart; give them an id first")
            best = min(likely, key=lambda column: (-column.distinct, schema.id_rank(label, column.name)))
            id_ = best.name
            self._bad.append(f"{table.rows - best.distinct:,} {label} nodes repeat {id_}, or have none")
        return Told(label, id_, table, count)

    def _kept_to(self, table: Table, label: str) -> Table:
        """Some nodes as a table in which a column has only a type that every node of the label keeps to."""
        sure = {name: c for name, c in table.columns.items() if schema.keeps_to(self._bolt, label, name, c.kind)}
        return replace(table, columns={n: sure.get(n) or replace(c, kind="string") for n, c in table.columns.items()})

    def _edges(self, notes: list[str]) -> list[Block]:
        """[[edges]]: the relations of items, and those between the nodes they lead to."""
        rejects, blocks, ids, items = Rejects(), list[Block](), dict[str, str](), self._items.label
        spelt = {name.lower(): name for name in (items, self._users.label, *RESERVED)}
        with closing(LiveGraph(self._config())) as live:
            sections = list(live.relations(rejects))
        for (relation, reason), n in rejects.counts.items():
            notes.append(f"{n:,} {relation} left out: {reason}")
            self._skip += [relation] if is_label(relation) else []
        for section in sections:
            relation, label = section.relation, section.target_label
            id_ = "" if label == items else ids.get(label) or self._makeshift_id(label)
            clash = any(spelt.setdefault(name.lower(), name) != name for name in (relation, label))
            if id_ is None or clash:
                why = "a name that differs in case alone is taken" if clash else f"nothing calls the {label} nodes"
                notes.append(f"{relation} left out: {why}")
                self._skip.append(relation)
                continue
            count = sum(n for labels, n in schema.ends(self._bolt, items, relation) if label in labels)
            blocks.append(self._edge(relation, None, label, id_, f"(:{items})-[:{relation}]-(:{label}): {count:,}"))
            ids |= {label: id_} if id_ else {}
        return [*blocks, *self._trees(ids, spelt)]

    def _trees(self, ids: dict[str, str], spelt: dict[str, str]) -> Iterator[Block]:
        """Relations between nodes of one label, such as categories and their parents."""
        both = [(relation, starts & ends & ids.keys()) for starts, relation, ends, _ in self._links]
        for relation, label in dict.fromkeys(
            (relation, label) for relation, labels in both for label in sorted(labels)
        ):
            if is_label(relation) and spelt.setdefault(relation.lower(), relation) == relation:
                yield self._edge(relation, label, label, ids[label], f"(:{label})-[:{relation}]->(:{label})")

    def _edge(self, relation: str, source: str | None, target: str, id_: str, why: str) -> Block:
        block = Block("[[edges]]", why=[why])
        block.add("relation", relation)
        if source:
            block.add("source_label", source)
        block.add("target_label", target)
        if id_ and not source:
            apart = schema.tells_apart(self._bolt, target, id_)
            block.add("target", id_, "" if apart else f"not different on every {target}; those with one become one")
        return block

    def _makeshift_id(self, label: str) -> str | None:
        """The property that tells the nodes of a label apart, or else calls them something."""
        found = schema.identifier(self._bolt, label)
        if found is not None:
            return found
        known = schema.properties(self._bolt, label)
        found = next((name for name in MAKESHIFT if name in known), None)
        if found is not None:
            empty = schema.count(self._bolt, f"(n:{quoted(label)} WHERE n.{quoted(found)} IS NULL)")
            self._bad += [f"{empty:,} {label} nodes have no {found}"] if empty else []
        return found

    def _config(self) -> ShopConfig:
        return ShopConfig.model_validate(
            {
                "shop": {"name": "draft"},
                "graph": {"url": self._url},
                "items": {"label": self._items.label, "id": self._items.id},
                "users": {"label": self._users.label, "id": self._users.id},
                "interactions": {"relation": self._way.relations},
            }
        )


def _called(labels: list[str], told: str | None, hints: frozenset[str], option: str) -> list[str]:
    """The label told, or those called like one of the hints."""
    if told is None:
        return [label for label in labels if hints.intersection(words(label))]
    if told not in labels:
        raise ConfigError(f"the graph has no label {told!r} ({option}){did_you_mean(told, labels)}")
    return [told]


def _one_or_all(relations: tuple[str, ...]) -> str | list[str]:
    return relations[0] if len(relations) == 1 else list(relations)
