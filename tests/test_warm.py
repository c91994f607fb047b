"""Learning that goes on from the version before, how far it moved, and whether it forgot."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from shops import SHOP, copied, make_shop
from tiny import tiny_bert

from catalograph import Recommender
from catalograph.cli import main
from catalograph.gnn.embed import Weights
from catalograph.kg.log import InteractionLog
from catalograph.kg.snapshot import IdMap
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop
from catalograph.scoring import bundle as bundles
from catalograph.scoring import head as heads
from catalograph.scoring import versions
from catalograph.scoring.context import Context
from catalograph.scoring.drift import drift
from catalograph.scoring.folds import training_folds
from catalograph.scoring.head import Sample, fit_head
from catalograph.scoring.kept import kept
from catalograph.scoring.model import Ingredients, _start_of_all, roles_of, vectors_of_folds
from catalograph.scoring.warm import warm_of


@pytest.fixture
def shop(built, tmp_path):
    """A copy of a built shop: (shop.toml, build folder)."""
    return copied(*built, tmp_path)


def test_a_version_has_not_drifted_from_itself(built):
    bundle, _ = bundles.load(versions.published(built[1]))
    found = drift(bundle, bundle, 10)
    assert found["users"] == 60
    assert (found["overlap"], found["score_shift"]) == (1, 0)
    assert found["rank_correlation"] == pytest.approx(1)
    random = np.random.default_rng(0)
    other = replace(bundle, model=replace(bundle.model, blend=random.permutation(bundle.model.blend)))
    assert drift(bundle, other, 10)["overlap"] < 1


def test_loss_is_told_beyond_noise_alone():
    random = np.random.default_rng(0)
    before = random.random(400)
    assert kept(before, before - 0.05).lost
    assert not kept(before, before + random.normal(0, 0.3, 400)).lost
    assert not kept(before, before + 0.05).lost


def test_a_head_goes_on_from_the_weights_it_is_given(monkeypatch):
    monkeypatch.setattr(heads, "LEAST", 0)
    random = np.random.default_rng(0)
    values = random.normal(size=(30, 8, 3)).astype(np.float32)
    context = Context(random.normal(size=(30, 8, 2)).astype(np.float32), np.abs(values).max(1))
    sample = Sample(values, context, values[..., 1] > 1)
    for kind in ("linear", "gated", "mlps", "ensemble"):
        first = fit_head(kind, sample, seed=0, epochs=20)
        again = fit_head(kind, sample, seed=5, epochs=0, start=first.net)
        np.testing.assert_allclose(again.scores(values, context), first.scores(values, context), rtol=1e-5)


MEASURED = (0.1, 0.3, 0.2)  # NDCG@10 after each of three epochs


def log_of(days):
    """Ten users with an event a day, each of another item."""
    user, day = np.repeat(np.arange(10), days), np.tile(np.arange(days), 10)
    return InteractionLog(10, 100, user, (user + day) % 100, at=day * 86_400_000)


@pytest.mark.parametrize(("seen_days", "warm_starts"), [(5, [True, True]), (15, [True, False]), (30, [False, False])])
def test_a_fold_starts_from_weights_that_have_seen_nothing_it_hides(built, seen_days, warm_starts):
    """Folds of ten days before day 30: the newest sees 20 days, the other one 10."""
    config = open_workshop(built[0], device="cpu").config
    split = config.split.model_copy(update={"method": "none", "period_days": 10})
    bundle, stored = bundles.load(versions.published(built[1]))
    ids = IdMap("User", [f"u{n:02}" for n in range(60)]), IdMap("Item", bundle.items["id"].to_pylist())
    warm = replace(warm_of(bundle, stored, *ids), seen=log_of(seen_days))
    starts = []

    def learn(seen, valid, start):
        starts.append(start)

    given = Ingredients(config, log_of(30), (), None, learn, 0, warm)
    folds = training_folds(given.log, split, 2)
    vectors_of_folds(given, folds, roles_of(folds, 5))
    assert [start is warm.gnn for start in starts[::-1]] == warm_starts  # the oldest fold is learned first


@pytest.mark.parametrize(("method", "goes_on"), [("none", True), ("random", False)])
def test_the_whole_log_starts_as_the_newest_fold_did(built, method, goes_on):
    """From the fold before, which knows less; but draws at random have seen each other's answers and start anew."""
    split = open_workshop(built[0], device="cpu").config.split
    split = split.model_copy(update={"method": method, "period_days": 10, "at": None})
    newest, older = (
        Weights(state={"gates": torch.zeros(n)}, gated=("r",), validation=v) for n, v in ((1, ()), (2, MEASURED))
    )
    given = Ingredients(open_workshop(built[0], device="cpu").config, log_of(30), (), None, None, 0)
    start = _start_of_all(given, training_folds(given.log, split, 2), [newest, older])
    assert start.state == (newest.state if goes_on else {})
    assert start.best_epoch == 2  # of the fold whose users picked it


