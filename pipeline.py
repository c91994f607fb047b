"""The whole path: load -> store -> export -> encode -> train -> evaluate -> publish, one stage after the other.

Each output knows the digest of its inputs: the graph's stands in `build/<shop>/stages.json`, a model's in its bundle. A
stage whose output is there and was made from the same inputs is skipped, and outputs appear whole, so an interruption
costs the stage that was running.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from .config import ShopConfig, load_config
from .encoders.node_text import compose
from .encoders.transformer import encode
from .encoders.weights import resolve
from .errors import ConfigError, StoreError
from .gnn.train import RelationVectors, train_relational
from .kg.export import export_snapshot
from .kg.log import InteractionLog
from .kg.snapshot import Snapshot
from .kg.store import GraphStore
from .kg.stores import open_store
from .kg.writeback import RECOMMENDED, SIMILAR_TO, Publication, Published
from .loaders.catalogue import Catalogue, EdgeKey
from .loaders.load import load_catalogue
from .scoring import bundle as bundles
from .scoring import versions
from .scoring.evaluate import Evaluation, evaluate
from .scoring.evidence import relations_of
from .scoring.explain import pattern_of
from .scoring.folds import Fold, end_of, fold_of
from .scoring.model import Ingredients, Model, fit
from .scoring.recommender import Recommender

Say = Callable[[str], None]


@dataclass
class Workshop:
    """Where one shop is built: its configuration, its folder, and what a run was asked for."""

    config: ShopConfig
    folder: Path
    store_url: str
    device: str = "cpu"
    seed: int = 0
    full: bool = False
    say: Say = lambda _: None
    done: dict[str, str] = field(default_factory=dict)

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
    say: Say = lambda _: None,
) -> Workshop:
    """The workshop of a shop.toml; `out` defaults to build/<shop> in the current folder."""
    config = load_config(shop, data=data)
    folder = out if out is not None else Path("build") / config.shop.name
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if chosen.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"--device {chosen}: this machine has no CUDA device; leave it out or say cpu")
    url = store or f"ladybug:{folder / 'graph.lbug'}"
    workshop = Workshop(config, folder, url, chosen, seed, full, say)
    if workshop.stages.is_file() and not full:
        try:
            workshop.done = json.loads(workshop.stages.read_text(encoding="utf-8"))
        except ValueError:
            workshop.done = {}
    return workshop


@contextmanager
def opened(workshop: Workshop) -> Iterator[GraphStore]:
    """The shop's store, closed whatever happens."""
    store = open_store(workshop.store_url, adopt=workshop.config.store.adopt)
    try:
        yield store
    finally:
        store.close()


def rebuild(workshop: Workshop) -> dict[str, Any]:
    """Everything, skipping what did not change; returns a summary with the published version and its metrics."""
    graph_inputs, inputs = _inputs(workshop)
    place = _made_from(workshop, inputs) if _is_done(workshop, "graph", graph_inputs) else None
    if place is not None and versions.is_evaluated(place) and versions.is_published(place):
        for stage in ("load", "graph", "export", "encode", "train", "evaluate", "publish"):
            workshop.say(f"{stage:<9} unchanged, skipped")
        return {"version": place.name, "metrics": bundles.load(place)[0].metrics, "skipped": True}
    world = build_world(workshop, graph_inputs)
    model, place = trained(workshop, world, inputs)
    start = time.perf_counter()
    metrics: dict[str, Any] = {"validation": model.report["validation"]}
    if world.test is not None:
        result = evaluate(world.given, model, world.test, baselines=False)
        metrics |= as_json(workshop.config, [result])
        _line(workshop, "evaluate", f"{result.users:,} users, {_short(result.rows[0])}", start)
    versions.add_metrics(place, metrics)
    start = time.perf_counter()
    versions.publish(place)
    _line(workshop, "publish", f"version {place.name}", start)
    return {"version": place.name, "metrics": metrics, "bundle": str(place), "skipped": False}


