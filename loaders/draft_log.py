"""The drafted [interactions], [baskets] and [split]: what the log says, and what is held out of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import polars as pl

from .guess import Roles, constant_per, is_part
from .hints import CLICK, EVENT_KIND, POSITION, PRICE, QUANTITY, TIME
from .profile import Column
from .tables import TimeUnit, value
from .toml_draft import Block

DAY_MS: Final = 86_400_000
OLDEST, NEWEST = -2_208_988_800_000, 4_102_444_800_000  # 1900 and 2100: other moments are none
UNITS: Final[Sequence[tuple[TimeUnit, float]]] = (("ns", 1e17), ("us", 1e14), ("ms", 1e11), ("s", 1e8))  # 1973 on
RETURNED: Final = 0.2  # share of rows that are not above 0, from which on a number is no quantity
HELD_OUT: Final = 0.1  # share of the events, about
TOGETHER: Final = 0.2  # share of events less than a minute after another one of their user
FILLED: Final = 0.95  # share of rows that have a moment, place or quantity, from which on the column is used
STEADY: Final = 0.95  # share of users with one value, from which on a column tells of users


class Log:
    """The log's columns by their parts. Rows without a user are left aside; bad: why others will be."""

    def __init__(self, roles: Roles) -> None:
        self.table, self.user, self.item = roles.log, roles.user, roles.item
        self._known = self.user.cells.is_not_null()
        self._free = [c for c in self.table.columns.values() if c is not self.user and c is not self.item]
        self.bad: list[str] = []
        self._need(self.item)
        self.splits = self._take([c for c in self._free if is_part(c)])
        self.unit: TimeUnit | None = None
        self.time = self._time()
        self.moments = None if self.time is None else self._moments(self.time, self.unit)
        self.position = self._called(("int",), POSITION)
        self.quantity = self._called(("int", "float"), QUANTITY, _is_mostly_positive)
        self.label = self._called(("int",), CLICK, lambda c: set(c.values) == {"0", "1"})
        self.kind = next(iter(self._take([c for c in self._free if _is_kind(c)][:1])), None)
        self.prices = [c for c in self._free if c.kind in ("int", "float") and c.says(PRICE) and c.distinct > 1]

    @property
    def rows(self) -> int:
        """Events of known users."""
        return int(self._known.sum())

    def without_user(self) -> int:
        """Events nobody is known for."""
        return len(self._known) - self.rows

    def span(self) -> str:
        """For a comment: "2010-12-01 08:26 to 2011-12-09 12:50"."""
        assert self.moments is not None
        ends = [self.moments.min(), self.moments.max()]
        return " to ".join(f"{dt.datetime.fromtimestamp(float(ms) / 1000, dt.UTC):%Y-%m-%d %H:%M}" for ms in ends)  # type: ignore[arg-type]

    def user_columns(self) -> list[Column]:
        """What the log tells of users: it does not change from event to event."""
        if self.user.distinct == self.user.filled:
            return []
        fitting = [c for c in self._free if c.kind in ("string", "bool") and 1 < c.distinct <= self.user.distinct]
        return [c for c in fitting if constant_per(self.table, self.user, c) >= STEADY]

    def together(self) -> float:
        """Share of events less than a minute after another one of the same user."""
        if self.moments is None:
            return 0.0
        frame = pl.DataFrame({"user": self.user.cells, "at": self.moments}).drop_nulls().sort("user", "at")
        gaps = frame.select(pl.col("at").diff().over("user"))["at"]
        return int((gaps < 60_000).sum()) / max(frame.height, 1)

    def _called(
        self, kinds: Sequence[str], hints: frozenset[str], fits: Callable[[Column], bool] = lambda _: True
    ) -> Column | None:
        found = [c for c in self._free if c.kind in kinds and c.says(hints) and self._is_full(c) and fits(c)]
        for column in self._take(found[:1]):
            self._need(column)
            return column
        return None

    def _take(self, columns: list[Column]) -> list[Column]:
        self._free = [c for c in self._free if not any(c is one for one in columns)]
        return columns

    def _is_full(self, column: Column) -> bool:
        return int((column.cells.is_not_null() & self._known).sum()) >= max(1, FILLED * self.rows)

    def _need(self, column: Column) -> None:
        empty = int((column.cells.is_null() & self._known).sum())
        if empty:
            self.bad.append(f"{empty:,} {column.what} of {self.table.name} have no {column.name}")

    def _time(self) -> Column | None:
        times = [c for c in self._free if c.kind == "time" and self._is_full(c) and self._is_near(c, None)]
        times.sort(key=lambda c: (not c.says(TIME), -c.distinct))
        numbers = [c for c in self._free if c.kind in ("int", "float") and c.says(TIME) and self._is_full(c)]
        for column in self._take(times[:1]):
            self._need(column)
            return column
        for column in numbers:
            for unit, least in UNITS:
                if min(column.numbers.drop_nulls()) >= least and self._is_near(column, unit):
                    self.unit = unit
                    self._take([column])
                    self._need(column)
                    return column
        return None

    def _moments(self, column: Column, unit: TimeUnit | None) -> pl.Series:
        frame = column.raw.alias("x").to_frame()
        return frame.select(value("x", column.raw.dtype, "time", unit or "s").alias("x"))["x"]

    def _is_near(self, column: Column, unit: TimeUnit | None) -> bool:
        moments = self._moments(column, unit).drop_nulls()
        return bool(len(moments)) and bool(moments.is_between(OLDEST, NEWEST).all())


