"""One run of the encoder's contrastive training, by sentence-transformers' trainer; killed, it resumes."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.sampler import DefaultBatchSampler, NoDuplicatesBatchSampler
from sentence_transformers.sentence_transformer.evaluation import SentenceEvaluator
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    CoSENTLoss,
    MultipleNegativesRankingLoss,
)
from torch.utils.data import RandomSampler
from torch.utils.tensorboard import SummaryWriter
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.integrations.integration_utils import TensorBoardCallback

from ..config import FinetuneSection
from .transformer import reduced_type, without_bars, words_of
from .ways import after_step, memory, remember

WHOLE = "whole"  # stands in a checkpoint that was written to its end
WEIGHTS = "weights.safetensors"
MEMORY = "memory.safetensors"  # what a way of tuning keeps besides
METRIC = "ndcg@10"
CHUNK = 16  # batches that are made of neighbouring rows
TELL_S = 20.0  # between two lines of progress in a file
Texts = Mapping[str, Mapping[str, list[Any]]]  # kind -> the columns of finetune.Columns


def train(
    model: SentenceTransformer,
    texts: Texts,
    teacher: np.ndarray | None,
    section: FinetuneSection,
    *,
    folder: Path,
    logs: Path,
    check: Callable[[], float],
    device: str,
    seed: int,
    progress: bool,
) -> list[float]:
    """Train the weights that want it, to the best of `check`'s values; returns all of them, in order.

    Checkpoints lie in `folder`; a run that finds one there goes on from it to the result it would have had.
    """
    _drop_torn(folder)
    trainer = _trainer(model, texts, teacher, section, folder, device, seed)
    seen = _Checks(check)
    trainer.evaluator = seen
    for callback in (PrinterCallback, ProgressCallback):  # they write to stdout
        trainer.remove_callback(callback)
    trainer.add_callback(_Bookkeeping(model, section))
    trainer.add_callback(_Patience(section.patience))
    trainer.add_callback(TensorBoardCallback(SummaryWriter(str(logs))))
    bar = _Bar()
    if progress:
        trainer.add_callback(bar if bar.bar.console.is_terminal else _Lines())
    found = sorted(folder.glob("checkpoint-*"), key=_step)
    try:
        with without_bars(datasets):  # one where it hashes texts for a sampler
            trainer.train(resume_from_checkpoint=str(found[-1]) if found else None)
    finally:
        bar.stop()
    return _measured(trainer.state.log_history)


def _measured(history: Sequence[Mapping[str, float]]) -> list[float]:
    """The values of the check in a trainer's log, in order."""
    return [float(entry[f"eval_{METRIC}"]) for entry in history if f"eval_{METRIC}" in entry]


def _trainer(
    model: SentenceTransformer,
    texts: Texts,
    teacher: np.ndarray | None,
    section: FinetuneSection,
    folder: Path,
    device: str,
    seed: int,
) -> _Trainer:
    kind = reduced_type(device)
    every = max(section.steps // section.checks, 1)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        max_steps=section.steps,
        per_device_train_batch_size=section.batch_size,
        learning_rate=section.learning_rate,
        warmup_steps=int(section.warm_up * section.steps),
        lr_scheduler_type="linear",
        weight_decay=section.weight_decay,
        bf16=kind == torch.bfloat16,
        fp16=kind == torch.float16,
        use_cpu=device == "cpu",
        seed=seed,
        data_seed=seed,
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,  # the newest and the best
        load_best_model_at_end=True,
        metric_for_best_model=f"eval_{METRIC}",
        greater_is_better=True,
        logging_steps=10,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=device != "cpu",
        batch_sampler=partial(_batches, model=model),
    )
    data = datasets.DatasetDict({name: datasets.Dataset.from_dict(dict(columns)) for name, columns in texts.items()})
    losses: dict[str, torch.nn.Module] = {}
    for name, columns in texts.items():
        if "label" in columns and teacher is not None:
            losses[name] = _LikeTeacher(model, torch.from_numpy(teacher))
        else:
            losses[name] = _loss(model, section, graded="score" in columns)
    trainer = _Trainer(model=model, args=arguments, train_dataset=data, loss=losses, evaluator=_Checks(float))
    trainer.section = section
    return trainer


def _batches(dataset: datasets.Dataset, *, model: SentenceTransformer, **settings: Any) -> DefaultBatchSampler:
    """In-batch negatives want texts that differ; judged pairs want several answers to one query."""
    if "label" in dataset.column_names:
        return _ByLength(dataset, model, **settings)
    if "score" not in dataset.column_names:
        return NoDuplicatesBatchSampler(dataset, precompute_hashes=True, **settings)
    return DefaultBatchSampler(RandomSampler(dataset, generator=settings["generator"]), **settings)


