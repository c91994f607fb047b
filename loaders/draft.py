"""A first shop.toml for some tables: what their columns look like, guessed into settings that load as they stand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from . import draft_items, draft_log
from .draft_log import Log
from .guess import Facts, Roles, Triples, covered, roles
from .hints import ID, NO_MEANING, RESERVED, Names, noun, words
from .profile import Column, Table
from .toml_draft import Block, render
from .triples import label_of

ITEMS, USERS = "Item", "User"
NAMED, TYPED = frozenset(["name", "title"]), frozenset(["type", "kind", "label"])
TITLE: Final = "Drafted by `catalograph init`; what was seen stands beside each guess. Every key: docs/shop-toml.md."


def draft(files: Sequence[Path], *, name: str, beside: Path, user: str | None = None, item: str | None = None) -> str:
    """The text of a shop.toml, to lie in the folder `beside`, for these tables.

    user, item: columns of the log, where they cannot be guessed.

    Raises:
        DataError: a table cannot be read.
        ConfigError: no table tells who took what.
    """
    found = roles([Table.read(file) for file in files], user=user, item=item)
    folder = Path(os.path.commonpath([file.resolve().parent for file in files]))
    return _Draft(found, folder).text(name, os.path.relpath(folder, beside.resolve()))


class _Draft:
    """The blocks of one draft, and what will have to be set aside."""

    def __init__(self, found: Roles, folder: Path) -> None:
        self._roles, self._folder, self._log = found, folder, Log(found)
        self._names = Names([*RESERVED, ITEMS, USERS])
        self._bad = list(self._log.bad)

    def text(self, name: str, data: str) -> str:
        """All of it."""
        known = self._items()
        facts = [*map(self._facts, self._roles.facts), *map(self._triples, self._roles.triples)]
        log = self._interactions()
        held_out = [draft_log.baskets(self._log), draft_log.split(self._log)]
        blocks = [self._shop(name, data), *known, self._users(), *facts, log, *held_out, _encoder([*known, *facts])]
        unused = [f"Not used: {table.name}, {why}" for table, why in self._roles.unused]
        return render([TITLE, *unused], [block for block in blocks if block is not None])

    def _shop(self, name: str, data: str) -> Block:
        block = Block("[shop]")
        block.add("name", name)
        if data != ".":
            block.add("data", data.replace(os.sep, "/"))
        if self._bad:
            block.why = self._bad
            block.add("on_bad_rows", "quarantine", 'the rows above are set aside; "fail" would stop at the first')
        return block

    def _items(self) -> list[Block]:
        """[items] and [[attributes]]."""
        if self._roles.items is None:
            why = f"no table tells of items: they are what {self._log.item.name} says"
            block, attributes = Block("[items]", why=[why]), list[Block]()
        else:
            table, key = self._roles.items
            block = Block("[items]", why=[f"{table.name}: {table.rows:,} rows"])
            block.add("file", self._path(table))
            attributes = draft_items.fill(block, table, key, self._names, self._graph_labels())
            self._check_items(table, key)
        prices = self._log.prices[:1]
        if prices and not _has_price(block):
            told = {"price": {"column": prices[0].name, "how": "median"}}
            block.add("derived", told, "of the training events alone")
            attributes.append(draft_items.bands("price", prices[0], self._names))
        return [block, *attributes] if block.entries else []

    def _check_items(self, table: Table, key: Column) -> None:
        log = self._log.table.name
        self._count(key.rows - key.distinct, f"rows of {table.name} repeat an id, or have none")
        self._count(_unknown(self._log.item, key), f"rows of {log} have an item that is not in {table.name}")

    def _users(self) -> Block | None:
        """[users], where anything is known of them."""
        block = Block("[users]")
        if self._roles.users is None:
            block.why = ["of the log: what does not change from a user's event to the next"]
            draft_items.add_properties(block, self._log.user_columns())
        else:
            table, key = self._roles.users
            block.add("file", self._path(table))
            block.add("id", key.name, key.seen())
            draft_items.add_properties(block, [c for c in table.columns.values() if c is not key])
        return block if block.entries else None

    def _interactions(self) -> Block:
        """[interactions]."""
        log, doubt = self._log, "" if self._roles.sure else "; no name says so: --user and --item tell init better"
        block = Block("[interactions]", why=[f"{log.table.name}: {len(log.user.cells):,} rows, each an event"])
        block.add("file", self._path(log.table))
        block.add("user", log.user.name, log.user.seen() + doubt)
        if log.without_user():
            block.add("missing_user", "drop", f"{log.without_user():,} rows have no {log.user.name}")
        block.add("item", log.item.name, log.item.seen())
        draft_log.fill(block, log)
        return block

    def _facts(self, facts: Facts) -> Block:
        """[[edges]] of a table with one relation."""
        file = facts.table.name
        block, parts = Block("[[edges]]", why=[f"{file}: {facts.table.rows:,} rows"]), self._about(facts)
        block.add("file", self._path(facts.table))
        block.add("relation", self._names.relation(parts))
        block.add("source", facts.item.name, facts.item.seen())
        block.add("target", facts.target.name, facts.target.seen())
        to_items = facts.target.says(frozenset(self._ids.words) - ID) and covered(facts.target, self._ids) == 1
        block.add("target_label", ITEMS if to_items else self._names.label(parts))
        draft_items.add_properties(block, facts.numbers)
        self._check_filled(facts.table, facts.item, facts.target)
        self._count(_unknown(facts.item, self._ids), f"rows of {file} speak of an item nobody else does")
        return block

    def _about(self, facts: Facts) -> list[str]:
        """What the relation is about: the target's name, or what tells this file's name from the others'."""
        if any(word not in NO_MEANING for word in facts.target.words):
            return noun(facts.target.name)
        stems = [words(other.table.stem) for other in self._roles.facts]
        own = [word for n, word in enumerate(words(facts.table.stem)) if len({stem[n : n + 1] for stem in stems}) > 1]
        return noun("_".join(own) or facts.table.stem)

    def _triples(self, triples: Triples) -> Block:
        """[[triples]] with the tables of entities and relation names."""
        block = Block("[[triples]]", why=[f"{triples.table.name}: {triples.table.rows:,} rows"])
        block.add("file", self._path(triples.table))
        for key, column in (("head", triples.head), ("relation", triples.relation), ("tail", triples.tail)):
            block.add(key, column.name, column.seen())
        told = _entity_columns(triples, self._ids)
        if triples.entities:
            table, ids = triples.entities
            columns = {name: column.name for name, column in told.items() if column is not None}
            block.add("entities", {"file": self._path(table), "id": ids.name, **columns})
        if triples.names:
            table, ids = triples.names
            called = next((c for c in table.columns.values() if c is not ids and c.says(NAMED)), ids)
            block.add("names", {"file": self._path(table), "id": ids.name, "name": called.name})
        share = max(covered(self._ids, triples.head), covered(self._ids, triples.tail))
        if told["item"] is None and share > 0.5:
            block.add("items", "shared", f"{share:.0%} of the item ids are entity ids too")
        self._check_filled(triples.table, triples.head, triples.relation, triples.tail)
        return block

    @property
    def _ids(self) -> Column:
        return self._roles.items[1] if self._roles.items else self._roles.item

    def _graph_labels(self) -> set[str]:
        """Labels that the ready graphs bring."""
        kinds = [_entity_columns(triples, self._ids)["type"] for triples in self._roles.triples]
        return {label_of(value) for kind in kinds if kind is not None for value in kind.values}

    def _check_filled(self, table: Table, *columns: Column) -> None:
        self._count(max(c.rows - c.filled for c in columns), f"rows of {table.name} are not filled")

    def _count(self, rows: int, what: str) -> None:
        if rows:
            self._bad.append(f"{rows:,} {what}")

    def _path(self, table: Table) -> str:
        assert table.file is not None
        return table.file.resolve().relative_to(self._folder).as_posix()


