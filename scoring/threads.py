"""Work over batches of users in threads of one core each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import numpy as np
import torch

THREADS = 2
BATCH = 128  # users at once, where each takes a row of scores per term
T = TypeVar("T")


def in_batches(
    users: np.ndarray, work: Callable[[np.ndarray], T], *, size: int = BATCH, threads: int = THREADS
) -> Iterator[T]:
    """`work` over batches of users, in order; numpy, scipy and torch let go of the interpreter lock."""
    torch.get_num_threads()  # a thread that has not settled for its number would take over that of ours
    yield from _executor(threads).map(work, np.split(users, range(size, len(users), size)))


@cache
def _executor(threads: int) -> ThreadPoolExecutor:
    """Each on one core: many short products in several threads each would mostly wait for one another."""
    return ThreadPoolExecutor(threads, "batches", torch.set_num_threads, (1,))
