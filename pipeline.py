"""The whole path: load -> store -> export -> encode -> train -> evaluate -> publish, one stage after the other.

Each output knows the digest of its inputs: the graph's stands in `build/<shop>/stages.json`, a model's in its bundle. A
stage whose output is there and was made from the same inputs is skipped, and outputs appear whole, so an interruption
costs the stage that was running.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from .config import EncoderSection, ShopConfig, build_folder, load_config
from .durable import alone, replace_text
from .encoders.finetune import RECIPE, taken, tune
from .encoders.node_text import compose
from .encoders.transformer import encode
from .encoders.weights import resolve
from .errors import ArtifactError, ConfigError, DataError, StoreError, did_you_mean
from .gnn import processes
from .gnn.train import RelationVectors, Weights, train_relational
from .kg.export import export_snapshot
from .kg.log import InteractionLog, positives
from .kg.replay import replayed
from .kg.snapshot import IdMap, Snapshot
from .kg.sources import check_apart, open_source
from .kg.store import GraphStore
from .kg.stores import GRAPH, kept_url, open_store, opened_url
from .loaders.catalogue import Catalogue
from .loaders.changes import Changes
from .loaders.load import load_catalogue
from .scoring import bundle as bundles
from .scoring import versions
from .scoring.ablation import WITHOUT_GNN, compared, graphs, verdict
from .scoring.baselines import Baseline, chosen
from .scoring.clicks import Pairs, evaluate_clicks, fit_clicks, validate_clicks
from .scoring.drift import drift
from .scoring.evaluate import Evaluation, Row, comparable, evaluate
from .scoring.evidence import Relation, keys_of, relations_of, unread_relations
from .scoring.facts import cautions, facts_of
from .scoring.families import check_names
from .scoring.folds import Fold, end_of, fold_of
from .scoring.knowledge import edges_of, kinds_of, with_relations
from .scoring.lessons import lessons_of
from .scoring.model import Answers, Ingredients, LearnVectors, Model, fit, validation
from .scoring.report import render
from .scoring.update import settle, settle_alone
from .scoring.warm import Warm, fits, warm_of

Say = Callable[[str], None]
PARTS = ("train", "valid", "test")


@dataclass
class Workshop:
    """Where one shop is built: its configuration, its folder, and what a run was asked for."""

    config: ShopConfig
    folder: Path
    store_url: str
    device: str = "cpu"
    seed: int = 0
    full: bool = False
    drop_updates: bool = False
    warm: bool = False
    say: Say = lambda _: None
    done: dict[str, str] = field(default_factory=dict)
    home: Path | None = None  # of a process beside the first: the folder of the first, with versions and encoders

    def line(self, stage: str, what: str, start: float) -> None:
        """Tell what a stage did, with its seconds since `start` (time.perf_counter)."""
        self.say(f"{stage:<9} {what}  ({time.perf_counter() - start:.1f} s)")

    @property
    def updates(self) -> tuple[Changes, ...]:
        """The batches the published model was told since the files were read; a rebuild learns from them too."""
        return () if self.drop_updates else versions.updates(self.home or self.folder)

    @property
    def stages(self) -> Path:
        """The digests of the finished stages."""
        return self.folder / "stages.json"


def open_workshop(
    shop: Path,
    *,
    data: Path | None = None,
    store: str | None = None,
    out: Path | None = None,
    device: str | None = None,
    seed: int = 0,
    full: bool = False,
    drop_updates: bool = False,
    warm: bool = False,
    say: Say = lambda _: None,
) -> Workshop:
    """The workshop of a shop.toml; `out` defaults to build/<shop> in the current folder."""
    config = load_config(shop, data=data)
    folder = out if out is not None else build_folder(config)
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if chosen != "cpu" and not re.fullmatch(r"cuda(:\d+)?", chosen):
        raise ConfigError(f"--device {chosen} is unknown; say cpu or cuda")
    if chosen.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"--device {chosen}: this machine has no CUDA device; leave it out or say cpu")
    url = store or opened_url(GRAPH, folder)
    check_apart(config, url)
    workshop = Workshop(config, folder, url, chosen, seed, full, drop_updates, warm, say)
    if workshop.stages.is_file() and not full:
        try:
            workshop.done = json.loads(workshop.stages.read_text(encoding="utf-8"))
        except ValueError:
            workshop.done = {}
    return workshop


@contextmanager
def opened(workshop: Workshop) -> Iterator[GraphStore]:
    """The shop's store, closed whatever happens."""
    settle(workshop.folder)
    store = open_store(workshop.store_url, adopt=workshop.config.store.adopt)
    try:
        yield store
    finally:
        store.close()


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
    _mark_done(workshop, "graph", "")


