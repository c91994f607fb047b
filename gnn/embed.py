"""What training leaves behind: relation vectors R_s, and the query of a history against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Weights:
    """What was learned. state: the weights of the whole model by name, none of them to start anew. gated: the relations
    its gates are of, in order (none when the model is a team's own). validation: NDCG@10 after each epoch.
    """

    state: dict[str, Tensor] = field(repr=False)
    gated: tuple[str, ...]
    validation: tuple[float, ...]

    @property
    def best_epoch(self) -> int:
        """The epoch, counted from 1, whose weights were kept; 0 when nothing was validated."""
        return int(np.argmax(self.validation)) + 1 if self.validation else 0


@dataclass(frozen=True)
class RelationVectors(Weights):
    """Trained vectors. scores of a history h = queries([h]) @ items.T / temperature.

    items: float32 [item, dim], unit length. relations: the names of by_relation's second axis.
    by_relation: R_s, float32 [item, relation, dim]: what reached the item over each relation (relation 0 when the
    model is a team's own). decay: float32 [n], weight of the newest, second newest, … item of a history; older ones
    count nothing. projection: float32 [dim, dim].
    """

    items: np.ndarray
    relations: tuple[str, ...]
    by_relation: np.ndarray
    decay: np.ndarray
    projection: np.ndarray
    temperature: float

    def queries(self, histories: sp.csr_matrix | Sequence[Sequence[int]]) -> np.ndarray:
        """float32 [user, dim] of unit length: weights [user, item], or each user's item rows, newest first.

        A user without items has the zero vector.
        """
        weights = histories if isinstance(histories, sp.csr_matrix) else self._weights(histories)
        return unit(weights @ self.items @ self.projection)

    def _weights(self, histories: Sequence[Sequence[int]]) -> sp.csr_matrix:
        lengths = np.array([min(len(history), len(self.decay)) for history in histories], dtype=np.int64)
        rows = np.repeat(np.arange(len(histories)), lengths)
        back = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        items = [item for history, length in zip(histories, lengths, strict=True) for item in history[:length]]
        columns = np.asarray(items, dtype=np.int64)
        return sp.csr_matrix((self.decay[back], (rows, columns)), shape=(len(histories), len(self.items)))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32; zero rows stay."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)
