"""Baselines, tuned on the same validation fold as the model: each is a function of the evidence and a few settings.

They are terms like ours, so they run through the same scoring and the same masks. Those that learn step by step are
looked at after every epoch; how many epochs is then one of the settings chosen on validation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from itertools import islice, product
from typing import Any

import numpy as np
import psutil
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from ..errors import ConfigError, did_you_mean
from ..gnn.walks import BLOCK, shared_context, strongest
from .evidence import Evidence
from .factors import ease, stacked
from .families import recency
from .lightgcn import light_gcn
from .metrics import rank_metrics
from .pool import in_batches, users_that_fit
from .profiles import USER, rows_of
from .sasrec import sasrec
from .terms import ItemItem, LowRank, Prior, Term
from .topk import top_k

Setting = Mapping[str, float]
PATIENCE = 3  # epochs without a better validation figure before training stops
MOST_EPOCHS = 30
NEIGHBOURS = 300  # of an item, at most: what item-kNN keeps of the cosines


def grid(**values: Sequence[float]) -> tuple[Setting, ...]:
    """Every combination of the values of each setting."""
    return tuple(dict(zip(values, combined, strict=True)) for combined in product(*values.values()))


def told(setting: Setting) -> str:
    """A setting in words: "neighbours 100, newest 3"."""
    return ", ".join(f"{name} {value:g}" for name, value in setting.items())


@dataclass(frozen=True)
class Baseline:
    """A name, how to build it at a setting, and the settings tried on validation.

    shared: what all settings read alike, computed once for all of them; `make` takes it after the evidence.
    learn: instead of `make`, yields a term after every epoch, endlessly; the number of epochs joins the setting.
    timed, ordered: needs times, or an order of each history. slow: minutes where the others take seconds, so it must be
    asked for. library: what must be installed. memory: bytes it needs for a catalogue of this size.
    """

    name: str
    make: Callable[..., Term] | None = None
    settings: tuple[Setting, ...] = ({},)
    shared: Callable[[Evidence], Any] | None = None
    learn: Callable[..., Iterator[Term]] | None = None
    timed: bool = False
    ordered: bool = False
    slow: bool = False
    library: str | None = None
    memory: Callable[[int], float] = field(default=lambda items: 0.0)

    def attempts(self, evidence: Evidence) -> Iterator[Iterator[tuple[Setting, Term]]]:
        """Of each setting the terms to judge: one, or one after each epoch."""
        made = self._maker(evidence)
        for setting in self.settings:
            yield iter([(setting, made(setting))]) if self.learn is None else self._epochs(evidence, setting)

    def _epochs(self, evidence: Evidence, setting: Setting) -> Iterator[tuple[Setting, Term]]:
        assert self.learn is not None
        for number, term in enumerate(islice(self.learn(evidence, **setting), MOST_EPOCHS), 1):
            yield {**setting, "epochs": number}, term

    def _maker(self, evidence: Evidence) -> Callable[[Setting], Term]:
        """What makes the term of a setting; what settings share is computed here."""
        shared = () if self.shared is None else (self.shared(evidence),)

        def made(setting: Setting) -> Term:
            assert self.make is not None
            return self.make(evidence, *shared, **setting)

        return made

    def build(self, evidence: Evidence, setting: Setting) -> Term:
        """The term at a setting that :func:`tune` chose."""
        if self.learn is None:
            return self._maker(evidence)(setting)
        rest = {name: value for name, value in setting.items() if name != "epochs"}
        return next(islice(self.learn(evidence, **rest), int(setting["epochs"]) - 1, None))


def popularity(evidence: Evidence) -> Term:
    """How many users have the item."""
    histories = evidence.histories
    return Prior("popularity", np.bincount(histories.item, minlength=histories.n_items).astype(np.float32))


def recent_popularity(evidence: Evidence, *, days: float) -> Term:
    """How many users took the item in the last `days` days."""
    histories = evidence.histories
    assert histories.last is not None and evidence.now is not None  # noqa: PT018
    lately = histories.item[histories.last >= evidence.now - days]
    return Prior("recent popularity", np.bincount(lately, minlength=histories.n_items).astype(np.float32))


def cosines(evidence: Evidence) -> sp.csr_matrix:
    """float32 [item, item]: cosine between items' user vectors, each row's NEIGHBOURS largest, diagonal 0.

    Multiplied block by block: the cosines of all pairs would take memory that grows with the square of the catalogue.
    """
    users = evidence.histories.matrix()
    norm = np.sqrt(np.maximum(np.asarray(users.sum(0)).ravel(), 1)).astype(np.float32)
    unit = sp.csr_matrix(users @ sp.diags_array(1 / norm))
    rows, found = sp.csr_matrix(unit.T), []
    for start in range(0, evidence.n_items, BLOCK):
        block = sp.csr_matrix(rows[start : start + BLOCK] @ unit)
        own = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr)) + start
        block.data[block.indices == own] = 0
        found.append(strongest(block, NEIGHBOURS))
    return sp.csr_matrix(sp.vstack(found, "csr"))


def item_knn(evidence: Evidence, similar: sp.csr_matrix, *, neighbours: int) -> ItemItem:
    """Each item's `neighbours` nearest by cosine, NEIGHBOURS at most (Sarwar et al. 2001)."""
    return ItemItem("item-kNN", "uniform", sp.csr_matrix(strongest(similar.copy(), neighbours).T))


