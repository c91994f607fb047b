"""A model on the test part, beside baselines and beside itself on other graphs; the document and the page of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..config import ShopConfig
from ..durable import alone
from ..errors import ConfigError
from ..scoring import versions
from ..scoring.ablation import WITHOUT_GNN, compared, graphs, verdict
from ..scoring.baselines import Baseline, chosen
from ..scoring.clicks import evaluate_clicks
from ..scoring.evaluate import Evaluation, Row, comparable, evaluate
from ..scoring.evidence import relations_of
from ..scoring.facts import cautions, facts_of
from ..scoring.model import Ingredients, Model, fit
from ..scoring.report import render
from ..scoring.update import settle_alone
from .fitting import fitted, trained
from .workshop import Say, Workshop, in_a_line, inputs_of
from .world import World, build_world, learner


def run_evaluation(
    workshop: Workshop,
    *,
    baselines: bool,
    all_baselines: bool = False,
    ablation: bool = False,
    each_relation: bool = False,
) -> dict[str, Any]:
    """Test the published model when it is up to date, else fit one; over every split of the shop.

    `baselines` are those that shop.toml names, else those that take seconds; `all_baselines` are really all.
    `ablation` fits again with the graph shuffled and with none, `each_relation` also without one relation at a time.
    Returns the document `evaluate --json` prints; it lies in the build folder, beside a page that shows it.
    """
    named = () if all_baselines else workshop.config.evaluation.baselines
    asked = chosen(named, every=all_baselines) if baselines or all_baselines else ()
    with alone(workshop.folder):
        settle_alone(workshop.folder)
        return _tested(workshop, asked, ablation=ablation, each_relation=each_relation)


def _tested(
    workshop: Workshop, baselines: Sequence[Baseline], *, ablation: bool, each_relation: bool
) -> dict[str, Any]:
    if workshop.config.split.method == "none":
        raise ConfigError("this shop holds nothing out; give shop.toml a [split] to evaluate")
    if ablation and workshop.config.interactions.label is not None:
        raise ConfigError("--ablation compares users' lists, and this shop's pairs are labelled; leave it out")
    found: dict[str, list[Evaluation]] = {"real": []}
    worlds: list[tuple[World, Model]] = []
    graph_inputs, inputs = inputs_of(workshop)
    splits = max(len(workshop.config.split.column), 1)
    if splits > 1:  # what is published belongs to the first split; the others are looked at beside it
        workshop = replace(workshop, store_url=f"ladybug:{workshop.folder / 'evaluation.lbug'}")
    for split in range(splits):
        world = build_world(workshop, graph_inputs if splits == 1 else None, split=split)
        if world.test is None:
            raise ConfigError(
                "the split holds out no interaction of a customer with a history; check [split] in shop.toml"
            )
        model = trained(workshop, world, inputs)[0] if splits == 1 else fitted(world, workshop.indented)
        found["real"].append(evaluated(world, model, baselines=baselines, say=workshop.say))
        for graph, result in _ablated(workshop, world, each_relation) if ablation else ():
            found.setdefault(graph, []).append(result)
        worlds = worlds or [(world, model)]
    found["real"] = comparable(found["real"])
    document: dict[str, Any] = as_json(workshop.config, found["real"]) | facts(*worlds[0], found["real"])
    if ablation:
        document["ablation"] = compared(found, workshop.config.evaluation.k)
        document["gnn"] = verdict(document["ablation"], workshop.config.evaluation.k)
    versions.add_metrics(workshop.folder, document, page(document))
    workshop.say(f"{'report':<9} in {workshop.folder}")
    return document


def evaluated(world: World, model: Model, *, baselines: Sequence[Baseline] = (), say: Say) -> Evaluation:
    """The model and the baselines on the world's test part."""
    if world.pairs is not None:
        return evaluate_clicks(world.given, model, world.pairs, baselines=baselines, say=say)
    assert world.test is not None
    return evaluate(world.given, model, world.test, baselines=baselines, say=say)


def _ablated(workshop: Workshop, world: World, each_relation: bool) -> Iterator[tuple[str, Evaluation]]:
    """The same fit and test on what :func:`_instead` gives; texts, purchases and seed are those of the real one."""
    assert world.test is not None
    relations = [relation.name for relation in world.given.relations] if each_relation else []
    for name, given in _instead(workshop, world, relations):
        start = time.perf_counter()
        result = evaluate(given, fit(given, workshop.indented), world.test)
        workshop.line("ablation", f"graph {name}: {in_a_line(result.rows[0])}", start)
        yield name, result


def _instead(workshop: Workshop, world: World, relations: Sequence[str]) -> Iterator[tuple[str, Ingredients]]:
    """What the ablation fits on: other graphs, and the real one without relation vectors, where they are learned."""
    catalogue, given = world.catalogue, world.given
    others = graphs(world.snapshot, relations, seed=workshop.seed) if _reads_graph(world) else None
    if others is None:
        told = "the model reads no relation, so they would be the real one"
        workshop.say(f"{'ablation':<9} graphs shuffled and empty skipped: {told}")
    for name, snapshot in others or ():
        found = relations_of(snapshot, catalogue.item_label, workshop.config.relations, catalogue.derived)
        learn = learner(workshop, catalogue, snapshot, given.text)
        yield name, replace(given, relations=found, learn_vectors=learn)
    if workshop.config.gnn.model != "none":
        yield WITHOUT_GNN, replace(given, learn_vectors=lambda *_: None)


def _reads_graph(world: World) -> bool:
    """Whether another graph could give another model: an encoder of a team's own may read relations of others
    than items, too."""
    return bool(world.given.relations) or world.given.config.gnn.model not in ("none", "relational")


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
