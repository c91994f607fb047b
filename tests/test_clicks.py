"""Labelled pairs: cross-fitting that forgets the pair it asks for, planted taste, the boosted head, the whole path."""

import datetime as dt
import itertools
import shutil
import sqlite3
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from catalograph import Recommender
from catalograph.cli import main
from catalograph.config import SplitSection, load_config
from catalograph.errors import CatalographError, ConfigError
from catalograph.kg.log import InteractionLog, positives
from catalograph.pipeline.evaluation import run_evaluation
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop
from catalograph.scoring import clicks
from catalograph.scoring.baselines import chosen
from catalograph.scoring.boosted import BoostedHead, fit_boosted
from catalograph.scoring.clicks import Pairs, cross_fitted, figures
from catalograph.scoring.context import Context
from catalograph.scoring.evidence import Evidence, histories_of
from catalograph.scoring.families import all_terms
from catalograph.scoring.folds import labelled_cut
from catalograph.scoring.metrics import auc
from catalograph.scoring.model import Ingredients
from catalograph.scoring.profiles import profiles_of
from catalograph.tuning import tune

USERS, ITEMS = 120, 40
TOML = """
[shop]
name = "clicks"
[items]
file = "items.csv"
id = "item"
[[attributes]]
column = "genre"
relation = "IN_GENRE"
label = "Genre"
[interactions]
file = "pairs.csv"
user = "user"
item = "item"
label = "liked"
[split]
method = "column"
column = ["split_a", "split_b"]
valid = "valid"
[gnn]
model = "none"
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Users like items of their genre (user and item numbers alike modulo 4), whatever the items' popularity."""
    folder, random = tmp_path_factory.mktemp("clicks"), np.random.default_rng(0)
    (folder / "items.csv").write_text("item,genre\n" + "".join(f"i{n:02},g{n % 4}\n" for n in range(ITEMS)))
    lines = []
    for user in range(USERS):
        for item in random.choice(ITEMS, 20, replace=False):
            liked = int((user % 4 == item % 4) != (random.random() < 0.03))
            parts = random.choice(["train", "valid", "test"], 2, p=[0.6, 0.2, 0.2])
            lines.append(f"u{user:03},i{item:02},{liked},{parts[0]},{parts[1]}\n")
    (folder / "pairs.csv").write_text("user,item,liked,split_a,split_b\n" + "".join(lines))
    (folder / "shop.toml").write_text(TOML)
    return folder / "shop.toml"


def asked(events=400, seed=0):
    """A labelled log of distinct pairs."""
    random = np.random.default_rng(seed)
    pairs = np.sort(random.choice(USERS * ITEMS, events, replace=False))
    user, item = pairs // ITEMS, pairs % ITEMS
    return InteractionLog(USERS, ITEMS, user, item, label=(user % 4 == item % 4).astype(np.int8))


def ingredients(shop, log):
    return Ingredients(load_config(shop), positives(log), (), None, lambda *_: None, 0)


def test_the_planted_taste_is_found_and_popularity_is_beaten(shop, tmp_path):
    document = run_evaluation(open_workshop(shop, out=tmp_path, device="cpu"), baselines=True)
    rows = {row["name"]: row for row in document["rows"]}
    assert {"auc", "f1", "auc_warm", "f1_warm", "fit_s", "std"} <= set(rows["catalograph"])
    assert rows["catalograph"]["auc"] > 0.8 > rows["popularity"]["auc"] + 0.15
    assert set(rows) == {"catalograph", "popularity", "item-kNN", "RP3beta", "EASE"}
    assert rows["catalograph"]["std"]["auc"] > 0  # two splits


def test_a_baseline_that_one_split_has_no_memory_for_is_left_out_of_all(shop, tmp_path, monkeypatch):
    splits = itertools.count()

    def less_each_time(evidence, asked):
        why = "needs 3.0 GiB, allowed 2.0 GiB" if next(splits) else None
        return [(baseline, why if baseline.name == "EASE" else None) for baseline in asked]

    monkeypatch.setattr(clicks, "applicable", less_each_time)
    (tmp_path / "shop.toml").write_text(TOML + '[evaluation]\nbaselines = ["popularity", "EASE"]\n')
    workshop = open_workshop(tmp_path / "shop.toml", data=shop.parent, out=tmp_path / "build", device="cpu")
    document = run_evaluation(workshop, baselines=True)
    assert [row["name"] for row in document["rows"]] == ["catalograph", "popularity"]
    assert document["left_out"] == {"EASE": "needs 3.0 GiB, allowed 2.0 GiB"}


