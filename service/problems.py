"""How errors are told: one line of JSON, and what of it OpenAPI promises."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from ..errors import CatalographError, ConfigError, DataError, UnknownIdError
from . import telemetry, wire
from .gather import BusyError

LOG = logging.getLogger(__name__)
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": wire.Problem, "description": "The body is no JSON."},
    401: {"model": wire.Problem, "description": "No key, or none we know."},
    403: {"model": wire.Problem, "description": "The key lacks the scope."},
    413: {"model": wire.Problem, "description": "The body is too large."},
    422: {"model": wire.Problem, "description": "A value is out of its limits, or a filter does not parse."},
    429: {"model": wire.Problem, "description": "Too many requests of this key."},
    503: {"model": wire.Problem, "description": "Too much to do at the moment, or it took too long."},
}
UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": wire.Problem, "description": "An id nobody knows."}}


def _problem(status: int, detail: str) -> JSONResponse:
    detail = detail.encode("utf-8", "replace").decode()  # half a surrogate pair in a key of the body
    return JSONResponse({"detail": detail}, status, headers={"Retry-After": "1"} if status == 503 else None)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])[:200]
    return _problem(422, f"{place}: {first['msg']}")


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """What a caller can fix, and what the disk refuses; any other error of ours is our fault."""
    if isinstance(error, UnknownIdError):
        return _problem(404, str(error))
    if isinstance(error, ConfigError):
        return _problem(422, str(error))
    if isinstance(error, DataError):
        LOG.error("events", extra={"told": {"why": str(error)}})
        return _problem(503, "the events were not kept; send them again later")
    return await _our_fault(request, error)


async def _busy(request: Request, error: Exception) -> JSONResponse:
    return _problem(503, "too many requests wait; try again in a second")


async def _our_fault(request: Request, error: Exception) -> JSONResponse:
    visit: telemetry.Visit = request.scope["visit"]
    LOG.error("failed", exc_info=error, extra={"told": {"request": visit.request}})
    return _problem(500, f"our fault; the log has it as request {visit.request}")


HANDLERS: dict[type[Exception], Callable[[Request, Exception], Any]] = {
    RequestValidationError: _invalid,
    CatalographError: _refused,
    BusyError: _busy,
    Exception: _our_fault,
}
