"""Rules every table of a shop has to keep; who breaks them is named by origin, row, column and value, or set aside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from ..config import PropertyType, Repeats
from ..errors import DataError, did_you_mean
from .tables import ROW, TimeUnit, read_table, text, value

UNREADABLE: Mapping[PropertyType, str] = {
    "int": "is no whole number",
    "float": "is no finite number",
    "bool": "is neither true nor false",
    "time": "is no time (ISO 8601, or a number since 1970)",
}
REJECTED = "rejected.csv"  # what quarantine writes


@dataclass
class Rejects:
    """Rows left out: counted by (file, reason) and, with `quarantine`, kept for the shop to look at."""

    quarantine: bool = False
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    rows: list[pl.DataFrame] = field(default_factory=list)

    def count(self, table: str, reason: str, rows: int) -> None:
        """Count rows of a table that are left out."""
        if rows:
            self.counts[table, reason] = self.counts.get((table, reason), 0) + rows

    def write(self, folder: Path) -> None:
        """`folder`/rejected.csv: file, row, reason and the cells that were read; an older one is removed."""
        (folder / REJECTED).unlink(missing_ok=True)
        if self.rows:
            folder.mkdir(parents=True, exist_ok=True)
            pl.concat(self.rows, how="diagonal").write_csv(folder / REJECTED)


@dataclass(frozen=True)
class Origin:
    """Where a table comes from, as messages say it: "{place}: {row}7, {column} 'price': 'x' is no number{advice}".

    name: short, for counts and for rejected.csv. blank: what an empty cell is called.
    """

    name: str
    place: str
    row: str = "row "
    column: str = "column"
    blank: str = "the cell"
    advice: str = ""

    def cell(self, row: int, column: str) -> str:
        """One cell."""
        return f"{self.place}: {self.row}{row}, {self.column} {column!r}"


@dataclass(frozen=True)
class Sheet:
    """Columns of one table under the names they have here; each rule gives the sheet of the rows that keep it.

    frame: ROW and the columns. names: name here -> name at the origin, for messages.

    Every rule raises DataError naming origin, row, column and value of the first row that breaks it, unless the shop
    quarantines bad rows.
    """

    frame: pl.DataFrame
    origin: Origin
    names: Mapping[str, str]
    rejects: Rejects

    @classmethod
    def read(cls, file: Path, names: Mapping[str, str], rejects: Rejects) -> Sheet:
        """The columns `names` asks for; see :func:`.tables.read_table`."""
        raw = read_table(file, list(names.values()))
        frame = raw.select(ROW).with_columns(raw[there].alias(here) for here, there in names.items())
        return cls(frame, Origin(file.name, str(file)), names, rejects)

    def with_frame(self, frame: pl.DataFrame) -> Sheet:
        """The same table, other rows or columns."""
        return replace(self, frame=frame)

    def typed(self, name: str, kind: PropertyType = "string", *, unit: TimeUnit = "s") -> Sheet:
        """One column cast; empty cells become null, unreadable ones break the rule."""
        source = self.frame.schema[name]
        if isinstance(source, pl.List):
            return self._single(name).typed(name, kind, unit=unit)
        if source.is_nested():
            where = f"{self.origin.place}: {self.origin.column} {self.names[name]!r}"
            raise DataError(f"{where} holds {source}; a cell must hold one value")
        read = self.frame.select(value(name, source, kind, unit).alias("value"), text(name, source).alias("text"))
        if kind == "string":
            return self.with_frame(self.frame.with_columns(read["value"].alias(name)))
        bad = read["value"].is_null() & read["text"].is_not_null()
        kept = self.check(name, bad, UNREADABLE[kind])
        return self.with_frame(kept.frame.with_columns(read["value"].filter(~bad).alias(name)))

    def _single(self, name: str) -> Sheet:
        """Rows whose list in this column has at most one value; that value."""
        sheet = self.check(name, (self.frame[name].list.len() > 1).fill_null(False), "is a list; one value is needed")
        return sheet.with_frame(sheet.frame.with_columns(pl.col(name).list.first()))

    def present(self, *names: str) -> Sheet:
        """Rows whose cells are filled."""
        sheet = self
        for name in names:
            sheet = sheet.check(name, sheet.frame[name].is_null(), "is empty; every row needs one")
        return sheet

    def unique(self, name: str, repeats: Repeats = "fail") -> Sheet:
        """Rows whose id is there and stands for the first time; `repeats` says whether others are an error."""
        sheet = self.present(name)
        if repeats == "first":
            return sheet.with_frame(sheet.frame.unique(subset=name, keep="first", maintain_order=True))
        return sheet.check(name, ~sheet.frame[name].is_first_distinct(), "stands twice; ids must be unique")

    def known(self, name: str, ids: pl.Series, what: str) -> Sheet:
        """Rows whose cell is one of `ids`."""
        lost = ~self.frame[name].is_in(ids.implode())
        return self.check(name, lost, f"is no {what} of the shop", ids)

    def check(self, name: str, bad: pl.Series, rule: str, known: pl.Series | None = None) -> Sheet:
        """Rows that are not bad; `known` are the values that would be right, to hint at the nearest."""
        if not bad.any():
            return self
        rows = self.frame.filter(bad)
        if not self.rejects.quarantine:
            (found,) = rows[name].head(1).to_list()
            hint = "" if known is None else did_you_mean(str(found), known.to_list())
            shown = self.origin.blank if found is None else repr(found)
            more = f" ({rows.height:,} such rows)" if rows.height > 1 else ""
            where = self.origin.cell(rows[ROW][0], self.names[name])
            raise DataError(f"{where}: {shown} {rule}{hint}{more}{self.origin.advice}")
        reason = f"{self.names[name]} {rule}"
        self.rejects.count(self.origin.name, reason, rows.height)
        self.rejects.rows.append(self._aside(rows, reason))
        return self.with_frame(self.frame.filter(~bad))

    def drop(self, bad: pl.Series, reason: str) -> Sheet:
        """Rows without those the shop's settings leave out; these are counted."""
        self.rejects.count(self.origin.name, reason, int(bad.sum()))
        return self.with_frame(self.frame.filter(~bad))

    def _aside(self, rows: pl.DataFrame, reason: str) -> pl.DataFrame:
        cells = {
            there: pl.col(here).cast(pl.String)
            for here, there in self.names.items()
            if here in rows.columns and not rows.schema[here].is_nested()
        }
        return rows.select(
            pl.lit(self.origin.name).alias("file"), pl.col(ROW).alias("row"), pl.lit(reason).alias("reason"), **cells
        )
