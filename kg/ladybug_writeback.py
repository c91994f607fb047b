"""A publication in a LadybugDB file: one relation table per list, which no note of the schema names.

Tables are dropped and filled anew, for deleting millions of edges takes the engine minutes; it happens in the copy of
the file that is then swapped in. The engine has no vector index, so vectors are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from ..errors import StoreError
from ..loaders.catalogue import EdgeKey
from .engine import execute
from .ladybug_load import NO_PAIR, TYPES, count_edges, pattern
from .schema import META, quoted
from .writeback import ENDS, NOTE, PROPERTIES, TABLE, Published, of_note, to_note


def read_published(database: Any) -> Published | None:
    """What the file holds."""
    rows = execute(database, f"MATCH (m:{META} {{id: $id}}) RETURN m.value AS value", {"id": NOTE}).to_pylist()
    if not rows:
        return None
    version, lists, _ = of_note(rows[0]["value"])
    return Published(version, {key: count_edges(database, key) for key in lists}, {})


def read_list(database: Any, key: EdgeKey) -> pa.Table:
    """One published relation as :func:`~.writeback.renewed` takes it."""
    ends = ", ".join(f"{variable}.id AS {end}" for variable, end in zip("ab", ENDS, strict=True))
    values = ", ".join(f"r.{name} AS {name}" for name in PROPERTIES)
    return execute(database, f"MATCH {pattern(key)} RETURN {ends}, {values}").cast(TABLE)


def write(database: Any, version: str, lists: Mapping[EdgeKey, pa.Table]) -> None:
    """Replace whatever is published."""
    remove(database)
    columns = ", ".join(f"{name} {TYPES[kind]}" for name, kind in PROPERTIES.items())
    for key, table in lists.items():
        ends = ", ".join(f"FROM {quoted(pair.source)} TO {quoted(pair.target)}" for pair in (key, NO_PAIR))
        execute(database, f"CREATE REL TABLE {quoted(key.relation)}({ends}, {columns})")
        if table.num_rows:
            text = f"COPY {quoted(key.relation)} FROM $rows (from='{key.source}', to='{key.target}')"
            execute(database, text, {"rows": table})
        held = count_edges(database, key)
        if held != table.num_rows:
            raise StoreError(f"{key.relation}: {table.num_rows:,} edges given, the engine stored {held:,}")
    note = to_note(version, lists, ())
    execute(database, f"CREATE (:{META} {{id: $id, value: $value}})", {"id": NOTE, "value": note})


def remove(database: Any) -> None:
    """Take the tables and the note away."""
    published = read_published(database)
    if published is not None:
        for key in published.edges:
            execute(database, f"DROP TABLE {quoted(key.relation)}")
        execute(database, f"MATCH (m:{META} {{id: $id}}) DELETE m", {"id": NOTE})