def _rebuilt(workshop: Workshop) -> dict[str, Any]:
    graph_inputs, inputs = inputs_of(workshop)
    place = _made_from(workshop, inputs) if _is_done(workshop, "graph", graph_inputs) and _answers(workshop) else None
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
        _fit(world, _indented(workshop))  # its share of the training; only the first writes and publishes
        return {"version": None, "metrics": {}, "skipped": False}
    model, place = trained(workshop, world, inputs)
    start = time.perf_counter()
    metrics: dict[str, Any] = {"validation": model.report["validation"]}
    if world.test is not None:
        result = _evaluated(world, model, say=workshop.say)
        metrics |= as_json(workshop.config, [result]) | _facts(world, model, [result])
        workshop.line("evaluate", f"{result.users:,} users, {_short(result.rows[0])}", start)
        for warning in metrics["warnings"]:
            workshop.say(f"{'':<9} caution: {warning}")
    if model.report.get("kept"):
        metrics["kept"] = model.report["kept"]
    metrics |= _drifted(workshop, place)
    versions.add_metrics(place, metrics, _page(metrics))
    start = time.perf_counter()
    versions.publish(place)
    workshop.line("publish", f"version {place.name}", start)
    return {"version": place.name, "metrics": metrics, "bundle": str(place), "skipped": False}


def trained(workshop: Workshop, world: World, inputs: str) -> tuple[Model, Path]:
    """The model fitted on these inputs and the folder of its bundle: an earlier run's, or a new one."""
    place = _made_from(workshop, inputs)
    if place is not None:
        workshop.say(f"{'train':<9} unchanged, version {place.name}")
        return bundles.load(place)[0].model, place
    start = time.perf_counter()
    model = _fit(world, _indented(workshop))
    place = versions.write(bundle_of(workshop, world, model, inputs), workshop.folder, workshop.updates)
    told = f"{len(model.terms)} terms, pool {model.report['pool']}, validation {_short(model.report['validation'])}"
    workshop.line("train", told, start)
    return model, place


def _fit(world: World, say: Say) -> Model:
    return fit(world.given, say) if world.pairs is None else fit_clicks(world.given, world.pairs, say)


def _evaluated(world: World, model: Model, *, baselines: Sequence[Baseline] = (), say: Say) -> Evaluation:
    if world.pairs is not None:
        return evaluate_clicks(world.given, model, world.pairs, baselines=baselines, say=say)
    assert world.test is not None
    return evaluate(world.given, model, world.test, baselines=baselines, say=say)


def validated(
    workshop: Workshop, world: World, config: ShopConfig, remembered: Callable[[LearnVectors], LearnVectors]
) -> dict[str, float]:
    """What a fit of the same world reaches on its validation part at other settings of [model], [gnn] and [relations].

    remembered: wraps the way to relation vectors, for those who have learned some before.
    """
    catalogue, snapshot = world.catalogue, world.snapshot
    told = replace(workshop, config=config, say=lambda _: None)
    given = replace(
        world.given,
        config=config,
        relations=relations_of(snapshot, catalogue.item_label, config.relations, catalogue.derived),
        learn_vectors=remembered(_learner(told, catalogue, snapshot, world.given.text)),
    )
    if world.pairs is not None:
        return validate_clicks(given, world.pairs)
    return validation(given)


def _indented(workshop: Workshop) -> Say:
    return lambda line: workshop.say(f"{'':<9} {line}")


def _made_from(workshop: Workshop, inputs: str) -> Path | None:
    """The bundle of an earlier run with the same inputs."""
    return None if workshop.full else versions.made_from(workshop.folder, inputs)


