"""What a shop is once loaded, stored, exported and encoded: all that fitting and testing need."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc

from ..config import EncoderSection, ShopConfig
from ..errors import ConfigError, did_you_mean
from ..gnn.train import RelationVectors, Weights, train_relational
from ..kg.log import InteractionLog, positives
from ..kg.snapshot import IdMap, Snapshot
from ..loaders.catalogue import Catalogue
from ..scoring import bundle as bundles
from ..scoring import versions
from ..scoring.clicks import Pairs
from ..scoring.evidence import keys_of, relations_of, unread_relations
from ..scoring.families import check_names
from ..scoring.folds import Fold, asks_next, end_of, fold_of
from ..scoring.model import Answers, Ingredients, LearnVectors
from ..scoring.warm import Warm, fits, warm_of
from .graph import stored
from .texts import encoded, tuned
from .workshop import Workshop

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class World:
    """What a shop is once loaded, stored, exported and encoded: ready to fit and to test."""

    catalogue: Catalogue
    snapshot: Snapshot
    given: Ingredients
    test: Fold | None
    pairs: Pairs | None  # of shops whose interactions are labelled
    encoder: EncoderSection  # that makes the text vectors


def build_world(workshop: Workshop, graph_inputs: str | None = None, *, split: int = 0) -> World:
    """Load, store, export, tune and encode, and cut the events into the parts of the shop's split, of several the
    `split`-th.

    graph_inputs: the digest of what the graph is made from, where a store that holds it already may be left as it is.

    Raises:
        ConfigError: [relations] or `model.off` names what the graph does not have or no model reads.
    """
    config = workshop.config
    catalogue, snapshot = stored(workshop, graph_inputs, split=split)
    users, items = snapshot.ids[catalogue.user_label], snapshot.ids[catalogue.item_label]
    table = catalogue.interactions
    logs = {name: InteractionLog.of(table.filter(pc.equal(table["part"], name)), users, items) for name in PARTS}
    train, hidden = positives(logs["train"]), positives(logs["test"])
    _check_relations(config, snapshot)
    relations = relations_of(snapshot, catalogue.item_label, config.relations, catalogue.derived)
    known = keys_of(snapshot, catalogue.item_label, catalogue.derived)  # a name may be of one that is switched off, too
    check_names(config.model.off, {key.relation for key in known})
    encoder = tuned(workshop, catalogue, snapshot, train, relations)
    text = encoded(workshop, catalogue, snapshot, encoder)
    test = fold_of(train, hidden, end_of(train, config.split)) if len(hidden) else None
    warm = _warm(workshop, users, items, text, test)
    learn = _learner(workshop, catalogue, snapshot, train, text)
    given = Ingredients(config, train, relations, text, learn, workshop.seed, warm, workshop.device)
    if test is not None and config.evaluation.users:
        test = replace(test, users=test.users[: config.evaluation.users])
    pairs = None if train.label is None else Pairs(*(logs[name] for name in PARTS))
    if test is not None and pairs is None and not len(test.users):
        workshop.indented("nobody of the test part has a history: it asks nothing")
        test = None
    return World(catalogue, snapshot, given, test, pairs, encoder)


def _warm(workshop: Workshop, users: IdMap, items: IdMap, text: np.ndarray | None, test: Fold | None) -> Warm | None:
    """The weights of the published version, when learning is to go on from them and they know no answer of the test."""
    if not workshop.warm:
        return None
    place = versions.published(workshop.home or workshop.folder)
    workshop.say(f"{'warm':<9} from version {place.name}")
    bundle, vectors = bundles.load(place)
    if vectors is not None and not fits(bundle, workshop.config.gnn, text):
        workshop.indented("its relation vectors are of other settings of [gnn] or other texts; they start anew")
        vectors = None
    warm = warm_of(bundle, vectors, users, items)
    if warm is not None and test is not None and (known := int(test.held_out[warm.seen.user, warm.seen.item].sum())):
        workshop.indented(f"it has learned from {known:,} events that are the test part now; learning starts anew")
        return None
    return warm


def _check_relations(config: ShopConfig, snapshot: Snapshot) -> None:
    """A misspelt [relations.NAME] would leave a relation on that somebody switched off, and one that no model reads
    cannot be weighed."""
    known = {key.relation for key in snapshot.relations()}
    unread = unread_relations(snapshot, config.items.label, config.users.label)
    for name in config.relations:
        if name not in known:
            raise ConfigError(f"[relations.{name}]: the graph has no such relation{did_you_mean(name, known)}")
        if name in unread:
            raise ConfigError(
                f"[relations.{name}]: it leads into {config.items.label}, and models read what leaves it; let its "
                "[[edges]] have source and target the other way round"
            )


def on_graph(given: Ingredients, workshop: Workshop, catalogue: Catalogue, snapshot: Snapshot) -> Ingredients:
    """The same events and texts over this graph, with the relations and vectors the workshop's settings ask for."""
    relations = relations_of(snapshot, catalogue.item_label, workshop.config.relations, catalogue.derived)
    learn = _learner(workshop, catalogue, snapshot, given.log, given.text)
    return replace(given, relations=relations, learn_vectors=learn)


def _learner(
    workshop: Workshop, catalogue: Catalogue, snapshot: Snapshot, log: InteractionLog, text: np.ndarray | None
) -> LearnVectors:
    """The way to relation vectors over this graph and these texts; it gives None where [gnn] is off.

    They learn what the cuts of the whole `log` ask for: the next item of a history, or one out of its midst.
    """
    config, settings = workshop.config, workshop.config.gnn
    sequential = asks_next(log, config.split, config.model.folds)

    def learn(seen: InteractionLog, valid: Answers | None, start: Weights | None) -> RelationVectors | None:
        if settings.model == "none":
            return None
        return train_relational(
            snapshot.data,
            catalogue.item_label,
            seen,
            text,
            settings,
            exclude=catalogue.derived | frozenset(n for n, r in workshop.config.relations.items() if not r.use),
            valid=valid,
            device=workshop.device,
            seed=workshop.seed,
            init=start,
            sequential=sequential,
            say=workshop.indented,
        )

    return learn
