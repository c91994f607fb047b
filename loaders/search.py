"""The search log: which query was answered by which item."""

from __future__ import annotations

import polars as pl

from ..config import SearchSection, ShopConfig
from ..errors import ConfigError
from .checks import Rejects, Sheet
from .interactions import moment_ms


def searches(config: ShopConfig, section: SearchSection, items: pl.Series, rejects: Rejects) -> pl.DataFrame:
    """One row per answer: query, item; at (int64 ms UTC) and relevance (float64) where told; none from the time that is
    held out.

    Raises:
        ConfigError: clicks cannot be told from those behind held-out interactions: there is no time, here or there.
        DataError: a row cannot be used; with `on_bad_rows = "quarantine"` it is left out instead.
    """
    timed = section.time is not None and config.interactions.time is not None
    if config.has_interactions and not timed and section.relevance is None:
        raise ConfigError(
            "[search] needs time, and [interactions] too: clicks that led to held-out interactions must be left out; "
            "name both, or relevance where people judged the answers, or leave [search] out"
        )
    told = {"query": section.query, "item": section.item, "at": section.time, "relevance": section.relevance}
    names = {name: column for name, column in told.items() if column is not None}
    sheet = Sheet.read(config.shop.data / section.file, names, rejects).typed("query").typed("item")
    sheet = sheet.present("query", "item").known("item", items, "item")
    if section.time is not None:
        sheet = sheet.typed("at", "time", unit=section.time_unit).present("at")
        if config.split.method == "time" and config.split.at is not None:
            sheet = sheet.with_frame(sheet.frame.filter(pl.col("at") < moment_ms(config.split.at)))
    if section.relevance is not None:
        sheet = sheet.typed("relevance", "float").present("relevance")
    return sheet.frame.select(name for name in ("query", "item", "at", "relevance") if name in sheet.frame.columns)
