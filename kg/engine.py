"""One statement into LadybugDB, one Arrow table out.

The binding keeps a prepared statement per Arrow object and connection, and may answer from a stale one, so every
statement with data gets a connection of its own (docs/decisions/0002-ladybug-pin.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ladybug
import pyarrow as pa

from ..errors import QueryError, StoreError

BUFFER_BYTES = 1 << 30  # the engine's own default is 80 % of the machine's memory


def opened(path: Path, *, read_only: bool) -> Any:
    """The database in a file.

    Raises:
        StoreError: another process writes to it, or it is not what this version wrote.
    """
    try:
        return ladybug.Database(str(path), read_only=read_only, buffer_pool_size=BUFFER_BYTES)
    except RuntimeError as e:
        raise StoreError(f"{path}: cannot be opened ({one_line(e)}); rebuild with --full") from None


def execute(
    database: Any,
    text: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = 600.0,
    max_rows: int | None = None,
) -> pa.Table:
    """Run one statement on a connection of its own.

    Raises:
        QueryError: it does not parse, runs longer than `timeout_s`, or answers more than `max_rows`.
    """
    with connected(database, timeout_s) as connection:
        return ask(connection, text, parameters, max_rows=max_rows)


@contextmanager
def connected(database: Any, timeout_s: float = 600.0) -> Iterator[Any]:
    """A connection that is closed whatever happens."""
    connection = ladybug.Connection(database)
    try:
        connection.set_query_timeout(max(1, int(timeout_s * 1000)))
        yield connection
    finally:
        connection.close()


def ask(
    connection: Any, text: str, parameters: Mapping[str, Any] | None = None, *, max_rows: int | None = None
) -> pa.Table:
    """The answer to one statement; sums of integers, 128 bits wide in the engine, come as int64."""
    try:
        result = connection.execute(text, dict(parameters or {}))
        if isinstance(result, list):
            raise QueryError("one statement at a time")
        rows = result.get_num_tuples()
        if max_rows is not None and rows > max_rows:
            raise QueryError(f"the query answers {rows:,} rows, at most {max_rows:,} are shown; add LIMIT")
        table = result.get_as_arrow(-1)
    except RuntimeError as e:
        raise QueryError(_reason(e)) from None
    if table.num_rows != rows:
        raise StoreError(f"the engine counted {rows} rows and handed out {table.num_rows}")
    return _plain(table)


MISSING = re.compile(r"Binder exception: Table (\w+) does not exist")
UNKNOWN = "the graph has no label or relation "


def _reason(error: RuntimeError) -> str:
    if "Interrupted" in str(error):
        return "the query took too long and was stopped; narrow it"
    if "buffer pool is full" in str(error):
        return "the query took too much memory and was stopped; narrow it"
    missing = MISSING.match(str(error))
    if missing:
        return f"the query does not run: {UNKNOWN}{missing[1]}"
    return f"the query does not run: {one_line(error)}"


def _plain(table: pa.Table) -> pa.Table:
    fields = [pa.field(f.name, pa.int64() if pa.types.is_decimal(f.type) else f.type) for f in table.schema]
    return table.cast(pa.schema(fields)) if any(pa.types.is_decimal(f.type) for f in table.schema) else table


def one_line(error: Exception) -> str:
    """The engine's message, short enough for a line."""
    return " ".join(str(error).split())[:200]
