"""Ranked lists of many users or items as one table, a batch at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from .diverse import Wish
from .model import Model
from .pool import Scorable, chunks


def ranked(
    model: Model, scorable: Scorable, rows: np.ndarray, wish: Wish, names: pa.Array, items: pa.Array
) -> pa.Table:
    """The lists wished for of each row: `source`, `target` (string), `score` (float64), `rank` (int64, 1 is the best).

    names: what each of `rows` is called. items: ids in row order. Rows with fewer than k items have shorter lists.
    """
    parts = [_listed(model, scorable, some, wish) for some in chunks(rows)]
    found, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
    row, place = np.nonzero(found >= 0)
    return pa.table(
        {
            "source": names.take(pa.array(row)),
            "target": items.take(pa.array(found[row, place])),
            "score": scores[row, place].astype(np.float64),
            "rank": place + 1,
        }
    )


def _listed(model: Model, scorable: Scorable, users: np.ndarray, wish: Wish) -> tuple[np.ndarray, np.ndarray]:
    """Items int64 [user, k], -1 where a list is shorter, and their scores float32."""
    items, scores, _ = model.recommend(scorable, users, wish.size(model.pool_size), wish.only)
    if wish.plain:
        return items, scores
    found, best = np.full((len(users), wish.k), -1), np.zeros((len(users), wish.k), np.float32)
    for n in range(len(users)):
        places = list(wish.places(items[n], scores[n]))
        found[n, : len(places)], best[n, : len(places)] = items[n, places], scores[n, places]
    return found, best
