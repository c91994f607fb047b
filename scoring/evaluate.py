"""Evaluation: full ranking over all candidates, training items masked, one code path for us and the baselines."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .baselines import Baseline, applicable, ndcg_judge, ranked, told, tune
from .evidence import histories_of
from .folds import Fold, training_folds
from .head import rank_pool
from .metrics import coverage, rank_metrics
from .model import Ingredients, Model, Say, candidates, evidence_at
from .pool import fill
from .segments import ndcg_within, segments_of

Row = dict[str, float | str]
RATES = ("ndcg", "recall", "hr", "precision", "auc", "f1")  # how their names begin
CHUNK = 4_096  # users ranked between two progress lines; bounds what is held at once


@dataclass(frozen=True)
class Evaluation:
    """rows: a dict per method, rates as fractions. left_out: why a baseline is missing.

    pool_recall: share of the test pairs that the pools held; None where pairs were scored and nothing was ranked.
    lists: int64 [user, k] by method. per_user: NDCG@k float64 [user] by method. segments: the same within each segment,
    NaN where a user has no part in it.
    """

    users: int
    items: int
    rows: list[Row]
    left_out: dict[str, str]
    pool_recall: float | None
    lists: dict[str, np.ndarray]
    per_user: dict[str, np.ndarray]
    segments: dict[str, dict[str, np.ndarray]]


def evaluate(
    given: Ingredients, model: Model, test: Fold, *, baselines: Sequence[Baseline] = (), say: Say = lambda _: None
) -> Evaluation:
    """Our row, and the tuned baselines' when asked. The test part is read here and nowhere else."""
    k, users = given.config.evaluation.k, np.sort(test.users)
    items, recall = _ours(model.on(given.device), test, users, k)
    lists = {"catalograph": items}
    rows = [_row("catalograph", items, test, users, k, float(str(model.report["fit_s"])))]
    left_out: dict[str, str] = {}
    if baselines:
        check = training_folds(given.log, given.config.split, given.config.model.folds)[0]
        sample = check.users[: given.config.model.check_users]
        now = evidence_at(given, given.log, test.now, None)
        before = evidence_at(given, check.seen, check.now, None)
        for baseline, lacking in applicable(now, baselines):
            if lacking is not None:
                left_out[baseline.name] = lacking
                say(f"{baseline.name}: left out, {lacking}")
                continue
            start = time.perf_counter()
            allowed = candidates(given, check.seen)
            setting, _ = tune(baseline, before, ndcg_judge(before, allowed, check.held_out, sample, k))
            term = baseline.build(now, setting)
            spent = time.perf_counter() - start
            found = ranked(term, now, model.allowed, users, k)
            lists[baseline.name] = found
            rows.append({**_row(baseline.name, found, test, users, k, spent), "setting": told(setting)})
            say(f"{baseline.name}: ndcg@{k} {rows[-1][f'ndcg@{k}']:.4f} ({told(setting) or 'nothing to set'})")
    per_user = {name: rank_metrics(found, test.held_out[users], k).ndcg for name, found in lists.items()}
    segments = {
        segment.name: {name: ndcg_within(segment, found, test, users, k) for name, found in lists.items()}
        for segment in segments_of(test, users)
    }
    return Evaluation(len(users), model.allowed.size, rows, left_out, recall, lists, per_user, segments)


def comparable(results: Sequence[Evaluation]) -> list[Evaluation]:
    """The results of several splits without the baselines that any of them left out: free memory changes in between,
    and a mean over some of the splits would stand beside means over all."""
    why = {name: reason for result in reversed(results) for name, reason in result.left_out.items()}

    def kept(by_method: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: found for name, found in by_method.items() if name not in why}

    return [
        replace(
            result,
            rows=[row for row in result.rows if row["name"] not in why],
            left_out=why,
            lists=kept(result.lists),
            per_user=kept(result.per_user),
            segments={name: kept(found) for name, found in result.segments.items()},
        )
        for result in results
    ]


def _ours(model: Model, test: Fold, users: np.ndarray, k: int) -> tuple[np.ndarray, float]:
    scorable, found, inside = model.scorable(test.seen), [], 0.0
    for start in range(0, len(users), CHUNK):
        chunk = users[start : start + CHUNK]
        pool = fill(scorable, chunk, model.blend, model.pool_size)
        found.append(rank_pool(model.head, pool, k)[1])
        inside += pool.recall(test.held_out[chunk]) * test.held_out[chunk].nnz
    return np.concatenate(found), inside / max(test.held_out[users].nnz, 1)


def _row(name: str, items: np.ndarray, test: Fold, users: np.ndarray, k: int, fit_s: float) -> Row:
    measured = rank_metrics(items, test.held_out[users], k)
    have = histories_of(test.seen).matrix()
    popularity = np.asarray(have.sum(0)).ravel()
    shown = items[items >= 0]
    mean = float(popularity[shown].mean()) if len(shown) else 0.0
    return {
        "name": name,
        f"ndcg@{k}": float(measured.ndcg.mean()),
        f"recall@{k}": float(measured.recall.mean()),
        f"hr@{k}": float(measured.hr.mean()),
        f"precision@{k}": float(measured.precision.mean()),
        f"coverage@{k}": float(coverage(items, test.seen.n_items)),
        f"popularity@{k}": mean,
        f"lift@{k}": mean / float(popularity[have[users].indices].mean()),
        "fit_s": round(fit_s, 2),
    }


def in_a_line(row: Mapping[str, float | str]) -> str:
    """The rates of a row as text."""
    return ", ".join(f"{name} {value:.4f}" for name, value in row.items() if name.startswith(RATES))
