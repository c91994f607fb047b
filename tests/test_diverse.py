"""Lists with less of the same, against a slow reference and known answers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalograph import Recommender
from catalograph.errors import ConfigError
from catalograph.gnn.embed import unit
from catalograph.scoring.diverse import diverse

SCORES = np.array([5.0, 4.0, 3.0, 1.0])
TWINS = unit(np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32))


def test_without_a_wish_the_best_come_first():
    assert diverse(SCORES, 3) == [0, 1, 2]
    assert diverse(SCORES, 9) == [0, 1, 2, 3]
    assert diverse(np.empty(0), 3) == []


def test_a_twin_waits_when_being_alike_costs_more_than_it_is_better():
    assert diverse(SCORES, 2, vectors=TWINS, diversify=0.3) == [0, 2]  # .7 * .75 - .3 < .7 * .5
    assert diverse(SCORES, 2, vectors=TWINS, diversify=0.1) == [0, 1]
    assert diverse(SCORES, 4, vectors=TWINS, diversify=1.0)[:2] == [0, 2]


def test_a_cap_passes_over_what_would_be_one_too_many():
    brands = [frozenset("a"), frozenset("a"), frozenset("ab"), frozenset("b")]
    assert diverse(SCORES, 3, caps=[(brands, 1)]) == [0, 3]
    assert diverse(SCORES, 3, caps=[(brands, 2)]) == [0, 1, 3]
    assert diverse(SCORES, 3, caps=[([frozenset()] * 4, 1)]) == [0, 1, 2]  # nothing is known of their brands


@st.composite
def pools(draw):
    n = draw(st.integers(1, 7))
    scores = np.sort(draw(st.lists(st.integers(-4, 4), min_size=n, max_size=n)))[::-1].astype(float)
    vectors = np.array(draw(st.lists(st.tuples(*[st.integers(-2, 2)] * 2), min_size=n, max_size=n)), np.float32)
    values = [frozenset(draw(st.sets(st.sampled_from("abc"), max_size=2))) for _ in range(n)]
    return scores, unit(vectors), values, draw(st.sampled_from([0.0, 0.3, 0.7, 1.0])), draw(st.integers(1, 3))


def slow(scores, k, vectors, diversify, values, most):
    """Carbonell and Goldstein's formula, word for word, among what the cap still allows."""
    chosen, width = [], np.ptp(scores)
    while len(chosen) < k:
        best = None
        for place in range(len(scores)):
            held = [value for other in chosen for value in values[other]]
            if place in chosen or any(held.count(value) >= most for value in values[place]):
                continue
            relevance = (scores[place] - scores.min()) / width if width else 0.0
            nearest = max((float(vectors[place] @ vectors[other]) for other in chosen), default=0.0)
            worth = (1 - diversify) * relevance - diversify * nearest
            if best is None or worth > best[0] + 1e-6:
                best = worth, place
        if best is None:
            break
        chosen.append(best[1])
    return chosen


@given(pools(), st.integers(1, 8))
def test_the_list_is_that_of_the_formula(pool, k):
    scores, vectors, values, diversify, most = pool
    found = diverse(scores, k, vectors=vectors, diversify=diversify, caps=[(values, most)])
    assert len(found) == len(slow(scores, k, vectors, diversify, values, most)) or diversify > 0
    counts = [value for place in found for value in values[place]]
    assert all(counts.count(value) <= most for value in set(counts))
    assert worths(found, scores, vectors, diversify) == pytest.approx(
        worths(slow(scores, k, vectors, diversify, values, most), scores, vectors, diversify), abs=1e-4
    )


def worths(chosen, scores, vectors, diversify):
    """What each item of a list was worth when it was taken: lists that differ by a tie alone have the same."""
    width = np.ptp(scores)
    return [
        (1 - diversify) * ((scores[place] - scores.min()) / width if width else 0.0)
        - diversify * max((float(vectors[place] @ vectors[other]) for other in chosen[:n]), default=0.0)
        for n, place in enumerate(chosen)
    ]


@pytest.fixture(scope="module")
def shop(built):
    return Recommender.load(built[1])


