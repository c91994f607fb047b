"""A world to a fitted model, and the model to a bundle of the build folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..config import EncoderSection, ShopConfig
from ..encoders.weights import resolve
from ..kg.stores import kept_url
from ..scoring import bundle as bundles
from ..scoring import versions
from ..scoring.clicks import fit_clicks, validate_clicks
from ..scoring.evaluate import in_a_line
from ..scoring.knowledge import edges_of, kinds_of, with_relations
from ..scoring.model import LearnVectors, Model, fit, validation
from .workshop import Say, Workshop
from .world import World, on_graph


def trained(workshop: Workshop, world: World, inputs: str) -> tuple[Model, Path]:
    """The model fitted on these inputs and the folder of its bundle: an earlier run's, or a new one."""
    place = made_from(workshop, inputs)
    if place is not None:
        workshop.say(f"{'train':<9} unchanged, version {place.name}")
        return bundles.load(place)[0].model, place
    start = time.perf_counter()
    model = fitted(world, workshop.indented)
    place = versions.write(bundle_of(workshop, world, model, inputs), workshop.folder, workshop.updates)
    told = f"{len(model.terms)} terms, pool {model.report['pool']}, validation {in_a_line(model.report['validation'])}"
    workshop.line("train", told, start)
    return model, place


def fitted(world: World, say: Say) -> Model:
    """The model of users' lists, or of labelled pairs where there are some."""
    return fit(world.given, say) if world.pairs is None else fit_clicks(world.given, world.pairs, say)


def validated(
    workshop: Workshop, world: World, config: ShopConfig, remembered: Callable[[LearnVectors], LearnVectors]
) -> dict[str, float]:
    """What a fit of the same world reaches on its validation part at other settings of [model], [gnn] and [relations].

    remembered: wraps the way to relation vectors, for those who have learned some before.
    """
    told = replace(workshop, config=config, say=lambda _: None)
    given = on_graph(replace(world.given, config=config), told, world.catalogue, world.snapshot)
    given = replace(given, learn_vectors=remembered(given.learn_vectors))
    if world.pairs is not None:
        return validate_clicks(given, world.pairs)
    return validation(given)


def made_from(workshop: Workshop, inputs: str) -> Path | None:
    """The bundle of an earlier run with the same inputs."""
    return None if workshop.full else versions.made_from(workshop.folder, inputs)


def bundle_of(workshop: Workshop, world: World, model: Model, inputs: str) -> bundles.Bundle:
    """The model with all that a reader of it needs; `inputs`: the digest of what it was made from."""
    catalogue, snapshot = world.catalogue, world.snapshot
    label, user_label = catalogue.item_label, catalogue.user_label
    table = catalogue.nodes[label]
    order = pa.array(snapshot.ids[label].rows(table["id"].to_pylist())).to_numpy()
    items = table.take(pa.array(np.argsort(order)))
    edges, kinds = edges_of(snapshot, label), kinds_of(snapshot, label)
    return bundles.Bundle(
        shop=workshop.config.shop.name,
        inputs=inputs,
        config=json.loads(workshop.config.model_dump_json(exclude={"shop": {"data"}})),
        model=model,
        log=world.given.log,
        items=with_relations(items, edges, kinds, (label, user_label)),
        users=pa.table({"id": list(snapshot.ids[user_label].ids)}),
        text=world.given.text,
        encoder=None if world.given.text is None else _named(workshop, world.encoder),
        edges=edges,
        kinds=kinds,
        feedback=versions.feedback(workshop.folder),
        store=kept_url(workshop.store_url, workshop.folder),
    )


def _named(workshop: Workshop, encoder: EncoderSection) -> dict[str, str]:
    """The encoder as a bundle names it: a tuned one by its place in the build folder, which may move."""
    tuned = Path(encoder.model).is_relative_to(workshop.folder)
    model = Path(encoder.model).relative_to(workshop.folder).as_posix() if tuned else encoder.model
    return {"model": model, "digest": resolve(encoder.model).digest}
