"""Fine-tuning: where pairs come from and where not, what it brings together, when it is done again, how it resumes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shops import SHOP, make_shop
from tiny import tiny_bert

from catalograph import Recommender
from catalograph.config import EncoderSection, FinetuneSection, SplitSection, load_config
from catalograph.encoders import finetune, pairs, teacher, training, ways, weights
from catalograph.encoders.drift import ALIKE, UNLIKE
from catalograph.encoders.finetune import Check, Lessons, taken, tune
from catalograph.encoders.pairs import Neighbourhood, TextPairs, noised, of_baskets, of_queries, of_users
from catalograph.encoders.teacher import Tastes
from catalograph.encoders.teacher import taught as teach
from catalograph.encoders.transformer import encode
from catalograph.errors import CatalographError, ConfigError, MissingExtraError
from catalograph.kg.log import InteractionLog
from catalograph.loaders.load import load_catalogue
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop
from catalograph.pipeline.world import build_world
from catalograph.scoring.folds import in_no_fold, training_folds

GROUPS, WORDS, ITEMS = 4, 6, 48  # items of a group share customers, and each has two of the group's six words


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """(encoder folder, texts, group): no two words of a group are alike to the encoder before it is tuned."""
    random = np.random.default_rng(0)
    group = np.arange(ITEMS) % GROUPS
    texts = [" ".join(f"g{g}w{w}" for w in random.choice(WORDS, 2, replace=False)) for g in group]
    words = [f"g{g}w{w}" for g in range(GROUPS) for w in range(WORDS)]
    return tiny_bert(tmp_path_factory.mktemp("tiny"), words), texts, group


def log_of(users, items, n_items=ITEMS, **columns):
    return InteractionLog(int(max(users)) + 1, n_items, np.array(users), np.array(items), **columns)


def planted_lessons(texts, group, taught):
    """Pairs of users who each love one group, from the items `taught` alone."""
    random = np.random.default_rng(1)
    users = np.repeat(np.arange(60), 5)
    items = np.array([random.choice(np.flatnonzero((group == u % GROUPS) & taught)) for u in users])
    found = of_users(log_of(users, items, position=np.arange(len(users))), most=2_000, seed=0)
    return Lessons(texts, {"users": found}, {})


def alike(vectors, texts, group):
    """bool [item]: is the nearest of the items that share no word with it of its group?"""
    scores = vectors @ vectors.T
    words = [set(text.split()) for text in texts]
    scores[[[bool(one & other) for other in words] for one in words]] = -2
    return group[scores.argmax(1)] == group


def planted_check(texts, group):
    """A check that looks at the first half of the items alone."""
    return Check(texts[:24], lambda vectors: float(alike(vectors, texts[:24], group[:24]).mean()), "half")


def section_of(folder, **settings):
    quick = {"way": "full", "steps": 24, "batch_size": 16, "learning_rate": 3e-3, "checks": 3, "patience": 9}
    return EncoderSection(model=str(folder), finetune=FinetuneSection(**(quick | settings)))


@pytest.fixture
def taught(planted, tmp_path):
    """A call of `tune` on the planted items, with other settings as wished."""
    folder, texts, group = planted

    def call(place=tmp_path / "encoder", seed=0, **settings):
        lessons = planted_lessons(texts, group, np.arange(ITEMS) < 36)
        return tune(lessons, section_of(folder, **settings), planted_check(texts, group), folder=place, seed=seed)

    return call


def test_neighbours_in_a_history_are_pairs_and_nobody_else():
    log = log_of([0, 0, 0, 1, 1], [3, 5, 7, 9, 11], position=np.array([0, 1, 2, 0, 1]))
    found = of_users(log, most=99, seed=0)
    assert {frozenset(pair) for pair in zip(found.anchor, found.positive, strict=True)} == {
        frozenset({3, 5}), frozenset({5, 7}), frozenset({3, 7}), frozenset({9, 11}),
    }  # fmt: skip
    long = of_users(log_of([0] * 20, range(20), position=np.arange(20)), most=999, seed=0)
    assert np.abs(long.anchor - long.positive).max() == pairs.REACH


def test_nearer_events_are_drawn_more_often():
    log = log_of(np.repeat(np.arange(400), 6), np.tile(np.arange(6), 400), position=np.tile(np.arange(6), 400))
    found = of_users(log, most=1_000, seed=0)
    gaps = np.bincount(np.abs(found.anchor - found.positive), minlength=6)[1:]
    offered = np.array([5, 4, 3, 2, 1])
    assert (np.diff(gaps / offered) < 0).all()


def test_baskets_keep_to_themselves_and_need_to_be_there():
    log = log_of([0] * 6, range(6), basket=np.array([0, 0, 0, 1, 1, 2]), position=np.arange(6))
    found = of_baskets(log, most=99, seed=0)
    assert all((a < 3) == (b < 3) and 5 not in (a, b) for a, b in zip(found.anchor, found.positive, strict=True))
    assert len(found) == 4
    assert not len(of_baskets(log_of([0, 0], [1, 2]), most=9, seed=0))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=60), st.integers(0, 20))
def test_pairs_are_capped_seeded_and_of_two_items_of_one_user(events, most):
    users, items = (np.array(column) for column in zip(*sorted(events), strict=True))
    log = log_of(users, items, 10)
    found, again = (of_users(log, most=most, seed=3) for _ in range(2))
    assert len(found) <= most
    assert np.array_equal(found.anchor, again.anchor)
    assert np.array_equal(found.positive, again.positive)
    owned = {user: set(items[users == user]) for user in users}
    for pair in zip(found.anchor, found.positive, strict=True):
        assert pair[0] != pair[1]
        assert any(set(pair) <= own for own in owned.values())


def test_labelled_no_is_no_pair():
    log = log_of([0, 0, 0], [1, 2, 3], label=np.array([1, 0, 1], np.int8))
    found = of_users(log, most=9, seed=0)
    assert set(zip(found.anchor, found.positive, strict=True)) <= {(1, 3), (3, 1)}


def planted_tastes(group, liked):
    """Tastes of users who each love one group, from the items `liked` alone, texts telling nothing."""
    random = np.random.default_rng(1)
    users = np.repeat(np.arange(60), 5)
    items = np.array([random.choice(np.flatnonzero((group == u % GROUPS) & liked)) for u in users])
    nothing = random.normal(size=(ITEMS, 8)).astype(np.float32)
    nothing /= np.linalg.norm(nothing, axis=1, keepdims=True)
    return Tastes(sp.csr_matrix((np.ones(len(users)), (users, items)), shape=(60, ITEMS)), lambda: nothing)


def test_the_teacher_hears_tastes_and_passes_them_on_by_words():
    group, liked = np.arange(ITEMS) % GROUPS, np.arange(ITEMS) < 36
    words = [[GROUPS * (item // GROUPS % WORDS) + item % GROUPS] for item in range(ITEMS)]  # six a group
    tastes = planted_tastes(group, liked)
    found = teach(words, tastes.text(), tastes.histories, seed=0)
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    likeness = found @ found.T
    same, apart = (group[:, None] == group) & ~np.eye(ITEMS, dtype=bool), group[:, None] != group
    both = liked & liked[:, None]
    assert likeness[same & both].mean() > likeness[apart & both].mean() + 0.2
    new = ~liked[:, None] & liked  # nobody took them, their words tell
    assert likeness[same & new].mean() > likeness[apart & new].mean() + 0.1
    np.testing.assert_array_equal(found, teach(words, tastes.text(), tastes.histories, seed=0))


def test_a_teacher_of_a_large_catalogue_looks_at_some_items_at_a_time(monkeypatch):
    monkeypatch.setattr(teacher, "CANDIDATES", 20)
    group = np.arange(ITEMS) % GROUPS
    tastes = planted_tastes(group, np.ones(ITEMS, bool))
    found = teach([[item] for item in range(ITEMS)], tastes.text(), tastes.histories, seed=0)
    likeness = found @ found.T
    same = (group[:, None] == group) & ~np.eye(ITEMS, dtype=bool)
    assert likeness[same].mean() > likeness[group[:, None] != group].mean() + 0.2


def with_untaken_by_sorting(vectors, text, taken):
    """What teacher._with_untaken does, an item at a time."""
    found = vectors.copy()
    for item in np.setdiff1d(np.arange(len(text)), taken):
        cosine = text[taken] @ text[item]
        near = np.argsort(-cosine, kind="stable")[: teacher.NEAREST]
        drawn = np.maximum(cosine[near], 0) ** 8 @ vectors[taken[near]]
        both = teacher.OWN * vectors[item] + drawn / max(np.linalg.norm(drawn), 1e-12)
        found[item] = both / max(np.linalg.norm(both), 1e-12)
    return found


@pytest.mark.parametrize(("taken", "cells"), [(30, 2**24), (30, 100), (30, 1), (2, 2**24)])
def test_items_nobody_took_look_at_few_taken_ones_at_a_time(taken, cells, monkeypatch):
    random = np.random.default_rng(0)
    text = np.eye(8, dtype=np.float32)[random.integers(0, 8, 90)]  # many are equally near
    vectors = random.normal(size=(90, 8)).astype(np.float32)
    taken = np.sort(random.choice(90, taken, replace=False))
    held, largest = [], teacher._largest
    monkeypatch.setattr(teacher, "CELLS", cells)
    monkeypatch.setattr(teacher, "_largest", lambda values, count: held.append(values.size) or largest(values, count))
    found = teacher._with_untaken(vectors, text, taken)
    np.testing.assert_allclose(found, with_untaken_by_sorting(vectors, text, taken), atol=1e-6)
    assert max(held) <= max(cells, len(taken))


def test_nobody_with_two_items_leaves_the_texts_as_they_are():
    text = np.eye(4, dtype=np.float32)
    assert teach([[0]] * 4, text, sp.csr_matrix(np.eye(3, 4)), seed=0) is text


def test_an_encoder_becomes_like_its_teacher_for_unseen_items_too(planted, tmp_path):
    folder, texts, group = planted
    liked = np.arange(ITEMS) < 36
    tastes = Tastes(planted_tastes(group, liked).histories, lambda: encode(texts, section_of(folder), cache=None))
    place = tune(
        Lessons(texts, {}, {}, tastes), section_of(folder, steps=90), planted_check(texts, group), folder=tmp_path
    )
    after = encode(texts, section_of(place), cache=None)
    assert alike(after, texts, group)[liked].mean() > 0.9
    assert alike(after, texts, group)[~liked].mean() > 0.9


def test_every_item_is_taught_once_before_any_twice():
    tastes = planted_tastes(np.arange(ITEMS) % GROUPS, np.ones(ITEMS, bool))
    found = Lessons([*["text"] * (ITEMS - 1), " "], {}, {}, tastes).columns(100, 0)["tastes"]
    times = np.bincount(found["label"], minlength=ITEMS)
    assert len(found["anchor"]) == 100
    assert times[-1] == 0
    assert set(times[:-1]) == {2, 3}


def test_a_few_pairs_are_a_fair_share_beside_tastes_and_change_nothing_of_those():
    tastes = planted_tastes(np.arange(ITEMS) % GROUPS, np.ones(ITEMS, bool))
    texts = [f"text {n}" for n in range(ITEMS)]
    one, two = np.arange(7), np.arange(3)
    few = {"queries": TextPairs(one, one + 9, one / 7), "text": TextPairs(two, two + 20)}
    alone, found = (Lessons(texts, pairs, {}, tastes).columns(1_000, 0) for pairs in ({}, few))
    assert found["tastes"] == alone["tastes"]
    assert {kind: len(columns["anchor"]) for kind, columns in found.items()} == {
        "queries": 175,
        "text": 75,
        "tastes": 1_000,
    }
    told = set(zip(*found["queries"].values(), strict=True))
    assert told == {(f"text {n}", f"text {n + 9}", n / 7) for n in range(7)}
    assert len(Lessons(texts, few, {}).columns(1_000, 0)["queries"]["anchor"]) == 7
    enough = Lessons(texts, few, {}, tastes).columns(40, 0)
    assert {kind: len(columns["anchor"]) for kind, columns in enough.items()} == {"queries": 7, "text": 3, "tastes": 40}


def test_equal_queries_are_one_text():
    texts, found = of_queries(["red mug", "lamp", "red mug"], np.array([4, 5, 6]), first_row=100)
    assert texts == ["lamp", "red mug"]
    assert found.anchor.tolist() == [101, 100, 101]
    assert found.positive.tolist() == [4, 5, 6]


def test_hard_negatives_are_alike_and_never_taken_together():
    random, n_items = np.random.default_rng(0), 120
    group = np.arange(n_items) % GROUPS
    vectors = np.eye(GROUPS, dtype=np.float32)[group]
    users, items = np.repeat(np.arange(30), 3), random.integers(0, n_items, 90)
    log = log_of(users, items, n_items)
    around = Neighbourhood.of(log, vectors, [sp.csr_matrix(vectors)])
    anchor = np.repeat(np.arange(n_items), 20)
    found = around.negatives(anchor, seed=0)
    together = {(a, b) for user in range(30) for a in items[users == user] for b in items[users == user]}
    assert not together & set(zip(anchor.tolist(), found.tolist(), strict=True))
    assert (group[found] == group[anchor]).mean() > 0.95
    assert (found != anchor).all()
    assert (group[Neighbourhood.of(log, vectors, []).negatives(anchor, seed=0)] == group[anchor]).mean() > 0.95


def test_where_everything_was_taken_together_there_is_no_negative():
    log = log_of([0] * 5, range(5), 6)  # nobody took item 5
    around = Neighbourhood.of(log, np.eye(6, dtype=np.float32), [])
    found = around.negatives(np.arange(5).repeat(40), seed=0)
    assert set(found) <= {5, -1}
    whole = Neighbourhood.of(log_of([0] * 6, range(6), 6), np.eye(6, dtype=np.float32), [])
    assert set(whole.negatives(np.arange(6), seed=0)) == {-1}


def test_a_negative_that_reads_like_its_pair_or_is_missing_teaches_nothing():
    texts = ["mug", "cup", "lamp", "mug", "cup"]
    found = TextPairs(np.zeros(4, np.int64), np.ones(4, np.int64))
    columns = Lessons(texts, {"users": found}, {"users": np.array([3, 4, 2, -1])}).columns(9, 0)
    assert columns == {"users": {"anchor": ["mug"], "positive": ["cup"], "negative": ["lamp"]}}


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=80), st.integers(0, 5))
def test_noise_keeps_at_least_a_word(text, seed):
    (found,) = noised([text], seed=seed)
    assert bool(found.split()) == bool(text.split())
    assert len(found.split()) <= len(text.split())
    assert noised([text], seed=seed) == [found]


def test_noise_reaches_scripts_that_put_no_blanks_between_words():
    texts = ["赤いマグカップ", "陶器の花瓶", "แก้วกาแฟเซรามิก", "ｶｯﾌﾟｾｯﾄ青", "不锈钢保温杯"] * 40
    found = noised(texts, seed=0)
    assert sum(one != other for one, other in zip(texts, found, strict=True)) > len(texts) / 2
    lost = [1 - len(other) / len(one) for one, other in zip(texts, found, strict=True)]
    assert 0.15 < np.mean(lost) < 0.25


def test_noise_of_words_between_blanks_is_of_whole_words():
    assert noised(["red retrospot mug", "белая чашка", "머그컵 빨강 세트"], seed=3) == [
        "retrospot mmug",
        "белая",
        "빨강 세트",
    ]


def every_fold(log, split):
    return training_folds(log, split, 2), log.where(in_no_fold(log, split, 2))


@pytest.mark.parametrize("method", ["random", "last", "time"])
def test_what_is_before_the_folds_is_held_out_by_none(method):
    random = np.random.default_rng(0)
    users = np.sort(random.integers(0, 30, 400))
    at = 86_400_000 * random.integers(0, 100, 400)
    order = np.lexsort((at, users))
    when = {} if method == "random" else {"at": at[order]} if method == "time" else {"position": np.arange(400)}
    log = log_of(users, random.integers(0, ITEMS, 400), **when)
    moment = {"at": "1970-04-11"} if method == "time" else {}
    split = SplitSection(method=method, period_days=20, **moment)
    folds, known = every_fold(log, split)
    events = set(zip(known.user.tolist(), known.item.tolist(), strict=True))
    assert len(folds) == 2
    assert events
    for fold in folds:
        assert not events & set(zip(*(axis.tolist() for axis in fold.held_out.nonzero()), strict=True))


def test_texts_that_share_customers_come_together_even_unseen_ones(planted, taught):
    folder, texts, group = planted
    before = encode(texts, section_of(folder), cache=None)
    after = encode(texts, section_of(taught(steps=60)), cache=None)
    unseen = np.arange(ITEMS) >= 36  # no pair had them; their words were taught by others
    assert alike(before, texts, group).mean() < 0.5
    assert alike(after, texts, group)[~unseen].mean() > 0.9
    assert alike(after, texts, group)[unseen].mean() > 0.9


@pytest.mark.parametrize("way", ["lora", "adalora", "adapter"])
def test_small_ways_train_little_and_leave_a_plain_model(taught, planted, way):
    place = taught(way=way, learning_rate=0.02, rank=4)
    report = json.loads(place.with_suffix(".json").read_text())
    assert (
        0
        < report["trained_parameters"]
        < sum(p.numel() for p in torch.nn.ModuleList([_model(planted[0])]).parameters())
    )
    assert not list(place.glob("adapter*"))
    assert encode(planted[1][:2], section_of(place), cache=None).shape == (2, 32)
    assert weights.resolve(str(place)).digest != weights.resolve(str(planted[0])).digest


def test_a_way_that_does_not_fit_the_encoder_is_told_in_a_line(planted, monkeypatch):
    def unknown(*_):
        raise ValueError("Please specify `target_modules`")

    monkeypatch.setattr("peft.get_peft_model", unknown)
    section = section_of(planted[0], way="adapter")
    model = finetune.load_model(weights.resolve(section.model), section, "cpu")
    with pytest.raises(ConfigError, match="'adapter' does not fit this encoder"):
        ways.prepare(model, section.finetune)


def _model(folder):
    from transformers import AutoModel  # noqa: PLC0415

    return AutoModel.from_pretrained(folder)


def test_only_the_last_layers_move(taught, planted):
    before, after = _model(planted[0]).state_dict(), _model(taught(layers=1, steps=6)).state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("encoder.layer.1.") for name in moved)
    with pytest.raises(ConfigError, match="the model has 2 layers"):
        taught(layers=3)


def test_equal_inputs_are_tuned_once_and_equal_weights_have_one_digest(taught, tmp_path, monkeypatch):
    first, other = taught(steps=6), taught(place=tmp_path / "elsewhere", steps=6)
    assert weights.resolve(str(first)).digest == weights.resolve(str(other)).digest
    assert sorted(place.name for place in first.parent.glob("*.part")) == []
    monkeypatch.setattr(training, "train", lambda *_, **__: pytest.fail("tuned again"))
    assert taught(steps=6) == first


@pytest.mark.parametrize("change", ["seed", "setting", "text", "pairs", "check", "weights"])
def test_what_decides_the_weights_decides_the_name(planted, change, tmp_path):
    folder, texts, group = planted
    lessons, check = planted_lessons(texts, group, np.ones(ITEMS, bool)), planted_check(texts, group)
    name = finetune._name(lessons, section_of(folder), check, 0)
    changed = {
        "seed": lambda: (lessons, section_of(folder), check, 1),
        "setting": lambda: (lessons, section_of(folder, dropout=0.1), check, 0),
        "text": lambda: (Lessons([*texts[:-1], "new"], lessons.pairs, {}), section_of(folder), check, 0),
        "pairs": lambda: (
            Lessons(texts, {"users": lessons.pairs["users"].drawn(50, 0)}, {}),
            section_of(folder),
            check,
            0,
        ),
        "check": lambda: (lessons, section_of(folder), Check(texts, check.score, "other"), 0),
        "weights": lambda: (lessons, section_of(tiny_bert(tmp_path, ["other"])), check, 0),
    }
    assert finetune._name(*changed[change]()) != name
    assert finetune._name(lessons, section_of(folder), check, 0) == name


def test_an_encoder_that_got_worse_stays_as_it_was(planted, tmp_path):
    folder, texts, group = planted
    calls = []
    spoiled = Check(texts, lambda _: len(calls) if calls.append(0) is None else 0, "best as it was, asked last")
    told = []
    lessons = planted_lessons(texts, group, np.ones(ITEMS, bool))
    place = tune(lessons, section_of(folder, steps=6), spoiled, folder=tmp_path, say=told.append)
    np.testing.assert_allclose(
        encode(texts, section_of(place), cache=None), encode(texts, section_of(folder), cache=None), atol=1e-6
    )
    assert "stays as it was" in told[0]
    assert taken(place, section_of(folder)) == section_of(folder)  # and its vectors of before still count


def test_several_runs_are_averaged(taught):
    one, two = (_model(taught(steps=4, seed=seed)).state_dict() for seed in (0, 1))
    both = _model(taught(steps=4, runs=2)).state_dict()
    name = "encoder.layer.0.output.dense.weight"
    torch.testing.assert_close(both[name], (one[name] + two[name]) / 2)


def test_batches_larger_than_memory_learn_the_same(taught, planted):
    name = "encoder.layer.0.output.dense.weight"
    start = _model(planted[0]).state_dict()[name]
    whole, cached = (_model(taught(steps=4, mini_batch=size)).state_dict()[name] for size in (0, 4))
    assert (whole - cached).abs().mean() < 0.1 * (whole - start).abs().mean()


def test_hard_negatives_and_several_kinds_are_taught_together(planted, tmp_path):
    folder, texts, group = planted
    lessons = planted_lessons(texts, group, np.ones(ITEMS, bool))
    found = lessons.pairs["users"].drawn(60, 0)
    away = (found.anchor + 1) % ITEMS
    names = [f"g{g}w0" for g in range(GROUPS)]
    facts = TextPairs(np.arange(ITEMS), ITEMS + group)
    both = Lessons(
        [*texts, *names, ""],
        {"users": found, "attributes": facts, "none": TextPairs(facts.anchor, np.full(ITEMS, ITEMS + 4))},
        {"users": away},
    )
    assert set(both.columns(16, 0)) == {"users", "attributes"}
    assert set(both.columns(16, 0)["users"]) == {"anchor", "positive", "negative"}
    place = tune(both, section_of(folder, steps=8), planted_check(texts, group), folder=tmp_path)
    assert json.loads(place.with_suffix(".json").read_text())["lessons"].keys() == {"users", "attributes"}


def test_judged_pairs_are_put_in_the_order_of_their_grades(planted, tmp_path):
    folder, texts, group = planted
    random = np.random.default_rng(0)
    one, other = random.integers(0, ITEMS, (2, 400))
    grade = np.where(group[one] == group[other], 3.0, 1.0)
    lessons = Lessons(texts, {"queries": TextPairs(one, other, grade)}, {})
    place = tune(lessons, section_of(folder, steps=40), planted_check(texts, group), folder=tmp_path)
    vectors = encode(texts, section_of(place), cache=None)
    cosine = (vectors[one] * vectors[other]).sum(1)[one != other]
    alike_, apart = (cosine[grade[one != other] == value] for value in (3.0, 1.0))
    assert np.median(alike_) > np.quantile(apart, 0.9)


def test_scalars_are_logged_and_stdout_stays_clean(planted, tmp_path, capfd):
    folder, texts, group = planted
    lessons = planted_lessons(texts, group, np.ones(ITEMS, bool))
    tune(lessons, section_of(folder, steps=12), planted_check(texts, group), folder=tmp_path, progress=True)
    said = capfd.readouterr()
    assert said.out == ""
    assert "Hashing" not in said.err  # a library's bar, beside our own
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415

    (run,) = (tmp_path / "tensorboard").iterdir()
    events = EventAccumulator(str(run))
    events.Reload()
    assert {"train/loss", "eval/ndcg@10", "train/learning_rate"} <= set(events.Tags()["scalars"])


def test_a_run_in_a_file_tells_how_far_it_is(planted, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(training, "TELL_S", -1)
    folder, texts, group = planted
    lessons = planted_lessons(texts, group, np.ones(ITEMS, bool))
    tune(lessons, section_of(folder, steps=4), planted_check(texts, group), folder=tmp_path, progress=True)
    told = re.findall(r"^ +tune: step (\d) of 4, about \d+ min left$", capfd.readouterr().err, re.MULTILINE)
    assert told == ["1", "2", "3"]


def test_batches_by_length_are_of_neighbours_and_have_every_row_once():
    length, chunk = np.random.default_rng(0).permutation(200), 8 * training.CHUNK
    texts = ["x" * (300 - n) + " y" * n for n in length]  # the more words, the fewer letters
    rows = datasets.Dataset.from_dict({"anchor": texts, "label": list(range(200))})
    reader = SimpleNamespace(max_seq_length=500, tokenizer=lambda some, **_: {"input_ids": map(str.split, some)})
    sampler = training._batches(rows, model=reader, batch_size=8, drop_last=False, seed=0)
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    assert len(batches) == len(sampler) == 25
    for first in (0, chunk):  # CHUNK batches are sorted together: none of them reaches into the lengths of another
        lengths = sorted(sorted(length[batch]) for batch in batches if first <= batch[0] < first + chunk)
        assert [n for batch in lengths for n in batch] == sorted(length[first : first + chunk])
    sampler.set_epoch(1)
    assert list(sampler) != batches


def test_nothing_to_learn_from_is_one_line(planted, tmp_path):
    folder, texts, group = planted
    nothing = Lessons(texts, {"users": TextPairs(np.empty(0, np.int64), np.empty(0, np.int64))}, {})
    with pytest.raises(CatalographError, match="no two texts to learn from"):
        tune(nothing, section_of(folder), planted_check(texts, group), folder=tmp_path)


def test_a_missing_library_names_the_extra(taught, monkeypatch):
    monkeypatch.setattr(finetune, "find_spec", lambda name: None if name == "peft" else object())
    with pytest.raises(MissingExtraError, match=r"needs peft: pip install 'catalograph\[finetune\]'"):
        taught()


def test_general_sentences_are_all_different():
    texts = [text for pair in ALIKE for text in pair]
    assert len(set(texts)) == len(texts)
    assert not {*ALIKE} & {*UNLIKE}


TUNED_ELSEWHERE = """
import sys
sys.path[:0] = sys.argv[1:2]
import numpy as np
import torch
import test_finetune as t
torch.set_num_threads(1)
texts = open(sys.argv[3], encoding="utf-8").read().split("\\n")
group = np.arange(t.ITEMS) % t.GROUPS
lessons = t.planted_lessons(texts, group, np.ones(t.ITEMS, bool))
section = t.section_of(sys.argv[2], **t.LONG | {"way": sys.argv[5]})
t.tune(lessons, section, t.planted_check(texts, group), folder=t.Path(sys.argv[4]))
"""
LONG = {"steps": 60, "checks": 30, "patience": 99, "dropout": 0.1, "rank": 4}


def steps_saved(folder):
    return [training._step(found.parent) for found in folder.glob("run-0/checkpoint-*/whole")]


@pytest.mark.parametrize(
    ("way", "after"), [("lora", 1), ("adalora", 44)]
)  # adalora: its ranks are final, and must stay
def test_killed_it_resumes_to_the_same_weights(planted, tmp_path, way, after):
    folder, texts, group = planted
    section = section_of(folder, **LONG | {"way": way})
    (tmp_path / "texts").write_text("\n".join(texts), encoding="utf-8")
    place = tmp_path / "encoder"
    command = [
        sys.executable,
        "-c",
        TUNED_ELSEWHERE,
        str(Path(__file__).parent),
        str(folder),
        str(tmp_path / "texts"),
        str(place),
        way,
    ]
    running = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    while running.poll() is None and not any(
        max(steps_saved(part), default=0) >= after for part in place.glob("*.part")
    ):
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    _, error = running.communicate()
    assert running.returncode == -signal.SIGKILL, error.decode()
    (part,) = place.glob("*.part")
    assert after <= max(steps_saved(part)) < LONG["steps"]
    torn = part / "run-0" / f"checkpoint-{LONG['steps']}"  # as a kill in the middle of writing leaves it
    torn.mkdir()
    lessons = planted_lessons(texts, group, np.ones(ITEMS, bool))
    resumed = tune(lessons, section, planted_check(texts, group), folder=place)
    whole = tune(lessons, section, planted_check(texts, group), folder=tmp_path / "at-once")
    assert resumed.name == whole.name
    assert weights.resolve(str(resumed)).digest == weights.resolve(str(whole)).digest
    assert not torn.exists()


def test_patience_ends_a_run_at_the_best_check_and_so_does_a_run_that_was_killed_after_it(planted, tmp_path):
    folder, texts, group = planted
    section = section_of(folder, steps=60, checks=6, patience=2)
    columns = planted_lessons(texts, group, np.ones(ITEMS, bool)).columns(100, 0)
    values, met = iter([0.5, 0.6, 0.4, 0.3]), []

    def trained():
        model, _ = finetune._fresh(section, "cpu")

        def check():
            met.append(vectors(model))
            return next(values)

        place, quiet = {"folder": tmp_path, "logs": tmp_path / "logs"}, {"seed": 0, "progress": False}
        reached = training.train(model, columns, None, section.finetune, check=check, device="cpu", **place, **quiet)
        return reached, vectors(model)

    def vectors(model):
        return model.eval().encode(texts)

    reached, after = trained()
    assert reached == [0.5, 0.6, 0.4, 0.3]
    np.testing.assert_allclose(after, met[1], atol=1e-6)
    assert np.abs(after - met[3]).max() > 1e-3
    again, same = trained()  # from the last checkpoint: its log says that it is over
    assert again == reached
    np.testing.assert_allclose(same, after, atol=1e-6)


def test_a_run_ends_at_its_last_step_whatever_the_patience(planted, tmp_path):
    folder, texts, group = planted
    lessons = planted_lessons(texts, group, np.ones(ITEMS, bool))
    columns = lessons.columns(2_000, 0)  # more batches than steps
    section = section_of(folder, steps=6, checks=3, patience=99)
    model, _ = finetune._fresh(section, "cpu")
    told = {"device": "cpu", "seed": 0, "progress": False, "folder": tmp_path, "logs": tmp_path / "logs"}
    assert len(training.train(model, columns, None, section.finetune, check=lambda: 0.5, **told)) == 3
    assert max(training._step(place) for place in tmp_path.glob("checkpoint-*")) == 6


def test_adalora_keeps_its_sums_in_a_checkpoint(planted):
    section = section_of(planted[0], way="adalora", rank=2, steps=10)
    one, other = (finetune._fresh(section, "cpu")[0] for _ in range(2))
    for model in (one, other):
        ways.prepare(model, section.finetune)
    for step in range(1, 6):
        one(one.preprocess(["g0w0 g1w1"]))["sentence_embedding"].square().sum().backward()
        ways.after_step(one, section.finetune, step)
    held = ways.memory(one, section.finetune)
    assert {key.split("/")[0] for key in held} == set(ways.SUMS)  # ranks are not final yet
    ways.remember(other, section.finetune, held)
    torch.testing.assert_close(ways.memory(other, section.finetune), held)
    ways.after_step(one, section.finetune, 6)
    other.load_state_dict(one.state_dict())
    for mine, theirs in zip(other.parameters(), one.parameters(), strict=True):
        mine.grad = theirs.grad
    ways.after_step(other, section.finetune, 6)
    torch.testing.assert_close(ways.memory(other, section.finetune), ways.memory(one, section.finetune))


TUNED_SHOP = SHOP.replace("[gnn]", '[encoder]\nmodel = "MODEL"\nfinetune = "full"\n[gnn]').replace(
    "epochs = 1", 'model = "none"'
)


@pytest.fixture(scope="module")
def tuned_shop(tmp_path_factory):
    """shop.toml of the planted shop, its encoder tuned for a few steps."""
    folder = tmp_path_factory.mktemp("tuned")
    words = ["mugs", "lamps", "toys", "garden", "number", *map(str, range(40))]
    text = TUNED_SHOP.replace("MODEL", str(tiny_bert(folder / "bert", words)))
    text = text.replace(
        'finetune = "full"',
        'finetune = { way = "full", steps = 20, batch_size = 16, checks = 2, learning_rate = 0.003 }',
    )
    return make_shop(folder / "shop", toml=text)


def run(toml, out, **options):
    lines = []
    result = rebuild(open_workshop(toml, out=out, device="cpu", say=lines.append, **options))
    return result, lines


def test_the_stage_stands_between_export_and_encode_and_is_skipped_when_unchanged(tuned_shop, tmp_path):
    out = tmp_path / "build"
    _, lines = run(tuned_shop, out)
    stages = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert stages[:5] == ["load", "graph", "export", "tune", "encode"]
    _, lines = run(tuned_shop, out)
    assert [line.split()[0] for line in lines] == [*stages[:5], "train", "evaluate", "publish"]
    assert all(line.endswith("unchanged, skipped") for line in lines)
    tuned_shop.write_text(tuned_shop.read_text().replace("pool_size = 20", "pool_size = 21"))
    _, lines = run(tuned_shop, out)
    assert any(line.startswith("tune") and "unchanged" in line for line in lines)
    named = Recommender.load(out).bundle.encoder
    assert named["digest"] == weights.resolve(str(out / named["model"])).digest


def test_a_bundle_encodes_new_texts_with_its_own_encoder_wherever_it_lies(tuned_shop, tmp_path):
    run(tuned_shop, tmp_path / "build")
    (tmp_path / "build").rename(tmp_path / "moved")
    shop = Recommender.load(tmp_path / "moved")
    names = shop.bundle.items["name"].to_pylist()
    np.testing.assert_allclose(shop.encode(names), shop.bundle.text, atol=1e-5)
    assert shop.encode(["Lamps number 99"]).shape == (1, 32)
    packaged = encode(names, load_config(tuned_shop).encoder, cache=None)
    assert np.abs(packaged - shop.bundle.text).max() > 1e-3
    tokens = tmp_path / "moved" / shop.bundle.encoder["model"] / "config.json"
    tokens.write_text(tokens.read_text().replace("32", "33", 1))
    shop.encode(names)  # what is loaded stays
    with pytest.raises(CatalographError, match="not the one of this version"):
        Recommender.load(tmp_path / "moved").encode(names)


def test_several_processes_use_what_one_has_tuned_and_tune_nothing(tuned_shop, tmp_path, monkeypatch):
    workshop = open_workshop(tuned_shop, out=tmp_path / "build", store="memory:", device="cpu")
    beside = replace(workshop, folder=tmp_path / "build/process-1", home=workshop.folder)
    with monkeypatch.context() as environment:
        environment.setenv("WORLD_SIZE", "2")  # as torchrun says it
        with pytest.raises(ConfigError, match="tuned by one process alone: rebuild without torchrun first"):
            build_world(beside)
    tuned = build_world(workshop).encoder.model
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert build_world(beside).encoder.model == tuned


def test_encoders_no_bundle_names_make_room(tuned_shop, tmp_path):
    for seed in range(4):
        run(tuned_shop, tmp_path, seed=seed)
    named = {Recommender.load(tmp_path).bundle.encoder["model"]}
    kept = {f"encoder/{place.name}" for place in (tmp_path / "encoder").glob("*") if (place / "modules.json").is_file()}
    assert named < kept
    assert len(kept) == 3


def test_events_the_folds_hold_out_teach_nothing(tuned_shop, tmp_path, monkeypatch):
    seen = []

    def taught(lessons, section, check, **_):
        seen.append((lessons.digest(), check.digest))
        return Path(section.model)

    monkeypatch.setattr("catalograph.pipeline.texts.tune", taught)
    monkeypatch.setattr("catalograph.pipeline.texts.taken", lambda _, section: section)
    toml = make_shop(tmp_path / "shop", toml=tuned_shop.read_text())
    build_world(open_workshop(toml, out=tmp_path / "build", store="memory:"))
    sales = toml.parent / "sales.csv"
    rows = sales.read_text().splitlines()
    for n, row in enumerate(rows):
        user, item, at, quantity = row.split(",")
        if "2024-02-21" <= at < "2024-04-01":  # the periods of the two folds
            rows[n] = f"{user},i{(int(item[1:]) + 1) % 40:02},{at},{quantity}"
    sales.write_text("\n".join(rows) + "\n")
    build_world(open_workshop(toml, out=tmp_path / "build", store="memory:"))
    assert seen[0][0] == seen[1][0]
    assert seen[0][1] != seen[1][1]


@pytest.fixture
def lessons_for(tmp_path, monkeypatch):
    """A call that gives what the encoder of a shop.toml would be taught, and its check; nothing is tuned."""
    seen = []

    def noted(lessons, section, check, **_):
        seen.append((lessons, check))
        return Path(section.model)

    def call(toml):
        monkeypatch.setattr("catalograph.pipeline.texts.tune", noted)
        monkeypatch.setattr("catalograph.pipeline.texts.taken", lambda _, section: section)
        build_world(open_workshop(toml, out=tmp_path / "build", store="memory:", device="cpu"))
        return seen[-1]

    return call


def test_yeses_of_labelled_pairs_teach_nothing(tuned_shop, tmp_path, lessons_for):
    """Trees are fitted on all of them, each pair as if it were unknown."""
    text = tuned_shop.read_text().replace('quantity = "quantity"', 'quantity = "quantity"\nlabel = "liked"')
    text = text.replace("[baskets]\n", "").replace('head = "linear"\n', "")
    toml = make_shop(tmp_path / "shop", toml=text)
    first, *rows = (toml.parent / "sales.csv").read_text().splitlines()
    (toml.parent / "sales.csv").write_text("\n".join([f"{first},liked", *(f"{row},1" for row in rows)]) + "\n")
    lessons, _ = lessons_for(toml)
    assert lessons.tastes is None
    assert list(lessons.pairs) == ["text"]


def test_relations_that_leak_teach_nothing_and_searches_are_cleaned(tuned_shop, tmp_path, lessons_for):
    text = tuned_shop.read_text().replace("steps = 20", 'learn_from = ["attributes", "queries"], steps = 20')
    searches = '[search]\nfile = "clicks.csv"\nitem = "item"\ntime = "at"\n'
    toml = make_shop(tmp_path / "shop", toml=f"{text}{searches}[relations]\nIN_CATEGORY = {{ leaks = true }}\n")
    (toml.parent / "clicks.csv").write_text("query,item,at\n<b>blue&nbsp;mug</b>,i01,2024-01-02\n")
    lessons, _ = lessons_for(toml)
    taught = {lessons.texts[row] for pairs in lessons.pairs.values() for row in (*pairs.anchor, *pairs.positive)}
    assert "blue mug" in taught
    assert "Lamps" not in taught
    honest = make_shop(tmp_path / "honest", toml=text + searches)
    (honest.parent / "clicks.csv").write_text("query,item,at\nblue mug,i01,2024-01-02\n")
    lessons, _ = lessons_for(honest)
    assert "Lamps" in {lessons.texts[row] for row in lessons.pairs["attributes"].positive}


def first_held_out(rows, how):
    """The oldest moment of the planted shop's sales that its split or one of its two folds holds out."""
    times = {}
    for user, _, at, *_ in (row.split(",") for row in rows):
        times.setdefault(user, []).append(at)
    if how == "label":  # every pair is a question
        return min(min(of_user) for of_user in times.values())
    if how == "column":  # one event
        return sorted(at for of_user in times.values() for at in of_user)[3]
    return min(sorted(of_user)[-3] for of_user in times.values())


