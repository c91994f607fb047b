"""Ranked lists of many users or items as one table, a batch at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from .diverse import Wish
from .model import Model
from .pool import BATCH, Scorable

ROWS = 8 * BATCH  # lists made at once: their pools are [row, pool size, term] float32


def ranked(
    model: Model, scorable: Scorable, rows: np.ndarray, wish: Wish, names: pa.Array, items: pa.Array
) -> pa.Table:
    """The lists wished for of each row: `source`, `target` (string), `score` (float64), `rank` (int64, 1 is the best).

    names: what each of `rows` is called. items: ids in row order. Rows with fewer than k items have shorter lists.
    """
    found, scores, length = [np.empty(0, np.int64)], [np.empty(0, np.float32)], [np.empty(0, np.int64)]
    for start in range(0, len(rows), ROWS):
        pools = model.recommend(scorable, rows[start : start + ROWS], wish.size(model.pool_size), wish.only)[:2]
        places = [np.asarray(wish.places(*pool), np.int64) for pool in zip(*pools, strict=True)]
        length.append(np.array([len(chosen) for chosen in places]))
        for several, all_of_them in zip((found, scores), pools, strict=True):
            several += [one[chosen] for one, chosen in zip(all_of_them, places, strict=True)]
    lengths = np.concatenate(length)
    return pa.table(
        {
            "source": names.take(pa.array(np.repeat(np.arange(len(rows)), lengths))),
            "target": items.take(pa.array(np.concatenate(found))),
            "score": np.concatenate(scores).astype(np.float64),
            "rank": np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1,
        }
    )
