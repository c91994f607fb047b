"""The text of a node: its own properties and the names of its neighbours, as one line for the encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ConfigError, did_you_mean
from ..kg.snapshot import Snapshot

NEIGHBOURS = 3  # names of one relation that enter the text, in id order
SEPARATOR = " | "


def compose(snapshot: Snapshot, label: str, fields: Sequence[str]) -> list[str]:
    """One text per row of `label`: the fields in order, joined by " | ", empty ones left out.

    A field is a string property, or a relation type, for which the names of up to three neighbours are joined by ", ".

    Raises:
        ConfigError: a field is neither.
    """
    columns = [_column(snapshot, label, field) for field in fields]
    return [SEPARATOR.join(part for part in parts if part) for parts in zip(*columns, strict=True)]


def _column(snapshot: Snapshot, label: str, field: str) -> list[str]:
    node = snapshot.data[label]
    if field in node and isinstance(node[field], list):
        return list(node[field])
    keys = [key for key in snapshot.relations() if key.source == label and key.relation == field]
    if not keys:
        known = [name for name in node.keys() if isinstance(node[name], list)]  # noqa: SIM118
        known += [key.relation for key in snapshot.relations() if key.source == label]
        raise ConfigError(f"encoder.text names {field!r}, no text of {label}{did_you_mean(field, known)}")
    texts: list[list[str]] = [[] for _ in range(len(snapshot.ids[label]))]
    for key in keys:
        target = snapshot.data[key.target]
        names = target["name"] if "name" in target else snapshot.ids[key.target].ids
        source, neighbour = snapshot.relation(key).numpy()
        rank = np.arange(len(source)) - np.searchsorted(source, source)
        for row, other in zip(source[rank < NEIGHBOURS], neighbour[rank < NEIGHBOURS], strict=True):
            if len(texts[row]) < NEIGHBOURS and names[other]:
                texts[row].append(names[other])
    return [", ".join(found) for found in texts]