def test_a_relation_that_leaks_is_told_by_every_report(shop, tmp_path, capsys):
    leaking = TOML + "[relations.IN_GENRE]\nleaks = true\n"
    (tmp_path / "shop.toml").write_text(leaking)
    told = "IN_GENRE was collected with the test part in it (leaks = true)"
    said = []
    workshop = open_workshop(
        tmp_path / "shop.toml", data=shop.parent, out=tmp_path / "build", device="cpu", say=said.append
    )
    (warning,) = rebuild(workshop)["metrics"]["warnings"]
    assert warning.startswith(told)
    assert f"caution: {told}" in "\n".join(said)
    command = ["evaluate", str(tmp_path / "shop.toml"), "--data", str(shop.parent), "--out", str(tmp_path / "build")]
    assert main(command) == 0
    assert f"caution: {told}" in capsys.readouterr().out
    (tmp_path / "shop.toml").write_text(leaking + "use = false\n")
    assert main(command) == 0
    assert "caution" not in capsys.readouterr().out  # the model does not read it


def test_the_command_prints_the_rows(shop, tmp_path, capsys):
    assert main(["evaluate", str(shop), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "auc" in said
    assert "catalograph" in said


def test_a_rebuilt_shop_scores_pairs_and_makes_lists(shop, tmp_path):
    result = rebuild(open_workshop(shop, out=tmp_path, device="cpu"))
    assert set(result["metrics"]["validation"]) == {"auc", "f1", "auc_warm", "f1_warm"}
    made = Recommender.load(tmp_path)
    user, item = (side.ravel() for side in np.indices((USERS, ITEMS)))
    scores, parts = made.score([f"u{n:03}" for n in range(USERS)], [f"i{n:02}" for n in range(ITEMS)], terms=True)
    np.testing.assert_allclose(sum(parts.values()), scores, rtol=1e-5, atol=1e-5)
    new = histories_of(made.bundle.log).matrix().toarray().ravel() == 0
    assert auc(user[new] % 4 == item[new] % 4, scores.ravel()[new]) > 0.8  # log-odds
    listed = made.recommend(["u001"], k=3)[0]
    assert [item.score for item in listed] == sorted((item.score for item in listed), reverse=True)
    np.testing.assert_allclose(
        [item.score for item in listed], made.score(["u001"], [i.item for i in listed])[0], rtol=1e-5
    )
    assert (made.bundle.log.label == 1).all()  # a no is no history


def test_the_terms_of_a_pair_do_not_know_its_answer(shop):
    """Turning one yes into a no changes the terms of other pairs, never its own."""
    log = asked()
    row = int(np.flatnonzero(log.label == 1)[7])
    turned = log.label.copy()
    turned[row] = 0
    one = cross_fitted(ingredients(shop, log), log)
    other = InteractionLog(USERS, ITEMS, log.user, log.item, label=turned)
    two = cross_fitted(ingredients(shop, other), other)
    np.testing.assert_array_equal(one[row], two[row])
    assert not np.array_equal(one, two)


def test_a_pair_asked_twice_does_not_find_its_other_answer(shop):
    """Of a pair that occurs twice both answers are turned: its terms stay what they were."""
    once = asked()
    twice = np.sort(np.append(np.arange(len(once)), np.flatnonzero(once.label == 1)[:20]))
    log = once.where(twice)
    pair = log.user * ITEMS + log.item
    again = np.isin(pair, pair[1:][np.diff(pair) == 0])
    assert again.sum() == 40
    for number in np.unique(pair[again])[:5]:
        here = pair == number
        turned = InteractionLog(USERS, ITEMS, log.user, log.item, label=np.where(here, 0, log.label).astype(np.int8))
        one, two = (cross_fitted(ingredients(shop, found), found) for found in (log, turned))
        np.testing.assert_array_equal(one[here], two[here])


def timed_shop(shop, folder, split, *, flipped=False):
    """The same pairs, each with a day of 2024, and another split; returns shop.toml.

    flipped: the answers from June on are the opposite ones.
    """
    random = np.random.default_rng(1)
    folder.mkdir()
    lines = ["user,item,liked,day"]
    for line in (shop.parent / "pairs.csv").read_text().splitlines()[1:]:
        user, item, liked, *_ = line.split(",")
        month = random.integers(1, 7)
        liked = 1 - int(liked) if flipped and month == 6 else liked
        lines.append(f"{user},{item},{liked},2024-0{month}-10")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    shutil.copy(shop.parent / "items.csv", folder)
    settings = TOML.replace('label = "liked"', 'label = "liked"\ntime = "day"').partition("[split]")[0]
    (folder / "shop.toml").write_text(settings + split + '\n[gnn]\nmodel = "none"\n')
    return folder / "shop.toml"


BY_TIME = '[split]\nmethod = "time"\nat = 2024-06-01\nperiod_days = 31'


def test_a_shop_with_times_has_the_same_terms_in_every_fold(shop, tmp_path):
    toml = timed_shop(shop, tmp_path / "shop", "")
    rebuild(open_workshop(toml, out=tmp_path / "build", device="cpu"))
    made = Recommender.load(tmp_path / "build")
    assert "popularity_28d.prior" in {term.name for term in made.model.terms}
    assert np.diff(made.score(["u001"], ["i02", "i01"])[0]) > 0


@pytest.mark.parametrize("split", [BY_TIME, '[split]\nmethod = "random"'], ids=["time", "random"])
def test_validation_is_cut_out_of_training_where_no_column_says_it(shop, split, tmp_path):
    toml, build = timed_shop(shop, tmp_path / "shop", split), tmp_path / "build"
    validation = rebuild(open_workshop(toml, out=build, device="cpu"))["metrics"]["validation"]
    assert validation["auc"] > 0.8
    document = run_evaluation(open_workshop(toml, out=build, device="cpu"), baselines=True)
    rows = {row["name"]: row for row in document["rows"]}
    assert document["left_out"] == {}
    assert {"item-kNN", "EASE", "recent popularity"} <= set(rows)
    assert rows["catalograph"]["auc"] > rows["popularity"]["auc"] + 0.15
    with sqlite3.connect(tuned(toml, build) / "tuning.sqlite") as record:
        values = [value for (value,) in record.execute("SELECT value FROM trial_values")]
    assert values == [pytest.approx(validation["auc"])]  # trial 0 is the shop as it is


def tuned(toml, build):
    """The build folder of a search for nothing but the figure of the shop as it is."""
    workshop = open_workshop(toml, out=build, device="cpu")
    tune(workshop, toml.read_text(), build.parent / "tuned.toml", minutes=0)
    return build


def test_without_a_split_there_is_something_to_tune_on_too(shop, tmp_path):
    toml, build = timed_shop(shop, tmp_path / "shop", ""), tmp_path / "build"
    assert (tuned(toml, build).parent / "tuned.toml").is_file()


def test_no_choice_looks_at_the_answers_of_the_test_part(shop, tmp_path):
    found = []
    for flipped in (False, True):
        toml = timed_shop(shop, tmp_path / f"shop{flipped}", BY_TIME, flipped=flipped)
        workshop = open_workshop(toml, out=tmp_path / f"build{flipped}", device="cpu")
        validation = rebuild(workshop)["metrics"]["validation"]
        document = run_evaluation(workshop, baselines=True)
        found.append((validation, {row["name"]: row.get("setting") for row in document["rows"]}, document["rows"]))
    assert found[0][:2] == found[1][:2]
    assert found[0][2][0]["auc"] == pytest.approx(1 - found[1][2][0]["auc"])  # they were turned


def test_pairs_that_cannot_be_cut_are_no_validation_and_it_is_said(shop):
    log = asked()
    bare = ingredients(shop, log)
    noes_alone_stay = replace(log, at=86_400_000 * np.where(log.label == 1, 50, 10))
    config = bare.config.model_copy(update={"split": SplitSection(period_days=20)})
    given = replace(bare, config=config, log=positives(noes_alone_stay))
    nothing = log.where(np.zeros(0, np.int64))
    pairs = Pairs(noes_alone_stay, nothing, noes_alone_stay)
    assert clicks.validate_clicks(given, pairs) == {}
    model = SimpleNamespace(report={"fit_s": 0}, now=60.0, head=None, scorable=None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(clicks, "log_odds", lambda model, history, pairs: np.zeros(len(pairs)))
        found = clicks.evaluate_clicks(given, model, pairs, baselines=chosen(["popularity"]))
    assert "training has no two parts with a yes and a no each" in found.left_out["popularity"]


def test_labelled_pairs_are_cut_as_the_test_part_was():
    user, item = np.repeat(np.arange(80), 10), np.tile(np.repeat(np.arange(5), 2), 80)  # each pair twice
    log = InteractionLog(81, 5, np.append(user, 80), np.append(item, 0), position=np.append(np.arange(800) % 10, 0))
    drawn, _ = labelled_cut(log, SplitSection(method="random"))
    pairs = drawn[:-1].reshape(-1, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all()
    assert 0.1 < pairs.mean() < 0.2
    assert not drawn.reshape(-1)[-1]  # a user's only pair
    newest, _ = labelled_cut(log, SplitSection(method="last"))
    assert log.position[newest].tolist() == [9] * 80
    split = SplitSection(method="time", at="1970-03-02", period_days=20)  # day 60
    hidden, before = labelled_cut(replace(log, at=86_400_000 * np.append(np.arange(800) % 10 * 6, 0)), split)
    assert set(log.position[hidden].tolist()) == {7, 8, 9}  # from day 40 on
    assert before.at == split.at - dt.timedelta(days=20)


def test_an_approximate_search_is_refused(tmp_path):
    (tmp_path / "shop.toml").write_text(TOML + '[model]\nsearch = "approximate"\n')
    with pytest.raises(ConfigError, match="'approximate' is not for labelled pairs"):
        load_config(tmp_path / "shop.toml")


def test_terms_of_pairs_are_those_of_the_table():
    log = positives(asked())
    histories = histories_of(log)
    text = np.random.default_rng(0).standard_normal((ITEMS, 6)).astype(np.float32)
    profiles = profiles_of(histories)
    users, items = np.array([3, 3, 0, 59]), np.array([0, 39, 7, 7])
    for term in all_terms(Evidence(log, histories, (), text, None)):
        rows = {term.profile: profiles[term.profile][users]}
        np.testing.assert_allclose(
            term.pairs(rows, items), term.scores(rows)[np.arange(4), items], rtol=1e-4, atol=1e-6, err_msg=term.name
        )


def test_a_boosted_head_adds_up_and_survives_its_arrays():
    random = np.random.default_rng(0)
    values = random.standard_normal((300, 5)).astype(np.float32)
    head = fit_boosted(values, (values[:, 0] * values[:, 1] > 0).astype(int), seed=0)
    pool, nothing = values[:20].reshape(4, 5, 5), Context(np.empty((4, 5, 0)), np.empty((4, 5)))
    np.testing.assert_allclose(head.contributions(pool, nothing).sum(-1), head.scores(pool, nothing), atol=1e-5)
    again = BoostedHead.of_arrays(head.arrays())
    np.testing.assert_array_equal(again.scores(pool, nothing), head.scores(pool, nothing))
    with pytest.raises(ValueError, match="no boosted head"):
        BoostedHead("not a model")
    with pytest.raises(CatalographError, match="same label"):
        fit_boosted(values, np.ones(300), seed=0)


def test_warm_pairs_are_told_apart():
    history = InteractionLog(3, 3, np.array([0, 1, 2]), np.array([0, 0, 1]))
    pairs = InteractionLog(3, 3, np.array([0, 1, 2, 2]), np.array([0, 0, 1, 2]), label=np.array([1, 0, 1, 0], np.int8))
    found = figures(np.array([0.1, 0.2, 0.9, 0.0]), 0.15, pairs, history)
    assert (found["auc"], found["auc_warm"]) == (0.75, 0.0)
    assert found["f1"] == pytest.approx(2 / 4)
