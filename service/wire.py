"""What goes over the wire: questions and answers, with limits and examples. All of it ends up in /openapi.json."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from ..loaders.changes import is_id, latest
from ..loaders.feedback import Event, Kind

MOST = 100  # ids, or events, in one request
Id = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Ids = Annotated[list[Id], Field(min_length=1, max_length=MOST)]
K = Annotated[int, Field(ge=1, le=MOST, description="How many items.")]
MaybeIds = Annotated[list[Id], Field(max_length=MOST)]
Attributes = Annotated[dict[Id, Ids], Field(max_length=20)]
Diversify = Annotated[
    float, Field(ge=0, le=1, description="How much an item loses for being like the ones listed before it.")
]
Cap = Annotated[
    dict[Id, Annotated[int, Field(ge=1)]],
    Field(max_length=20, description="Property or relation: at most so many items of one value."),
]
Where = Annotated[
    str | None, Field(max_length=2_000, description="A filter over the items' properties: price < 5 and name != 'x'.")
]


def _plain(text: str) -> str:
    if not is_id(text):
        raise ValueError("an id is not empty and has no spaces around it")
    return text


def _past(moment: datetime) -> datetime:
    if moment.timestamp() * 1000 > latest():
        raise ValueError("a time is at most a day in the future")
    return moment


PlainId = Annotated[Id, AfterValidator(_plain)]
USER, ITEM, OTHER = "17850", "RED RETROSPOT MUG", "RED RETROSPOT PLATE"


class Asked(BaseModel):
    """A body; what it does not know is refused."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class Listing(Asked):
    """What lists are to be like."""

    k: K = 10
    where: Where = None
    diversify: Diversify = 0.0
    cap: Cap = {}
    exclude: MaybeIds = Field([], description="Items that these lists are not to have, such as what lies in the cart.")
    terms: bool = Field(False, description="Each term's part of every score; they add up to it.")


class ForUsers(Listing):
    """The best items for customers the model knows."""

    model_config = ConfigDict(json_schema_extra={"example": {"users": [USER], "k": 3, "where": "price < 5"}})
    users: Ids


class _Newcomer(Asked):
    history: MaybeIds = Field([], description="What they have, oldest first.")
    features: Attributes = Field({}, description="What they like: relation and ids; a value counts like one item.")


class ForHistory(_Newcomer, Listing):
    """The best items for somebody never seen; where nothing is known of them, what most people took lately."""

    model_config = ConfigDict(json_schema_extra={"example": {"history": [ITEM], "k": 3, "cap": {"IN_PRICE_BAND": 2}}})


class ForItem(Listing):
    """Items the model puts next to one."""

    model_config = ConfigDict(json_schema_extra={"example": {"item": ITEM, "k": 3}})
    item: Id


class _Why(Asked):
    item: Id
    most: int = Field(5, ge=1, le=20, description="How many reasons, and paths.")


class WhyForUser(_Why):
    """Why a customer is shown an item."""

    model_config = ConfigDict(json_schema_extra={"example": {"user": USER, "item": ITEM}})
    user: Id


class WhyForHistory(_Newcomer, _Why):
    """Why somebody with this history and taste is shown an item; one of the two is needed."""

    model_config = ConfigDict(json_schema_extra={"example": {"history": [OTHER], "item": ITEM}})


class Pairs(Asked):
    """Every user with every item."""

    model_config = ConfigDict(json_schema_extra={"example": {"users": [USER], "items": [ITEM, OTHER]}})
    users: Ids
    items: Ids


class NewItem(Asked):
    """An item the shop does not have yet; either part may be missing.

    text: what the encoder reads of an item, else its title. attributes: relation and ids.
    """

    text: str = Field("", max_length=10_000)
    attributes: Attributes = {}


NewItems = Annotated[list[NewItem], Field(min_length=1, max_length=MOST)]
NEW: list[JsonValue] = [{"text": "RED RETROSPOT EGG CUP"}]


class NewForUsers(Asked):
    """Every user with every new item."""

    model_config = ConfigDict(json_schema_extra={"example": {"users": [USER], "items": NEW}})
    users: Ids
    items: NewItems


class NewForHistory(_Newcomer):
    """Somebody never seen with every new item; a history or a taste is needed."""

    model_config = ConfigDict(json_schema_extra={"example": {"history": [ITEM], "items": NEW}})
    items: NewItems