@pytest.mark.parametrize("how", ["last", "column", "label", "time"])
def test_searches_from_the_first_event_that_is_held_out_on_teach_nothing(how, tuned_shop, tmp_path, lessons_for):
    text = tuned_shop.read_text().replace("steps = 20", 'learn_from = ["queries"], steps = 20')
    cut, labelled = 'method = "time"\nat = 2024-04-01', 'quantity = "quantity"\nlabel = "liked"'
    if how in ("last", "column"):
        text = text.replace(cut, f'method = "{how}"' + '\ncolumn = "part"\nlike = "last"' * (how == "column"))
    if how == "label":
        text = text.replace("[baskets]\n", "").replace('head = "linear"\n', "")
        text = text.replace('quantity = "quantity"', labelled)
    toml = make_shop(tmp_path / "shop", toml=text + '[search]\nfile = "clicks.csv"\nitem = "item"\ntime = "at"\n')
    first, *rows = (toml.parent / "sales.csv").read_text().splitlines()
    moment = "2024-02-21T00:00:00" if how == "time" else first_held_out(rows, how)
    parts = ["test" if row.split(",")[2] == moment else "train" for row in rows]
    told = [f"{row},{part},1" for row, part in zip(rows, parts, strict=True)]
    (toml.parent / "sales.csv").write_text("\n".join([f"{first},part,liked", *told]) + "\n")
    before = str(np.datetime64(moment) - np.timedelta64(1, "s"))
    clicks = ["query,item,at", f"early bird,i01,{before}", f"worm,i02,{moment}", "late bird,i03,2024-03-30"]
    (toml.parent / "clicks.csv").write_text("\n".join(clicks) + "\n")
    lessons, _ = lessons_for(toml)
    found = lessons.pairs["queries"]
    assert [lessons.texts[row] for row in found.anchor] == ["early bird"]
    assert found.positive.tolist() == [1]


