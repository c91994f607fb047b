"""People and items nobody has seen, on a shop whose users each love one category."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp

from catalograph import Recommender
from catalograph.errors import ConfigError, UnknownIdError
from catalograph.gnn.walks import informative, reached, shared_context
from catalograph.scoring import factors
from catalograph.scoring.cold import NewItems, cold_terms
from catalograph.scoring.evidence import Relation
from catalograph.scoring.newcomers import Vocabulary, _ahead, _at_places, _within
from catalograph.scoring.profiles import with_more
from catalograph.scoring.terms import ItemItem, LowRank, Prior

KINDS = ("Mugs", "Lamps", "Toys", "Garden")


@pytest.fixture(scope="module")
def shop(built):
    return Recommender.load(built[1])


def new(kind, text=""):
    return {"text": text, "attributes": {"IN_CATEGORY": [f"Shop > {kind}"]}}


def test_the_columns_of_new_items_are_those_of_a_walk_over_all():
    random = np.random.default_rng(0)
    members = sp.csr_matrix((random.random((12, 5)) < 0.4).astype(np.float32))
    contexts = informative(sp.csr_matrix(members.T))
    whole = shared_context(contexts, 0.6, 0.3).toarray()
    np.testing.assert_allclose(reached(contexts, 0.6, 0.3, np.array([10, 11])).toarray(), whole[:, 10:], rtol=1e-6)
    relation = Relation("IN", sp.csr_matrix(members[:10]), None, 0.3)
    text = random.standard_normal((12, 4)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    made = NewItems.of([relation], {"IN": sp.csr_matrix(members[10:])}, text[10:], text[:10])
    np.testing.assert_allclose(made.shares["IN"].toarray(), whole[:10, 10:], rtol=1e-6)
    near = ItemItem("text_near.uniform", "uniform", factors.text_neighbours(text[:10], keep=4))
    (extended,) = cold_terms([near], made)
    every = factors.text_neighbours(text, keep=11).toarray()[:10, 10:]
    least = near.weights.toarray()
    least = np.where(least > 0, least, np.inf).min(1)
    np.testing.assert_allclose(
        extended.weights.toarray()[:, 10:], np.where(every >= least[:, None], every, 0), rtol=1e-5
    )


def test_what_needs_purchases_is_the_mean_of_the_peers():
    share = sp.csr_matrix(np.array([[0, 2, 0], [2, 0, 2], [0, 2, 0]], np.float32))
    right = np.array([[1, 0], [0, 1], [3, 0]], np.float32)
    terms = [
        ItemItem("share:IN.uniform", "uniform", share),
        LowRank("low_pass.uniform", "uniform", right, right),
        Prior("popularity.prior", np.array([1, 2, 3], np.float32)),
        Prior("age.prior", np.array([1, 2, 3], np.float32)),
        ItemItem("walk.uniform", "uniform", share),
    ]
    made = NewItems({"IN": sp.csr_matrix(np.array([[1], [0], [1]], np.float32))}, None, None)
    same, vectors, counts = cold_terms(terms, made)
    assert same.weights.shape == (3, 4)
    np.testing.assert_allclose(vectors.right, [[0, 1], [2, 0], [0, 1], [2, 0]])
    np.testing.assert_allclose(counts.values, [2, 2, 2, 2])


def test_a_new_item_stands_where_its_kind_is_loved(shop):
    users = [f"u{n:02}" for n in range(20)]
    scores = shop.score_new([new(kind) for kind in KINDS], users=users)
    assert scores.shape == (20, 4)
    assert scores.dtype == np.float32
    assert np.mean(scores.argmax(1) == np.arange(20) % 4) > 0.8  # one in four by chance


def test_new_items_can_win_and_do_not_flood_the_list(shop):
    """Four of 44 items are new: among the ten best of a list they take about their share, and some are first."""
    users = [f"u{n:02}" for n in range(40)]
    scores = shop.score_new([new(kind, f"{kind} number {n}") for n, kind in enumerate(KINDS, 40)], users=users)
    tenth = np.array([row[-1].score for row in shop.recommend(users, k=10)])
    share = (scores >= tenth[:, None]).sum(1).mean() / 10
    assert 4 / 44 / 3 < share < 4 / 44 * 3
    first = np.array([row[0].score for row in shop.recommend(users, k=1)])
    assert (scores.max(1) >= first - 1e-4).any()


def test_a_text_alone_is_enough_and_nothing_known_is_no_crash(shop):
    scores = shop.score_new([{"text": "Toys number 99"}, {}, new("Toys"), {"attributes": {}}], users=["u02"])
    assert np.isfinite(scores).all()
    assert scores[0, 0] > scores[0, 1]
    assert shop.score_new([], users=["u02"]).shape == (1, 0)
    brand = shop.score_new([{"attributes": {"IN_CATEGORY": ["Shop > Unheard of"]}}], users=["u02"])
    assert brand[0, 0] <= scores[0, 2]


def test_somebody_never_seen_can_be_asked_about_new_items(shop):
    by_history = shop.score_new([new("Toys"), new("Lamps")], history=["i02", "i06"])
    by_taste = shop.score_new([new("Toys"), new("Lamps")], features={"IN_CATEGORY": ["Shop > Toys"]})
    for scores in (by_history, by_taste):
        assert scores.shape == (1, 2)
        assert scores[0, 0] > scores[0, 1]


@pytest.mark.parametrize(
    ("items", "who", "complaint"),
    [
        ([{}], {}, "either users or a history"),
        ([{}], {"users": ["u01"], "history": ["i01"]}, "either users or a history"),
        ([{"text": 7}], {"users": ["u01"]}, "text is a string, and attributes are relation -> ids"),
        ([{"attributes": {"IN_CATEGORY": "Toys"}}], {"users": ["u01"]}, "text is a string, and attributes are"),
        ([{"attributes": {"IN_CATEGORY": None}}], {"users": ["u01"]}, "text is a string, and attributes are"),
        (["Toys"], {"users": ["u01"]}, "a new item is a dictionary of text and attributes, not 'Toys'"),
        ([{"txet": "x"}], {"users": ["u01"]}, "no 'txet', did you mean 'text'"),
        ([{"attributes": {"IN_CATEGROY": []}}], {"users": ["u01"]}, "did you mean 'IN_CATEGORY'"),
    ],
)
def test_what_cannot_be_scored_is_named(shop, items, who, complaint):
    with pytest.raises(ConfigError, match=complaint):
        shop.score_new(items, **who)


def test_a_shop_that_tells_nothing_of_its_items_says_so(shop):
    bare = Recommender(dataclasses.replace(shop.bundle, model=dataclasses.replace(shop.model, cold=np.empty(0))), None)
    with pytest.raises(ConfigError, match="neither texts nor attributes"):
        bare.score_new([{}], users=["u01"])


def test_behind_the_list_a_new_item_gets_what_known_ones_have_there():
    listed = np.array([[9.0, 6.0, 3.0], [5.0, -np.inf, -np.inf], [-np.inf] * 3], np.float32)
    far = np.array([[4.0, 4.0, -2.0], [0.0, 0.0, -1.0], [0.5, 0.5, 0.5]])
    found = _within(listed, np.array([[0, 2, 4], [0, 1, 9], [0, 1, 2]]), far)
    np.testing.assert_allclose(found, [[9, 3, -2], [5, 0, -1], [0.5, 0.5, 0.5]])
    assert _within(listed, np.array([[3], [1], [0]]), far[:, :1])[0, 0] == 3  # not above what is ahead of it


def test_places_among_known_scores_lie_between_them():
    scores = np.array([[8.0, 4.0, -np.inf], [-np.inf] * 3])
    np.testing.assert_allclose(_at_places(scores, np.array([[0, 0.25, 7], [0, 1, 2]])), [[8, 7, 4], [0, 0, 0]])


def test_no_new_item_is_worse_than_every_known_one(shop):
    """The pool holds 20 of 40 items; a kind that nobody of these users loves lies far behind it."""
    users = [f"u{n:02}" for n in range(40)]
    scores = shop.score_new([*map(new, KINDS), {}], users=users)
    known = shop.score(users, [f"i{n:02}" for n in range(40)])
    assert (scores >= known.min(1)[:, None] - 1e-4).all()
    last = np.array([row[-1].score for row in shop.recommend(users, k=20)])
    assert (scores < last[:, None]).mean() > 0.3  # or nothing here would be told of what lies behind it


def test_of_known_items_that_tie_half_are_ahead():
    known = np.array([[5.0, 3, 3, 3, 1, -np.inf], [0, 0, 0, 0, 0, 0]])
    assert _ahead(known, np.array([[3.0], [0]])).tolist() == [1 + 2, 3]
    assert _ahead(known, np.array([[6.0], [1]])).tolist() == [0, 0]


def test_a_value_of_a_taste_lengthens_a_history_by_one(shop):
    made = shop._newcomer(["i01", "i05"], {"IN_CATEGORY": ["Shop > Toys", "Shop > Mugs"], "IN_PRICE_BAND": []})
    assert np.expm1(made.about_users[0, 0]) == pytest.approx(4, rel=1e-5)
    assert np.expm1(shop._newcomer(["i01", "i05"]).about_users[0, 0]) == pytest.approx(2, rel=1e-5)
    total = made.profiles["uniform"].sum()
    assert total == pytest.approx(2, rel=1e-5)  # the root of four items' worth
    assert made.hidden.sum() == 2


def test_a_taste_is_served_like_a_history(shop):
    liked = shop.recommend_for(features={"IN_CATEGORY": ["Shop > Toys"]}, k=6)
    assert np.mean([int(item.item[1:]) % 4 == 2 for item in liked]) > 0.8
    for item in liked:
        assert sum(item.terms.values()) == pytest.approx(item.score, abs=1e-4)
    why = shop.explain_for([], liked[0].item, features={"IN_CATEGORY": ["Shop > Toys"]})
    assert why.score == pytest.approx(liked[0].score, abs=1e-4)
    both = shop.recommend_for(["i01"], features={"IN_CATEGORY": ["Shop > Toys"]}, k=20)
    assert "i01" not in {item.item for item in both}
    with pytest.raises(UnknownIdError, match="no item has 'Shop > Toy' as IN_CATEGORY, did you mean 'Shop > Toys'"):
        shop.recommend_for(features={"IN_CATEGORY": ["Shop > Toy"]})


def test_only_relations_that_a_taste_names_are_turned(shop):
    vocabulary = Recommender(shop.bundle, None)._vocabulary
    assert len(vocabulary.relations) > 1
    for kind in ("Toys", "Mugs"):
        vocabulary.liked({"IN_CATEGORY": [f"Shop > {kind}"], "IN_PRICE_BAND": []})
        assert set(vocabulary._turned) == {"IN_CATEGORY"}


def test_an_unknown_value_is_not_compared_with_very_many():
    many = Vocabulary((), {"MADE_BY": {f"brand {n}": [n] for n in range(50_000)}})
    with pytest.raises(UnknownIdError, match=r"no item has 'brand x' as MADE_BY$"):
        many.liked({"MADE_BY": ["brand x"]})


def test_more_weight_in_a_profile_is_as_if_it_had_been_there_before_scaling():
    weights = np.array([[1.0, 0.5, 0], [0, 0, 0]], np.float32)
    more = sp.csr_matrix(np.array([[0, 0.5, 2], [0, 1, 0]], np.float32))

    def scaled(rows):
        return rows / np.sqrt(np.maximum(rows.sum(1, keepdims=True), 1e-12))

    found = with_more({"uniform": sp.csr_matrix(scaled(weights)), "newest": sp.csr_matrix(weights)}, more, 0.5)
    np.testing.assert_allclose(found["uniform"].toarray(), scaled(weights + more.toarray()), rtol=1e-6)
    np.testing.assert_allclose(found["newest"].toarray(), weights + 0.5 * more.toarray(), rtol=1e-6)


def test_of_somebody_unknown_the_list_is_what_sells_lately(shop):
    histories, now = shop._histories, shop.model.now
    lately = np.bincount(histories.item[histories.last >= now - 28], minlength=40)
    found = shop.recommend_for(k=5)
    assert [int(item.score) for item in found] == sorted(lately, reverse=True)[:5]
    assert all(item.terms == {"popularity": item.score} for item in found)
    toys = shop.recommend_for(k=3, where="IN_CATEGORY == 'Shop > Toys'")
    assert [int(item.score) for item in toys] == sorted(lately[2::4], reverse=True)[:3]


@pytest.mark.parametrize("days", [0, 1_000])
def test_what_sells_alike_lately_or_not_at_all_is_in_the_order_of_all_sales(shop, days):
    later = dataclasses.replace(shop.model, now=shop.model.now + days)
    made = Recommender(dataclasses.replace(shop.bundle, model=later), None)
    ever = np.bincount(made._histories.item, minlength=40)
    lately = np.bincount(made._histories.item[made._histories.last >= later.now - 28], minlength=40)
    assert lately.any() == (days == 0)
    expected = sorted(range(40), key=lambda row: (-lately[row], -ever[row], row))[:20]
    assert [item.item for item in made.recommend_for(k=20)] == [f"i{row:02}" for row in expected]
