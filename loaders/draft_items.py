"""The drafted [items] and [[attributes]]: title, properties, and the columns whose values group items."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from .hints import NO_PROPERTY, PRICE, TITLES, Names, noun
from .profile import BETWEEN, Column, Table
from .toml_draft import Block

LEVELS: Final = (" > ", ">", " » ", " / ", "::", "/")
SEPARATORS: Final = ("|", ";", ",")
MANY: Final = 0.5  # share of cells that have to hold a path's separator
SOME: Final = 0.2  # share of cells that have to hold a list's separator
FEW: Final = 0.5  # distinct values for each value there is, up to which they group items
BANDS: Final = 8
SAMPLE: Final = 20_000  # values looked at for separators


@dataclass(frozen=True)
class Groups:
    """How the values of a column group items. seen: said in the comment."""

    separator: str | None
    levels: str | None
    seen: str


def fill(block: Block, table: Table, key: Column, names: Names, in_graph: Collection[str]) -> list[Block]:
    """Id, title and properties into [items]; and [[attributes]], those of `in_graph` as alternatives."""
    others = [column for column in table.columns.values() if column is not key]
    title, title_name = title_of(others), ""
    told: dict[str, object] = {}
    attributes: list[Block] = []
    useless: list[str] = []
    allowed = Names(NO_PROPERTY)
    for column in others:
        if column.distinct < 2 or column.kind == "other":
            useless.append(column.name)
            continue
        groups = None if column is title else groups_of(column)
        if groups is not None:
            attributes.append(attribute(column, groups, names, in_graph))
        elif column.kind != "list":
            name = allowed.property(column.name)
            told[name] = spec(column, name)
            title_name = name if column is title else title_name
            if column.kind in ("int", "float") and column.says(PRICE):
                attributes.append(bands(name, column, names))
    if useless:
        block.why = [*block.why, f"of no use: {', '.join(useless)} (one value, none, or nested)"]
    block.add("id", key.name, key.seen())
    if title is not None:
        block.add("title", title_name, f"{title.seen()}, {_mean_words(title):.1f} words each")
    if told:
        block.add("properties", told)
    return attributes


def title_of(columns: Sequence[Column]) -> Column | None:
    """The text that tells an item from others: by its name, else the one with most words."""
    fitting = [c for c in columns if c.kind == "string" and c.distinct > max(1, FEW * c.filled)]
    called = [c for hint in TITLES for c in fitting if hint in c.words]
    wordy = sorted((c for c in fitting if _mean_words(c) >= 2), key=lambda c: -_mean_words(c))
    return next(iter([*called, *wordy]), None)


def add_properties(block: Block, columns: Iterable[Column]) -> None:
    """Columns that tell something as properties, under names that are allowed."""
    allowed = Names(NO_PROPERTY)
    told = [column for column in columns if column.distinct > 1 and column.kind not in ("list", "other")]
    if told:
        block.add("properties", {name: spec(c, name) for c in told for name in [allowed.property(c.name)]})


def spec(column: Column, name: str) -> object:
    """A property as shop.toml writes it."""
    kind: str = "string" if column.is_number_of_something() else column.kind
    if kind == "int" and (column.says(PRICE) or column.raw.dtype.is_float()):
        kind = "float"  # the next one may not be whole
    return kind if name == column.name else {"type": kind, "column": column.name}


def groups_of(column: Column) -> Groups | None:
    """How a column groups items, if it does: by plain values, several in a cell, or paths."""
    if column.kind == "list":
        parts = column.values.str.split(BETWEEN).explode()
        return Groups(None, None, f"lists of {parts.n_unique():,} values in {column.filled:,} cells")
    if column.kind != "string" and not column.is_number_of_something():
        return None
    cells = column.cells.drop_nulls()
    sample = cells.head(SAMPLE)
    levels = next((sign for sign in LEVELS if _share(sample, sign) >= MANY and _few_roots(sample, sign)), None)
    separator = next((s for s in SEPARATORS if _share(sample, s) >= SOME and _repeat(sample, s, levels)), None)
    parts = sample.str.split(separator).explode() if separator else sample
    distinct, total = parts.str.strip_chars().n_unique(), len(parts)
    if distinct > FEW * total:
        return None
    seen = f"{distinct:,} values in {total:,}" if separator else column.seen()
    return Groups(separator, levels, seen)


def attribute(column: Column, groups: Groups, names: Names, in_graph: Collection[str]) -> Block:
    """[[attributes]] of one column."""
    parts = noun(column.name)
    plain = "".join(part.capitalize() for part in parts)
    brought = plain in in_graph
    block = Block("[[attributes]]", off=brought)
    block.why = [f"the ready graph below has {plain} nodes already"] if brought else []
    block.add("column", column.name, groups.seen)
    block.add("relation", names.relation(parts))
    block.add("label", names.label(parts))
    if groups.separator:
        block.add("separator", groups.separator, "several values in a cell")
    if groups.levels:
        block.add("levels", groups.levels, "a path, from the whole to its parts")
    elif groups.separator and _few_roots(column.cells.drop_nulls().head(SAMPLE), groups.separator):
        block.add("levels", groups.separator, "instead of separator: cells begin alike, so they may be paths", off=True)
    return block


def bands(property_: str, column: Column, names: Names) -> Block:
    """[[attributes]] of a number, in bands of equal size."""
    parts = [*noun(property_), "band"]
    block = Block("[[attributes]]")
    block.add("column", property_, f"{column.range()}, {column.distinct:,} distinct")
    block.add("relation", names.relation(parts))
    block.add("label", names.label(parts))
    block.add("bands", BANDS, "quantiles; a list gives borders of your own, [5, 10, 20]")
    return block


def _mean_words(column: Column) -> float:
    return float(column.values.head(SAMPLE).str.split(" ").list.len().mean() or 0)  # type: ignore[arg-type]


def _share(cells: pl.Series, sign: str) -> float:
    return int(cells.str.contains(sign, literal=True).sum()) / len(cells) if len(cells) else 0.0


def _few_roots(cells: pl.Series, sign: str) -> bool:
    """Paths begin with one of a few."""
    roots = cells.str.split(sign).list.first().str.strip_chars().n_unique()
    return bool(roots <= max(1.0, len(cells) ** 0.5))


def _repeat(cells: pl.Series, sign: str, levels: str | None) -> bool:
    """Parts of a list occur in other cells too; a comma is also a part of sentences, so its parts have to be short."""
    parts = cells.str.split(sign).explode().str.strip_chars()
    short = sign != "," or levels is not None or float(parts.str.split(" ").list.len().mean() or 0) <= 3  # type: ignore[arg-type]
    return short and parts.n_unique() <= FEW * len(parts)
