"""Changes taken in without learning: a new version of the model beside the changed graph, both or neither.

The order makes it so. The new version is written in full, and says which batch it waits for; the store applies that
batch, wholly or not at all; then the version is published. Somebody who comes after a process that was killed between
the last two steps finds a version that waits, asks the store whether it holds the batch, and publishes it if so.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..config import ShopConfig
from ..durable import alone
from ..encoders.transformer import SHELVES, encode, import_early
from ..errors import ArtifactError, CatalographError, StoreError
from ..kg.change import store_batch
from ..kg.net import net_of
from ..kg.replay import events_after
from ..kg.store import GraphStore
from ..kg.stores import GRAPH, check_same, kept_url, open_store, opened_url
from ..loaders.changes import Changes, UpsertItem
from ..loaders.interactions import is_behind
from . import bundle as bundles
from . import versions
from .changed import changed, events_of
from .encoding import encoder_of

Span = tuple[int, int]  # numbers of events of the service's log: above the first, up to the second


@dataclass(frozen=True)
class Updated:
    """What became of a batch. version: what is published after it. taken: False for a batch that was known already.
    counts: changes by kind. held_out: how many interactions lie behind the split's cut, where no model sees them."""

    batch: str
    version: str
    taken: bool
    counts: dict[str, int]
    held_out: int = 0


def update(folder: Path, changes: Changes, *, store_url: str | None = None, feedback: Span | None = None) -> Updated:
    """Take a batch into the graph and the published model of a build folder.

    store_url: where the graph is, to be sure; it is where the last rebuild put it. feedback: the events of the
    service's log that the batch is made of.

    Raises:
        DataError: a change does not fit the shop; nothing of the batch was taken in.
        ConfigError: the model belongs to another store than the one told.
        StoreError: the store cannot be written, or not be asked what it holds of an update that was killed.
        ArtifactError: nothing is published here, another process builds here or took these events in meanwhile, or
            the graph is ahead of the model, since somebody went back to an earlier version.
    """
    versions.published(folder)  # said before a folder is made
    with alone(folder):
        settle_alone(folder)
        left = versions.waiting(folder)
        if left is not None:
            raise StoreError(
                f"{folder}: the graph may hold batch {left[1].batch!r}, which the model does not know yet, and cannot "
                "be asked; run this again when it can"
            )
        return _taken(folder, changes, store_url, feedback)


def _taken(folder: Path, changes: Changes, store_url: str | None, feedback: Span | None) -> Updated:
    place = versions.published(folder)
    loaded, stored = bundles.load(place)
    counts = dict(Counter(str(change.op) for change in changes.changes))
    told = bundles.updates_in(place)
    if any(batch.id == changes.id for batch in told):
        return Updated(changes.id, place.name, False, counts)
    if feedback is not None and feedback[0] != loaded.feedback:
        raise ArtifactError(f"{folder}: another process took feedback in meanwhile; run this again for what is left")
    config, url = ShopConfig.model_validate(loaded.config), _store_of(loaded, store_url, folder)
    if loaded.text is not None and _tells_texts(changes, config.text_fields):
        import_early()
    with closing(open_store(opened_url(url, folder), adopt=config.store.adopt)) as store:
        _check_together(told, store, folder)
        net = net_of(changes, config, store.schema(), store)
        before = events_of(loaded)
        changes.check_times(None if loaded.log.at is None else int(loaded.log.at.max()))
        after = events_after(before, net, config)
        batch = store_batch(changes.id, net, config, store, before, after)
        made = changed(loaded, stored, net, batch, after, store, lambda texts: _encoded(folder, loaded, texts))
        made = replace(
            made,
            inputs=hashlib.sha256(f"{loaded.inputs}\n{changes.text()}".encode()).hexdigest(),
            waits=bundles.Waits(changes.id, place.name),
            store=url,
            feedback=loaded.feedback if feedback is None else feedback[1],
        )
        new = versions.write(made, folder, (*told, changes))
        try:
            store.apply(batch)
        except CatalographError:
            settle_alone(
                folder
            )  # should the answer alone have been lost, the store has it, and the version is published
            if not versions.is_published(new):
                raise
    if not versions.is_published(new):
        versions.publish(new)
    held_out = sum(is_behind(event.at, config.split) for event in net.events)
    return Updated(changes.id, new.name, True, counts, held_out)


def _tells_texts(changes: Changes, fields: Sequence[str]) -> bool:
    """Whether some item's text may be a new one: a new price alone is nothing to encode."""
    items = [change for change in changes.changes if isinstance(change, UpsertItem)]
    return any(not {*item.properties, *item.relations}.isdisjoint(fields) for item in items)


def _check_together(told: Sequence[Changes], store: GraphStore, folder: Path) -> None:
    """Refuse where the graph holds a batch of a later version: what changes then would be told of two shops."""
    known = {batch.id for batch in told}
    ahead = [batch.id for batch in versions.later_updates(folder) if batch.id not in known and store.holds(batch.id)]
    if ahead:
        raise ArtifactError(
            f"the graph holds batch {ahead[0]!r}, which the published version does not know: it is an earlier one. Run "
            f"`catalograph rebuild SHOP.toml --full`, or name the newest version in {folder / 'current'} again"
        )


def settle(folder: Path) -> None:
    """Finish what a killed update left: publish the version whose batch the store holds. Cheap where nothing waits."""
    if versions.waiting(folder) is None:
        return
    try:
        with alone(folder):
            settle_alone(folder)
    except ArtifactError:  # an update is under way, or the folder is read-only: it is as published
        return


def settle_alone(folder: Path) -> None:
    """As :func:`settle`, for who has the folder already."""
    found = versions.waiting(folder)
    if found is None:
        return
    place, waits = found
    try:
        with closing(open_store(opened_url(versions.store(place), folder))) as store:
            held = store.holds(waits.batch)
    except CatalographError:  # the store cannot be asked now; somebody will later
        return
    if held:
        versions.publish(place)
    else:
        shutil.rmtree(place)


def _store_of(loaded: bundles.Bundle, told: str | None, folder: Path) -> str:
    """The URL of the graph that belongs to the model, as the bundle keeps it."""
    if told is None:
        return loaded.store or GRAPH
    asked = kept_url(told, folder)
    check_same(asked, loaded.store)
    return asked


def _encoded(folder: Path, bundle: bundles.Bundle, texts: Sequence[str]) -> np.ndarray:
    vectors: np.ndarray = encode(texts, encoder_of(bundle, folder), cache=folder / SHELVES)
    return vectors
