"""Columns of the item table to attribute nodes: values, several values in a cell, category paths, numeric bands."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl

from ..config import AttributeSection
from ..errors import DataError
from .catalogue import SUBCATEGORY_OF, EdgeKey

Nodes = dict[str, pl.DataFrame]  # label -> id, name and other properties
Edges = dict[EdgeKey, pl.DataFrame]  # key -> source, target and properties


def attribute(items: pl.DataFrame, column: str, section: AttributeSection, item_label: str) -> tuple[Nodes, Edges]:
    """Nodes and edges of one [[attributes]] entry; `items` has id and `column`: text, a list of texts, or numbers."""
    values = items.select(pl.col("id").alias("source"), pl.col(column).alias("target")).drop_nulls()
    values = _values(values, section) if section.bands is None else _bands(values, section)
    key = EdgeKey(item_label, section.relation, section.label)
    if section.levels:
        return _paths(values, section.levels, key)
    edges = values.unique().sort("source", "target")
    return named_nodes(section.label, edges["target"]), {key: edges}


def named_nodes(label: str, ids: pl.Series) -> Nodes:
    """A node per distinct id, named as its id."""
    distinct = ids.unique().sort()
    return {label: pl.DataFrame({"id": distinct, "name": distinct})}


def _values(values: pl.DataFrame, section: AttributeSection) -> pl.DataFrame:
    """One row per item and value, without the values that mean "unknown"."""
    if isinstance(values.schema["target"], pl.List):
        values = values.explode("target")
    values = values.with_columns(pl.col("target").cast(pl.String))
    if section.separator:
        values = values.with_columns(pl.col("target").str.split(section.separator)).explode("target")
    values = values.with_columns(pl.col("target").str.strip_chars()).drop_nulls()
    return values.filter(~pl.col("target").is_in(["", *section.missing]))


def _paths(values: pl.DataFrame, separator: str, key: EdgeKey) -> tuple[Nodes, Edges]:
    """A node per level, its id the path down to it and its name the last level; items are linked to whole paths."""
    levels: dict[str, list[str]] = {}  # path as written -> ids of its levels, root first
    names: dict[str, str] = {}
    for path in values["target"].unique():
        parts = [part.strip() for part in path.split(separator) if part.strip()]
        levels[path] = [separator.join(parts[: n + 1]) for n in range(len(parts))]
        names.update(zip(levels[path], parts, strict=True))
    leaves = {path: ids[-1] for path, ids in levels.items() if ids}
    items = values.filter(pl.col("target").is_in(list(leaves))).with_columns(pl.col("target").replace(leaves))
    up = sorted({pair for ids in levels.values() for pair in zip(ids[1:], ids[:-1], strict=True)})
    tree = pl.DataFrame(up, schema={"source": pl.String, "target": pl.String}, orient="row")
    nodes = pl.DataFrame(sorted(names.items()), schema={"id": pl.String, "name": pl.String}, orient="row")
    return {key.target: nodes}, {
        key: items.unique().sort("source", "target"),
        EdgeKey(key.target, SUBCATEGORY_OF, key.target): tree,
    }


def _bands(values: pl.DataFrame, section: AttributeSection) -> pl.DataFrame:
    """Numbers to bands [low, high): quantiles of the items' values, or the borders given."""
    if not values.schema["target"].is_numeric():
        raise DataError(f"attributes.{section.relation}: bands need a number, and the property is no int or float")
    numbers = values["target"].cast(pl.Float64).to_numpy()
    borders = _quantiles(numbers, section.bands) if isinstance(section.bands, int) else section.bands or ()
    texts = sorted({f"{border:g}" for border in borders}, key=float)  # six digits, so that a label tells the border
    which = np.searchsorted([float(border) for border in texts], numbers, side="right")
    return values.with_columns(pl.Series("target", np.asarray(_band_names(texts), dtype=object)[which], pl.String))


def _quantiles(numbers: np.ndarray, count: int) -> list[float]:
    return np.quantile(numbers, np.arange(1, count) / count).tolist() if len(numbers) else []


def _band_names(borders: list[str]) -> list[str]:
    if not borders:
        return ["any"]
    between = [f"{low}-{high}" for low, high in pairwise(borders)]
    return [f"below {borders[0]}", *between, f"{borders[-1]} and up"]
