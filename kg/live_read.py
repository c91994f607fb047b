"""Reading a Neo4j graph made elsewhere: nodes, and ways over relations, as columns of whatever values there are.

Internal ids, good for one reading, say which node an end is. The server turns times into numbers: as objects of the
driver they cost ten times as much.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import neo4j
import neo4j.spatial
import neo4j.time
import polars as pl

from ..config import PropertyType
from ..loaders.source import Columns
from ..loaders.tables import ROW, text
from .bolt import Bolt
from .bulk import in_chunks
from .schema import quoted

TIMES: Final = "{x} IS :: ZONED DATETIME OR {x} IS :: LOCAL DATETIME OR {x} IS :: DATE"
MOMENT: Final = (
    "CASE WHEN {x} IS :: ZONED DATETIME THEN {x}.epochMillis"
    " WHEN {x} IS :: LOCAL DATETIME THEN datetime({{datetime: {x}, timezone: 'UTC'}}).epochMillis"
    " WHEN {x} IS :: DATE THEN datetime({{date: {x}, timezone: 'UTC'}}).epochMillis END"
)  # ms since 1970 UTC, null of anything else
NO_MOMENT: Final = f"CASE WHEN {TIMES} THEN null ELSE {{x}} END"


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

    def pattern(self) -> str:
        """In Cypher."""
        head = ">" if self.start == self.end else ""
        steps = [f"-[r{k}:{quoted(name)}]-{head}" for k, name in enumerate(self.relations)]
        nodes = [*(f"(n{k})" for k in range(1, len(steps))), f"(b:{quoted(self.end)})"]
        return f"(a:{quoted(self.start)})" + "".join(map(str.__add__, steps, nodes))


@dataclass(frozen=True)
class Place:
    """A property of one variable of a :class:`Way`, and what it will be read as."""

    variable: str
    property: str
    kind: PropertyType


def nodes(bolt: Bolt, label: str, columns: Columns, *, most: int | None = None) -> pl.DataFrame:
    """ROW (the internal id) and the columns of all nodes of a label, typed as :func:`series` types them.

    most: chunks of nodes to read, evenly spread, where not all are needed; see :func:`.bulk.in_chunks`.
    """
    places = {name: Place("n", property_, kind) for name, (property_, kind) in columns.items()}
    return _read(bolt, f"(n:{quoted(label)})", "n", {ROW: "n"}, places, most)


def along(bolt: Bolt, way: Way, columns: Mapping[str, Place], *, most: int | None = None) -> pl.DataFrame:
    """`a` and `b` (internal ids of the ends), ROW (that of the last relation) and columns: a row for every way."""
    return _read(bolt, way.pattern(), way.last, {"a": "a", "b": "b", ROW: way.last}, columns, most)


def _read(
    bolt: Bolt, pattern: str, one: str, ids: Mapping[str, str], columns: Mapping[str, Place], most: int | None
) -> pl.DataFrame:
    """Internal ids of variables of a pattern, and properties; in chunks by the ids of the variable `one`."""
    kinds = {name: place.kind for name, place in columns.items()}
    found = dict.fromkeys([*ids.values(), *(place.variable for place in columns.values())])
    values = [f"[x IN {variable}s | id(x)]" for variable in ids.values()]
    values += [value for place in columns.values() for value in _values(place)]
    rest = (
        f"WITH {', '.join(f'collect({variable}) AS {variable}s' for variable in found)} "
        f"RETURN {', '.join(f'{value} AS c{n}' for n, value in enumerate(values))}"
    )
    empty = pl.DataFrame(schema={**dict.fromkeys(ids, pl.Int64), **dict.fromkeys(kinds, pl.Null)})
    chunks = in_chunks(bolt, pattern, one, rest, lambda record: _frame(list(record), list(ids), kinds), most=most)
    return _stacked([empty, *chunks])


def _values(place: Place) -> list[str]:
    """What to return of the nodes or relations collected: of a time, moments and whatever is none."""
    forms, x = [MOMENT, NO_MOMENT] if place.kind == "time" else ["{x}"], f"x.{quoted(place.property)}"
    return [f"[x IN {place.variable}s | {form.format(x=x)}]" for form in forms]


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
