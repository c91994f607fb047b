"""Labelled pairs (1 = yes, 0 = no): a model of the chance of a yes, and its evaluation by AUC and F1.

Only yeses are history. The terms of a training pair are cross-fitted: computed from the yeses of other folds alone,
since a term that has seen its own pair's answer would teach the head to look for it. Choices are made on pairs that the
shop names (`split.valid`), or that are cut out of the training part.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..kg.log import InteractionLog, positives
from .baselines import Baseline, DenseItemItem, Setting, applicable, told, tune
from .boosted import BoostedHead, fit_boosted
from .cold import learn_cold
from .context import Context
from .evaluate import Evaluation, Row
from .evidence import Evidence
from .folds import end_of, labelled_cut, training_folds
from .head import Head
from .metrics import auc, f1
from .model import PICKING_USERS, Ingredients, Model, Say, answers, evidence_at, rebuilt, roles_of, scorable_at
from .pool import Question, Scorable, choose_blend
from .profiles import rows_of
from .terms import ProfileRows, Term

FOLDS = 4
CHUNK = 16_384  # pairs of which one term is computed at once
WARM = 2  # yeses of an item from which its pairs count as warm
UNCUT = "training has no two parts with a yes and a no each; name one by split.valid, or try another split.period_days"


@dataclass(frozen=True)
class Pairs:
    """Labelled pairs of the three parts; `valid` and `test` may be empty."""

    train: InteractionLog
    valid: InteractionLog
    test: InteractionLog


@dataclass(frozen=True)
class Rehearsal:
    """The training pairs played through: what was before, and the labelled pairs `asked` of it. given.log: the yeses
    of `train`."""

    given: Ingredients
    train: InteractionLog
    asked: InteractionLog

    @property
    def now(self) -> float | None:
        """The cut in days since 1970, None without times."""
        return end_of(self.given.log, self.given.config.split)

    @cached_property
    def evidence(self) -> Evidence:
        """What baselines may look at."""
        return evidence_at(self.given, self.given.log, self.now, None)


def rehearsal_of(given: Ingredients, pairs: Pairs) -> Rehearsal | None:
    """Where choices are made: on the pairs of `split.valid`, which are in no model, or on a cut of the training part.

    None where training cannot be cut so that both sides have a yes and a no. The test pairs are not looked at.
    """
    if len(pairs.valid):
        return Rehearsal(given, pairs.train, pairs.valid)
    hidden, split = labelled_cut(pairs.train, given.config.split)
    train, asked = pairs.train.where(~hidden), pairs.train.where(hidden)
    if any(len(np.unique(labels_of(side))) < 2 for side in (train, asked)):
        return None
    config = given.config.model_copy(update={"split": split})
    return Rehearsal(replace(given, config=config, log=positives(train)), train, asked)


def validate_clicks(given: Ingredients, pairs: Pairs, say: Say = lambda _: None) -> dict[str, float]:
    """What :func:`fit_clicks` reports of the validation pairs; nothing where there are none."""
    found = rehearsal_of(given, pairs)
    if found is None:
        return {}
    before = found.given
    head = fit_boosted(cross_fitted(before, found.train, say), labels_of(found.train), seed=given.seed)
    vectors = before.learn_vectors(before.log, None, None)
    said = _said(head, scorable_at(before, before.log, found.now, vectors), found.asked)
    return figures(said, 0.0, found.asked, before.log)


def fit_clicks(given: Ingredients, pairs: Pairs, say: Say = lambda _: None) -> Model:
    """Trees over the cross-fitted terms of the training pairs; lists are drawn from a pool as in any other shop.

    given.log: the yeses of the training pairs. AUC and F1 of the validation pairs go into the report: of those the shop
    names by this model, of those cut out of training by one of what was before them.

    Raises:
        CatalographError: all training pairs have the same label.
    """
    start, settings = time.perf_counter(), given.config.model
    head = fit_boosted(cross_fitted(given, pairs.train, say), labels_of(pairs.train), seed=given.seed)
    fold = training_folds(given.log, given.config.split, settings.folds)[0]
    roles = roles_of([fold], settings.check_users)
    scorable = scorable_at(
        given, fold.seen, fold.now, given.learn_vectors(fold.seen, answers(fold, roles.pupils[:PICKING_USERS]), None)
    )
    report: dict[str, Any] = {"terms": [term.name for term in scorable.terms], "head": head.kind}
    report["pool"], blend, report["pool_recall"] = choose_blend(
        Question(scorable, fold.held_out, roles.pupils),
        Question(scorable, fold.held_out, roles.check),
        kind=settings.pool,
        size=settings.pool_size,
        seed=given.seed,
    )
    cold = learn_cold(scorable, fold.held_out, roles.pupils, seed=given.seed)
    model = rebuilt(given, blend, cold, head, None, report)
    if len(pairs.valid):
        report["validation"] = figures(log_odds(model, given.log, pairs.valid), 0.0, pairs.valid, given.log)
    else:
        report["validation"] = validate_clicks(given, pairs, lambda line: say(f"validation: {line}"))
    report["fit_s"] = round(time.perf_counter() - start, 2)
    return model


def cross_fitted(given: Ingredients, asked: InteractionLog, say: Say = lambda _: None) -> np.ndarray:
    """float32 [event, term]: the terms of every event's pair, from the yeses of the other folds."""
    fold, now = fold_numbers(asked, given.seed), end_of(given.log, given.config.split)
    values: np.ndarray | None = None
    for number in range(FOLDS):
        here = np.flatnonzero(fold == number)
        seen = asked.where((fold != number) & (labels_of(asked) == 1))
        found = _values(scorable_at(given, seen, now, given.learn_vectors(seen, None, None)), asked.where(here))
        values = np.empty((len(asked), found.shape[1]), np.float32) if values is None else values
        values[here] = found
        say(f"terms of {len(here):,} pairs, fold {number + 1} of {FOLDS}")
    assert values is not None
    return values


