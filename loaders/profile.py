"""What the columns of a table look like: how many cells are filled and distinct, and what they can be read as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import polars as pl

from ..config import PropertyType
from .hints import ID, words
from .tables import ROW, read_table, value

Kind = Literal["string", "int", "float", "bool", "time", "list", "other"]


@dataclass(frozen=True)
class Column:
    """One column. kind: what every filled cell can be read as. raw: the cells as they came; cells: as text, null where
    empty. what: the rows are called so.
    """

    name: str
    kind: Kind
    raw: pl.Series
    cells: pl.Series
    what: str = "rows"

    @property
    def rows(self) -> int:
        """All of them."""
        return len(self.cells)

    @cached_property
    def filled(self) -> int:
        """Cells with something in them."""
        return self.rows - self.cells.null_count()

    @cached_property
    def values(self) -> pl.Series:
        """What the filled cells hold, each value once."""
        return self.cells.drop_nulls().unique()

    @property
    def distinct(self) -> int:
        """Different values of the filled cells."""
        return len(self.values)

    @property
    def words(self) -> tuple[str, ...]:
        """Of its name."""
        return words(self.name)

    @property
    def is_key(self) -> bool:
        """Filled and different in every row."""
        return self.distinct == self.rows

    @property
    def is_id_like(self) -> bool:
        """Could name something: text or whole numbers, more than one of them."""
        return self.kind in ("string", "int") and self.distinct > 1

    @cached_property
    def numbers(self) -> pl.Series:
        """The cells as float64, null where they are no finite number."""
        return read_as(self.raw, "float")

    def says(self, *hints: frozenset[str]) -> bool:
        """Whether a word of the name is one of the hints."""
        return any(word in hint for word in self.words for hint in hints)

    def is_number_of_something(self) -> bool:
        """Whole numbers that are names: category_id."""
        return self.kind == "int" and self.words[-1:] != () and self.words[-1] in ID

    def range(self) -> str:
        """For a comment: "0.5 to 12"."""
        numbers = self.numbers.drop_nulls().to_list()
        return f"{min(numbers):g} to {max(numbers):g}" if numbers else "none"

    def seen(self) -> str:
        """For a comment: "1,812 distinct of 3,969 rows, 12 empty"."""
        empty = f", {self.rows - self.filled:,} empty" if self.filled < self.rows else ""
        return f"{self.distinct:,} distinct of {self.rows:,} {self.what}{empty}"


@dataclass(frozen=True)
class Table:
    """One table, and its columns by name. file: where it was read from."""

    name: str
    columns: Mapping[str, Column]
    file: Path | None = None

    @classmethod
    def read(cls, file: Path) -> Table:
        """Raises DataError as :func:`.tables.read_table`."""
        return replace(cls.of(file.name, read_table(file)), file=file)

    @classmethod
    def of(cls, name: str, frame: pl.DataFrame, what: str = "rows") -> Table:
        """The columns of a frame, but for ROW."""
        found = {column: _column(frame[column], what) for column in frame.columns if column != ROW}
        return cls(name, found)

    @property
    def rows(self) -> int:
        """Records."""
        return next(iter(self.columns.values())).rows if self.columns else 0

    @property
    def stem(self) -> str:
        """The file's name without its endings."""
        return self.name.split(".")[0]


KINDS: tuple[Literal["int", "float", "time", "bool"], ...] = ("int", "float", "time", "bool")  # narrowest first
BETWEEN = "\x1f"  # the values of a list cell, as text


def read_as(cells: pl.Series, kind: PropertyType) -> pl.Series:
    """As the loaders will read them, null where they cannot."""
    frame = cells.alias("x").to_frame()
    return frame.select(value("x", cells.dtype, kind).alias("x"))["x"].alias(cells.name)


def _column(raw: pl.Series, what: str) -> Column:
    if isinstance(raw.dtype, pl.List) and _is_flat(raw.dtype):
        together = raw.list.eval(pl.element().cast(pl.String)).list.join(BETWEEN)
        return Column(raw.name, "list", raw, read_as(together, "string"), what)
    if raw.dtype.is_nested() or raw.dtype in (pl.Binary, pl.Object):
        return Column(raw.name, "other", raw, pl.Series(raw.name, [None] * len(raw), pl.String), what)
    cells = read_as(raw, "string")
    return Column(raw.name, _kind(raw, cells), raw, cells, what)


def _is_flat(lists: pl.List) -> bool:
    return not isinstance(lists.inner, pl.List | pl.Struct | pl.Array)


def _kind(raw: pl.Series, cells: pl.Series) -> Kind:
    """The narrowest type every filled cell can be read as."""
    if raw.dtype == pl.Boolean:
        return "bool"
    if isinstance(raw.dtype, pl.Date | pl.Datetime):
        return "time"
    filled = raw.filter(cells.is_not_null())
    if not len(filled):
        return "string"
    for kind in KINDS:
        if read_as(filled.head(100), kind).null_count() == 0 and read_as(filled, kind).null_count() == 0:
            return kind
    return "string"
