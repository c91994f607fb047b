"""What customers did with what they were shown: `build/<shop>/events.sqlite`, appended by the service.

SQLite in its write-ahead mode: an event that was answered for survives the machine, several processes may append, and
somebody may read meanwhile. The first event of an id stays; the same id again changes nothing.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa

from ..errors import DataError

FILE = "events.sqlite"
Kind = Literal["shown", "click", "cart", "purchase", "dismiss"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing a customer did. id: the caller's own, once for ever. at: milliseconds since 1970 UTC.

    version, recommendation, place: the bundle, the id of its list and the place in it (1 is the best) that led there,
    where a list did.
    """

    id: str
    user: str
    item: str
    kind: Kind
    at: int
    quantity: float = 1.0
    version: str | None = None
    place: int | None = None
    recommendation: str | None = None


COLUMNS = tuple(field.name for field in fields(Event))
TYPES = dict(zip(COLUMNS, ("TEXT", "TEXT", "TEXT", "TEXT", "INTEGER", "REAL", "TEXT", "INTEGER", "TEXT"), strict=True))
SCHEMA = (
    "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY AUTOINCREMENT, received INTEGER NOT NULL, "
    + ", ".join(f"{name} {kind}" for name, kind in TYPES.items())
    + ", UNIQUE (id)) STRICT"
)
INSERT = (
    f"INSERT OR IGNORE INTO events (received, {', '.join(COLUMNS)}) VALUES (?{', ?' * len(COLUMNS)})"  # names of ours
)
ARROW = {"TEXT": pa.string(), "INTEGER": pa.int64(), "REAL": pa.float64()}


class FeedbackLog:
    """The appending side, for one thread at a time; other processes have one of their own.

    Raises:
        DataError: the file cannot be opened, or is something else.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE
        try:
            self._open = sqlite3.connect(self.file, timeout=10, isolation_level=None, check_same_thread=False)
            self._open.execute("PRAGMA journal_mode = WAL")
            self._open.execute("PRAGMA synchronous = FULL")  # a commit is on the disk, not only with the system
            self._open.execute(SCHEMA)
            for column in COLUMNS:  # of a file written before there was such a column
                if column not in _columns(self._open):
                    self._open.execute(f"ALTER TABLE events ADD COLUMN {column} {TYPES[column]}")
        except sqlite3.Error as e:
            raise DataError(f"{self.file}: no log of events can be kept here ({e})") from None

    def append(self, batches: Sequence[Sequence[Event]]) -> list[int]:
        """Keep these events in one transaction, all or none; returns how many of each batch were new.

        Raises:
            DataError: the disk or the file refuses; nothing was kept.
        """
        now = time.time_ns() // 1_000_000
        try:
            self._open.execute("BEGIN IMMEDIATE")
            new = [sum(self._insert(now, event) for event in batch) for batch in batches]
            self._open.execute("COMMIT")
        except sqlite3.Error as e:
            raise DataError(f"{self.file}: the events were not kept ({e})") from None
        finally:
            if self._open.in_transaction:  # whatever went wrong: other workers wait for the lock
                self._open.execute("ROLLBACK")
        return new

    def _insert(self, now: int, event: Event) -> int:
        return self._open.execute(INSERT, (now, *astuple(event))).rowcount

    def close(self) -> None:
        """Fold the write-ahead file in and let go."""
        self._open.close()


def _columns(log: sqlite3.Connection) -> set[str]:
    """Of the table of events; none where there is no such table."""
    return {str(row[0]) for row in log.execute("SELECT name FROM pragma_table_info('events')")}


def read_feedback(folder: Path, *, after: int = 0) -> pa.Table:
    """The events numbered above `after`, in the order they came: `number`, `received` (ms) and the fields of Event.

    A reader that keeps the last number it has seen gets each event once. No file, no events.

    Raises:
        DataError: the file is not one of ours.
    """
    kinds = {"number": "INTEGER", "received": "INTEGER"} | TYPES
    rows: list[tuple[object, ...]] = []
    file = folder / FILE
    if file.is_file():
        try:
            with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as log:
                held = _columns(log)
                told = (name if name in held else f"NULL AS {name}" for name in kinds)
                wanted = f"SELECT {', '.join(told)} FROM events WHERE number > ? ORDER BY number"
                rows = log.execute(wanted, (after,)).fetchall()
        except sqlite3.Error as e:
            raise DataError(f"{file}: cannot be read as a log of events ({e})") from None
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(kinds)
    return pa.table(
        {name: pa.array(column, ARROW[kind]) for (name, kind), column in zip(kinds.items(), columns, strict=True)}
    )
