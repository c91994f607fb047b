"""Changes of a running shop: one JSON object a line, in batches that are taken in whole and once.

    {"batch": "2026-11-27 morning"}
    {"op": "upsert_item", "id": "B1", "properties": {"name": "Blue mug"}, "relations": {"IN_CATEGORY": ["Mugs"]}}
    {"op": "interaction", "user": "17850", "item": "B1", "at": "2026-11-27T09:30:00Z"}

docs/update.md has every kind of change.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..errors import DataError, did_you_mean
from .interactions import moment_ms

Value = str | int | float | bool | None
AHEAD_MS = 86_400_000  # clocks and time zones go wrong by less than a day


def latest(known: int | None = None) -> int:
    """The latest time an interaction may have now, in ms since 1970: a day ahead of the clock, or of the newest known.

    One that claims to be from the far future would end training there, and make all others old.
    """
    return max(time.time_ns() // 1_000_000, known if known is not None else 0) + AHEAD_MS


def _told(moment: int) -> str:
    """A time in ms since 1970 as people write it, where a calendar has it."""
    try:
        return (dt.datetime(1970, 1, 1) + dt.timedelta(milliseconds=moment)).isoformat()
    except OverflowError:
        return str(moment)


def _id(value: object) -> object:
    """Ids are text; a whole number is the id of its digits, as in tables."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("an id is a text or a whole number")
    text = str(value).strip()
    if not is_id(text):
        raise ValueError("an id is not empty, and it is valid Unicode")
    return text


def is_id(text: str) -> bool:
    """Whether a text is an id as it stands: not empty, without spaces around it, valid Unicode."""
    return text != "" and text == text.strip() and _encodes(text)


def _moment(value: object) -> object:
    if isinstance(value, str):
        try:
            return moment_ms(dt.datetime.fromisoformat(value.strip()))
        except (ValueError, OverflowError):
            raise ValueError("a time is ISO 8601 text, or milliseconds since 1970") from None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a time is ISO 8601 text, or milliseconds since 1970")
    return value