def inputs_of(workshop: Workshop) -> tuple[str, str]:
    """The digests of what the graph and the model are made from: files, settings, seed, weights, and this code."""
    settings = workshop.config.model_dump(
        mode="json", exclude={"shop": {"data"}, "model": {"batch_mib"}, "store": True, "serve": True}
    )
    not_graph = ("relations", "encoder", "gnn", "model", "evaluation")
    with closing(open_source(workshop.config)) as source:
        tables = source.digest()
    told = {part: value for part, value in settings.items() if part not in not_graph}
    updates = [batch.text() for batch in workshop.updates]
    graph = _digest(tables, workshop.store_url, told, *updates)
    weights = resolve(workshop.config.encoder.model).digest
    started = ("warm",) if workshop.warm else ()
    code = (installed("catalograph"), bundles.FORMAT, RECIPE)
    return graph, _digest(graph, settings, workshop.seed, weights, *code, *started)


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
    """Load, store, export, tune, encode."""
    catalogue, snapshot = stored(workshop, graph_inputs, split=split)
    return _world(workshop, catalogue, snapshot)


def stored(workshop: Workshop, graph_inputs: str | None = None, *, split: int = 0) -> tuple[Catalogue, Snapshot]:
    """Load, store (skipped when `graph_inputs` is what the store already holds), export."""
    catalogue, start = _loaded(workshop, split), time.perf_counter()
    with opened(workshop) as store:
        held = graph_inputs is not None and _is_done(workshop, "graph", graph_inputs)
        if held and _holds(store, catalogue, workshop.done.get("imported", "")):
            workshop.say(f"{'graph':<9} unchanged, skipped")
        else:
            _mark_done(workshop, "imported", "")
            _mark_done(workshop, "graph", "")  # from here to the end of the rebuild the store may hold anything
            counts = store.rebuild(catalogue.nodes, catalogue.edges)
            if graph_inputs is not None:
                _mark_done(workshop, "graph", graph_inputs)
            total = f"{sum(counts.nodes.values()):,} nodes, {sum(counts.edges.values()):,} edges"
            workshop.line("graph", f"{total} in {workshop.store_url.partition(':')[0]}", start)
        start = time.perf_counter()
        snapshot = export_snapshot(store)
    unread = unread_relations(snapshot, catalogue.item_label, catalogue.user_label)
    told = f"; no model reads {', '.join(sorted(unread))}: what leads into items" if unread else ""
    workshop.line("export", f"{len(snapshot.relations())} relations, digest {snapshot.digest[:12]}{told}", start)
    return catalogue, snapshot


def _loaded(workshop: Workshop, split: int = 0) -> Catalogue:
    config, start = workshop.config, time.perf_counter()
    workshop.folder.mkdir(parents=True, exist_ok=True)
    with closing(open_source(config)) as source:
        catalogue = load_catalogue(config, source=source, split=split, quarantine=workshop.folder / "quarantine")
    updates = workshop.updates
    if updates:
        catalogue = _with_updates(catalogue, updates, config)
        changes = sum(len(batch.changes) for batch in updates)
        workshop.say(f"{'updates':<9} {changes:,} changes of {len(updates):,} batches, as if the files had them")
    events = catalogue.interactions.num_rows
    rejected = sum(catalogue.rejected.values())
    workshop.line("load", f"{events:,} interactions" + (f", {rejected:,} rows left out" if rejected else ""), start)
    for (table, reason), rows in catalogue.rejected.items():
        workshop.say(f"{'':<9} left out: {rows:,} of {table}, {reason}")
    return catalogue


def _with_updates(catalogue: Catalogue, updates: tuple[Changes, ...], config: ShopConfig) -> Catalogue:
    try:
        return replayed(catalogue, updates, config)
    except DataError as e:
        raise DataError(
            f"an update no longer fits the shop's files ({e}); --drop-updates rebuilds from the files alone"
        ) from None


def prepare_import(workshop: Workshop, folder: Path) -> None:
    """The graph as files for neo4j-admin; a rebuild that finds them imported goes on from there."""
    if not workshop.store_url.startswith(("neo4j", "bolt")):
        raise ConfigError("--offline-import is for a Neo4j server; name it by --store neo4j://HOST:PORT")
    from .kg.bolt import Bolt  # noqa: PLC0415
    from .kg.neo4j_import import write_import  # noqa: PLC0415

    database = Bolt(workshop.store_url).database or "neo4j"
    catalogue, start = _loaded(workshop), time.perf_counter()
    generation = write_import(folder, catalogue.nodes, catalogue.edges, database)
    _mark_done(workshop, "graph", inputs_of(workshop)[0])
    _mark_done(workshop, "imported", str(generation))
    workshop.line("files", f"in {folder}", start)
    workshop.say(
        f"stop the server, run sh {folder / 'import.sh'} there, start it, and rebuild without --offline-import"
    )


