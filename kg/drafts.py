"""`catalograph init`: a shop.toml drafted from tables or from a Neo4j graph, and proved by loading it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ..config import read_config
from ..errors import ConfigError, DataError
from ..loaders.draft import draft
from ..loaders.load import load_catalogue
from ..loaders.tables import CSV, JSON_LINES, PARQUET
from .sources import open_source


def draft_shop(
    tables: Sequence[Path], store: str | None, out: Path, *, name: str | None, user: str | None, item: str | None
) -> str:
    """The text of a shop.toml at `out`, for tables and folders of them, or for the graph at the address `store`.

    Raises:
        ConfigError: neither or both are given, or nothing tells who took what.
        DataError: a table cannot be read.
    """
    if bool(tables) == (store is not None):
        raise ConfigError("init needs either FILE… or --store neo4j://HOST:PORT")
    if store is not None:
        from .live_draft import draft_graph  # noqa: PLC0415 - the driver is for those who have a server

        drafted: str = draft_graph(store, name=_slug(name or _stem(out) or "shop"), user=user, item=item)
        return drafted
    files = tables_in(tables)
    called = name or _stem(out) or files[0].resolve().parent.name
    text: str = draft(files, name=_slug(called), beside=_folder(out), user=user, item=item)
    return text


def proved(text: str, out: Path) -> str:
    """What the drafted shop holds, in a few words.

    Raises:
        CatalographError: it does not load; the message says why.
    """
    config = read_config(text, _folder(out) / out.name)
    with closing(open_source(config)) as source:
        found = load_catalogue(config, source=source)
    items, users = (found.nodes[label].num_rows for label in (found.item_label, found.user_label))
    left_out = sum(found.rejected.values())
    more = f", {left_out:,} rows left out" if left_out else ""
    return f"{items:,} items, {users:,} users, {found.interactions.num_rows:,} events{more}"


def tables_in(paths: Sequence[Path]) -> list[Path]:
    """The files named, and the tables of the folders named, each once.

    Raises:
        DataError: a folder without a table.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.iterdir() if is_table(p)) if path.is_dir() else [path]
        if not inside:
            raise DataError(f"{path}: no table in this folder; a table is a CSV, Parquet or JSON Lines file")
        found += inside
    return list({file.resolve(): file for file in found}.values())


def is_table(path: Path) -> bool:
    """Whether a file's name is that of a table."""
    return path.is_file() and path.name.lower().endswith((*CSV, *PARQUET, *JSON_LINES))


def _folder(out: Path) -> Path:
    return Path() if str(out) == "-" else out.parent


def _stem(out: Path) -> str:
    return "" if str(out) == "-" or out.stem == "shop" else out.stem


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:60] or "shop"