def _encoder(blocks: Sequence[Block]) -> Block | None:
    """[encoder], an alternative: texts that tell what items are linked to as well."""
    titles = [block.get("title") for block in blocks if block.get("title")]
    linked = [b for b in blocks if b.header in ("[[attributes]]", "[[edges]]") and not b.off and not b.get("bands")]
    if not titles or not linked:
        return None
    block = Block("[encoder]", why=["without it the title is all that is encoded as text"], off=True)
    block.add("text", [*titles, *(b.get("relation") for b in linked[:3])])
    return block


def _has_price(items: Block) -> bool:
    properties = items.get("properties")
    return isinstance(properties, dict) and any("price" in words(name) for name in properties)


def _unknown(column: Column, ids: Column) -> int:
    """Rows with an id that is none."""
    return int((~column.cells.drop_nulls().is_in(ids.values.implode())).sum())


def _entity_columns(triples: Triples, ids: Column) -> dict[str, Column | None]:
    """The columns of the table of entities by their parts."""
    if triples.entities is None:
        return dict.fromkeys(("type", "name", "item"))
    table, key = triples.entities
    rest = [c for c in table.columns.values() if c is not key]
    item = next((c for c in rest if c.words == ids.words and c.filled and covered(c, ids) == 1), None)
    kind = next((c for c in rest if c.says(TYPED) and c.distinct < c.filled), None)
    name = next((c for c in rest if c is not item and c is not kind and c.says(NAMED)), None)
    return {"type": kind, "name": name, "item": item}
