"""An answer as text: a table for people, CSV for spreadsheets, JSON for programs.

Ids and titles come from files somebody else may have written. A terminal obeys control characters, and a spreadsheet
runs a cell that starts with = + - or @ as a formula (https://owasp.org/www-community/attacks/CSV_Injection), so both
are disarmed here; JSON escapes by itself.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Literal

import polars as pl
import pyarrow as pa

Format = Literal["table", "csv", "json"]
FORMULA = r"^(\s*[=+\-@＝＋－＠\t\r\n])"  # the wide letters count too in some locales


def as_text(table: pa.Table, kind: Format) -> str:
    """The whole answer, ending in a newline; in CSV, text that looks like a formula gets a ' in front."""
    if kind == "json":
        return _json(table.to_pylist()) + "\n"
    frame = pl.DataFrame(pl.from_arrow(_flat(table)))
    if kind == "csv":
        safe = frame.with_columns(pl.col(pl.String).str.replace(FORMULA, "'${1}"))
        return safe.rename({name: _disarmed(name) for name in safe.columns}).write_csv()
    shown = frame.with_columns(pl.col(pl.String).map_elements(printable, pl.String))
    with pl.Config(
        tbl_rows=100,
        tbl_cols=-1,
        tbl_width_chars=2_000,
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        fmt_str_lengths=60,
    ):
        return str(shown.rename({name: printable(name) for name in shown.columns})) + "\n"


def _flat(table: pa.Table) -> pa.Table:
    """Lists and maps as JSON: CSV has no cell for them."""
    for n, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [None if value is None else _json(value) for value in table.column(n).to_pylist()]
            table = table.set_column(n, field.name, pa.array(texts, pa.string()))
    return table


def printable(text: str) -> str:
    """The text with what would steer a terminal, or turn its writing round, spelled out."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _disarmed(name: str) -> str:
    return re.sub(FORMULA, r"'\1", name)


def _json(value: Any) -> str:
    return json.dumps(_plain(value), default=str, allow_nan=False)


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
