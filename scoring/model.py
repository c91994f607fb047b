"""The scoring model: terms, pool and head, fitted on cuts of the training part and rebuilt on all of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import scipy.sparse as sp

from ..config import ShopConfig
from ..errors import ConfigError
from ..gnn.embed import Weights
from ..kg.log import InteractionLog
from .approximate import DenseIndex, share_of
from .boosted import BoostedHead
from .cold import learn_cold
from .context import Context, item_features, user_features
from .evidence import Evidence, Histories, Known, Relation, histories_of
from .families import all_terms
from .folds import Fold, end_of, training_folds
from .head import ENSEMBLE, MLPS, Head, Sample, fit_head, mlps_of, rank_pool
from .kept import kept
from .metrics import is_held_out, rank_metrics
from .placed import Placed
from .pool import BATCH_MIB, Pool, Question, Scorable, choose_blend, chunks, fill
from .profiles import profiles_of
from .terms import Term

if TYPE_CHECKING:
    from ..gnn.train import RelationVectors
    from .warm import Warm

Say = Callable[[str], None]
FEWEST = 4  # users of a fold that is cut alike for all: one of them checks
SEARCHED = 500  # users whose exact pools an approximate search is compared with
PICKING_USERS = 1_000  # whose answers say which epoch of the relation vectors is the best


Answers = tuple[np.ndarray, np.ndarray]  # users and items, int64 [n] each: pairs that were held out


class LearnVectors(Protocol):
    """Fits relation vectors on a log of training events, or returns None when the shop wants none."""

    def __call__(self, seen: InteractionLog, valid: Answers | None, start: Weights | None) -> RelationVectors | None:
        """Fit on `seen`; `valid` picks the epoch, `start` brings the weights of an earlier cut."""
        ...


@dataclass(frozen=True)
class Ingredients:
    """What models are fitted on: the training events, the graph's relations, the text vectors, and a way to R_s.

    warm: the weights of an earlier version, from which learning goes on. device: where heads learn and near texts are
    searched.
    """

    config: ShopConfig
    log: InteractionLog
    relations: tuple[Relation, ...]
    text: np.ndarray | None
    learn_vectors: LearnVectors
    seed: int
    warm: Warm | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Model:
    """A fitted model. blend: float64 [term] makes the pool; head re-ranks it; report: what was measured on the way.

    about_items: float32 [item, feature], the items' part of the head's context. now: the cut in days since 1970.
    cold: float64 [cold term], the blend of what is known of items without a purchase (:mod:`.cold`). index: of the
    dense part of the blend, where pools are searched approximately. batch_mib: of scores a thread holds at once.
    device: where pools are made and ranked.
    """

    terms: tuple[Term, ...]
    blend: np.ndarray
    cold: np.ndarray
    head: Head | BoostedHead
    pool_size: int
    allowed: np.ndarray
    about_items: np.ndarray
    now: float | None
    decay: np.ndarray | None
    vectors: RelationVectors | None
    report: dict[str, Any]
    index: DenseIndex | None = None
    batch_mib: float = BATCH_MIB
    device: str = "cpu"

    def on(self, device: str) -> Model:
        """The same model, making and ranking pools there."""
        return self if device == self.device else replace(self, device=device, head=self.head.on(device))

    @cached_property
    def _placed(self) -> Placed | None:
        return None if self.device == "cpu" else Placed(self.terms, self.device)

    def scorable(self, log: InteractionLog) -> Scorable:
        """The terms with the histories of everybody in `log`."""
        return self.scorable_for(histories_of(log), self.now)

    def scorable_for(self, histories: Histories, now: float | None) -> Scorable:
        """The terms with other histories, read at `now`; nobody is shown what they have."""
        return Scorable(
            self.terms,
            profiles_of(histories, self.decay),
            histories.matrix(),
            self.allowed,
            self.about_items,
            user_features(histories, now),
            self.index,
            self.batch_mib,
            self._placed,
        )

    def recommend(
        self, scorable: Scorable, users: np.ndarray, k: int, only: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """items int64 [user, k] (-1 where fewer remain), scores float32 [user, k], contributions [user, k, term].

        `only`, bool [item], filters what is shown and changes no score.
        """
        pool = fill(scorable, users, self.blend, self.pool_size, only)
        places, items, scores = rank_pool(self.head, pool, k)
        values = np.take_along_axis(pool.values, places[:, :, None], 1)
        context = Context(scorable.features(users, items), pool.context.peak)
        return items, scores, self.head.contributions(values, context)

    def peaks(self, scorable: Scorable, users: np.ndarray) -> np.ndarray:
        """float32 [user, term] of these users' pools; zeros where the head does not ask."""
        if not self.head.reads_context:
            return np.zeros((len(users), len(self.terms)), np.float32)
        pools = (fill(scorable, some, self.blend, self.pool_size) for some in chunks(users))
        return np.concatenate([pool.context.peak for pool in pools])

    def parts(self, scorable: Scorable, users: np.ndarray, items: np.ndarray, peaks: np.ndarray) -> np.ndarray:
        """float32 [user, item, term]: contributions to the scores of any items [n], pooled or not."""
        rows = {name: matrix[users] for name, matrix in scorable.profiles.items()}
        values = np.stack([term.at(rows, items) for term in self.terms], axis=-1)
        return self.weighted(scorable, users, items, values, peaks)

    def weighted(
        self, scorable: Scorable, users: np.ndarray, items: np.ndarray, values: np.ndarray, peaks: np.ndarray
    ) -> np.ndarray:
        """:meth:`parts`, out of the terms' values float32 [user, item, term]."""
        everywhere = np.broadcast_to(items, (len(users), len(items)))
        return self.head.contributions(values, Context(scorable.features(users, everywhere), peaks))


