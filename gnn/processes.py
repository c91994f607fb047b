"""Training by several processes, each on a GPU of its own or without one, as `torchrun` starts them; alone, as ever.

All processes read the same files with the same seed and hold the same weights. A step's events are shared out, and
DistributedDataParallel averages the gradients, so the result is that of one process up to rounding. What picks the
epoch is measured by the first, as rounding may differ between machines.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed, nn

__all__ = ["agree", "count", "joined", "of_first", "rank", "share", "together", "wait"]


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Be one of the processes torchrun has started, if it has; they talk over NCCL on GPUs, else over gloo."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0; 0 when it is alone."""
    return int(distributed.get_rank()) if distributed.is_initialized() else 0


def count() -> int:
    """How many processes there are."""
    return int(distributed.get_world_size()) if distributed.is_initialized() else 1


def wait() -> None:
    """Until all processes are here."""
    if distributed.is_initialized():
        distributed.barrier()


def agree(digest: str) -> bool:
    """Whether all processes have the same digest, hexadecimal; all of them learn it."""
    if count() == 1:
        return True
    mine = torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8, device=_device())
    found = [torch.empty_like(mine) for _ in range(count())]
    distributed.all_gather(found, mine)
    return all(torch.equal(one, mine) for one in found)


def of_first(value: float) -> float:
    """The value that the first process has."""
    if count() == 1:
        return value
    found = torch.tensor(value, dtype=torch.float64, device=_device())
    distributed.broadcast(found, 0)
    return float(found)


def _device() -> str:
    """Where tensors must be that processes exchange."""
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"


def share(events: int) -> slice:
    """This process' part of the events of a step; the parts are of one size, give or take one."""
    return slice(events * rank() // count(), events * (rank() + 1) // count())


def together(module: nn.Module) -> nn.Module:
    """The module, its gradients averaged over the processes in every backward pass."""
    if count() == 1:
        return module
    places = [torch.cuda.current_device()] if next(module.parameters()).is_cuda else None
    # static: parameters that take no part, as a team's own module may have, take none in any step
    return nn.parallel.DistributedDataParallel(module, places, broadcast_buffers=False, static_graph=True)
