"""The whole path: load -> store -> export -> tune -> encode -> train -> evaluate -> publish, one stage after the other.

Each output knows the digest of its inputs: the graph's stands in `build/<shop>/stages.json`, a model's in its bundle. A
stage whose output is there and was made from the same inputs is skipped, and outputs appear whole, so an interruption
costs the stage that was running.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..durable import alone
from ..errors import ArtifactError, ConfigError
from ..gnn import processes
from ..kg.stores import GRAPH, opened_url
from ..scoring import bundle as bundles
from ..scoring import versions
from ..scoring.drift import drift
from ..scoring.evaluate import in_a_line
from ..scoring.update import settle_alone
from .document import as_json, facts, page
from .evaluation import evaluated
from .fitting import fitted, made_from, trained
from .graph import has_graph, stored
from .texts import encoded
from .workshop import Workshop, inputs_of
from .world import build_world


def rebuild(workshop: Workshop) -> dict[str, Any]:
    """Everything, skipping what did not change; returns a summary with the published version and its metrics.

    Started by torchrun, several processes train together, and the first of them publishes.
    """
    with processes.joined(workshop.device):
        workshop = _of_process(workshop)
        with alone(workshop.folder):
            settle_alone(workshop.folder)
            if workshop.drop_updates:
                _drop(workshop)
            processes.wait()  # until the first has settled what the others read
            _check_alike(workshop)
            return _rebuilt(workshop)


def _of_process(workshop: Workshop) -> Workshop:
    """Of several processes, all must take the same steps, so none skips anything; those beside the first build in
    folders and stores of their own."""
    if processes.count() == 1:
        return workshop
    workshop = replace(workshop, full=True, done={})
    if processes.rank() == 0:
        return workshop
    folder = workshop.folder / f"process-{processes.rank()}"
    url = opened_url(GRAPH, folder)
    return replace(workshop, folder=folder, home=workshop.folder, store_url=url, say=lambda _: None)


def _check_alike(workshop: Workshop) -> None:
    """Processes that read something else would average the gradients of two shops, or wait for each other for ever."""
    if processes.count() > 1 and not processes.agree(inputs_of(replace(workshop, store_url=""))[1]):
        raise ConfigError(
            "the processes do not read the same files, updates and settings; give all of them equal copies, equal "
            "options and one build folder"
        )


def _drop(workshop: Workshop) -> None:
    """Say what goes, and trust no graph that may hold it."""
    try:
        dropped = versions.updates(workshop.folder)
    except ArtifactError:
        told = "a damaged list"
    else:
        if not dropped:
            return
        changes, last = sum(len(batch.changes) for batch in dropped), ", ".join(batch.id for batch in dropped[-3:])
        told = f"{changes:,} changes of {len(dropped):,} batches, the last {last}"
    workshop.say(f"{'updates':<9} dropped: {told}")
    workshop.mark_done("graph", "")


def _rebuilt(workshop: Workshop) -> dict[str, Any]:
    graph_inputs, inputs = inputs_of(workshop)
    place = made_from(workshop, inputs) if workshop.is_done("graph", graph_inputs) and has_graph(workshop) else None
    if place is not None and versions.is_evaluated(place) and versions.is_published(place):
        tuned = ("tune",) if workshop.config.encoder.finetune.way != "none" else ()
        for stage in ("load", "graph", "export", *tuned, "encode", "train", "evaluate", "publish"):
            workshop.say(f"{stage:<9} unchanged, skipped")
        return {"version": place.name, "metrics": bundles.load(place)[0].metrics, "skipped": True}
    if not workshop.config.has_interactions:
        encoded(workshop, *stored(workshop, graph_inputs), workshop.config.encoder)
        if workshop.config.encoder.finetune.way != "none":
            workshop.say(f"{'tune':<9} skipped: without interactions no model reads the texts' vectors")
        workshop.say(f"{'train':<9} nothing to learn from: the shop has no interactions; its graph can be asked")
        return {"version": None, "metrics": {}, "skipped": False}
    world = build_world(workshop, graph_inputs)
    if processes.rank():
        fitted(world, workshop.indented)  # its share of the training; only the first writes and publishes
        return {"version": None, "metrics": {}, "skipped": False}
    model, place = trained(workshop, world, inputs)
    start = time.perf_counter()
    metrics: dict[str, Any] = {"validation": model.report["validation"]}
    if world.test is not None:
        result = evaluated(world, model, say=workshop.say)
        metrics |= as_json(workshop.config, [result]) | facts(world, model, [result])
        workshop.line("evaluate", f"{result.users:,} users, {in_a_line(result.rows[0])}", start)
        for warning in metrics["warnings"]:
            workshop.indented(f"caution: {warning}")
    if model.report.get("kept"):
        metrics["kept"] = model.report["kept"]
    metrics |= _drifted(workshop, place)
    versions.add_metrics(place, metrics, page(metrics))
    start = time.perf_counter()
    versions.publish(place)
    workshop.line("publish", f"version {place.name}", start)
    return {"version": place.name, "metrics": metrics, "bundle": str(place), "skipped": False}


def _before(workshop: Workshop) -> bundles.Bundle | None:
    """The published version, if there is one that can be read."""
    try:
        return bundles.load(versions.published(workshop.folder))[0]
    except ArtifactError:
        return None


def _drifted(workshop: Workshop, place: Path) -> dict[str, Any]:
    """How far the new version is from the one it replaces."""
    before, start = _before(workshop), time.perf_counter()
    if before is None:
        return {}
    found = drift(before, bundles.load(place)[0], workshop.config.evaluation.k)
    told = ", ".join(
        f"{name.replace('_', ' ')} {value:.3f}" for name, value in found.items() if name != "users" and value
    )
    workshop.line("drift", f"of {found['users']:,} users: {told}", start)
    return {"drift": found}
