"""Does a path carry the score it is shown for? The score with its edges cut out of the graph, and with others cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from ..config import ShopConfig
from ..errors import UnknownIdError
from ..gnn.walks import empty
from ..kg.log import InteractionLog
from ..kg.snapshot import IdMap
from ..loaders.catalogue import INTERACTED
from .bundle import Bundle
from .evidence import Evidence, histories_of
from .families import all_terms
from .knowledge import edges_used
from .model import Model
from .newcomers import vocabulary
from .terms import ItemItem, Term

Triples = Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Fidelity:
    """The score of a pair; without the edges of a path; and, in the mean over several draws, without as many edges of
    the same relations drawn at random from the whole graph."""

    score: float
    without_path: float
    without_random: float


class TakenApart:
    """A bundle taken apart into what its terms are computed from, to compute them again without some of it.

    Every closed-form term is computed anew (the GNN's is not: its vectors are learned), with weights as they are: on a
    shop of some thousand items that takes seconds. What was bought together is read from baskets, not from edges, so
    an edge of that kind that is cut changes nothing.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.config = ShopConfig.model_validate(bundle.config | {"shop": {"name": bundle.shop}})
        self.text = None if bundle.text is None else np.array(bundle.text)  # a bundle's own arrays cannot be written to
        self.items, self.users = (IdMap(kind, getattr(bundle, kind)["id"].to_pylist()) for kind in ("items", "users"))
        self.used = edges_used(bundle.edges, self.config.relations)
        source = np.array(self.items.ids, object)[self.used["source"].to_numpy()].tolist()
        told = (self.used[name].to_pylist() for name in ("relation", "target"))
        self.edges = [
            (one, relation, other) for one, (relation, other) in zip(source, zip(*told, strict=True), strict=True)
        ]
        pairs = np.unique(bundle.log.user * bundle.log.n_items + bundle.log.item)
        self.events = [
            (self.users.ids[pair // bundle.log.n_items], INTERACTED, self.items.ids[pair % bundle.log.n_items])
            for pair in pairs.tolist()
        ]

    @cached_property
    def known(self) -> frozenset[tuple[str, str, str]]:
        """Every edge that a path can take."""
        return frozenset([*self.edges, *self.events])

    def score(self, user: str, item: str, without: Triples = ()) -> float:
        """The score of a known pair when these edges are not there."""
        model, log = self._model(frozenset(without))
        scorable, row = model.scorable(log), self.users.rows([user])
        return float(model.parts(scorable, row, self.items.rows([item]), model.peaks(scorable, row)).sum())

    def drawn(self, like: Triples, random: np.random.Generator) -> Triples:
        """Other edges, one of the relation of each."""
        by_relation = {r: [e for e in self.edges if e[1] == r] for _, r, _ in like} | {INTERACTED: self.events}
        others = {r: sorted(set(edges) - set(like)) for r, edges in by_relation.items()}
        return [others[r][int(random.integers(len(others[r])))] for _, r, _ in like if others[r]]

    def _model(self, without: frozenset[tuple[str, str, str]]) -> tuple[Model, InteractionLog]:
        bundle, config = self.bundle, self.config
        kept = pa.array([edge not in without for edge in self.edges], pa.bool_())
        gone = [edge for edge in without if edge[1] == INTERACTED and edge[0] in self.users]
        users, items = (ids.rows([edge[end] for edge in gone]) for ids, end in ((self.users, 0), (self.items, 2)))
        n = bundle.log.n_items
        log = bundle.log.where(~np.isin(bundle.log.user * n + bundle.log.item, users * n + items))
        baskets = config.baskets.relation if config.baskets else None
        known = vocabulary(self.used.filter(kept), self.items, config.items.label, config.relations, baskets)
        evidence = Evidence(log, histories_of(log), known.relations, self.text, bundle.model.now)
        made = {term.name: term for term in all_terms(evidence, config.model.off)}
        return replace(bundle.model, terms=tuple(made.get(term.name, _left(term)) for term in bundle.model.terms)), log


def _left(term: Term) -> Term:
    """A term that was not computed anew: a walk over edges that are all gone is empty."""
    return replace(term, weights=empty(term.weights.shape[0])) if isinstance(term, ItemItem) else term


def fidelity(shop: TakenApart, user: str, item: str, path: Triples, *, draws: int, seed: int = 0) -> Fidelity:
    """How far a score falls without a path (`Path.triples` of an explanation), and without random edges.

    Raises:
        UnknownIdError: an edge of the path is none of those a path can take.
    """
    for edge in path:
        if tuple(edge) not in shop.known:
            raise UnknownIdError(f"the model has no edge {tuple(edge)}; take the triples of a path from explain")
    random = np.random.default_rng(seed)
    others = [shop.score(user, item, shop.drawn(path, random)) for _ in range(draws)]
    return Fidelity(shop.score(user, item), shop.score(user, item, path), float(np.mean(others)))
