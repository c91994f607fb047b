"""The interaction log as rows of a snapshot's id maps: what time-aware models read beside the graph."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa

from .snapshot import IdMap


@dataclass(frozen=True)
class InteractionLog:
    """Events, one row each, sorted by user and then oldest first. Absent columns are None.

    user, item: int64 [n] rows. at: int64 [n] milliseconds UTC. position: int64 [n] rank in the user's history.
    quantity: float64 [n]. basket: int64 [n]. label: int8 [n], 1 = positive.
    """

    n_users: int
    n_items: int
    user: np.ndarray
    item: np.ndarray
    at: np.ndarray | None = None
    position: np.ndarray | None = None
    quantity: np.ndarray | None = None
    basket: np.ndarray | None = None
    label: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.user)

    def where(self, keep: np.ndarray) -> InteractionLog:
        """The events of a boolean mask or an index array [n]."""
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{n: c[keep] for n, c in columns.items() if isinstance(c, np.ndarray)})

    @property
    def ordered(self) -> bool:
        """Whether events of a user have an order (a time or a position)."""
        return self.at is not None or self.position is not None

    @classmethod
    def of(cls, table: pa.Table, users: IdMap, items: IdMap) -> InteractionLog:
        """From a catalogue's `interactions` table (its `part` column is the caller's to filter by)."""
        columns = {name: table[name].to_numpy() for name in table.column_names if name not in _STRINGS}
        log = cls(
            len(users),
            len(items),
            _rows(users, table["user"]),
            _rows(items, table["item"]),
            **{name: columns[name] for name in ("at", "position", "quantity", "basket", "label") if name in columns},
        )
        return log.where(_oldest_first(log))


def _rows(ids: IdMap, column: pa.ChunkedArray) -> np.ndarray:
    """int64 [n] rows of a column of ids; each distinct id is looked up once."""
    encoded = column.dictionary_encode().combine_chunks()
    found: np.ndarray = ids.rows(encoded.dictionary.to_pylist())[encoded.indices.to_numpy()]
    return found


_STRINGS = frozenset({"user", "item", "part", "kind"})


def _oldest_first(log: InteractionLog) -> np.ndarray:
    keys: list[np.ndarray] = [np.arange(len(log))]
    for column in (log.position, log.at):
        if column is not None:
            keys.append(column)
    return np.lexsort([*keys, log.user])


def positives(log: InteractionLog) -> InteractionLog:
    """The events that say "yes": all of them, or those labelled 1."""
    return log if log.label is None else log.where(log.label == 1)
