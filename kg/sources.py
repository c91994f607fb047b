"""Which source a shop names."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from ..config import ShopConfig
from ..errors import ConfigError
from ..loaders.source import Files, Source

LOOPBACK: Final = ("127.0.0.1", "::1")
DEFAULT_PORT: Final = "7687"


def open_source(config: ShopConfig) -> Source:
    """The shop's [graph], or its files."""
    if config.graph is None:
        return Files(config)
    from .live import LiveGraph  # noqa: PLC0415 - the driver is for those who have a server

    return LiveGraph(config)


def check_apart(config: ShopConfig, store_url: str) -> None:
    """Raises ConfigError where the store is the shop's [graph], which a rebuild would replace."""
    if config.graph is None:
        return
    (host, name), (other, other_name) = _database(config.graph.url), _database(store_url)
    if host == other and (name == other_name or not (name and other_name)):
        raise ConfigError(f"--store {host} is the shop's [graph], which is only read; name another store")


def _database(url: str) -> tuple[str, str]:
    """Host and port, and the database of a Neo4j address ("" for the server's default)."""
    parts = urlsplit(url)
    port = parts.netloc.rpartition("]")[2].partition(":")[2] or DEFAULT_PORT
    return f"{'localhost' if parts.hostname in LOOPBACK else parts.hostname}:{port}", parts.path.strip("/")
