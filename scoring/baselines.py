"""Baselines, tuned on the same validation fold as the model: each is a function of the evidence and one setting.

They are item x item matrices or priors too, so they run through the same scoring and the same masks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import psutil
import scipy.sparse as sp

from ..errors import ConfigError, did_you_mean
from ..gnn.walks import shared_context
from .evidence import Evidence
from .factors import ease, stacked
from .families import recency
from .metrics import rank_metrics
from .pool import in_batches
from .profiles import profiles_of
from .terms import ItemItem, Prior, Term
from .topk import top_k

Make = Callable[[Evidence, float], Term]


@dataclass(frozen=True)
class Baseline:
    """A name, how to build it at a setting, and the settings tried on validation."""

    name: str
    make: Make
    settings: tuple[float, ...]
    timed: bool = False
    memory: Callable[[int], float] = lambda items: 0.0  # bytes it needs for a catalogue of this size


def popularity(evidence: Evidence, _: float) -> Term:
    """How many users have the item."""
    histories = evidence.histories
    return Prior("popularity", np.bincount(histories.item, minlength=histories.n_items).astype(np.float32))


def recent_popularity(evidence: Evidence, days: float) -> Term:
    """How many users took the item in the last `days` days."""
    histories = evidence.histories
    assert histories.last is not None and evidence.now is not None  # noqa: PT018
    lately = histories.item[histories.last >= evidence.now - days]
    return Prior("recent popularity", np.bincount(lately, minlength=histories.n_items).astype(np.float32))


def item_knn(evidence: Evidence, neighbours: float) -> Term:
    """Cosine between items' user vectors, each item's `neighbours` nearest (Sarwar et al. 2001)."""
    users = evidence.histories.matrix()
    norm = np.sqrt(np.maximum(np.asarray(users.sum(0)).ravel(), 1)).astype(np.float32)
    unit = sp.csr_matrix(users @ sp.diags_array(1 / norm))
    similar = sp.csr_matrix(unit.T @ unit)
    similar.setdiag(0)
    similar.eliminate_zeros()
    for row in np.flatnonzero(np.diff(similar.indptr) > neighbours):
        values = similar.data[similar.indptr[row] : similar.indptr[row + 1]]
        values[values < np.partition(values, -int(neighbours))[-int(neighbours)]] = 0
    similar.eliminate_zeros()
    return ItemItem("item-kNN", "uniform", sp.csr_matrix(similar.T))


def rp3(evidence: Evidence, beta: float) -> Term:
    """RP3beta with alpha = .45 (Paudel et al. 2017)."""
    return ItemItem("RP3beta", "uniform", shared_context(evidence.histories.matrix(), 0.45, beta))


def recent_rp3(evidence: Evidence, days: float) -> Term:
    """RP3beta over customers weighted by exp(-days since the purchase / `days`)."""
    return ItemItem("recent RP3", "uniform", shared_context(recency(evidence, days), 0.45, 0.3))


def full_ease(evidence: Evidence, ridge: float) -> Term:
    """EASE over all items (Steck 2019); kept dense."""
    return DenseItemItem("EASE", ease(stacked([evidence.histories.matrix()]), ridge))  # type: ignore[return-value]


@dataclass(frozen=True)
class DenseItemItem:
    """scores = p B with a dense B [item, item]."""

    name: str
    weights: np.ndarray
    profile: str = "uniform"

    def scores(self, rows: dict[str, sp.csr_matrix]) -> np.ndarray:
        """float32 [user, item]."""
        return np.asarray(rows[self.profile] @ self.weights, np.float32)

    def pairs(self, rows: dict[str, sp.csr_matrix], items: np.ndarray) -> np.ndarray:
        """float32 [pair]: of row n and items[n]."""
        return np.asarray(rows[self.profile].multiply(self.weights.T[items]).sum(1), np.float32).ravel()


def _ease_bytes(items: int) -> float:
    return 3.2 * 4 * items**2  # the Gram matrix, its factor and the inverse


BASELINES = (
    Baseline("popularity", popularity, (0,)),
    Baseline("recent popularity", recent_popularity, (7, 14, 28, 56), timed=True),
    Baseline("item-kNN", item_knn, (20, 50, 100, 300)),
    Baseline("RP3beta", rp3, (0.0, 0.15, 0.3, 0.45, 0.6)),
    Baseline("recent RP3", recent_rp3, (10, 20, 45, 90), timed=True),
    Baseline("EASE", full_ease, (30, 100, 300, 1000), memory=_ease_bytes),
)


def applicable(evidence: Evidence, wanted: tuple[str, ...]) -> Iterator[tuple[Baseline, str | None]]:
    """Baselines that make sense here; with a reason instead where one does not fit the free memory."""
    names = [baseline.name for baseline in BASELINES]
    for name in wanted:
        if name not in names:
            raise ConfigError(f"evaluation.baselines: no baseline {name!r}{did_you_mean(name, names)}")
    for baseline in BASELINES:
        if (wanted and baseline.name not in wanted) or (baseline.timed and evidence.now is None):
            continue
        need, free = baseline.memory(evidence.n_items), psutil.virtual_memory().available
        budget = min(free, MEMORY_BUDGET)
        lacking = f"needs {need / 2**30:.1f} GiB, allowed {budget / 2**30:.1f} GiB" if need > budget else None
        yield baseline, lacking


MEMORY_BUDGET = 4 * 2**30  # bytes a baseline may take for itself


def ranked(term: Term, evidence: Evidence, allowed: np.ndarray, users: np.ndarray, k: int) -> np.ndarray:
    """int64 [user, k] of one term alone."""
    hidden, uniform = evidence.histories.matrix(), profiles_of(evidence.histories)["uniform"]

    def one(batch: np.ndarray) -> np.ndarray:
        rows = {"uniform": uniform[batch]}
        return top_k(np.ascontiguousarray(term.scores(rows)), k, hidden[batch], allowed)[0]

    return np.concatenate(list(in_batches(users, one)))


def tune(
    baseline: Baseline, evidence: Evidence, allowed: np.ndarray, held_out: sp.csr_matrix, users: np.ndarray, k: int
) -> float:
    """The setting with the highest NDCG@k on the validation users."""
    if len(baseline.settings) == 1:
        return baseline.settings[0]
    found = {
        setting: rank_metrics(ranked(baseline.make(evidence, setting), evidence, allowed, users, k), held_out[users], k)
        for setting in baseline.settings
    }
    return max(found, key=lambda setting: float(found[setting].ndcg.mean()))
