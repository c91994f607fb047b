"""Who comes in, how often, and for how long: what stands before every question.

Keys, rate and body are looked at before a body is read, so somebody without a key costs a hash and nothing more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from ..config import ServeSection
from .keys import Key, Keys
from .telemetry import Visit

WANTED = {"WWW-Authenticate": "Bearer"}  # the page asks for a key where it sees this
Handler = Callable[[Request], Awaitable[Response]]


@dataclass
class Allowance:
    """A token bucket: `rate` requests a second in the long run, twice as many at once."""

    rate: float
    left: float
    at: float

    def take(self, now: float) -> bool:
        """Whether one more request is within it."""
        self.left = min(2 * self.rate, self.left + (now - self.at) * self.rate)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Door:
    """keys: None lets everybody in, which is for loopback alone. Those without a right key share one allowance."""

    def __init__(self, keys: Keys | None, limits: ServeSection) -> None:
        self.keys, self.limits = keys, limits
        self._allowances: dict[str | None, Allowance] = {}

    def admit(self, request: Request, scope: str) -> None:
        """Let this request in.

        Raises:
            HTTPException: 401 no key or a wrong one, 403 a key without this scope, 429 too many requests.
        """
        visit: Visit = request.scope["visit"]
        key = None if self.keys is None else self._key(request, self.keys)
        visit.client = None if key is None else key.name
        now = time.monotonic()
        rate = self.limits.rate_per_s
        if not self._allowances.setdefault(visit.client, Allowance(rate, 2 * rate, now)).take(now):
            said = f"more than {rate:g} requests a second; wait a second and try again"
            raise HTTPException(429, said, {"Retry-After": "1"} | ({} if key or self.keys is None else WANTED))
        if self.keys is None:
            return
        if key is None:
            raise HTTPException(401, "no such key; send one as `Authorization: Bearer KEY`", WANTED)
        if scope not in key.scopes:
            raise HTTPException(403, f"the key {key.name!r} does not have the scope {scope!r}")

    def _key(self, request: Request, keys: Keys) -> Key | None:
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        return keys.holder(secret.strip()) if kind.lower() == "bearer" else None

    async def within(self, handler: Handler, request: Request) -> Response:
        """The answer, or 503 when reading the body and working on it together take too long."""
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                return await handler(request)
        except TimeoutError:
            raise HTTPException(
                503, f"no answer within {self.limits.timeout_s:g} s; ask for less, or later", {"Retry-After": "1"}
            ) from None


def guarded(scope: str) -> type[APIRoute]:
    """A route class whose requests pass the door with this scope before anything of them is read."""

    class Guarded(APIRoute):
        def get_route_handler(self) -> Handler:  # type: ignore[override]
            handler = super().get_route_handler()

            async def behind_the_door(request: Request) -> Response:
                door: Door = request.app.state.door
                door.admit(request, scope)
                return await door.within(handler, request)

            return behind_the_door

    return Guarded
