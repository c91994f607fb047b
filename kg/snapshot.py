"""A Snapshot: one consistent export of the graph as a PyG heterograph, with the ids its rows stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from ..errors import UnknownIdError
from ..loaders.catalogue import EdgeKey
from ..pyg import HeteroData
from .schema import REVERSE

__all__ = ["REVERSE", "IdMap", "Snapshot"]


class IdMap:
    """Ids of one node type ("B00X4WHP5E") and their rows 0..n-1, in sorted id order."""

    def __init__(self, node_type: str, ids: Iterable[str]) -> None:
        self.node_type, self.ids = node_type, tuple(sorted(set(ids)))
        self._row = {id_: row for row, id_ in enumerate(self.ids)}

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, id_: object) -> bool:
        return id_ in self._row

    def rows(self, ids: Sequence[str], *, missing: Literal["error", "minus-one"] = "error") -> np.ndarray:
        """int64 [n] rows of `ids`; an unknown id raises UnknownIdError, or becomes -1 when asked."""
        rows = np.fromiter((self._row.get(id_, -1) for id_ in ids), dtype=np.int64, count=len(ids))
        unknown = rows < 0
        if missing == "error" and unknown.any():
            first = ids[int(np.argmax(unknown))]
            raise UnknownIdError(
                f"{self.node_type} {first!r} is not in the graph ({unknown.sum()} of {len(ids)} unknown)"
            )
        return rows


@dataclass(frozen=True)
class Snapshot:
    """What models read.

    data: HeteroData. Node types are labels with `num_nodes` and one entry per property: float64/int64/bool tensors
        [n] (a number that may be missing is float64 with NaN), strings as list[str] ("" where missing). Edge types are
        EdgeKeys as tuples with `edge_index` int64 [2, E] sorted by (source, target) and one tensor [E] per numeric
        property; each has its reverse (target, "rev_" + relation, source) with the flipped `edge_index` alone.
    ids: IdMap per node type; row r of every tensor belongs to ids[label].ids[r].
    digest: hex SHA-256 over all of it; equal graphs have equal digests whatever store they came from.
    """

    data: HeteroData
    ids: Mapping[str, IdMap]
    digest: str

    def relation(self, key: EdgeKey) -> torch.Tensor:
        """edge_index int64 [2, E] of one relation."""
        index: Any = self.data[tuple(key)].edge_index
        return index  # type: ignore[no-any-return]

    def called(self, label: str) -> list[str]:
        """What the nodes of a label are called, in row order: the `name`, or the id where there is none."""
        ids, names = self.ids[label].ids, self.data[label].get("name")
        return [name or id_ for name, id_ in zip(names, ids, strict=True)] if isinstance(names, list) else list(ids)

    def relations(self) -> list[EdgeKey]:
        """Forward relations in sorted order."""
        return sorted(EdgeKey(*key) for key in self.data.edge_types if not key[1].startswith(REVERSE))
