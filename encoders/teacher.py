"""What the encoder is taught: vectors of the items' words that rank what customers take next.

The teacher is small enough to see the whole catalogue in every step, which the encoder is not: its vector of an item is

    v_i = unit(t_i W + sum over its words w of z_w / sqrt(their number)),

t_i the text vector from before, W [dim, dim] and z_w [dim] learned. It says nothing a text does not say, so the encoder
can follow, and items nobody took yet have a vector like the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..seeding import seeded
from .transformer import reduced

STEPS, USERS = 240, 512  # users of a step; more steps learn histories by heart
HIDDEN = 0.3  # share of a history that the rest must find
RATE, WARM_UP = 2e-3, 20  # of Adam, and the steps it rises for; then it falls to 0
TEMPERATURE = 0.05
NEAREST, OWN = 3, 2.0  # taken items that speak for one nobody took, and what it says itself beside them
CELLS = 2**24  # cosines held at once, of items nobody took with all that were
CANDIDATES = 20_000  # items of a step's softmax, of more that were taken a random part


@dataclass(frozen=True)
class Tastes:
    """Who took what, and what texts said before. histories: sparse [user, item], nonzero where a user took an item.
    text: gives float32 [item, dim] of unit length, by the encoder before it is tuned; asked only where it must be."""

    histories: sp.csr_matrix
    text: Callable[[], np.ndarray]

    def digest(self) -> bytes:
        """Over the histories."""
        parts = (np.asarray(self.histories.shape), self.histories.indptr, self.histories.indices)
        return hashlib.sha256(b"|".join(np.ascontiguousarray(part, np.int64).tobytes() for part in parts)).digest()


def taught(
    words: Sequence[Sequence[int]], text: np.ndarray, histories: sp.csr_matrix, *, seed: int, device: str = "cpu"
) -> np.ndarray:
    """float32 [item, dim] of unit length; an item without words has the zero vector. Without anybody who has two
    items it is `text`.

    Loss: a random part of each history is hidden; softmax at TEMPERATURE of the hidden items' cosines with the mean
    vector of the rest, among the items anybody took (multinomial likelihood as in Liang et al. 2018, over item vectors
    tied on both sides).

    Args:
        words: the words' numbers, per item.
        text: float32 [item, dim] of unit length.
        histories: sparse [user, item], nonzero where a user took an item.
    """
    with seeded(seed, device):
        teacher = _Teacher(words, text).to(device)
        lessons = _Lessons(histories, np.random.default_rng(seed))
        if not len(lessons.users):
            return text
        optimizer = torch.optim.Adam(teacher.parameters(), lr=RATE)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: min((n + 1) / WARM_UP, 1.0) * (1 - n / STEPS))
        for _, lesson in zip(range(STEPS), lessons, strict=False):
            loss = _loss(teacher(), lesson.to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            vectors = teacher().cpu().numpy()
    return _with_untaken(vectors, text, lessons.taken)


def _with_untaken(vectors: np.ndarray, text: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The vectors, those of items nobody took drawn to the taken items whose texts are nearest: the softmax moved these
    towards their customers, and would let them outrank every item it could not move."""
    found, untaken = vectors.copy(), np.setdiff1d(np.arange(len(text)), taken)
    among, block = text[taken].T, min(max(CELLS // len(taken), 1), 1_024)
    for rows in np.array_split(untaken, -(-len(untaken) // block)) if len(untaken) else []:
        near, cosine = _largest(text[rows] @ among, NEAREST)
        weight = np.maximum(cosine, 0) ** 8
        drawn = _unit((vectors[taken[near]] * weight[:, :, None]).sum(1))
        found[rows] = _unit(OWN * vectors[rows] + drawn)
    return np.asarray(found, np.float32)


def _largest(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(columns, values) of each row's `count` largest, [row, count], of equal ones the first. Spoils `values`."""
    rows, columns, found = np.arange(len(values)), [], []
    for _ in range(min(count, values.shape[1])):
        columns.append(values.argmax(1))
        found.append(values[rows, columns[-1]])
        values[rows, columns[-1]] = -np.inf
    return np.stack(columns, 1), np.stack(found, 1)


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


class _Teacher(nn.Module):
    """() -> float32 [item, dim] of unit length."""

    text: Tensor
    words: Tensor
    start: Tensor
    share: Tensor

    def __init__(self, words: Sequence[Sequence[int]], text: np.ndarray) -> None:
        super().__init__()
        distinct = [np.unique(np.asarray(of_item, np.int64)) for of_item in words]
        size = np.array([len(of_item) for of_item in distinct])
        number = np.unique(np.concatenate(distinct), return_inverse=True)[1]
        dim = text.shape[1]
        self.told = nn.Parameter(torch.zeros(int(number.max(initial=-1)) + 1, dim))
        self.turn = nn.Parameter(torch.eye(dim))
        self.register_buffer("text", torch.from_numpy(text))
        self.register_buffer("words", torch.from_numpy(number.astype(np.int64)))
        self.register_buffer("start", torch.from_numpy(np.cumsum(size) - size))
        share = np.repeat(np.maximum(size, 1) ** -0.5, size)
        self.register_buffer("share", torch.from_numpy(share.astype(np.float32)))

    def forward(self) -> Tensor:
        summed = F.embedding_bag(self.words, self.told, self.start, mode="sum", per_sample_weights=self.share)
        return F.normalize(self.text @ self.turn + summed, dim=1)


@dataclass(frozen=True)
class _Lesson:
    """Some users. kept, starts: their known items and where each user's begin. Then pairs (row of the user, column of
    `among`): what they know, int64 [2, n], and what is hidden of them, with weights float32 [n]. among: int64 items
    to choose from."""

    kept: Tensor
    starts: Tensor
    known: Tensor
    hidden: Tensor
    weight: Tensor
    among: Tensor

    def to(self, device: str) -> _Lesson:
        """The same there."""
        return _Lesson(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


class _Lessons:
    """Endless batches of users with two items or more, everybody once before anybody twice."""

    def __init__(self, histories: sp.csr_matrix, random: np.random.Generator) -> None:
        self.histories, self.random = sp.csr_matrix(histories), random
        self.users = np.flatnonzero(np.diff(self.histories.indptr) > 1)
        self.taken = np.flatnonzero(np.bincount(self.histories.indices, minlength=histories.shape[1]))

    def __iter__(self) -> Iterator[_Lesson]:
        while True:
            for users in np.array_split(self.random.permutation(self.users), -(-len(self.users) // USERS)):
                yield self._lesson(users)

    def _lesson(self, users: np.ndarray) -> _Lesson:
        rows = self.histories[users]
        user, item = np.repeat(np.arange(len(users)), np.diff(rows.indptr)), rows.indices.astype(np.int64)
        luck = self.random.random(len(item))
        order = np.lexsort((luck, user))
        user, item, luck = user[order], item[order], luck[order]
        first = np.concatenate([[True], user[1:] != user[:-1]])
        last = np.concatenate([first[1:], [True]])
        hide = (first | (luck < HIDDEN)) & ~last  # at least one hidden and one known of everybody
        among = self._among(item[hide])
        known = ~hide & np.isin(item, among)
        count = np.bincount(user[hide], minlength=len(users))
        return _Lesson(
            torch.from_numpy(item[~hide]),
            torch.from_numpy(np.flatnonzero(np.diff(user[~hide], prepend=-1))),
            _pairs(user[known], item[known], among),
            _pairs(user[hide], item[hide], among),
            torch.from_numpy((count[user[hide]] ** -0.5).astype(np.float32)),
            torch.from_numpy(among),
        )

    def _among(self, wanted: np.ndarray) -> np.ndarray:
        if len(self.taken) <= CANDIDATES:
            return self.taken
        return np.union1d(wanted, self.random.choice(self.taken, CANDIDATES, replace=False))


def _pairs(user: np.ndarray, item: np.ndarray, among: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack([user, np.searchsorted(among, item)]))


def _loss(vectors: Tensor, lesson: _Lesson) -> Tensor:
    """Mean over users of the hidden items' cross entropy, each divided by the square root of their number."""
    query = F.normalize(F.embedding_bag(lesson.kept, vectors, lesson.starts, mode="mean"), dim=1)
    among = vectors if len(lesson.among) == len(vectors) else vectors[lesson.among]
    with reduced(str(vectors.device)):
        cosine = query @ among.T
    logits = cosine.float() / TEMPERATURE
    logits = logits.index_put(tuple(lesson.known), logits.new_tensor(-1e4))
    found = torch.log_softmax(logits, dim=1)[tuple(lesson.hidden)]
    return -(found * lesson.weight).sum() / len(query)