class Search(Asked):
    """Ids and titles that hold every word of a text."""

    model_config = ConfigDict(json_schema_extra={"example": {"what": "items", "text": "retrospot mug", "n": 5}})
    what: Literal["items", "users"]
    text: str = Field(max_length=200)
    n: int = Field(20, ge=1, le=MOST)


class OneUser(Asked):
    """A customer the model knows."""

    model_config = ConfigDict(json_schema_extra={"example": {"user": USER}})
    user: Id


class Told(Asked):
    """One thing a customer did. The first event of an id counts; the same id again changes nothing."""

    id: Annotated[Id, Field(description="Your own, once for ever; sent again after a lost answer, it counts once.")]
    user: PlainId
    item: PlainId
    kind: Kind
    at: Annotated[AwareDatetime, AfterValidator(_past)] | None = Field(
        None, description="When, with its offset from UTC; default: now."
    )
    quantity: float = Field(1.0, gt=0, le=1e9)
    recommendation: str | None = Field(None, max_length=64, description="`recommendation` of the list that led here.")
    version: str | None = Field(None, max_length=64, description="`version` of the answer that led here.")
    place: int | None = Field(None, ge=1, le=10_000, description="Place in that list, 1 is the best.")

    def event(self) -> Event:
        """As the log keeps it."""
        at = self.at if self.at is not None else datetime.now(UTC)
        fields = self.model_dump(exclude={"at"})
        return Event(at=int(at.timestamp() * 1000), **fields)


class Feedback(Asked):
    """Events, kept all or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "events": [
                    {"id": "s-77/1", "user": USER, "item": ITEM, "kind": "shown", "recommendation": "9f2c", "place": 1},
                    {
                        "id": "order-5531/1",
                        "user": USER,
                        "item": ITEM,
                        "kind": "purchase",
                        "at": "2026-11-24T10:00:00Z",
                    },
                ]
            }
        }
    )
    events: list[Told] = Field(min_length=1, max_length=MOST)


class Place(BaseModel):
    """One place of a list. terms: asked for by `terms`."""

    item: str
    title: str
    score: float
    terms: dict[str, float] | None = None


class Listed(BaseModel):
    """A list, best first. recommendation: its id, for the events it leads to. user: null when a history was asked
    about."""

    recommendation: str = Field(default_factory=lambda: secrets.token_hex(8))
    user: str | None
    items: list[Place]


class Lists(BaseModel):
    """One list per user asked for, in that order. version: of the model that made them."""

    version: str
    lists: list[Listed]


class Similar(BaseModel):
    """Best first. recommendation: the list's id, for the events it leads to."""

    version: str
    recommendation: str = Field(default_factory=lambda: secrets.token_hex(8))
    items: list[Place]


class Step(BaseModel):
    """An edge of a path: `relation` from node `source` to node `target`, numbers into `nodes`."""

    source: int
    target: int
    relation: str


class Path(BaseModel):
    """A way through the graph from the user, or from a history item of somebody never seen, to the item.

    because: the history item it leads over. nodes: ids from one end to the other; an item's is its title. triples: the
    edges as the graph has them, by ids. score: what the terms that walk this way add for that history item. cypher:
    answers the path's edges, one a row, when run on the shop's graph with `parameters`.
    """

    because: str
    sentence: str
    score: float
    nodes: list[str]
    triples: list[tuple[str, str, str]]
    steps: list[Step]
    cypher: str
    parameters: dict[str, str]


class Reason(BaseModel):
    """One history item's part of the score."""

    because: str
    title: str
    term: str
    score: float


class Why(BaseModel):
    """score is the sum of the terms; reasons are its largest positive parts; paths are in the graph, best first. words:
    what each term computes, for people."""

    version: str
    item: str
    title: str
    score: float
    terms: dict[str, float]
    words: dict[str, str]
    reasons: list[Reason]
    paths: list[Path]


class Scores(BaseModel):
    """scores[u][i]: of user u for item i, in the order asked; one row for somebody never seen."""

    version: str
    scores: list[list[float]]


class Named(BaseModel):
    """An id and what people call it."""

    id: str
    title: str


class Found(BaseModel):
    """In the order of the ids, a whole id first."""

    found: list[Named]


class Kept(BaseModel):
    """new: events kept now; known: ids that had been kept before."""

    new: int
    known: int


class State(BaseModel):
    """version: of the model served."""

    status: Literal["ok"]
    version: str


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Problem(BaseModel):
    """detail: one line that says what was asked, what was found, and what to do."""

    detail: str
