"""Which store a URL names."""

from __future__ import annotations

from pathlib import Path

from ..errors import ConfigError
from .ladybug import LadybugStore
from .memory import MemoryStore
from .store import GraphStore


def open_store(url: str) -> GraphStore:
    """`ladybug:PATH` (embedded, the default), or `memory:` (networkx, for tests and as the reference).

    Raises:
        ConfigError: the URL names no store we know.
    """
    scheme, _, place = url.partition(":")
    if scheme == "memory":
        return MemoryStore()
    if scheme == "ladybug" and place:
        return LadybugStore(Path(place))
    raise ConfigError(f"no store {url!r}; use ladybug:PATH or memory:")
