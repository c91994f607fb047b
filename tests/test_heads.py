"""Heads: parts that add up, one score per pair wherever it is asked, planted structure, the choice on validation."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shops import SHOP, make_shop

from catalograph import Recommender
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop
from catalograph.scoring.context import Context, peak_of
from catalograph.scoring.head import (
    ENSEMBLE,
    KINDS,
    MEMBERS,
    MLPS,
    Head,
    Sample,
    fit_head,
    mlps_of,
    rank_pool,
    untrained,
)
from catalograph.scoring.pool import Pool, Scorable, fill, learn_blend
from catalograph.scoring.terms import LowRank, Prior

EVERY = (*KINDS, *MEMBERS)


def random_head(kind, terms, features, seed=0):
    """A head whose every weight counts, as a fit would leave it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = untrained(kind, terms, features).eval()
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return Head(kind, net)


def sample_of(values, features, target):
    values, features = values.astype(np.float32), features.astype(np.float32)
    return Sample(values, Context(features, np.abs(values).max(1)), target)


@pytest.mark.parametrize("kind", EVERY)
@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.01, 1.0, 50.0]))
def test_contributions_add_up_to_the_score(kind, seed, scale):
    random = np.random.default_rng(seed)
    values = (scale * random.standard_normal((3, 7, 5))).astype(np.float32)
    context = Context(random.standard_normal((3, 7, 4)).astype(np.float32), np.abs(values).max(1))
    head = random_head(kind, 5, 4, seed)
    scores = head.scores(values, context)
    parts = head.contributions(values, context).astype(np.float64)
    np.testing.assert_allclose(parts.sum(-1), scores, rtol=1e-5, atol=1e-5 * np.abs(parts).sum(-1).max())


@pytest.mark.parametrize("kind", EVERY)
def test_a_term_without_value_has_no_part(kind):
    values = np.random.default_rng(0).standard_normal((2, 6, 5)).astype(np.float32)
    values[:, :, 3] = 0
    context = Context(np.ones((2, 6, 4), np.float32), np.abs(values).max(1))
    assert not random_head(kind, 5, 4).contributions(values, context)[:, :, 3].any()


@pytest.mark.parametrize("kind", EVERY)
def test_an_item_unlike_all_the_head_has_seen_gets_a_score_among_the_others(kind):
    """All items had a price band and next to none a colour; one has no band, and a term that no pool had."""
    random = np.random.default_rng(0)
    values, features = random.random((64, 12, 4)), random.random((64, 12, 3))
    values[..., 2], features[..., 1], features[..., 2] = 0.3, np.log(2), 0
    features[0, 0, 2] = 1e-3  # nearly none
    target = np.argmax(values[..., 0], 1)[:, None] == np.arange(12)
    head = fit_head(kind, sample_of(values, features, target), seed=0)
    values, features = values.astype(np.float32), features.astype(np.float32)
    peak = np.abs(values).max(1)
    peak[:, 3] = 0
    usual = head.scores(values, Context(features, peak))
    values[:, 0, 2], features[:, 0, 1], features[:, 0, 2] = 5, 0, np.log(2)
    unlike = head.scores(values, Context(features, peak))
    assert np.abs(unlike - usual).max() < np.ptp(usual)
    np.testing.assert_array_equal(unlike[:, 1:], usual[:, 1:])


@pytest.mark.parametrize("kind", EVERY)
def test_arrays_give_the_head_back(kind):
    head = random_head(kind, 5, 4)
    again = Head.of_arrays(kind, head.arrays())
    values = np.random.default_rng(0).standard_normal((2, 6, 5)).astype(np.float32)
    context = Context(np.ones((2, 6, 4), np.float32), np.abs(values).max(1))
    np.testing.assert_array_equal(head.scores(values, context), again.scores(values, context))


def test_a_term_that_is_never_above_zero_leaves_a_blend_alone():
    """How long an item was not sold is 0 at most, and next to 0 where something was sold just now."""
    random, users = np.random.default_rng(0), np.arange(64)
    wanted = sp.csr_matrix((np.ones(64, np.float32), (users, random.integers(0, 30, 64))), shape=(64, 30))
    good = LowRank("good.uniform", "uniform", np.eye(64, dtype=np.float32), wanted.toarray().T)
    since = -random.random(30).astype(np.float32)
    since[7] = -1e-9
    scorable = Scorable(
        (good, Prior("since.prior", since)),
        {"uniform": sp.eye_array(64, format="csr", dtype=np.float32)},
        sp.csr_matrix((64, 30), dtype=np.float32),
        np.ones(30, bool),
        np.zeros((30, 1), np.float32),
        np.zeros((64, 1), np.float32),
    )
    blend = learn_blend(scorable, wanted, users, seed=0)
    assert fill(scorable, users, blend, 1).recall(wanted) == 1
    in_parts = learn_blend(dataclasses.replace(scorable, batch_mib=1e-3), wanted, users, seed=0)
    np.testing.assert_allclose(in_parts, blend, rtol=1e-4)


