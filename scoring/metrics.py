"""Ranking and click-prediction metrics, per user, so that intervals and segments can be computed from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.stats import rankdata


@dataclass(frozen=True)
class PerUser:
    """float64 [user] each; rates are fractions."""

    ndcg: np.ndarray
    recall: np.ndarray
    hr: np.ndarray
    precision: np.ndarray


def rank_metrics(items: np.ndarray, held_out: sp.csr_matrix, k: int) -> PerUser:
    """NDCG, recall, hit rate and precision at k of ranked items int64 [user, >= k] (-1 = empty place).

    held_out: sparse [user, item], every row with at least one item. Gains are binary;
    DCG = sum over hits of 1 / log2(rank + 1), and the ideal has min(k, held out) hits (Järvelin and Kekäläinen 2002).
    """
    top = items[:, :k]
    hit = is_held_out(top, held_out)
    count = np.diff(held_out.indptr)
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)[np.minimum(count, k).clip(min=1) - 1]
    found = hit.sum(1)
    return PerUser(
        ndcg=(hit * discount[: top.shape[1]]).sum(1) / ideal,
        recall=found / np.maximum(count, 1),
        hr=(found > 0).astype(np.float64),
        precision=found / k,
    )


def is_held_out(items: np.ndarray, held_out: sp.csr_matrix) -> np.ndarray:
    """bool like `items` [user, n]: is this item held out for the user of this row?"""
    n_users, n_items = held_out.shape
    keys = np.sort(np.repeat(np.arange(n_users), np.diff(held_out.indptr)) * n_items + held_out.indices)
    if not len(keys):
        return np.zeros(items.shape, bool)
    wanted = np.arange(n_users)[:, None] * n_items + items
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.asarray((keys[place] == wanted) & (items >= 0))


def coverage(items: np.ndarray, n_items: int) -> float:
    """Share of the catalogue that appears in anybody's list."""
    return len(np.unique(items[items >= 0])) / n_items


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Chance that a positive pair scores above a negative one, ties counting half; NaN without both kinds.

    labels: [pair], 1 = positive. scores: float [pair]. The Mann-Whitney statistic over its largest value.
    """
    positive = np.asarray(labels) == 1
    yes, no = int(positive.sum()), int((~positive).sum())
    if not yes or not no:
        return float("nan")
    return float((rankdata(scores)[positive].sum() - yes * (yes + 1) / 2) / (yes * no))


def f1(labels: np.ndarray, scores: np.ndarray, border: float = 0.5) -> float:
    """Harmonic mean of precision and recall where scores >= border count as "yes"; 0 without a hit."""
    positive, said = np.asarray(labels) == 1, np.asarray(scores) >= border
    either = int(positive.sum() + said.sum())
    return 2 * int((positive & said).sum()) / either if either else 0.0


def bootstrap_interval(a: np.ndarray, b: np.ndarray, *, draws: int = 2_000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of a - b (paired, per user), percentile bootstrap over users."""
    difference, random = a - b, np.random.default_rng(seed)
    means = [difference[random.integers(0, len(difference), len(difference))].mean() for _ in range(draws)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
