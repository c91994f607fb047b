"""The encoder in 8-bit integers, run by ONNX Runtime: a quarter of its size, and fewer seconds a text."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from ..durable import move_in
from ..errors import ArtifactError, ConfigError, MissingExtraError

LIBRARIES, INSTALL = ("onnx", "onnxruntime", "onnxscript"), "pip install 'catalograph[int8]'"
INPUTS = ("input_ids", "attention_mask")
OPSET = 18  # of ONNX's operators


def quantised(model: SentenceTransformer, kept: Path | None) -> SentenceTransformer:
    """The model with its weights in 8 bits, a scale for each output; tokens and pooling stay. It runs on the CPU.

    What flows through it is scaled by the batch, so a vector depends a little on the texts beside it.
    kept: a file that holds the integers, or will where it can be written: to make them takes some twenty seconds.

    Raises:
        ConfigError: the model cannot be written as ONNX.
        ArtifactError: the file is damaged.
    """
    from onnxruntime import InferenceSession, SessionOptions  # noqa: PLC0415  of the extra

    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    module: Any = model[0]
    written = kept.read_bytes() if kept is not None and kept.is_file() else _written(module, kept)
    try:
        session = InferenceSession(written, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # each of its errors has a class of its own, without a base
        raise ArtifactError(f"{kept}: damaged ({str(e).splitlines()[0]}); delete it, and it is made again") from None
    module.model = _Integers(session, module.model.config)
    return model


def check_possible() -> None:
    """Before a model is loaded.

    Raises:
        ConfigError: this is one of several processes, each of which would encode for itself.
        MissingExtraError: a part of the extra `int8` is not installed.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError("encoder.precision = 'int8' is for one process: vectors depend on the batch; say 'full'")
    missing = [library for library in LIBRARIES if find_spec(library) is None]
    if missing:
        raise MissingExtraError(f"encoder.precision = 'int8' needs {', '.join(missing)}: {INSTALL}")


class _Integers(nn.Module):
    """Stands where the BERT did: token vectors float32 [text, token, dim] out of token numbers int64 [text, token]."""

    def __init__(self, session: Any, config: Any) -> None:
        super().__init__()
        self.session, self.config = session, config

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> BaseModelOutput:
        given = dict(zip(INPUTS, (input_ids.numpy(), attention_mask.numpy()), strict=True))
        return BaseModelOutput(last_hidden_state=torch.from_numpy(self.session.run(None, given)[0]))


class _Tokens(nn.Module):
    """A BERT's token vectors as the only output: what is written as ONNX."""

    def __init__(self, bert: nn.Module) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        found: Tensor = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return found


def _written(module: Any, kept: Path | None) -> bytes:
    """The module's BERT in integers as ONNX, and in the file `kept` for the next process."""
    with TemporaryDirectory() as folder:
        try:
            made = _made(module.model, Path(folder))
        except Exception as e:  # of torch, onnx or onnxruntime, whoever finds something it does not know
            reason = (str(e).splitlines() or [type(e).__name__])[0]
            raise ConfigError(f"encoder.precision = 'int8' does not fit this model ({reason}); say 'full'") from None
        if kept is not None:
            with suppress(OSError):  # a folder that cannot be written keeps nothing
                kept.parent.mkdir(parents=True, exist_ok=True)
                part = kept.with_name(f"{kept.name}.{os.getpid()}.part")
                move_in(Path(shutil.copyfile(made, part)), kept)
        return made.read_bytes()


def _made(bert: nn.Module, folder: Path) -> Path:
    """A file of the BERT in integers."""
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic  # noqa: PLC0415  of the extra

    tokens, mask = (torch.ones(2, 8, dtype=torch.int64) for _ in INPUTS)  # one tensor twice would count as one input
    shape = {0: torch.export.Dim("text"), 1: torch.export.Dim("length")}
    whole, cleaned, small = (folder / f"{name}.onnx" for name in ("whole", "cleaned", "small"))
    with _quietly():
        torch.onnx.export(
            _Tokens(bert).eval(),
            (tokens, mask),
            whole,
            input_names=INPUTS,
            dynamic_shapes=(shape, shape),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
        quant_pre_process(whole, cleaned, skip_symbolic_shape=True)
        # 7 of the 8 bits of a weight: without VNNI, processors add two products in 16 bits, and would cut them off
        quantize_dynamic(cleaned, small, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
    return small


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter tells developers of torch about what it leaves out."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