def test_empty_places_of_a_pool_have_no_say_in_the_peak():
    values = np.array([[[1.0, -3.0], [9.0, 9.0]]], np.float32)
    np.testing.assert_array_equal(peak_of(values, np.array([[4, -1]])), [[1, 3]])


@pytest.fixture(scope="module", params=EVERY)
def shop(request, built):
    """The built shop with a head of each kind whose weights are random: the strictest there is."""
    made = Recommender.load(built[1])
    head = random_head(request.param, len(made.model.terms), made.model.about_items.shape[1] + 3)
    made.model = dataclasses.replace(made.model, head=head)
    return made


@pytest.mark.parametrize("where", [None, "price < 8"])
def test_a_listed_score_is_the_score_of_the_pair(shop, where):
    for user, listed in zip(["u07", "u20"], shop.recommend(["u07", "u20"], k=8, where=where), strict=True):
        items = [item.item for item in listed]
        expected = np.array([item.score for item in listed])
        near = {"rtol": 1e-4, "atol": 1e-4}
        np.testing.assert_allclose(shop.score([user], items)[0], expected, **near)
        np.testing.assert_allclose(shop.score_pairs([user] * len(items), items), expected, **near)
        np.testing.assert_allclose([sum(item.terms.values()) for item in listed], expected, **near)
        assert shop.explain(user, items[0]).score == pytest.approx(expected[0], rel=1e-4, abs=1e-4)


def test_a_score_does_not_depend_on_who_else_is_asked(shop):
    users, items = ["u03", "u11", "u02"], ["i05", "i00", "i17", "i30"]
    together = shop.score(users, items)
    for user, row in zip(users, together, strict=True):
        np.testing.assert_allclose([shop.score([user], [item])[0, 0] for item in items], row, rtol=1e-4, atol=1e-4)
    pairs = shop.score_pairs([u for u in users for _ in items], items * 3)
    np.testing.assert_allclose(pairs.reshape(3, 4), together, rtol=1e-4, atol=1e-4)


def test_newcomers_and_neighbours_have_the_same_scores_as_their_explanations(shop):
    (first, *_) = shop.recommend_for(["i02", "i06"], k=3)
    why = shop.explain_for(["i02", "i06"], first.item, most=50)
    assert why.score == pytest.approx(first.score, rel=1e-4, abs=1e-4)
    assert sum(why.terms.values()) == pytest.approx(why.score, abs=1e-4)
    assert {reason.because for reason in why.reasons} <= {"i02", "i06"}
    assert shop.similar("i02", k=2)


def test_reasons_share_their_terms_part(shop):
    item = shop.recommend(["u07"], k=1)[0][0].item
    why = shop.explain("u07", item, most=10_000)
    for term, part in why.terms.items():
        reasons = [reason.score for reason in why.reasons if reason.term == term]
        if part > 1e-4 and not term.startswith("ease") and not term.endswith(".prior") and "low_pass" not in term:
            assert sum(reasons) >= part - 1e-3  # the positive ones; negative ones make up the difference


def planted(users=400, seed=0):
    """One term whose sign is right where the feature is high and wrong where it is low; one that is noise."""
    random = np.random.default_rng(seed)
    feature = random.choice([-1.0, 1.0], (users, 30, 1))
    values = random.standard_normal((users, 30, 2))
    quality = values[:, :, 0] * feature[:, :, 0]
    target = quality >= np.sort(quality, axis=1)[:, -3:-2]
    return sample_of(values, feature, target)


def hits(head, sample):
    """Share of the three wanted items among the three best."""
    best = np.argsort(-head.scores(sample.values, sample.context), axis=1)[:, :3]
    return np.take_along_axis(sample.target, best, 1).mean()


def test_a_gate_learns_what_a_linear_head_cannot():
    fit, check = planted(seed=0), planted(seed=1)
    assert hits(fit_head("linear", fit, seed=0, epochs=30), check) < 0.6  # right for one kind of item, half of them
    assert hits(fit_head("gated", fit, seed=0, epochs=60), check) > 0.8


