"""Terms against dense formulas written the slow way, and folds that never look ahead."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catalograph.config import SplitSection
from catalograph.errors import ConfigError
from catalograph.gnn import walks
from catalograph.gnn.embed import unit
from catalograph.gnn.walks import degrees, directed, followers, scaled, shared_context
from catalograph.kg.log import InteractionLog
from catalograph.scoring import factors, product
from catalograph.scoring.evidence import DAY_MS, Evidence, Relation, histories_of
from catalograph.scoring.families import all_terms, check_names, names_of
from catalograph.scoring.folded import blended, values_at
from catalograph.scoring.folds import fold_of, training_folds
from catalograph.scoring.pool import in_batches
from catalograph.scoring.profiles import profiles_of
from catalograph.scoring.terms import ItemItem, LowRank, Prior, dense


@pytest.fixture
def contexts():
    """9 contexts, 6 items."""
    random = np.random.default_rng(1)
    return sp.csr_matrix((random.random((9, 6)) < 0.5).astype(np.float32) * random.integers(1, 3, (9, 6)))


def log_of(n_users=12, n_items=9, events=120, seed=0, timed=True):
    random = np.random.default_rng(seed)
    user = np.sort(random.integers(0, n_users, events))
    at = random.integers(0, 90 * DAY_MS, events)
    order = np.lexsort((at, user))
    basket = at // DAY_MS * n_users + user
    item = random.integers(0, n_items, events)
    return InteractionLog(
        n_users, n_items, user, item, at=at[order] if timed else None, basket=basket[order] if timed else None
    )


def test_a_shared_context_walk_is_its_formula(contexts):
    x = contexts.toarray()
    di, dc = (x > 0).sum(0), np.maximum((x > 0).sum(1), 1)
    expected = np.diag(di**-0.45) @ x.T @ np.diag(dc**-0.45) @ x @ np.diag(di**-0.3)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(shared_context(contexts, 0.45, 0.3).toarray(), expected, rtol=1e-5)


def test_a_walk_cut_block_by_block_is_the_same(contexts, monkeypatch):
    whole = shared_context(contexts, 0.45, 0.3).toarray()
    monkeypatch.setattr(walks, "BLOCK", 2)
    np.testing.assert_allclose(shared_context(contexts, 0.45, 0.3).toarray(), whole, rtol=1e-6)


def test_followers_count_one_over_the_gap_within_a_user():
    steps = followers(np.array([0, 0, 0, 1]), np.array([2, 0, 1, 2]), 3, window=2).toarray()
    np.testing.assert_allclose(steps, [[0, 1, 0], [0, 0, 0], [1, 0.5, 0]])
    np.testing.assert_allclose(directed(sp.csr_matrix(steps)).toarray()[0, 1], 1 / 1.5**0.3)


def test_ease_solves_its_ridge_regression(contexts):
    """Column j of EASE is the ridge regression of item j on all other items (Steck 2019)."""
    b, x = factors.ease(contexts, 2.0), contexts.toarray()
    for j in range(6):
        others = [i for i in range(6) if i != j]
        a = x[:, others]
        expected = np.linalg.solve(a.T @ a + 2.0 * np.eye(5), a.T @ x[:, j])
        np.testing.assert_allclose(b[others, j], expected, rtol=1e-3, atol=1e-5)


def test_local_ease_with_all_neighbours_is_ease(contexts):
    local = factors.local_ease(contexts, ridge=2.0, neighbours=5).toarray()
    np.testing.assert_allclose(local, factors.ease(contexts, 2.0), rtol=1e-3, atol=1e-5)


def test_local_ease_of_a_large_catalogue_is_that_of_its_most_frequent_items(contexts):
    counts = np.diff(contexts.tocsc().indptr)
    kept = np.sort(np.argsort(-counts, kind="stable")[:4])
    found = factors.local_ease(contexts, ridge=2.0, neighbours=5, most=4).toarray()
    np.testing.assert_allclose(
        found[np.ix_(kept, kept)],
        factors.local_ease(sp.csr_matrix(contexts[:, kept]), ridge=2.0, neighbours=5).toarray(),
    )
    left_out = np.setdiff1d(np.arange(6), kept)
    assert not found[left_out].any()
    assert not found[:, left_out].any()


def test_text_neighbours_are_the_nearest_cosines():
    text = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    found, cosine = factors.text_neighbours(text, keep=2).toarray(), text @ text.T
    np.fill_diagonal(cosine, 0)
    for row in range(7):
        near = np.argsort(-cosine[row])[:2]
        np.testing.assert_allclose(found[row, near], np.maximum(cosine[row, near], 0) ** 3, rtol=1e-5)


def evidence_of(log, now):
    members = sp.csr_matrix(np.eye(log.n_items, 4, dtype=np.float32)[np.arange(log.n_items) % 4])
    relation = Relation("IN", sp.csr_matrix(np.eye(4, dtype=np.float32)[np.arange(log.n_items) % 4]), None, 0.3)
    assert members.shape == relation.members.shape
    text = np.random.default_rng(0).standard_normal((log.n_items, 5)).astype(np.float32)
    return Evidence(log, histories_of(log), (relation,), text / np.linalg.norm(text, axis=1, keepdims=True), now)


@pytest.mark.parametrize("timed", [True, False])
def test_every_term_scores_some_items_as_it_scores_all(timed):
    log = log_of(timed=timed)
    evidence = evidence_of(log, 90.0 if timed else None)
    terms = all_terms(evidence)
    rows = profiles_of(evidence.histories)
    everything, some = dense(terms, rows), np.array([4, 1])
    assert len({term.name for term in terms}) == len(terms) > 8
    for term, values in zip(terms, everything, strict=True):
        np.testing.assert_allclose(term.at(rows, some), values[:, some], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("timed", [True, False])
def test_every_term_can_be_left_out_by_its_name_and_its_family(timed):
    evidence = evidence_of(log_of(timed=timed), 90.0 if timed else None)
    terms = all_terms(evidence)
    for term in terms:
        check_names(names_of(term), ["IN"])
    for name in ("fresh_walk_45d.uniform", "share:IN", "text") if timed else ("share:IN.uniform", "ease", "low_pass"):
        left = {term.name for term in all_terms(evidence, [name])}
        gone = {term.name for term in terms} - left
        assert name in {part for term in terms if term.name in gone for part in names_of(term)}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("eese", "did you mean 'ease'"),
        ("share:INN", "did you mean 'share:IN'"),
        ("ease.unifrom", "ease"),
        ("", "known"),
    ],
)
def test_a_name_that_leaves_nothing_out_is_refused(name, told):
    with pytest.raises(ConfigError, match=f"no term or family '{name}'.*{told}"):
        check_names(["text", name], ["IN"])


@pytest.mark.parametrize("fast", [True, False])
def test_rows_times_weights_are_the_dense_product_whoever_computes_it(fast, monkeypatch):
    monkeypatch.setattr(product, "FAST", fast and product.FAST)
    random = np.random.default_rng(0)
    rows = sp.random_array((3, 50), density=0.1, format="csr", dtype=np.float32, random_state=random)
    weights = sp.random_array((50, 70), density=0.2, format="csr", dtype=np.float32, random_state=random)
    out = np.full((3, 70), np.nan, np.float32)
    product.multiply(product.as_operand(sp.csr_matrix(rows)), product.as_operand(sp.csr_matrix(weights)), out)
    np.testing.assert_allclose(out, rows.toarray() @ weights.toarray(), rtol=1e-5, atol=1e-7)


def test_batches_in_threads_leave_the_callers_threads_alone():
    before = torch.get_num_threads()
    assert list(in_batches(np.arange(5), lambda _: torch.get_num_threads(), size=2)) == [1, 1, 1]
    assert torch.get_num_threads() == before


def test_the_reasons_of_a_term_add_up_to_its_score():
    evidence = evidence_of(log_of(), 90.0)
    rows = profiles_of(evidence.histories)
    for term in all_terms(evidence):
        row = {name: matrix[[3]] for name, matrix in rows.items()}
        _, parts = term.reasons(row[term.profile], 2)
        if len(parts):
            assert parts.sum() == pytest.approx(float(term.at(row, np.array([2]))[0, 0]), rel=1e-3, abs=1e-5)


def test_terms_at_a_cut_do_not_change_when_the_future_does():
    log = log_of(events=300)
    before = log.where(log.at < 60 * DAY_MS)
    future = np.random.default_rng(5).permutation(log.item)
    changed = InteractionLog(
        log.n_users,
        log.n_items,
        log.user,
        np.where(log.at < 60 * DAY_MS, log.item, future),
        at=log.at,
        basket=log.basket,
    )
    again = changed.where(changed.at < 60 * DAY_MS)
    one, two = evidence_of(before, 60.0), evidence_of(again, 60.0)
    scores = [dense(all_terms(e), profiles_of(e.histories)) for e in (one, two)]
    np.testing.assert_array_equal(*scores)


def test_folds_hide_only_later_new_pairs_of_known_users():
    log = log_of(events=400, n_items=40)
    split = SplitSection(method="time", at="1970-03-31", period_days=20)
    for number, fold in enumerate(training_folds(log, split, 3)):
        assert fold.now == 89 - 20 * (number + 1)
        assert fold.seen.at.max() < fold.now * DAY_MS
        seen = histories_of(fold.seen).matrix()
        assert seen.multiply(fold.held_out).nnz == 0
        assert (np.diff(seen.indptr)[fold.users] > 0).all()


@pytest.mark.parametrize("method", ["last", "none"])  # without a test part the order is there, too
def test_leave_last_out_folds_take_the_newest_then_the_one_before(method):
    user, item, position = [0, 0, 0, 0, 1, 1], [2, 3, 1, 4, 0, 2], [0, 1, 2, 3, 0, 1]
    log = InteractionLog(2, 5, np.array(user), np.array(item), position=np.array(position))
    first, second = training_folds(log, SplitSection(method=method), 2)
    assert first.held_out.toarray()[0].nonzero()[0].tolist() == [4]
    assert second.held_out.toarray()[0].nonzero()[0].tolist() == [1]
    assert second.seen.item.tolist() == [2, 3]
    assert fold_of(first.seen, log, None).held_out.nnz == 2


def test_histories_too_short_to_lose_their_newest_events_are_cut_at_random():
    """With two events each, the newest of all would leave nobody two to learn from."""
    user, item = np.repeat(np.arange(30), 2), np.arange(60) % 7
    log = InteractionLog(30, 7, user, item, position=np.arange(60) % 2)
    for fold in training_folds(log, SplitSection(), 2):
        assert (np.bincount(fold.seen.user, minlength=30) == 2).any()


@pytest.mark.parametrize("long", [0, 3, 1_000])
def test_products_are_the_same_with_long_rows_dense_or_not(monkeypatch, long):
    monkeypatch.setattr(factors, "LONG", long)
    rows = sp.random_array((30, 17), density=0.3, rng=np.random.default_rng(0), dtype=np.float32, format="csr")
    np.testing.assert_allclose(factors.gram(rows, block=5), (rows.T @ rows).toarray(), atol=1e-5)


def test_of_long_rows_a_block_at_a_time_is_dense(monkeypatch):
    monkeypatch.setattr(factors, "LONG", 2)
    rows = sp.random_array((20_000, 1_000), density=0.004, rng=np.random.default_rng(0), dtype=np.float32, format="csr")
    tracemalloc.start()
    try:
        factors.gram(rows, block=500)
        assert tracemalloc.get_traced_memory()[1] < 30e6  # all of them are 80 MB
    finally:
        tracemalloc.stop()


def test_renewed_text_neighbours_are_those_of_a_new_search():
    random = np.random.default_rng(0)
    text = unit(random.normal(size=(60, 8)))
    before = factors.text_neighbours(text, keep=10)
    new = np.isin(np.arange(60), [3, 17, 18, 59])
    text[new] = unit(random.normal(size=(4, 8)))
    again = factors.renewed_neighbours(text, before, new, keep=10)
    np.testing.assert_allclose(again.toarray(), factors.text_neighbours(text, keep=10).toarray(), atol=1e-6)
    nothing = factors.renewed_neighbours(text, again, np.zeros(60, bool), keep=10)
    np.testing.assert_array_equal(nothing.toarray(), again.toarray())


def test_the_low_pass_filter_spans_the_largest_singular_vectors():
    rows = sp.random_array((80, 30), density=0.2, rng=np.random.default_rng(0), dtype=np.float32, format="csr")
    left, right = factors.low_pass(factors.stacked([rows]), rank=5)
    of_context, of_item = degrees(factors.stacked([rows]))
    normal = scaled(factors.stacked([rows]), of_context, of_item, 0.5, 0.5).toarray()
    vectors = np.linalg.svd(normal)[2][:5].T
    root = np.sqrt(np.maximum(of_item, 1e-9))[:, None]
    np.testing.assert_allclose(left @ right.T, (vectors / root) @ (vectors * root**0.6).T, atol=1e-5)


def test_the_low_pass_filter_is_the_same_whatever_the_order_of_rows_and_items():
    random = np.random.default_rng(0)
    rows = factors.stacked([sp.random_array((900, 400), density=0.02, rng=random, dtype=np.float32, format="csr")])
    left, right = factors.low_pass(rows)
    order, place = random.permutation(rows.shape[0]), random.permutation(rows.shape[1])
    other_left, other_right = factors.low_pass(sp.csr_matrix(rows[order][:, place]))
    np.testing.assert_allclose(other_left @ other_right.T, (left @ right.T)[np.ix_(place, place)], atol=1e-4)


@pytest.mark.parametrize("size", [(1, 5), (2, 3), (40, 3), (3, 40)])
def test_the_low_pass_filter_of_a_shop_with_next_to_nothing_is_finite(size):
    left, right = factors.low_pass(sp.csr_matrix(np.ones(size, np.float32)))
    assert left.shape == right.shape == (size[1], min(size) - 1)
    assert np.isfinite(left @ right.T).all()
    np.testing.assert_array_equal(factors.low_pass(sp.csr_matrix(np.ones(size, np.float32)))[0], left)


def test_the_low_pass_filter_of_parts_that_hold_nothing_together_is_the_same_every_time():
    parts = factors.stacked([sp.csr_matrix(np.kron(np.eye(150), [1, 1]).astype(np.float32))])
    (left, _), (again, _) = factors.low_pass(parts), factors.low_pass(parts)
    np.testing.assert_array_equal(again, left)


def test_without_an_event_the_low_pass_filter_says_nothing():
    left, right = factors.low_pass(sp.csr_matrix((4, 6), dtype=np.float32))
    assert left.shape == right.shape == (6, 0)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_what_is_folded_is_what_every_term_gives_alone(seed):
    random = np.random.default_rng(seed)
    users, items, dim = int(random.integers(1, 6)), int(random.integers(3, 40)), 4
    rows = {
        name: sp.random_array((users, items), density=0.3, format="csr", rng=random, dtype=np.float32) for name in "ab"
    }
    rows = {name: sp.csr_matrix(matrix) for name, matrix in rows.items()}
    shared, left, other = (random.standard_normal((items, dim)).astype(np.float32) for _ in range(3))
    walk = sp.csr_matrix(sp.random_array((items, items), density=0.2, format="csr", rng=random, dtype=np.float32))
    terms = (
        ItemItem("walk.a", "a", walk),
        ItemItem("walk.b", "b", walk),
        LowRank("text.a", "a", left, shared),
        LowRank("text.b", "b", left, shared[:]),  # a view of the same vectors
        LowRank("unit.a", "a", left, other, unit=True),
        Prior("popularity.prior", random.random(items).astype(np.float32), "a"),
    )
    weights = random.standard_normal(len(terms)) * (random.random(len(terms)) < 0.7)
    whole = dense(terms, rows)
    np.testing.assert_allclose(blended(terms, weights, rows), np.einsum("t,tui->ui", weights, whole), atol=1e-4)
    picked = random.integers(-1, items, (users, 7))
    expected = np.take_along_axis(whole, np.maximum(picked, 0)[None], 2).transpose(1, 2, 0)
    np.testing.assert_allclose(values_at(terms, rows, picked), expected, atol=1e-5)