def fold_numbers(asked: InteractionLog, seed: int) -> np.ndarray:
    """int64 [event] below FOLDS, drawn by pair: a pair that occurs twice must not find its other answer."""
    pairs, place = np.unique(asked.user * asked.n_items + asked.item, return_inverse=True)
    numbers: np.ndarray = np.random.default_rng(seed).permutation(len(pairs)) % FOLDS
    return numbers[place]


def log_odds(model: Model, history: InteractionLog, pairs: InteractionLog) -> np.ndarray:
    """float64 [pair]: the model's log-odds of a yes, given the yeses in `history`."""
    return _said(model.head, model.scorable(history), pairs)


def _said(head: Head | BoostedHead, scorable: Scorable, pairs: InteractionLog) -> np.ndarray:
    values = _values(scorable, pairs)[:, None]
    nothing = Context(np.empty((len(pairs), 1, 0), np.float32), np.empty((len(pairs), values.shape[-1]), np.float32))
    return np.asarray(head.scores(values, nothing)[:, 0], np.float64)


def _values(scorable: Scorable, pairs: InteractionLog) -> np.ndarray:
    """float32 [pair, term]."""
    terms = [_of_pairs(term, scorable.profiles, pairs) for term in scorable.terms]
    return np.stack(terms, axis=1)


def _of_pairs(term: Term | DenseItemItem, profiles: ProfileRows, pairs: InteractionLog) -> np.ndarray:
    """float32 [pair]: one term for every pair."""
    found = []
    for start in range(0, max(len(pairs), 1), CHUNK):
        users, items = pairs.user[start : start + CHUNK], pairs.item[start : start + CHUNK]
        found.append(term.pairs({term.profile: profiles[term.profile][users]}, items))
    return np.concatenate(found)


def labels_of(pairs: InteractionLog) -> np.ndarray:
    """int8 [pair], 1 = yes."""
    assert pairs.label is not None
    return np.asarray(pairs.label)


def figures(scores: np.ndarray, border: float, pairs: InteractionLog, history: InteractionLog) -> dict[str, float]:
    """auc and f1 of scores [pair], yes from `border` on; `_warm`: of pairs whose item has two training yeses or more.

    Where every item has a yes somewhere, an item without one in training must have it among the pairs asked: models
    that read counts can guess such pairs, so the warm ones are told apart.
    """
    yeses = np.bincount(history.item, minlength=history.n_items)
    found: dict[str, float] = {}
    for suffix, kept in (("", np.ones(len(pairs), bool)), ("_warm", yeses[pairs.item] >= WARM)):
        labels, said = labels_of(pairs)[kept], scores[kept]
        found |= {f"auc{suffix}": auc(labels, said), f"f1{suffix}": f1(labels, said, border)}
    return found


def evaluate_clicks(
    given: Ingredients, model: Model, pairs: Pairs, *, baselines: Sequence[Baseline] = (), say: Say = lambda _: None
) -> Evaluation:
    """Rows of auc and f1 on the test pairs, which are read here and nowhere else.

    Ours says yes at a chance of one half. A baseline's setting, by AUC, and its border, by F1, are chosen on the
    validation pairs.
    """
    fit_s, test = float(str(model.report["fit_s"])), pairs.test
    ours = figures(log_odds(model, given.log, test), 0.0, test, given.log)
    rows: list[Row] = [{"name": "catalograph", **ours, "fit_s": fit_s}]
    left_out: dict[str, str] = {}
    evidence, rehearsal = evidence_at(given, given.log, model.now, None), rehearsal_of(given, pairs)
    for baseline, lacking in applicable(evidence, baselines):
        if lacking is not None or rehearsal is None:
            left_out[baseline.name] = lacking or f"no pairs to tune it on: {UNCUT}"
            continue
        start = time.perf_counter()
        setting, border, term = _tuned(baseline, rehearsal)
        if not len(pairs.valid):  # what was cut out of training is in it again
            term = baseline.build(evidence, setting)
        found = figures(_alone(term, evidence, test), border, test, given.log)
        spent = round(time.perf_counter() - start, 2)
        rows.append({"name": baseline.name, **found, "fit_s": spent, "setting": told(setting)})
        say(f"{baseline.name}: auc {found['auc']:.4f} ({told(setting) or 'nothing to set'})")
    return Evaluation(len(np.unique(test.user)), test.n_items, rows, left_out, None, {}, {}, {})


def _tuned(baseline: Baseline, rehearsal: Rehearsal) -> tuple[Setting, float, Term]:
    """The setting that orders the validation pairs best, from which score on it says yes, and its term."""
    before, asked = rehearsal.evidence, rehearsal.asked
    setting, term = tune(baseline, before, lambda term: auc(labels_of(asked), _alone(term, before, asked)))
    said = _alone(term, before, asked)
    borders = np.unique(np.quantile(said, np.linspace(0.05, 0.95, 19)))
    return setting, float(max(borders, key=lambda border: f1(labels_of(asked), said, border))), term


def _alone(term: Term, evidence: Evidence, pairs: InteractionLog) -> np.ndarray:
    """float32 [pair]: a baseline's scores."""
    return _of_pairs(term, {term.profile: rows_of(evidence.histories, term.profile)}, pairs)
