"""Pools made where a GPU would make them equal those of the CPU's own way."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from catalograph import Recommender
from catalograph.errors import ConfigError
from catalograph.scoring.placed import Placed
from catalograph.scoring.pool import Scorable, fill
from catalograph.scoring.terms import ItemItem, LowRank, Prior

# "cpu:0" is what torch calls the CPU when it is to compute as on a GPU.
DEVICES = ("cpu:0", *(["cuda"] if torch.cuda.is_available() else []))


def sparse(random, *shape):
    return sp.csr_matrix(random.integers(0, 3, shape) * (random.random(shape) < 0.4), dtype=np.float32)


def whole(random, *shape):
    """Small whole numbers, whose sums are exact in any order: ties are ties everywhere."""
    return random.integers(-2, 3, shape).astype(np.float32)


@pytest.mark.parametrize("device", DEVICES)
@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 8), st.booleans(), st.integers(0, 2**32 - 1))
def test_the_pool_of_every_shape_of_term_is_that_of_the_cpu(device, users, items, size, filtered, seed):
    random = np.random.default_rng(seed)
    left, right = whole(random, items, 3), whole(random, items, 3)
    walk = sparse(random, items, items)
    terms = (
        ItemItem("walk.uniform", "uniform", walk),
        ItemItem("walk.decayed", "decayed", walk),
        LowRank("text.uniform", "uniform", left, right),
        LowRank("vectors.decayed", "decayed", right, left),
        Prior("popularity.prior", whole(random, items)),
    )
    here = Scorable(
        terms,
        {"uniform": sparse(random, users, items), "decayed": sparse(random, users, items)},
        sparse(random, users, items),
        random.random(items) < 0.8,
        whole(random, items, 2),
        whole(random, users, 1),
    )
    there = Scorable(*(getattr(here, name) for name in list(vars(here))[:6]), placed=Placed(terms, device))
    only = random.random(items) < 0.6 if filtered else None
    weights, rows = np.array([1.0, 2.0, 0.0, -1.0, 3.0]), np.arange(users)
    expected, found = (fill(scorable, rows, weights, size, only) for scorable in (here, there))
    np.testing.assert_array_equal(found.items, expected.items)
    shown = expected.items >= 0
    np.testing.assert_array_equal(found.values[shown], expected.values[shown])
    np.testing.assert_array_equal(found.context.peak, expected.context.peak)
    np.testing.assert_array_equal(found.context.features, expected.context.features)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("filtered", [False, True])
def test_a_shops_lists_are_the_same_there(built, device, filtered):
    model, log = Recommender.load(built[1]).model, Recommender.load(built[1]).bundle.log
    only = np.arange(len(model.allowed)) % 3 > 0 if filtered else None
    users = np.arange(log.n_users)
    here, there = (made.recommend(made.scorable(log), users, 8, only) for made in (model, model.on(device)))
    np.testing.assert_array_equal(there[0], here[0])
    np.testing.assert_allclose(there[1], here[1], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(there[2], here[2], rtol=1e-3, atol=1e-4)


def test_terms_over_the_same_array_hold_it_once():
    walk = sparse(np.random.default_rng(0), 4, 4)
    placed = Placed([ItemItem(f"walk.{name}", name, walk) for name in ("uniform", "decayed")], "cpu:0")
    assert len(placed._there) == 1


def test_a_device_that_is_not_there_is_refused(built, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no CUDA device"):
        Recommender.load(built[1], device="cuda")
    with pytest.raises(ConfigError, match="say cpu or cuda"):
        Recommender.load(built[1], device="tpu")
