"""The text of a node: its own properties and the names of its neighbours, as one line for the encoder."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from html import unescape

import numpy as np

from ..errors import ConfigError, did_you_mean
from ..kg.snapshot import Snapshot
from ..loaders.catalogue import EdgeKey

NEIGHBOURS = 3  # names of one relation that enter the text, in id order
SEPARATOR = " | "
LONGEST = 4_000  # characters of a text; no encoder reads more of it than a few hundred words
UNSEEN = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
TAG = re.compile(r"<[/!]?[A-Za-z][^<>]*>")  # and not "size < 5"


def compose(snapshot: Snapshot, label: str, fields: Sequence[str]) -> list[str]:
    """One text per row of `label`: the fields in order, joined by " | ", empty ones left out.

    A field is a string property, or a relation type, for which the names (else ids) of up to three neighbours are
    joined by ", ". All of it is :func:`clean`.

    Raises:
        ConfigError: a field is neither.
    """
    return [joined(parts) for parts in parts_of(snapshot, label, fields)]


def parts_of(snapshot: Snapshot, label: str, fields: Sequence[str]) -> list[tuple[str, ...]]:
    """What a text of :func:`compose` is made of, per row; equal parts are equal texts."""
    columns = [_column(snapshot, label, field) for field in fields] or [[""] * len(snapshot.ids[label])]
    return list(zip(*columns, strict=True))


def joined(parts: Sequence[str]) -> str:
    """The text of one row's parts."""
    return SEPARATOR.join(filter(None, map(clean, parts)))


def clean(text: str) -> str:
    """Words as a person reads them: without markup, entities and control characters, blanks single, cut at LONGEST.

    What a browser shows nobody (scripts, styles, comments) is not read. Other alphabets and emoji stay; letters
    are composed (NFC), so that equal words are equal.
    """
    plain = TAG.sub(" ", UNSEEN.sub(" ", unescape(text[: 4 * LONGEST])))
    plain = "".join(c if unicodedata.category(c) not in ("Cc", "Cs", "Co") else " " for c in plain)
    return " ".join(unicodedata.normalize("NFC", plain).split())[:LONGEST]


def _column(snapshot: Snapshot, label: str, field: str) -> list[str]:
    node = snapshot.data[label]
    if field in node and isinstance(node[field], list):
        return list(node[field])
    keys = [key for key in snapshot.relations() if key.source == label and key.relation == field]
    if not keys:
        known = [name for name in node.keys() if isinstance(node[name], list)]  # noqa: SIM118
        known += [key.relation for key in snapshot.relations() if key.source == label]
        raise ConfigError(f"encoder.text names {field!r}, no text of {label}{did_you_mean(field, known)}")
    found: list[list[str]] = [[] for _ in range(len(snapshot.ids[label]))]
    for key in keys:
        for row, name in _first_neighbours(snapshot, key):
            if len(found[row]) < NEIGHBOURS:
                found[row].append(name)
    return [", ".join(names) for names in found]


def _first_neighbours(snapshot: Snapshot, key: EdgeKey) -> Iterator[tuple[int, str]]:
    """(row, name of the neighbour) for the first few neighbours of each row; edges are sorted by source and target."""
    source, target = snapshot.relation(key).numpy()
    first = np.arange(len(source)) - np.searchsorted(source, source) < NEIGHBOURS
    names = snapshot.called(key.target)
    for row, neighbour in zip(source[first].tolist(), target[first].tolist(), strict=True):
        yield row, names[neighbour]
