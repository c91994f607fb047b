"""Neo4j over Bolt: a database from a URL, credentials from the environment, and every fault as one line.

NEO4J_USERNAME and NEO4J_PASSWORD are read when the driver is made and kept nowhere else, so no message can hold them.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import neo4j
from neo4j.exceptions import AuthError, ConfigurationError, DriverError, Neo4jError

from ..errors import ConfigError, QueryError, StoreError

SCHEMES = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")
CONNECT_S = 10.0  # a server that takes the connection and says nothing is as good as down
RETRY_S = 30.0  # transient errors and deadlocks are tried again for so long
T = TypeVar("T")

logging.getLogger("neo4j").addHandler(logging.NullHandler())  # its warnings would stand beside our one line


class Bolt:
    """One database of a Neo4j server: `neo4j://HOST:PORT`, or `…/DATABASE` for another than the server's default."""

    def __init__(self, url: str) -> None:
        """Connects at the first use.

        Raises:
            ConfigError: the URL is none of ours, holds credentials, or the environment has none.
        """
        self.url, self._database = _checked(url)
        self._driver: neo4j.Driver | None = None

    def __repr__(self) -> str:
        return f"Bolt({self.url!r})"

    def read(
        self, text: str, parameters: Mapping[str, Any] | None = None, *, timeout_s: float = 600.0
    ) -> list[neo4j.Record]:
        """All records of one statement in a READ transaction; tried again when the fault is a passing one."""

        def work(transaction: neo4j.ManagedTransaction) -> list[neo4j.Record]:
            return list(transaction.run(text, dict(parameters or {})))

        with self.session(neo4j.READ_ACCESS) as session:
            return session.execute_read(neo4j.unit_of_work(timeout=timeout_s)(work))

    def write(self, work: Callable[[neo4j.ManagedTransaction], T], *, timeout_s: float = 600.0) -> T:
        """The result of `work` in one WRITE transaction; `work` must be safe to run again."""
        with self.session(neo4j.WRITE_ACCESS) as session:
            return session.execute_write(neo4j.unit_of_work(timeout=timeout_s)(work))

    def state(self) -> str:
        """What the server has committed so far, as an opaque text: equal texts, equal graphs.

        It is the bookmark a read leaves, which names the newest transaction; a server without any is never the same.
        """
        with self.session(neo4j.READ_ACCESS) as session:
            session.execute_read(lambda transaction: transaction.run("RETURN 1").consume())
            return " ".join(sorted(session.last_bookmarks().raw_values)) or secrets.token_hex()

    @contextmanager
    def session(self, access: str) -> Iterator[neo4j.Session]:
        """A session whose faults are ours: StoreError for the server, QueryError for the statement."""
        with self._faults():
            driver = self._connected()
            with driver.session(database=self._database, default_access_mode=access, fetch_size=-1) as session:
                yield session

    def close(self) -> None:
        """Let go of the connections."""
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    def _connected(self) -> neo4j.Driver:
        if self._driver is None:
            self._driver = neo4j.GraphDatabase.driver(
                self.url,
                auth=_credentials(),
                connection_timeout=CONNECT_S,
                connection_acquisition_timeout=4 * CONNECT_S,
                max_transaction_retry_time=RETRY_S,
                notifications_min_severity="OFF",
                telemetry_disabled=True,
                user_agent="catalograph",
            )
            self._driver.verify_connectivity()
        return self._driver

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except AuthError:
            self.close()
            raise StoreError(f"{self.url}: NEO4J_USERNAME and NEO4J_PASSWORD are not accepted there") from None
        except (ConfigurationError, ValueError) as e:
            raise ConfigError(f"{self.url}: {_one_line(e)}") from None
        except DriverError as e:
            self.close()
            raise StoreError(f"{self.url}: no answer ({_one_line(e)}); is the server up?") from None
        except Neo4jError as e:
            code = e.code or ""
            if "TransactionTimedOut" in code:
                raise QueryError("the query took too long and was stopped; narrow it") from None
            if ".Statement." in code:
                raise QueryError(f"the query does not run: {_one_line(e)}") from None
            raise StoreError(f"{self.url}: {_one_line(e)}") from None


def _checked(url: str) -> tuple[str, str | None]:
    """The address for the driver, and the database."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ConfigError(f"no Neo4j address {_without_userinfo(url)!r}; write neo4j://HOST:PORT")
    if "@" in parts.netloc:
        raise ConfigError(
            f"{_without_userinfo(url)}: a URL is no place for credentials; set NEO4J_USERNAME and NEO4J_PASSWORD"
        )
    try:
        _ = parts.port
    except ValueError:
        raise ConfigError(f"no Neo4j address {url!r}: the port is no number") from None
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{query}", parts.path.strip("/") or None


def _without_userinfo(url: str) -> str:
    scheme, found, rest = url.rpartition("://")
    return scheme + found + rest.rpartition("@")[2]


def _credentials() -> tuple[str, str]:
    name, password = os.environ.get("NEO4J_USERNAME", "neo4j"), os.environ.get("NEO4J_PASSWORD")
    if not password:
        raise ConfigError("NEO4J_PASSWORD is not set; the environment is the only place credentials come from")
    return name, password


def _one_line(error: Exception) -> str:
    """The driver's message, short enough for a line."""
    said = getattr(error, "message", None) or str(error)
    return " ".join(said.split())[:200]
