"""How errors are told: one line of JSON, and what of it OpenAPI promises."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import CatalographError, ConfigError, DataError, UnknownIdError, did_you_mean
from . import telemetry, wire
from .gather import BusyError

LOG = logging.getLogger(__name__)
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {
        "model": wire.Problem,
        "description": "The body cannot be read, or the host is not this machine.",
    },
    401: {"model": wire.Problem, "description": "No key, or none we know."},
    403: {"model": wire.Problem, "description": "The key lacks the scope."},
    413: {"model": wire.Problem, "description": "The body is too large."},
    422: {"model": wire.Problem, "description": "A value is out of its limits, or a filter does not parse."},
    429: {"model": wire.Problem, "description": "Too many requests of this key."},
    503: {"model": wire.Problem, "description": "Too much to do at the moment, or it took too long."},
}
PLAIN = {400: "this is not a name of the service; ask for localhost", 413: "the body is too large"}
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": wire.Problem, "description": "An id nobody knows."}}


def _problem(status: int, detail: str) -> JSONResponse:
    detail = detail.encode("utf-8", "replace").decode()  # half a surrogate pair in a key of the body
    return JSONResponse({"detail": detail}, status, headers={"Retry-After": "1"} if status == 503 else None)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    first = _first_complaint(found)
    place = ".".join(str(part) for part in first["loc"])[:200]
    return _problem(422, f"{place}: {first['msg'].removeprefix('Value error, ')}{_meant(first, found)}")


def _meant(first: dict[str, Any], found: Sequence[dict[str, Any]]) -> str:
    """A hint for a field that is not there, among those of all bodies the question could have been."""
    if first["type"] != "extra_forbidden" or len(first["loc"]) > 3:  # deeper ones are fields of other tables
        return ""
    bodies = [_body(part) for complaint in found for part in complaint["loc"][1:2]]
    fields = {name for body in bodies if body is not None for name in body.model_fields}
    name = str(first["loc"][-1])
    return f": {name} is of another question" if name in fields else did_you_mean(name, fields) if fields else ""


def _body(part: object) -> type[wire.Asked] | None:
    """The body that a part of a complaint's place names; it may as well be a field the caller has made up."""
    named = getattr(wire, str(part), None)
    return named if isinstance(named, type) and issubclass(named, wire.Asked) else None


def _first_complaint(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Where a question has several bodies each of them complains: what was meant is the one with the fewest to say."""
    places = (complaint["loc"][:2] for complaint in found)
    bodies = Counter(place for place in places if _body(place[-1]) is not None)
    if not bodies:
        return found[0]
    meant = min(bodies, key=lambda body: bodies[body])  # of equals the first
    return next(complaint for complaint in found if complaint["loc"][:2] == meant)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """What a caller can fix, and what the disk refuses; any other error of ours is our fault."""
    if isinstance(error, UnknownIdError):
        return _problem(404, str(error))
    if isinstance(error, ConfigError):
        return _problem(422, str(error))
    if isinstance(error, DataError):
        LOG.error("events", extra={"told": {"why": str(error)}})
        return _problem(503, "the events were not kept; send them again later")
    return _our_fault(request.scope["visit"], error)


async def _busy(request: Request, error: Exception) -> JSONResponse:
    return _problem(503, "too many requests wait; try again in a second")


def _our_fault(visit: telemetry.Visit, error: Exception) -> JSONResponse:
    LOG.error("failed", exc_info=error, extra={"told": {"request": visit.request}})
    return _problem(500, f"our fault; the log has it as request {visit.request}")


HANDLERS: dict[type[Exception], Callable[[Request, Exception], Any]] = {
    RequestValidationError: _invalid,
    CatalographError: _refused,
    BusyError: _busy,
}


class InJson:
    """Says in JSON what Starlette's own parts say in plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        said = False

        async def sending(message: Message) -> None:
            nonlocal said
            if said:  # the plain text
                return
            if message["type"] == "http.response.start" and message["status"] in PLAIN and _is_plain(message):
                said = True
                await _problem(message["status"], PLAIN[message["status"]])(scope, receive, send)
            else:
                await send(message)

        await self._app(scope, receive, sending)


def _is_plain(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/plain")


class LastResort:
    """Answers for what nobody has caught. Starlette's own place for that lies outside of Telemetry, so its answers
    would lack the headers all others have."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as e:
            if begun or scope["type"] != "http":
                raise
            await _our_fault(scope["visit"], e)(scope, receive, send)
