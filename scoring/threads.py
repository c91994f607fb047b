"""Work over batches of users in threads of one core each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import numpy as np
import torch

BATCH = 128  # users at once, where each takes a row of scores per term
T = TypeVar("T")


def in_batches(users: np.ndarray, work: Callable[[np.ndarray], T], *, size: int = BATCH) -> Iterator[T]:
    """`work` over batches of users, in order; numpy, scipy and torch let go of the interpreter lock."""
    torch.get_num_threads()  # a thread that has not settled for its number would take over that of ours
    yield from _threads().map(work, np.split(users, range(size, len(users), size)))


@cache
def _threads() -> ThreadPoolExecutor:
    """Two, each on one core: many short products in two threads each would mostly wait for one another."""
    return ThreadPoolExecutor(2, "batches", torch.set_num_threads, (1,))
