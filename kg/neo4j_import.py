"""A graph as files for `neo4j-admin database import full`, which fills a database many times as fast as Bolt.

The result is what a rebuild over Bolt gives: marks, notes, and the constraints, which the first use over Bolt declares.
"""

from __future__ import annotations

import re
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from ..errors import GraphError, StoreError
from ..loaders.catalogue import EdgeKey
from .checks import check_graph
from .neo4j_notes import imported_notes
from .schema import MARK, META, Schema
from .store import Counts

TYPES = {pa.bool_(): "boolean", pa.int64(): "long", pa.float64(): "double", pa.string(): "string"}
SCRIPT = """#!/bin/sh
# For the machine of the server, while the server is stopped. A database that is there already is refused, or replaced
# with all that is in it when --overwrite-destination is added.
cd "$(dirname "$0")" && exec {command} "$@"
"""


def write_import(folder: Path, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table], database: str) -> int:
    """Write `folder`, whole or not at all: a CSV file per label and relation, and import.sh.

    Returns the generation of the graph, by which a store later tells that it is this one.

    Raises:
        GraphError: see :func:`~.checks.check_graph`; also a name the importer cannot read in a header.
        StoreError: the folder is there already, or cannot be written.
    """
    schema, generation = check_graph(nodes, edges), int(time.time())
    _check_names(schema)
    counts = Counts({k: t.num_rows for k, t in nodes.items()}, {k: t.num_rows for k, t in edges.items()})
    notes = pa.table({name: [value] for name, value in imported_notes(schema, counts, generation).items()})
    part = folder.with_name(folder.name + ".part")
    try:
        if folder.exists():
            raise StoreError(f"{folder}: is there already; name a new folder")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        options = [*_node_files(part, {META: notes, **nodes}, generation), *_edge_files(part, edges, generation)]
        if any(_has_line_break(table) for table in (*nodes.values(), *edges.values())):
            options.append("--multiline-fields=true")  # not always: a file is read by one thread then
        command = ["neo4j-admin", "database", "import", "full", database, *options]
        (part / "import.sh").write_text(SCRIPT.format(command=shlex.join(command)), encoding="utf-8")
        part.rename(folder)
    except OSError as e:
        raise StoreError(f"{folder}: cannot be written ({e.strerror or e})") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return generation


def _node_files(folder: Path, nodes: Mapping[str, pa.Table], generation: int) -> Iterator[str]:
    for label, table in nodes.items():
        marked = table if label == META else _marked(table, generation)
        names = {"id": f"id:ID({label})"}
        _write(folder / f"nodes-{label}.csv", marked.select(["id", *_besides(marked, "id")]), names)
        yield f"--nodes={label}=nodes-{label}.csv"


def _edge_files(folder: Path, edges: Mapping[EdgeKey, pa.Table], generation: int) -> Iterator[str]:
    for key, table in edges.items():
        if not table.num_rows:
            continue  # there is nothing to declare: types exist by their relations
        marked = _marked(table, generation).sort_by("source")  # as a rebuild writes them
        names = {"source": f":START_ID({key.source})", "target": f":END_ID({key.target})"}
        file = f"edges-{'-'.join(key)}.csv"
        _write(folder / file, marked.select([*names, *_besides(marked, *names)]), names)
        yield f"--relationships={key.relation}={file}"


def _marked(table: pa.Table, generation: int) -> pa.Table:
    return table.append_column(MARK, pa.array([generation] * table.num_rows, pa.int64()))


def _besides(table: pa.Table, *names: str) -> list[str]:
    return [name for name in table.column_names if name not in names]


def _write(path: Path, table: pa.Table, names: Mapping[str, str]) -> None:
    """Missing values are empty, empty strings quoted; `names` are the header's words for the keys."""
    header = [names.get(field.name, f"{field.name}:{TYPES[field.type]}") for field in table.schema]
    with path.open("wb") as file:
        file.write((",".join(header) + "\n").encode())
        csv.write_csv(table, file, csv.WriteOptions(include_header=False))


def _has_line_break(table: pa.Table) -> bool:
    strings = [column for column in table.columns if pa.types.is_string(column.type)]
    return any(pc.any(pc.match_substring_regex(column, "[\r\n]")).as_py() for column in strings)


def _check_names(schema: Schema) -> None:
    columns = [*schema.nodes.values(), *schema.edges.values()]
    names: Iterable[str] = [*schema.nodes, *schema.relations(), *(name for kinds in columns for name in kinds)]
    for name in names:
        if not re.fullmatch(r"\w+", name):
            raise GraphError(
                f"{name!r} cannot be imported from a file; use letters, digits and _, or rebuild over Bolt"
            )
