"""Changes without retraining, on the command line: batches from files and from the service's log of feedback."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from .config import ShopConfig
from .errors import ConfigError, did_you_mean
from .loaders.changes import Changes, is_id, latest
from .loaders.feedback import KINDS, read_feedback
from .pipeline.workshop import Workshop
from .scoring import versions
from .scoring.bundle import ITEMS
from .scoring.update import Span, Updated, settle, update

PURCHASE = "purchase"


def take_in(
    workshop: Workshop, batches: Sequence[Changes], *, store: str | None = None, feedback: Sequence[str] = ()
) -> list[Updated]:
    """Take these batches in, one after the other, and tell what became of each.

    store: where the graph is, to be sure; it is where the last rebuild put it. feedback: kinds of events of the
    service's log that are interactions too; those not taken yet follow as a batch.
    """
    done = [_taken(workshop, batch, store) for batch in batches]
    if feedback:
        batch, span = _feedback(workshop, feedback)
        if batch is None:
            workshop.say(f"{'update':<9} no new feedback to take in")
        else:
            done.append(_taken(workshop, batch, store, span))
    return done


def _taken(workshop: Workshop, batch: Changes, store: str | None, feedback: Span | None = None) -> Updated:
    start = time.perf_counter()
    done = update(workshop.folder, batch, store_url=store, feedback=feedback)
    told = ", ".join(f"{kind}: {n:,}" for kind, n in sorted(done.counts.items())) or "no change"
    what = f"version {done.version}: {told}" if done.taken else f"known already, version {done.version} stays"
    workshop.line("update", f"{batch.id}: {what}", start)
    if done.held_out:
        cut = workshop.config.split.at
        workshop.say(
            f"{'':<9} {done.held_out:,} interactions lie behind split.at = {cut}: held out, no model sees them"
        )
    return done


def _feedback(workshop: Workshop, kinds: Sequence[str]) -> tuple[Changes | None, Span | None]:
    """The events of these kinds since the last ones taken in, of items the shop has, and which they are."""
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"--kind {kind!r} is no kind of feedback{did_you_mean(kind, KINDS)}")
    settle(workshop.folder)
    place = versions.published(workshop.folder)
    after = versions.feedback(workshop.folder)
    events = read_feedback(workshop.folder, after=after).to_pylist()
    wanted = _fitting([event for event in events if event["kind"] in kinds], place, workshop)
    if not wanted:
        return None, None
    batch = f"feedback {events[0]['number']}-{events[-1]['number']}"
    changes = Changes.of(batch, [_interaction(event, workshop.config) for event in wanted])
    return changes, (after, events[-1]["number"])


def _fitting(events: list[dict[str, Any]], place: Path, workshop: Workshop) -> list[dict[str, Any]]:
    """The events that a batch can hold; the others are counted: none of them may stop those behind it."""
    items = set(pq.read_table(place / ITEMS, columns=["id"])["id"].to_pylist())
    limit = latest()
    rules: dict[str, Callable[[dict[str, Any]], bool]] = {
        "events whose user or item is no id": lambda event: is_id(event["user"]) and is_id(event["item"]),
        "events of more than a day in the future": lambda event: event["at"] <= limit,
        "events of items the shop does not have": lambda event: (
            event["item"] in items or not workshop.config.has_item_table
        ),
    }
    for why, fits in rules.items():
        kept = [event for event in events if fits(event)]
        if len(kept) < len(events):
            workshop.say(f"{'feedback':<9} left out, {why}: {len(events) - len(kept):,}")
        events = kept
    return events


def _interaction(event: dict[str, Any], config: ShopConfig) -> dict[str, Any]:
    """An event of the service with what this shop tells of an interaction."""
    section = config.interactions
    told = {
        "at": event["at"] if section.time else None,
        "quantity": event["quantity"] if section.quantity else None,
        "kind": event["kind"] if section.kind else None,
        "label": 1 if section.label else None,
    }
    return {"op": "interaction", "user": event["user"], "item": event["item"]} | {
        name: value for name, value in told.items() if value is not None
    }
