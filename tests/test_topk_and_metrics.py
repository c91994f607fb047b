"""Lists and figures against slow, obvious references."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, ndcg_score, roc_auc_score
from threadpoolctl import threadpool_info

from catalograph.errors import CatalographError
from catalograph.kg.log import InteractionLog
from catalograph.scoring.evaluate import _row
from catalograph.scoring.folds import fold_of
from catalograph.scoring.metrics import auc, bootstrap_interval, coverage, f1, rank_metrics
from catalograph.scoring.topk import FEWEST, search, top_k


def reference(scores, k, hidden, allowed):
    lists = []
    for row, gone in zip(scores, hidden, strict=True):
        left = [i for i in range(len(row)) if allowed[i] and not gone[i]]
        best = sorted(left, key=lambda i: (-row[i], i))[:k]
        lists.append(best + [-1] * (k - len(best)))
    return np.array(lists)


@given(st.integers(1, 6), st.integers(1, 30), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_the_list_equals_a_dense_reference_ties_included(users, items, k, seed):
    random = np.random.default_rng(seed)
    scores = random.integers(-2, 3, (users, items)).astype(np.float32)  # few values: many ties
    hidden, allowed = random.random((users, items)) < 0.3, random.random(items) < 0.8
    found, best = top_k(scores, k, sp.csr_matrix(hidden), allowed)
    np.testing.assert_array_equal(found, reference(scores, k, hidden, allowed))
    shown = found >= 0
    np.testing.assert_array_equal(best[shown], np.take_along_axis(scores, np.maximum(found, 0), 1)[shown])
    assert (best[~shown] == -np.inf).all()


@given(st.integers(1, 3), st.integers(40, 400), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_long_rows_go_by_groups_to_the_same_list(users, items, k, seed):
    """Rows with few and with too many groups at the border, incomplete last slabs."""
    random = np.random.default_rng(seed)
    scores = random.integers(-40, 40, (users, items)).astype(np.float32)
    hidden, allowed = random.random((users, items)) < 0.2, random.random(items) < random.choice([0.05, 0.9])
    found, _ = top_k(scores, k, sp.csr_matrix(hidden), allowed)
    np.testing.assert_array_equal(found, reference(scores, k, hidden, allowed))


def test_rows_of_every_kind_in_one_block():
    """Of some there is nothing to list or too little, of others too much ties at the border."""
    scores = np.random.default_rng(0).standard_normal((5, 1_003)).astype(np.float32)
    scores[1], scores[2] = 0, -np.inf
    scores[3], scores[3, [17, 1_002]] = -np.inf, (1, 2)
    scores[4, ::2] = 9
    found, best = top_k(scores, 10)
    expected = reference(scores, 10, np.isneginf(scores), np.ones(1_003, bool))
    np.testing.assert_array_equal(found, expected)
    assert best[3].tolist() == [2, 1, *[-np.inf] * 8]
    scores[4, -1] = np.nan
    with pytest.raises(CatalographError, match="user row 4 for item row 1002 is NaN"):
        top_k(scores, 10)


# "cpu:0" is what torch calls the CPU when it is to compute as on a GPU: the search's other way, without one.
DEVICES = ("cpu", "cpu:0", *(["cuda"] if torch.cuda.is_available() else []))


@pytest.mark.parametrize("device", DEVICES)
@given(st.integers(0, 9), st.integers(1, 300), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_searching_vectors_is_the_list_of_their_products(device, users, items, k, seed):
    random = np.random.default_rng(seed)
    queries = random.integers(-2, 3, (users, 4)).astype(np.float32)
    vectors = random.integers(-2, 3, (items, 4)).astype(np.float32)
    hidden, allowed = random.random((users, items)) < 0.3, random.random(items) < 0.5
    block = 4 * items * 2
    found, best = search(queries, vectors, k, sp.csr_matrix(hidden), allowed, block_bytes=block, device=device)
    expected, scores = top_k(queries @ vectors.T, k, sp.csr_matrix(hidden), allowed)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(best, scores)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def blas_threads(of=""):
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas" and of in pool["filepath"]]
    return [pool["num_threads"] for pool in pools]


@pytest.mark.usefixtures("two_threads")
def test_many_queries_in_two_threads_find_the_same_and_leave_the_processs_threads_alone(monkeypatch):
    random = np.random.default_rng(0)
    users, items = 5 * FEWEST + 1, 500
    queries, vectors = (random.integers(-2, 3, (n, 4)).astype(np.float32) for n in (users, items))
    hidden, allowed = sp.csr_matrix(random.random((users, items)) < 0.3), random.random(items) < 0.5
    expected, scores = top_k(queries @ vectors.T, 5, hidden, allowed)
    threads, met = blas_threads(), []
    multiply = np.matmul

    def watched(*given, **out):
        met.append(blas_threads("numpy.libs"))
        return multiply(*given, **out)

    monkeypatch.setattr(np, "matmul", watched)
    block = 4 * int(allowed.sum()) * 3 * FEWEST  # so each thread has more than one
    with ThreadPoolExecutor(4, "asking", torch.set_num_threads, (2,)) as several:  # must not take each other's limit
        asked = [several.submit(search, queries, vectors, 5, hidden, allowed, block_bytes=block) for _ in range(12)]
    for found, best in (one.result() for one in asked):
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(best, scores)
    assert [1] in met  # faiss, where it is loaded, has a BLAS whose number is each thread's own
    assert blas_threads() == threads
    queries[users - 2, 0] = np.nan
    item = np.flatnonzero(allowed)[0]
    with pytest.raises(CatalographError, match=f"user row {users - 2} for item row {item} is NaN"):
        search(queries, vectors, 5, None, allowed)
    assert blas_threads() == threads


def test_scores_are_left_as_they_were():
    scores = np.ones((1, 3), np.float32)
    top_k(scores, 1, sp.csr_matrix(np.array([[1, 0, 0]])))
    np.testing.assert_array_equal(scores, 1)


def test_a_nan_is_refused_with_its_place():
    with pytest.raises(CatalographError, match="user row 1 for item row 2 is NaN"):
        top_k(np.array([[1, 2, 3], [1, 2, np.nan]], np.float32), 2)


@pytest.mark.parametrize("device", DEVICES)
def test_a_nan_in_a_later_block_and_behind_a_filter_is_found(device):
    queries, vectors = np.ones((3, 1), np.float32), np.ones((4, 1), np.float32)
    queries[2] = np.nan
    with pytest.raises(CatalographError, match="user row 2 for item row 1 is NaN"):
        search(queries, vectors, 2, allowed=np.array([False, True, True, False]), block_bytes=8, device=device)


def test_infinite_scores_are_scores():
    items, scores = top_k(np.array([[-np.inf, 1, np.inf]], np.float32), 3)
    assert items.tolist() == [[2, 1, -1]]
    assert scores.tolist() == [[np.inf, 1, -np.inf]]


def test_no_places_are_refused():
    with pytest.raises(CatalographError, match="k must be at least 1"):
        top_k(np.ones((1, 3), np.float32), 0)
    with pytest.raises(CatalographError, match="k must be at least 1"):
        search(np.ones((1, 2), np.float32), np.ones((3, 2), np.float32), -1)


@given(st.integers(0, 2**32 - 1))
def test_click_figures_agree_with_scikit_learn(seed):
    random = np.random.default_rng(seed)
    labels, scores = np.append(random.integers(0, 2, 20), [0, 1]), random.integers(0, 6, 22) / 5
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))
    assert f1(labels, scores) == pytest.approx(f1_score(labels, scores >= 0.5, zero_division=0))


def test_auc_needs_both_kinds():
    assert np.isnan(auc(np.ones(3), np.arange(3)))


def test_known_figures():
    held_out = sp.csr_matrix(np.array([[1, 0, 1, 0, 0], [0, 0, 0, 0, 1]]))
    items = np.array([[0, 1, 2], [0, 1, 2]])
    found = rank_metrics(items, held_out, 3)
    ideal = 1 + 1 / np.log2(3)
    np.testing.assert_allclose(found.ndcg, [(1 + 1 / np.log2(4)) / ideal, 0])
    np.testing.assert_allclose(found.recall, [1, 0])
    np.testing.assert_allclose(found.hr, [1, 0])
    np.testing.assert_allclose(found.precision, [2 / 3, 0])
    assert coverage(items, 5) == 3 / 5


def test_lift_is_the_popularity_of_what_is_shown_against_what_the_same_users_have():
    seen = InteractionLog(4, 4, np.array([0, 1, 2, 2, 3]), np.array([0, 0, 0, 1, 2]))
    test = fold_of(seen, InteractionLog(4, 4, np.array([2, 3]), np.array([3, 3])), None)
    row = _row("x", np.array([[3, 2], [0, -1]]), test, np.array([2, 3]), 2, 0.0)
    shown, had = (0 + 1 + 3) / 3, (3 + 1 + 1) / 3  # popularities 3, 1, 1, 0
    assert row["lift@2"] == pytest.approx(shown / had)
    assert row["popularity@2"] == pytest.approx(shown)


@given(st.integers(0, 2**32 - 1))
def test_ndcg_agrees_with_scikit_learn(seed):
    random = np.random.default_rng(seed)
    relevance, scores = (random.random((4, 9)) < 0.4).astype(float), random.random((4, 9))
    relevance[:, 0] = 1
    items, _ = top_k(scores.astype(np.float32), 5)
    ours = rank_metrics(items, sp.csr_matrix(relevance), 5).ndcg.mean()
    assert ours == pytest.approx(ndcg_score(relevance, scores.astype(np.float32), k=5))


def test_the_bootstrap_interval_holds_a_sure_difference():
    low, high = bootstrap_interval(np.full(50, 0.3), np.full(50, 0.1))
    assert low == pytest.approx(0.2)
    assert high == pytest.approx(0.2)