def test_a_capped_list_is_the_best_that_keeps_the_cap(shop):
    everything = shop.recommend(["u07"], k=20)[0]
    capped = shop.recommend(["u07"], k=6, cap={"IN_CATEGORY": 2})[0]
    kinds = [int(item.item[1:]) % 4 for item in capped]
    assert max(kinds.count(kind) for kind in kinds) == 2
    expected, seen = [], []
    for item in everything:
        if seen.count(int(item.item[1:]) % 4) < 2 and len(expected) < 6:
            expected.append(item)
            seen.append(int(item.item[1:]) % 4)
    assert capped == expected
    with pytest.raises(ConfigError, match=r"IN_CATEGORY is 1\.5; a list can have 1 item"):
        shop.recommend(["u07"], cap={"IN_CATEGORY": 1.5})


def test_what_is_excluded_leaves_its_place_to_the_next(shop):
    everything = [item.item for item in shop.recommend(["u07"], k=8)[0]]
    gone = [everything[0], everything[3], "an item of tomorrow"]
    assert [item.item for item in shop.recommend(["u07"], k=6, exclude=gone)[0]] == [
        item for item in everything if item not in gone
    ]
    with pytest.raises(ConfigError, match=r"exclude is a list of item ids; say exclude=\['i02'\]"):
        shop.recommend(["u07"], exclude="i02")
    history = [item.item for item in shop.recommend_for(["i02"], k=5)]
    assert [item.item for item in shop.recommend_for(["i02"], k=4, exclude=history[:1])] == history[1:]
    assert [item.item for item in shop.similar("i02", k=4, exclude=history[:1])] == history[1:]
    lately = [item.item for item in shop.recommend_for(k=3)]
    assert [item.item for item in shop.recommend_for(k=2, exclude=lately[:1])] == lately[1:]


def test_a_diverse_list_begins_with_the_best_and_is_less_alike(shop):
    plain, varied = (shop.recommend(["u07"], k=6, diversify=d)[0] for d in (0.0, 0.8))
    assert varied[0] == plain[0]
    assert {item.item for item in varied} != {item.item for item in plain}
    scores = {item.item: item.score for item in shop.recommend(["u07"], k=20)[0]}
    assert all(item.score == pytest.approx(scores[item.item], abs=1e-5) for item in varied)

    def alike(listed):
        vectors = shop._alike[shop._items.rows([item.item for item in listed])]
        return (vectors @ vectors.T)[np.triu_indices(6, 1)].mean()

    assert alike(varied) < alike(plain) - 0.05


def test_wishes_go_together_with_a_filter_and_for_anybody(shop):
    where, wish = "IN_CATEGORY in ['Shop > Toys', 'Shop > Mugs']", {"diversify": 0.3, "cap": {"IN_CATEGORY": 1}}
    for found in (
        shop.recommend(["u07"], 5, where, **wish)[0],
        shop.recommend_for(["i02"], 5, where, **wish),
        shop.similar("i02", 5, where, **wish),
        shop.recommend_for([], 5, where, **wish),
    ):
        assert sorted(int(item.item[1:]) % 4 for item in found) == [0, 2]


def test_a_filter_works_inside_the_search(shop):
    """One item in forty passes: it is found however far down it would be, and so are all of a few."""
    ranked = [item.item for item in shop.recommend(["u07"], k=20)[0]]
    owned = {shop.bundle.items["id"][int(row)].as_py() for row in shop.bundle.log.item[shop.bundle.log.user == 7]}
    last = next(f"i{n:02}" for n in range(40) if f"i{n:02}" not in owned | set(ranked))
    price = 1 + 0.5 * int(last[1:])
    assert [item.item for item in shop.recommend(["u07"], k=5, where=f"price == {price}")[0]] == [last]
    few = shop.recommend(["u07"], k=5, where=f"price >= {price}")[0]
    assert len(few) == min(5, len({f"i{n:02}" for n in range(int(last[1:]), 40)} - owned))


@pytest.mark.parametrize(
    ("wish", "complaint"),
    [
        ({"diversify": -0.1}, "diversify is -0.1"),
        ({"cap": {"prise": 1}}, "did you mean 'price'"),
        ({"cap": {"price": 0}}, "can have 1 item"),
    ],
)
def test_wishes_that_cannot_be_are_named(shop, wish, complaint):
    with pytest.raises(ConfigError, match=complaint):
        shop.recommend(["u07"], **wish)