@pytest.mark.parametrize("choosy", [False, True])
def test_only_customers_who_took_two_items_have_tastes(choosy, tuned_shop, tmp_path, lessons_for):
    """Before the folds everybody bought once, and one of them the same, or something else, a second time."""
    toml = make_shop(tmp_path / "shop", toml=tuned_shop.read_text().replace("[baskets]\n", ""))
    sales = [f"u{n:02},i{n % 40:02},2024-01-0{1 + n % 9},1" for n in range(60)]
    sales += [f"u{n:02},i{n % 39 + 1:02},2024-03-{day:02},1" for n in range(60) for day in (1, 20)]  # the folds'
    sales += [f"u00,i{7 if choosy else 0:02},2024-01-05,1", "u00,i01,2024-04-02,1"]
    (toml.parent / "sales.csv").write_text("\n".join(["user,item,time,quantity", *sales]) + "\n")
    lessons, _ = lessons_for(toml)
    assert (lessons.tastes is not None) == choosy
    assert list(lessons.pairs) == ["text"]  # what one customer tells is too little


def test_judged_pairs_teach_without_a_time(tuned_shop, tmp_path, lessons_for):
    text = tuned_shop.read_text().replace("steps = 20", 'learn_from = ["queries"], steps = 20')
    searches = '[search]\nfile = "judged.csv"\nitem = "item"\nrelevance = "fit"\n'
    toml = make_shop(tmp_path / "shop", toml=text + searches)
    (toml.parent / "judged.csv").write_text("query,item,fit\nblue mug,i01,3\nlamp,i02,1\n")
    lessons, _ = lessons_for(toml)
    assert sorted(lessons.pairs["queries"].grade) == [1, 3]


