"""The Catalogue: everything a shop's files say, as typed Arrow tables with string ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import pyarrow as pa

INTERACTED: Final = "INTERACTED"  # user -> item, the training part: all a model may see
HELD_OUT: Final = "HELD_OUT"  # user -> item, validation and test parts
SUBCATEGORY_OF: Final = "SUBCATEGORY_OF"


class EdgeKey(NamedTuple):
    """Names one relation the way PyG does: label of the source, relation type, label of the target."""

    source: str
    relation: str
    target: str


@dataclass(frozen=True)
class Catalogue:
    """What the loaders hand on.

    nodes: label -> table with `id` (string, unique, not null) and declared columns of bool, int64, float64, string.
    edges: key -> table with `source`, `target` (string ids that exist in `nodes`), unique as pairs, and columns.
        (User, INTERACTED | HELD_OUT, Item) carry count (int64), quantity (float64), first_at, last_at (int64 ms UTC),
        position (int64, of the newest event), each where the shop has it.
    interactions: one row per event, oldest first per user: user, item (string), part (string: "train", "valid",
        "test", or "overtaken": held out, and no question of a test), and where the shop has them at (int64 ms UTC),
        position (int64), quantity (float64), kind (string), label (int8), basket (int64: number of the user's basket,
        increasing with time over the shop).
    derived: relation types computed from training interactions (baskets); models fitted on an earlier cut must not
        read them.
    searches: one row per answered search: query, item (string), at (int64 ms UTC) and relevance (float64) where told;
        None without a log.
    rejected: how many rows of which file were dropped or quarantined, with the reason: (file, reason) -> rows.
    """

    item_label: str
    user_label: str
    nodes: Mapping[str, pa.Table]
    edges: Mapping[EdgeKey, pa.Table]
    interactions: pa.Table
    derived: frozenset[str] = frozenset()
    searches: pa.Table | None = None
    rejected: Mapping[tuple[str, str], int] = field(default_factory=dict)
