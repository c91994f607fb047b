"""Shops of any size with a known truth: what a customer takes is drawn from the clusters they love.

Customers' activity and items' sales follow power laws. An item belongs to a cluster and to one of its brands; a
customer takes from a first cluster with chance FIRST, from a second with SECOND, and else anything, always by
popularity. Files are written a block of customers at a time, so 20 million events need no more memory than one; equal
seeds, equal files.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FIRST, SECOND = 0.6, 0.2
MEAN_EVENTS = 16  # of a customer
BLOCK = 50_000  # customers drawn at once
DAYS = 365
START_MS = 1_672_531_200_000  # 2023-01-01 UTC
DAY_MS = 86_400_000
SHOP = """
[shop]
name = "planted"

[items]
file = "items.csv"
id = "item"
properties = { price = "float" }

[[attributes]]
column = "brand"
relation = "PRODUCED_BY"
label = "Brand"

[[attributes]]
column = "price"
relation = "IN_PRICE_BAND"
label = "PriceBand"
bands = 10

[interactions]
file = "events.parquet"
user = "user"
item = "item"
time = "time"

[split]
method = "time"
at = 2023-12-04

[gnn]
epochs = 1

[model]
head = "linear"
fit_users = 4000
check_users = 1000

[evaluation]
users = 20000
"""


@dataclass(frozen=True)
class Plan:
    """How many there are of what, and who loves what. Items lie side by side by cluster.

    popularity: float64 [item], sums to 1. border: int64 [cluster + 1], where each cluster's items begin. loved: int64
    [user, 2] clusters. activity: int64 [user] events.
    """

    popularity: np.ndarray
    border: np.ndarray
    loved: np.ndarray
    activity: np.ndarray
    seed: int

    @classmethod
    def of(cls, events: int, seed: int = 0) -> Plan:
        """A shop of about so many events: a customer per MEAN_EVENTS, and 12 sqrt(events) items."""
        random = np.random.default_rng(seed)
        users, items = max(events // MEAN_EVENTS, 20), max(int(12 * events**0.5), 40)
        clusters = max(items // 100, 4)
        popularity = random.permutation(1 / np.arange(1, items + 1) ** 0.9)
        border = np.linspace(0, items, clusters + 1).astype(np.int64)
        loved = random.integers(0, clusters, (users, 2))
        activity = 2 + random.pareto(2.0, users) * (MEAN_EVENTS - 2)  # of shape 2 the mean of a Pareto draw is 1
        return cls(popularity / popularity.sum(), border, loved, np.minimum(activity, 2_000).astype(np.int64), seed)

    def truth(self, users: np.ndarray) -> np.ndarray:
        """float32 [user, item]: the chance that a customer's next event is on an item."""
        found = np.tile((1 - FIRST - SECOND) * self.popularity, (len(users), 1))
        for place, share in enumerate((FIRST, SECOND)):
            for row, cluster in enumerate(self.loved[users, place]):
                inside = slice(self.border[cluster], self.border[cluster + 1])
                found[row, inside] += share * self.popularity[inside] / self.popularity[inside].sum()
        return found.astype(np.float32)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """user, item (int64 [event]) and time (int64 ms UTC) of a block of customers after the other."""
        edges = np.concatenate([[0.0], np.cumsum(self.popularity)])
        for start in range(0, len(self.activity), BLOCK):
            random = np.random.default_rng([self.seed, start])
            user = np.repeat(
                np.arange(start, min(start + BLOCK, len(self.activity))), self.activity[start : start + BLOCK]
            )
            kind, drawn = random.random(len(user)), random.random(len(user))
            loved = self.loved[user, (kind >= FIRST).astype(np.int64)]
            anything = kind >= FIRST + SECOND
            low = np.where(anything, 0.0, edges[self.border[loved]])
            high = np.where(anything, edges[-1], edges[self.border[loved + 1]])
            item = np.searchsorted(edges, low + drawn * (high - low), side="right") - 1
            time = START_MS + random.integers(0, DAYS * DAY_MS, len(user))
            yield user, np.minimum(item, len(self.popularity) - 1), time


def write_shop(plan: Plan, folder: Path) -> Path:
    """items.csv, events.parquet and shop.toml; returns shop.toml."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng([plan.seed, 1])
    items = len(plan.popularity)
    cluster = np.searchsorted(plan.border, np.arange(items), side="right") - 1
    brand, price = random.integers(0, 5, items), random.lognormal(3, 1, items)
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as handle:
        rows = csv.writer(handle)
        rows.writerow(["item", "brand", "price"])
        rows.writerows((f"i{n:07}", f"brand {cluster[n]}-{brand[n]}", f"{price[n]:.2f}") for n in range(items))
    schema = pa.schema([("user", pa.string()), ("item", pa.string()), ("time", pa.timestamp("ms"))])
    with pq.ParquetWriter(folder / "events.parquet", schema) as writer:
        for user, item, time in plan.blocks():
            ids = ([f"{sign}{n:07}" for n in rows.tolist()] for sign, rows in (("u", user), ("i", item)))
            columns = [*(pa.array(names) for names in ids), pa.array(time, pa.timestamp("ms"))]
            writer.write_table(pa.table(columns, schema=schema))
    (folder / "shop.toml").write_text(SHOP, encoding="utf-8")
    return folder / "shop.toml"
