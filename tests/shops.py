"""Shops to test on: generated ones with planted structure, never the real data."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np

CATEGORIES = ("Mugs", "Lamps", "Toys", "Garden")
SHOP = """
[shop]
name = "planted"
[items]
file = "items.csv"
id = "item"
title = "name"
properties = { name = "string", price = "float" }
[[attributes]]
column = "category"
relation = "IN_CATEGORY"
label = "Category"
levels = " > "
[[attributes]]
column = "price"
relation = "IN_PRICE_BAND"
label = "PriceBand"
bands = 3
[interactions]
file = "sales.csv"
user = "user"
item = "item"
time = "time"
quantity = "quantity"
[baskets]
[split]
method = "time"
at = 2024-04-01
period_days = 20
[gnn]
dim = 8
epochs = 1
[model]
folds = 2
pool_size = 20
head = "linear"
"""


def make_shop(folder: Path, *, users: int = 60, items: int = 40, seed: int = 0, toml: str = SHOP) -> Path:
    """A shop whose users each love one category: items.csv, sales.csv and shop.toml; returns shop.toml."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    category = np.arange(items) % len(CATEGORIES)
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["item", "name", "price", "category"])
        for n in range(items):
            kind = CATEGORIES[category[n]]
            writer.writerow([f"i{n:02}", f"{kind} number {n}", f"{1 + n * 0.5:.2f}", f"Shop > {kind}"])
    popularity = 1 / np.arange(1, items + 1) ** 0.5
    start = np.datetime64("2024-01-01")
    with (folder / "sales.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["user", "item", "time", "quantity"])
        for user in range(users):
            weight = popularity * np.where(category == user % len(CATEGORIES), 12, 1)
            for basket in np.sort(random.integers(0, 120, 6)):
                for item in random.choice(items, 2, replace=False, p=weight / weight.sum()):
                    writer.writerow([f"u{user:02}", f"i{item:02}", f"{start + basket}T10:00:00", random.integers(1, 4)])
    (folder / "shop.toml").write_text(toml, encoding="utf-8")
    return folder / "shop.toml"


def copied(toml: Path, build: Path, place: Path) -> tuple[Path, Path]:
    """(shop.toml, build folder) of a copy of a built shop, free to be changed."""
    shutil.copytree(toml.parent, place / "shop")
    shutil.copytree(build, place / "build")
    return place / "shop" / toml.name, place / "build"
