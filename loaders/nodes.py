"""Items and users: their tables, their typed properties, and the properties computed from training events."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from ..config import NodesSection, Property, PropertyType, Repeats, ShopConfig
from .checks import Rejects, Sheet
from .source import Columns, Source

HOW = {
    "median": pl.Expr.median,
    "mean": pl.Expr.mean,
    "min": pl.Expr.min,
    "max": pl.Expr.max,
    "last": pl.Expr.last,
}
RAW = "column:"  # marks columns read for [[attributes]] alone, so that they cannot meet a property's name


def log_columns(config: ShopConfig) -> Columns:
    """What the log must carry for derived item properties and, where no table tells them, for the users'."""
    derived: Columns = {f"derived:{name}": (spec.column, "float") for name, spec in config.items.derived.items()}
    if config.has_user_table:
        return derived
    return {**derived, **{f"user:{name}": column for name, column in _columns(config.users.properties).items()}}


def _columns(properties: Mapping[str, Property]) -> Columns:
    return {name: (spec.column or name, spec.type) for name, spec in properties.items()}


def item_table(config: ShopConfig, source: Source, events: pl.DataFrame, rejects: Rejects) -> pl.DataFrame:
    """id, the declared properties and the RAW columns of every item; without a table, the ids the log names."""
    section = config.items
    told = {*section.properties, *section.derived}
    kinds: dict[str, PropertyType] = {
        a.column: "string" if a.bands is None else "float" for a in config.attributes if a.column not in told
    }
    raw: Columns = {f"{RAW}{column}": (column, kind) for column, kind in kinds.items()}
    sheet = source.items({**_columns(section.properties), **raw}, rejects)
    if sheet is None:
        return events.select(pl.col("item").alias("id")).unique().sort("id")
    sheet = _typed(sheet, section.properties, section.repeats)
    for name, (_, kind) in raw.items():
        if not isinstance(sheet.frame.schema[name], pl.List):
            sheet = sheet.typed(name, kind)
    return sheet.frame.select("id", *section.properties, *raw).sort("id")


def node_table(source: Source, section: NodesSection, rejects: Rejects) -> pl.DataFrame:
    """id and properties of one [[nodes]], sorted by id."""
    sheet = source.nodes(section, _columns(section.properties), rejects)
    return _typed(sheet, section.properties, section.repeats).frame.select("id", *section.properties).sort("id")


def _typed(sheet: Sheet, properties: Mapping[str, Property], repeats: Repeats = "fail") -> Sheet:
    """A unique id and typed properties."""
    sheet = sheet.typed("id").unique("id", repeats)
    for name, spec in properties.items():
        sheet = sheet.typed(name, spec.type)
    return sheet


def with_derived(config: ShopConfig, items: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    """The items with [items.derived]: aggregates over the training events alone, null where an item has none."""
    if "at" in train.columns:
        train = train.sort("at", maintain_order=True)  # "last" is the newest of all users
    for name, spec in config.items.derived.items():
        numbers = train.select("item", pl.col(f"derived:{name}").alias(name)).drop_nulls()
        values = numbers.group_by("item", maintain_order=True).agg(HOW[spec.how](pl.col(name)))
        items = items.join(values, left_on="id", right_on="item", how="left", maintain_order="left")
    return items


def user_table(
    config: ShopConfig, source: Source, events: pl.DataFrame, train: pl.DataFrame, rejects: Rejects
) -> pl.DataFrame:
    """id and properties of the users of the log and of their table; without one, the newest training values."""
    section = config.users
    users = events.select(pl.col("user").alias("id")).unique()
    sheet = source.users(_columns(section.properties), rejects)
    if sheet is not None:
        told = _typed(sheet, section.properties).frame.select("id", *section.properties)
        return pl.concat([users, told.select("id")]).unique().sort("id").join(told, on="id", how="left")
    for name in section.properties:
        filled = train.select("user", pl.col(f"user:{name}").alias(name)).drop_nulls()
        newest = filled.group_by("user").last()
        users = users.join(newest, left_on="id", right_on="user", how="left")
    return users.sort("id")
