"""Bulk reading of a Neo4j graph made elsewhere: columns come as lists, a hundred thousand values in a record.

`collect()` drops nulls, so nodes and relations are collected, which are never null, and their properties are taken from
them in list comprehensions. Internal ids, good for one reading, say which node an end is. The server turns times into
numbers: as objects of the driver they cost ten times as much.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import neo4j
import neo4j.spatial
import neo4j.time
import numpy as np
import polars as pl

from ..config import PropertyType
from ..errors import ConfigError
from ..loaders.source import Columns
from ..loaders.tables import ROW, text
from .bolt import Bolt

CYPHER: Final = "CYPHER 5 "  # the language that has id(); elementId() of the later ones is text, and slow
NODES, RELATIONS = 50_000, 100_000  # of one record
SESSIONS = 3
TIMES: Final = "{x} IS :: ZONED DATETIME OR {x} IS :: LOCAL DATETIME OR {x} IS :: DATE"
MOMENT: Final = (
    "CASE WHEN {x} IS :: ZONED DATETIME THEN {x}.epochMillis"
    " WHEN {x} IS :: LOCAL DATETIME THEN datetime({{datetime: {x}, timezone: 'UTC'}}).epochMillis"
    " WHEN {x} IS :: DATE THEN datetime({{date: {x}, timezone: 'UTC'}}).epochMillis END"
)  # ms since 1970 UTC, null of anything else
NO_MOMENT: Final = f"CASE WHEN {TIMES} THEN null ELSE {{x}} END"


def quoted(name: str) -> str:
    """A label, relation type or property for Cypher text, where escapes such as \\u0060 are undone before parsing.

    Raises:
        ConfigError: the name could end its own quotes.
    """
    if not name or "`" in name or "\\" in name:
        raise ConfigError(f"{name!r} is no name a query can hold: back-ticks and back-slashes are refused")
    return f"`{name}`"


@dataclass(frozen=True)
class Way:
    """(a:start)-[r0]-(n1)-[r1]-(b:end), one relation type a step; a direction counts between equal labels alone."""

    start: str
    relations: tuple[str, ...]
    end: str

    def __str__(self) -> str:
        return f"(:{self.start})" + "".join(f"-[:{name}]-" for name in self.relations) + f"(:{self.end})"

    @property
    def last(self) -> str:
        """The variable of the last relation."""
        return f"r{len(self.relations) - 1}"

    def variables(self) -> list[str]:
        """Relations and the nodes between them, nearest to the end first."""
        return [name for k in range(len(self.relations) - 1, -1, -1) for name in ([f"r{k}", f"n{k}"] if k else ["r0"])]

    def first_step(self) -> str:
        """The first relation, from any node to any."""
        return self._step(0, "") + "()"

    def pattern(self, start: str) -> str:
        """All of it, from the node pattern `start`."""
        nodes = [*(f"(n{k})" for k in range(1, len(self.relations))), f"(b:{quoted(self.end)})"]
        return start + "".join(self._step(k, f"r{k}") + node for k, node in enumerate(nodes))

    def _step(self, k: int, variable: str) -> str:
        head = ">" if self.start == self.end else ""
        return f"-[{variable}:{quoted(self.relations[k])}]-{head}"


@dataclass(frozen=True)
class Place:
    """A property of one variable of a :class:`Way`, and what it will be read as."""

    variable: str
    property: str
    kind: PropertyType


class Reader:
    """Questions to one graph, none of which can change it: each runs in a READ transaction."""

    def __init__(self, bolt: Bolt) -> None:
        self._bolt = bolt

    @property
    def url(self) -> str:
        """Where the graph is."""
        return self._bolt.url

    def ask(self, query: str, **parameters: Any) -> list[neo4j.Record]:
        """All records of one query."""
        return self._bolt.read(CYPHER + query, parameters)

    def state(self) -> str:
        """Changes whenever the graph does."""
        return self._bolt.state()

    def close(self) -> None:
        """Let go of the connections."""
        self._bolt.close()

    def nodes(self, label: str, columns: Columns) -> pl.DataFrame:
        """ROW (the internal id) and the columns of all nodes of a label, as polars read them; see :func:`series`."""
        values = [value for property_, kind in columns.values() for value in _values("nodes", property_, kind)]
        query = (
            f"MATCH (n:{quoted(label)}) WHERE $low <= id(n) < $high WITH collect(n) AS nodes "
            f"RETURN {_named(['[x IN nodes | id(x)]', *values])}"
        )
        kinds = {name: kind for name, (_, kind) in columns.items()}
        return self._read(query, self._ranges(label), [ROW], kinds)

    def along(self, way: Way, columns: Mapping[str, Place]) -> pl.DataFrame:
        """`a` and `b` (internal ids of the ends), ROW (that of the last relation) and columns: a row for every way."""
        needed = dict.fromkeys([way.last, *(place.variable for place in columns.values())])
        values = [
            value for place in columns.values() for value in _values(f"{place.variable}s", place.property, place.kind)
        ]
        query = (
            f"UNWIND $starts AS start MATCH (a) WHERE id(a) = start WITH a MATCH {way.pattern('(a)')} "
            f"WITH collect(id(a)) AS a, collect(id(b)) AS b, {', '.join(f'collect({v}) AS {v}s' for v in needed)} "
            f"RETURN {_named(['a', 'b', f'[x IN {way.last}s | id(x)]', *values])}"
        )
        kinds = {name: place.kind for name, place in columns.items()}
        return self._read(query, self._starts(way), ["a", "b", ROW], kinds)

    def _ranges(self, label: str) -> list[dict[str, Any]]:
        """Ranges of internal ids with about NODES nodes of the label each."""
        query = f"MATCH (n:{quoted(label)}) RETURN min(id(n)), max(id(n)), count(n)"
        ((low, high, count),) = self.ask(query)
        if not count:
            return []
        borders = np.linspace(low, high + 1, math.ceil(count / NODES) + 1).astype(np.int64).tolist()
        return [{"low": a, "high": b} for a, b in pairwise(borders)]

    def _starts(self, way: Way) -> Iterator[dict[str, Any]]:
        """Batches of the nodes a way leaves, with about RELATIONS first steps each, however unequal the nodes are."""
        query = (
            f"MATCH (n:{quoted(way.start)}) WHERE $low <= id(n) < $high "
            f"WITH n, COUNT {{ (n){way.first_step()} }} AS steps WHERE steps > 0 RETURN collect(id(n)), collect(steps)"
        )
        for part in self._ranges(way.start):
            ((ids, steps),) = self.ask(query, **part)
            batch = np.cumsum(steps, dtype=np.int64) // RELATIONS
            for group in np.split(np.asarray(ids, np.int64), np.flatnonzero(np.diff(batch)) + 1):
                yield {"starts": group.tolist()}

    def _read(
        self, query: str, parts: Iterable[dict[str, Any]], numbers: Sequence[str], kinds: Mapping[str, PropertyType]
    ) -> pl.DataFrame:
        """One query for every part, over a few sessions; the parts one below the other, in order."""
        empty = pl.DataFrame(schema={**dict.fromkeys(numbers, pl.Int64), **dict.fromkeys(kinds, pl.Null)})

        def frame(part: dict[str, Any]) -> pl.DataFrame:
            (record,) = self.ask(query, **part)
            return _frame(list(record), numbers, kinds)

        with ThreadPoolExecutor(SESSIONS) as pool:
            return _stacked([empty, *pool.map(frame, parts)])


def _values(of: str, property_: str, kind: PropertyType) -> list[str]:
    """What to return for a property of a list of nodes or relations: of a time, moments and whatever is none."""
    forms = [MOMENT, NO_MOMENT] if kind == "time" else ["{x}"]
    return [f"[x IN {of} | {form.format(x=f'x.{quoted(property_)}')}]" for form in forms]


def _named(values: list[str]) -> str:
    return ", ".join(f"{value} AS c{n}" for n, value in enumerate(values))


def _frame(lists: list[list[Any]], numbers: Sequence[str], kinds: Mapping[str, PropertyType]) -> pl.DataFrame:
    """The lists of one record, which stand in the order of the columns."""
    left = iter(lists)
    columns = [pl.Series(name, next(left), pl.Int64) for name in numbers]
    for name, kind in kinds.items():
        moments = pl.Series(name, next(left), pl.Int64).cast(pl.Datetime("ms")) if kind == "time" else None
        column = series(name, next(left))
        if moments is not None and moments.null_count() < len(moments):
            both = _stacked([pl.DataFrame([moments]), pl.DataFrame([column])])[name]
            column = both.head(len(moments)).zip_with(moments.is_not_null(), both.tail(len(moments)))
        columns.append(column)
    return pl.DataFrame(columns)


def series(name: str, values: list[Any]) -> pl.Series:
    """Property values as a column: of their type when they agree, a list where some are lists, else their text.

    A point is its WKT, a duration ISO 8601, bytes are hexadecimal digits.
    """
    found = set(map(type, values)) - {type(None)}
    for kind, dtype in ((bool, pl.Boolean), (int, pl.Int64), (float, pl.Float64), (str, pl.String)):
        if found <= {kind}:
            return pl.Series(name, values, dtype if found else pl.Null)
    if list in found:
        lists = [v if isinstance(v, list) or v is None else [v] for v in values]
        return pl.Series(name, [None if v is None else [_text(x) for x in v] for v in lists], pl.List(pl.String))
    return pl.Series(name, [None if v is None else _text(v) for v in values], pl.String)


def _text(value: Any) -> str:
    """One property value as text; whole floats lose their ".0", as cells of files do."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, neo4j.spatial.Point):
        return f"POINT({' '.join(f'{x:g}' for x in value)})"
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    return str(value.iso_format()) if hasattr(value, "iso_format") else str(value)


def _stacked(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Frames with the same columns one below the other; where their types differ, the column becomes text or lists."""
    schema = {name: {frame.schema[name] for frame in frames} - {pl.Null} for name in frames[0].columns}
    return pl.concat(
        [frame.select(_as(name, frame.schema[name], kinds) for name, kinds in schema.items()) for frame in frames]
    )


def _as(name: str, own: pl.DataType, kinds: set[pl.DataType]) -> pl.Expr:
    if len(kinds) <= 1:
        return pl.col(name).cast(next(iter(kinds), pl.Null()))
    if isinstance(own, pl.List):
        return pl.col(name)
    alone: pl.Expr = text(name, own)
    if any(isinstance(kind, pl.List) for kind in kinds):
        alone = pl.when(alone.is_not_null()).then(pl.concat_list(alone))
    return alone.alias(name)
