"""Neo4j over Bolt: a database from a URL, credentials from the environment, and every fault as one line.

NEO4J_USERNAME and NEO4J_PASSWORD are read when the driver is made and kept nowhere else, so no message can hold them.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import neo4j
from neo4j.exceptions import AuthError, ConfigurationError, DriverError, IncompleteCommit, Neo4jError

from ..errors import ConfigError, QueryError, StoreError
from .store import without_password

SCHEMES = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")
CONNECT_S = 10.0  # a server that takes the connection and says nothing is as good as down
RETRY_S = 30.0  # transient errors and deadlocks are tried again for so long
DIALECT = "CYPHER 5"  # a server may have another default; later ones drop `id()`
NOISE = re.compile(r" \(resolved to \(.*?\)\)| \(deadline .*| Please ensure .*")  # of the driver's messages
S = TypeVar("S")
T = TypeVar("T")

logging.getLogger("neo4j").addHandler(logging.NullHandler())  # its warnings would stand beside our one line


class Bolt:
    """One database of a Neo4j server: `neo4j://HOST:PORT`, or `…/DATABASE` for another than the server's default."""

    def __init__(self, url: str) -> None:
        """Connects at the first use.

        Raises:
            ConfigError: the URL is none of ours, holds credentials, or the environment has none.
        """
        self.url, self.database = _checked(url)
        self._driver: neo4j.Driver | None = None

    def __repr__(self) -> str:
        return f"Bolt({self.url!r})"

    def read(
        self, text: str, parameters: Mapping[str, Any] | None = None, *, timeout_s: float = 600.0
    ) -> list[neo4j.Record]:
        """All records of one statement in a READ transaction."""
        return self.reading(lambda transaction: list(ask(transaction, text, parameters)), timeout_s=timeout_s)

    def reading(
        self, work: Callable[[neo4j.ManagedTransaction], T], *, timeout_s: float = 600.0, fetch_size: int = -1
    ) -> T:
        """The result of `work` in one READ transaction; tried again when the fault is a passing one."""
        with self.session(neo4j.READ_ACCESS, fetch_size) as session:
            return _answered(session.execute_read, neo4j.unit_of_work(timeout=timeout_s)(work))

    def write(self, work: Callable[[neo4j.ManagedTransaction], T], *, timeout_s: float = 600.0) -> T:
        """The result of `work` in one WRITE transaction; `work` must be safe to run again."""
        with self.session(neo4j.WRITE_ACCESS) as session:
            return _answered(session.execute_write, neo4j.unit_of_work(timeout=timeout_s)(work))

    def state(self) -> str:
        """What the server has committed so far, as an opaque text: equal texts, equal graphs.

        It is the bookmark a read leaves, which names the newest transaction; a server without any is never the same.
        """
        with self.session(neo4j.READ_ACCESS) as session:
            session.execute_read(lambda transaction: transaction.run("RETURN 1").consume())
            return " ".join(sorted(session.last_bookmarks().raw_values)) or secrets.token_hex()

    def declare(self, text: str) -> None:
        """Run a statement about constraints or indexes."""
        with self.session(neo4j.WRITE_ACCESS) as session:
            session.run(f"{DIALECT} {text}").consume()

    @contextmanager
    def session(self, access: str, fetch_size: int = -1) -> Iterator[neo4j.Session]:
        """A session whose faults are ours: StoreError for the server, QueryError for the statement."""
        with self._faults():
            driver = self._connected()
            with driver.session(database=self.database, default_access_mode=access, fetch_size=fetch_size) as session:
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
            try:
                self._driver.verify_connectivity()
            except BaseException:
                self.close()
                raise
        return self._driver

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except AuthError:
            raise StoreError(f"{self.url}: NEO4J_USERNAME and NEO4J_PASSWORD are not accepted there") from None
        except (ConfigurationError, ValueError) as e:
            raise ConfigError(f"{self.url}: {_one_line(e)}") from None
        except DriverError as e:
            raise StoreError(f"{self.url}: no answer ({_one_line(e)}); is the server up?") from None
        except Neo4jError as e:
            code = e.code or ""
            if "TransactionTimedOut" in code:
                raise QueryError("the query took too long and was stopped; narrow it") from None
            if "OutOfMemory" in code:
                raise QueryError("the query took too much memory and was stopped; narrow it or add LIMIT") from None
            if ".Statement." in code:
                raise QueryError(f"the query does not run: {_one_line(e)}") from None
            raise StoreError(f"{self.url}: {_one_line(e)}") from None


def ask(
    transaction: neo4j.ManagedTransaction, text: str, parameters: Mapping[str, Any] | None = None, **named: Any
) -> neo4j.Result:
    """Run one statement inside a transaction, in the dialect all our texts are written in."""
    return transaction.run(f"{DIALECT} {text}", {**(parameters or {}), **named})


def in_lanes(work: Callable[[S], T], items: Iterable[S], lanes: int) -> list[T]:
    """`work` on every item, `lanes` at a time; what has not begun when one fails never does."""
    pool = ThreadPoolExecutor(lanes)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)


def _answered(execute: Callable[[Callable[[neo4j.ManagedTransaction], T]], T], work: Callable[..., T]) -> T:
    """The result of `work`, which is safe to run again, also where the connection ends between a commit and its answer.

    The driver tries all other lost connections again, but not this one: it can't know that the work may run twice.
    """
    try:
        return execute(work)
    except IncompleteCommit:
        return execute(work)


def _checked(url: str) -> tuple[str, str | None]:
    """The address for the driver, and the database."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ConfigError(f"no Neo4j address {without_password(url)!r}; write neo4j://HOST:PORT")
    if "@" in parts.netloc:
        raise ConfigError(
            f"{without_password(url)}: a URL is no place for credentials; set NEO4J_USERNAME and NEO4J_PASSWORD"
        )
    try:
        _ = parts.port
    except ValueError:
        raise ConfigError(f"no Neo4j address {url!r}: the port is no number") from None
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{query}", parts.path.strip("/") or None


def _credentials() -> tuple[str, str]:
    name, password = os.environ.get("NEO4J_USERNAME", "neo4j"), os.environ.get("NEO4J_PASSWORD")
    if not password:
        raise ConfigError("NEO4J_PASSWORD is not set; the environment is the only place credentials come from")
    return name, password


def _one_line(error: Exception) -> str:
    """The driver's message, short enough for a line."""
    said = " ".join((getattr(error, "message", None) or str(error)).split())
    return NOISE.sub("", said)[:200]
