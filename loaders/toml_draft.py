"""A shop.toml in the making: sections of keys, each with the reason for it as a comment, rendered as TOML."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

WIDTH: Final = 120
BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Entry:
    """One key. why: said beside it. off: an alternative, written as a comment."""

    key: str
    value: object
    why: str = ""
    off: bool = False


@dataclass
class Block:
    """One table: `header` with its brackets, what is said above it, and its keys. off: all of it is an alternative."""

    header: str
    entries: list[Entry] = field(default_factory=list)
    why: Sequence[str] = ()
    off: bool = False

    def add(self, key: str, value: object, why: str = "", *, off: bool = False) -> None:
        """One more key."""
        self.entries.append(Entry(key, value, why, off))

    def get(self, key: str) -> object:
        """What a key says so far, or None."""
        return next((entry.value for entry in self.entries if entry.key == key and not entry.off), None)


def render(title: Sequence[str], blocks: Sequence[Block]) -> str:
    """The whole file."""
    parts = ["\n".join(_comment(line) for line in title), *map(_block, blocks)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    mark = "# " if block.off else ""
    lines, below = [*map(_comment, block.why), mark + block.header], []
    for entry in block.entries:
        text = mark + ("# " if entry.off else "") + f"{_key(entry.key)} = {toml(entry.value)}"
        if isinstance(entry.value, Mapping) and len(text) > WIDTH:  # one line is all TOML allows a table in braces
            below += ["", f"{mark}[{block.header.strip('[]')}.{_key(entry.key)}]"]
            below += [f"{mark}{_key(key)} = {toml(value)}" for key, value in entry.value.items()]
            continue
        why = _comment(entry.why) if entry.why else ""
        if why and len(text) + 2 + len(why) > WIDTH:
            lines.append(why)
            why = ""
        lines.append(f"{text}  {why}".rstrip())
    return "\n".join([*lines, *below])


def toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dt.date | dt.datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {toml(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, int | float):
        return repr(value)
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if BARE.fullmatch(key) else toml(key)


def _comment(text: str) -> str:
    """A comment is one line, and what a file says must not end it."""
    return ("# " + "".join(sign if sign.isprintable() else "?" for sign in text)).rstrip()
