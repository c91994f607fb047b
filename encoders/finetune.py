"""Fine-tune the text encoder on a shop's pairs; the outcome is a folder like any other encoder's.

    encoder/<digest>/            the tuned model as sentence-transformers saves it; complete when it has this name
    encoder/<digest>.json        what was measured on the way
    encoder/<digest>.part/       checkpoints of a run that is not finished; it resumes from them
    encoder/tensorboard/         its scalars

The digest is over everything the weights follow from: texts, pairs, settings, seed, the weights it starts with, and
the number of the recipe here.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import cycle, islice
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ..config import EncoderSection
from ..durable import move_in, replace_text
from ..errors import CatalographError, ConfigError, MissingExtraError
from ..seeding import seeded
from .cache import text_digests
from .drift import forgetting, similarities
from .pairs import TextPairs
from .teacher import Tastes, taught
from .transformer import load_model, quiet, reduced, vectors_of, words_of
from .ways import backbone, merge, prepare, trained_parameters
from .weights import resolve

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Say = Callable[[str], None]
Columns = dict[str, list[Any]]  # texts anchor, positive and maybe negative; score, how close; or anchor and label
RECIPE = 2  # raised where a change here, in training.py or in teacher.py makes other weights of the same inputs
TUNED = "tuned.safetensors"
FAIR = 0.2  # of all rows, at least, are not of tastes: batches come from each kind as often as it has rows
LIBRARIES = ("accelerate", "datasets", "peft", "tensorboard")


@dataclass(frozen=True)
class Lessons:
    """What the encoder learns from.

    texts: rows the pairs mean, the items' first. pairs: kind -> pairs. negatives: kind -> int64 [n], an item row beside
    each pair that should stay away, or -1; for some kinds. tastes: what the teacher of the items' vectors is made from.
    """

    texts: Sequence[str]
    pairs: Mapping[str, TextPairs]
    negatives: Mapping[str, np.ndarray]
    tastes: Tastes | None = None

    def columns(self, rows: int, seed: int) -> dict[str, Columns]:
        """kind -> columns of the pairs; those of equal or empty texts teach nothing and go, and so do those whose
        negative is missing or reads like one of the two. Of "tastes" `rows` rows: every item's text once before any
        twice, and its row of the teacher; pairs are repeated until they are FAIR of all beside them."""
        blank = np.array([not text.strip() for text in self.texts], bool)
        _, same = np.unique(np.asarray(self.texts, object).astype(str), return_inverse=True)
        found: dict[str, Columns] = {}
        for kind, pairs in self.pairs.items():
            sides = {"anchor": pairs.anchor, "positive": pairs.positive}
            keep = same[pairs.anchor] != same[pairs.positive]
            if kind in self.negatives:
                away = sides["negative"] = self.negatives[kind]
                keep &= (away >= 0) & (same[away] != same[pairs.anchor]) & (same[away] != same[pairs.positive])
            keep &= ~np.any([blank[rows] for rows in sides.values()], axis=0)
            columns: Columns = {side: [self.texts[row] for row in rows[keep]] for side, rows in sides.items()}
            if pairs.grade is not None:
                columns["score"] = pairs.grade[keep].tolist()
            if keep.any():
                found[kind] = columns
        told = np.flatnonzero(~blank[: self.tastes.histories.shape[1]]) if self.tastes is not None else np.empty(0, int)
        if len(told):
            found = _repeated(found, rows * FAIR / (1 - FAIR))
            random = np.random.default_rng(seed)
            drawn = np.concatenate([random.permutation(told) for _ in range(-(-rows // len(told)))])[:rows].tolist()
            found["tastes"] = {"anchor": [self.texts[row] for row in drawn], "label": drawn}
        return found

    def digest(self) -> str:
        """Over texts, pairs and tastes; the teacher follows from them and the weights to start with."""
        digest = hashlib.sha256(text_digests(self.texts).tobytes())
        if self.tastes is not None:
            digest.update(self.tastes.digest())
        for kind, pairs in sorted(self.pairs.items()):
            digest.update(kind.encode())
            none = np.empty(0)
            for part in (pairs.anchor, pairs.positive, self.negatives.get(kind, none), pairs.grade):
                digest.update((none if part is None else np.ascontiguousarray(part)).tobytes() + b"|")
        return digest.hexdigest()


def _repeated(kinds: Mapping[str, Columns], least: float) -> dict[str, Columns]:
    """The kinds with their rows over and over, all kinds as often, until they have `least` rows together."""
    times = max(least / max(sum(len(columns["anchor"]) for columns in kinds.values()), 1), 1.0)
    return {
        kind: {side: list(islice(cycle(column), ceil(times * len(column)))) for side, column in columns.items()}
        for kind, columns in kinds.items()
    }


@dataclass(frozen=True)
class Check:
    """The validation metric that picks a checkpoint. score: unit vectors float32 [text, dim] of `texts` -> the higher
    the better. digest: of what it is computed from."""

    texts: Sequence[str]
    score: Callable[[np.ndarray], float]
    digest: str


@dataclass(frozen=True)
class _Run:
    """Where and how a run is made, beside what it learns. progress: whether it tells how far it is."""

    device: str
    seed: int
    progress: bool


def tune(
    lessons: Lessons,
    section: EncoderSection,
    check: Check,
    *,
    folder: Path,
    device: str = "cpu",
    seed: int = 0,
    progress: bool = False,
    say: Say = lambda _: None,
) -> Path:
    """The folder of the tuned encoder: made by an earlier call with the same inputs, or now.

    Where no checkpoint is better on `check` than the encoder it started from, it is that encoder again; :func:`taken`
    names the one it started from then.

    Raises:
        MissingExtraError: the extra `finetune` is not installed.
        ConfigError: the model cannot be loaded, or not be tuned this way; or this is one of several processes.
        CatalographError: there is no pair to learn from.
    """
    name = _name(lessons, section, check, seed)
    place, part = folder / name, folder / f"{name}.part"
    if place.is_dir():
        shutil.rmtree(part, ignore_errors=True)
        return place
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # the trainer would read it and wait for the others
        raise ConfigError(
            "an encoder is tuned by one process alone: rebuild without torchrun first; with equal inputs and seed the "
            "tuned encoder is found again"
        )
    _require_libraries()
    columns, start = lessons.columns(section.finetune.steps * section.finetune.batch_size, seed), time.perf_counter()
    if not columns:
        raise CatalographError("no two texts to learn from; set encoder.finetune.way = 'none'")
    part.mkdir(parents=True, exist_ok=True)
    run = _Run(device, seed, progress)
    teacher = _teacher(lessons, section, part / "teacher.safetensors", run)
    parts = [part / f"run-{n}" for n in range(section.finetune.runs)]
    logs = folder / "tensorboard"
    measured = [
        _one_run(columns, teacher, section, check, parts[n], logs / f"{name}-{n}", replace(run, seed=seed + n))
        for n in range(section.finetune.runs)
    ]
    model, width = _fresh(section, device)
    report = {
        "way": section.finetune.way,
        "lessons": {kind: len(texts["anchor"]) for kind, texts in columns.items()},
        "trained_parameters": measured[0]["trained_parameters"],
        "checks": [found["checks"] for found in measured],
        **_taken_over(model, section, check, [one / TUNED for one in parts], measured, say),
        "seconds": round(time.perf_counter() - start, 1),
    }
    _publish(model, width, part, place, report)
    say(told(report))
    return place


def taken(place: Path, section: EncoderSection) -> EncoderSection:
    """The section with the encoder that :func:`tune` put at `place`; as it is where tuning made it no better, so that
    vectors of before still count."""
    report = json.loads(place.with_name(place.name + ".json").read_text(encoding="utf-8"))
    better = report["after"] > report["before"]
    return section.model_copy(update={"model": str(place)}) if better else section


def _taken_over(
    model: SentenceTransformer,
    section: EncoderSection,
    check: Check,
    runs: Sequence[Path],
    measured: Sequence[Mapping[str, Any]],
    say: Say,
) -> dict[str, Any]:
    """Give the model the average of the runs' weights, if `check` finds it better so; what was measured of both. The
    weights of a single run are those of its best look, which has measured them."""

    def encoded(texts: Sequence[str]) -> np.ndarray:
        return vectors_of(model, list(texts), section.batch_size)

    before, general = _value(model, section, check), similarities(encoded)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(_mean([load_file(run) for run in runs]))
    after = max(measured[0]["checks"]) if len(runs) == 1 else _value(model, section, check)
    if after <= before:
        say(f"validation NDCG@10 {before:.4f} before tuning, {after:.4f} after it; the encoder stays as it was")
        model.load_state_dict(start)
    return {"before": before, "after": after, "forgetting": forgetting(general, similarities(encoded))}


def _teacher(lessons: Lessons, section: EncoderSection, place: Path, run: _Run) -> np.ndarray | None:
    """float32 [item, dim], kept at `place` for a run that is killed and goes on; None where tastes teach nothing."""
    tastes = lessons.tastes
    if tastes is None:
        return None
    if not place.is_file():
        items = list(lessons.texts[: tastes.histories.shape[1]])
        words = words_of(load_model(resolve(section.model), section, run.device), items)
        vectors = taught(words, tastes.text(), tastes.histories, seed=run.seed, device=run.device)
        save_file({"teacher": torch.from_numpy(vectors)}, place.with_suffix(".new"))
        move_in(place.with_suffix(".new"), place)
    return load_file(place)["teacher"].numpy()


def told(report: Mapping[str, Any]) -> str:
    """A report of :func:`tune` in one line."""
    forgot, lessons = report["forgetting"], sum(report["lessons"].values())
    return (
        f"{report['way']}, {lessons:,} lessons, {report['trained_parameters']:,} weights; validation NDCG@10 "
        f"{report['before']:.4f} to {report['after']:.4f}; general texts: gap {forgot['gap_before']:.2f} to "
        f"{forgot['gap_after']:.2f}, rank correlation {forgot['rank_correlation']:.2f}"
    )


def _name(lessons: Lessons, section: EncoderSection, check: Check, seed: int) -> str:
    settings = section.model_dump(mode="json", include={"finetune", "keep_layers", "max_tokens"})
    parts = [RECIPE, lessons.digest(), check.digest, settings, seed, resolve(section.model).digest]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _require_libraries() -> None:
    missing = [library for library in LIBRARIES if find_spec(library) is None]
    if missing:
        raise MissingExtraError(f"fine-tuning needs {', '.join(missing)}: pip install 'catalograph[finetune]'")


def _fresh(section: EncoderSection, device: str) -> tuple[SentenceTransformer, int | None]:
    """The encoder to start from, and how many tokens it is for when it is not learning."""
    model = load_model(resolve(section.model), section, device)
    width = model.max_seq_length
    model.max_seq_length = min(section.finetune.max_tokens, width or section.finetune.max_tokens)
    return model, width


def _one_run(
    columns: Mapping[str, Columns],
    teacher: np.ndarray | None,
    section: EncoderSection,
    check: Check,
    part: Path,
    logs: Path,
    run: _Run,
) -> dict[str, Any]:
    """Train once; the merged weights stand in `part`, under the name TUNED, what was measured beside them."""
    from .training import train  # noqa: PLC0415  heavy

    done = part / "done.json"
    if done.is_file():
        return dict(json.loads(done.read_text(encoding="utf-8")))
    part.mkdir(parents=True, exist_ok=True)
    with seeded(run.seed, run.device):
        model, _ = _fresh(section, run.device)
        if run.device == "cpu":  # three times as fast there: fused attention's backward pass is slow for short texts
            backbone(model).model.set_attn_implementation("eager")
        prepare(model, section.finetune)
        count = trained_parameters(model)
        checks = train(
            model,
            columns,
            teacher,
            section.finetune,
            folder=part,
            logs=logs,
            check=lambda: _value(model, section, check),
            device=run.device,
            seed=run.seed,
            progress=run.progress,
        )
        merge(model, section.finetune)
    weights = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(weights, part / TUNED)
    found = {"trained_parameters": count, "checks": checks}
    replace_text(done, json.dumps(found))
    for checkpoint in part.glob("checkpoint-*"):  # last: a kill in between must not leave a half checkpoint to resume
        shutil.rmtree(checkpoint)
    return found


def _value(model: SentenceTransformer, section: EncoderSection, check: Check) -> float:
    """The validation metric now."""
    with reduced(str(model.device)):
        return check.score(vectors_of(model, list(check.texts), section.batch_size))


def _mean(runs: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The average of several runs' weights (Wortsman et al. 2022); counters are alike in all."""
    if len(runs) == 1:
        return runs[0]
    return {
        key: torch.stack([run[key] for run in runs]).mean(0) if value.is_floating_point() else value
        for key, value in runs[0].items()
    }


def _publish(model: SentenceTransformer, width: int | None, part: Path, place: Path, report: Mapping[str, Any]) -> None:
    """Save the model beside its place, rename it in, and clear away what led to it."""
    model.max_seq_length = width
    with quiet():
        model.to("cpu").save_pretrained(str(part / "model"), create_model_card=False)
    replace_text(place.with_name(place.name + ".json"), json.dumps(report, indent=1))
    move_in(part / "model", place)
    shutil.rmtree(part)
