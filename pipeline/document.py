"""What an evaluation found, as one JSON document and as a page."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..config import ShopConfig
from ..scoring.evaluate import Evaluation, Row
from ..scoring.facts import cautions, facts_of
from ..scoring.model import Model
from ..scoring.report import render
from .world import World


def as_json(config: ShopConfig, results: list[Evaluation]) -> dict[str, Any]:
    """The evaluation document: rates are fractions, several splits averaged."""
    recalls = [result.pool_recall for result in results if result.pool_recall is not None]
    return {
        "shop": config.shop.name,
        "split": config.split.method,
        "users": results[0].users,
        "items": results[0].items,
        "pool_recall": float(np.mean(recalls)) if recalls else None,
        "rows": [_over_splits(rows) for rows in zip(*(result.rows for result in results), strict=True)],
        "left_out": results[0].left_out,
        "warnings": [],
    }


def _over_splits(rows: tuple[Row, ...]) -> dict[str, Any]:
    """The mean of one method's rows; with several also their standard deviation."""
    words = ("name", "setting")
    values = {key: np.array([float(row[key]) for row in rows]) for key in rows[0] if key not in words}
    mean: dict[str, Any] = {"name": rows[0]["name"], **{key: float(found.mean()) for key, found in values.items()}}
    if "setting" in rows[0]:
        mean["setting"] = "; ".join(dict.fromkeys(str(row["setting"]) for row in rows))
    return mean if len(rows) == 1 else mean | {"std": {key: float(found.std()) for key, found in values.items()}}


def facts(world: World, model: Model, results: list[Evaluation]) -> dict[str, Any]:
    """What the report says beyond the rows; of labelled pairs there are no lists to look at, and it warns alone."""
    if world.pairs is not None:
        return {"warnings": cautions(world.given)}
    assert world.test is not None
    label = world.catalogue.item_label
    found: dict[str, Any] = facts_of(world.given, model, world.snapshot, label, world.test, results)
    return found


def page(document: dict[str, Any]) -> str | None:
    """The report of a document with users' lists in it; labelled pairs have none."""
    return render(document) if document.get("pool_recall") is not None else None