def test_a_warm_rebuild_goes_on_and_tells_what_it_kept(shop, capsys):
    toml, out = shop
    sales = toml.parent / "sales.csv"
    sales.write_text(sales.read_text() + "u01,i05,2024-03-30T10:00:00,1\nnew,i05,2024-03-30T10:00:00,1\n")
    before = versions.published(out).name
    assert main(["rebuild", str(toml), "--out", str(out), "--warm"]) == 0
    said = capsys.readouterr().err
    assert f"warm      from version {before}" in said
    assert "known users:" in said
    metrics = Recommender.load(out).bundle.metrics
    assert metrics["drift"]["overlap"] > 0.5
    assert metrics["kept"]["users"] > 10
    assert not metrics["kept"]["lost"]
    assert rebuild(open_workshop(toml, out=out, device="cpu", warm=True))["skipped"]


def test_weights_of_other_terms_are_not_gone_on_from(shop):
    toml, out = shop
    toml.write_text(SHOP.replace("pool_size = 20", 'pool_size = 20\noff = ["walk_popular"]'))
    lines = []
    rebuild(open_workshop(toml, out=out, device="cpu", warm=True, say=lines.append))
    assert any("of other terms or features; learning starts anew" in line for line in lines)


def test_weights_that_know_answers_of_the_test_part_are_not_gone_on_from(tmp_path):
    head, _, tail = SHOP.partition("[split]")
    toml = make_shop(
        tmp_path / "shop", toml=head + '[split]\nmethod = "none"\nperiod_days = 20\n[gnn]' + tail.partition("[gnn]")[2]
    )
    out, lines = tmp_path / "build", []
    rebuild(open_workshop(toml, out=out, device="cpu"))
    toml.write_text(SHOP)  # now the newest events are held out
    found = rebuild(open_workshop(toml, out=out, device="cpu", warm=True, say=lines.append))
    assert any("events that are the test part now; learning starts anew" in line for line in lines)
    assert "kept" not in found["metrics"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("dim = 8", "dim = 16"),
        ("dim = 8", "dim = 8\nlayers = 1"),
        ("dim = 8", "dim = 8\nhistory = 3"),
        ("dim = 8", 'dim = 8\nmodel = "test_gnn:Sage"'),
        ("[gnn]", '[encoder]\nmodel = "TINY"\n[gnn]'),
    ],
)
def test_relation_vectors_of_other_shapes_start_anew(shop, before, after, tmp_path):
    toml, out = shop
    toml.write_text(SHOP.replace(before, after).replace("TINY", str(tiny_bert(tmp_path / "bert", ["mugs", "number"]))))
    lines = []
    rebuild(open_workshop(toml, out=out, device="cpu", warm=True, say=lines.append))
    assert any("relation vectors are of other settings of [gnn] or other texts" in line for line in lines)


def test_there_must_be_something_to_go_on_from(tmp_path, capsys):
    toml = make_shop(tmp_path / "shop")
    assert main(["rebuild", str(toml), "--out", str(tmp_path / "build"), "--warm"]) == 2
    assert "nothing is published here" in capsys.readouterr().err
