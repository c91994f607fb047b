"""Terms against dense formulas written the slow way, and folds that never look ahead."""

import numpy as np
import pytest
import scipy.sparse as sp

from catalograph.config import SplitSection
from catalograph.gnn import walks
from catalograph.gnn.walks import directed, followers, shared_context
from catalograph.kg.log import InteractionLog
from catalograph.scoring import factors
from catalograph.scoring.evidence import DAY_MS, Evidence, Relation, histories_of
from catalograph.scoring.families import all_terms
from catalograph.scoring.folds import fold_of, training_folds
from catalograph.scoring.profiles import profiles_of
from catalograph.scoring.terms import dense


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


def test_leave_last_out_folds_take_the_newest_then_the_one_before():
    log = InteractionLog(2, 5, np.array([0, 0, 0, 1, 1]), np.array([3, 1, 4, 0, 2]), position=np.array([0, 1, 2, 0, 1]))
    first, second = training_folds(log, SplitSection(method="last"), 2)
    assert first.held_out.toarray()[0].nonzero()[0].tolist() == [4]
    assert second.held_out.toarray()[0].nonzero()[0].tolist() == [1]
    assert second.seen.item.tolist() == [3]
    assert fold_of(first.seen, log, None).held_out.nnz == 2
