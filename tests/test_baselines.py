"""Baselines: the trained ones find what is planted, equal seeds give equal terms, and what is missing is said."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from catalograph.errors import ConfigError
from catalograph.kg.log import InteractionLog
from catalograph.scoring import baselines
from catalograph.scoring.baselines import BASELINES, Baseline, applicable, chosen, grid, ndcg_judge, ranked, tune
from catalograph.scoring.evaluate import Evaluation, comparable
from catalograph.scoring.evidence import Evidence, histories_of
from catalograph.scoring.folds import fold_of
from catalograph.scoring.metrics import rank_metrics
from catalograph.scoring.profiles import rows_of
from catalograph.scoring.sasrec import _newest, _windows
from catalograph.scoring.terms import Prior

BY_NAME = {baseline.name: baseline for baseline in BASELINES}
BLOCKS = 4


def evidence_of(log):
    return Evidence(log, histories_of(log), (), None, None)


def log_of(rows, n_items):
    """Histories, oldest first, as a log with an order."""
    user = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    position = np.concatenate([np.arange(len(row)) for row in rows])
    return InteractionLog(len(rows), n_items, user, np.concatenate(rows), position=position)


def block_shop(users=60, items=44, seed=0):
    """Everybody takes six of the eleven items of their block (rows alike modulo 4); two of the rest are held out."""
    random = np.random.default_rng(seed)
    rows = [BLOCKS * random.permutation(items // BLOCKS)[:8] + user % BLOCKS for user in range(users)]
    return fold_of(log_of([row[:6] for row in rows], items), log_of([row[6:] for row in rows], items), None)


def sequence_shop(users=150, items=60, length=12, seed=0):
    """After item n comes item n + 7 round a circle: everybody has started somewhere, and all items sell alike."""
    starts = np.random.default_rng(seed).integers(0, items, users)
    rows = [(start + 7 * np.arange(length + 1)) % items for start in starts]
    return fold_of(log_of([row[:-1] for row in rows], items), log_of([row[-1:] for row in rows], items), None)


def ndcg(term, fold, k=5):
    evidence, users = evidence_of(fold.seen), np.sort(fold.users)
    found = ranked(term, evidence, np.ones(fold.seen.n_items, bool), users, k)
    return float(rank_metrics(found, fold.held_out[users], k).ndcg.mean())


def after(name, epochs, fold, **setting):
    return BY_NAME[name].build(evidence_of(fold.seen), {**setting, "epochs": epochs})


def test_a_planted_block_is_found_by_factors_and_by_light_gcn():
    fold = block_shop()
    popular = ndcg(BY_NAME["popularity"].build(evidence_of(fold.seen), {}), fold)
    assert popular < 0.15
    for term in (
        BY_NAME["iALS"].build(evidence_of(fold.seen), {"confidence": 3, "ridge": 1}),
        after("LightGCN", 15, fold, layers=2),
    ):
        assert ndcg(term, fold) > 0.4  # two of five items are right: chance within the block is .36
        lists = ranked(term, evidence_of(fold.seen), np.ones(44, bool), np.arange(60), 5)
        assert np.mean(lists % BLOCKS == np.arange(60)[:, None] % BLOCKS) > 0.95


def test_what_comes_next_is_found_by_sasrec_and_not_by_popularity():
    fold = sequence_shop()
    assert ndcg(BY_NAME["popularity"].build(evidence_of(fold.seen), {}), fold) < 0.15
    assert ndcg(after("SASRec", 12, fold, ahead=1), fold) > 0.9


@pytest.mark.parametrize("neighbours", [3, 20])
def test_item_knn_by_blocks_is_that_of_the_whole_table(monkeypatch, neighbours):
    fold = block_shop(items=44)
    monkeypatch.setattr(baselines, "BLOCK", 10)
    have = histories_of(fold.seen).matrix().toarray()
    unit = have / np.maximum(np.linalg.norm(have, axis=0), 1)
    whole = unit.T @ unit
    np.fill_diagonal(whole, 0)
    border = np.sort(whole, axis=1)[:, -neighbours, None]
    expected = np.where(whole < border, 0, whole).T
    found = BY_NAME["item-kNN"].build(evidence_of(fold.seen), {"neighbours": neighbours})
    np.testing.assert_allclose(found.weights.toarray(), expected, rtol=1e-5)


def test_the_cosines_of_all_pairs_are_never_held_at_once(monkeypatch):
    monkeypatch.setattr(baselines, "BLOCK", 10)
    widths = []
    monkeypatch.setattr(baselines, "strongest", lambda block, keep: widths.append(block.shape[0]) or block)
    baselines.cosines(evidence_of(block_shop(items=44).seen))
    assert widths == [10, 10, 10, 10, 4]


@pytest.mark.parametrize("name", ["item-kNN", "newest item-kNN"])
def test_all_settings_share_one_multiplication(name):
    evidence, made = evidence_of(block_shop().seen), []
    baseline = replace(BY_NAME[name], shared=lambda evidence: made.append(1) or baselines.cosines(evidence))
    judged = []
    tune(baseline, evidence, lambda term: judged.append(term.weights.nnz) or len(judged))
    assert (len(made), len(judged)) == (1, len(baseline.settings))
    again = BY_NAME[name].build(evidence, baseline.settings[0])
    assert again.weights.nnz == judged[0]  # no setting spoils the table for the next


def test_the_newest_items_alone_tell_what_comes_next():
    fold = sequence_shop()
    knn = {n: BY_NAME["newest item-kNN"].build(evidence_of(fold.seen), {"neighbours": 3, "newest": n}) for n in (1, 30)}
    assert ndcg(knn[1], fold) > ndcg(knn[30], fold) + 0.1


@pytest.mark.parametrize(("name", "setting"), [("LightGCN", {"layers": 1}), ("SASRec", {"ahead": 3})])
def test_equal_seeds_give_equal_vectors_and_the_callers_generator_is_left_alone(name, setting):
    fold = sequence_shop(users=40)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = after(name, 2, fold, **setting)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    two = after(name, 2, fold, **setting)
    np.testing.assert_array_equal(one.left, two.left)
    np.testing.assert_array_equal(one.right, two.right)


def test_users_without_a_history_are_scored_zero_by_sasrec():
    fold = sequence_shop(users=40)
    seen = fold.seen.where(fold.seen.user != 7)
    term = BY_NAME["SASRec"].build(evidence_of(seen), {"ahead": 1, "epochs": 1})
    assert not term.left[7].any()
    assert term.left[6].any()


def test_windows_hold_every_next_item_once(monkeypatch):
    histories = histories_of(log_of([np.arange(130), np.arange(50), np.arange(51), np.array([5]), np.arange(2)], 200))
    windows = _windows(histories).numpy()
    steps = [(a, b) for row in windows for a, b in itertools.pairwise(row) if b < 200]
    expected = [(a, a + 1) for length in (130, 50, 51, 1, 2) for a in range(length - 1)]
    assert sorted(steps) == sorted(expected)
    assert _newest(histories)[0].tolist() == list(range(80, 130))
    assert _newest(histories)[3, :2].tolist() == [5, 200]


def test_training_stops_when_the_figure_falls_and_the_best_epoch_is_kept():
    made = []

    def learn(evidence, *, rate):
        for epoch in range(1, 100):
            made.append((rate, epoch))
            yield Prior(f"{rate} {epoch}", np.zeros(3, np.float32))

    figures = {"1 1": 0.1, "1 2": 0.5, "2 1": 0.2, "2 2": 0.3, "2 3": 0.4, "2 4": 0.6}
    baseline = Baseline("planted", learn=learn, settings=grid(rate=(1, 2)))
    setting, term = tune(baseline, None, lambda term: figures.get(term.name, 0.0))
    assert (setting, term.name) == ({"rate": 2, "epochs": 4}, "2 4")
    assert made == [(1, n) for n in range(1, 6)] + [(2, n) for n in range(1, 8)]  # three without anything better
    assert baseline.build(None, setting).name == "2 4"


def test_a_missing_library_is_a_reason_and_not_an_error(monkeypatch):
    monkeypatch.setattr(baselines, "find_spec", lambda name: None)
    asked = chosen(("iALS", "popularity"))
    found = {baseline.name: why for baseline, why in applicable(evidence_of(block_shop().seen), asked)}
    assert found == {"popularity": None, "iALS": "needs implicit: pip install 'catalograph[baselines]'"}


def test_what_does_not_fit_half_of_the_free_memory_is_left_out_with_its_need(monkeypatch):
    evidence = evidence_of(block_shop().seen)
    (ease,) = chosen(("EASE",))
    need = int(ease.memory(evidence.n_items)) + 1
    for free, why in ((2 * need, None), (need, "needs 0.0 GiB")):
        monkeypatch.setattr(baselines.psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        ((_, told),) = applicable(evidence, (ease,))
        assert (told or "").startswith(why or "")
        assert (told is None) == (why is None)


def test_lists_and_segments_of_a_baseline_go_where_another_split_left_it_out():
    def result(*methods, left_out):
        values = {name: np.zeros(2) for name in methods}
        rows = [{"name": name} for name in methods]
        return Evaluation(2, 3, rows, left_out, 1.0, values, values, {"new users": values})

    whole, less = result("catalograph", "EASE", left_out={}), result("catalograph", left_out={"EASE": "needs 3.0 GiB"})
    for found in comparable([whole, less]):
        assert found.rows == [{"name": "catalograph"}]
        assert found.left_out == {"EASE": "needs 3.0 GiB"}
        for held in (found.lists, found.per_user, found.segments["new users"]):
            assert list(held) == ["catalograph"]
    assert [row["name"] for row in comparable([whole])[0].rows] == ["catalograph", "EASE"]


def test_slow_ones_must_be_asked_for_and_names_are_checked():
    assert {"iALS", "LightGCN", "SASRec"} == {b.name for b in chosen((), every=True)} - {b.name for b in chosen(())}
    assert [b.name for b in chosen(("SASRec",))] == ["SASRec"]
    with pytest.raises(ConfigError, match="no baseline 'LightGNC', did you mean 'LightGCN'"):
        chosen(("LightGNC",))


def test_without_an_order_nothing_speaks_of_the_newest_or_the_next():
    log = block_shop().seen
    bare = InteractionLog(log.n_users, log.n_items, log.user, log.item)
    names = {baseline.name for baseline, _ in applicable(evidence_of(bare), chosen((), every=True))}
    assert names == {"popularity", "item-kNN", "RP3beta", "EASE", "iALS", "LightGCN"}


def test_tuning_looks_at_the_validation_users_alone():
    fold = block_shop()
    evidence, users = evidence_of(fold.seen), fold.users[:10]
    judge = ndcg_judge(evidence, np.ones(44, bool), fold.held_out, users, 5)
    term = BY_NAME["item-kNN"].build(evidence, {"neighbours": 20})
    wanted = rank_metrics(ranked(term, evidence, np.ones(44, bool), users, 5), fold.held_out[users], 5).ndcg.mean()
    assert judge(term) == pytest.approx(wanted)


def test_a_profile_of_the_newest_items_has_so_many():
    histories = histories_of(sequence_shop().seen)
    assert set(np.diff(rows_of(histories, "newest 3").indptr)) == {3}
    assert (rows_of(histories, "user") != np.eye(150)).sum() == 0
