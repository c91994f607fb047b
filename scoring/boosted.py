"""A head of boosted trees for labelled pairs: log-odds that are a sum of one part per term, by exact Shapley values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import CatalographError
from .context import Context

TREES, LEAVES, RATE = 200, 15, 0.05  # measured on validation pairs: benchmarks/LOG.md


class BoostedHead:
    """Gradient boosting over the terms (Friedman 2001, by LightGBM). Scores are log-odds: 0 is a chance of one half.

    Parts are TreeSHAP values (Lundberg et al. 2020), which add up exactly; the base rate is shared out evenly.
    """

    kind = "boosted"
    reads_context = False

    def __init__(self, text: str) -> None:
        """From LightGBM's own text format.

        Raises:
            ValueError: the text is no model.
        """
        import lightgbm  # noqa: PLC0415  needs a system library that shops without labels can do without

        try:
            self._trees: Any = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as e:
            raise ValueError(f"no boosted head: {e}") from None
        self._text = text

    def scores(self, values: np.ndarray, context: Context) -> np.ndarray:
        """float32 [user, item] from term values [user, item, term]."""
        flat = values.reshape(-1, values.shape[-1])
        return np.asarray(self.log_odds(flat).reshape(values.shape[:-1]), np.float32)

    def log_odds(self, values: np.ndarray) -> np.ndarray:
        """float64 [pair] from term values [pair, term]."""
        return np.asarray(self._trees.predict(values, raw_score=True)) if len(values) else np.zeros(0)

    def contributions(self, values: np.ndarray, context: Context) -> np.ndarray:
        """float32 [user, item, term]; they add up to the score."""
        flat = values.reshape(-1, values.shape[-1])
        if not len(flat):
            return np.zeros(values.shape, np.float32)
        parts = np.asarray(self._trees.predict(flat, pred_contrib=True))
        shared = parts[:, :-1] + parts[:, -1:] / values.shape[-1]
        return np.asarray(shared.reshape(values.shape), np.float32)

    def on(self, device: str) -> BoostedHead:
        """Itself: trees are asked where they are."""
        return self

    def arrays(self) -> dict[str, np.ndarray]:
        """The model's text as uint8 [byte]."""
        return {"text": np.frombuffer(self._text.encode(), np.uint8)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> BoostedHead:
        """What :meth:`arrays` gave."""
        return cls(arrays["text"].tobytes().decode())


def fit_boosted(values: np.ndarray, labels: np.ndarray, *, seed: int) -> BoostedHead:
    """Trees on term values float32 [pair, term] and labels [pair] in 0/1, by logistic loss.

    Raises:
        CatalographError: all labels are the same.
    """
    import lightgbm  # noqa: PLC0415

    if len(np.unique(labels)) < 2:
        raise CatalographError("every training pair has the same label; click prediction needs both 0 and 1")
    settings = {
        "objective": "binary",
        "num_leaves": LEAVES,
        "learning_rate": RATE,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    trees = lightgbm.train(settings, lightgbm.Dataset(values, labels), num_boost_round=TREES)
    return BoostedHead(trees.model_to_string())