def newest_item_knn(evidence: Evidence, similar: sp.csr_matrix, *, neighbours: int, newest: int) -> Term:
    """Item-kNN that looks at the `newest` items of a history alone."""
    found = item_knn(evidence, similar, neighbours=neighbours)
    return replace(found, name="newest item-kNN", profile=f"newest {newest}")


def rp3(evidence: Evidence, *, beta: float) -> Term:
    """RP3beta with alpha = .45 (Paudel et al. 2017)."""
    return ItemItem("RP3beta", "uniform", shared_context(evidence.histories.matrix(), 0.45, beta))


def recent_rp3(evidence: Evidence, *, days: float) -> Term:
    """RP3beta over customers weighted by exp(-days since the purchase / `days`)."""
    return ItemItem("recent RP3", "uniform", shared_context(recency(evidence, days), 0.45, 0.3))


def full_ease(evidence: Evidence, *, ridge: float) -> Term:
    """EASE over all items (Steck 2019); kept dense."""
    return DenseItemItem("EASE", ease(stacked([evidence.histories.matrix()]), ridge))  # type: ignore[return-value]


def ials(evidence: Evidence, *, confidence: float, ridge: float) -> Term:
    """Implicit ALS (Hu, Koren and Volinsky 2008) by the library `implicit`: 64 factors, 15 rounds, an interaction
    weighing `confidence` times an absence. Ridge and confidence are what it takes (Rendle et al. 2022)."""
    from implicit.cpu.als import AlternatingLeastSquares  # noqa: PLC0415

    with threadpool_limits(1, "blas"):  # its own threads work on the users; it warns where the BLAS has some as well
        model = AlternatingLeastSquares(64, regularization=ridge, alpha=confidence, iterations=15, random_state=0)
        model.fit(evidence.histories.matrix(), show_progress=False)
    return LowRank("iALS", USER, model.user_factors, model.item_factors)


@dataclass(frozen=True)
class DenseItemItem:
    """scores = p B with a dense B [item, item]."""

    name: str
    weights: np.ndarray
    profile: str = "uniform"

    def scores(self, rows: dict[str, sp.csr_matrix]) -> np.ndarray:
        """float32 [user, item]."""
        return np.asarray(rows[self.profile] @ self.weights, np.float32)

    def pairs(self, rows: dict[str, sp.csr_matrix], items: np.ndarray) -> np.ndarray:
        """float32 [pair]: of row n and items[n]."""
        return np.asarray(rows[self.profile].multiply(self.weights.T[items]).sum(1), np.float32).ravel()


def _ease_bytes(items: int) -> float:
    return 3.2 * 4 * items**2  # the Gram matrix, its factor and the inverse


