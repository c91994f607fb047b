"""The log: events with their part (train, valid, test), and the one edge per user and item of the graph."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

import numpy as np
import polars as pl

from ..config import PropertyType, ShopConfig, SplitSection
from ..errors import ConfigError, DataError, did_you_mean
from .baskets import basket_numbers
from .checks import Origin, Rejects, Sheet
from .source import Columns, Source

KINDS: Mapping[str, PropertyType] = {
    "user": "string",
    "item": "string",
    "at": "time",
    "position": "int",
    "quantity": "float",
    "kind": "string",
    "label": "int",
    "split": "string",
}
MAY_BE_EMPTY = frozenset({"kind", "split"})


def read_events(config: ShopConfig, source: Source, split: int, extra: Columns, rejects: Rejects) -> Sheet:
    """Events oldest first per user: user, item, part, and at, position, quantity, kind, label, basket where told.

    extra: further columns that ride along.
    """
    sheet = _checked(source.events({**_columns(config, split), **extra}, rejects), config)
    for name, (_, kind) in extra.items():
        sheet = sheet.typed(name, kind)
    order = [name for name in ("at", "position") if name in sheet.frame.columns]
    events = sheet.frame.sort("user", *order, maintain_order=True)
    if config.baskets is not None:
        events = events.with_columns(basket_numbers(events, config.baskets.window_s))
    return sheet.with_frame(events.with_columns(parts(events, config.split, sheet.origin)))


def no_events() -> pl.DataFrame:
    """The log of a shop without interactions."""
    return pl.DataFrame(schema={"user": pl.String, "item": pl.String, "part": pl.String})


def _columns(config: ShopConfig, split: int) -> Columns:
    section = config.interactions
    told = {
        "at": section.time,
        "position": section.position,
        "quantity": section.quantity,
        "kind": section.kind,
        "label": section.label,
    }
    if config.split.method == "column":
        if split >= len(config.split.column):
            raise ConfigError(f"there is no split {split}; split.column names {len(config.split.column)}")
        told["split"] = config.split.column[split]
    return {name: (column, KINDS[name]) for name, column in told.items() if column is not None}


def _checked(sheet: Sheet, config: ShopConfig) -> Sheet:
    """Typed columns, filled where they must be, without the rows the settings leave out."""
    section = config.interactions
    sheet = sheet.typed("user")
    if section.missing_user == "drop":
        sheet = sheet.drop(sheet.frame["user"].is_null(), "no user")
    for name in [name for name in sheet.names if name in KINDS]:
        sheet = sheet.typed(name, KINDS[name], unit=section.time_unit)
        sheet = sheet if name in MAY_BE_EMPTY else sheet.present(name)
    if "label" in sheet.names:
        sheet = sheet.check("label", ~sheet.frame["label"].is_in([0, 1]), "is neither 0 nor 1")
        sheet = sheet.with_frame(sheet.frame.with_columns(pl.col("label").cast(pl.Int8)))
    if "quantity" in sheet.names and section.returns != "keep":
        returned = sheet.frame["quantity"] <= 0
        if section.returns == "drop":
            return sheet.drop(returned, "returned")
        return sheet.check("quantity", returned, "is not above 0; say returns = 'drop' or 'keep'")
    return sheet


def parts(events: pl.DataFrame, split: SplitSection, origin: Origin) -> pl.Series:
    """`part`: "train", "valid" or "test" of every event; the events are sorted by user, oldest first.

    Raises:
        DataError: the split column holds no test value, or nothing is left to train on.
    """
    test, valid = _held_out(events, split, origin), pl.lit(False)
    if split.method == "column" and split.valid:
        valid = pl.col("split").is_in(list(split.valid)).fill_null(False)
    part = pl.when(test).then(pl.lit("test")).when(valid).then(pl.lit("valid")).otherwise(pl.lit("train"))
    found = events.with_columns(part.alias("part"))["part"]  # a constant fills the column
    if not (found == "train").any():
        why = "no event is left after the checks" if events.is_empty() else "the split holds out every event"
        raise DataError(f"{origin.place}: {why}; nothing is left to train on")
    return found


def _held_out(events: pl.DataFrame, split: SplitSection, origin: Origin) -> pl.Expr:
    """Which events are the test part, as a boolean expression."""
    if split.method == "column":
        values = events["split"].drop_nulls().unique()
        if not values.is_in(list(split.test)).any():
            hint = did_you_mean(split.test[0], values.to_list())
            raise DataError(f"{origin.place}: split column {split.column[0]!r} never says {split.test[0]!r}{hint}")
        return pl.col("split").is_in(list(split.test)).fill_null(False)
    if split.method == "time":
        assert split.at is not None
        return pl.col("at") >= moment_ms(split.at)
    if split.method == "last":  # of users who keep a history of something else
        newest = (pl.col("user") != pl.col("user").shift(-1)).fill_null(True)
        return newest & (pl.col("item").n_unique().over("user") > 1)
    if split.method == "random":  # whole pairs, and at least one pair of a user stays
        pairs = events.select("user", "item").unique(maintain_order=True)
        draw = pl.Series("draw", np.random.default_rng(split.seed).random(pairs.height))
        drawn = pairs.with_columns(draw).select("user", "item", "draw", most=pl.col("draw").max().over("user"))
        placed = events.join(drawn, on=["user", "item"], how="left", maintain_order="left")
        return pl.lit((placed["draw"] < split.fraction) & (placed["draw"] < placed["most"]))
    return pl.lit(False)


def is_behind(at: int | None, split: SplitSection) -> bool:
    """Whether an event of that moment (ms since 1970) lies behind the cut of a split in time, and so is held out."""
    return split.method == "time" and split.at is not None and at is not None and at >= moment_ms(split.at)


def moment_ms(moment: dt.datetime | dt.date) -> int:
    """Milliseconds since 1970 of a TOML date or datetime; without an offset it is UTC."""
    if not isinstance(moment, dt.datetime):
        moment = dt.datetime(moment.year, moment.month, moment.day)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return round(moment.timestamp() * 1000)


def positive(events: pl.DataFrame) -> pl.DataFrame:
    """The events that say "yes": all of them, or those labelled 1."""
    return events.filter(pl.col("label") == 1) if "label" in events.columns else events


def pairs(events: pl.DataFrame) -> pl.DataFrame:
    """One row per user and item of the positive events: source, target, count; quantity, times, position if told."""
    events = positive(events)
    aggregates = {
        "quantity": pl.col("quantity").sum() if "quantity" in events.columns else None,
        "first_at": pl.col("at").min() if "at" in events.columns else None,
        "last_at": pl.col("at").max() if "at" in events.columns else None,
        "position": pl.col("position").max() if "position" in events.columns else None,
    }
    told = {name: how for name, how in aggregates.items() if how is not None}
    grouped = events.group_by("user", "item").agg(count=pl.len().cast(pl.Int64), **told)
    return grouped.sort("user", "item").rename({"user": "source", "item": "target"})
