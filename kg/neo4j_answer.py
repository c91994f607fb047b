"""The answer to a query as an Arrow table of scalars, read as a stream that ends when it grows too long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import neo4j
import neo4j.graph
import pyarrow as pa

from ..errors import QueryError
from .bolt import Bolt, ask
from .store import Parameters

ANSWER_BYTES = 1 << 28  # what one answer may take up here, about
FETCHED = 1_000  # records on their way at once


def answer(bolt: Bolt, text: str, parameters: Parameters, *, timeout_s: float, max_rows: int | None = None) -> pa.Table:
    """Run text in a READ transaction; the server refuses to write in one. Integers come as int64.

    Raises:
        QueryError: it does not run, takes too long or too much memory, answers more than `max_rows`, or answers
            nodes, relations or paths.
    """

    def work(transaction: neo4j.ManagedTransaction) -> pa.Table:
        result = ask(transaction, text, parameters)
        names = result.keys()
        return _table(names, _rows(result, max_rows))

    return bolt.reading(work, timeout_s=timeout_s, fetch_size=FETCHED)


def _rows(records: Iterable[neo4j.Record], max_rows: int | None) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    size = 0
    for record in records:
        rows.append(tuple(record))
        size += sum(map(_size, record))
        if max_rows is not None and len(rows) > max_rows:
            raise QueryError(f"the query answers more than {max_rows:,} rows, which are too many to show; add LIMIT")
        if size > ANSWER_BYTES:
            raise QueryError("the query answers too much for the memory here; narrow it or add LIMIT")
    return rows


def _size(value: Any) -> int:
    if isinstance(value, list):
        return 8 + sum(map(_size, value))
    return 8 + (len(value) if isinstance(value, str) else 0)


def _table(names: Iterable[str], rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = {name: [row[place] for row in rows] for place, name in enumerate(names)}
    return pa.table({name: _array(name, values) for name, values in columns.items()})


def _array(name: str, values: list[Any]) -> pa.Array:
    for value in values:
        _refuse_entities(name, value)
    kinds = {type(value) for value in values if value is not None}
    try:
        return pa.array(values, pa.float64() if kinds == {int, float} else None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        shown = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise QueryError(f"column {name!r} holds {shown}, which no table column can; return text or numbers") from None


def _refuse_entities(name: str, value: Any) -> None:
    if isinstance(value, neo4j.graph.Entity | neo4j.graph.Path):
        kind = {"Path": "paths", "Node": "nodes"}.get(type(value).__name__, "relations")
        raise QueryError(f"column {name!r} holds {kind}; return their properties, such as {name}.id")
    if isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            _refuse_entities(name, part)