def evidence_at(
    given: Ingredients,
    seen: InteractionLog,
    now: float | None,
    gnn: RelationVectors | None,
    known: Known | None = None,
) -> Evidence:
    """The evidence of one cut."""
    return Evidence(seen, histories_of(seen), given.relations, given.text, now, gnn, known, given.device)


def candidates(given: Ingredients, seen: InteractionLog) -> np.ndarray:
    """bool [item]: what may be recommended at this cut."""
    if given.config.split.candidates == "all":
        return np.ones(seen.n_items, bool)
    return np.bincount(seen.item, minlength=seen.n_items) > 0


def scorable_at(
    given: Ingredients,
    seen: InteractionLog,
    now: float | None,
    gnn: RelationVectors | None,
    known: Known | None = None,
) -> Scorable:
    """Terms and profiles fitted on the events up to one cut; `known` needs no fitting."""
    evidence = evidence_at(given, seen, now, gnn, known)
    terms = all_terms(evidence, given.config.model.off)
    profiles = profiles_of(evidence.histories, None if gnn is None else gnn.decay)
    return Scorable(
        terms,
        profiles,
        evidence.histories.matrix(),
        candidates(given, seen),
        item_features(evidence),
        user_features(evidence.histories, now),
        batch_mib=given.config.model.batch_mib,
        placed=None if given.device == "cpu" else Placed(terms, given.device),
    )


def fit(given: Ingredients, say: Say = lambda _: None) -> Model:
    """Choose blend and head on the check users, fit the head on all folds, rebuild the terms on the whole log."""
    start = time.perf_counter()
    rehearsal = rehearse(given, say)
    kind, validation = choose_head(given, rehearsal)
    say(f"head {kind}: " + ", ".join(f"{name} {next(iter(found.values())):.4f}" for name, found in validation.items()))
    everybody = Sample.joined([rehearsal.sample, Sample.of(rehearsal.checked, rehearsal.answers)])
    # choices are made: the check users may teach too
    head = fit_head(kind, everybody, seed=given.seed, device=given.device, **_start(rehearsal.warm, kind))
    del everybody
    report = rehearsal.report | {"head": kind, "heads": validation, "validation": validation[kind]}
    report["weights"] = dict(zip(report["terms"], _weights(head, rehearsal.checked), strict=True))
    if rehearsal.warm is not None:
        reached = _ndcg(head, rehearsal.checked, rehearsal.held_out, given.config.evaluation.k)
        report["kept"] = _kept(rehearsal, reached, say)
    model = rebuilt(given, rehearsal.blend, rehearsal.cold, head, rehearsal.start, report)
    if given.config.model.search == "approximate":
        model = indexed(model, given.log, say)
    model.report["fit_s"] = round(time.perf_counter() - start, 2)
    return model


