"""What a head may know besides the terms: what kind of item, what kind of history, and how the pool compares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .evidence import Evidence, Histories
from .families import priors


@dataclass(frozen=True)
class Context:
    """Beside term values [user, item, term].

    features: float32 [user, item, feature], what :func:`item_features` and :func:`user_features` say.
    peak: float32 [user, term], each term's largest magnitude in the user's pool. It belongs to the user and not to the
    items asked for, so a pair has one score wherever it is asked.
    """

    features: np.ndarray
    peak: np.ndarray

    def of(self, users: np.ndarray) -> Context:
        """The same for some rows."""
        return Context(self.features[users], self.peak[users])


def peak_of(values: np.ndarray, items: np.ndarray) -> np.ndarray:
    """float32 [user, term] from a pool's values [user, item, term]; places without an item (-1) do not count."""
    return np.asarray(np.where(items[:, :, None] >= 0, np.abs(values), 0).max(1), np.float32)


def item_features(evidence: Evidence) -> np.ndarray:
    """float32 [item, feature]: the priors (popularity, with times also trends and age), log degree per relation."""
    degrees = [np.log1p(np.diff(relation.members.indptr)) for relation in evidence.relations]
    return np.stack([*(prior.values for prior in priors(evidence)), *degrees], axis=1).astype(np.float32)


def user_features(histories: Histories, now: float | None) -> np.ndarray:
    """float32 [user, feature]: log history length; with times also log days since the newest event, log repetition."""
    length = np.bincount(histories.user, minlength=histories.n_users)
    if now is None or histories.last is None:
        return np.log1p(length)[:, None].astype(np.float32)
    newest = np.full(histories.n_users, -np.inf)
    np.maximum.at(newest, histories.user, histories.last)
    idle = np.where(length > 0, now - newest, 0).clip(min=0)
    events = np.bincount(histories.user, histories.count, minlength=histories.n_users)
    repeats = np.log(np.maximum(events, 1) / np.maximum(length, 1))
    return np.stack([np.log1p(length), np.log1p(idle), repeats], axis=1).astype(np.float32)
