"""How far two versions of a shop's model are apart."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from ..kg.snapshot import IdMap
from .bundle import Bundle

SAMPLE = 500  # users whose lists are compared


def drift(old: Bundle, new: Bundle, k: int) -> dict[str, Any]:
    """Over a fixed sample of users both versions know and items both list.

    users: how many. overlap: share of the first k places that are the same items, mean. rank_correlation: Spearman's,
    of the scores of items in both versions' pools, mean over users with three such items. score_shift: mean absolute
    difference of these scores, less what a user's scores have moved together, in standard deviations of the old ones.
    """
    known = sorted(set(old.users["id"].to_pylist()) & set(new.users["id"].to_pylist()), key=_draw)[:SAMPLE]
    lists = [_listed(bundle, known) for bundle in (old, new)]
    overlaps, correlations, shifts = [], [], []
    for mine, theirs in zip(*lists, strict=True):
        overlaps.append(len(set(list(mine)[:k]) & set(list(theirs)[:k])) / max(min(k, len(mine)), 1))
        both = [item for item in mine if item in theirs]
        one, other = (np.array([listed[item] for item in both]) for listed in (mine, theirs))
        if len(both) >= 3 and one.std() > 0 and other.std() > 0:
            correlations.append(float(spearmanr(one, other).statistic))
            moved = other - one
            shifts.append(float(np.abs(moved - moved.mean()).mean() / one.std()))
    return {
        "users": len(known),
        "overlap": float(np.mean(overlaps)) if overlaps else None,
        "rank_correlation": float(np.mean(correlations)) if correlations else None,
        "score_shift": float(np.mean(shifts)) if shifts else None,
    }


def _draw(id_: str) -> str:
    """A user's place in the draw, the same for every version."""
    return hashlib.sha256(id_.encode("utf-8", "surrogatepass")).hexdigest()


def _listed(bundle: Bundle, users: list[str]) -> list[dict[str, float]]:
    """Per user item -> score of the whole pool, best first."""
    rows = IdMap("user", bundle.users["id"].to_pylist()).rows(users)
    ids, size = bundle.items["id"].to_pylist(), min(bundle.model.pool_size, len(bundle.items))
    items, scores, _ = bundle.model.recommend(bundle.model.scorable(bundle.log), rows, size)
    return [
        {ids[item]: float(score) for item, score in zip(places, values, strict=True) if item >= 0}
        for places, values in zip(items, scores, strict=True)
    ]
