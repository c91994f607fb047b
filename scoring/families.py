"""The families of terms: each reads the evidence and yields its terms. What a shop lacks, its families leave out.

Constants were measured on several shops (benchmarks/LOG.md) and are the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from ..errors import ConfigError, did_you_mean
from ..gnn.walks import directed, empty, followers, informative, shared_context, strongest
from . import factors
from .evidence import DAY_MS, Evidence, Histories, Relation
from .profiles import names_for
from .terms import ItemItem, LowRank, Prior, Term, family

FULL_EASE_ITEMS = 6_000  # up to here the exact inverse costs seconds; above, the local one stands alone
EXACT_EASE = ("ease_users", "ease_90d", "ease_sharp", "ease_graph", "ease_basket")
SHARE = (0.6, 0.3)  # exponents of a walk over one relation
RECENT_DAYS = 60.0  # window of the "recent" basket walks


def all_terms(evidence: Evidence, off: Iterable[str] = ()) -> tuple[Term, ...]:
    """Every term the evidence allows, without the families or single terms named in `off`."""
    left_out = frozenset(off)
    kept = [term for make in FAMILIES for term in make(evidence) if not names_of(term) & left_out]
    fresh = [] if "fresh" in left_out else _fresh(evidence, kept)
    return (*kept, *(term for term in fresh if not names_of(term) & left_out))


def names_of(term: Term) -> frozenset[str]:
    """What a term can be left out by: its own name, its family's, and that of the family over all relations."""
    return frozenset({term.name, family(term.name), term.name.split(":")[0]})


def check_names(off: Iterable[str], relations: Iterable[str]) -> None:
    """Refuse what is no term or family of any shop with these relations.

    Raises:
        ConfigError: a name of `model.off` that leaves nothing out anywhere.
    """
    families = KINDS | {f"{kind}:{relation}" for kind in OVER_RELATIONS for relation in relations}
    for name in off:
        whole = name.removeprefix("fresh_")
        front, _, profile = whole.rpartition(".")
        if whole not in families and not (front in families and profile in PROFILES):
            raise ConfigError(f"model.off: no term or family {name!r}{did_you_mean(name, families)}")


def _spread(
    name: str, evidence: Evidence, make: Callable[[], sp.csr_matrix], wanted: tuple[str, ...]
) -> Iterator[ItemItem]:
    """One term per profile over one matrix, which is made unless it is known."""
    held = None if evidence.known is None else evidence.known.terms.get(name)
    weights = held.weights if isinstance(held, ItemItem) else make()
    for profile in names_for(evidence.histories):
        if profile in wanted:
            yield ItemItem(f"{name}.{profile}", profile, weights)


def recency(evidence: Evidence, days: float) -> sp.csr_matrix:
    """Sparse [user, item] with exp(-age / days) of each pair's newest event: old customers fade as contexts."""
    assert evidence.now is not None
    assert evidence.histories.last is not None
    return evidence.histories.matrix(np.exp(-(evidence.now - evidence.histories.last) / days))


def walks(evidence: Evidence) -> Iterator[Term]:
    """item -> user -> item, at three popularity exponents; with times also over customers weighted by recency."""
    users = evidence.histories.matrix()

    def walk(name: str, contexts: sp.csr_matrix, alpha: float, beta: float, wanted: tuple[str, ...]) -> Iterator[Term]:
        yield from _spread(name, evidence, lambda: shared_context(contexts, alpha, beta), wanted)

    yield from walk("walk", users, 0.45, 0.3, ("uniform", "decayed", "last", "frequent"))
    yield from walk("walk_popular", users, 0.3, 0.1, ("uniform",))
    yield from walk("walk_rare", users, 0.6, 0.5, ("uniform", "decayed"))
    if evidence.now is not None:
        yield from walk("walk_45d", recency(evidence, 45), 0.45, 0.3, ("uniform", "decayed", "last"))
        yield from walk("walk_20d", recency(evidence, 20), 0.45, 0.3, ("uniform", "decayed"))
        yield from walk("walk_popular_45d", recency(evidence, 45), 0.3, 0.1, ("uniform", "decayed"))


def sequences(evidence: Evidence) -> Iterator[Term]:
    """What follows and what precedes an item in the users' histories."""
    histories = evidence.histories
    if not histories.ordered or evidence.log.basket is not None:
        return  # within a basket there is no order: the basket families take over
    steps = followers(histories.user, histories.item, histories.n_items)
    yield from _spread("next", evidence, lambda: directed(steps), ("uniform", "decayed", "last"))
    yield from _spread("previous", evidence, lambda: directed(sp.csr_matrix(steps.T)), ("uniform", "decayed"))


