"""Why an item is in a list: the terms of its score, the history items behind them, and the graph path as Cypher."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from ..config import BasketsSection
from .model import Model
from .terms import Term, family

ProfileRow = Mapping[str, sp.csr_matrix]


@dataclass(frozen=True)
class Reason:
    """One history item's part of a score. path: Cypher pattern that links it to the item; None for text and factors."""

    because: str
    score: float
    term: str
    path: str | None


@dataclass(frozen=True)
class Explanation:
    """score = sum(terms.values()) to float tolerance; reasons are the largest positive parts of it."""

    item: str
    score: float
    terms: dict[str, float]
    reasons: tuple[Reason, ...]


def pattern_of(  # noqa: PLR0911  a line per walk
    term: Term, item_label: str, user_label: str, baskets: BasketsSection | None
) -> str | None:
    """The graph pattern a term walks, as Cypher between (a), a history item, and (b), the recommended one."""
    name = family(term).removeprefix("fresh_")
    a, b = f"(a:{_quoted(item_label)})", f"(b:{_quoted(item_label)})"
    kind, _, relation = name.partition(":")
    relation = _quoted(relation)
    if kind == "share":
        return f"{a}-[:{relation}]->(x)<-[:{relation}]-{b}"
    if kind in ("to", "twice"):
        return f"{a}-[:{relation}]->{b}" if kind == "to" else f"{a}-[:{relation}]-(x)-[:{relation}]-{b}"
    if kind == "from":
        return f"{a}<-[:{relation}]-{b}"
    if kind == "cited":
        return f"{a}<-[:{relation}]-(x)-[:{relation}]->{b}"
    if kind.startswith("basket"):
        return f"{a}-[:{_quoted(baskets.relation)}]->{b}" if baskets is not None else None
    if kind.startswith(("walk", "next", "previous", "ease")):
        return f"{a}<-[:INTERACTED]-(x:{_quoted(user_label)})-[:INTERACTED]->{b}"
    return None


def _quoted(name: str) -> str:
    """A label or relation type as it stands in a query; config has refused back-ticks."""
    return name if re.fullmatch(r"\w*", name, re.ASCII) else f"`{name}`"


def cypher(pattern: str, because: str, item: str) -> str:
    """A whole query an analyst can run to see the path: ids are quoted as Cypher strings."""
    ids = [text.replace("\\", "\\\\").replace("'", "\\'") for text in (because, item)]
    return f"MATCH {pattern} WHERE a.id = '{ids[0]}' AND b.id = '{ids[1]}' RETURN a.id AS because, b.id AS item LIMIT 1"


def explain(
    model: Model,
    rows: ProfileRow,
    item: int,
    parts: np.ndarray,
    ids: Sequence[str],
    patterns: Mapping[str, str],
    *,
    most: int = 3,
) -> Explanation:
    """The score of one item for one user, from its parts [term]; `rows` holds the user's profile rows [1, item].

    A term's value is a sum over history items; its part of the score is shared among them in the same proportions.
    """
    reasons: list[Reason] = []
    for term, whole in zip(model.terms, parts, strict=True):
        because, amount = term.reasons(rows[term.profile], item)
        value = float(amount.sum())
        weight = float(whole) / value if value else 0.0
        pattern = patterns.get(term.name)
        for history_item, part in zip(because, amount * weight, strict=True):
            if part > 0:
                path = cypher(pattern, ids[history_item], ids[item]) if pattern else None
                reasons.append(Reason(ids[history_item], float(part), term.name, path))
    reasons.sort(key=lambda reason: (-reason.score, reason.because))
    terms = {term.name: float(part) for term, part in zip(model.terms, parts, strict=True)}
    return Explanation(ids[item], float(parts.sum()), terms, tuple(reasons[:most]))