class _ByLength(DefaultBatchSampler):
    """The rows in their order, in batches of texts about equally long to the model: less padding, less to compute."""

    def __init__(self, dataset: datasets.Dataset, model: SentenceTransformer, **settings: Any) -> None:
        super().__init__(dataset, **settings)
        texts = list(dict.fromkeys(dataset["anchor"]))  # every text comes several times
        length = dict(zip(texts, map(len, words_of(model, texts)), strict=True))
        self.length = [length[text] for text in dataset["anchor"]]

    def __iter__(self) -> Iterator[list[int]]:
        length = self.length
        random, chunk = np.random.default_rng(self.seed + self.epoch), CHUNK * self.batch_size
        for start in range(0, len(length), chunk):
            rows = sorted(range(start, min(start + chunk, len(length))), key=length.__getitem__)
            for first in random.permutation(range(0, len(rows), self.batch_size)):
                yield rows[first : first + self.batch_size]


def _loss(model: SentenceTransformer, section: FinetuneSection, *, graded: bool) -> torch.nn.Module:
    """InfoNCE with in-batch negatives both ways (van den Oord et al. 2018); cached: GradCache (Gao et al. 2021).

    Pairs with grades: CoSENT (Su 2022), which orders all cosines of a batch as the grades are ordered.
    """
    if graded:
        return CoSENTLoss(model, scale=1 / section.temperature)
    both: Any = ("query_to_doc", "doc_to_query")
    settings: dict[str, Any] = {"scale": 1 / section.temperature, "directions": both, "partition_mode": "per_direction"}
    if section.mini_batch:
        return CachedMultipleNegativesRankingLoss(model, mini_batch_size=section.mini_batch, **settings)
    return MultipleNegativesRankingLoss(model, **settings)


class _LikeTeacher(torch.nn.Module):
    """Mean squared distance of unit vectors from the teacher's; labels: int64 [text], its rows."""

    def __init__(self, model: SentenceTransformer, teacher: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self.teacher = teacher.to(model.device)  # no buffer: it belongs in no checkpoint

    def forward(self, sentence_features: Any, labels: torch.Tensor) -> torch.Tensor:
        (texts,) = sentence_features
        found = torch.nn.functional.normalize(self.model(texts)["sentence_embedding"].float(), dim=1)
        return (found - self.teacher[labels]).square().sum(1).mean()


class _Trainer(SentenceTransformerTrainer):
    """Checkpoints hold the weights as one safetensors file, whatever adapters are in the model; no model card."""

    section: FinetuneSection

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        pass

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}, folder / WEIGHTS)
        save_file(memory(self.model, self.section), folder / MEMORY)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.model.load_state_dict(load_file(Path(resume_from_checkpoint) / WEIGHTS))
        remember(self.model, self.section, load_file(Path(resume_from_checkpoint) / MEMORY))


class _Checks(SentenceEvaluator):
    """The validation metric as the trainer asks for it."""

    def __init__(self, check: Callable[[], float]) -> None:
        super().__init__()
        self.check = check

    def __call__(self, *_: Any, **__: Any) -> dict[str, float]:
        return {METRIC: self.check()}


class _Bookkeeping(TrainerCallback):
    """Marks checkpoints that are whole, and lets the way of tuning do its part after each step."""

    def __init__(self, model: SentenceTransformer, section: FinetuneSection) -> None:
        self.model, self.section = model, section

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        after_step(self.model, self.section, state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE).touch()


class _Patience(TrainerCallback):
    """Ends a run when so many checks in a row were no better than the best before them.

    It counts in the log that checkpoints hold, so a killed run ends where it would have; transformers' own callback
    begins to count anew.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        values = _measured(state.log_history)
        if values and len(values) - 1 - int(np.argmax(values)) >= self.patience:
            control.should_training_stop = True  # never False: the last step has said so, too

    on_evaluate = on_train_begin


class _Bar(TrainerCallback):
    """Steps, loss and the time that remains, on stderr."""

    def __init__(self) -> None:
        columns = (
            TextColumn("tune"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bar.add_task("", total=None)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(self.task, total=state.max_steps, completed=state.global_step)
        self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.bar.update(self.task, description=f"loss {float(logs['loss']):.3f}")

    def stop(self) -> None:
        """Give the terminal back, whatever happened."""
        self.bar.stop()


class _Lines(TrainerCallback):
    """The same as lines, now and then: what is left of a run in a file."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.start, self.first, self.told = time.monotonic(), state.global_step, time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.monotonic()
        if now - self.told > TELL_S and state.global_step < state.max_steps:
            self.told, done = now, state.global_step - self.first
            left = (now - self.start) / done * (state.max_steps - state.global_step)
            line = f"{'':<9} tune: step {state.global_step} of {state.max_steps}, about {left / 60:.0f} min left"
            print(line, file=sys.stderr, flush=True)


def _drop_torn(folder: Path) -> None:
    """Remove checkpoints a kill left half written."""
    for place in folder.glob("checkpoint-*"):
        if not (place / WHOLE).is_file():
            shutil.rmtree(place)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
