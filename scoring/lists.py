"""Ranked lists of many users or items as one table, a batch at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from .model import Model
from .pool import BATCH, Scorable

ROWS = 8 * BATCH  # lists made at once: their pools are [row, pool size, term] float32


def ranked(model: Model, scorable: Scorable, rows: np.ndarray, k: int, names: pa.Array, items: pa.Array) -> pa.Table:
    """The k best items of each row: `source`, `target` (string), `score` (float64), `rank` (int64, 1 is the best).

    names: what each of `rows` is called. items: ids in row order. Rows with fewer than k items have shorter lists.
    """
    batches = [rows[start : start + ROWS] for start in range(0, max(len(rows), 1), ROWS)]
    parts = [model.recommend(scorable, batch, k)[:2] for batch in batches]
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
