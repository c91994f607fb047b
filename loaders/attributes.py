"""Columns of the item table to attribute nodes: values, several values in a cell, category paths, numeric bands."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from ..config import AttributeSection
from ..errors import DataError
from .catalogue import SUBCATEGORY_OF, EdgeKey

LOW, HIGH = "low", "high"  # properties of a band's node: float64, null at the open end
Nodes = dict[str, pl.DataFrame]  # label -> id, name and other properties
Edges = dict[EdgeKey, pl.DataFrame]  # key -> source, target and properties


def attribute(items: pl.DataFrame, column: str, section: AttributeSection, item_label: str) -> tuple[Nodes, Edges]:
    """Nodes and edges of one [[attributes]] entry; `items` has id and `column`: text, a list of texts, or numbers."""
    values = items.select(pl.col("id").alias("source"), pl.col(column).alias("target")).drop_nulls()
    key = EdgeKey(item_label, section.relation, section.label)
    if section.bands is not None:
        return _bands(values, section, key)
    values = _values(values, section)
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


def _bands(values: pl.DataFrame, section: AttributeSection, key: EdgeKey) -> tuple[Nodes, Edges]:
    """Numbers to bands [low, high), each a node that knows its ends: by the borders given, or by quantiles of the
    items' values. A band that no item is in is a node, too, for an item may get there."""
    if not values.schema["target"].is_numeric():
        raise DataError(f"attributes.{section.relation}: bands need a number, and the property is no int or float")
    numbers = values["target"].cast(pl.Float64).to_numpy()
    cut = _quantiles(numbers, section.bands) if isinstance(section.bands, int) else section.bands or ()
    bands = Bands(cut)
    target = bands.nodes["id"].gather(bands.places(numbers))
    return {key.target: bands.nodes}, {key: values.with_columns(target=target).unique().sort("source", "target")}


def _quantiles(numbers: np.ndarray, count: int) -> list[float]:
    """In six digits, for people to read."""
    found = np.quantile(numbers, np.arange(1, count) / count) if len(numbers) else ()
    return [float(f"{border:g}") for border in found]


class Bands:
    """The bands between borders, each [low, high), the outer two open. nodes: id, name, low and high, lowest first."""

    def __init__(self, borders: Iterable[float]) -> None:
        self._ends = sorted(set(map(float, borders)))
        lows, highs = [None, *self._ends], [*self._ends, None]
        names = [_band_name(low, high) for low, high in zip(lows, highs, strict=True)]
        kinds = {"id": pl.String, "name": pl.String, LOW: pl.Float64, HIGH: pl.Float64}
        self.nodes = pl.DataFrame([names, names, lows, highs], schema=kinds)

    @classmethod
    def of_nodes(cls, nodes: pl.DataFrame) -> Bands:
        """The bands that nodes with `low` and `high` were made of."""
        return cls({*nodes[LOW].drop_nulls(), *nodes[HIGH].drop_nulls()})

    def places(self, numbers: np.ndarray) -> np.ndarray:
        """Rows of `nodes`, int64 like the numbers."""
        return np.searchsorted(self._ends, numbers, side="right")


def _band_name(low: float | None, high: float | None) -> str:
    if low is None:
        return "any" if high is None else f"below {_number(high)}"
    return f"{_number(low)} and up" if high is None else f"{_number(low)}-{_number(high)}"


def _number(border: float) -> str:
    """The shortest text that tells a border."""
    short = f"{border:g}"
    return short if float(short) == border else f"{border:.15g}"