def trained(workshop: Workshop, world: World, inputs: str) -> tuple[Model, Path]:
    """The model fitted on these inputs and the folder of its bundle: an earlier run's, or a new one."""
    place = _made_from(workshop, inputs)
    if place is not None:
        workshop.say(f"{'train':<9} unchanged, version {place.name}")
        return bundles.load(place)[0].model, place
    start = time.perf_counter()
    model = fit(world.given, _indented(workshop))
    place = versions.write(_bundle(workshop, world, model, inputs), workshop.folder)
    told = f"{len(model.terms)} terms, pool {model.report['pool']}, validation {_short(model.report['validation'])}"
    _line(workshop, "train", told, start)
    return model, place


def _indented(workshop: Workshop) -> Say:
    return lambda line: workshop.say(f"{'':<9} {line}")


def _made_from(workshop: Workshop, inputs: str) -> Path | None:
    """The bundle of an earlier run with the same inputs."""
    return None if workshop.full else versions.made_from(workshop.folder, inputs)


def _inputs(workshop: Workshop) -> tuple[str, str]:
    """The digests of what the graph and the model are made from: files, settings, seed, weights, and this code."""
    settings = workshop.config.model_dump(mode="json", exclude={"shop": {"data"}, "store": True})
    graph_parts = ("items", "users", "attributes", "edges", "triples", "interactions", "split", "baskets", "shop")
    graph = _digest(_files_digest(workshop.config), workshop.store_url, {part: settings[part] for part in graph_parts})
    weights = resolve(workshop.config.encoder.model).digest
    return graph, _digest(graph, settings, workshop.seed, weights, installed("catalograph"), bundles.FORMAT)


@dataclass(frozen=True)
class World:
    """What a shop is once loaded, stored, exported and encoded: ready to fit and to test."""

    catalogue: Catalogue
    snapshot: Snapshot
    given: Ingredients
    test: Fold | None


def build_world(workshop: Workshop, graph_inputs: str | None = None, *, split: int = 0) -> World:
    """Load, store (skipped when `graph_inputs` is what the store already holds), export, encode."""
    start = time.perf_counter()
    config = workshop.config
    workshop.folder.mkdir(parents=True, exist_ok=True)
    catalogue = load_catalogue(config, split=split, quarantine=workshop.folder / "quarantine")
    events = catalogue.interactions.num_rows
    rejected = sum(catalogue.rejected.values())
    _line(workshop, "load", f"{events:,} interactions" + (f", {rejected:,} rows left out" if rejected else ""), start)
    start = time.perf_counter()
    with opened(workshop) as store:
        if graph_inputs is not None and _is_done(workshop, "graph", graph_inputs) and _holds(store, catalogue):
            workshop.say(f"{'graph':<9} unchanged, skipped")
        else:
            _mark_done(workshop, "graph", "")  # from here to the end of the rebuild the store may hold anything
            counts = store.rebuild(catalogue.nodes, catalogue.edges)
            if graph_inputs is not None:
                _mark_done(workshop, "graph", graph_inputs)
            total = f"{sum(counts.nodes.values()):,} nodes, {sum(counts.edges.values()):,} edges"
            _line(workshop, "graph", f"{total} in {workshop.store_url.partition(':')[0]}", start)
        start = time.perf_counter()
        snapshot = export_snapshot(store)
    _line(workshop, "export", f"{len(snapshot.relations())} relations, digest {snapshot.digest[:12]}", start)
    return _world(workshop, catalogue, snapshot)


def _holds(store: GraphStore, catalogue: Catalogue) -> bool:
    try:
        store.generation()  # a graph in the middle of a change may have the right counts
        counts = store.counts()
    except StoreError:
        return False
    nodes = {label: table.num_rows for label, table in catalogue.nodes.items()}
    edges = {key: table.num_rows for key, table in catalogue.edges.items()}
    return dict(counts.nodes) == nodes and dict(counts.edges) == edges


