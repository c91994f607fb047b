"""Baskets: what one user takes within a short time, and the item pairs that share them."""

from __future__ import annotations

import numpy as np
import polars as pl

from ..config import BasketsSection


def basket_numbers(events: pl.DataFrame, window_s: int) -> pl.Series:
    """`basket` int64 [n]: events of a user less than `window_s` after a basket's first one belong to it.

    Numbers rise with the baskets' first times over the whole shop; `events` is sorted by user, oldest first.
    """
    at, user = events["at"].to_numpy(), events["user"].rank("dense").to_numpy().astype(np.int64)
    if not len(at):
        return pl.Series("basket", [], pl.Int64)
    window = window_s * 1000
    moment = (at - at.min()) + user * (at.max() - at.min() + window)  # users lie a window apart on one line
    after = np.searchsorted(moment, moment + window).tolist()  # the first event past a basket that starts here
    starts, row = [], 0
    while row < len(after):
        starts.append(row)
        row = after[row]
    first = np.zeros(len(at), np.int64)
    first[starts] = 1
    by_time = np.empty(len(starts), np.int64)
    by_time[np.argsort(at[starts], kind="stable")] = np.arange(len(starts))
    return pl.Series("basket", by_time[np.cumsum(first) - 1])


def bought_together(events: pl.DataFrame, section: BasketsSection) -> pl.DataFrame:
    """Item pairs that share baskets of these events, in both directions: source, target, count, last_at (int64 ms).

    Pairs in fewer than `min_count` baskets are left out; an item keeps its `per_item` most frequent partners.
    """
    ids = events["item"].unique().sort()
    code = pl.col("item").replace_strict(ids, pl.Series(range(len(ids)), dtype=pl.UInt32), return_dtype=pl.UInt32)
    lines = events.lazy().select("basket", code, "at").group_by("basket", "item").agg(pl.col("at").max())
    joined = lines.join(lines, on="basket").filter(pl.col("item") < pl.col("item_right"))
    counted = joined.group_by("item", "item_right").agg(
        count=pl.len().cast(pl.Int64), last_at=pl.max_horizontal("at", "at_right").max()
    )
    half = (
        counted.filter(pl.col("count") >= section.min_count)
        .rename({"item": "source", "item_right": "target"})
        .collect()
    )
    mirrored = half.select(pl.col("target").alias("source"), pl.col("source").alias("target"), "count", "last_at")
    both = pl.concat([half, mirrored]).sort("source", "count", "target", descending=[False, True, False])
    kept = both.group_by("source", maintain_order=True).head(section.per_item)
    return kept.with_columns(pl.Series(end, ids.gather(kept[end])) for end in ("source", "target")).sort(
        "source", "target"
    )
