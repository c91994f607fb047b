"""Training pairs for the text encoder, from the shop itself: who takes what with what, attributes, searches.

Everything here reads the log it is given and nothing else of the shop's events: hand it training events.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch

from ..kg.log import InteractionLog, positives
from ..kg.snapshot import Snapshot
from ..loaders.catalogue import HELD_OUT, INTERACTED

REACH = 5  # a user's items at most this many places apart make a pair, the nearer the likelier (weight 1 / places)
NEAREST = 20  # of an item's nearest texts that may serve as its hard negatives
TRIES = 8  # candidates drawn per hard negative from each source, and then of any items
UNSPACED = (  # letters of scripts without blanks between words: Thai to Burmese, Khmer, kana and Han
    "\u0e00-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
SLIPPED = re.compile(f"[{UNSPACED}]|[^{UNSPACED}]+")  # what is lost or misspelt as one: such a letter, or a word


@dataclass(frozen=True)
class TextPairs:
    """Texts that should come close. anchor, positive: int64 [n] rows of a text table that starts with the items.

    grade: float64 [n], how close, where people judged it; None means that every pair belongs together.
    """

    anchor: np.ndarray
    positive: np.ndarray
    grade: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.anchor)

    def drawn(self, most: int, seed: int) -> TextPairs:
        """At most `most` of them, in a random order."""
        some = np.random.default_rng(seed).permutation(len(self))[:most]
        return TextPairs(self.anchor[some], self.positive[some], None if self.grade is None else self.grade[some])


def of_users(log: InteractionLog, *, most: int, seed: int) -> TextPairs:
    """Items one user took close to each other; anywhere in the history where the log has no order."""
    events = positives(log)
    return _together(events.user, events.item, shuffled=not events.ordered, most=most, seed=seed)


def of_baskets(log: InteractionLog, *, most: int, seed: int) -> TextPairs:
    """Items of one basket; none without baskets."""
    events = positives(log)
    if events.basket is None:
        return TextPairs(np.empty(0, np.int64), np.empty(0, np.int64))
    return _together(events.basket, events.item, shuffled=True, most=most, seed=seed)


def _together(group: np.ndarray, item: np.ndarray, *, shuffled: bool, most: int, seed: int) -> TextPairs:
    """Pairs inside groups, drawn without replacement with weight 1 / places between them, either way round.

    The draw is Gumbel's: the `most` largest of log weight + Gumbel noise (Efraimidis and Spirakis 2006).
    """
    random = np.random.default_rng(seed)
    order = np.lexsort((random.random(len(group)) if shuffled else np.arange(len(group)), group))
    group, item = group[order], item[order]
    left, right, places = [], [], []
    for gap in range(1, min(REACH, max(len(item) - 1, 0)) + 1):
        start = np.flatnonzero((group[gap:] == group[:-gap]) & (item[gap:] != item[:-gap]))
        left.append(item[start])
        right.append(item[start + gap])
        places.append(np.full(len(start), gap))
    if not left:
        return TextPairs(np.empty(0, np.int64), np.empty(0, np.int64))
    found = np.stack([np.concatenate(left), np.concatenate(right)])
    luck = random.gumbel(size=found.shape[1]) - np.log(np.concatenate(places))
    found = found[:, np.argsort(-luck, kind="stable")[:most]]
    swapped = random.random(found.shape[1]) < 0.5
    found[:, swapped] = found[::-1, swapped]
    return TextPairs(found[0], found[1])


def of_attributes(
    snapshot: Snapshot, item_label: str, without: frozenset[str], first_row: int
) -> tuple[list[str], TextPairs]:
    """(names, pairs): each item and the names of the things it is related to in the graph, other items excepted.

    `without` names relations to leave out. names[n] is row `first_row + n` of the text table.
    """
    names: list[str] = []
    anchors, targets = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for key in snapshot.relations():
        called = snapshot.data[key.target].get("name")
        if key.source != item_label or key.target == item_label or not isinstance(called, list):
            continue
        if key.relation in without | {INTERACTED, HELD_OUT}:
            continue
        source, target = snapshot.relation(key).numpy()
        told = np.array([bool(name.strip()) for name in called], bool)[target]
        anchors.append(source[told])
        targets.append(target[told] + first_row + len(names))
        names += called
    return names, TextPairs(np.concatenate(anchors), np.concatenate(targets))


def of_queries(
    queries: Sequence[str], items: np.ndarray, first_row: int, relevance: np.ndarray | None = None
) -> tuple[list[str], TextPairs]:
    """(texts, pairs) of a search log: queries[n] was answered by item row items[n], which was judged relevance[n]."""
    texts, number = np.unique(np.asarray(queries, object).astype(str), return_inverse=True)
    return texts.tolist(), TextPairs(number.astype(np.int64) + first_row, np.asarray(items, np.int64), relevance)


def noised(texts: Sequence[str], *, seed: int, share: float = 0.2) -> list[str]:
    """The texts with a share of their words gone and of the others misspelt, at least one word left; in scripts without
    blanks a letter is lost like a word."""
    random, found = np.random.default_rng(seed), []
    for text in texts:
        words = [SLIPPED.findall(word) for word in text.split()]
        stay = random.random(sum(map(len, words))) >= share
        if words and not stay.any():
            stay[random.integers(len(stay))] = True
        stays = iter(stay)
        kept = ("".join(_slipped(part, random, share) for part in word if next(stays)) for word in words)
        found.append(" ".join(filter(None, kept)))
    return found


def _slipped(word: str, random: np.random.Generator, share: float) -> str:
    return misspelt(word, random) if random.random() < share else word


def misspelt(word: str, random: np.random.Generator) -> str:
    """The word with one slip of the keyboard: two letters swapped, one lost or one doubled."""
    if len(word) < 3:
        return word
    place, kind = int(random.integers(len(word) - 1)), int(random.integers(3))
    if kind == 0:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return word[:place] + (word[place] * 2 if kind == 1 else "") + word[place + 1 :]


@dataclass(frozen=True)
class Neighbourhood:
    """Where hard negatives come from.

    together: sparse [item, item], nonzero where a user took both. near: int64 [item, NEAREST], the encoder's own
    nearest. kinds: sparse [item, entity] of attributes.
    """

    together: sp.csr_matrix
    near: np.ndarray
    kinds: sp.csr_matrix

    @classmethod
    def of(cls, log: InteractionLog, vectors: np.ndarray, kinds: Iterable[sp.csr_matrix]) -> Neighbourhood:
        """From training events, unit text vectors float32 [item, dim] and the items' attributes."""
        events = positives(log)
        ones = np.ones(len(events), np.float32)
        taken = sp.csr_matrix((ones, (events.user, events.item)), shape=(log.n_users, log.n_items))
        stacked = [sp.csr_matrix(np.zeros((log.n_items, 0), np.float32)), *kinds]
        return cls(sp.csr_matrix(taken.T @ taken), _nearest(vectors), sp.csr_matrix(sp.hstack(stacked, format="csr")))

    def negatives(self, anchor: np.ndarray, *, seed: int) -> np.ndarray:
        """int64 [n]: per anchor one item that is alike in text or attributes and was never taken with it.

        Candidates from both sources in turn; where none will do, any item never taken with it, or -1.
        """
        random, n_items = np.random.default_rng(seed), self.together.shape[0]
        near = self.near[anchor[:, None], random.integers(self.near.shape[1], size=(len(anchor), TRIES))]
        alike = self._of_same_kind(anchor, random)
        anyone = random.integers(n_items, size=(len(anchor), TRIES))
        first = random.random(len(anchor)) < 0.5
        tried = np.where(first[:, None], np.hstack([near, alike]), np.hstack([alike, near]))
        tried = np.hstack([tried, anyone])
        keys = np.repeat(np.arange(n_items), np.diff(self.together.indptr)) * n_items + self.together.indices
        bad = np.isin(anchor[:, None] * n_items + tried, keys) | (tried == anchor[:, None]) | (tried < 0)
        found = np.take_along_axis(tried, np.argmin(bad, axis=1)[:, None], 1)[:, 0]
        return np.asarray(np.where(bad.all(axis=1), -1, found))

    def _of_same_kind(self, anchor: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """int64 [n, TRIES]: items that share an attribute with the anchor; -1 where it has none."""
        members = sp.csr_matrix(self.kinds.T)
        size = np.diff(self.kinds.indptr)[anchor][:, None]
        draw = (random.random((len(anchor), TRIES)) * size).astype(np.int64)
        place = np.minimum(self.kinds.indptr[anchor][:, None] + draw, max(self.kinds.nnz - 1, 0))
        if not self.kinds.nnz:
            return np.full((len(anchor), TRIES), -1)
        entity = self.kinds.indices[place].astype(np.int64)
        within = (random.random(entity.shape) * np.diff(members.indptr)[entity]).astype(np.int64)
        found = members.indices[np.minimum(members.indptr[entity] + within, members.nnz - 1)]
        return np.where(size > 0, found, -1).astype(np.int64)


def _nearest(vectors: np.ndarray, block: int = 1_024) -> np.ndarray:
    """int64 [item, min(NEAREST, items - 1)] rows of the nearest other items by dot product."""
    every = torch.from_numpy(vectors)
    count = max(min(NEAREST, len(vectors) - 1), 1)
    found = np.empty((len(vectors), count), np.int64)
    for start in range(0, len(vectors), block):
        scores = every[start : start + block] @ every.T
        here = torch.arange(len(scores))
        scores[here, here + start] = -torch.inf
        found[start : start + block] = torch.topk(scores, count, dim=1).indices.numpy()
    return found