def indexed(model: Model, log: InteractionLog, say: Say = lambda _: None) -> Model:
    """The same model with an index, and in its report what share of the exact pools of some users it finds: of others
    than those it was made to find."""
    scorable = model.scorable(log)
    some = np.random.default_rng(0).permutation(np.unique(log.user))[: 2 * SEARCHED]
    made_for, users = np.array_split(some, 2) if len(some) > 1 else (some, some)
    index = DenseIndex.of(model.terms, model.blend, scorable.rows(made_for), model.pool_size)
    if index is None:
        say("the pool's blend has no dense part: its search is exact")
        return model
    model = replace(model, index=index)
    exact, near = (fill(s, users, model.blend, model.pool_size).items for s in (scorable, model.scorable(log)))
    recall = share_of(exact, near)
    cells = index.looked_into
    found = {"kind": "approximate", "recall": recall, "users": len(users), "cells": cells}
    say(f"approximate search in {cells:.3f} of the cells: {recall:.4f} of the exact pools of {len(users)} users")
    return replace(model, report=model.report | {"search": found})


def _start(warm: Warm | None, kind: str) -> dict[str, Any]:
    """How a head goes on from an earlier one of its kind: half the way is enough."""
    return {} if warm is None or warm.head.kind != kind else {"start": warm.head.net, "epochs": 5}


def _kept(rehearsal: Rehearsal, reached: np.ndarray, say: Say) -> dict[str, Any]:
    """What the check users whom the version before knew get by its weights and by the new ones: both have learned from
    them, where the folds are the same."""
    assert rehearsal.warm is not None
    known = rehearsal.warm.known[rehearsal.check]
    if not known.any():
        return {}
    found = kept(rehearsal.before[known], reached[known])
    told = (
        f"{found.users:,} known users: {found.before:.4f} by the weights of before, {found.after:.4f} by the new ones"
    )
    say(told + (f"; caution: worse beyond noise, 95 % interval {found.ci95}" if found.lost else ""))
    return asdict(found) | {"lost": found.lost}


def validation(given: Ingredients) -> dict[str, float]:
    """What :func:`fit` would report of the check users, without the last fit on everything."""
    kind, found = choose_head(given, rehearse(given))
    return found[kind]


@dataclass(frozen=True)
class Rehearsal:
    """The folds played through: what heads learn from, and the pools of the check users they are judged on.

    blend, cold: float64 [term] and [cold term]. check: int64 rows of the check users. held_out: sparse [check user,
    item]. start: where R_s of the whole log starts. report: on the way. warm: the weights it goes on from, if they fit;
    before: what the check users get by those, NDCG@k float64 [check user].
    """

    blend: np.ndarray
    cold: np.ndarray
    sample: Sample
    checked: Pool
    check: np.ndarray
    held_out: sp.csr_matrix
    start: Weights | None
    report: dict[str, Any]
    warm: Warm | None
    before: np.ndarray

    @property
    def answers(self) -> np.ndarray:
        """bool [check user, pool]: what of their pools is held out."""
        return is_held_out(self.checked.items, self.held_out)


