"""The log: events with their part (train, valid, test), baskets, and the one edge per user and item of the graph."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl

from ..config import ShopConfig
from ..errors import DataError
from .checks import present
from .tables import ROW, Rejects, read_table, strings, times, typed


def read_events(config: ShopConfig, extra: tuple[str, ...], split: int, rejects: Rejects) -> pl.DataFrame:
    """Events with user, item, part and the optional columns, oldest first per user; `extra` columns ride along."""
    section, file = config.interactions, config.shop.data / config.interactions.file
    optional = {
        name: column
        for name in ("time", "position", "quantity", "kind", "label")
        if (column := getattr(section, name)) is not None
    }
    splits = config.split.column if config.split.method == "column" else ()
    wanted = [section.user, section.item, *optional.values(), *extra, *splits]
    raw = read_table(file, wanted)
    table = raw.select(
        ROW,
        strings(section.user).alias("user"),
        strings(section.item).alias("item"),
        *(pl.col(column).alias(name) for name, column in optional.items()),
        *(pl.col(column).alias(f"extra:{column}") for column in extra),
        *(strings(splits[split]).alias("split") for _ in splits[:1]),
    )
    if section.missing_user == "drop":
        rejects.drop(file.name, "no user", int(table["user"].is_null().sum()))
        table = table.filter(pl.col("user").is_not_null())
    table = present(present(table, "user", file, rejects), "item", file, rejects)
    table = _typed_columns(table, config, file, rejects)
    if table.is_empty():
        raise DataError(f"{file}: no interaction is left after the checks")
    order = [name for name in ("at", "position") if name in table.columns]
    table = table.sort("user", *order, ROW, maintain_order=True)
    table = table.with_columns(_part(table, config, file))
    return _with_baskets(table, config)


def _typed_columns(table: pl.DataFrame, config: ShopConfig, file: Path, rejects: Rejects) -> pl.DataFrame:
    section = config.interactions
    if section.time is not None:
        table = times(table, "time", section.time_unit, file, rejects).rename({"time": "at"})
    for name, kind in (("position", "int"), ("quantity", "float"), ("label", "int")):
        if name in table.columns:
            table = present(typed(table, name, kind, file, rejects), name, file, rejects)  # type: ignore[arg-type]
    if "kind" in table.columns:
        table = typed(table, "kind", "string", file, rejects)
    if "label" in table.columns:
        table = rejects.check(table, ~table["label"].is_in([0, 1]), file, "label", "is neither 0 nor 1")
        table = table.with_columns(pl.col("label").cast(pl.Int8))
    if "quantity" in table.columns and section.returns != "keep":
        returned = table["quantity"] <= 0
        if section.returns == "drop":
            rejects.drop(file.name, "returned", int(returned.sum()))
            table = table.filter(~returned)
        else:
            table = rejects.check(table, returned, file, "quantity", "is not above 0; say returns = 'drop' or 'keep'")
    return table


def _part(table: pl.DataFrame, config: ShopConfig, file: Path) -> pl.Series:
    """ "train", "valid" or "test" for every event; the table is sorted by user, oldest first."""
    split, n = config.split, table.height
    if split.method == "column":
        values = table["split"].fill_null("")
        hidden, valid = values.is_in(list(split.test)).to_numpy(), values.is_in(list(split.valid)).to_numpy()
        if not hidden.any():
            raise DataError(f"{file}: column {split.column[0]!r} holds none of {list(split.test)}; see split.test")
    elif split.method == "time":
        assert split.at is not None
        hidden, valid = (table["at"] >= moment_ms(split.at)).to_numpy(), np.zeros(n, bool)
    elif split.method == "last":
        newest = table.select(
            (pl.col("user") != pl.col("user").shift(-1)).fill_null(True) & (pl.len().over("user") > 1)
        )
        hidden, valid = newest.to_series().to_numpy(), np.zeros(n, bool)
    elif split.method == "random":
        hidden, valid = np.random.default_rng(split.seed).random(n) < split.fraction, np.zeros(n, bool)
    else:
        hidden = valid = np.zeros(n, bool)
    if hidden.all():
        raise DataError(f"{file}: the split holds out every interaction; nothing is left to train on")
    return pl.Series("part", np.where(hidden, "test", np.where(valid, "valid", "train")))


def moment_ms(moment: dt.datetime | dt.date) -> int:
    """Milliseconds since 1970 of a TOML date or datetime; without an offset it is UTC."""
    if not isinstance(moment, dt.datetime):
        moment = dt.datetime(moment.year, moment.month, moment.day)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return round(moment.timestamp() * 1000)


def _with_baskets(table: pl.DataFrame, config: ShopConfig) -> pl.DataFrame:
    """Numbers the baskets: a user's events form one as long as they follow the basket's window grid."""
    if config.baskets is None:
        return table
    window = table["at"] // (config.baskets.window_s * 1000)
    keyed = table.with_columns(window.alias("window"))
    numbers = keyed.select("window", "user").unique().sort("window", "user").with_row_index("basket")
    numbers = numbers.with_columns(pl.col("basket").cast(pl.Int64))
    return keyed.join(numbers, on=["window", "user"], how="left", maintain_order="left").drop("window")


def pairs(events: pl.DataFrame) -> pl.DataFrame:
    """One row per user and item: source, target, count and, where there are such columns, quantity, times, position."""
    columns = [pl.len().cast(pl.Int64).alias("count")]
    if "quantity" in events.columns:
        columns.append(pl.col("quantity").sum())
    if "at" in events.columns:
        columns += [pl.col("at").min().alias("first_at"), pl.col("at").max().alias("last_at")]
    if "position" in events.columns:
        columns.append(pl.col("position").max())
    if "label" in events.columns:
        events = events.filter(pl.col("label") == 1)
    grouped = events.group_by("user", "item").agg(columns).sort("user", "item")
    return grouped.rename({"user": "source", "item": "target"})


def bought_together(events: pl.DataFrame, config: ShopConfig) -> pl.DataFrame:
    """Item pairs that share baskets of these (training) events, in both directions: source, target, count, last_at."""
    section = config.baskets
    assert section is not None
    lines = events.group_by("basket", "item").agg(pl.col("at").max())
    joined = lines.lazy().join(lines.lazy(), on="basket").filter(pl.col("item") != pl.col("item_right"))
    counted = joined.group_by("item", "item_right").agg(
        pl.len().cast(pl.Int64).alias("count"), pl.col("at").max().alias("last_at")
    )
    strong = counted.filter(pl.col("count") >= section.min_count)
    kept = (
        strong.sort(["item", "count", "item_right"], descending=[False, True, False])
        .group_by("item")
        .head(section.per_item)
    )
    return kept.collect().rename({"item": "source", "item_right": "target"}).sort("source", "target")
