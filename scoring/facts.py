"""Everything a report says beyond the rows of methods, as plain data: what `metrics.json` holds and the page shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kg.snapshot import Snapshot
from .evaluate import Evaluation
from .exposure import attributes_of, exposure
from .families import OVER_RELATIONS
from .folds import Fold, training_folds
from .leaks import Linkage, linkages
from .model import Ingredients, Model
from .segments import segments_of


def facts_of(
    given: Ingredients, model: Model, snapshot: Snapshot, item_label: str, test: Fold, results: list[Evaluation]
) -> dict[str, Any]:
    """segments, relations, model, exposure and warnings; of several splits the first, the segments of all."""
    declared = _declared(given)
    train = training_folds(given.log, given.config.split, given.config.model.folds)[0]
    linked = linkages(given.relations, test, train, declared)
    lists = results[0].lists["catalograph"]
    return {
        "segments": _segments(test, results, f"ndcg@{given.config.evaluation.k}"),
        "relations": [_relation(linkage, model) for linkage in linked],
        "model": {key: model.report[key] for key in ("head", "heads", "pool", "pool_recall", "weights", "gnn")}
        | {"search": model.report.get("search")},
        "exposure": [exposure(found, lists, test, model.allowed) for found in attributes_of(snapshot, item_label)],
        "warnings": [_warning(linkage) for linkage in linked if linkage.declared or linkage.suspicious],
    }


def cautions(given: Ingredients) -> list[str]:
    """The warnings of a report without lists: nothing is measured, shop.toml says it of the relations in use."""
    return [_leaks(relation.name) for relation in given.relations if relation.name in _declared(given)]


def _declared(given: Ingredients) -> frozenset[str]:
    return frozenset(name for name, settings in given.config.relations.items() if settings.leaks)


def _segments(test: Fold, results: list[Evaluation], metric: str) -> list[dict[str, Any]]:
    rows = []
    for segment in segments_of(test, np.sort(test.users)):
        by_method = [result.segments[segment.name] for result in results]
        per_user = {name: np.concatenate([found[name] for found in by_method]) for name in by_method[0]}
        asked = ~np.isnan(per_user["catalograph"])
        if asked.any():
            measured = {name: float(found[asked].mean()) for name, found in per_user.items()}
            rows.append({"name": segment.name, "meaning": segment.meaning, "users": int(asked.sum()), metric: measured})
    return rows


def _relation(linkage: Linkage, model: Model) -> dict[str, Any]:
    weights, lengths = model.report["weights"], model.report["gnn_relations"]
    return {
        "relation": linkage.relation,
        "weight": sum(weight for term, weight in weights.items() if _relation_of(term) == linkage.relation),
        "gnn": lengths.get(linkage.relation),
        "linked_test": linkage.test,
        "linked_train": linkage.train,
        "ci95": list(linkage.ci95),
        "leaks": linkage.declared,
        "suspicious": linkage.suspicious,
    }


def _relation_of(term: str) -> str | None:
    kind, _, rest = term.removeprefix("fresh_").partition(":")
    return rest.rpartition(".")[0] if kind in OVER_RELATIONS else None


def _warning(linkage: Linkage) -> str:
    if linkage.declared:
        return _leaks(linkage.relation)
    return (
        f"{linkage.relation} links histories to test items more often ({linkage.test:.2%} of pairs) than to training "
        f"items held out alike ({linkage.train:.2%}): was it collected with the test part in it?"
    )


def _leaks(relation: str) -> str:
    return f"{relation} was collected with the test part in it (leaks = true): figures with it flatter"
