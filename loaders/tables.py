"""Files to polars columns. CSV is read as text first, so that a bad cell can be named by row and value."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import polars as pl

from ..config import PropertyType
from ..errors import DataError, did_you_mean

ROW = "__row"  # the number of a record as a spreadsheet shows it: the header of a CSV is row 1
PARQUET, CSV, JSON_LINES = (".parquet",), (".csv", ".csv.gz"), (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")
TRUE, FALSE = ("1", "true", "yes", "t", "y"), ("0", "false", "no", "f", "n")
TimeUnit = Literal["s", "ms", "us", "ns"]
PER_MS: Mapping[TimeUnit, float] = {"s": 1e-3, "ms": 1.0, "us": 1e3, "ns": 1e6}
LOCAL_TIMES = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M")


def read_table(path: Path, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The named columns (default: all) of a CSV (.csv, .csv.gz), Parquet or JSON Lines file, and ROW.

    CSV cells are strings or null.

    Raises:
        DataError: no such file, not readable as what its name says, a missing column, or no rows.
    """
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*") if p.is_file()]
        raise DataError(f"{path}: no such file{did_you_mean(path.name, near)}")
    try:
        table = _read(path)
    except (pl.exceptions.PolarsError, OSError, ValueError, EOFError) as e:
        raise DataError(f"{path}: cannot be read ({_why(path, e)})") from None
    if columns is None:
        columns = [name for name in table.columns if name != ROW]
    for name in columns:
        if name not in table.columns:
            raise DataError(f"{path}: no column {name!r}{did_you_mean(name, table.columns)}")
    if table.is_empty():
        raise DataError(f"{path}: the table has no rows; give it at least one record under the header")
    wanted = [table[name] for name in dict.fromkeys(columns)]  # in an expression "*" would be every column
    return pl.DataFrame(wanted, height=table.height).with_row_index(
        ROW, offset=2 if path.name.lower().endswith(CSV) else 1
    )


def _read(path: Path) -> pl.DataFrame:
    name = path.name.lower()
    if name.endswith(PARQUET):
        return pl.read_parquet(path)
    if name.endswith(JSON_LINES):
        return pl.read_ndjson(path, infer_schema_length=None)
    if name.endswith(CSV):
        return pl.read_csv(path, infer_schema=False)
    raise ValueError("the name must end in .csv, .csv.gz, .parquet or .jsonl")


def _why(path: Path, error: Exception) -> str:
    """The reader's complaint in a few words, with the row where it can be found."""
    text = " ".join(str(error).split())
    if ".csv" in path.name.lower() and isinstance(error, pl.exceptions.PolarsError):
        data = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as e:
            row = data[: e.start].count(b"\n") + 1
            return f"row {row}: byte {data[e.start]:#04x} is not UTF-8; save the file as UTF-8"
    if "more fields" in text:
        return "a row has more cells than the header; put cells that hold a comma in double quotes"
    return text[:160] or type(error).__name__


def text(column: str, source: pl.DataType) -> pl.Expr:
    """The cells as trimmed text, null where empty; whole floats lose their ".0", so that 17850.0 is the id "17850"."""
    plain = pl.col(column).cast(pl.String)
    if source.is_float():
        number = pl.col(column)
        whole = pl.when(number == number.round()).then(number.cast(pl.Int64, strict=False))
        plain = pl.coalesce(whole.cast(pl.String), plain)
    trimmed = plain.str.strip_chars()
    return pl.when(trimmed != "").then(trimmed)


def value(column: str, source: pl.DataType, kind: PropertyType, unit: TimeUnit = "s") -> pl.Expr:
    """The cells as `kind`, null where empty or unreadable (a NaN or infinity is unreadable)."""
    words = text(column, source)
    if kind == "string":
        return words
    if kind == "time":
        return _moment(column, source, unit)
    if kind == "bool":
        lower = words.str.to_lowercase()
        return pl.when(lower.is_in(TRUE)).then(True).when(lower.is_in(FALSE)).then(False)
    number = (pl.col(column) if source.is_numeric() else words).cast(pl.Float64, strict=False)
    if kind == "float":
        return pl.when(number.is_finite()).then(number)
    whole = pl.when(number == number.round()).then(number.cast(pl.Int64, strict=False))  # "3.0" is a whole number
    return pl.coalesce(words.cast(pl.Int64, strict=False), whole)


def _moment(column: str, source: pl.DataType, unit: TimeUnit) -> pl.Expr:
    """Int64 milliseconds since 1970 UTC of dates, datetimes, ISO 8601 text (UTC unless told) or numbers in `unit`."""
    if isinstance(source, pl.Date | pl.Datetime):
        return pl.col(column).dt.epoch("ms")
    words = text(column, source)
    number = (words.cast(pl.Float64, strict=False) / PER_MS[unit]).round().cast(pl.Int64, strict=False)
    zoned = words.str.to_datetime("%+", time_unit="ms", time_zone="UTC", strict=False).dt.epoch("ms")
    local = [words.str.to_datetime(form, time_unit="ms", strict=False).dt.epoch("ms") for form in LOCAL_TIMES]
    day = words.str.to_date("%Y-%m-%d", strict=False).dt.epoch("ms")
    return pl.coalesce(number, zoned, *local, day)
