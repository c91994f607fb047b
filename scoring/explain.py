"""Why an item is in a list: the terms of its score, the history items behind them, and paths through the graph."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..kg.paths import Node, Triple, path_query
from ..loaders.catalogue import INTERACTED
from .model import Model
from .paths import ItemGraph, Step
from .terms import family
from .words import relation_in_words

Title = Callable[[int], str]  # what people call the item of a row
HISTORY = 50  # items of a history, those with the largest parts, that paths are looked for from
OVER_USERS = ("walk", "next", "previous", "ease")  # families that go over customers


@dataclass(frozen=True)
class Reason:
    """One history item's part of a score."""

    because: str
    score: float
    term: str


@dataclass(frozen=True)
class Path:
    """At most three edges from the user (or, of somebody never seen, from a history item) to the item.

    because: the history item it starts from. score: what the terms that walk this way add for that item; 0 where the
    path is in the graph and no term of the model walks it. nodes: in the order they are passed, the item last. edges:
    between them, in their order, each as stored. cypher: read-only text that answers these edges, one a row (source,
    relation, target) in any order, when run on the shop's store with `parameters`.
    """

    because: str
    score: float
    sentence: str
    nodes: tuple[Node, ...]
    edges: tuple[Triple, ...]
    cypher: str
    parameters: dict[str, str] = field(hash=False)

    @property
    def triples(self) -> tuple[tuple[str, str, str], ...]:
        """The edges by ids alone."""
        return tuple((edge.source.id, edge.relation, edge.target.id) for edge in self.edges)


@dataclass(frozen=True)
class Explanation:
    """score = sum(terms.values()) to float tolerance; reasons are the largest positive parts of it, paths what links
    the history and the item in the graph, those first that the score owes most."""

    item: str
    score: float
    terms: dict[str, float]
    reasons: tuple[Reason, ...]
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class Case:
    """What is asked: the item row, the rows of the items the user has, the user row (None: never seen), the parts
    [term] of the score, and per term the history items that its value comes from, with how much of it."""

    item: int
    history: frozenset[int]
    user: int | None
    parts: np.ndarray
    reasons: Sequence[tuple[np.ndarray, np.ndarray]]


def explain(model: Model, graph: ItemGraph, case: Case, title: Title, baskets: str | None, most: int) -> Explanation:
    """The terms, and at most `most` reasons and paths. `baskets`: the relation of what is bought together, if any."""
    shares = _shares(model, case)
    positive = ((-part, graph.items[row].id, term) for (row, term), part in shares.items() if part > 0)
    largest = heapq.nsmallest(most, positive)
    terms = {term.name: float(part) for term, part in zip(model.terms, case.parts, strict=True)}
    return Explanation(
        graph.items[case.item].id,
        float(case.parts.sum()),
        terms,
        tuple(Reason(because, -part, term) for part, because, term in largest),
        _paths(graph, case, shares, title, baskets, most),
    )


def _shares(model: Model, case: Case) -> dict[tuple[int, str], float]:
    """(history item, term) -> its part of the score.

    A term's value is a sum over history items; its part of the score is shared among them in the same proportions.
    What a taste adds to a profile belongs to no item that anybody had.
    """
    found = {}
    for term, whole, (rows, amount) in zip(model.terms, case.parts, case.reasons, strict=True):
        value = float(amount.sum())
        if value:
            parts = amount * (float(whole) / value)
            shared = zip(rows.tolist(), parts.tolist(), strict=True)
            found.update({(row, term.name): part for row, part in shared if row in case.history})
    return found


def _paths(
    graph: ItemGraph, case: Case, shares: Mapping[tuple[int, str], float], title: Title, baskets: str | None, most: int
) -> tuple[Path, ...]:
    whole: dict[int, float] = {}
    walked: dict[tuple[int, str, str], float] = {}
    for (row, term), part in shares.items():
        whole[row] = whole.get(row, 0.0) + part
        for way in ways_of(term, baskets):
            walked[row, *way] = walked.get((row, *way), 0.0) + max(part, 0.0)
    history = sorted(case.history - {case.item}, key=lambda row: (-whole.get(row, 0.0), row))[:HISTORY]
    steps = graph.steps(np.array(history, np.int64), case.item, case.user)
    worth = {step: walked.get((step.history, step.relation, step.shape), 0.0) for step in steps}
    steps.sort(key=lambda s: (-worth[s], -whole.get(s.history, 0.0), -s.rarity, s.history, s.relation, s.shape))
    return tuple(_path(graph, case, step, worth[step], title, baskets) for step in steps[:most])


def _path(graph: ItemGraph, case: Case, step: Step, score: float, title: Title, baskets: str | None) -> Path:
    edges = graph.triples(step, case.item, case.user)
    text, parameters = path_query(edges)
    return Path(
        graph.items[step.history].id,
        score,
        _sentence(graph, step, case.item, title, baskets),
        graph.nodes(step, case.item, case.user),
        edges,
        text,
        parameters,
    )


def ways_of(term: str, baskets: str | None) -> list[tuple[str, str]]:
    """The relations and shapes (:mod:`.paths`) a term walks; none for text, factors and priors."""
    name = family(term).removeprefix("fresh_")
    kind, _, relation = name.partition(":")
    if kind in SHAPES_OF:
        return [(relation, shape) for shape in SHAPES_OF[kind]]
    if "basket" in kind:
        return [] if baskets is None else [(baskets, ">"), (baskets, "<")]
    return [(INTERACTED, "<>")] if kind.startswith(OVER_USERS) else []


SHAPES_OF: Mapping[str, Sequence[str]] = {
    "share": ("><",),
    "to": (">",),
    "from": ("<",),
    "cited": ("<>",),
    "twice": ("><", "<>", ">>", "<<"),
}


def _sentence(graph: ItemGraph, step: Step, item: int, title: Title, baskets: str | None) -> str:
    """The path in words. Customers are counted and never named: the sentence may be shown in a shop."""
    one, other, says = title(step.history), title(item), relation_in_words(step.relation)
    if step.relation == INTERACTED:
        who = "1 other customer" if step.shared == 1 else f"{step.shared:,} other customers"
        return f"{who} had both {one} and {other}"
    if step.relation == baskets and step.via is None:
        return f"{one} and {other} were bought together"
    between = "" if step.via is None else _called(graph, step.via, title)
    return {
        ">": f"{one}: {says} {other}",
        "<": f"{other}: {says} {one}",
        "><": f"{one} and {other}: {says} {between}",
        "<>": f"{between}: {says} {one} and {other}",
        ">>": f"{one}: {says} {between}, and that {says} {other}",
        "<<": f"{other}: {says} {between}, and that {says} {one}",
    }[step.shape]


def _called(graph: ItemGraph, number: int, title: Title) -> str:
    if number < len(graph.items):
        return title(number)
    return "the same customer" if graph.is_customer(number) else graph.name(number)
