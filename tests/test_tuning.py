"""The search for settings: it begins with the shop as it is, goes on after a kill, and writes a shop that loads."""

import signal
import sqlite3
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shops import SHOP, make_shop

from catalograph import tuning
from catalograph.cli import main
from catalograph.config import load_config
from catalograph.errors import CatalographError, ConfigError, MissingExtraError
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop
from catalograph.pipeline.world import build_world
from catalograph.tuning import as_toml, tune


def searched(toml, target, build, *, minutes=60.0, trials=3, say=lambda _: None):
    workshop = open_workshop(toml, out=build, device="cpu", say=say)
    return tune(workshop, toml.read_text("utf-8"), target, minutes=minutes, trials=trials)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """(shop.toml, tuned.toml, build folder, what was said) of three trials."""
    folder, said = tmp_path_factory.mktemp("tuned"), []
    toml = make_shop(folder / "shop")
    (folder / "elsewhere").mkdir()
    return (
        toml,
        searched(toml, folder / "elsewhere" / "tuned.toml", folder / "build", say=said.append),
        folder / "build",
        said,
    )


def values_of(build):
    with sqlite3.connect(build / "tuning.sqlite") as record:
        return [value for (value,) in record.execute("SELECT value FROM trial_values ORDER BY trial_id")]


def test_the_result_loads_and_is_no_worse_on_validation(found, tmp_path):
    toml, tuned, build, said = found
    values = values_of(build)
    assert len(values) == 3
    before = rebuild(open_workshop(toml, out=tmp_path / "before", device="cpu"))["metrics"]["validation"]
    after = rebuild(open_workshop(tuned, out=tmp_path / "after", device="cpu"))["metrics"]["validation"]
    assert before["ndcg@10"] == pytest.approx(values[0], abs=1e-6)  # trial 0 is the shop as it is
    assert after["ndcg@10"] == pytest.approx(max(values), abs=1e-6)
    assert said[-1].startswith(f"tune      validation {max(values):.4f} in trial ")


def test_only_what_is_searched_changes(found):
    toml, tuned, _, _ = found
    told = load_config(toml), load_config(tuned)
    one, two = (config.model_dump(exclude={"model", "gnn", "relations"}) for config in told)
    assert one == two  # the folder of the data, too, seen from another place
    assert {"off", "fit_users", "check_users"} <= {
        key for key, value in told[0].model.model_dump().items() if value == told[1].model.model_dump()[key]
    }


def test_a_finished_search_tries_nothing_more_and_a_longer_one_goes_on(found):
    toml, tuned, build, _ = found
    before, text = values_of(build), tuned.read_text("utf-8")
    searched(toml, tuned, build, trials=3)
    assert (values_of(build), tuned.read_text("utf-8")) == (before, text)
    searched(toml, tuned, build, trials=4)
    assert values_of(build)[:3] == before
    assert len(values_of(build)) == 4


def test_a_term_left_out_may_be_of_a_relation_that_the_search_switches_off(tmp_path):
    off = SHOP.replace("folds = 2", 'folds = 2\noff = ["share:IN_CATEGORY", "text"]')
    toml = make_shop(tmp_path / "shop", toml=off + "[relations.IN_CATEGORY]\nuse = false\n")
    world = build_world(open_workshop(toml, out=tmp_path / "build", device="cpu"))
    assert [relation.name for relation in world.given.relations] == ["IN_PRICE_BAND"]
    toml.write_text(toml.read_text().replace("share:IN_CATEGORY", "share:BOUGHT_TOGETHER"), "utf-8")
    with pytest.raises(ConfigError, match="no term or family 'share:BOUGHT_TOGETHER'"):  # of the baskets: never a term
        build_world(open_workshop(toml, out=tmp_path / "build", device="cpu"))


def test_no_time_is_time_for_the_shop_as_it_is_alone(tmp_path):
    toml = make_shop(tmp_path / "shop")
    tuned = searched(toml, tmp_path / "tuned.toml", tmp_path / "build", minutes=0)
    assert len(values_of(tmp_path / "build")) == 1
    assert load_config(tuned) == load_config(toml)


