"""A shop's files into its graph store, and the store out into a snapshot."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from ..config import ShopConfig
from ..errors import ConfigError, DataError, StoreError
from ..kg.export import export_snapshot
from ..kg.replay import replayed
from ..kg.snapshot import Snapshot
from ..kg.sources import open_source
from ..kg.store import GraphStore
from ..loaders.catalogue import Catalogue
from ..loaders.changes import Changes
from ..loaders.load import load_catalogue
from ..scoring.evidence import unread_relations
from .workshop import Workshop, inputs_of, opened_store


def stored(workshop: Workshop, graph_inputs: str | None = None, *, split: int = 0) -> tuple[Catalogue, Snapshot]:
    """Load, store (skipped when `graph_inputs` is what the store already holds), export."""
    catalogue, start = _loaded(workshop, split), time.perf_counter()
    with opened_store(workshop) as store:
        held = graph_inputs is not None and workshop.is_done("graph", graph_inputs)
        if held and _holds(store, catalogue, workshop.done.get("imported", "")):
            workshop.say(f"{'graph':<9} unchanged, skipped")
        else:
            workshop.mark_done("imported", "")
            workshop.mark_done("graph", "")  # from here to the end of the rebuild the store may hold anything
            counts = store.rebuild(catalogue.nodes, catalogue.edges)
            if graph_inputs is not None:
                workshop.mark_done("graph", graph_inputs)
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
        workshop.indented(f"left out: {rows:,} of {table}, {reason}")
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
    from ..kg.bolt import Bolt  # noqa: PLC0415
    from ..kg.neo4j_import import write_import  # noqa: PLC0415

    database = Bolt(workshop.store_url).database or "neo4j"
    catalogue, start = _loaded(workshop), time.perf_counter()
    generation = write_import(folder, catalogue.nodes, catalogue.edges, database)
    workshop.mark_done("graph", inputs_of(workshop)[0])
    workshop.mark_done("imported", str(generation))
    workshop.line("files", f"in {folder}", start)
    workshop.say(
        f"stop the server, run sh {folder / 'import.sh'} there, start it, and rebuild without --offline-import"
    )


def has_graph(workshop: Workshop) -> bool:
    """Whether there is a graph in the store at all; what it holds is compared when something else changed."""
    try:
        with opened_store(workshop) as store:
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
