"""What a model can say of items without a purchase.

Of a new item only its text and its attributes are known, so of the model's terms these are left:

    share:R, text, text_near     as they are: a new row of the text vectors, a new column of the walk
    low_pass, gnn                the vector of its peers: the mean over items it shares attributes with or reads like
    popularity, first_time       the same mean

A blend of their own is learned for them (`Model.cold`), on known items made out the same way and on purchases held out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from ..gnn.walks import informative, reached
from .evidence import Relation
from .factors import NEAR_POWER
from .families import SHARE
from .pool import Scorable, learn_blend
from .terms import ItemItem, LowRank, Prior, Term, family

OF_PEERS = ("low_pass", "gnn")
COUNTS = ("popularity", "first_time")
PUPILS = 1_000  # users the blend is learned from


@dataclass(frozen=True)
class NewItems:
    """What is known of new items: shares: relation -> sparse [item, new], columns of the walk over that relation.
    text, known_text: M(s) float32 [new, dim] and [item, dim]; None where the shop has no texts."""

    shares: Mapping[str, sp.csr_matrix]
    text: np.ndarray | None
    known_text: np.ndarray | None

    @classmethod
    def of(
        cls,
        relations: Sequence[Relation],
        members: Mapping[str, sp.csr_matrix],
        text: np.ndarray | None,
        known_text: np.ndarray | None,
    ) -> NewItems:
        """members: relation -> sparse 0/1 [new, entity], what each new item has, in the columns of the relation."""
        return cls({r.name: _columns(r.members, members[r.name]) for r in relations}, text, known_text)


def _columns(known: sp.csr_matrix, new: sp.csr_matrix) -> sp.csr_matrix:
    together = sp.csr_matrix(sp.vstack([known, new]))
    targets = np.arange(known.shape[0], together.shape[0])
    walk = reached(informative(sp.csr_matrix(together.T)), *SHARE, targets)
    return sp.csr_matrix(walk[: known.shape[0]])


def cold_terms(terms: Sequence[Term], new: NewItems | None = None) -> tuple[Term, ...]:
    """The terms that need no purchase of the item they score, over the known items and then the new ones."""
    found, walks = list[Term](), dict[int, sp.csr_matrix]()
    for term in terms:
        kind, _, relation = family(term.name).partition(":")
        if isinstance(term, ItemItem) and kind in ("share", "text_near"):
            key = id(term.weights)
            if key not in walks:
                walks[key] = _with_new(term.weights, kind, relation, new)
            found.append(replace(term, weights=walks[key]))
        elif isinstance(term, LowRank) and kind == "text":
            right = term.right if new is None or new.text is None else np.vstack([term.right, new.text])
            found.append(replace(term, right=right))
    return (*found, *_of_peers(terms, list(walks.values()))) if walks else tuple(found)


def _with_new(weights: sp.csr_matrix, kind: str, relation: str, new: NewItems | None) -> sp.csr_matrix:
    if new is None:
        return weights
    if kind == "share":
        return sp.csr_matrix(sp.hstack([weights, new.shares[relation]]))
    assert new.text is not None and new.known_text is not None  # noqa: PT018  the model has a text term
    close = np.maximum(new.known_text @ new.text.T, 0) ** NEAR_POWER
    least = _least(weights)  # a new text that is no nearer than the last neighbour of an item is none of its neighbours
    return sp.csr_matrix(sp.hstack([weights, sp.csr_matrix(np.where(close >= least[:, None], close, 0))]))


def _least(weights: sp.csr_matrix) -> np.ndarray:
    """float32 [row]: the smallest entry of each row; infinite where there is none."""
    filled = np.diff(weights.indptr) > 0
    least = np.full(weights.shape[0], np.inf, np.float32)
    least[filled] = np.minimum.reduceat(weights.data, weights.indptr[:-1][filled])
    return least


def _of_peers(terms: Sequence[Term], walks: Sequence[sp.csr_matrix]) -> list[Term]:
    peers = _shares(sum((_shares(sp.csr_matrix(walk.T)) for walk in walks[1:]), _shares(sp.csr_matrix(walks[0].T))))
    found: list[Term] = []
    for term in terms:
        if isinstance(term, LowRank) and family(term.name) in OF_PEERS:
            found.append(replace(term, right=np.asarray(peers @ term.right, np.float32)))
        elif isinstance(term, Prior) and term.name.startswith(COUNTS):
            found.append(replace(term, values=np.asarray(peers @ term.values, np.float32)))
    return found


def _shares(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Rows that add up to 1; empty ones stay."""
    total = np.asarray(matrix.sum(1)).ravel()
    return sp.csr_matrix(sp.diags_array((1 / np.where(total > 0, total, 1)).astype(np.float32)) @ matrix)


def learn_cold(
    scorable: Scorable, held_out: sp.csr_matrix, users: np.ndarray, *, seed: int, start: np.ndarray | None = None
) -> np.ndarray:
    """float64 [cold term]: the blend of :func:`cold_terms`, by softmax over the whole catalogue."""
    terms = cold_terms(scorable.terms)
    if not terms:
        return np.empty(0)
    return learn_blend(replace(scorable, terms=terms), held_out, users[:PUPILS], seed=seed, start=start)
