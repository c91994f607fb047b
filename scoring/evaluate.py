"""Evaluation: full ranking over all candidates, training items masked, one code path for us and the baselines."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from .baselines import applicable, ranked, tune
from .folds import Fold, training_folds
from .head import rank_pool
from .metrics import coverage, rank_metrics
from .model import Ingredients, Model, Say, candidates, evidence_at
from .pool import fill

Row = dict[str, float | str]
CHUNK = 4_096  # users ranked between two progress lines; bounds what is held at once


@dataclass(frozen=True)
class Evaluation:
    """rows: a dict per method, rates as fractions. left_out: why a baseline is missing. per_user: NDCG of each method.

    pool_recall: share of the test pairs that the pools held; None where pairs were scored and nothing was ranked.
    """

    users: int
    items: int
    rows: list[Row]
    left_out: dict[str, str]
    per_user: dict[str, np.ndarray]
    pool_recall: float | None


def evaluate(given: Ingredients, model: Model, test: Fold, *, baselines: bool, say: Say = lambda _: None) -> Evaluation:
    """Our row, and the tuned baselines' when asked. The test part is read here and nowhere else."""
    k, users = given.config.evaluation.k, np.sort(test.users)
    per_user: dict[str, np.ndarray] = {}
    items, recall = _ours(model, test, users, k)
    rows = [_row("catalograph", items, test, users, k, float(str(model.report["fit_s"])), per_user)]
    left_out: dict[str, str] = {}
    if baselines:
        check = training_folds(given.log, given.config.split, 1)[0]
        sample = check.users[: given.config.model.check_users]
        now = evidence_at(given, given.log, test.now, None)
        before = evidence_at(given, check.seen, check.now, None)
        for baseline, lacking in applicable(now, given.config.evaluation.baselines):
            if lacking is not None:
                left_out[baseline.name] = lacking
                say(f"{baseline.name}: left out, {lacking}")
                continue
            start = time.perf_counter()
            allowed = candidates(given, check.seen)
            setting = tune(baseline, before, allowed, check.held_out, sample, k)
            term = baseline.make(now, setting)
            spent = time.perf_counter() - start
            found = ranked(term, now, model.allowed, users, k)
            rows.append({**_row(baseline.name, found, test, users, k, spent, per_user), "setting": setting})
            say(f"{baseline.name}: ndcg@{k} {rows[-1][f'ndcg@{k}']:.4f} (setting {setting:g})")
    return Evaluation(len(users), model.allowed.size, rows, left_out, per_user, recall)


def _ours(model: Model, test: Fold, users: np.ndarray, k: int) -> tuple[np.ndarray, float]:
    scorable, found, inside = model.scorable(test.seen), [], 0.0
    for start in range(0, len(users), CHUNK):
        chunk = users[start : start + CHUNK]
        pool = fill(scorable, chunk, model.blend, model.pool_size)
        found.append(rank_pool(model.head, pool, k)[1])
        inside += pool.recall(test.held_out[chunk]) * test.held_out[chunk].nnz
    return np.concatenate(found), inside / max(test.held_out[users].nnz, 1)


def _row(
    name: str, items: np.ndarray, test: Fold, users: np.ndarray, k: int, fit_s: float, per_user: dict[str, np.ndarray]
) -> Row:
    measured = rank_metrics(items, test.held_out[users], k)
    per_user[name] = measured.ndcg
    popularity = np.bincount(np.unique(test.seen.user * test.seen.n_items + test.seen.item) % test.seen.n_items)
    popularity = np.pad(popularity, (0, test.seen.n_items - len(popularity)))
    shown = items[items >= 0]
    return {
        "name": name,
        f"ndcg@{k}": float(measured.ndcg.mean()),
        f"recall@{k}": float(measured.recall.mean()),
        f"hr@{k}": float(measured.hr.mean()),
        f"precision@{k}": float(measured.precision.mean()),
        f"coverage@{k}": float(coverage(items, test.seen.n_items)),
        f"popularity@{k}": float(popularity[shown].mean()) if len(shown) else 0.0,
        "fit_s": round(fit_s, 2),
    }