def _world(workshop: Workshop, catalogue: Catalogue, snapshot: Snapshot) -> World:
    config, start = workshop.config, time.perf_counter()
    text = None
    fields = config.encoder.text or ((catalogue.title,) if catalogue.title else ())
    if fields:
        texts = compose(snapshot, catalogue.item_label, fields)
        text = encode(texts, config.encoder, cache=workshop.folder / "text", device=workshop.device, progress=True)
        _line(workshop, "encode", f"{len(texts):,} items, {text.shape[1]} dimensions", start)
    users, items = snapshot.ids[catalogue.user_label], snapshot.ids[catalogue.item_label]
    part = np.asarray(catalogue.interactions["part"].to_pylist())
    table = catalogue.interactions
    train = InteractionLog.of(table.filter(pa.array(part == "train")), users, items)
    relations = relations_of(snapshot, catalogue.item_label, config.relations, catalogue.derived)
    given = Ingredients(config, train, relations, text, _learner(workshop, catalogue, snapshot, text), workshop.seed)
    hidden = InteractionLog.of(table.filter(pa.array(part == "test")), users, items)
    test = fold_of(train, hidden, end_of(train, config.split)) if len(hidden) else None
    return World(catalogue, snapshot, given, test)


def _learner(
    workshop: Workshop, catalogue: Catalogue, snapshot: Snapshot, text: np.ndarray | None
) -> Callable[..., RelationVectors | None]:
    settings = workshop.config.gnn

    def learn(seen: InteractionLog, fold: Fold | None, start: RelationVectors | None) -> RelationVectors | None:
        if settings.model == "none":
            return None
        valid = None
        if fold is not None:
            coo = fold.held_out[fold.users[:1_000]].tocoo()
            valid = (fold.users[:1_000][coo.row], coo.col.astype(np.int64))
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


def write_back(workshop: Workshop, *, n: int, users: Sequence[str], k: int) -> Published:
    """Put the published model's lists and vectors into the graph: the n most similar of every item, k for each user.

    Returns what then stands there.
    """
    start = time.perf_counter()
    place = versions.published(workshop.folder)
    with opened(workshop) as store:
        store.schema()  # a store that is down is told before the work
        publication = _publication(Recommender(*bundles.load(place)), place.name, n, users, k)
        places = sum(table.num_rows for table in publication.lists.values())
        _line(workshop, "lists", f"{places:,} places, version {place.name}", start)
        start = time.perf_counter()
        published = store.publish(publication)
    for key, edges in published.edges.items():
        gone = publication.lists[key].num_rows - edges
        missing = f", {gone:,} left out: an end is not in the graph" if gone else ""
        _line(workshop, "edges", f"{edges:,} {key.source}-{key.relation}-{key.target}{missing}", start)
    for label, name in publication.vectors:
        held = published.vectors.get((label, name))
        told = "left out, this store has no vector index" if held is None else f"on {held:,} nodes, indexed by cosine"
        _line(workshop, "vectors", f"{label}.{name} {told}", start)
    return published


def withdraw(workshop: Workshop) -> None:
    """Take everything published out of the graph."""
    with opened(workshop) as store:
        published = store.published()
        store.withdraw()
    told = "nothing is published" if published is None else f"version {published.version} is taken out"
    workshop.say(f"{'publish':<9} {told}")


def _publication(shop: Recommender, version: str, n: int, users: Sequence[str], k: int) -> Publication:
    label, user_label = (shop.bundle.config[part]["label"] for part in ("items", "users"))
    lists = {EdgeKey(label, SIMILAR_TO, label): shop.similar_lists(n)}
    if users:
        lists[EdgeKey(user_label, RECOMMENDED, label)] = shop.recommended_lists(users, k)
    return Publication(version, lists, {(label, name): table for name, table in shop.item_vectors().items()})


