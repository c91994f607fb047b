"""The scoring model: terms, pool and head, fitted on cuts of the training part and rebuilt on all of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import scipy.sparse as sp

from ..config import ShopConfig
from ..kg.log import InteractionLog
from .evidence import Evidence, Relation, histories_of
from .families import all_terms
from .folds import Fold, end_of, training_folds
from .head import LinearHead, fit_linear
from .metrics import is_held_out, rank_metrics
from .pool import Scorable, choose_blend, fill
from .profiles import profiles_of
from .terms import Term

if TYPE_CHECKING:
    from ..gnn.train import RelationVectors

Say = Callable[[str], None]


class LearnVectors(Protocol):
    """Fits relation vectors on a log of training events, or returns None when the shop wants none."""

    def __call__(
        self, seen: InteractionLog, fold: Fold | None, start: RelationVectors | None
    ) -> RelationVectors | None:
        """Fit on `seen`; `fold` brings validation pairs, `start` weights of an earlier cut."""
        ...


@dataclass(frozen=True)
class Ingredients:
    """What models are fitted on: the training events, the graph's relations, the text vectors, and a way to R_s."""

    config: ShopConfig
    log: InteractionLog
    relations: tuple[Relation, ...]
    text: np.ndarray | None
    learn_vectors: LearnVectors
    seed: int


@dataclass(frozen=True)
class Model:
    """A fitted model. blend: float64 [term] makes the pool; head re-ranks it; report: what was measured on the way."""

    terms: tuple[Term, ...]
    blend: np.ndarray
    head: LinearHead
    pool_size: int
    allowed: np.ndarray
    decay: np.ndarray | None
    vectors: RelationVectors | None
    report: dict[str, object]

    def scorable(self, log: InteractionLog, hidden: sp.csr_matrix | None = None) -> Scorable:
        """The terms with profiles of everybody in `log`; `hidden` defaults to what each user has."""
        histories = histories_of(log)
        seen = histories.matrix() if hidden is None else hidden
        return Scorable(self.terms, profiles_of(histories, self.decay), seen, self.allowed)

    def recommend(self, scorable: Scorable, users: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """items int64 [user, k] (-1 where fewer remain), scores float32 [user, k], contributions [user, k, term]."""
        pool = fill(scorable, users, self.blend, self.pool_size)
        scores = np.where(pool.items >= 0, self.head.scores(pool.values), -np.inf)
        order = np.lexsort((pool.items, -scores), axis=1)[:, :k]
        items, best = np.take_along_axis(pool.items, order, 1), np.take_along_axis(scores, order, 1)
        parts = self.head.contributions(np.take_along_axis(pool.values, order[:, :, None], 1))
        return items, best.astype(np.float32), parts


def evidence_at(given: Ingredients, seen: InteractionLog, now: float | None, gnn: RelationVectors | None) -> Evidence:
    """The evidence of one cut."""
    return Evidence(seen, histories_of(seen), given.relations, given.text, now, gnn)


def candidates(given: Ingredients, seen: InteractionLog) -> np.ndarray:
    """bool [item]: what may be recommended at this cut."""
    if given.config.split.candidates == "all":
        return np.ones(seen.n_items, bool)
    return np.bincount(seen.item, minlength=seen.n_items) > 0


def scorable_at(given: Ingredients, seen: InteractionLog, now: float | None, gnn: RelationVectors | None) -> Scorable:
    """Terms and profiles fitted on the events up to one cut."""
    evidence = evidence_at(given, seen, now, gnn)
    terms = all_terms(evidence, given.config.model.off)
    profiles = profiles_of(evidence.histories, None if gnn is None else gnn.decay)
    return Scorable(terms, profiles, evidence.histories.matrix(), candidates(given, seen))


def fit(given: Ingredients, say: Say = lambda _: None) -> Model:
    """Choose on the newest fold's check users, fit the head on all folds, rebuild the terms on the whole log."""
    start, settings = time.perf_counter(), given.config.model
    folds = training_folds(given.log, given.config.split, settings.folds)
    held = min(settings.check_users, len(folds[0].users) // 4)
    check, rest = folds[0].users[:held], folds[0].users[held:]
    blend: np.ndarray | None = None
    report: dict[str, object] = {}
    samples: list[tuple[np.ndarray, np.ndarray]] = []
    vectors = vectors_of_folds(given, folds, say)
    for number, fold in enumerate(folds):
        scorable = scorable_at(given, fold.seen, fold.now, vectors[number])
        if blend is None:
            name, blend, recall = choose_blend(
                scorable, fold.held_out, rest, check, kind=settings.pool, size=settings.pool_size, seed=given.seed
            )
            report |= {"pool": name, "pool_recall": recall, "terms": [term.name for term in scorable.terms]}
            checked = _pooled(scorable, fold, check, blend, settings.pool_size)
        users = np.setdiff1d(fold.users, check)
        users = np.random.default_rng(number).permutation(users)[: settings.fit_users]
        values, target, _ = _pooled(scorable, fold, users, blend, settings.pool_size)
        useful = target.any(1)
        samples.append((values[useful], target[useful]))
        say(f"fold {number + 1} of {len(folds)}: {len(scorable.terms)} terms, {useful.sum()} of {len(users)}")
        del scorable
    head = fit_linear(*_joined(samples), seed=given.seed)
    report["validation"] = _validate(head, checked, folds[0].held_out[check], given.config.evaluation.k)
    samples.append((checked[0], checked[1]))
    head = fit_linear(*_joined(samples), seed=given.seed)  # choices are made: the check users may teach too
    del samples
    assert blend is not None
    model = rebuilt(given, blend, head, vectors[0], report)
    report["fit_s"] = round(time.perf_counter() - start, 2)
    return model


def rebuilt(
    given: Ingredients, blend: np.ndarray, head: LinearHead, start: RelationVectors | None, report: dict[str, object]
) -> Model:
    """The same blend and head over terms computed from every event of the log."""
    now = end_of(given.log, given.config.split)
    gnn = given.learn_vectors(given.log, None, start)
    scorable = scorable_at(given, given.log, now, gnn)
    decay = None if gnn is None else gnn.decay
    return Model(scorable.terms, blend, head, given.config.model.pool_size, scorable.allowed, decay, gnn, report)


def vectors_of_folds(given: Ingredients, folds: list[Fold], say: Say) -> list[RelationVectors | None]:
    """R_s per fold, oldest cut first, each started from the one before: no later event is ever seen."""
    found: list[RelationVectors | None] = []
    for fold in reversed(folds):
        start = found[-1] if found else None
        found.append(given.learn_vectors(fold.seen, fold, start))
    return found[::-1]


Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


def _pooled(scorable: Scorable, fold: Fold, users: np.ndarray, blend: np.ndarray, size: int) -> Sample:
    pool = fill(scorable, users, blend, size)
    return pool.values, is_held_out(pool.items, fold.held_out[users]), pool.items


def _joined(samples: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    width = max(target.shape[1] for _, target in samples)
    assert all(target.shape[1] == width for _, target in samples)
    return np.concatenate([v for v, _ in samples]), np.concatenate([t for _, t in samples])


def _validate(head: LinearHead, checked: Sample, held_out: sp.csr_matrix, k: int) -> dict[str, float]:
    values, _, items = checked
    scores = np.where(items >= 0, head.scores(values), -np.inf)
    ranked = np.take_along_axis(items, np.lexsort((items, -scores), axis=1)[:, :k], 1)
    measured = rank_metrics(ranked, held_out, k)
    return {f"ndcg@{k}": float(measured.ndcg.mean()), f"recall@{k}": float(measured.recall.mean())}