def encoded(workshop: Workshop, catalogue: Catalogue, snapshot: Snapshot, encoder: EncoderSection) -> np.ndarray | None:
    """M(s), float32 [item, dim], or None where nothing names a text."""
    start, texts = time.perf_counter(), _texts(workshop, catalogue, snapshot)
    if texts is None:
        return None
    vectors = _vectors(workshop, texts, encoder)
    workshop.line("encode", f"{len(texts):,} items, {vectors.shape[1]} dimensions", start)
    return vectors


def _texts(workshop: Workshop, catalogue: Catalogue, snapshot: Snapshot) -> list[str] | None:
    fields = workshop.config.text_fields
    return compose(snapshot, catalogue.item_label, fields) if fields else None


def _vectors(workshop: Workshop, texts: list[str], encoder: EncoderSection) -> np.ndarray:
    cache = workshop.folder / "text"
    return np.asarray(encode(texts, encoder, cache=cache, device=workshop.device, progress=True))


def _answers(workshop: Workshop) -> bool:
    """Whether there is a graph in the store at all; what it holds is compared when something else changed."""
    try:
        with opened(workshop) as store:
            return any(store.counts().nodes.values())
    except StoreError:
        return False


def _holds(store: GraphStore, catalogue: Catalogue, imported: str) -> bool:
    try:
        generation = store.generation()  # a graph in the middle of a change may have the right counts
        counts = store.counts()
    except StoreError:
        return False
    if imported and imported != str(generation):
        return False  # files were made, and what is there did not come from them
    nodes = {label: table.num_rows for label, table in catalogue.nodes.items()}
    edges = {key: table.num_rows for key, table in catalogue.edges.items()}
    return dict(counts.nodes) == nodes and dict(counts.edges) == edges


def _world(workshop: Workshop, catalogue: Catalogue, snapshot: Snapshot) -> World:
    config = workshop.config
    users, items = snapshot.ids[catalogue.user_label], snapshot.ids[catalogue.item_label]
    table = catalogue.interactions
    logs = {name: InteractionLog.of(table.filter(pc.equal(table["part"], name)), users, items) for name in PARTS}
    train, hidden = positives(logs["train"]), positives(logs["test"])
    _check_relations(config, snapshot)
    relations = relations_of(snapshot, catalogue.item_label, config.relations, catalogue.derived)
    known = keys_of(snapshot, catalogue.item_label, catalogue.derived)  # a name may be of one that is switched off, too
    check_names(config.model.off, {key.relation for key in known})
    encoder = _tuned(workshop, catalogue, snapshot, train, relations)
    text = encoded(workshop, catalogue, snapshot, encoder)
    test = fold_of(train, hidden, end_of(train, config.split)) if len(hidden) else None
    warm = _warm(workshop, users, items, text, test)
    learn = _learner(workshop, catalogue, snapshot, text)
    given = Ingredients(config, train, relations, text, learn, workshop.seed, warm, workshop.device)
    if test is not None and config.evaluation.users:
        test = replace(test, users=test.users[: config.evaluation.users])
    pairs = None if train.label is None else Pairs(*(logs[name] for name in PARTS))
    if test is not None and pairs is None and not len(test.users):
        workshop.say(f"{'':<9} nobody of the test part has a history: it asks nothing")
        test = None
    return World(catalogue, snapshot, given, test, pairs, encoder)


def _warm(workshop: Workshop, users: IdMap, items: IdMap, text: np.ndarray | None, test: Fold | None) -> Warm | None:
    """The weights of the published version, when learning is to go on from them and they know no answer of the test."""
    if not workshop.warm:
        return None
    place = versions.published(workshop.home or workshop.folder)
    workshop.say(f"{'warm':<9} from version {place.name}")
    bundle, stored = bundles.load(place)
    if stored is not None and not fits(bundle, workshop.config.gnn, text):
        workshop.say(f"{'':<9} its relation vectors are of other settings of [gnn] or other texts; they start anew")
        stored = None
    warm = warm_of(bundle, stored, users, items)
    if warm is not None and test is not None and (known := int(test.held_out[warm.seen.user, warm.seen.item].sum())):
        workshop.say(f"{'':<9} it has learned from {known:,} events that are the test part now; learning starts anew")
        return None
    return warm


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


