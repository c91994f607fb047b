"""What the service says of itself: figures for Prometheus, and a log of one JSON object a line.

No log line holds an id of a customer: ids are hashed with a salt that is drawn when the service starts, so lines of one
customer can be told to belong together, and nothing more. Exceptions are logged as their kind and place; their messages
may quote what was asked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import time
import traceback
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "catalograph"
REGISTRY = CollectorRegistry()
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
REQUESTS = Counter(f"{PREFIX}_requests", "Requests answered.", ["endpoint", "status"], registry=REGISTRY)
LATENCY = Histogram(
    f"{PREFIX}_request_seconds",
    "From the first byte in to the last out.",
    ["endpoint"],
    registry=REGISTRY,
    buckets=SECONDS,
)
CALLS = Histogram(
    f"{PREFIX}_call_requests",
    "Requests to /recommend that went together into one call of the model.",
    registry=REGISTRY,
    buckets=(1, 2, 4, 8, 16, 32),
)
EVENTS = Counter(f"{PREFIX}_events", "Feedback events, new or known already.", ["outcome"], registry=REGISTRY)
SWAPS = Counter(f"{PREFIX}_swaps", "Published versions taken up, or refused.", ["outcome"], registry=REGISTRY)
BUNDLE = Gauge(
    f"{PREFIX}_bundle_number",
    "Number of the served version; with several workers the oldest any serves.",
    registry=REGISTRY,
    multiprocess_mode="livemin",
)
LOADED = Gauge(
    f"{PREFIX}_bundle_loaded_timestamp_seconds",
    "When the served version was taken up.",
    registry=REGISTRY,
    multiprocess_mode="livemin",
)
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # where workers put their figures together; prometheus_client reads it on import
SECURE = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}
LOG = logging.getLogger(__name__)


def now_serving(number: int) -> None:
    """Set the gauges of the served version."""
    BUNDLE.set(number)
    LOADED.set(time.time())


def figures() -> bytes:
    """All figures as Prometheus reads them; of all workers, where there are several."""
    if SHARED not in os.environ:
        return generate_latest(REGISTRY)
    together = CollectorRegistry()
    multiprocess.MultiProcessCollector(together)
    return generate_latest(together)


def gone(process: int) -> None:
    """Take a process out of the figures that speak of living workers."""
    if SHARED in os.environ:
        multiprocess.mark_process_dead(process)


@dataclass
class Visit:
    """One request as the log tells it. client: the name of the key. users: masked."""

    request: str = field(default_factory=lambda: secrets.token_hex(8))
    client: str | None = None
    users: list[str] = field(default_factory=list)


def masked(id_: str, salt: bytes) -> str:
    """The same for the same id until the service starts again; nobody without the salt can compute it."""
    return hashlib.blake2b(id_.encode("utf-8"), key=salt, digest_size=6).hexdigest()


class Telemetry:
    """Around everything: numbers the request, counts, times and logs it, and sets the headers all answers have."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = scope["visit"] = Visit()
        status, start = 500, time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name.lower() for name, _ in message["headers"]}
                more = {**SECURE, b"x-request-id": visit.request.encode()}
                message["headers"] = [*message["headers"], *(h for h in more.items() if h[0] not in own)]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            self._tell(scope, visit, status, time.perf_counter() - start)

    def _tell(self, scope: MutableMapping[str, Any], visit: Visit, status: int, seconds: float) -> None:
        endpoint = getattr(scope.get("route"), "path", "other")  # never the path as asked: anybody may make one up
        REQUESTS.labels(endpoint, str(status)).inc()
        LATENCY.labels(endpoint).observe(seconds)
        told: dict[str, Any] = {
            "request": visit.request,
            "client": visit.client,
            "endpoint": endpoint,
            "status": status,
            "ms": round(1000 * seconds, 2),
        }
        LOG.info("request", extra={"told": told | ({"users": visit.users} if visit.users else {})})


class JsonLines(logging.Formatter):
    """A record as one JSON object; `extra={"told": {…}}` adds its entries."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "at": at,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "process": record.process,
        }
        line |= getattr(record, "told", {})
        if record.exc_info and record.exc_info[0] is not None:
            frames = traceback.extract_tb(record.exc_info[2])
            line["error"] = record.exc_info[0].__name__
            line["where"] = [f"{os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in frames[-8:]]
        return json.dumps(line)


LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"lines": {"()": JsonLines}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "lines", "stream": "ext://sys.stderr"}},
    "loggers": {
        name: {"handlers": ["stderr"], "level": "INFO", "propagate": False}
        for name in ("uvicorn", "py.warnings", __package__)
    },
    "root": {"handlers": ["stderr"], "level": "WARNING"},
}
