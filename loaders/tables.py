"""Files to polars tables, as columns. CSV is read as text first, so that a bad number can be named by row and value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from ..config import PropertyType
from ..errors import DataError, did_you_mean

TYPES: Mapping[PropertyType, type[pl.DataType]] = {
    "string": pl.String,
    "int": pl.Int64,
    "float": pl.Float64,
    "bool": pl.Boolean,
    "time": pl.Int64,
}
TRUE, FALSE = ("1", "true", "yes", "t", "y"), ("0", "false", "no", "f", "n")
ROW = "__row"  # the line of a record: 1 is the first one under the header


@dataclass
class Rejects:
    """Rows left out on purpose: counted by (file, reason), kept when `on_bad_rows = "quarantine"`."""

    quarantine: bool = False
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    rows: list[pl.DataFrame] = field(default_factory=list)

    def drop(self, file: str, reason: str, count: int) -> None:
        """Count rows that the shop's settings leave out."""
        if count:
            self.counts[file, reason] = self.counts.get((file, reason), 0) + count

    def check(self, table: pl.DataFrame, bad: pl.Series, file: Path, column: str, rule: str) -> pl.DataFrame:
        """The rows that are not bad; fails on the first bad one, or sets the bad ones aside, as the shop asks.

        Raises:
            DataError: naming file, row, column, value and the rule.
        """
        if not bad.any():
            return table
        first = table.filter(bad).row(0, named=True)
        if not self.quarantine:
            value = first.get(column)
            raise DataError(f"{file}: row {first[ROW]}, column {column!r}: {value!r} {rule} ({bad.sum()} such rows)")
        self.drop(file.name, f"{column} {rule}", int(bad.sum()))
        aside = table.filter(bad).with_columns(pl.all().cast(pl.String))
        self.rows.append(
            aside.with_columns(pl.lit(file.name).alias("file"), pl.lit(f"{column} {rule}").alias("reason"))
        )
        return table.filter(~bad)

    def write(self, folder: Path) -> None:
        """The rows set aside, with file and reason, as one CSV."""
        if self.rows:
            folder.mkdir(parents=True, exist_ok=True)
            pl.concat(self.rows, how="diagonal").write_csv(folder / "rejected.csv")


def read_table(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """The named columns of a CSV (.csv, .csv.gz), Parquet or JSON Lines file, with ROW; CSV cells are strings or null.

    Raises:
        DataError: no such file, not readable as what its name says, a missing column, or no rows.
    """
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*") if p.is_file()) if path.parent.is_dir() else []
        raise DataError(f"{path}: no such file{did_you_mean(path.name, near)}")
    wanted = list(dict.fromkeys(columns))
    try:
        table = _read(path)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError, ValueError, EOFError) as e:
        raise DataError(f"{path}: cannot be read ({_why(path, e)})") from None
    missing = [name for name in wanted if name not in table.columns]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}{did_you_mean(missing[0], table.columns)}")
    if table.is_empty():
        raise DataError(f"{path}: the table has no rows; give it at least one record under the header")
    return table.select(wanted).with_row_index(ROW, offset=1)


def _read(path: Path) -> pl.DataFrame:
    name = path.name.lower()
    if name.endswith(".parquet"):
        return pl.read_parquet(path)
    if name.endswith((".jsonl", ".ndjson", ".jsonl.gz")):
        return pl.read_ndjson(path, infer_schema_length=None)
    if name.endswith((".csv", ".csv.gz")):
        return pl.read_csv(path, infer_schema=False)
    raise ValueError("the name must end in .csv, .csv.gz, .parquet or .jsonl")


def _why(path: Path, error: Exception) -> str:
    text = " ".join(str(error).split())
    if "utf-8" in text.lower() and path.suffix == ".csv":
        data = path.read_bytes()
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as e:
            line = data[: e.start].count(b"\n")
            return f"row {line}: byte {data[e.start]:#04x} is not UTF-8; save the file as UTF-8"
    return text[:160] or type(error).__name__


def strings(column: str) -> pl.Expr:
    """The column as trimmed text, null where empty."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(text == "").then(None).otherwise(text)


def typed(table: pl.DataFrame, column: str, kind: PropertyType, file: Path, rejects: Rejects) -> pl.DataFrame:
    """The same table with one column cast; empty cells become null, other unreadable ones are bad rows."""
    source = table.schema[column]
    if kind == "time":
        return times(table, column, "s", file, rejects)
    text = strings(column)
    if kind == "string":
        return table.with_columns(text.alias(column))
    if kind == "bool" and source == pl.String:
        lower = text.str.to_lowercase()
        value = pl.when(lower.is_in(TRUE)).then(True).when(lower.is_in(FALSE)).then(False).otherwise(None)
    elif kind == "float":
        value = (
            pl.col(column).cast(pl.Float64, strict=False)
            if source != pl.String
            else text.cast(pl.Float64, strict=False)
        )
        value = pl.when(value.is_finite()).then(value).otherwise(None)
    else:
        value = (text if source == pl.String else pl.col(column)).cast(TYPES[kind], strict=False)
    read = table.select(value.alias("value"), text.alias("text"))
    bad = read["value"].is_null() & read["text"].is_not_null()
    rule = {"int": "is no whole number", "float": "is no finite number", "bool": "is neither true nor false"}[kind]
    good = rejects.check(table, bad, file, column, rule)
    return (
        good.with_columns(read.filter(~bad)["value"].alias(column))
        if good.height != table.height
        else (table.with_columns(read["value"].alias(column)))
    )


UNIT_MS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


def times(table: pl.DataFrame, column: str, unit: str, file: Path, rejects: Rejects) -> pl.DataFrame:
    """The column as int64 milliseconds UTC, from dates, datetimes, ISO text, or numbers in `unit` since 1970."""
    source = table.schema[column]
    if source.is_temporal():
        moment = pl.col(column).cast(pl.Datetime("ms"))
        return table.with_columns(moment.dt.replace_time_zone(None).cast(pl.Int64).alias(column))
    text = strings(column)
    number = text.cast(pl.Float64, strict=False) * UNIT_MS[unit]
    iso = pl.coalesce(
        text.str.to_datetime("%+", time_unit="ms", time_zone="UTC", strict=False).dt.replace_time_zone(None),
        *(
            text.str.to_datetime(form, time_unit="ms", strict=False)
            for form in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M")
        ),
        text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("ms")),
    ).cast(pl.Int64)
    read = table.select(pl.coalesce(number.round().cast(pl.Int64, strict=False), iso).alias("value"))["value"]
    bad = read.is_null()
    good = rejects.check(table, bad, file, column, "is no time (ISO 8601, or a number since 1970)")
    return good.with_columns(read.filter(~bad).alias(column))