def run_evaluation(workshop: Workshop, *, baselines: bool) -> dict[str, Any]:
    """Test the published model when it is up to date, else fit one; over every split of the shop.

    Returns the document `evaluate --json` prints.
    """
    if workshop.config.split.method == "none":
        raise ConfigError("this shop holds nothing out; give shop.toml a [split] to evaluate")
    results = []
    splits = max(len(workshop.config.split.column), 1)
    for split in range(splits):
        graph_inputs, inputs = _inputs(workshop)
        world = build_world(workshop, graph_inputs if splits == 1 else None, split=split)
        if world.test is None:
            raise ConfigError("the split holds out no interaction; check [split] in shop.toml")
        model = trained(workshop, world, inputs)[0] if splits == 1 else fit(world.given, _indented(workshop))
        found = evaluate(world.given, model, world.test, baselines=baselines, say=workshop.say)
        results.append(found)
    return as_json(workshop.config, results)


def as_json(config: ShopConfig, results: list[Evaluation]) -> dict[str, Any]:
    """The evaluation document: rates are fractions, several splits averaged."""
    names = [row["name"] for row in results[0].rows]
    rows = [
        {"name": name, **{k: _mean(results, place, k) for k in results[0].rows[place] if k != "name"}}
        for place, name in enumerate(names)
    ]
    return {
        "shop": config.shop.name,
        "split": config.split.method,
        "users": results[0].users,
        "items": results[0].items,
        "pool_recall": float(np.mean([result.pool_recall for result in results])),
        "rows": rows,
        "left_out": results[0].left_out,
    }


def _mean(results: list[Evaluation], place: int, key: str) -> float:
    return float(np.mean([float(result.rows[place][key]) for result in results]))


def _bundle(workshop: Workshop, world: World, model: Model, inputs: str) -> bundles.Bundle:
    catalogue, snapshot = world.catalogue, world.snapshot
    label, user_label = catalogue.item_label, catalogue.user_label
    patterns = {
        term.name: pattern for term in model.terms if (pattern := pattern_of(term, label, user_label)) is not None
    }
    table = catalogue.nodes[label]
    order = pa.array(snapshot.ids[label].rows(table["id"].to_pylist())).to_numpy()
    return bundles.Bundle(
        shop=workshop.config.shop.name,
        inputs=inputs,
        config=json.loads(workshop.config.model_dump_json(exclude={"shop": {"data"}})),
        model=model,
        log=world.given.log,
        items=table.take(pa.array(np.argsort(order))),
        users=pa.table({"id": list(snapshot.ids[user_label].ids)}),
        text=world.given.text,
        patterns=patterns,
    )


def _files_digest(config: ShopConfig) -> str:
    files = [config.items.file, config.users.file, config.interactions.file]
    files += [edge.file for edge in config.edges]
    for triples in config.triples:
        files += [triples.file, *(t.file for t in (triples.entities, triples.names) if t is not None)]
    digest = hashlib.sha256()
    for file in files:
        path = None if file is None else config.shop.data / file
        if path is not None and path.is_file():
            with path.open("rb") as handle:
                digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def _digest(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _is_done(workshop: Workshop, stage: str, digest: str) -> bool:
    return not workshop.full and workshop.done.get(stage) == digest


def _mark_done(workshop: Workshop, stage: str, digest: str) -> None:
    workshop.done[stage] = digest
    part = workshop.stages.with_suffix(".part")
    part.write_text(json.dumps(workshop.done), encoding="utf-8")
    os.replace(part, workshop.stages)


def _line(workshop: Workshop, stage: str, what: str, start: float) -> None:
    workshop.say(f"{stage:<9} {what}  ({time.perf_counter() - start:.1f} s)")


def _short(row: object) -> str:
    assert isinstance(row, dict)
    return ", ".join(
        f"{k} {v:.4f}" for k, v in row.items() if "@" in k and not k.startswith(("coverage", "popularity"))
    )
