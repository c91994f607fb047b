"""Which table and which column plays which part in a shop, guessed from names, types and values that occur in both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import polars as pl

from ..errors import ConfigError, did_you_mean
from .hints import ENTITY, HEAD, ID, ITEM, PARTS, POSITION, PRICE, QUANTITY, RELATION, TAIL, TITLES, USER, words
from .profile import Column, Table

TITLED: Final = frozenset(TITLES)
HALF: Final = 0.5
KNOWN: Final = 0.9  # share of values another table has to have before one is taken to speak of the other


@dataclass(frozen=True)
class Facts:
    """A table with one relation of items: item and target columns, and numbers that come along."""

    table: Table
    item: Column
    target: Column
    numbers: tuple[Column, ...]


@dataclass(frozen=True)
class Triples:
    """A ready knowledge graph, and the tables that name its entities and relations."""

    table: Table
    head: Column
    relation: Column
    tail: Column
    entities: tuple[Table, Column] | None = None
    names: tuple[Table, Column] | None = None


@dataclass
class Roles:
    """A shop's tables by their parts. sure: whether the log's columns are called so. unused: table and why."""

    log: Table
    user: Column
    item: Column
    sure: bool = True
    items: tuple[Table, Column] | None = None
    users: tuple[Table, Column] | None = None
    facts: list[Facts] = field(default_factory=list)
    triples: list[Triples] = field(default_factory=list)
    unused: list[tuple[Table, str]] = field(default_factory=list)


def roles(tables: Sequence[Table], *, user: str | None = None, item: str | None = None) -> Roles:
    """The likeliest part of every table; `user` and `item` name columns where the guess would be wrong.

    Raises:
        ConfigError: no table tells who took what.
    """
    log, who, what = _log(tables, user, item)
    found = Roles(log, who, what, (bool(user) or who.says(USER)) and (bool(item) or what.says(ITEM)))
    rest = [table for table in tables if table is not log]
    found.items, found.users = _about(rest, what, ITEM), _about(rest, who, USER)
    told = [pair[0] for pair in (found.items, found.users) if pair is not None]
    rest = [table for table in rest if not any(table is one for one in told)]
    ids = found.items[1] if found.items else what
    found.triples, rest = _triples(rest, ids)
    for table in rest:
        facts = _facts(table, ids, found.user)
        if facts is None:
            found.unused.append((table, _why_unused(table, log)))
        else:
            found.facts.append(facts)
    return found


def covered(part: Column, whole: Column) -> float:
    """Share of the distinct values of one column that another one has."""
    return int(part.values.is_in(whole.values.implode()).sum()) / part.distinct if part.distinct else 0.0


def _log(tables: Sequence[Table], user: str | None, item: str | None) -> tuple[Table, Column, Column]:
    """The table of events and its user and item columns."""
    found = []
    for table in tables:
        who = _named(table, user) if user else _best(table, USER, ITEM)
        what = _named(table, item) if item else _best(table, ITEM, USER)
        who = who or (None if user or what is None else _only_other_id(table, what))
        what = what or (None if item or who is None else _only_other_id(table, who))
        if who is not None and what is not None and who is not what:
            found.append((_log_rank(table, who, what), table, who, what))
    if not found:
        raise ConfigError(_no_log(tables, user, item))
    return max(found, key=lambda candidate: candidate[0])[1:]


def _log_rank(table: Table, who: Column, what: Column) -> tuple[int, int, int]:
    """Events repeat users and items, have a moment, a place in a history or a part in a split, and are many."""
    repeats = (who.distinct < who.filled) + (what.distinct < what.filled)
    ordered = any(
        c.kind == "time" or is_part(c) or (c.kind == "int" and c.says(POSITION)) for c in table.columns.values()
    )
    return repeats, int(ordered), table.rows


def _no_log(tables: Sequence[Table], user: str | None, item: str | None) -> str:
    known = sorted({name for table in tables for name in table.columns})
    for told, option in ((user, "--user"), (item, "--item")):
        if told is not None and told not in known:
            return f"there is no column {told!r} ({option}){did_you_mean(told, known)}"
    files = ", ".join(table.name for table in tables)
    return (
        f"no table tells who took what: none of {files} has a column of users and one of items by its name; "
        f"say which they are by --user COLUMN --item COLUMN{did_you_mean('', known)}"
    )


def _named(table: Table, name: str) -> Column | None:
    return table.columns.get(name)


def _best(table: Table, hints: frozenset[str], others: frozenset[str]) -> Column | None:
    """The column that names users (or items): by a hint in its name, most of all one that ends in an id's word."""

    def rank(column: Column) -> tuple[bool, bool, bool, bool, int]:
        repeats, name = column.distinct < column.filled, column.words
        return repeats, name[-1] in ID, len(name) == 1, not column.says(others), column.distinct

    fitting = [c for c in table.columns.values() if c.is_id_like and c.says(hints) and not c.says(QUANTITY, PRICE)]
    return max(fitting, key=rank, default=None)