def rehearse(given: Ingredients, say: Say = lambda _: None) -> Rehearsal:
    """Fit terms on every fold, choose the blend, and pool the users who teach and those who check."""
    settings = given.config.model
    folds = training_folds(given.log, given.config.split, settings.folds)
    roles = roles_of(folds, settings.check_users)
    vectors = vectors_of_folds(given, folds, roles)

    def at(number: int) -> Scorable:
        return scorable_at(given, folds[number].seen, folds[number].now, vectors[number])

    scorables = {number: at(number) for number in {0, roles.teacher}}
    warm = _fitting(given.warm, scorables[0], say)
    report: dict[str, Any] = {"terms": [term.name for term in scorables[0].terms]}
    report["gnn"] = [list(found.validation) for found in vectors if found is not None]
    report["pool"], blend, report["pool_recall"] = choose_blend(
        Question(scorables[roles.teacher], folds[roles.teacher].held_out, roles.pupils),
        Question(scorables[0], folds[0].held_out, roles.check),
        kind=settings.pool,
        size=settings.pool_size,
        seed=given.seed,
        start=None if warm is None or warm.pool != "learned" else warm.blend,
    )
    teacher, cold_start = scorables[roles.teacher], None if warm is None else warm.cold
    cold = learn_cold(teacher, folds[roles.teacher].held_out, roles.pupils, seed=given.seed, start=cold_start)
    before = np.empty(0)
    if warm is not None:
        pool = fill(scorables[0], roles.check, warm.blend, settings.pool_size)
        before = _ndcg(warm.head, pool, folds[0].held_out[roles.check], given.config.evaluation.k)
    checked = fill(scorables[0], roles.check, blend, settings.pool_size)
    samples = []
    for number, fold in enumerate(folds):
        scorable = scorables.pop(number, None) or at(number)
        users = np.setdiff1d(fold.users, roles.check) if number == 0 or not roles.in_time else fold.users
        users = np.random.default_rng(number).permutation(users)[: settings.fit_users]
        if len(users):
            pool = fill(scorable, users, blend, settings.pool_size)
            samples.append(Sample.of(pool, is_held_out(pool.items, fold.held_out[users])))
            say(f"fold {number + 1} of {len(folds)}: {len(samples[-1].target)} of {len(users)} users teach the head")
    held_out = folds[0].held_out[roles.check]
    sample = Sample.joined(samples)
    if not len(sample.target):
        raise ConfigError(
            f"no customer's next item is among the {settings.pool_size} of their pool, so nobody teaches the head; "
            "raise model.pool_size, or give the shop more of its [interactions]"
        )
    start = _start_of_all(given, folds, vectors)
    return Rehearsal(blend, cold, sample, checked, roles.check, held_out, start, report, warm, before)


def _fitting(warm: Warm | None, scorable: Scorable, say: Say) -> Warm | None:
    """The weights of before, where they are of these terms and features."""
    if warm is None:
        return None
    features = scorable.about_items.shape[1] + scorable.about_users.shape[1]
    center = next((len(array) for name, array in warm.head.arrays().items() if name.endswith("center")), features)
    if warm.terms == tuple(term.name for term in scorable.terms) and center == features:
        return warm
    say("the weights of before are of other terms or features; learning starts anew")
    return None


def _ndcg(head: Head | BoostedHead, pool: Pool, held_out: sp.csr_matrix, k: int) -> np.ndarray:
    """NDCG@k float64 [user] of a head on pools."""
    return rank_metrics(rank_pool(head, pool, k)[1], held_out, k).ndcg


@dataclass(frozen=True)
class Roles:
    """Who does what in a fit: blends are fitted on `pupils` of fold `teacher`, choices made on `check` of fold 0.

    in_time: the folds are periods one after the other, so the older ones know nothing of the check users' answers.
    """

    teacher: int
    pupils: np.ndarray
    check: np.ndarray
    in_time: bool


