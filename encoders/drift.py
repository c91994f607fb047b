"""What a tuned encoder forgot: how far it moved on general sentences no shop teaches it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import spearmanr

ALIKE = (  # everyday statements and their rewordings
    ("The train was an hour late this morning.", "Our train arrived sixty minutes behind schedule today."),
    ("She is learning to play the violin.", "She takes violin lessons."),
    ("The company raised its prices last week.", "Prices at the firm went up seven days ago."),
    ("Heavy rain flooded the valley.", "The valley was under water after a downpour."),
    ("He repaired the bicycle himself.", "The bike was fixed by him alone."),
    ("The museum is closed on Mondays.", "You cannot visit the museum on a Monday."),
    ("Doctors recommend drinking more water.", "Physicians advise people to drink plenty of water."),
    ("The film ended with a surprise.", "There was an unexpected twist at the end of the movie."),
    ("Our neighbours are moving to Spain.", "The people next door will soon live in Spain."),
    ("The cat slept on the warm roof.", "On the sunny rooftop a cat was sleeping."),
    ("Scientists discovered a new species of frog.", "A previously unknown frog was found by researchers."),
    ("The meeting was moved to Friday.", "They postponed the meeting until Friday."),
)
UNLIKE = tuple((first, ALIKE[(n + 5) % len(ALIKE)][1]) for n, (first, _) in enumerate(ALIKE))


def similarities(encode: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
    """float64 [24]: cosines of the pairs that say the same, then of those that do not. `encode` gives unit vectors."""
    pairs = ALIKE + UNLIKE
    left, right = encode([a for a, _ in pairs]), encode([b for _, b in pairs])
    return np.asarray((left * right).sum(1), np.float64)


def forgetting(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """What :func:`similarities` says before and after: the gap between like and unlike pairs, how alike the orders."""
    n = len(ALIKE)
    return {
        "gap_before": float(before[:n].mean() - before[n:].mean()),
        "gap_after": float(after[:n].mean() - after[n:].mean()),
        "rank_correlation": float(spearmanr(before, after).statistic),
    }
