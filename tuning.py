"""Search for a shop's settings, judged on its validation part alone: [model], [gnn] and the weights of [relations].

A record in the build folder, one SQLite file, remembers every trial, so a search that was killed goes on where it was.
Trial 0 is the shop as it stands, so what is found is never worse than it on validation.
"""

from __future__ import annotations

import os
import time
import tomllib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import ShopConfig, read_config
from .durable import alone, replace_text
from .errors import ArtifactError, CatalographError, ConfigError, MissingExtraError
from .gnn.train import RelationVectors, Weights
from .kg.log import InteractionLog
from .loaders.toml_draft import Block, render
from .pipeline.fitting import validated
from .pipeline.workshop import Workshop, inputs_of
from .pipeline.world import World, build_world
from .scoring.clicks import UNCUT
from .scoring.evidence import Relation
from .scoring.model import Answers, LearnVectors

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

RECORD = "tuning.sqlite"
MARK = "Written by `catalograph tune`"  # the first line of a file it may write over
AS_IT_IS, AGAIN = "as it is", "again"  # marks of trials
AT_RANDOM = 5  # trials before the sampler goes by what it has seen
REMEMBERED = 12  # learned relation vectors of earlier trials that are kept


@dataclass(frozen=True)
class Knob:
    """One setting: where it stands in shop.toml, what may be tried, and what it is now."""

    path: tuple[str, ...]
    tried: BaseDistribution
    now: Any

    @property
    def name(self) -> str:
        """As people write it."""
        return ".".join(self.path)


def tune(workshop: Workshop, text: str, target: Path, *, minutes: float, trials: int | None = None) -> Path:
    """Search for `minutes`, or until there are so many `trials` in all; writes and returns `target`, a whole shop.toml.

    text: the shop.toml as it is. A trial is begun only if the longest so far would still end in time; the first always
    is. What an earlier call on the same files and settings has found counts.

    Raises:
        MissingExtraError: optuna is not installed.
        ConfigError: `target` is not ours to write over; the shop has no validation part to go by.
        ArtifactError: the record is damaged, or another process is at work in the build folder.
    """
    if find_spec("optuna") is None:
        raise MissingExtraError("tuning needs optuna: pip install 'catalograph[tune]'")
    _check_target(target)
    if not workshop.config.has_interactions:
        raise ConfigError("this shop has no interactions, so there is nothing to tune")
    end = time.monotonic() + 60 * minutes
    with alone(workshop.folder):
        graph_inputs, inputs = inputs_of(workshop)
        world = build_world(workshop, graph_inputs)
        search = Search(workshop, text, world, knobs_of(workshop.config, world.given.relations))
        with recorded(workshop.folder / RECORD, inputs, workshop.seed) as study:
            _take_up(study, search)
            while _has_room(study, end, trials):
                _try(study, search)
                replace_text(target, search.written(_best(study).params, target))
            best, before = _best(study), _finished(study, AS_IT_IS)[0]
            workshop.say(
                f"{'tune':<9} validation {best.value:.4f} in trial {best.number} of {len(_finished(study))}, "
                f"{before.value:.4f} as it is; in {target}"
            )
    return target


def _check_target(target: Path) -> None:
    if target.is_dir():
        raise ConfigError(f"{target} is a folder; name a file by --out")
    if target.exists() and MARK not in target.read_text(encoding="utf-8", errors="replace").partition("\n")[0]:
        raise ConfigError(f"{target} is there already and was not written by tune; name another file by --out")


