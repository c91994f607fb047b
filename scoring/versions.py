"""The versions of a shop's model on disk: bundles appear whole, and one small file says which of them is served.

bundles/0007-3fa9c1d2/   a bundle, number and digest of its inputs; complete before it has this name
current                  the name of the published one; replaced atomically

A reader sees the old or the new version, never a mixture, and a process killed at any moment leaves the old one.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..durable import move_in, replace_text
from ..errors import ArtifactError
from ..kg.stores import GRAPH
from ..loaders.changes import Changes
from .bundle import MANIFEST, METRICS, Bundle, Waits, save, updates_in, waits_in

REPORT = "report.html"
KEPT = 3  # bundles that stay when a new one is published: the served one and what may be gone back or compared to


def write(bundle: Bundle, folder: Path, updates: Iterable[Changes]) -> Path:
    """Write a bundle beside its place, sync it and rename it in; returns its folder. Nothing is published yet.

    updates: the batches it was told since the shop's files were read.
    """
    shelf = folder / "bundles"
    last = max((number(place) for place in _complete(shelf)), default=0)
    place = shelf / f"{last + 1:04}-{bundle.inputs[:8]}"
    part = place.with_name(place.name + ".part")
    for left in shelf.glob("*.part"):  # of runs that were killed
        shutil.rmtree(left)
    part.mkdir(parents=True)
    save(bundle, part, updates)
    move_in(part, place)
    return place


def add_metrics(place: Path, metrics: dict[str, Any], page: str | None = None) -> None:
    """What an evaluation found, as data and as a page, beside the model or in any other folder."""
    if page is not None:
        replace_text(place / REPORT, page)
    replace_text(place / METRICS, json.dumps(metrics, indent=1))


def publish(place: Path) -> None:
    """Serve this bundle from now on; of the older ones the newest few stay.

    Events of the service's log that the version before was told count as told, whatever this one was made from.
    """
    folder = place.parents[1]
    _say(place, feedback=max(feedback(folder), int(_manifest(place).get("feedback", 0))))
    replace_text(folder / "current", place.name + "\n")
    _say(place, waits=None)  # or going back to the version before would be undone
    older = [other for other in _complete(place.parent) if other != place]
    for other in older[: max(len(older) + 1 - KEPT, 0)]:
        shutil.rmtree(other)
    _drop_unnamed(folder / "encoder", _complete(place.parent))


def published(folder: Path) -> Path:
    """The folder of the published bundle.

    Raises:
        ArtifactError: nothing is published there, or `current` names a version that is gone.
    """
    place = _current(folder)
    if place is None:
        raise ArtifactError(f"{folder}: nothing is published here; run `catalograph rebuild SHOP.toml` first")
    if not place.is_dir():
        raise ArtifactError(
            f"{folder / 'current'} names {place.name}, which is not there; run `catalograph rebuild` again"
        )
    return place


def is_published(place: Path) -> bool:
    """Whether this bundle is the one served."""
    return _current(place.parents[1]) == place


def updates(folder: Path) -> tuple[Changes, ...]:
    """The batches the published bundle was told since the shop's files were read; none where nothing is published.

    Raises:
        ArtifactError: the list of them is damaged.
    """
    place = _current(folder)
    return () if place is None else updates_in(place)


def later_updates(folder: Path) -> tuple[Changes, ...]:
    """The batches of the newest version, where that is not the published one."""
    newest = next(reversed(_complete(folder / "bundles")), None)
    return () if newest is None or newest == _current(folder) else updates_in(newest)


def feedback(folder: Path) -> int:
    """The number of the newest event of the service's log that the published bundle was told."""
    place = _current(folder)
    return 0 if place is None else int(_manifest(place).get("feedback", 0))


def store(place: Path) -> str:
    """The URL of the graph that belongs to a bundle, as the bundle keeps it."""
    return str(_manifest(place).get("store") or GRAPH)


def waiting(folder: Path) -> tuple[Path, Waits] | None:
    """The version that was made out of the published one beside a change of the store, and is not published yet."""
    current = _current(folder)
    if current is None:
        return None
    for place in reversed(_complete(folder / "bundles")):
        if place.name == current.name:
            break
        waits = waits_in(_manifest(place))
        if waits is not None and waits.of == current.name:
            return place, waits
    return None


def is_evaluated(place: Path) -> bool:
    """Whether :func:`add_metrics` was reached."""
    return (place / METRICS).is_file()


def made_from(folder: Path, inputs: str) -> Path | None:
    """The newest complete bundle made from inputs of this digest."""
    for place in reversed(_complete(folder / "bundles")):
        if _manifest(place).get("inputs") == inputs:
            return place
    return None


def _current(folder: Path) -> Path | None:
    """The folder that `current` names, whether or not it is there; None where nothing is published."""
    pointer = folder / "current"
    return folder / "bundles" / pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else None


def _say(place: Path, **told: Any) -> None:
    """Change what a bundle says of itself."""
    said = _manifest(place)
    if said and said != said | told:
        replace_text(place / MANIFEST, json.dumps(said | told, indent=1))


def _manifest(place: Path) -> dict[str, Any]:
    """What a bundle says of itself; nothing where it is damaged."""
    try:
        said = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _drop_unnamed(encoders: Path, kept: list[Path]) -> None:
    """Tuned encoders that no bundle names make room too; one that is being tuned is not complete and stays."""
    told = [_manifest(place).get("encoder") or {} for place in kept]
    named = {Path(encoder.get("model", "")).name for encoder in told}
    for encoder in encoders.glob("*"):
        if (encoder / "modules.json").is_file() and encoder.name not in named:
            shutil.rmtree(encoder)
            encoder.with_name(encoder.name + ".json").unlink(missing_ok=True)


def _complete(shelf: Path) -> list[Path]:
    """Bundles, oldest first."""
    return sorted((place for place in shelf.glob("*-*") if place.suffix != ".part"), key=number)


def number(place: Path) -> int:
    """A version's number: the front of its name."""
    front = place.name.partition("-")[0]
    return int(front) if front.isdecimal() else 0
