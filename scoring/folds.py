"""Cuts of a log into what a model may see and what it must find, alike for training, validation and test."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp

from ..config import SplitSection
from ..errors import ConfigError
from ..kg.log import InteractionLog
from ..loaders.interactions import moment_ms
from .evidence import DAY_MS

SHARE = 0.15  # of the training events a random fold hides


@dataclass(frozen=True)
class Fold:
    """seen: the events up to the cut. held_out: sparse 0/1 [user, item], pairs not in `seen`, of users with a history.
    now: the cut in days since 1970, None without times. users: int64 rows with something held out, shuffled by seed 7.
    """

    seen: InteractionLog
    held_out: sp.csr_matrix
    now: float | None
    users: np.ndarray


def fold_of(seen: InteractionLog, hidden: InteractionLog, now: float | None) -> Fold:
    """A fold from two logs; pairs already seen and users without a history are no questions."""
    shape = (seen.n_users, seen.n_items)
    key = np.unique(hidden.user * seen.n_items + hidden.item)
    key = np.setdiff1d(key, seen.user * seen.n_items + seen.item, assume_unique=False)
    user, item = key // seen.n_items, key % seen.n_items
    known = np.bincount(seen.user, minlength=seen.n_users) > 0
    user, item = user[known[user]], item[known[user]]
    held_out = sp.csr_matrix((np.ones(len(user), np.float32), (user, item)), shape=shape)
    return Fold(seen, held_out, now, np.random.default_rng(7).permutation(np.unique(user)))


def training_folds(log: InteractionLog, split: SplitSection, count: int) -> list[Fold]:
    """`count` cuts of the training log made the way the test part was; the newest first, which also validates.

    time: the periods of `period_days` before the end of training. last (or like = "last"): each user's newest, second
    newest … event. Without a test part: periods where there are times, and the newest events where there is an order
    alone and somebody has enough of them. Otherwise: a random 15 % of the events, a new draw per fold.
    """
    kind = _kind(log, split, count)
    if kind == "period":
        folds = _periods(log, split, count)
        if not folds:
            assert log.at is not None
            span = (int(log.at.max()) - int(log.at.min())) / DAY_MS
            raise ConfigError(
                f"no customer of the last {split.period_days} days of training was there before: the log spans "
                f"{span:.0f} days; lower split.period_days"
            )
        return folds
    return [_last(log, number) if kind == "last" else _random(log, number) for number in range(count)]


def labelled_cut(log: InteractionLog, split: SplitSection) -> tuple[np.ndarray, SplitSection]:
    """The newest cut of labelled training pairs, alike: bool [event] of what it asks for, and the split as of then.

    Noes are asked for, too, so it is events that are cut; a user's only one stays. Random draws take whole pairs, since
    one that occurs twice would tell its answer.
    """
    kind = _kind(log, split, 1)
    if kind == "last":
        return (_back(log) == 0) & (np.bincount(log.user)[log.user] > 1), split
    if kind == "random":
        return _drawn_pairs(log), split
    end = end_of(log, split)
    assert log.at is not None
    assert end is not None
    at = None if split.at is None else split.at - dt.timedelta(days=split.period_days)
    return log.at / DAY_MS >= end - split.period_days, split.model_copy(update={"at": at})


def asks_next(log: InteractionLog, split: SplitSection, count: int) -> bool:
    """Whether what the cuts of this shop ask for comes after what is known, and not out of the midst of it."""
    return _kind(log, split, count) != "random"


def in_no_fold(log: InteractionLog, split: SplitSection, count: int) -> np.ndarray:
    """bool [event]: which none of the `count` folds holds out, and may be looked at before the folds are fitted on."""
    kind = _kind(log, split, count)
    if kind == "period":
        oldest = training_folds(log, split, count)[-1].now
        assert log.at is not None
        assert oldest is not None
        return np.asarray(log.at / DAY_MS < oldest)
    if kind == "last":
        return np.asarray(_back(log) >= count)
    return ~np.asarray(np.any([_drawn(log, number) for number in range(count)], axis=0))


def _kind(log: InteractionLog, split: SplitSection, count: int) -> Literal["period", "last", "random"]:
    """How this shop's folds are cut."""
    if log.at is not None and split.method in ("time", "none"):
        return "period"
    alike = split.method == "last" or (split.method == "column" and split.like == "last")
    if split.method == "none":  # as many cuts must leave somebody two events to learn from
        alike = bool(np.bincount(log.user).max(initial=0) > count + 1)
    return "last" if log.ordered and alike else "random"


def end_of(log: InteractionLog, split: SplitSection) -> float | None:
    """The moment training ends, in days since 1970: the split's cut, or just after the newest event."""
    if log.at is None:
        return None
    if split.method == "time" and split.at is not None:
        return float(moment_ms(split.at) / DAY_MS)
    return _now(log)


def _periods(log: InteractionLog, split: SplitSection, count: int) -> list[Fold]:
    assert log.at is not None
    end, folds = end_of(log, split), []
    assert end is not None
    for number in range(count):
        cut, until = end - (number + 1) * split.period_days, end - number * split.period_days
        day = log.at / DAY_MS
        fold = fold_of(log.where(day < cut), log.where((day >= cut) & (day < until)), cut)
        if len(fold.users):
            folds.append(fold)
    return folds


def _last(log: InteractionLog, number: int) -> Fold:
    back = _back(log)
    return fold_of(log.where(back > number), log.where(back == number), _now(log))


def _back(log: InteractionLog) -> np.ndarray:
    """int64 [event], 0 for a user's newest event."""
    ends = np.cumsum(np.bincount(log.user, minlength=log.n_users))
    return np.asarray(ends[log.user] - 1 - np.arange(len(log)))


def _random(log: InteractionLog, number: int) -> Fold:
    hidden = _drawn(log, number)
    return fold_of(log.where(~hidden), log.where(hidden), _now(log))


def _drawn(log: InteractionLog, number: int) -> np.ndarray:
    return np.asarray(np.random.default_rng(number).random(len(log)) < SHARE)


def _drawn_pairs(log: InteractionLog) -> np.ndarray:
    pairs, place = np.unique(log.user * log.n_items + log.item, return_inverse=True)
    draw, most = np.random.default_rng(0).random(len(pairs)), np.zeros(log.n_users)
    np.maximum.at(most, pairs // log.n_items, draw)
    return np.asarray(((draw < SHARE) & (draw < most[pairs // log.n_items]))[place])


def _now(log: InteractionLog) -> float | None:
    return None if log.at is None else float(np.floor(log.at.max() / DAY_MS)) + 1.0
