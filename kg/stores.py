"""Which store a URL names."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from .ladybug import LadybugStore
from .memory import MemoryStore
from .store import GraphStore, without_password

EMBEDDED = "ladybug:"
GRAPH = f"{EMBEDDED}graph.lbug"  # a build folder's own


def open_store(url: str, *, adopt: bool = False) -> GraphStore:
    """`ladybug:PATH` (embedded, the default), `neo4j://HOST:PORT` or `bolt://HOST:PORT` (a server; with `+s` encrypted,
    with `+ssc` by a certificate nobody vouches for), or `memory:` (networkx, for tests and as the reference).

    adopt: whether nodes of others with our labels and ids may be taken over; only a server has any.

    Raises:
        ConfigError: the URL names no store we know.
    """
    scheme, _, place = url.partition(":")
    if scheme == "memory":
        return MemoryStore()
    if scheme == "ladybug" and place:
        return LadybugStore(Path(place))
    if scheme.partition("+")[0] in ("neo4j", "bolt"):
        from .neo4j import Neo4jStore  # noqa: PLC0415

        return Neo4jStore(url, adopt=adopt)
    raise ConfigError(f"no store {without_password(url)!r}; use ladybug:PATH, neo4j://HOST:PORT or memory:")


def check_same(asked: str, built: str | None) -> None:
    """Make sure that the store asked for is the one a model was built with (None: it does not say); both as kept.

    Raises:
        ConfigError: it is another one.
    """
    if built not in (None, asked):
        raise ConfigError(f"store {asked}: the model was built with {built}; leave it out, or rebuild into this store")


def kept_url(url: str, folder: Path) -> str:
    """A store's URL as a bundle keeps it, without a password: of an embedded graph in the build folder the path is
    relative to that, for the folder may move; others are absolute, for the working folder is another tomorrow."""
    if not url.startswith(EMBEDDED):
        return without_password(url)
    path, home = Path(url.removeprefix(EMBEDDED)).resolve(), folder.resolve()
    return EMBEDDED + (path.relative_to(home).as_posix() if path.is_relative_to(home) else str(path))


def opened_url(kept: str, folder: Path) -> str:
    """The other way round."""
    return EMBEDDED + str(folder / kept.removeprefix(EMBEDDED)) if kept.startswith(EMBEDDED) else kept