def _only_other_id(table: Table, known: Column) -> Column | None:
    """The one other column whose name ends like an id's, when there is just one and it repeats."""
    others = [
        c for c in table.columns.values() if c is not known and c.is_id_like and c.words[-1:] and c.words[-1] in ID
    ]
    return others[0] if len(others) == 1 and others[0].distinct < others[0].filled else None


def _about(tables: Sequence[Table], ids: Column, hints: frozenset[str]) -> tuple[Table, Column] | None:
    """The table with a row for each of these ids, and its id column: by the names of file and column, and a title."""
    found = []
    for table in tables:
        file, titled = (
            any(word in hints for word in words(table.stem)),
            any(c.says(TITLED) for c in table.columns.values()),
        )
        for column in table.columns.values():
            if not column.is_id_like or column.distinct < KNOWN * column.rows:
                continue
            same, share = column.words == ids.words, covered(ids, column)
            named = same or file or column.says(hints)
            if share >= (HALF if named else KNOWN) and (named or column.kind == "string"):
                found.append(((file, same, titled, share, len(table.columns)), table, column))
    return max(found, key=lambda candidate: candidate[0])[1:] if found else None


def _triples(tables: Sequence[Table], items: Column) -> tuple[list[Triples], list[Table]]:
    """Tables of head, relation and tail with those that name their entities and relations; and the tables left."""
    found: list[Triples] = []
    used: list[Table] = []
    for table in tables:
        ends = [_called(table, hints) for hints in (HEAD, RELATION, TAIL)]
        head, relation, tail = ends
        if head is None or relation is None or tail is None or len({id(end) for end in ends}) < 3:
            continue
        others = [other for other in tables if other is not table]
        entities = _key_table(others, (head, tail), ENTITY)
        names = _key_table([o for o in others if not entities or o is not entities[0]], (relation,), RELATION)
        found.append(Triples(table, head, relation, tail, entities, names))
        used += [table, *(pair[0] for pair in (entities, names) if pair)]
    return found, [table for table in tables if not any(table is one for one in used)]


def _called(table: Table, hints: frozenset[str]) -> Column | None:
    return next((c for c in table.columns.values() if c.kind in ("string", "int") and c.says(hints)), None)


def _key_table(tables: Sequence[Table], parts: Iterable[Column], hints: frozenset[str]) -> tuple[Table, Column] | None:
    """The table whose key has all values of some columns, and is called like one of the hints."""
    for table in tables:
        for column in table.columns.values():
            if column.is_key and column.says(hints) and all(covered(part, column) == 1 for part in parts):
                return table, column
    return None


def _facts(table: Table, ids: Column, user: Column) -> Facts | None:
    """A table of two columns, items and what they are linked to, with nothing but numbers beside."""
    item = next(
        (
            c
            for c in table.columns.values()
            if c.is_id_like and (c.words == ids.words or c.says(ITEM)) and covered(c, ids) >= KNOWN
        ),
        None,
    )
    others = [c for c in table.columns.values() if c is not item and c.filled]
    numbers = [c for c in others if c.kind == "float" or (c.kind == "int" and c.words[-1:] and c.words[-1] not in ID)]
    if len(others) == 1:
        numbers = []
    targets = [c for c in others if not any(c is number for number in numbers)]
    if item is None or len(targets) != 1 or not targets[0].is_id_like or targets[0].words == user.words:
        return None
    return Facts(table, item, targets[0], tuple(numbers))


def _why_unused(table: Table, log: Table) -> str:
    if _best(table, USER, ITEM) and _best(table, ITEM, USER):
        return f"a log like {log.name}"
    return "which is not a column of items and one of what they are linked to"


def is_part(column: Column) -> bool:
    """Whether a column says which part of a split a row is in."""
    values = set(column.values.head(10).str.to_lowercase())
    return column.kind == "string" and {"train", "test"} <= values <= PARTS


def of_kind(table: Table, kinds: Sequence[str], hints: frozenset[str], taken: Iterable[Column]) -> list[Column]:
    """Columns of one of these kinds, called like a hint, that nothing else has taken; fullest first."""
    free = [c for c in table.columns.values() if c.kind in kinds and c.says(hints) and not any(c is t for t in taken)]
    return sorted(free, key=lambda c: -c.filled)


def constant_per(table: Table, key: Column, column: Column) -> float:
    """Share of the key's values that go with one value of a column."""
    pairs = pl.DataFrame({"key": key.cells, "value": column.cells}).drop_nulls().unique()
    counts = pairs.group_by("key").len()["len"]
    return int((counts == 1).sum()) / len(counts) if len(counts) else 0.0
