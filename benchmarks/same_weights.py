"""The model a rebuild makes when nothing is learned: what an update is compared with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from catalograph.gnn.train import RelationVectors, Weights, propagate
from catalograph.kg.log import InteractionLog
from catalograph.pipeline.fitting import bundle_of
from catalograph.pipeline.workshop import Workshop
from catalograph.pipeline.world import build_world
from catalograph.scoring.bundle import Bundle, StoredVectors
from catalograph.scoring.model import Answers, rebuilt


def rebuilt_with_weights(workshop: Workshop, shop: Bundle, stored: StoredVectors | None) -> Bundle:
    """The files of the shop, and the updates of the build folder, loaded, stored, exported and encoded as in every
    rebuild, under the weights of an earlier bundle."""
    world = build_world(workshop)
    label = world.catalogue.item_label
    old = {id_: row for row, id_ in enumerate(shop.items["id"].to_pylist())}
    rows = np.array([old.get(id_, -1) for id_ in world.snapshot.ids[label].ids])
    unused = {name for name, relation in workshop.config.relations.items() if not relation.use}

    def learn(seen: InteractionLog, valid: Answers | None, start: Weights | None) -> RelationVectors | None:
        if stored is None:
            return None
        return propagate(
            world.snapshot.data,
            label,
            seen,
            world.given.text,
            workshop.config.gnn,
            exclude=world.catalogue.derived | unused,
            trained=stored,
            rows=rows,
        )

    given, model = replace(world.given, learn_vectors=learn), shop.model
    return bundle_of(workshop, world, rebuilt(given, model.blend, model.cold, model.head, None, {}), "")