def test_where_nobody_comes_back_the_check_is_of_noised_texts(tuned_shop, tmp_path, lessons_for):
    text = tuned_shop.read_text().replace('method = "time"\nat = 2024-04-01', 'method = "random"')
    toml = make_shop(tmp_path / "shop", toml=text.replace("[baskets]\n", "").replace('time = "time"\n', ""))
    rows = (toml.parent / "sales.csv").read_text().splitlines()
    once = [rows[0], *(re.sub(r"^u\d+", f"u{n}", row) for n, row in enumerate(rows[1:41]))]
    (toml.parent / "sales.csv").write_text("\n".join(once) + "\n")
    lessons, check = lessons_for(toml)
    assert "text" in lessons.pairs
    told = len(check.texts) // 2
    same = np.eye(told, dtype=np.float32)
    assert check.score(np.concatenate([same, same])) == 1
    assert check.score(np.concatenate([np.roll(same, 1, 0), same])) < 0.5
    assert sum(one != other for one, other in zip(check.texts[:told], check.texts[told:], strict=True)) > told / 4


def test_searches_are_read_checked_and_cut_in_time(tmp_path):
    text = SHOP + '[search]\nfile = "clicks.csv"\nitem = "item"\ntime = "at"\nrelevance = "fit"\n'
    toml = make_shop(tmp_path, toml=text)
    rows = ["query,item,at,fit", "mug,i01,2024-02-01,3", "lamp,i02,2024-02-02,1", "late,i03,2024-04-02,3"]
    (tmp_path / "clicks.csv").write_text("\n".join(rows) + "\n")
    assert load_catalogue(load_config(toml)).searches.select(["query", "item", "relevance"]).to_pylist() == [
        {"query": "mug", "item": "i01", "relevance": 3.0},
        {"query": "lamp", "item": "i02", "relevance": 1.0},
    ]
    (tmp_path / "clicks.csv").write_text("\n".join([*rows, "x,i99,2024-02-01,3"]) + "\n")
    with pytest.raises(CatalographError, match="row 5, column 'item': 'i99' is no item of the shop"):
        load_catalogue(load_config(toml))