def _scalar(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is finite")
    if isinstance(value, str) and not _encodes(value):
        raise ValueError("a text is valid Unicode")
    if not isinstance(value, str | int | float | bool | None):
        raise ValueError("a property is a text, a number, true, false or null")
    return value


def _encodes(text: str) -> bool:
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


Id = Annotated[str, BeforeValidator(_id)]
Moment = Annotated[int, BeforeValidator(_moment), Field(ge=-(2**53), le=2**53)]
Properties = dict[str, Annotated[Any, BeforeValidator(_scalar)]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class End(_Part):
    """A node where the relation alone does not tell its label."""

    label: str
    id: Id


def _end(value: object) -> object:
    return value if isinstance(value, End | Mapping) else _id(value)


Target = Annotated[Id | End, BeforeValidator(_end)]


class UpsertItem(_Part):
    """A new item, or new values of a known one. What is not named stays; a relation that is named is replaced whole."""

    op: Literal["upsert_item"]
    id: Id
    properties: Properties = {}
    relations: dict[str, list[Target]] = {}


class RetireItem(_Part):
    """The item goes, with its relations and its interactions."""

    op: Literal["retire_item"]
    id: Id


class UpsertUser(_Part):
    """A new user, or new values of a known one."""

    op: Literal["upsert_user"]
    id: Id
    properties: Properties = {}


class RetireUser(_Part):
    """The user goes, with all interactions."""

    op: Literal["retire_user"]
    id: Id


class UpsertNode(_Part):
    """A new node of another label (a brand, a category), or new values of a known one."""

    op: Literal["upsert_node"]
    label: str
    id: Id
    properties: Properties = {}


class RetireNode(_Part):
    """A node of another label goes, with its relations."""

    op: Literal["retire_node"]
    label: str
    id: Id


class Relate(_Part):
    """One edge, with exactly these properties. Source and target are items unless a label says otherwise."""

    op: Literal["relate"]
    source: Target
    relation: str
    target: Target
    properties: Properties = {}


class Unrelate(_Part):
    """One edge goes."""

    op: Literal["unrelate"]
    source: Target
    relation: str
    target: Target


class Interaction(_Part):
    """Somebody took, clicked or rated something; see [interactions] of shop.toml for what the shop tells of it."""

    op: Literal["interaction"]
    user: Id
    item: Id
    at: Moment | None = None
    position: Annotated[int, Field(strict=True, ge=-(2**62), le=2**62)] | None = None
    quantity: Annotated[float, Field(allow_inf_nan=False)] | None = None
    kind: str | None = None
    label: Literal[0, 1] | None = None


class RetireInteraction(_Part):
    """All interactions of this user with this item go."""

    op: Literal["retire_interaction"]
    user: Id
    item: Id


KINDS: tuple[type[_Part], ...] = (
    UpsertItem,
    RetireItem,
    UpsertUser,
    RetireUser,
    UpsertNode,
    RetireNode,
    Relate,
    Unrelate,
    Interaction,
    RetireInteraction,
)
Change = (
    UpsertItem
    | RetireItem
    | UpsertUser
    | RetireUser
    | UpsertNode
    | RetireNode
    | Relate
    | Unrelate
    | Interaction
    | RetireInteraction
)
BY_OP: Mapping[str, type[_Part]] = {get_args(kind.model_fields["op"].annotation)[0]: kind for kind in KINDS}


@dataclass(frozen=True)
class Changes:
    """A batch of changes. id: the caller's own; a batch of an id that was taken in before changes nothing.

    places: where each change stands, as messages say it.
    """

    id: str
    changes: tuple[Change, ...]
    places: tuple[str, ...]

    @classmethod
    def of(cls, batch: str, changes: Iterable[Mapping[str, Any]]) -> Changes:
        """From plain dictionaries, as a line of a file has them.

        Raises:
            DataError: naming the change, the field, the value and what to do.
        """
        _check_batch_id(batch, "the batch")
        rows = list(changes)
        places = tuple(f"batch {batch!r}, change {n}" for n in range(1, len(rows) + 1))
        return cls(batch, tuple(map(_change, rows, places)), places)

    def check_times(self, known: int | None) -> None:
        """See :func:`latest`; known: the newest time of the shop's log.

        Raises:
            DataError: naming the first interaction that is later.
        """
        limit = latest(known)
        for change, place in zip(self.changes, self.places, strict=True):
            if isinstance(change, Interaction) and change.at is not None and change.at > limit:
                raise DataError(
                    f"{place}, field 'at': {_told(change.at)} is more than a day in the future; correct the time"
                )

    def text(self) -> str:
        """As lines of a file: :func:`read_changes` gives an equal batch back."""
        rows = [{"batch": self.id}, *(change.model_dump(exclude_unset=True) for change in self.changes)]
        return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def read_changes(file: Path) -> tuple[Changes, ...]:
    """The batches of a JSON Lines file, in order; each begins with a line {"batch": ID}.

    Raises:
        DataError: naming file, line, field and value of the first thing that cannot be used.
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as e:
        raise DataError(f"{file}: byte {e.start} is not UTF-8; save the file as UTF-8") from None
    except OSError as e:
        raise DataError(f"{file}: cannot be read ({e.strerror}); name a file with one JSON object a line") from None
    batches: dict[str, list[tuple[Change, str]]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file}: line {number}"
        row = _object(line, where)
        if "op" not in row and "batch" in row:
            batches[_begun(row, where, batches)] = []
        elif batches:
            batches[next(reversed(batches))].append((_change(row, where), where))
        else:
            raise DataError(f'{where}: no batch has begun; let the first line be {{"batch": "an id of yours"}}')
    if not batches:
        raise DataError(f'{file}: it is empty; let the first line be {{"batch": "an id of yours"}}')
    return tuple(
        Changes(id_, tuple(change for change, _ in held), tuple(place for _, place in held))
        for id_, held in batches.items()
    )


def _begun(row: Mapping[str, Any], where: str, before: Iterable[str]) -> str:
    """The id of a batch that begins."""
    for other in row.keys() - {"batch"}:
        raise DataError(f"{where}: {other!r} beside 'batch'; the first line of a batch holds its id alone")
    _check_batch_id(row["batch"], where)
    if row["batch"] in before:
        raise DataError(f"{where}: batch {row['batch']!r} begins a second time; give every batch an id of its own")
    return str(row["batch"])


def _check_batch_id(id_: object, where: str) -> None:
    if not isinstance(id_, str) or not id_.strip() or len(id_) > 200 or not id_.isprintable() or not _encodes(id_):
        raise DataError(f"{where}: {id_!r} is no batch id; use a printable text of at most 200 characters")


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as e:
        raise DataError(f"{where}: no JSON ({str(e).splitlines()[0]}); write one object a line") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: a {type(row).__name__}; write one JSON object a line")
    return row


def _change(row: Mapping[str, Any], where: str) -> Change:
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: {row!r} is no change; a change is a dictionary with 'op'")
    op = row.get("op")
    if not isinstance(op, str) or op not in BY_OP:
        hint = did_you_mean(op, BY_OP) if isinstance(op, str) else "; known: " + ", ".join(BY_OP)
        raise DataError(f"{where}, field 'op': {op!r} is no change{hint}")
    try:
        made = BY_OP[op].model_validate(dict(row))
    except ValidationError as e:
        raise DataError(f"{where}, {_complaint(e, BY_OP[op])}") from None
    return cast(Change, made)


def _complaint(error: ValidationError, kind: type[_Part]) -> str:
    """The first thing that is wrong; unknown fields first, for they explain the rest."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    field = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"field {field!r}: there is no such field{did_you_mean(field, kind.model_fields)}"
    if first["type"] == "missing":
        return f"field {field!r} is missing"
    shown = repr(first.get("input"))
    return f"field {field!r}: {shown[:80]}: {first['msg'].removeprefix('Value error, ')}"