BASELINES = (
    Baseline("popularity", popularity),
    Baseline("recent popularity", recent_popularity, grid(days=(7, 14, 28, 56)), timed=True),
    Baseline("item-kNN", item_knn, grid(neighbours=(20, 50, 100, NEIGHBOURS)), shared=cosines),
    Baseline(
        "newest item-kNN",
        newest_item_knn,
        grid(neighbours=(50, NEIGHBOURS), newest=(1, 3, 10, 30)),
        shared=cosines,
        ordered=True,
    ),
    Baseline("RP3beta", rp3, grid(beta=(0.0, 0.15, 0.3, 0.45, 0.6))),
    Baseline("recent RP3", recent_rp3, grid(days=(10, 20, 45, 90)), timed=True),
    Baseline("EASE", full_ease, grid(ridge=(30, 100, 300, 1000)), memory=_ease_bytes),
    Baseline("iALS", ials, grid(confidence=(1, 3, 10), ridge=(1, 10, 100)), slow=True, library="implicit"),
    Baseline("LightGCN", learn=light_gcn, settings=grid(layers=(1, 3)), slow=True),
    Baseline("SASRec", learn=sasrec, settings=grid(ahead=(1, 20)), ordered=True, slow=True),
)


def chosen(names: Sequence[str], *, every: bool = False) -> tuple[Baseline, ...]:
    """The named baselines; without names those that take seconds, or `every` one.

    Raises:
        ConfigError: no baseline has this name.
    """
    known = [baseline.name for baseline in BASELINES]
    for name in names:
        if name not in known:
            raise ConfigError(f"evaluation.baselines: no baseline {name!r}{did_you_mean(name, known)}")
    return tuple(b for b in BASELINES if (b.name in names if names else every or not b.slow))


def applicable(evidence: Evidence, asked: Sequence[Baseline]) -> Iterator[tuple[Baseline, str | None]]:
    """Baselines that make sense here; with a reason instead where one lacks a library, or half of the free memory."""
    for baseline in asked:
        if (baseline.timed and evidence.now is None) or (baseline.ordered and not evidence.histories.ordered):
            continue
        if baseline.library is not None and find_spec(baseline.library) is None:
            yield baseline, f"needs {baseline.library}: pip install 'catalograph[baselines]'"
            continue
        need, budget = baseline.memory(evidence.n_items), psutil.virtual_memory().available // 2
        lacking = f"needs {need / 2**30:.1f} GiB, allowed {budget / 2**30:.1f} GiB" if need > budget else None
        yield baseline, lacking


def ranked(term: Term, evidence: Evidence, allowed: np.ndarray, users: np.ndarray, k: int) -> np.ndarray:
    """int64 [user, k] of one term alone."""
    hidden, rows = evidence.histories.matrix(), rows_of(evidence.histories, term.profile)

    def one(batch: np.ndarray) -> np.ndarray:
        scores = np.ascontiguousarray(term.scores({term.profile: rows[batch]}))
        return top_k(scores, k, hidden[batch], allowed)[0]

    return np.concatenate(list(in_batches(users, one, size=users_that_fit(evidence.n_items))))


def tune(baseline: Baseline, evidence: Evidence, judge: Callable[[Term], float]) -> tuple[Setting, Term]:
    """The setting that `judge`, a figure of the validation part, likes best, and its term.

    What is trained goes on at each setting until PATIENCE epochs brought nothing better there.
    """
    best: tuple[float, Setting, Term] | None = None
    for terms in baseline.attempts(evidence):
        reached: list[float] = []
        for full, term in terms:
            reached.append(judge(term))
            if best is None or reached[-1] > best[0]:
                best = reached[-1], full, term
            if len(reached) - 1 - int(np.argmax(reached)) >= PATIENCE:
                break
    assert best is not None
    return best[1:]


def ndcg_judge(
    evidence: Evidence, allowed: np.ndarray, held_out: sp.csr_matrix, users: np.ndarray, k: int
) -> Callable[[Term], float]:
    """What gives a term's NDCG@k on these users."""
    wanted = held_out[users]
    return lambda term: float(rank_metrics(ranked(term, evidence, allowed, users, k), wanted, k).ndcg.mean())
