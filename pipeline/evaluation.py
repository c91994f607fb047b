"""A model on the test part, beside baselines and beside itself on other graphs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ..durable import alone
from ..errors import ConfigError
from ..scoring import versions
from ..scoring.ablation import WITHOUT_GNN, compared, graphs, verdict
from ..scoring.baselines import Baseline, chosen
from ..scoring.clicks import evaluate_clicks
from ..scoring.evaluate import Evaluation, comparable, evaluate, in_a_line
from ..scoring.model import Ingredients, Model, fit
from ..scoring.update import settle_alone
from .document import as_json, facts, page
from .fitting import fitted, trained
from .workshop import Say, Workshop, inputs_of
from .world import World, build_world, on_graph


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
        yield name, on_graph(given, workshop, catalogue, snapshot)
    if workshop.config.gnn.model != "none":
        yield WITHOUT_GNN, replace(given, learn_vectors=lambda *_: None)


def _reads_graph(world: World) -> bool:
    """Whether another graph could give another model: an encoder of a team's own may read relations of others
    than items, too."""
    return bool(world.given.relations) or world.given.config.gnn.model not in ("none", "relational")
