"""The model that is served, and the next one: loaded beside it, tried, and swapped in between two requests."""

from __future__ import annotations

import ctypes
import logging
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ArtifactError, CatalographError
from ..scoring import bundle as bundles
from ..scoring import versions
from ..scoring.recommender import Recommender
from ..scoring.update import settle
from . import telemetry

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Edition:
    """One version in memory. A request keeps the one it began with."""

    version: str
    model: Recommender
    items: Names
    users: Names


class Names:
    """Ids and what people call them, to be searched."""

    def __init__(self, ids: Sequence[str], titles: Sequence[str]) -> None:
        self._pairs = list(zip(ids, titles, strict=True))
        self._folded = [f"{id_}\n{title}".casefold() for id_, title in self._pairs]

    def search(self, text: str, n: int) -> list[tuple[str, str]]:
        """The first n (id, title) that hold every word of the text, in the order of the ids; whole ids first."""
        words = text.casefold().split()
        exact = [pair for pair in self._pairs if pair[0] == text]
        return (exact + [pair for pair in self._holding(words, n) if pair[0] != text])[:n]

    def _holding(self, words: Sequence[str], n: int) -> Iterator[tuple[str, str]]:
        left = n
        for pair, folded in zip(self._pairs, self._folded, strict=True):
            if all(word in folded for word in words):
                yield pair
                left -= 1
                if not left:
                    return


class Shelf:
    """Serves the published version of a build folder.

    Raises:
        ArtifactError: nothing is published there, or it cannot be served.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        settle(folder)  # an update was killed between its graph and its model
        self._seen = self._pointer()
        place = versions.published(folder)
        self.current = edition(place, folder)
        self._leaving: list[weakref.ref[Edition]] = []  # replaced, and held by requests that began with them
        telemetry.now_serving(versions.number(place))

    def refresh(self) -> None:
        """Take up a newly published version; one that cannot be served is refused, and looked at once.

        But for want of memory or of files to open, which may pass: then the next call tries again.
        """
        held = [old for old in self._leaving if old() is not None]
        if len(held) < len(self._leaving):
            _give_back_memory()
            self._leaving = held
        pointer = self._pointer()
        if pointer == self._seen:
            return
        seen, self._seen = self._seen, pointer
        try:
            place = versions.published(self._folder)
            if place.name == self.current.version:
                return
            new = edition(place, self._folder)
            new.model.adopt(self.current.model)
        except (CatalographError, OSError, UnicodeDecodeError) as e:
            if isinstance(e.__cause__ or e, OSError | MemoryError):
                self._seen = seen
            telemetry.SWAPS.labels("refused").inc()
            LOG.error("refused", extra={"told": {"why": str(e), "kept": self.current.version}})
        else:
            self._leaving.append(weakref.ref(self.current))
            self.current = new
            telemetry.SWAPS.labels("served").inc()
            telemetry.now_serving(versions.number(place))
            LOG.info("serving", extra={"told": {"version": self.current.version}})

    def _pointer(self) -> tuple[str, int] | None:
        """What `current` says and when it was written: naming a version again is a reason to look again."""
        try:
            file = self._folder / "current"
            return file.read_text(encoding="utf-8"), file.stat().st_mtime_ns
        except (OSError, UnicodeDecodeError):
            return None


def _give_back_memory() -> None:
    """Hand freed memory to the system, where the C library is glibc: it would keep what two versions took together."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def edition(place: Path, folder: Path) -> Edition:
    """A bundle loaded and tried.

    Raises:
        ArtifactError: a part is missing or torn, or it cannot recommend.
    """
    try:
        model = Recommender(*bundles.load(place), folder)
        items, users = (table["id"].to_pylist() for table in (model.bundle.items, model.bundle.users))
        _try(model, users, items)
        titles = [model.title(item) for item in items]
        return Edition(place.name, model, Names(items, titles), Names(users, users))
    except ArtifactError:
        raise
    except Exception as e:  # whatever a bundle does that it should not, the one before goes on
        raise ArtifactError(f"{place}: the bundle cannot be served ({type(e).__name__})") from e


def _try(model: Recommender, users: Sequence[str], items: Sequence[str]) -> None:
    """Ask for lists, reasons and similar items: what is torn in the middle of an array shows as NaN or out of range."""
    for user in {users[0], users[-1]} if users else ():
        for best in model.recommend([user], 1)[0]:
            model.explain(user, best.item)
    model.similar(items[0], 1)