def knobs_of(config: ShopConfig, relations: Sequence[Relation]) -> tuple[Knob, ...]:
    """What is searched in this shop; the present value is always among what may be tried."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: PLC0415

    def choice(section: str, key: str, values: Sequence[Any]) -> Knob:
        now = getattr(getattr(config, section), key)
        return Knob((section, key), CategoricalDistribution([*values, *([now] if now not in values else [])]), now)

    def between(path: tuple[str, ...], low: float, high: float, now: float, *, log: bool = False) -> Knob:
        return Knob(path, FloatDistribution(min(low, now), max(high, now), log=log), now)

    model, gnn, knobs = config.model, config.gnn, []
    if config.interactions.label is None:
        sizes = [size for size in (100, 200, 300, 500) if size >= config.evaluation.k]
        knobs += [
            choice("model", "head", ("linear", "gated", "mlps", "ensemble")),
            choice("model", "pool", ("auto", "learned", "strongest")),
            choice("model", "pool_size", sizes),
        ]
        if model.folds > 1:  # with a single one other users would check, and figures could not be compared
            knobs.append(Knob(("model", "folds"), IntDistribution(2, max(5, model.folds)), model.folds))
    if gnn.model != "none":
        knobs += [
            choice("gnn", "dim", (32, 64, 128)),
            choice("gnn", "layers", (1, 2, 3)),
            choice("gnn", "epochs", (1, 3, 6, 12)),
            choice("gnn", "negatives", (256, 1024, 4096)),
            between(("gnn", "learning_rate"), 0.001, 0.02, gnn.learning_rate, log=True),
            between(("gnn", "temperature"), 0.03, 0.3, gnn.temperature, log=True),
        ]
    for relation in relations:
        knobs.append(Knob(("relations", relation.name, "use"), CategoricalDistribution([True, False]), True))
        knobs.append(between(("relations", relation.name, "weight"), 0.0, 2.0, relation.weight))
    return tuple(knobs)


@dataclass
class Search:
    """What all trials share: the shop loaded, stored, exported and encoded once, and vectors learned before."""

    workshop: Workshop
    text: str
    world: World
    knobs: tuple[Knob, ...]
    memory: Memory = field(default_factory=lambda: Memory(REMEMBERED))

    def figure(self, values: Mapping[str, Any]) -> float:
        """What these values reach on validation: NDCG@k, of labelled pairs AUC."""
        raw = self.changed(values)
        config = read_config(as_toml(raw), Path("shop.toml"), data=self.workshop.config.shop.data)
        learned = {"gnn": raw.get("gnn"), "use": {r: t.use for r, t in config.relations.items()}}
        found = validated(self.workshop, self.world, config, lambda learn: self.memory.of(learn, repr(learned)))
        if not found:
            raise ConfigError(f"this shop has no validation pairs to tune on: {UNCUT}")
        return float(next(iter(found.values())))

    def changed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """shop.toml as tables, with the values that are not as before."""
        raw = tomllib.loads(self.text)
        for knob in self.knobs:
            if values[knob.name] != knob.now:
                table = raw
                for key in knob.path[:-1]:
                    table = table.setdefault(key, {})
                table[knob.path[-1]] = values[knob.name]
        return raw

    def written(self, values: Mapping[str, Any], target: Path) -> str:
        """The whole file, for a reader in the folder of `target`."""
        raw = self.changed(values)
        data = os.path.relpath(self.workshop.config.shop.data, target.resolve().parent)
        raw["shop"] = {**raw["shop"], "data": Path(data).as_posix()}
        return as_toml(raw, (f"{MARK}, comments are lost; changes: {self.changes(values)}",))

    def changes(self, values: Mapping[str, Any]) -> str:
        """What is not as before, in words."""
        changed = [knob for knob in self.knobs if values[knob.name] != knob.now]
        return ", ".join(f"{knob.name} {_short(values[knob.name])}" for knob in changed) or "no change"


def as_toml(raw: Mapping[str, Any], comments: Sequence[str] = ()) -> str:
    """Tables as the text of a TOML file."""
    blocks = []
    for name, table in raw.items():
        for one in table if isinstance(table, list) else [table]:
            block = Block(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            for key, value in one.items():
                block.add(key, value)
            blocks.append(block)
    return render(comments, blocks)


class Memory:
    """Relation vectors by everything they were learned from: trials that differ elsewhere do not learn them again."""

    def __init__(self, most: int) -> None:
        self._most, self._found = most, OrderedDict[str, RelationVectors | None]()

    def of(self, learn: LearnVectors, settings: str) -> LearnVectors:
        """The same learner, which looks here first."""

        def again(seen: InteractionLog, valid: Answers | None, start: Weights | None) -> RelationVectors | None:
            arrays = [
                seen.user,
                seen.item,
                *(valid or ()),
                *(() if start is None else (value.numpy() for value in start.state.values())),
            ]
            key = sha256("|".join([settings, *(sha256(a.tobytes()).hexdigest() for a in arrays)]).encode())
            name = key.hexdigest()
            if name not in self._found:
                self._found[name] = learn(seen, valid, start)
                if len(self._found) > self._most:
                    self._found.popitem(last=False)
            self._found.move_to_end(name)
            return self._found[name]

        return again


@contextmanager
def recorded(file: Path, inputs: str, seed: int) -> Iterator[Study]:
    """The study of these inputs in a record, made when it is not there."""
    import optuna  # noqa: PLC0415
    from sqlalchemy import URL  # noqa: PLC0415
    from sqlalchemy.exc import DatabaseError  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = URL.create("sqlite", database=str(file)).render_as_string()
    try:
        storage = optuna.storages.RDBStorage(url)
        study = optuna.create_study(storage=storage, study_name=inputs, direction="maximize", load_if_exists=True)
    except (DatabaseError, RuntimeError, optuna.exceptions.StorageInternalError) as e:
        raise ArtifactError(f"{file}: no record of a search can be read from it ({type(e).__name__}); delete it") from e
    # a sampler of this seed has drawn what the record holds already
    study.sampler = optuna.samplers.TPESampler(n_startup_trials=AT_RANDOM, seed=seed + len(study.trials))
    try:
        yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _take_up(study: Study, search: Search) -> None:
    """Begin with the shop as it is; of an earlier call, what was killed is tried once more."""
    from optuna.trial import TrialState  # noqa: PLC0415

    if study.trials:
        search.workshop.say(f"{'tune':<9} goes on after {len(_finished(study))} trials")
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        if not trial.user_attrs.keys() & {AS_IT_IS, AGAIN}:
            study.enqueue_trial(trial.params, user_attrs={AGAIN: True})
    if not any(AS_IT_IS in t.user_attrs for t in study.get_trials(states=(TrialState.COMPLETE, TrialState.WAITING))):
        study.enqueue_trial({knob.name: knob.now for knob in search.knobs}, user_attrs={AS_IT_IS: True})


def _has_room(study: Study, end: float, trials: int | None) -> bool:
    """Whether another trial may begin; always, until the shop as it is has its figure."""
    finished = _finished(study)
    if not _finished(study, AS_IT_IS):
        return True
    longest = max(trial.duration.total_seconds() for trial in finished if trial.duration is not None)
    return (trials is None or len(finished) < trials) and time.monotonic() + longest <= end


def _try(study: Study, search: Search) -> None:
    """One trial, told in a line; settings that cannot be fitted are a failed trial."""
    from optuna.trial import TrialState  # noqa: PLC0415

    start = time.perf_counter()
    trial = study.ask({knob.name: knob.tried for knob in search.knobs})
    try:
        value = search.figure(trial.params)
    except CatalographError as e:
        study.tell(trial, state=TrialState.FAIL)
        if AS_IT_IS in trial.user_attrs:
            raise
        search.workshop.line("tune", f"trial {trial.number} cannot be fitted: {e}", start)
        return
    study.tell(trial, value)
    told = f"trial {trial.number}: {value:.4f}, best {_best(study).value:.4f}; {search.changes(trial.params)}"
    search.workshop.line("tune", told, start)


def _best(study: Study) -> FrozenTrial:
    """The trial with the highest figure, of equals the first."""
    return max(_finished(study), key=lambda trial: (trial.value or 0.0, -trial.number))


def _finished(study: Study, marked: str | None = None) -> list[FrozenTrial]:
    """The trials with a figure, oldest first; of these the `marked` ones."""
    from optuna.trial import TrialState  # noqa: PLC0415

    found = study.get_trials(states=(TrialState.COMPLETE,))
    return [trial for trial in found if marked is None or marked in trial.user_attrs]


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