def test_the_mlp_learns_terms_that_need_each_other():
    """An item is good where two terms have one sign, whichever: a sum finds the items with both above zero at most."""
    random = np.random.default_rng(0)

    def draw(users):
        values = random.choice([-1.0, 1.0], (users, 30, 2)) * random.uniform(0.5, 1.5, (users, 30, 2))
        quality = values[:, :, 0] * values[:, :, 1]
        return sample_of(values, np.zeros((users, 30, 1)), quality >= np.sort(quality, axis=1)[:, -3:-2])

    fit, check = draw(800), draw(300)
    assert hits(fit_head("gated", fit, seed=0, epochs=30), check) < 0.7
    assert hits(fit_head("mlp", fit, seed=0, epochs=60), check) > 0.8


def test_equal_seeds_give_equal_heads_and_leave_the_generator_alone():
    sample = planted(60)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one, two, other = (fit_head("mlp", sample, seed=seed, epochs=2) for seed in (1, 1, 2))
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(one.arrays()["constant"], two.arrays()["constant"])
    assert not np.array_equal(one.arrays()["constant"], other.arrays()["constant"])


def test_users_with_nothing_in_their_pool_teach_nothing():
    items = np.tile(np.arange(4), (3, 1))
    values = np.random.default_rng(0).standard_normal((3, 4, 2)).astype(np.float32)
    target = np.array([[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]], bool)
    pool = Pool(items, values, Context(np.zeros((3, 4, 1), np.float32), np.abs(values).max(1)))
    sample = Sample.of(pool, target)
    np.testing.assert_array_equal(sample.values, values[[0, 2]])
    np.testing.assert_array_equal(sample.context.peak, pool.context.peak[[0, 2]])


def test_ties_in_a_pool_go_to_the_smaller_item_and_empty_places_last():
    items = np.array([[5, 2, -1, 9]])
    values = np.zeros((1, 4, 1), np.float32)
    pool = Pool(items, values, Context(np.zeros((1, 4, 1), np.float32), np.zeros((1, 1), np.float32)))
    places, found, scores = rank_pool(random_head("linear", 1, 1), pool, 4)
    assert found.tolist() == [[2, 5, 9, -1]]
    assert places.tolist() == [[1, 0, 3, 2]]
    assert scores[0, 3] == -np.inf


def test_auto_takes_the_head_that_validates_best_and_the_bundle_keeps_it(tmp_path):
    toml = make_shop(tmp_path / "shop", toml=SHOP.replace('head = "linear"\n', ""))
    rebuild(open_workshop(toml, out=tmp_path / "build", device="cpu"))
    shop = Recommender.load(tmp_path / "build")
    heads = shop.model.report["heads"]
    assert set(heads) == {"linear", ENSEMBLE, MLPS}
    best = max(heads, key=lambda kind: heads[kind]["ndcg@10"])
    assert shop.model.head.kind == shop.model.report["head"] == best
    assert shop.model.report["validation"] == heads[best]
    assert len(shop.recommend(["u01"])[0]) == 10


def test_an_ensemble_is_the_mean_of_heads_fitted_alone():
    random = np.random.default_rng(0)
    values = random.standard_normal((20, 6, 3))
    sample = sample_of(values, random.standard_normal((20, 6, 2)), values[:, :, 0] > 0.8)
    alone = [fit_head(kind, sample, seed=5 + n, epochs=1) for n, kind in enumerate(("gated", "mlp", "gated", "mlp"))]
    mean = np.mean([head.scores(sample.values, sample.context) for head in alone], axis=0)
    both = fit_head(ENSEMBLE, sample, seed=5, epochs=1)
    np.testing.assert_allclose(both.scores(sample.values, sample.context), mean, rtol=1e-4, atol=1e-5)
    perceptrons = (alone[1].scores(sample.values, sample.context) + alone[3].scores(sample.values, sample.context)) / 2
    found = mlps_of(both)
    np.testing.assert_allclose(found.scores(sample.values, sample.context), perceptrons, rtol=1e-4, atol=1e-5)
    again = Head.of_arrays(found.kind, found.arrays())
    np.testing.assert_array_equal(
        again.scores(sample.values, sample.context), found.scores(sample.values, sample.context)
    )


def test_thirty_users_are_enough_for_one_plain_signal():
    """One term of eight tells; ten steps from equal weights reach a third."""
    random = np.random.default_rng(0)

    def draw(users):
        values = random.standard_normal((users, 30, 8))
        quality = values[:, :, 2]
        return sample_of(values, np.zeros((users, 30, 1)), quality >= np.sort(quality, axis=1)[:, -3:-2])

    assert hits(fit_head("linear", draw(30), seed=0), draw(300)) > 0.6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_head_learned_on_a_gpu_comes_back_and_knows_as_much():
    fit, check = planted(400), planted(300, seed=1)
    head = fit_head("gated", fit, seed=0, epochs=60, device="cuda")
    assert all(parameter.device.type == "cpu" for parameter in head.net.parameters())
    assert hits(head, check) > 0.8
