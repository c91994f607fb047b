"""Columns of the item table to attribute nodes: values, several values in a cell, category paths, numeric bands."""

from __future__ import annotations

import numpy as np
import polars as pl

from ..config import AttributeSection
from ..errors import DataError
from .catalogue import SUBCATEGORY_OF, EdgeKey

Nodes = dict[str, pl.DataFrame]  # label -> id, name
Edges = dict[EdgeKey, pl.DataFrame]  # key -> source, target


def attribute(items: pl.DataFrame, section: AttributeSection, item_label: str) -> tuple[Nodes, Edges]:
    """Nodes and edges of one [[attributes]] entry; `items` has id and the column."""
    values = items.select(pl.col("id").alias("source"), pl.col(section.column).alias("target")).drop_nulls()
    if section.bands is not None:
        values = _bands(values, section)
    else:
        values = _values(values, section)
    edges = values.unique().sort("source", "target")
    key = EdgeKey(item_label, section.relation, section.label)
    if section.levels:
        return _paths(edges, section, key)
    names = edges.select("target").unique().sort("target")
    return {section.label: names.select(pl.col("target").alias("id"), pl.col("target").alias("name"))}, {key: edges}


def _values(values: pl.DataFrame, section: AttributeSection) -> pl.DataFrame:
    values = values.with_columns(pl.col("target").cast(pl.String))
    if section.separator:
        values = values.with_columns(pl.col("target").str.split(section.separator)).explode("target")
    values = values.with_columns(pl.col("target").str.strip_chars())
    unknown = ["", *section.missing]
    return values.filter(pl.col("target").is_not_null() & ~pl.col("target").is_in(unknown))


def _paths(edges: pl.DataFrame, section: AttributeSection, key: EdgeKey) -> tuple[Nodes, Edges]:
    """A node per level, its id the path down to it; the item is linked to the last level."""
    assert section.levels is not None
    separator = section.levels
    parents: dict[str, str | None] = {}
    clean: dict[str, str] = {}
    for path in edges["target"].unique():
        parts = [part.strip() for part in path.split(separator) if part.strip()]
        ids = [separator.join(parts[: n + 1]) for n in range(len(parts))]
        clean[path] = ids[-1] if ids else ""
        parents.update(zip(ids, [None, *ids[:-1]], strict=True))
    ids = sorted(parents)
    nodes = pl.DataFrame({"id": ids, "name": [id_.rsplit(separator, 1)[-1] for id_ in ids]}, schema=_TEXT)
    up = [(child, parent) for child, parent in sorted(parents.items()) if parent is not None]
    tree = pl.DataFrame({"source": [c for c, _ in up], "target": [p for _, p in up]}, schema=_ENDS)
    linked = edges.with_columns(pl.col("target").replace(clean)).filter(pl.col("target") != "").unique()
    return {section.label: nodes}, {
        key: linked.sort("source", "target"),
        EdgeKey(section.label, SUBCATEGORY_OF, section.label): tree,
    }


_TEXT = {"id": pl.String, "name": pl.String}
_ENDS = {"source": pl.String, "target": pl.String}


def _bands(values: pl.DataFrame, section: AttributeSection) -> pl.DataFrame:
    """Numbers to bands [low, high): quantiles of the items, or the borders given."""
    if not values.schema["target"].is_numeric():
        raise DataError(
            f"attributes.{section.relation}: bands need a number, and {section.column!r} is text; declare it float"
        )
    numbers = values["target"].cast(pl.Float64).to_numpy()
    borders: np.ndarray
    if isinstance(section.bands, int):
        borders = (
            np.unique(np.quantile(numbers, np.arange(1, section.bands) / section.bands))
            if len(numbers)
            else np.empty(0)
        )
    else:
        borders = np.sort(np.asarray(section.bands, float))
    texts = [f"{border:g}" for border in borders]
    ends = ["", *texts, ""]
    names = [
        f"{low}-{high}" if low and high else f"below {high}" if high else f"{low} and up"
        for low, high in zip(ends, ends[1:], strict=False)
    ]
    if not texts:
        names = ["any"]
    which = np.searchsorted(np.asarray(borders, float), numbers, side="right")
    return values.with_columns(pl.Series("target", [names[n] for n in which], dtype=pl.String))
