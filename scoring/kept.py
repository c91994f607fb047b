"""Whether the newer weights forgot what the older ones knew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .metrics import bootstrap_interval


@dataclass(frozen=True)
class Kept:
    """What of the check users the older model knew, by its weights and by the new ones: NDCG@k of each, the
    difference, its paired 95 % interval, and whether it is worse beyond the noise."""

    users: int
    before: float
    after: float
    ci95: tuple[float, float]

    @property
    def lost(self) -> bool:
        """Whether the new weights serve them worse, and chance does not explain it."""
        return self.ci95[1] < 0


def kept(before: np.ndarray, after: np.ndarray) -> Kept:
    """From NDCG@k float64 [user] by the old and by the new weights."""
    return Kept(len(before), float(before.mean()), float(after.mean()), bootstrap_interval(after, before))
