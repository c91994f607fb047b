"""The questions there are. Each keeps the edition of the model it began with to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response, Security
from fastapi.security import HTTPBearer

from . import desk, telemetry, wire
from .door import guarded
from .house import House
from .problems import PROBLEMS, UNKNOWN
from .shelf import Edition

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)


def _house(request: Request) -> House:
    house: House = request.app.state.house
    return house


Open = Annotated[House, Depends(_house)]
KEY = Security(HTTPBearer(auto_error=False, scheme_name="key"))  # tells OpenAPI; the door does the looking
reading = APIRouter(route_class=guarded("read"), dependencies=[KEY], responses=PROBLEMS, tags=["questions"])
feedback = APIRouter(route_class=guarded("events"), dependencies=[KEY], responses=PROBLEMS, tags=["feedback"])
figures = APIRouter(route_class=guarded("metrics"), dependencies=[KEY], tags=["operation"])
public = APIRouter()


@reading.post("/recommend", responses=UNKNOWN)
async def recommend(ask: wire.ForUsers | wire.ForHistory, house: Open, request: Request) -> wire.Lists:
    """The best items for customers, or for a history nobody has seen; what they have is left out."""
    edition = house.shelf.current
    if isinstance(ask, wire.ForHistory):
        found = await house.crew.do(lambda: _for_history(edition, ask))
        return wire.Lists(version=edition.version, lists=[wire.Listed(user=None, items=found)])
    house.note(request, ask.users)
    desk.check(edition, users=ask.users, k=ask.k)
    wanted = desk.Wanted(edition, tuple(ask.users), ask.k, desk.Shape.of(ask))
    lists = await house.lists.ask(wanted)
    listed = [
        wire.Listed(user=user, items=desk.places(edition, found, ask.terms))
        for user, found in zip(ask.users, lists, strict=True)
    ]
    return wire.Lists(version=edition.version, lists=listed)


def _for_history(edition: Edition, ask: wire.ForHistory) -> list[wire.Place]:
    desk.check(edition, items=ask.history, k=ask.k)
    found = edition.model.recommend_for(ask.history, ask.k, features=ask.features, **desk.Shape.of(ask).told)
    return desk.places(edition, found, ask.terms)


@reading.post("/similar", responses=UNKNOWN)
async def similar(ask: wire.ForItem, house: Open) -> wire.Similar:
    """Items the model puts next to one."""
    edition = house.shelf.current

    def found() -> list[wire.Place]:
        desk.check(edition, items=[ask.item], k=ask.k)
        near = edition.model.similar(ask.item, ask.k, **desk.Shape.of(ask).told)
        return desk.places(edition, near, ask.terms)

    return wire.Similar(version=edition.version, items=await house.crew.do(found))


@reading.post("/explain", responses=UNKNOWN)
async def explain(ask: wire.WhyForUser | wire.WhyForHistory, house: Open, request: Request) -> wire.Why:
    """The terms of one score, the history items behind it, and the way through the graph as Cypher."""
    edition = house.shelf.current
    users = [ask.user] if isinstance(ask, wire.WhyForUser) else []
    house.note(request, users)
    desk.check(edition, users=users, items=[ask.item, *getattr(ask, "history", ())])
    return await house.crew.do(lambda: desk.explain(edition, ask))


@reading.post("/score", responses=UNKNOWN)
async def score(ask: wire.Pairs, house: Open, request: Request) -> wire.Scores:
    """The score of every user for every item, seen or not."""
    edition = house.shelf.current
    house.note(request, ask.users)
    desk.check(edition, users=ask.users, items=ask.items)
    return await house.crew.do(lambda: desk.score(edition, ask))


@reading.post("/score_new", responses=UNKNOWN)
async def score_new(ask: wire.NewForUsers | wire.NewForHistory, house: Open, request: Request) -> wire.Scores:
    """The scores of items the shop does not have yet, on the scale of the others."""
    edition = house.shelf.current
    users = ask.users if isinstance(ask, wire.NewForUsers) else []
    house.note(request, users)
    desk.check(edition, users=users, items=getattr(ask, "history", ()))
    return await house.crew.do(lambda: desk.score_new(edition, ask))


@reading.post("/search")
async def search(ask: wire.Search, house: Open) -> wire.Found:
    """Items or customers by what their id and title hold."""
    edition = house.shelf.current
    names = edition.items if ask.what == "items" else edition.users
    found = await house.crew.do(lambda: names.search(ask.text, ask.n))
    return wire.Found(found=[wire.Named(id=id_, title=title) for id_, title in found])


@reading.post("/history", responses=UNKNOWN)
async def history(ask: wire.OneUser, house: Open, request: Request) -> wire.Found:
    """What a customer has, oldest first."""
    edition = house.shelf.current
    house.note(request, [ask.user])
    desk.check(edition, users=[ask.user])
    return wire.Found(found=await house.crew.do(lambda: desk.history(edition, ask.user)))


@feedback.post("/events")
async def events(ask: wire.Feedback, house: Open, request: Request) -> wire.Kept:
    """What customers did. Answered when it is on the disk; all events of a request are kept, or none."""
    house.note(request, [told.user for told in ask.events])
    new = await house.events.ask([told.event() for told in ask.events])
    known = len(ask.events) - new
    telemetry.EVENTS.labels("new").inc(new)
    telemetry.EVENTS.labels("known").inc(known)
    return wire.Kept(new=new, known=known)


SEEN: dict[int | str, dict[str, Any]] = {status: PROBLEMS[status] for status in (401, 403, 429, 503)}
SEEN[200] = {"content": {"text/plain": {"schema": {"type": "string"}}}}


class Exposition(Response):
    """Prometheus's text format."""

    media_type = "text/plain"


@figures.get("/metrics", response_class=Exposition, responses=SEEN)
async def metrics() -> Exposition:
    """Figures for Prometheus."""
    return Exposition(await asyncio.to_thread(telemetry.figures))


@public.get("/health", tags=["operation"])
async def health() -> wire.Alive:
    """The process answers."""
    return wire.Alive(status="ok")


@public.get("/ready", tags=["operation"])
async def ready(house: Open) -> wire.State:
    """A model is loaded; a process that cannot load one does not start."""
    return wire.State(status="ok", version=house.shelf.current.version)


def _file(name: str, kind: str) -> Callable[[], Any]:
    content = files(__package__).joinpath(name).read_bytes()

    async def page() -> Response:
        """A part of the page."""
        return Response(content, media_type=kind, headers={"Content-Security-Policy": PAGE_POLICY})

    return page


for path, name, kind in (
    ("/", "page.html", "text/html; charset=utf-8"),
    ("/page.js", "page.js", "text/javascript; charset=utf-8"),
    ("/page.css", "page.css", "text/css; charset=utf-8"),
):
    public.get(path, include_in_schema=False)(_file(name, kind))
