"""What arrives while work is under way waits, and goes together in the next call.

Nobody waits for company: a lone question is worked on at once, and calls grow as load does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore
from typing import Generic, TypeVar

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")
T = TypeVar("T")


class BusyError(Exception):
    """More waits than the service is set to keep waiting."""


class Gatherer(Generic[Ask, Answer]):
    """Asks of many requests, answered by one thread. work: an answer or an exception per ask, in order.

    weigh: what an ask costs. most: weight of one call, passed only by an ask that weighs more alone. waiting: asks that
    may wait for it.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Ask]], Sequence[Answer | Exception]],
        *,
        most: int,
        waiting: int,
        weigh: Callable[[Ask], int] = lambda _: 1,
    ):
        self._work, self._most, self._waiting, self._weigh = work, most, waiting, weigh
        self._asks: deque[tuple[Ask, asyncio.Future[Answer]]] = deque()
        self._some = asyncio.Event()
        self._thread = ThreadPoolExecutor(1)

    async def ask(self, ask: Ask) -> Answer:
        """The answer to one ask.

        Raises:
            BusyError: too many wait.
        """
        if len(self._asks) >= self._waiting:
            raise BusyError
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asks.append((ask, future))
        self._some.set()
        return await future

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._some.wait()
            await self._step()

    async def _step(self) -> None:
        """One call. Its own method: `run` would hold the asks, and their models, until the next one comes."""
        taken = self._take()
        if not self._asks:
            self._some.clear()
        wanted = [(ask, future) for ask, future in taken if not future.done()]  # else its request has given up
        if wanted:
            await self._answer(wanted)

    def _take(self) -> list[tuple[Ask, asyncio.Future[Answer]]]:
        taken: list[tuple[Ask, asyncio.Future[Answer]]] = []
        weight = 0
        while self._asks and (not taken or weight + self._weigh(self._asks[0][0]) <= self._most):
            taken.append(self._asks.popleft())
            weight += self._weigh(taken[-1][0])
        return taken

    async def _answer(self, wanted: Sequence[tuple[Ask, asyncio.Future[Answer]]]) -> None:
        loop = asyncio.get_running_loop()
        answers: Sequence[Answer | Exception]
        try:
            answers = await loop.run_in_executor(self._thread, self._work, [ask for ask, _ in wanted])
        except Exception as e:  # whoever asked is told; the next ask finds us working
            answers = [e] * len(wanted)
        for (_, future), answer in zip(wanted, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown()


class Crew:
    """Threads for work that is done one question at a time."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._threads, self._free = ThreadPoolExecutor(threads), Semaphore(threads + waiting)

    async def do(self, work: Callable[[], T]) -> T:
        """The result of `work`, from another thread. Whoever gives up while it waits leaves it undone.

        Raises:
            BusyError: too much waits.
        """
        if not self._free.acquire(blocking=False):
            raise BusyError
        future = self._threads.submit(work)
        # Of the thread's future, which cannot be cancelled once it runs: work given up then takes its place to the end.
        future.add_done_callback(lambda _: self._free.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Leave what waits, and let the threads end what they are at."""
        self._threads.shutdown(cancel_futures=True)
