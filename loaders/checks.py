"""Rules every table of a shop has to keep; who breaks them is named by file, row and value."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from .tables import Rejects


def unique_ids(table: pl.DataFrame, column: str, file: Path, rejects: Rejects) -> pl.DataFrame:
    """Rows with an id that is there and stands for the first time."""
    table = present(table, column, file, rejects)
    return rejects.check(table, ~table[column].is_first_distinct(), file, column, "stands twice; ids must be unique")


def present(table: pl.DataFrame, column: str, file: Path, rejects: Rejects) -> pl.DataFrame:
    """Rows whose cell is filled."""
    return rejects.check(table, table[column].is_null(), file, column, "is empty; every row needs one")


def known(table: pl.DataFrame, column: str, ids: pl.Series, what: str, file: Path, rejects: Rejects) -> pl.DataFrame:
    """Rows whose cell is one of `ids`."""
    rule = f"is no {what} of the shop; add it to the {what} table or remove the row"
    return rejects.check(table, ~table[column].is_in(ids.implode()), file, column, rule)