@pytest.mark.slow
def test_a_killed_search_goes_on_where_it_was(tmp_path):
    toml, build, tuned = make_shop(tmp_path / "shop"), tmp_path / "build", tmp_path / "tuned.toml"
    program = "import sys; from catalograph.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["tune", str(toml), "--budget", "60", "--build", str(build), "--out", str(tuned), "--device", "cpu"]
    with subprocess.Popen([sys.executable, "-c", program, *command], stderr=subprocess.PIPE, text=True) as running:
        for line in running.stderr:
            if "trial 1: " in line:
                break
        time.sleep(0.3)  # well into trial 2
        running.send_signal(signal.SIGKILL)
    before, said = values_of(build), []
    assert len(before) == 2
    searched(toml, tuned, build, trials=4, say=said.append)
    assert "tune      goes on after 2 trials" in said
    assert values_of(build)[:2] == before
    assert len(values_of(build)) == 4
    with sqlite3.connect(build / "tuning.sqlite") as record:
        states = [state for (state,) in record.execute("SELECT state FROM trials ORDER BY number")]
    assert states.count("COMPLETE") == 4
    assert states.count("RUNNING") == 0


def test_other_settings_are_another_search(found, tmp_path):
    _, _, build, _ = found
    held = len(values_of(build))
    toml = make_shop(tmp_path / "shop", toml=SHOP.replace("pool_size = 20", "pool_size = 30"))
    searched(toml, tmp_path / "tuned.toml", build, minutes=0)
    assert len(values_of(build)) == held + 1


def test_settings_that_cannot_be_fitted_are_a_failed_trial(tmp_path, monkeypatch):
    toml, said = make_shop(tmp_path / "shop"), []
    figures = iter([0.5, CatalographError("too bold"), 0.4, 0.3])

    def figure(self, values):
        value = next(figures)
        if isinstance(value, Exception):
            raise value
        return value

    monkeypatch.setattr(tuning.Search, "figure", figure)
    tuned = searched(toml, tmp_path / "tuned.toml", tmp_path / "build", trials=3, say=said.append)
    assert load_config(tuned) == load_config(toml)  # the shop as it is was best
    assert any("trial 1 cannot be fitted: too bold" in line for line in said)


def test_trials_that_change_nothing_of_the_vectors_do_not_learn_them_again():
    calls = []
    memory = tuning.Memory(2)

    class Log:
        def __init__(self, n):
            self.user = self.item = np.arange(n)

    def learn(seen, valid, start):
        calls.append(len(seen.user))

    for n, settings in ((3, "a"), (3, "a"), (4, "a"), (3, "b"), (3, "a")):
        memory.of(learn, settings)(Log(n), None, None)
    assert calls == [3, 4, 3, 3]  # the last one had been forgotten


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        ("file", "was not written by tune"),
        ("folder", "is a folder"),
        ("place", "there is no folder"),
        ("record", "delete it"),
        ("budget", "--budget"),
        ("library", "pip install 'catalograph[tune]'"),
    ],
)
def test_bad_input_is_one_line(spoil, complaint, tmp_path, capsys, monkeypatch):
    toml, out, budget = make_shop(tmp_path / "shop"), tmp_path / "tuned.toml", "1"
    if spoil == "file":
        out.write_text("[shop]\n", "utf-8")
    elif spoil == "folder":
        out.mkdir()
    elif spoil == "place":
        out = tmp_path / "nowhere" / "tuned.toml"
    elif spoil == "record":
        (tmp_path / "build").mkdir()
        (tmp_path / "build" / "tuning.sqlite").write_bytes(b"no record" * 1000)
    elif spoil == "budget":
        budget = "soon"
    else:
        monkeypatch.setattr(tuning, "find_spec", lambda name: None)
    held = out.read_bytes() if out.is_file() else None
    code = main(["tune", str(toml), "--budget", budget, "--out", str(out), "--build", str(tmp_path / "build")])
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("catalograph tune: ")]
    assert code == 2
    assert complaint in said
    assert (out.read_bytes() if out.is_file() else None) == held


def test_a_missing_library_is_its_own_error(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="needs optuna"):
        searched(make_shop(tmp_path / "shop"), tmp_path / "tuned.toml", tmp_path / "build")


SCALAR = st.one_of(st.booleans(), st.integers(-9, 9), st.floats(allow_nan=False), st.text(max_size=8), st.dates())
TABLE = st.dictionaries(st.text(max_size=6), st.one_of(SCALAR, st.lists(SCALAR, max_size=3)), max_size=4)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,6}", fullmatch=True), st.one_of(TABLE, st.lists(TABLE, min_size=1, max_size=2))
    )
)
def test_tables_come_back_from_the_text(tables):
    assert tomllib.loads(as_toml(tables, ("a comment",))) == tables
