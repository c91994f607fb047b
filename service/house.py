"""What is alive while the service runs: the model, the log of events, the threads, and who looks after them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from fastapi import Request

from ..errors import ConfigError
from ..loaders.feedback import Event, FeedbackLog
from . import desk, telemetry
from .door import Door
from .gather import Crew, Gatherer
from .keys import renewed
from .settings import Serving
from .shelf import Shelf

LOG = logging.getLogger(__name__)
CALL = 32  # customers, or requests with events, of one call; what it holds in memory grows with them


class House:
    """What is alive while the service runs.

    Raises:
        CatalographError: the bundle, the keys or the log of events cannot be used.
    """

    def __init__(self, serving: Serving, door: Door) -> None:
        self.serving, self.door = serving, door
        waiting = serving.limits.waiting
        self.shelf, self.log = Shelf(serving.folder), FeedbackLog(serving.folder)
        self.lists: Gatherer[desk.Wanted, desk.Listing] = Gatherer(
            desk.recommend, most=CALL, waiting=waiting, weigh=lambda wanted: len(wanted.users)
        )
        self.events: Gatherer[Sequence[Event], int] = Gatherer(self.log.append, most=CALL, waiting=waiting)
        self.crew = Crew(2, waiting)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Work until the block ends."""
        tasks = [asyncio.create_task(work) for work in (self.lists.run(), self.events.run(), self._watch())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for part in (self.lists, self.events, self.crew, self.log):
                part.close()

    async def _watch(self) -> None:
        """Look for a new version and for changed keys, beside the requests."""
        while True:
            await asyncio.sleep(self.serving.limits.poll_s)
            for look in (self.shelf.refresh, self._renew_keys):
                try:
                    await asyncio.to_thread(look)
                except Exception:  # of a look; the next one may succeed, and requests go on
                    LOG.exception("watching")

    def _renew_keys(self) -> None:
        if self.door.keys is None:
            return
        try:
            self.door.keys = renewed(self.door.keys)
        except ConfigError as e:  # a slip of the pen shuts nobody out, and keeps nobody in who was taken out
            self.door.keys = self.door.keys.left()
            LOG.error("keys", extra={"told": {"why": str(e)}})

    def note(self, request: Request, users: Sequence[str]) -> None:
        """Have the log tell whom this request was about, masked."""
        visit: telemetry.Visit = request.scope["visit"]
        visit.users = [telemetry.masked(user, self.serving.salt) for user in users[:5]]