@pytest.mark.parametrize("split", ['method = "time"\nat = 2024-04-01', 'method = "last"', 'method = "random"', ""])
def test_clicks_that_no_time_can_cut_are_refused_and_judged_pairs_are_not(tmp_path, split):
    text = SHOP.replace('method = "time"\nat = 2024-04-01', split) + '[search]\nfile = "clicks.csv"\nitem = "item"\n'
    toml = make_shop(tmp_path, toml=text)
    (tmp_path / "clicks.csv").write_text("query,item,at,fit\nmug,i01,2024-02-01,3\n")
    with pytest.raises(ConfigError, match=r"\[search\] needs time, and \[interactions\] too"):
        load_catalogue(load_config(toml))
    toml.write_text(text + 'relevance = "fit"\n')
    assert load_catalogue(load_config(toml)).searches["relevance"].to_pylist() == [3]
    toml.write_text(text + 'time = "at"\n')
    assert load_catalogue(load_config(toml)).searches.num_rows == 1


def test_a_time_of_clicks_alone_cuts_nothing(tmp_path):
    text = SHOP.replace('method = "time"\nat = 2024-04-01', 'method = "random"').replace("[baskets]\n", "")
    text = text.replace('time = "time"\n', "") + '[search]\nfile = "clicks.csv"\nitem = "item"\ntime = "at"\n'
    toml = make_shop(tmp_path, toml=text)
    (tmp_path / "clicks.csv").write_text("query,item,at\nmug,i01,2024-02-01\n")
    with pytest.raises(ConfigError, match=r"\[interactions\] too"):
        load_catalogue(load_config(toml))
