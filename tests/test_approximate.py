"""An approximate search of the pool: the same lists where it overlooks nothing, a recall that tells where it does."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.sparse as sp
from shops import SHOP, make_shop

from catalograph import Changes, Recommender
from catalograph.errors import MissingExtraError
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop
from catalograph.scoring import approximate
from catalograph.scoring.approximate import DenseIndex, queries_of, share_of
from catalograph.scoring.folded import blended
from catalograph.scoring.terms import LowRank, Prior
from catalograph.scoring.topk import search

pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def approximately(tmp_path_factory):
    """(build folder, what was said) of a shop with an index; its 40 items are all within the index's reach."""
    folder, said = tmp_path_factory.mktemp("approximate"), []
    toml = make_shop(folder / "shop", toml=SHOP + 'search = "approximate"\npool = "learned"\n')
    rebuild(open_workshop(toml, out=folder / "build", device="cpu", say=said.append))
    return folder / "build", said


def test_the_index_looks_as_far_as_it_takes_to_find_the_largest_inner_products(tmp_path):
    """Of vectors of very different lengths that lie anywhere: the worst there is for an index."""
    random = np.random.default_rng(0)
    right = (random.standard_normal((3_000, 12)) * random.lognormal(0, 1, (3_000, 1))).astype(np.float32)
    terms = (LowRank("a.uniform", "uniform", right, right), Prior("b.prior", right[:, 0].copy()))
    weights, rows = np.array([0.5, 2.0]), {"uniform": sp.random(200, 3_000, 0.003, "csr", np.float32, random_state=0)}
    index = DenseIndex.of(terms, weights, rows, 20)
    index.save(tmp_path / "index")
    others = {"uniform": sp.random(200, 3_000, 0.003, "csr", np.float32, random_state=1)}
    queries, vectors = queries_of(terms, weights, others), np.column_stack([0.5 * right, 2 * right[:, 0]])
    np.testing.assert_allclose(queries @ vectors.T, blended(terms, weights, others), rtol=1e-3, atol=1e-3)
    exact, allowed = search(queries, vectors, 20)[0], random.random(3_000) < 0.1
    for found in (index, DenseIndex.opened(tmp_path / "index")):
        assert share_of(exact, found.nearest(queries, 20 * approximate.WIDER)) > 0.97
        near = found.nearest(queries, 20 * approximate.WIDER, allowed)
        assert allowed[near[near >= 0]].all()
        assert share_of(search(queries, vectors, 20, allowed=allowed)[0], near) > 0.9
    assert index.looked_into < 1


@pytest.mark.parametrize("few", [0, 50_000])
@pytest.mark.parametrize("where", [None, "price < 12"])
def test_lists_are_those_of_the_exact_search_where_nothing_is_overlooked(approximately, monkeypatch, few, where):
    monkeypatch.setattr(approximate, "FEW", few)
    shop = Recommender.load(approximately[0])
    exact = Recommender(dataclasses.replace(shop.bundle, model=dataclasses.replace(shop.model, index=None)), None)
    users = [f"u{n:02}" for n in range(20)]
    for one, other in zip(shop.recommend(users, 8, where), exact.recommend(users, 8, where), strict=True):
        assert [r.item for r in one] == [r.item for r in other]
        assert [r.score for r in one] == pytest.approx([r.score for r in other], abs=1e-4)


def test_what_the_index_overlooks_walks_still_reach(approximately, monkeypatch):
    shop = Recommender.load(approximately[0])
    monkeypatch.setattr(approximate, "FEW", 0)
    monkeypatch.setattr(DenseIndex, "nearest", lambda self, queries, k, allowed: np.full((len(queries), k), -1))
    assert all(len(best) == 5 for best in shop.recommend(["u01", "u02"], 5))


def test_the_recall_is_said_and_reported(approximately):
    build, said = approximately
    assert any("cells: 1.0000 of the exact pools of 30 users" in line for line in said)
    place = build / "bundles" / (build / "current").read_text("utf-8").strip()
    metrics = json.loads((place / "metrics.json").read_text("utf-8"))
    assert metrics["model"]["search"] | {"cells": 1} == {"kind": "approximate", "recall": 1.0, "users": 30, "cells": 1}
    assert "Searched approximately: 100.00 %" in (place / "report.html").read_text("utf-8")


def test_an_update_makes_the_index_again(tmp_path):
    toml = make_shop(tmp_path / "shop", toml=SHOP + 'search = "approximate"\npool = "learned"\n')
    rebuild(open_workshop(toml, out=tmp_path / "build", device="cpu"))
    before = Recommender.load(tmp_path / "build")
    new = {"op": "upsert_item", "id": "new", "properties": {"name": "new thing", "price": 7.0}}
    before.update(Changes.of("one more", [new]))
    after = Recommender.load(tmp_path / "build")
    assert after.model.index is not None
    exact = Recommender(dataclasses.replace(after.bundle, model=dataclasses.replace(after.model, index=None)), None)
    found, wanted = (shop.recommend(["u01"], 8)[0] for shop in (after, exact))
    assert [r.item for r in found] == [r.item for r in wanted]


def test_without_the_extra_it_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(approximate, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'catalograph\[approximate\]'"):
        DenseIndex.opened(tmp_path / "index")
