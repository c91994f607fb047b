"""Which weights of a BERT learn, by `finetune.way`: all, the last layers, or small ones beside them, merged later."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..config import FinetuneSection
from ..errors import ConfigError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SUMS = ("exp_avg_ipt", "exp_avg_unc")  # adalora: running importance and its uncertainty, per weight
RANK_SETTLES = (0.1, 0.3)  # adalora: shares of the steps before ranks are cut and after they are final


def prepare(model: SentenceTransformer, section: FinetuneSection) -> None:
    """Leave exactly the weights trainable that the way trains; drop-out as told everywhere.

    Raises:
        ConfigError: the model has fewer layers than `layers` asks for, its layers are not where BERTs have them, or
            peft does not know where this kind of model takes the way's adapters.
    """
    if section.way == "full":
        _only_last(model, section.layers)
    else:
        from peft import get_peft_model  # noqa: PLC0415  an extra

        with warnings.catch_warnings():  # peft reads a name that transformers is about to rename
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            try:
                backbone(model).model = get_peft_model(backbone(model).model, _adapters(section))
            except ValueError as e:  # peft knows the layers of some kinds of model alone
                raise ConfigError(
                    f'encoder.finetune.way = {section.way!r} does not fit this encoder ({e}); say "full" or "lora"'
                ) from None
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = section.dropout


def after_step(model: SentenceTransformer, section: FinetuneSection, step: int) -> None:
    """What a way does between an optimizer's step and the next: adalora moves rank to where it matters."""
    if section.way == "adalora":
        backbone(model).model.base_model.update_and_allocate(step)


def memory(model: SentenceTransformer, section: FinetuneSection) -> dict[str, torch.Tensor]:
    """What a way keeps beside weights and optimizer between two steps, for a checkpoint."""
    if section.way != "adalora":
        return {}
    tuner = backbone(model).model.base_model
    found = {
        f"{kind}/{name}": value.contiguous()
        for kind in SUMS
        for name, value in getattr(tuner.rankallocator, kind).items()
    }
    kept = tuner.peft_config[tuner.trainable_adapter_name].rank_pattern or {}
    return found | {f"rank/{name}": torch.tensor(which) for name, which in kept.items()}


def remember(model: SentenceTransformer, section: FinetuneSection, held: Mapping[str, torch.Tensor]) -> None:
    """Go on with what :func:`memory` gave."""
    if section.way != "adalora":
        return
    tuner = backbone(model).model.base_model
    kinds: dict[str, dict[str, torch.Tensor]] = {kind: {} for kind in (*SUMS, "rank")}
    for key, value in held.items():
        kind, _, name = key.partition("/")
        kinds[kind][name] = value.to(model.device)
    for kind in SUMS:
        setattr(tuner.rankallocator, kind, kinds[kind])
    tuner.rankallocator.ipt = dict(kinds[SUMS[0]])  # its values are replaced before they are read; its keys count
    pattern = {name: which.tolist() for name, which in kinds["rank"].items()}
    tuner.peft_config[tuner.trainable_adapter_name].rank_pattern = pattern or None


def merge(model: SentenceTransformer, section: FinetuneSection) -> None:
    """The learned weights inside the model's own: the same outputs, and nothing beside it any more."""
    if section.way != "full":
        backbone(model).model = backbone(model).model.merge_and_unload()
    model.requires_grad_(True)


def trained_parameters(model: SentenceTransformer) -> int:
    """How many numbers learn."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def backbone(model: SentenceTransformer) -> Any:
    """The module of sentence-transformers that holds the transformer as `.model`."""
    return model[0]


def _only_last(model: SentenceTransformer, layers: int) -> None:
    if not layers:
        return
    found = getattr(getattr(backbone(model).model, "encoder", None), "layer", None)
    if not isinstance(found, nn.ModuleList) or len(found) < layers:
        has = "no encoder.layer list" if not isinstance(found, nn.ModuleList) else f"{len(found)} layers"
        raise ConfigError(f"encoder.finetune.layers = {layers}, and the model has {has}; say layers = 0 to train all")
    model.requires_grad_(False)
    found[len(found) - layers :].requires_grad_(True)


def _adapters(section: FinetuneSection) -> Any:
    import peft  # noqa: PLC0415  an extra

    task = peft.TaskType.FEATURE_EXTRACTION
    if section.way == "adapter":
        return peft.IA3Config(task_type=task)
    shape: dict[str, Any] = {
        "target_modules": "all-linear",
        "exclude_modules": r".*pooler.*",  # no part of a mean over tokens
        "lora_alpha": 2 * section.rank,
        "lora_dropout": section.dropout,
    }
    if section.way == "lora":
        return peft.LoraConfig(task_type=task, r=section.rank, **shape)
    first, last = (int(share * section.steps) for share in RANK_SETTLES)
    return peft.AdaLoraConfig(
        task_type=task,
        init_r=section.rank + section.rank // 2,
        target_r=section.rank,
        tinit=first,
        tfinal=last,
        deltaT=10,
        total_step=section.steps,
        **shape,
    )
