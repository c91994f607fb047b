"""Where a shop's tables come from: its files, or whatever else gives the same tables."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import polars as pl

from ..config import EdgesSection, NodesSection, PropertyType, ShopConfig
from .checks import Rejects, Sheet

Columns = Mapping[str, tuple[str, PropertyType]]  # name here -> name at the source, and what it will be read as


class Source(Protocol):
    """A shop before it is checked: sheets have their columns under the names they have here, and no rule applied."""

    def items(self, columns: Columns, rejects: Rejects) -> Sheet | None:
        """`id` and the columns of every item, or None where only the log tells which items there are."""
        ...

    def users(self, columns: Columns, rejects: Rejects) -> Sheet | None:
        """`id` and the columns of users; None where only the log tells."""
        ...

    def events(self, columns: Columns, rejects: Rejects) -> Sheet:
        """`user`, `item` and the columns of every event, in no order."""
        ...

    def relations(self, rejects: Rejects) -> Sequence[EdgesSection]:
        """The relations :meth:`edges` can be asked for: those of shop.toml and those the source itself adds."""
        ...

    def edges(self, section: EdgesSection, columns: Columns, rejects: Rejects) -> Sheet:
        """`source`, `target` and the columns of one relation; `count` where the source knows repeated pairs."""
        ...

    def nodes(self, section: NodesSection, columns: Columns, rejects: Rejects) -> Sheet:
        """`id` and the columns of the nodes of one [[nodes]]."""
        ...

    def names(self, label: str) -> pl.DataFrame | None:
        """`id` (unique) and `name` of the nodes of a label, or None where an id is all there is."""
        ...

    def digest(self) -> str:
        """Changes whenever the tables do."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class Files:
    """Tables out of CSV, Parquet and JSON Lines files."""

    def __init__(self, config: ShopConfig) -> None:
        self._config = config

    def items(self, columns: Columns, rejects: Rejects) -> Sheet | None:
        """Of items.file."""
        section = self._config.items
        return None if section.file is None else self._read(section.file, {"id": section.id}, columns, rejects)

    def users(self, columns: Columns, rejects: Rejects) -> Sheet | None:
        """Of users.file."""
        section = self._config.users
        return None if section.file is None else self._read(section.file, {"id": section.id}, columns, rejects)

    def events(self, columns: Columns, rejects: Rejects) -> Sheet:
        """Of interactions.file."""
        section = self._config.interactions
        assert section.file is not None
        return self._read(section.file, {"user": section.user, "item": section.item}, columns, rejects)

    def relations(self, rejects: Rejects) -> Sequence[EdgesSection]:
        """The [[edges]]."""
        told: Sequence[EdgesSection] = self._config.edges
        return told

    def edges(self, section: EdgesSection, columns: Columns, rejects: Rejects) -> Sheet:
        """Of the section's file."""
        assert section.file is not None
        assert section.target is not None
        ends = {"source": section.source or self._config.items.id, "target": section.target}
        return self._read(section.file, ends, columns, rejects)

    def nodes(self, section: NodesSection, columns: Columns, rejects: Rejects) -> Sheet:
        """Of the section's file."""
        return self._read(section.file, {"id": section.id}, columns, rejects)

    def names(self, label: str) -> pl.DataFrame | None:
        """Files tell ids alone."""
        return None

    def digest(self) -> str:
        """SHA-256 over the files shop.toml names, [[triples]] included; a missing one counts as empty."""
        config = self._config
        files = [config.items.file, config.users.file, config.interactions.file]
        files += [*(section.file for section in config.nodes), *(section.file for section in config.edges)]
        files += [config.search.file] if config.search is not None else []
        for triples in config.triples:
            files += [triples.file, *(t.file for t in (triples.entities, triples.names) if t is not None)]
        digest = hashlib.sha256()
        for file in files:
            path = None if file is None else config.shop.data / file
            if path is not None and path.is_file():
                with path.open("rb") as handle:
                    digest.update(hashlib.file_digest(handle, "sha256").digest())
        return digest.hexdigest()

    def close(self) -> None:
        """Nothing is open."""

    def _read(self, file: Path, keys: Mapping[str, str], columns: Columns, rejects: Rejects) -> Sheet:
        names = {name: column for name, (column, _) in columns.items()}
        return Sheet.read(self._config.shop.data / file, {**keys, **names}, rejects)
