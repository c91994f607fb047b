"""The application of one process, put together."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version as installed

from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from . import endpoints, telemetry
from .door import Door
from .house import House
from .problems import HANDLERS, InJson, LastResort
from .settings import Serving

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def create_app(serving: Serving) -> FastAPI:
    """The application of one process; it opens the bundle when it starts."""
    door = Door(serving.load_keys(), serving.limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.house = House(serving, door)
        async with app.state.house.open():
            yield
        telemetry.gone(os.getpid())

    app = FastAPI(
        title="Catalograph",
        version=installed("catalograph"),
        summary="Recommendations that can be checked.",
        lifespan=lifespan,
        docs_url=None,  # both pages would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # where to would be an address of this process, which a proxy may hide
    )
    app.state.door = door
    for router in (endpoints.reading, endpoints.feedback, endpoints.figures, endpoints.public):
        app.include_router(router, max_body_size=serving.limits.body_kib * 1024)
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(LastResort)
    if not serving.keyed:  # else a page somebody made could reach us under a name that leads to this machine
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK)
    app.add_middleware(InJson)
    app.add_middleware(telemetry.Telemetry)
    return app
