"""Lists with less of the same: marginal relevance over item vectors, and at most so many items of one value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Values = Sequence[frozenset[str]]  # what each item has of one property or relation


@dataclass(frozen=True)
class Wish:
    """How a list is to be: at most k items, `only` bool [item] of them, and how unlike each other.

    alike: float32 [item, d] of unit length, what `diversify` compares by; caps: values of every item [item], and how
    many items of one value there may be.
    """

    k: int
    only: np.ndarray | None
    diversify: float
    alike: np.ndarray | None
    caps: Sequence[tuple[Values, int]]

    @property
    def plain(self) -> bool:
        """Whether the best k are the list."""
        return not self.diversify and not self.caps

    def size(self, pool_size: int) -> int:
        """How many ranked items of the pool the list is chosen from."""
        return self.k if self.plain else pool_size

    def places(self, items: np.ndarray, scores: np.ndarray) -> Sequence[int]:
        """Places of a ranked pool (item rows [n], -1 at the end where it is short) in the order they are listed."""
        filled = int((items >= 0).sum())
        if self.plain:
            return range(min(filled, self.k))
        items, scores = items[:filled], scores[:filled]
        caps = [([values[item] for item in items], most) for values, most in self.caps]
        vectors = self.alike[items] if self.diversify and self.alike is not None else None
        return diverse(scores, self.k, vectors=vectors, diversify=self.diversify, caps=caps)


def diverse(
    scores: np.ndarray,
    k: int,
    *,
    vectors: np.ndarray | None = None,
    diversify: float = 0.0,
    caps: Sequence[tuple[Values, int]] = (),
) -> list[int]:
    """Places of at most k items of a pool, in the order they are chosen; exact over the whole pool.

    Maximal marginal relevance (Carbonell and Goldstein 1998): next comes the item with the largest
    (1 - diversify) * relevance - diversify * similarity, its cosine to the nearest item chosen before (0 for the
    first). Relevance is the score, put on 0 to 1 within the pool. Ties go to the earlier place. An item one of whose
    values is in the list as often as its cap allows is passed over; items without a value are not counted.

    Args:
        scores: float [n], best first.
        vectors: float32 [n, d] of unit length, zero where nothing is known; needed when diversify > 0.
        caps: values of the pool's items [n], and how many of one value may be in the list.
    """
    relevance, near = _on_0_to_1(scores), np.zeros(len(scores))
    open_, chosen = np.ones(len(scores), bool), list[int]()
    counts = [Counter[str]() for _ in caps]
    while len(chosen) < k and open_.any():
        worth = (1 - diversify) * relevance - diversify * near
        place = int(np.argmax(np.where(open_, worth, -np.inf)))
        open_[place] = False
        if any(
            count[value] >= most for (values, most), count in zip(caps, counts, strict=True) for value in values[place]
        ):
            continue
        chosen.append(place)
        for (values, _), count in zip(caps, counts, strict=True):
            count.update(values[place])
        if vectors is not None and diversify:
            cosine = vectors @ vectors[place]
            near = cosine if len(chosen) == 1 else np.maximum(near, cosine)
    return chosen


def _on_0_to_1(scores: np.ndarray) -> np.ndarray:
    width = float(np.ptp(scores)) if len(scores) else 0.0
    return np.asarray((scores - scores.min()) / width if width else np.zeros(len(scores)))
