"""Answers to questions, out of one edition of the model: between the shapes of the wire and the recommender."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ConfigError, UnknownIdError
from ..scoring.explain import Path
from ..scoring.recommender import Recommended
from ..scoring.words import in_words
from . import telemetry, wire
from .shelf import Edition


@dataclass(frozen=True)
class Shape:
    """What lists are to be like; equal wishes are equal."""

    where: str | None
    diversify: float
    cap: tuple[tuple[str, int], ...]
    exclude: frozenset[str]

    @classmethod
    def of(cls, ask: wire.Listing) -> Shape:
        """What a question says of it."""
        return cls(ask.where, ask.diversify, tuple(sorted(ask.cap.items())), frozenset(ask.exclude))

    @property
    def told(self) -> dict[str, Any]:
        """As the recommender's calls take it."""
        return {"where": self.where, "diversify": self.diversify, "cap": dict(self.cap), "exclude": self.exclude}


@dataclass(frozen=True)
class Wanted:
    """Lists somebody waits for."""

    edition: Edition
    users: tuple[str, ...]
    k: int
    shape: Shape

    @property
    def company(self) -> tuple[int, Shape]:
        """What requests of one call have in common."""
        return id(self.edition), self.shape


Listing = list[list[Recommended]]


def recommend(wanted: Sequence[Wanted]) -> list[Listing | Exception]:
    """The lists of many requests. Those of one edition with the same wishes share a call.

    A longer list begins as the shorter one, so the longest asked for serves all of them.
    """
    telemetry.CALLS.observe(len(wanted))
    answers: list[Listing | Exception] = [[]] * len(wanted)
    groups: dict[object, list[int]] = {}
    for number, one in enumerate(wanted):
        groups.setdefault(one.company, []).append(number)
    for numbers in groups.values():
        for number, answer in zip(numbers, _together([wanted[n] for n in numbers]), strict=True):
            answers[number] = answer
    return answers


def _together(wanted: Sequence[Wanted]) -> Sequence[Listing | Exception]:
    first, k = wanted[0], max(one.k for one in wanted)
    users = list(dict.fromkeys(user for one in wanted for user in one.users))
    try:
        found = first.edition.model.recommend(users, k, **first.shape.told)
        lists = dict(zip(users, found, strict=True))
    except Exception as e:  # the filter they share, or our own fault: each of them is told
        return [e] * len(wanted)
    return [[lists[user][: one.k] for user in one.users] for one in wanted]


def check(edition: Edition, *, users: Iterable[str] = (), items: Iterable[str] = (), k: int = 1) -> None:
    """Refuse what this edition does not know before it costs anything, or anybody else.

    Raises:
        UnknownIdError: an id the model has never seen.
        ConfigError: k is above what it ranks.
    """
    for kind, known, ids in (("user", edition.model.knows_user, users), ("item", edition.model.knows, items)):
        for id_ in ids:
            if not known(id_):
                raise UnknownIdError(f"no {kind} {id_!r} in {edition.model.bundle.shop}; POST /search finds ids")
    most = edition.model.model.pool_size
    if k > most:
        raise ConfigError(f"k = {k} is more than the {most} items this model ranks")


def places(edition: Edition, found: Sequence[Recommended], terms: bool) -> list[wire.Place]:
    """A list as it goes over the wire."""
    return [
        wire.Place(item=r.item, title=edition.model.title(r.item), score=r.score, terms=r.terms if terms else None)
        for r in found
    ]


def explain(edition: Edition, ask: wire.WhyForUser | wire.WhyForHistory) -> wire.Why:
    """One score, taken apart."""
    model = edition.model
    if isinstance(ask, wire.WhyForUser):
        why = model.explain(ask.user, ask.item, most=ask.most)
    else:
        why = model.explain_for(ask.history, ask.item, features=ask.features, most=ask.most)
    reasons = [
        wire.Reason(
            because=reason.because,
            title=model.title(reason.because),
            term=reason.term,
            score=reason.score,
        )
        for reason in why.reasons
    ]
    return wire.Why(
        version=edition.version,
        item=ask.item,
        title=model.title(ask.item),
        score=why.score,
        terms=why.terms,
        words={term: in_words(term) for term in why.terms},
        reasons=reasons,
        paths=[_path(edition, path) for path in why.paths],
    )


def _path(edition: Edition, path: Path) -> wire.Path:
    label = edition.model.bundle.config["items"]["label"]  # a user, or a category, may have the id of an item
    steps = [
        wire.Step(
            source=n if edge.source == path.nodes[n] else n + 1,
            target=n + 1 if edge.source == path.nodes[n] else n,
            relation=edge.relation,
        )
        for n, edge in enumerate(path.edges)
    ]
    return wire.Path(
        because=path.because,
        sentence=path.sentence,
        score=path.score,
        nodes=[edition.model.title(node.id) if node.label == label else node.id for node in path.nodes],
        triples=list(path.triples),
        steps=steps,
        cypher=path.cypher,
        parameters=path.parameters,
    )


def score(edition: Edition, ask: wire.Pairs) -> wire.Scores:
    """Every pair's score."""
    scores = np.asarray(edition.model.score(ask.users, ask.items))
    return wire.Scores(version=edition.version, scores=scores.tolist())


def score_new(edition: Edition, ask: wire.NewForUsers | wire.NewForHistory) -> wire.Scores:
    """Every score of items the shop does not have yet."""
    items = [item.model_dump() for item in ask.items]
    if isinstance(ask, wire.NewForUsers):
        scores = edition.model.score_new(items, users=ask.users)
    else:
        scores = edition.model.score_new(items, history=ask.history, features=ask.features)
    return wire.Scores(version=edition.version, scores=scores.tolist())


def history(edition: Edition, user: str) -> list[wire.Named]:
    """What a customer has, oldest first."""
    return named(edition, edition.model.history(user))


def named(edition: Edition, items: Iterable[str]) -> list[wire.Named]:
    """Items with their titles."""
    return [wire.Named(id=item, title=edition.model.title(item)) for item in items]
