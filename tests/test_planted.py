"""The shops of any size that scale is measured on: what is drawn is what the truth says, and seeds decide."""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from catalograph.config import load_config

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import planted
import scale
from planted import MEAN_EVENTS, Plan, write_shop


def drawn(plan):
    return [np.concatenate(column) for column in zip(*plan.blocks(), strict=True)]


@pytest.fixture(scope="module")
def plan():
    return Plan.of(60_000)


def test_there_are_about_as_many_events_as_asked_for(plan):
    user, item, _ = drawn(plan)
    assert len(user) == pytest.approx(60_000, rel=0.15)
    assert len(plan.activity) == 60_000 // MEAN_EVENTS
    assert len(plan.popularity) == int(12 * 60_000**0.5)
    assert item.max() < len(plan.popularity)


def test_what_is_drawn_is_what_the_truth_says(plan):
    """Summed over all customers; the largest difference is noise of the counts."""
    user, item, _ = drawn(plan)
    counts = np.bincount(item, minlength=len(plan.popularity))
    expected = plan.truth(np.arange(len(plan.activity))).T @ plan.activity
    assert expected.sum() == pytest.approx(len(user), rel=1e-4)
    assert np.abs((counts - expected) / np.sqrt(expected + 1)).max() < 6
    own = np.searchsorted(plan.border, item, side="right") - 1 == plan.loved[user, 0]
    assert own.mean() == pytest.approx(planted.FIRST, abs=0.03)


def test_sales_and_activity_follow_power_laws(plan):
    user, item, _ = drawn(plan)
    for rows in (user, item):
        sizes = np.sort(np.bincount(rows))[::-1]
        assert sizes[: len(sizes) // 10].sum() > 0.3 * sizes.sum()
        assert np.median(sizes) < sizes.mean()


def test_equal_seeds_give_equal_files_in_blocks_of_any_count(tmp_path, monkeypatch):
    plans = [Plan.of(2_000, seed) for seed in (0, 0, 1)]
    files = [write_shop(plan, tmp_path / str(n)).with_name("events.parquet") for n, plan in enumerate(plans)]
    tables = [pq.read_table(file) for file in files]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])
    assert load_config(tmp_path / "0" / "shop.toml").shop.name == "planted"
    monkeypatch.setattr(planted, "BLOCK", 10)
    again = write_shop(plans[0], tmp_path / "blocks").with_name("events.parquet")
    assert pq.read_metadata(again).num_row_groups == -(-len(plans[0].activity) // 10)
    assert pq.read_table(again)["user"].equals(tables[0]["user"])


def test_the_truth_is_the_better_list(plan):
    """On a part held out at random times, lists by the true chances beat lists by popularity by far."""
    user, item, time = drawn(plan)
    order = np.argsort(user, kind="stable")
    log = scale.InteractionLog(len(plan.activity), len(plan.popularity), user[order], item[order])
    before = time[order] < scale.CUT_MS
    fold = scale.fold_of(log.where(before), log.where(~before), None)
    popular = Plan(plan.popularity, np.array([0, len(plan.popularity)]), np.zeros_like(plan.loved), plan.activity, 0)
    assert scale.of_truth(plan, fold) > 2 * scale.of_truth(popular, fold)


def test_the_exponent_of_a_square_is_two():
    sizes = [{"events": n, "stages": {"a": {"cpu": n**2 / 1e6}, "short": {"cpu": 0.0}}} for n in (1_000, 2_000, 8_000)]
    assert scale.exponents(sizes, "cpu") == {"a": 2.0}
