"""A term scores every item for a user in one of three shapes; folding, explaining and storing need no more than these.

    ItemItem   p W                W sparse [item, item]: walks, steps, text neighbours, EASE
    LowRank    unit?(p L) V^T     L, V [item, d]: text profile, low-pass, relation vectors
    Prior      v                  v [item]: popularity, season

p is the user's row of one *profile* (:mod:`.profiles`), so a new user is a new row and nothing else changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch

from .product import Operand, as_operand, as_tensor, multiply

ProfileRows = Mapping[str, sp.csr_matrix]  # profile name -> sparse float32 [user of the batch, item]


@dataclass(frozen=True)
class ItemItem:
    """scores = p W."""

    name: str
    profile: str
    weights: sp.csr_matrix

    def scores(self, rows: ProfileRows) -> np.ndarray:
        """float32 [user, item]."""
        return np.asarray(dense((self,), rows)[0])

    @property
    def n_items(self) -> int:
        """Items it scores."""
        return int(self.weights.shape[1])

    @cached_property
    def operand(self) -> Operand:
        """The weights as :func:`.product.multiply` wants them."""
        return as_operand(self.weights)

    def at(self, rows: ProfileRows, items: np.ndarray) -> np.ndarray:
        """float32 [user, len(items)]: the same numbers for some items only."""
        row = rows[self.profile]
        held = np.unique(row.indices)  # of a user or a few these are few rows, and rows are cheap to take
        return np.asarray((row[:, held] @ self.weights[held][:, items]).toarray(), np.float32)

    def pairs(self, rows: ProfileRows, items: np.ndarray) -> np.ndarray:
        """float32 [pair]: of row n and items[n]."""
        columns = sp.csr_matrix(self.weights.T)[items]
        return np.asarray(rows[self.profile].multiply(columns).sum(1), np.float32).ravel()

    def reasons(self, row: sp.csr_matrix, item: int) -> tuple[np.ndarray, np.ndarray]:
        """History items h and p_h W[h, item]: the exact parts of one score."""
        column = self.weights[row.indices, [item]]
        parts = row.data * np.asarray(column).ravel()
        return row.indices, parts


@dataclass(frozen=True)
class LowRank:
    """scores = p L V^T; with `unit`, p L is scaled to unit length first."""

    name: str
    profile: str
    left: np.ndarray
    right: np.ndarray
    unit: bool = False

    @property
    def n_items(self) -> int:
        """Items it scores."""
        return len(self.right)

    def queries(self, rows: ProfileRows) -> np.ndarray:
        """float32 [user, d]."""
        query = np.asarray(rows[self.profile] @ self.left, np.float32)
        if self.unit:
            query = query / np.maximum(np.linalg.norm(query, axis=1, keepdims=True), 1e-12)
        return query

    def scores(self, rows: ProfileRows) -> np.ndarray:
        """float32 [user, item]."""
        return torch.mm(torch.from_numpy(self.queries(rows)), as_tensor(self.right).T).numpy()

    def at(self, rows: ProfileRows, items: np.ndarray) -> np.ndarray:
        """float32 [user, len(items)]."""
        return np.asarray(self.queries(rows) @ self.right[items].T)

    def pairs(self, rows: ProfileRows, items: np.ndarray) -> np.ndarray:
        """float32 [pair]: of row n and items[n]."""
        return np.asarray((self.queries(rows) * self.right[items]).sum(1), np.float32)

    def reasons(self, row: sp.csr_matrix, item: int) -> tuple[np.ndarray, np.ndarray]:
        """History items h and their exact parts of one score."""
        parts = row.data * (self.left[row.indices] @ self.right[item])
        if self.unit:
            parts = parts / max(float(np.linalg.norm(row @ self.left)), 1e-12)
        return row.indices, np.asarray(parts, np.float32)


@dataclass(frozen=True)
class Prior:
    """scores = v, the same for everyone."""

    name: str
    values: np.ndarray
    profile: str = "uniform"

    @property
    def n_items(self) -> int:
        """Items it scores."""
        return len(self.values)

    def scores(self, rows: ProfileRows) -> np.ndarray:
        """float32 [user, item]."""
        return np.broadcast_to(self.values, (rows[self.profile].shape[0], len(self.values)))

    def at(self, rows: ProfileRows, items: np.ndarray) -> np.ndarray:
        """float32 [user, len(items)]."""
        return np.broadcast_to(self.values[items], (rows[self.profile].shape[0], len(items)))

    def pairs(self, rows: ProfileRows, items: np.ndarray) -> np.ndarray:
        """float32 [pair]: of row n and items[n]."""
        return np.asarray(self.values[items])

    def reasons(self, row: sp.csr_matrix, item: int) -> tuple[np.ndarray, np.ndarray]:
        """No history item is the reason of a prior."""
        return np.empty(0, np.int64), np.empty(0, np.float32)


Term = ItemItem | LowRank | Prior


def reasoned(
    terms: Sequence[Term], rows: ProfileRows, item: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Per term the reasons for one item, of profile rows [1, item], and the values float32 [term] they add up to."""
    reasons = [term.reasons(rows[term.profile], item) for term in terms]
    sums = [
        float(term.values[item]) if isinstance(term, Prior) else float(amount.sum())
        for term, (_, amount) in zip(terms, reasons, strict=True)
    ]
    return reasons, np.array(sums, np.float32)


def family(name: str) -> str:
    """A term's name without the profile: "walk.decayed" -> "walk"."""
    return name.rsplit(".", 1)[0]


def dense(terms: Sequence[Term], rows: ProfileRows) -> np.ndarray:
    """All terms for a batch of users: float32 [term, user, item]."""
    users = rows[terms[0].profile].shape[0]
    operands = {name: as_operand(rows[name]) for name in {term.profile for term in terms if isinstance(term, ItemItem)}}
    out = np.empty((len(terms), users, terms[0].n_items), np.float32)
    for term, scores in zip(terms, out, strict=True):
        if isinstance(term, ItemItem):
            multiply(operands[term.profile], term.operand, scores)
        else:
            scores[:] = term.scores(rows)
    return out
