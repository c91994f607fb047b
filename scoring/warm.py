"""Where learning goes on: the weights of the version before, in the rows of now."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..config import GnnSection
from ..gnn.train import Weights, moved
from ..kg.log import InteractionLog
from ..kg.snapshot import IdMap
from .bundle import Bundle, StoredVectors
from .head import Head

SHAPES = ("model", "dim", "layers", "history")  # of [gnn]: what the shapes of its weights follow from


@dataclass(frozen=True)
class Warm:
    """terms: names in order; blend, cold and head are of them. gnn: the weights of R_s, None without. pool: the kind
    of its blend. seen: the events it was fitted on, in the rows of now. known: bool [user], whom it knew."""

    terms: tuple[str, ...]
    blend: np.ndarray
    cold: np.ndarray
    head: Head
    gnn: Weights | None
    pool: str
    seen: InteractionLog
    known: np.ndarray


def fits(bundle: Bundle, section: GnnSection, text: np.ndarray | None) -> bool:
    """Whether the GNN of a bundle has weights of the same names and shapes as one of these settings and texts."""
    before = bundle.config["gnn"]
    widths = [None if vectors is None else vectors.shape[1] for vectors in (bundle.text, text)]
    return widths[0] == widths[1] and all(before.get(name) == getattr(section, name) for name in SHAPES)


def warm_of(bundle: Bundle, stored: StoredVectors | None, users: IdMap, items: IdMap) -> Warm | None:
    """The weights of a bundle for these users and items; None for labelled pairs, whose trees start anew."""
    model = bundle.model
    if not isinstance(model.head, Head):
        return None
    old_users, old_items = (table["id"].to_pylist() for table in (bundle.users, bundle.items))
    user, item = users.rows(old_users, missing="minus-one"), items.rows(old_items, missing="minus-one")
    log = bundle.log
    there = (user[log.user] >= 0) & (item[log.item] >= 0)
    seen = InteractionLog(len(users), len(items), user[log.user[there]], item[log.item[there]])
    rows = np.full(len(items), -1, np.int64)
    rows[item[item >= 0]] = np.flatnonzero(item >= 0)
    own = stored is not None and "encoder.gates" not in stored.state  # a team's own module starts anew
    gnn = None if stored is None or own else moved(stored, rows)
    known = np.zeros(len(users), bool)
    known[user[user >= 0]] = True
    names = tuple(term.name for term in model.terms)
    return Warm(names, model.blend, model.cold, model.head, gnn, str(model.report["pool"]), seen, known)
