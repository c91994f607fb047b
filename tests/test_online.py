"""Rates of what was shown: known answers, intervals that hold what they say, and what belongs to which impression."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from catalograph.cli import main
from catalograph.errors import DataError
from catalograph.loaders.feedback import Event, FeedbackLog, read_feedback
from catalograph.scoring.online import DAY_MS, online, wilson

START = 1_700_000_000_000 // DAY_MS * DAY_MS


class Story:
    """Events in the order they are told."""

    def __init__(self):
        self.events = []

    def tell(self, kind, user, item, day=0.0, **more):
        at = START + int(day * DAY_MS)
        self.events.append(Event(id=str(len(self.events)), user=user, item=item, kind=kind, at=at, **more))

    def table(self):
        """As the log would give it."""
        rows = [dataclasses.asdict(event) | {"number": n} for n, event in enumerate(self.events)]
        return pa.Table.from_pylist(rows, schema=read_feedback(Path("nowhere")).schema)

    def kept(self, folder):
        log = FeedbackLog(folder)
        log.append([self.events])
        log.close()
        return read_feedback(folder)


def test_impressions_and_what_came_of_them(tmp_path):
    story = Story()
    for place, item in enumerate("abc", 1):
        story.tell("shown", "u", item, version="0001-x", recommendation="l1", place=place)
        story.tell("shown", "v", item, day=1, version="0002-y", place=place)  # of no list
    story.tell("shown", "u", "a", version="0001-x", recommendation="l1", place=1)  # told twice
    story.tell("click", "u", "a", day=0.1, recommendation="l1")
    story.tell("click", "u", "a", day=0.2, recommendation="l1")  # again
    story.tell("purchase", "u", "b", day=3)  # the till knows no lists
    story.tell("purchase", "u", "c", day=9)  # too late
    story.tell("purchase", "v", "a", day=0.5)  # before it was shown
    story.tell("cart", "v", "b", day=1.5, version="0001-x")  # led there by another version
    story.tell("click", "w", "a", recommendation="l9")  # of a list nobody told of
    found = online(story.kept(tmp_path))
    old, new = found["versions"]
    counts = ("version", "impressions", "users", "clicks", "carts", "purchases")
    assert [old[name] for name in counts] == ["0001-x", 3, 1, 1, 0, 1]
    assert [new[name] for name in counts] == ["0002-y", 3, 1, 0, 0, 0]
    assert old["ctr"] == pytest.approx(1 / 3)
    assert (found["events"], found["unattributed"]) == (len(story.events), 4)
    assert [(row["place"], row["impressions"], row["clicks"]) for row in found["places"]] == [
        (1, 2, 1),
        (2, 2, 0),
        (3, 2, 0),
    ]
    assert [row["version"] for row in found["days"]] == ["0001-x", "0002-y"]
    assert found["days"][0]["day"] < found["days"][1]["day"]
    assert found["differences"][0]["ctr"] == pytest.approx(-1 / 3)
    assert sum("clicks; with fewer" in warning for warning in found["warnings"]) == 2
    assert any("other days" in warning for warning in found["warnings"])


def test_wilson_is_what_the_textbook_says():
    low, high = wilson(0.1, 100)  # Brown, Cai and DasGupta 2001: [.0552, .1744]
    assert (low, high) == (pytest.approx(0.0552, abs=1e-4), pytest.approx(0.1744, abs=1e-4))
    assert wilson(0.0, 10)[0] == 0


@pytest.mark.parametrize("alike", [0.0, 0.9])
def test_intervals_hold_the_truth_also_where_customers_differ(alike):
    """alike: how far a customer's clicks go together; a plain binomial interval would hold it half of the time."""
    random, held = np.random.default_rng(0), 0
    for _ in range(40):
        story = Story()
        for user in range(60):
            whole = random.random() < 0.3
            for item in range(20):
                clicked = whole if random.random() < alike else random.random() < 0.3
                story.tell("shown", f"u{user}", f"i{item}", version="0001-x")
                if clicked:
                    story.tell("click", f"u{user}", f"i{item}")
        low, high = online(story.table())["versions"][0]["ctr_ci95"]
        held += low <= 0.3 <= high
    assert held >= 34


def test_a_real_difference_is_found_and_other_places_are_told():
    story, random = Story(), np.random.default_rng(1)
    for version, rate, first in (("0001-x", 0.05, 3), ("0002-y", 0.2, 1)):
        for n in range(800):
            story.tell(
                "shown", f"{version}{n}", "i", version=version, recommendation=f"{version}{n}", place=first + n % 3
            )
            if random.random() < rate:
                story.tell("click", f"{version}{n}", "i", recommendation=f"{version}{n}")
    found = online(story.table())
    (difference,) = found["differences"]
    low, high = difference["ctr_ci95"]
    assert 0 < low < 0.15 < high
    assert difference["conversion_ci95"][0] < 0 < difference["conversion_ci95"][1]
    (warning,) = found["warnings"]
    assert "other places (mean 4.0 and 2.0)" in warning


def test_the_command_prints_it_and_says_what_is_missing(built, tmp_path, capsys):
    with pytest.raises(DataError, match="no event of kind `shown`"):
        online(read_feedback(tmp_path))
    command = ["evaluate", str(built[0]), "--out", str(tmp_path), "--online"]
    assert main(command) == 2
    assert "no event of kind `shown`" in capsys.readouterr().err
    story = Story()
    story.tell("shown", "u", "i", version="0001-x", place=1)
    story.kept(tmp_path)
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["shop"], document["versions"][0]["impressions"]) == ("planted", 1)
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "0001-x" in printed
    assert "caution:" in printed
    for option in ("--baselines", "--all-baselines"):
        assert main([*command, option]) == 2
        assert "--online" in capsys.readouterr().err