def baskets(evidence: Evidence) -> Iterator[Term]:
    """item -> basket -> item, and basket -> the user's next three baskets; each also over recent baskets alone."""
    log = evidence.log
    if log.basket is None or log.at is None or evidence.now is None:
        return
    numbers, basket = np.unique(log.basket, return_inverse=True)
    day = np.zeros(len(numbers))
    np.maximum.at(day, basket, log.at / DAY_MS)
    held = _binary(basket, log.item, (len(numbers), log.n_items))
    recent = sp.csr_matrix(sp.diags_array((day >= evidence.now - RECENT_DAYS).astype(np.float32)) @ held)
    recent.eliminate_zeros()
    profiles = ("uniform", "decayed", "last")
    yield from _spread("basket", evidence, lambda: shared_context(held, 0.45, 0.3), profiles)
    yield from _spread("basket_60d", evidence, lambda: shared_context(recent, 0.45, 0.3), profiles)
    all_steps, recent_steps = _basket_steps(evidence, basket, held, day >= evidence.now - RECENT_DAYS)
    yield from _spread("next_basket", evidence, lambda: directed(all_steps), ("decayed", "last"))
    yield from _spread("next_basket_60d", evidence, lambda: directed(recent_steps), ("decayed", "last"))


def _binary(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sp.csr_matrix:
    matrix = sp.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.data[:] = 1
    return matrix


def _basket_steps(
    evidence: Evidence, basket: np.ndarray, held: sp.csr_matrix, recent: np.ndarray
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Items of a basket -> items first bought in one of the next three, weighted by 1/gap and basket sizes^-1/2."""
    log = evidence.log
    _, first = np.unique(log.user * log.n_items + log.item, return_index=True)  # the log is oldest first per user
    debut = _binary(basket[first], log.item[first], held.shape)
    left, right = _by_size(held), _by_size(debut)
    owner = np.zeros(held.shape[0], np.int64)
    owner[basket] = log.user
    order = np.lexsort((np.arange(len(owner)), owner))  # basket numbers rise with time
    total = empty(log.n_items)
    newer = total
    for gap in (1, 2, 3):
        before, after = order[:-gap], order[gap:]
        same = owner[before] == owner[after]
        before, after = before[same], after[same]
        total = total + left[before].T @ right[after] / gap
        now = recent[after]
        newer = newer + left[before[now]].T @ right[after[now]] / gap
    return sp.csr_matrix(total, dtype=np.float32), sp.csr_matrix(newer, dtype=np.float32)


def _by_size(matrix: sp.csr_matrix) -> sp.csr_matrix:
    size = np.maximum(np.diff(matrix.indptr), 1).astype(np.float32)
    return sp.csr_matrix(sp.diags_array(size**-0.5) @ matrix)


def graph(evidence: Evidence) -> Iterator[Term]:
    """One walk per relation of the graph, and both directions of the relations between items."""
    for relation in evidence.relations:
        yield from _over(relation, evidence)


def _over(relation: Relation, evidence: Evidence) -> Iterator[Term]:
    def sharing() -> sp.csr_matrix:
        return shared_context(informative(sp.csr_matrix(relation.members.T)), *SHARE)

    yield from _spread(f"share:{relation.name}", evidence, sharing, ("uniform", "last"))
    if relation.links is not None:
        yield from _between(relation.name, relation.links, evidence)


def _between(name: str, links: sp.csr_matrix, evidence: Evidence) -> Iterator[Term]:
    def out() -> sp.csr_matrix:
        return directed(links)

    def into() -> sp.csr_matrix:
        return directed(sp.csr_matrix(links.T))

    def twice() -> sp.csr_matrix:
        both = sp.csr_matrix(out() + into())
        return strongest(sp.csr_matrix(both @ both))

    yield from _spread(f"to:{name}", evidence, out, ("uniform", "last"))
    yield from _spread(f"from:{name}", evidence, into, ("uniform", "last"))
    if evidence.has([f"twice:{name}"], links.nnz < 2 * evidence.n_items):  # sparse links reach too little in one step
        yield from _spread(f"twice:{name}", evidence, twice, ("uniform",))
    else:
        yield from _spread(f"cited:{name}", evidence, lambda: shared_context(links, *SHARE), ("uniform",))


def text(evidence: Evidence) -> Iterator[Term]:
    """The history's mean embedding against M(s), and the nearest texts of each history item."""
    if evidence.text is None:
        return
    vectors, known = evidence.text, evidence.known

    def near() -> sp.csr_matrix:
        if known is None or known.near is None or known.new_text is None:
            return factors.text_neighbours(vectors, device=evidence.device)
        return factors.renewed_neighbours(vectors, known.near, known.new_text)

    yield from _spread("text_near", evidence, near, ("uniform", "last"))
    for profile in names_for(evidence.histories):
        if profile in ("uniform", "last"):
            yield LowRank(f"text.{profile}", profile, evidence.text, evidence.text)


def autoencoders(evidence: Evidence) -> Iterator[Term]:
    """EASE over users and graph rows: local for every shop, exact variants where the catalogue is small."""
    histories, users = evidence.histories, evidence.histories.matrix()
    graph_rows = relation_rows(evidence)
    rows = factors.stacked([users, *graph_rows])
    yield from _spread("ease", evidence, lambda: factors.local_ease(rows), ("uniform", "decayed", "frequent"))
    if not evidence.has(EXACT_EASE, histories.n_items <= FULL_EASE_ITEMS):
        return

    def exact(name: str, rows: list[sp.csr_matrix], ridge: float, wanted: tuple[str, ...]) -> Iterator[Term]:
        stacked = factors.stacked(rows)
        yield from _spread(name, evidence, lambda: factors.largest(factors.ease(stacked, ridge)), wanted)

    yield from exact("ease_users", [users], 300, ("uniform", "decayed"))
    if evidence.now is not None:
        recent = recency(evidence, 90)
        yield from exact("ease_90d", [0.3 * users, recent], 100, ("uniform", "decayed", "last"))
    else:
        yield from exact("ease_sharp", [users], 30, ("uniform", "decayed"))
    if graph_rows:
        yield from exact("ease_graph", [users, *graph_rows], 300, ("uniform", "decayed"))
    if evidence.log.basket is not None:
        numbers, basket = np.unique(evidence.log.basket, return_inverse=True)
        held = _binary(basket, evidence.log.item, (len(numbers), histories.n_items))
        yield from exact("ease_basket", [users, 0.5 * held], 300, ("uniform", "decayed", "last"))


def labelled(evidence: Evidence) -> Iterator[Term]:
    """For trees over labelled pairs alone: how much is known of user and item, and two steps over graph and users."""
    if evidence.log.label is None:
        return
    ones = np.ones((evidence.n_items, 1), np.float32)
    yield LowRank("history.uniform", "uniform", ones, ones)  # sqrt of the history's length
    walk = shared_context(evidence.histories.matrix(), 0.45, 0.3)

    def far(name: str, one: sp.csr_matrix, other: sp.csr_matrix) -> Iterator[Term]:
        yield from _spread(name, evidence, lambda: strongest(sp.csr_matrix(one @ other)), ("uniform",))

    yield from far("far_walk_walk", walk, walk)
    if not evidence.relations:
        return
    members = sp.csr_matrix(sp.hstack([relation.members for relation in evidence.relations], format="csr"))
    share = shared_context(informative(sp.csr_matrix(members.T)), 0.6, 0.3)
    yield from _spread("share_any", evidence, lambda: share, ("uniform",))
    yield from far("far_share_walk", share, walk)
    yield from far("far_walk_share", walk, share)
    yield _prior("links", np.log1p(np.diff(members.indptr)))


def relation_rows(evidence: Evidence) -> list[sp.csr_matrix]:
    """The graph as extra rows beside the users': entity x item, and A + I for links between items."""
    rows = []
    identity = sp.eye_array(evidence.n_items, format="csr", dtype=np.float32)
    for relation in evidence.relations:
        rows.append(relation.weight * sp.csr_matrix(relation.members.T))
        if relation.links is not None:
            rows.append(relation.weight * sp.csr_matrix(relation.links + identity))
    return rows


def low_pass(evidence: Evidence) -> Iterator[Term]:
    """The smooth part of the user-item-entity graph."""
    held = None if evidence.known is None else evidence.known.terms.get("low_pass")
    if isinstance(held, LowRank):
        left, right = held.left, held.right
    else:
        left, right = factors.low_pass(factors.stacked([evidence.histories.matrix(), *relation_rows(evidence)]))
    for profile in names_for(evidence.histories):
        if profile in ("uniform", "decayed"):
            yield LowRank(f"low_pass.{profile}", profile, left, right)


def learned(evidence: Evidence) -> Iterator[Term]:
    """The relation vectors R_s of the GNN: query of the newest items against the item vectors."""
    vectors = evidence.gnn
    if vectors is None:
        return
    items = np.asarray(vectors.items, np.float32)
    right = items / np.float32(vectors.temperature)
    yield LowRank("gnn.newest", "newest", items @ np.asarray(vectors.projection, np.float32), right, unit=True)


def priors(evidence: Evidence) -> Iterator[Prior]:
    """How many users have the item; with times: lately, for the first time, rising, how old, how long unsold."""
    histories, now = evidence.histories, evidence.now
    total = _log_count(histories, np.ones(len(histories.item), bool))
    yield _prior("popularity", total)
    if now is None or histories.last is None or histories.first is None:
        return
    bought = {days: _log_count(histories, histories.last >= now - days) for days in (14, 28, 56)}
    first = {days: _log_count(histories, histories.first >= now - days) for days in (14, 28)}
    for days, value in bought.items():
        yield _prior(f"popularity_{days}d", value)
    for days, value in first.items():
        yield _prior(f"first_time_{days}d", value)
    yield _prior("trend_14d", np.log1p(2 * np.expm1(bought[14])) - bought[28])
    yield _prior("trend_28d", np.log1p(2 * np.expm1(bought[28])) - bought[56])
    yield _prior("trend_first", np.log1p(2 * np.expm1(first[14])) - first[28])
    start = histories.first.min(initial=now)
    yield _prior("trend_all", np.log1p((now - start) / 28 * np.expm1(bought[28])) - total)
    debut, latest = np.full(histories.n_items, now), np.full(histories.n_items, start)
    np.minimum.at(debut, histories.item, histories.first)
    np.maximum.at(latest, histories.item, histories.last)
    yield _prior("age", np.log1p(now - debut))
    yield _prior("since", -np.log1p(now - latest))


def _prior(name: str, values: np.ndarray) -> Prior:
    return Prior(f"{name}.prior", values.astype(np.float32))


def _log_count(histories: Histories, among: np.ndarray) -> np.ndarray:
    return np.log1p(np.bincount(histories.item[among], minlength=histories.n_items))


FRESH = (
    "walk_rare.uniform",
    "walk_45d.uniform",
    "ease.uniform",
    "ease.decayed",
    "ease_users.uniform",
    "ease_basket.decayed",
    "ease_90d.uniform",
    "ease_graph.decayed",
    "low_pass.uniform",
    "text_near.uniform",
)


def _fresh(evidence: Evidence, terms: list[Term]) -> Iterator[Term]:
    """Some terms times sqrt(first-time buyers of the last 28 days) + 0.3: what fits and is being discovered now."""
    by_name = {term.name: term for term in terms}
    found = by_name.get("first_time_28d.prior")
    if not isinstance(found, Prior):
        return
    factor = (np.sqrt(np.expm1(found.values)) + 0.3).astype(np.float32)
    for name in FRESH:
        term = by_name.get(name)
        if isinstance(term, ItemItem):
            yield replace(term, name=f"fresh_{name}", weights=sp.csr_matrix(term.weights @ sp.diags_array(factor)))
        elif isinstance(term, LowRank):
            yield replace(term, name=f"fresh_{name}", right=term.right * factor[:, None])


OVER_RELATIONS = ("share", "to", "from", "twice", "cited")  # families whose terms belong to one relation
# fmt: off
KINDS = frozenset({
    *OVER_RELATIONS,
    "walk", "walk_popular", "walk_rare", "walk_45d", "walk_20d", "walk_popular_45d", "next", "previous", "basket",
    "basket_60d", "next_basket", "next_basket_60d", "text_near", "text", "ease", "ease_users", "ease_90d",
    "ease_sharp", "ease_graph", "ease_basket", "low_pass", "gnn", "popularity", "popularity_14d", "popularity_28d",
    "popularity_56d", "first_time_14d", "first_time_28d", "trend_14d", "trend_28d", "trend_first", "trend_all", "age",
    "since", "fresh", "history", "far_walk_walk", "share_any", "far_share_walk", "far_walk_share", "links",
})
# fmt: on
PROFILES = ("uniform", "decayed", "last", "frequent", "newest", "prior")

FAMILIES: tuple[Callable[[Evidence], Iterator[Term]], ...] = (
    walks,
    sequences,
    baskets,
    graph,
    text,
    autoencoders,
    low_pass,
    learned,
    priors,
    labelled,
)
