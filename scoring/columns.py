"""The items' properties and relations as filters and caps read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa


class Columns(Mapping[str, Any]):
    """Name -> numbers float64 [item] (NaN: missing), bool [item], texts ("": missing) or sets of ids.

    Each is read when it is asked for first.
    """

    def __init__(self, items: pa.Table) -> None:
        self._items, self._read = items, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._read:
            self._read[name] = _column(self._items[name])
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items.column_names)

    def __len__(self) -> int:
        return len(self._items.column_names)


def _column(column: pa.ChunkedArray) -> Any:
    values = column.to_pylist()
    if pa.types.is_list(column.type):
        return [frozenset(value or ()) for value in values]
    if pa.types.is_boolean(column.type):
        return np.array([bool(value) for value in values], bool)
    if pa.types.is_string(column.type):
        return ["" if value is None else value for value in values]
    return np.array([np.nan if value is None else value for value in values], np.float64)
