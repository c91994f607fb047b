"""A shop of the size the stores are measured on: Zipf-skewed, no repeated pairs, rows in no order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from catalograph.loaders.catalogue import INTERACTED, EdgeKey

BOUGHT = EdgeKey("User", INTERACTED, "Item")


def shop(
    *, users: int = 100_000, items: int = 200_000, edges: int = 2_000_000, seed: int = 0
) -> tuple[dict[str, pa.Table], dict[EdgeKey, pa.Table]]:
    """(nodes, edges) as `GraphStore.rebuild` takes them; `last_at` is int64 ms UTC."""
    random = np.random.default_rng(seed)
    pairs = np.zeros(0, np.int64)
    while len(pairs) < edges:
        drawn = _zipf(random, users, edges) * items + _zipf(random, items, edges)
        pairs = np.unique(np.concatenate([pairs, drawn]))
    pairs = random.permutation(pairs)[:edges]
    user_ids, item_ids = (
        pa.array([f"{sign}{n:07}" for n in random.permutation(count)]) for sign, count in (("u", users), ("i", items))
    )
    nodes = {
        "User": pa.table({"id": user_ids}),
        "Item": pa.table({"id": item_ids, "name": item_ids, "price": random.lognormal(3, 1, items)}),
    }
    log = {
        "source": user_ids.take(pa.array(pairs // items)),
        "target": item_ids.take(pa.array(pairs % items)),
        "count": random.integers(1, 9, edges),
        "last_at": random.integers(1_600_000_000_000, 1_700_000_000_000, edges),
    }
    return nodes, {BOUGHT: pa.table(log)}


def _zipf(random: np.random.Generator, count: int, draws: int) -> np.ndarray:
    weight = 1 / np.arange(1, count + 1) ** 0.8
    return random.choice(count, draws, p=weight / weight.sum())