def roles_of(folds: list[Fold], check_users: int) -> Roles:
    """Periods: the newest is all for checking, the one before teaches the blend. Else a quarter of the users checks.

    Raises:
        ConfigError: there are too few users for both.
    """
    newest = folds[0].users
    if len(folds) > 1 and folds[0].now != folds[1].now:
        return Roles(1, folds[1].users, newest[:check_users], True)
    if len(newest) < FEWEST:
        raise ConfigError(
            f"{len(newest)} customers have an item to learn from and another one to be found; a model needs {FEWEST}: "
            "give the shop more of its [interactions]"
        )
    held = min(check_users, len(newest) // 4)
    return Roles(0, newest[held:], newest[:held], False)


def choose_head(given: Ingredients, rehearsal: Rehearsal) -> tuple[str, dict[str, dict[str, float]]]:
    """The kind with the highest NDCG@k on the check users, and what each kind asked for reached there; going on from an
    earlier version, its kind: it has seen their answers, and another one would not."""
    wanted, k = str(given.config.model.head), given.config.evaluation.k

    def fitted(kind: str) -> Head:
        start = _start(rehearsal.warm, kind)
        return fit_head(kind, rehearsal.sample, seed=given.seed, device=given.device, **start)

    if wanted == "auto" and rehearsal.warm is not None:
        wanted = rehearsal.warm.head.kind
    if wanted == "auto":
        heads = {kind: fitted(kind) for kind in ("linear", ENSEMBLE)}
        heads[MLPS] = mlps_of(heads[ENSEMBLE])
    else:
        heads = {wanted: fitted(wanted)}
    found = {}
    for kind, head in heads.items():
        measured = rank_metrics(rank_pool(head, rehearsal.checked, k)[1], rehearsal.held_out, k)
        found[kind] = {f"ndcg@{k}": float(measured.ndcg.mean()), f"recall@{k}": float(measured.recall.mean())}
    return max(found, key=lambda kind: found[kind][f"ndcg@{k}"]), found


def rebuilt(
    given: Ingredients,
    blend: np.ndarray,
    cold: np.ndarray,
    head: Head | BoostedHead,
    start: Weights | None,
    report: dict[str, Any],
) -> Model:
    """The same blends and head over terms computed from every event of the log."""
    now = end_of(given.log, given.config.split)
    gnn = given.learn_vectors(given.log, None, start)
    found = scorable_at(given, given.log, now, gnn)
    decay = None if gnn is None else gnn.decay
    report["gnn_relations"] = {} if gnn is None else _lengths(gnn)
    return Model(
        found.terms,
        blend,
        cold,
        head,
        given.config.model.pool_size,
        found.allowed,
        found.about_items,
        now,
        decay,
        gnn,
        report,
        batch_mib=given.config.model.batch_mib,
    )


def _weights(head: Head, checked: Pool) -> list[float]:
    """Per term how far its part of the score spreads within a pool: what is equal for all ranks nobody."""
    some = slice(0, 1_000)
    parts = head.contributions(checked.values[some], checked.context.of(np.arange(len(checked.values))[some]))
    return [float(spread) for spread in parts.std(1).mean(0)]


def _lengths(gnn: RelationVectors) -> dict[str, float]:
    """Mean length of R_s by relation: how much of an item's vector came over it."""
    length = np.linalg.norm(gnn.by_relation, axis=2).mean(0)
    return {name: float(mean) for name, mean in zip(gnn.relations, length, strict=True)}


def vectors_of_folds(given: Ingredients, folds: list[Fold], roles: Roles) -> list[RelationVectors | None]:
    """R_s per fold, oldest cut first.

    A fold starts from the one before only where that has seen nothing but what this one sees: random draws have seen
    each other's answers. The epoch is picked by users who choose nothing afterwards; where all of the newest period
    are to choose, it takes as many epochs as the period before.
    """
    found: list[RelationVectors | None] = []
    for number, fold in reversed(list(enumerate(folds))):
        start = _start_of(given, fold.seen, folds[number + 1].seen, found[-1]) if found else _start_of(given, fold.seen)
        picking = np.setdiff1d(fold.users, roles.check)[:PICKING_USERS]
        found.append(given.learn_vectors(fold.seen, answers(fold, picking) if len(picking) else None, start))
    return found[::-1]


def _start_of(
    given: Ingredients, seen: InteractionLog, before: InteractionLog | None = None, vectors: Weights | None = None
) -> Weights | None:
    """Weights of R_s that know nothing but `seen`: of the published version, or `vectors`, which know `before`."""
    warm = given.warm
    if warm is not None and warm.gnn is not None and _within(warm.seen, seen):
        return warm.gnn
    return vectors if before is not None and _within(before, seen) else None


def _start_of_all(given: Ingredients, folds: list[Fold], vectors: list[RelationVectors | None]) -> Weights | None:
    """Where R_s of the whole log starts, and after how many epochs it ends: like the newest fold, whose vectors heads
    have learned from. Draws at random have seen each other's answers and started anew; so does this one then."""
    if vectors[0] is None:
        return None
    measured = next((found.validation for found in vectors if found is not None and found.validation), ())
    older = (folds[1].seen, vectors[1]) if len(folds) > 1 else ()
    start = _start_of(given, folds[0].seen, *older) and _start_of(given, given.log, folds[0].seen, vectors[0])
    return Weights(
        state={} if start is None else start.state, gated=() if start is None else start.gated, validation=measured
    )


def answers(fold: Fold, users: np.ndarray) -> Answers:
    """What these users must find."""
    pairs = fold.held_out[users].tocoo()
    return users[pairs.row], pairs.col.astype(np.int64)


def _within(one: InteractionLog, other: InteractionLog) -> bool:
    """Whether every pair of one log is in the other."""
    mine, theirs = (np.unique(log.user * log.n_items + log.item) for log in (one, other))
    return bool(np.isin(mine, theirs, assume_unique=True).all())
