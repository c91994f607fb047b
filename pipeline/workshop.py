"""Where a shop is built: its settings, its folder, what is done there, and the digests that say what to skip."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version as installed
from pathlib import Path

from ..config import ShopConfig, build_folder, load_config
from ..durable import replace_text
from ..encoders.finetune import RECIPE
from ..encoders.weights import resolve
from ..kg.sources import check_apart, open_source
from ..kg.store import GraphStore
from ..kg.stores import GRAPH, open_store, opened_url
from ..loaders.changes import Changes
from ..scoring import bundle as bundles
from ..scoring import versions
from ..scoring.placed import usable_device
from ..scoring.update import settle

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
    drop_updates: bool = False
    warm: bool = False
    say: Say = lambda _: None
    done: dict[str, str] = field(default_factory=dict)
    home: Path | None = None  # of a process beside the first: the folder of the first, with versions and encoders

    @property
    def updates(self) -> tuple[Changes, ...]:
        """The batches the published model was told since the files were read; a rebuild learns from them too."""
        return () if self.drop_updates else versions.updates(self.home or self.folder)

    @property
    def stages(self) -> Path:
        """The digests of the finished stages."""
        return self.folder / "stages.json"

    def line(self, stage: str, what: str, start: float) -> None:
        """Tell what a stage did, with its seconds since `start` (time.perf_counter)."""
        self.say(f"{stage:<9} {what}  ({time.perf_counter() - start:.1f} s)")

    def indented(self, line: str) -> None:
        """Tell something within a stage."""
        self.say(f"{'':<9} {line}")

    def is_done(self, stage: str, digest: str) -> bool:
        """Whether an earlier run ended this stage with the same inputs."""
        return not self.full and self.done.get(stage) == digest

    def mark_done(self, stage: str, digest: str) -> None:
        """Remember that the stage ended with these inputs; "" for none."""
        self.done[stage] = digest
        replace_text(self.stages, json.dumps(self.done))


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
    chosen = usable_device(device)
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
def opened_store(workshop: Workshop) -> Iterator[GraphStore]:
    """The shop's store, closed whatever happens."""
    settle(workshop.folder)
    store = open_store(workshop.store_url, adopt=workshop.config.store.adopt)
    try:
        yield store
    finally:
        store.close()


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


def _digest(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