def _tuned(
    workshop: Workshop,
    catalogue: Catalogue,
    snapshot: Snapshot,
    train: InteractionLog,
    relations: tuple[Relation, ...],
) -> EncoderSection:
    """The encoder shop.toml names, or what fine-tuning made of it: in this run, or in an earlier one on the same."""
    config, start = workshop.config, time.perf_counter()
    texts = _texts(workshop, catalogue, snapshot)
    if config.encoder.finetune.way == "none" or texts is None:
        return config.encoder
    lessons, check = lessons_of(
        texts,
        lambda: _vectors(workshop, texts, config.encoder),
        train,
        relations,
        catalogue,
        snapshot,
        config,
        workshop.seed,
    )
    told: list[str] = []
    place = tune(
        lessons,
        config.encoder,
        check,
        folder=(workshop.home or workshop.folder) / "encoder",
        device=workshop.device,
        seed=workshop.seed,
        progress=True,
        say=told.append,
    )
    workshop.line("tune", "; ".join(told) or f"unchanged, encoder {place.name}", start)
    return taken(place, config.encoder)


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


def _learner(workshop: Workshop, catalogue: Catalogue, snapshot: Snapshot, text: np.ndarray | None) -> LearnVectors:
    settings = workshop.config.gnn

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
            say=_indented(workshop),
        )

    return learn


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
        model = trained(workshop, world, inputs)[0] if splits == 1 else _fit(world, _indented(workshop))
        found["real"].append(_evaluated(world, model, baselines=baselines, say=workshop.say))
        for graph, result in _ablated(workshop, world, each_relation) if ablation else ():
            found.setdefault(graph, []).append(result)
        worlds = worlds or [(world, model)]
    found["real"] = comparable(found["real"])
    facts = _facts(*worlds[0], found["real"])
    document: dict[str, Any] = as_json(workshop.config, found["real"]) | facts
    if ablation:
        document["ablation"] = compared(found, workshop.config.evaluation.k)
        document["gnn"] = verdict(document["ablation"], workshop.config.evaluation.k)
    versions.add_metrics(workshop.folder, document, _page(document))
    workshop.say(f"{'report':<9} in {workshop.folder}")
    return document


def _page(document: dict[str, Any]) -> str | None:
    """The report of a document with users' lists in it; labelled pairs have none."""
    return render(document) if document.get("pool_recall") is not None else None


def _facts(world: World, model: Model, results: list[Evaluation]) -> dict[str, Any]:
    """What the report says beyond the rows; of labelled pairs there are no lists to look at, and it warns alone."""
    if world.pairs is not None:
        return {"warnings": cautions(world.given)}
    assert world.test is not None
    label = world.catalogue.item_label
    facts: dict[str, Any] = facts_of(world.given, model, world.snapshot, label, world.test, results)
    return facts


def _ablated(workshop: Workshop, world: World, each_relation: bool) -> Iterator[tuple[str, Evaluation]]:
    """The same fit and test on what :func:`_instead` gives; texts, purchases and seed are those of the real one."""
    assert world.test is not None
    relations = [relation.name for relation in world.given.relations] if each_relation else []
    for name, given in _instead(workshop, world, relations):
        start = time.perf_counter()
        result = evaluate(given, fit(given, _indented(workshop)), world.test)
        workshop.line("ablation", f"graph {name}: {_short(result.rows[0])}", start)
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
        learn = _learner(workshop, catalogue, snapshot, given.text)
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


def _digest(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_done(workshop: Workshop, stage: str, digest: str) -> bool:
    return not workshop.full and workshop.done.get(stage) == digest


def _mark_done(workshop: Workshop, stage: str, digest: str) -> None:
    workshop.done[stage] = digest
    replace_text(workshop.stages, json.dumps(workshop.done))


def _short(row: object) -> str:
    assert isinstance(row, dict)
    return ", ".join(f"{k} {v:.4f}" for k, v in row.items() if k[:2] in ("nd", "re", "hr", "pr", "au", "f1"))
