"""The embedded store on LadybugDB, pinned to 0.20.4. The file is a projection: it can always be rebuilt.

Every change makes a complete file beside the old one and renames it in, so a reader sees the old or the new graph, and
a process killed at any moment leaves the old one. Why the code is so careful: docs/decisions/0002-ladybug-pin.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..durable import locked, move_in
from ..errors import QueryError, StoreError, UnknownIdError, did_you_mean
from ..loaders.catalogue import EdgeKey
from . import ladybug_writeback as writeback
from . import worker
from .checks import check_batch, check_graph
from .engine import UNKNOWN, execute, opened
from .ladybug_load import copy, count, count_edges, create, holds_batch, merge, pattern, read_schema
from .readonly import check
from .schema import Schema, quoted
from .store import Batch, Counts, EdgeArrays, Parameters, numpy_of
from .writeback import (
    RECOMMENDED,
    SIMILAR_TO,
    TABLE,
    Publication,
    Published,
    check_publication,
    renewed,
    within_graph,
)


class LadybugStore:
    """A graph in one file."""

    dialect: ClassVar[str] = "ladybug"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._openings = 0
        self._forget()

    def _forget(self) -> None:
        self._database: Any = None
        self._schema: Schema | None = None
        self._rows: dict[str, np.ndarray] = {}  # by label: offset in the engine -> row of nodes()

    def rebuild(self, nodes: Mapping[str, pa.Table], edges: Mapping[EdgeKey, pa.Table]) -> Counts:
        """See :class:`~catalograph.kg.store.GraphStore`."""
        schema = check_graph(nodes, edges)
        wanted = Counts({k: t.num_rows for k, t in nodes.items()}, {k: t.num_rows for k, t in edges.items()})
        with self._locked(), self._replacing() as database:
            create(database, schema)
            copy(database, nodes, edges, schema)
            counts = count(database, schema)
            if counts != wanted:
                raise StoreError(f"{self._path}: the engine stored {counts}, given {wanted}; the old graph stays")
        return counts

    def apply(self, batch: Batch) -> Counts:
        """See :class:`~catalograph.kg.store.GraphStore`; costs a copy of the file, about 0.1 s for 100 MiB."""
        with self._locked():
            self.close()  # another process may have changed the graph since we opened it
            if not holds_batch(self._open(), batch.id):
                check_batch(batch, self.schema(), lambda label: self.nodes(label)["id"])
                with self._replacing(keep=True) as database:
                    merge(database, batch)
        return self.counts()

    def holds(self, batch: str) -> bool:
        """See :class:`~catalograph.kg.store.GraphStore`."""
        return holds_batch(self._open(), batch)

    @contextmanager
    def _replacing(self, *, keep: bool = False) -> Iterator[Any]:
        """A database on a new file (a copy of the old one to `keep` it) that takes the old one's place at the end."""
        part = self._path.with_name(self._path.name + ".part")
        _remove(part)
        try:
            if keep:
                shutil.copyfile(self._path, part)
            database = opened(part, read_only=False)
            try:
                yield database
                execute(database, "CHECKPOINT")
            finally:
                database.close()
            self.close()
            move_in(part, self._path)
        except QueryError as e:
            raise StoreError(f"{self._path}: not written, the old graph stays ({e})") from None
        except OSError as e:
            raise StoreError(f"{self._path}: not written, the old graph stays ({e.strerror})") from None
        finally:
            _remove(part)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        told = f"{self._path}: another process is writing this graph; wait for it to end"
        with locked(self._path.with_name(self._path.name + ".lock"), self._path, told, StoreError):
            yield

    def schema(self) -> Schema:
        """Read back from the file itself."""
        if self._schema is None:
            self._schema = read_schema(self._open())
        if self._schema is None:
            raise StoreError(f"{self._path}: no schema inside; run `catalograph rebuild --full`")
        return self._schema

    def counts(self) -> Counts:
        """Nodes per label, edges per relation."""
        schema = self.schema()
        return count(self._open(), schema)

    def generation(self) -> int:
        """An opened file stays what it is, whoever replaces it."""
        self._open()
        return self._openings

    def nodes(self, label: str, columns: Sequence[str] = ()) -> pa.Table:
        """`id` and columns, sorted by id."""
        return self._nodes(label, columns).drop_columns(["__offset"])

    def _nodes(self, label: str, columns: Sequence[str]) -> pa.Table:
        if label not in self.schema().nodes:
            raise UnknownIdError(f"the graph has no label {label!r}")
        names = ["id", *columns]
        wanted = "".join(f"n.{quoted(name)} AS c{n}, " for n, name in enumerate(names))
        table = execute(self._open(), f"MATCH (n:{quoted(label)}) RETURN {wanted}offset(id(n)) AS o")
        table = table.rename_columns([*names, "__offset"])
        return table.take(pc.sort_indices(table["id"]))  # bytes of UTF-8 sort as code points do

    def edges(self, key: EdgeKey, columns: Sequence[str] = ()) -> EdgeArrays:
        """Integer columns, not records: offsets out of the engine, mapped to rows through an array."""
        if key not in self.schema().edges:
            raise UnknownIdError(f"the graph has no relation {'-'.join(key)}")
        source_row, target_row = (self._row_of_offset(label) for label in (key.source, key.target))
        wanted = "".join(f", r.{quoted(name)} AS c{n}" for n, name in enumerate(columns))
        table = execute(self._open(), f"MATCH {pattern(key)} RETURN offset(id(a)) AS s, offset(id(b)) AS t{wanted}")
        counted = count_edges(self._open(), key)
        if counted != table.num_rows:
            raise StoreError(f"{self._path}: {key.relation} has {counted} edges, {table.num_rows} came out")
        source, target = source_row[table["s"].to_numpy()], target_row[table["t"].to_numpy()]
        order = np.argsort(source * (len(target_row) + 1) + target, kind="stable")
        values = {name: numpy_of(table[f"c{n}"])[order] for n, name in enumerate(columns)}
        return EdgeArrays(source[order], target[order], values)

    def _row_of_offset(self, label: str) -> np.ndarray:
        if label not in self._rows:
            offsets = self._nodes(label, ())["__offset"].to_numpy()
            rows = np.full(int(offsets.max(initial=-1)) + 1, -1, np.int64)
            rows[offsets] = np.arange(len(offsets))
            self._rows[label] = rows
        return self._rows[label]

    def run(self, text: str, parameters: Parameters, *, timeout_s: float = 30.0) -> pa.Table:
        """One of our own read queries."""
        return execute(self._open(), text, parameters, timeout_s=timeout_s)

    def analyst(
        self, text: str, parameters: Parameters, *, timeout_s: float = 30.0, max_rows: int = 10_000
    ) -> pa.Table:
        """Typed text, behind the gate, in a process that can be killed."""
        schema = self.schema()  # a missing or broken file is told apart from a bad query
        checked = check(text, parameters, distinct_last=True)
        try:
            return worker.ask(f"ladybug:{self._path}", checked, parameters, timeout_s=timeout_s, max_rows=max_rows)
        except QueryError as e:
            _, unknown, name = str(e).partition(UNKNOWN)
            if not unknown:
                raise
            published = name in (RECOMMENDED, SIMILAR_TO)
            known = [*schema.nodes, *schema.relations()]
            hint = "; `catalograph publish` makes it" if published else did_you_mean(name, known)
            raise QueryError(f"{e}{hint}") from None

    def publish(self, publication: Publication) -> Published:
        """See :class:`~catalograph.kg.store.GraphStore`; lists only, for the engine has no vector index."""
        with self._locked():
            self.close()  # another process may have changed the graph since we opened it
            check_publication(publication, self.schema())
            published, before = self.published(), self._lists()
            lists = {
                key: renewed(before.get(key, TABLE.empty_table()), ranked, publication.version)
                for key, ranked in within_graph(publication, lambda label: self.nodes(label)["id"])[0].items()
            }
            if published is None or published.version != publication.version or lists != before:
                with self._replacing(keep=True) as database:
                    writeback.write(database, publication.version, lists)
            published = self.published()
            assert published is not None
            return published

    def _lists(self) -> dict[EdgeKey, pa.Table]:
        """What is published now, by source and rank."""
        published = self.published()
        keys = [] if published is None else published.edges
        by_place = [("source", "ascending"), ("rank", "ascending")]
        return {key: writeback.read_list(self._open(), key).sort_by(by_place) for key in keys}

    def published(self) -> Published | None:
        """Read back from the file itself."""
        return writeback.read_published(self._open())

    def withdraw(self) -> None:
        """Drop the tables in a copy of the file that is swapped in."""
        with self._locked():
            self.close()
            if self.published() is not None:
                with self._replacing(keep=True) as database:
                    writeback.remove(database)

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            self._database.close()
        self._forget()

    def _open(self) -> Any:
        if self._database is None:
            if not self._path.is_file():
                raise StoreError(f"{self._path}: no graph here; run `catalograph rebuild SHOP.toml` first")
            self._database = opened(self._path, read_only=True)
            self._openings += 1
        return self._database


def _remove(path: Path) -> None:
    """A file and what the engine keeps beside it: with what a full disk left there it would not open a new one."""
    for found in (path, *path.parent.glob(f"{escape(path.name)}.*")):
        found.unlink(missing_ok=True)