def _is_mostly_positive(column: Column) -> bool:
    return int((column.numbers <= 0).sum()) < RETURNED * column.rows


def _is_kind(column: Column) -> bool:
    return column.kind == "string" and column.says(EVENT_KIND) and 1 < column.distinct <= 20


def fill(block: Block, log: Log) -> None:
    """What [interactions] says of the events besides user and item."""
    if log.time is not None:
        block.add("time", log.time.name, log.span())
        if log.unit:
            block.add("time_unit", log.unit, "by the size of the numbers")
    if log.position is not None:
        block.add("position", log.position.name, log.position.range())
    if log.quantity is not None:
        block.add("quantity", log.quantity.name, log.quantity.range())
        returned = int((log.quantity.numbers <= 0).sum())
        if returned:
            block.add("returns", "drop", f"{returned:,} {log.quantity.what} are not above 0")
    if log.label is not None:
        block.add("label", log.label.name, "0 and 1: pairs of both kinds")
    if log.kind is not None:
        block.add("kind", log.kind.name, ", ".join(log.kind.values.sort().head(6)))


def baskets(log: Log) -> Block | None:
    """[baskets], where there are times; an alternative where few events come together."""
    if log.time is None:
        return None
    share = log.together()
    why = f"{share:.0%} of the events follow another one of their user within a minute: what is taken together"
    block = Block("[baskets]", why=[why], off=share < TOGETHER)
    block.add("window_s", 60)
    return block


def split(log: Log) -> Block:
    """[split]: by the columns that say so, else the newest events by time or place, else pairs drawn."""
    if log.splits:
        return _split_by_columns(log)
    block = Block("[split]")
    cut = None if log.moments is None else _cut(log.moments.filter(log._known).drop_nulls().to_numpy())
    if cut is not None:
        at, share, before = cut
        block.add("method", "time", "the log has times: what is tested comes after all that was learned from")
        block.add("at", at, f"{share:.0%} of the events are at or after it")
        block.add(
            "period_days", min(max(before // 6, 1), 28), f"validation periods, cut from the {before:,} days before"
        )
        block.add("candidates", "seen", "recommend only what somebody took before", off=True)
        block.add("method", "last", "each user's newest event instead", off=True)
    elif log.position is not None or log.time is not None:
        block.add("method", "last", "each user's newest event")
        block.add("method", "random", "pairs drawn by chance instead", off=True)
    else:
        block.add("method", "random", "the log has no times")
        block.add("fraction", 0.2)
    return block


def _split_by_columns(log: Log) -> Block:
    first = log.splits[0]
    alike = [c for c in log.splits if c.words[:-1] == first.words[:-1] and c.words[-1:] and c.words[-1].isdigit()]
    block = Block("[split]")
    block.add("method", "column", f"{first.name} says {', '.join(first.values.sort())}")
    block.add("column", [c.name for c in alike] if len(alike) > 1 else first.name)
    for other in log.splits[1:] if len(alike) < 2 else ():
        block.add("column", other.name, f"says {', '.join(other.values.sort())}", off=True)
    test = [v for v in first.values if v.lower() == "test"]
    valid = [v for v in first.values if v.lower() not in ("train", "test")]
    if test != ["test"]:
        block.add("test", test)
    if valid:
        why = "kept out of training, for choices" if log.label else "to keep these rows out of what is learned from"
        block.add("valid", valid, why, off=log.label is None)
    held = pl.DataFrame({"user": log.user.cells, "part": first.cells}).filter(pl.col("part").is_in(test))
    each = held.height == held["user"].n_unique()
    if each and (log.time is not None or log.position is not None):
        block.add("like", "last", "each user has one held-out event")
    return block


def _cut(moments: np.ndarray) -> tuple[dt.date | dt.datetime, float, int] | None:
    """Where the newest events begin (at midnight, if it can be), their share, and how many days lie before."""
    if len(moments) < 2 or moments.min() == moments.max():
        return None
    moment = int(np.quantile(moments, 1 - HELD_OUT, method="higher"))
    midnight = moment // DAY_MS * DAY_MS
    cut = midnight if midnight > moments.min() else moment
    if cut <= moments.min():
        cut = int(moments.max())
    at = dt.datetime.fromtimestamp(cut / 1000, dt.UTC).replace(tzinfo=None)
    whole = at.date() if cut % DAY_MS == 0 else at
    return whole, float((moments >= cut).mean()), int((cut - moments.min()) // DAY_MS)
