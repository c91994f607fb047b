"""Items and users: their tables, their typed properties, and the properties computed from training events."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from ..config import Property, PropertyType, ShopConfig
from .checks import Rejects, Sheet

HOW = {
    "median": pl.Expr.median,
    "mean": pl.Expr.mean,
    "min": pl.Expr.min,
    "max": pl.Expr.max,
    "last": pl.Expr.last,
}
RAW = "column:"  # marks columns read for [[attributes]] alone, so that they cannot meet a property's name


def extra_columns(config: ShopConfig) -> dict[str, tuple[str, PropertyType]]:
    """name -> (column, type) of what the log must carry for derived item properties and users' properties."""
    derived = {f"derived:{name}": (spec.column, _FLOAT) for name, spec in config.items.derived.items()}
    if config.users.file is not None:
        return derived
    return derived | {
        f"user:{name}": (spec.column or name, spec.type) for name, spec in config.users.properties.items()
    }


_FLOAT: PropertyType = "float"


def item_table(config: ShopConfig, events: pl.DataFrame, rejects: Rejects) -> pl.DataFrame:
    """id, the declared properties and the RAW columns of every item; without a file, the ids the log names."""
    section = config.items
    if section.file is None:
        return events.select(pl.col("item").alias("id")).unique().sort("id")
    told = {*section.properties, *section.derived}
    raw = {f"{RAW}{a.column}": a for a in config.attributes if a.column not in told}
    names = {name: a.column for name, a in raw.items()}
    sheet = _properties(config.shop.data / section.file, section.id, section.properties, names, rejects)
    for name, attribute in raw.items():
        if not isinstance(sheet.frame.schema[name], pl.List):
            sheet = sheet.typed(name, "string" if attribute.bands is None else "float")
    return sheet.frame.select("id", *section.properties, *names).sort("id")


def _properties(
    file: Path, id_column: str, properties: Mapping[str, Property], more: Mapping[str, str], rejects: Rejects
) -> Sheet:
    """id (unique) and typed properties, and `more` columns as they are."""
    columns = {name: spec.column or name for name, spec in properties.items()}
    sheet = Sheet.read(file, {"id": id_column, **columns, **more}, rejects).typed("id").unique("id")
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


def user_table(config: ShopConfig, events: pl.DataFrame, train: pl.DataFrame, rejects: Rejects) -> pl.DataFrame:
    """id and properties of the users of the log and of users.file; without one, the newest training values."""
    section = config.users
    users = events.select(pl.col("user").alias("id")).unique()
    if section.file is not None:
        sheet = _properties(config.shop.data / section.file, section.id, section.properties, {}, rejects)
        told = sheet.frame.select("id", *section.properties)
        return pl.concat([users, told.select("id")]).unique().sort("id").join(told, on="id", how="left")
    for name in section.properties:
        filled = train.select("user", pl.col(f"user:{name}").alias(name)).drop_nulls()
        newest = filled.group_by("user").last()
        users = users.join(newest, left_on="id", right_on="user", how="left")
    return users.sort("id")
