"""What can go wrong, as one tree.

CatalographError
├── ConfigError          a setting is unknown, mistyped or contradicts another one
├── DataError            a file of the shop cannot be used as described (file, row, column, value)
├── GraphError           the graph breaks its schema or the store refuses
│   ├── UnknownIdError   an id the graph does not hold
│   ├── QueryError       a query an analyst may not run, or one that does not run
│   └── StoreError       the store is down, locked or does not hold what it should
├── ArtifactError        a saved bundle is missing a part or does not fit this code
└── MissingExtraError    an optional dependency is not installed

Every message is one line that finishes the reader's sentence: what was asked, what was found where, what to do.
The command line prints it and exits with 2; anything outside this tree is our fault and exits with 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "ArtifactError",
    "CatalographError",
    "ConfigError",
    "DataError",
    "GraphError",
    "MissingExtraError",
    "QueryError",
    "StoreError",
    "UnknownIdError",
    "did_you_mean",
]


class CatalographError(Exception):
    """The caller can fix this; the message says how."""


class ConfigError(CatalographError):
    """A setting is unknown, mistyped or contradicts another one."""


class DataError(CatalographError):
    """A file of the shop cannot be used as described."""


class GraphError(CatalographError):
    """The graph breaks its schema or the store refuses."""


class UnknownIdError(GraphError):
    """An id the graph does not hold."""


class QueryError(GraphError):
    """A query an analyst may not run, or one that does not run."""


class StoreError(GraphError):
    """The store is down, locked or does not hold what it should."""


class ArtifactError(CatalographError):
    """A saved bundle is missing a part or does not fit this code."""


class MissingExtraError(CatalographError):
    """An optional dependency is not installed."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``", did you mean 'x'?"`` for the nearest known word, in any case, else ``"; known: a, b, c"`` (at most ten)."""
    choices = sorted(known)
    folded = {choice.casefold(): choice for choice in choices}
    nearest = get_close_matches(word.casefold(), folded, 1)
    if nearest:
        return f", did you mean {folded[nearest[0]]!r}?"
    shown = ", ".join(choices[:10]) + (", …" if len(choices) > 10 else "")
    shown = "".join(sign if sign.isprintable() else "?" for sign in shown)  # names in files may hold line ends
    return f"; known: {shown}" if shown else ""
