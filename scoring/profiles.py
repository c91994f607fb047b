"""Profiles: a user's history as one sparse row of item weights, p = w / sqrt(sum w).

| name     | weight of a pair, with times              | with an order only |
| -------- | ----------------------------------------- | ------------------ |
| uniform  | 1                                         | 1                  |
| decayed  | exp(-days before the user's newest / 60)  | 0.7^back           |
| last     | exp(-days before the user's newest / 7)   | 0.25^back          |
| frequent | log(1 + events)                           | -                  |
| newest   | the learned decay of the GNN, newest n    | same               |

Rows of `newest` are not scaled: the term that reads them normalises its query. Baselines have two more: `newest 3`, the
newest three items, all alike, and `user`, who it is: rows with a single 1, for vectors per user.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from .evidence import Histories

DECAY_DAYS = {"decayed": 60.0, "last": 7.0}
DECAY_STEP = {"decayed": 0.7, "last": 0.25}
NEWEST = {f"newest {n}": n for n in (1, 3, 10, 30)}
USER = "user"


def names_for(histories: Histories) -> tuple[str, ...]:
    """The profiles a shop's data allows, `newest` apart."""
    if histories.last is not None:
        return ("uniform", "decayed", "last", "frequent")
    return ("uniform", "decayed", "last") if histories.ordered else ("uniform",)


def profiles_of(histories: Histories, decay: np.ndarray | None = None) -> dict[str, sp.csr_matrix]:
    """Every profile of every user: name -> sparse float32 [user, item]. `decay` [n] adds `newest`."""
    rows = {name: rows_of(histories, name) for name in names_for(histories)}
    if decay is not None:
        within = histories.back < len(decay)
        weight = np.where(within, decay[np.minimum(histories.back, len(decay) - 1)], 0.0)
        rows["newest"] = histories.matrix(weight)
        rows["newest"].eliminate_zeros()
    return rows


def rows_of(histories: Histories, name: str) -> sp.csr_matrix:
    """One profile, also of the baselines' own: sparse float32 [user, item]; of USER the unit matrix [user, user]."""
    if name == USER:
        return sp.csr_matrix(sp.eye_array(histories.n_users, dtype=np.float32))
    if name in NEWEST:
        rows = histories.matrix(histories.back < NEWEST[name])
        rows.eliminate_zeros()
        return rows
    return histories.matrix(_scaled(histories, _weights(histories, name)))


def with_more(profiles: dict[str, sp.csr_matrix], more: sp.csr_matrix, newest: float) -> dict[str, sp.csr_matrix]:
    """The profiles of the same users with the weights `more` [user, item] added before they are scaled; `newest` is
    the weight of one item in the profile of that name."""
    found = {}
    for name, rows in profiles.items():
        if name == "newest":
            found[name] = sp.csr_matrix(rows + newest * more)
            continue
        weights = sp.csr_matrix(sp.diags_array(np.asarray(rows.sum(1)).ravel()) @ rows + more)  # p sum(p) = w
        total = np.asarray(weights.sum(1)).ravel()
        scale = sp.diags_array((1 / np.sqrt(np.maximum(total, 1e-12))).astype(np.float32))
        found[name] = sp.csr_matrix(scale @ weights, dtype=np.float32)
    return found


def _weights(histories: Histories, name: str) -> np.ndarray:
    if name == "uniform":
        return np.ones(len(histories.user))
    if name == "frequent":
        return np.asarray(np.log1p(histories.count))
    if histories.last is None:
        return np.asarray(DECAY_STEP[name] ** histories.back.astype(float))
    newest = np.full(histories.n_users, -np.inf)
    np.maximum.at(newest, histories.user, histories.last)
    return np.asarray(np.exp(-(newest[histories.user] - histories.last) / DECAY_DAYS[name]))


def _scaled(histories: Histories, weight: np.ndarray) -> np.ndarray:
    total = np.bincount(histories.user, weight, minlength=histories.n_users)
    return np.asarray(weight / np.sqrt(np.maximum(total[histories.user], 1e-12)))
