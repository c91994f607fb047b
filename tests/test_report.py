"""The page: everything of the document on it, nothing from elsewhere, and hostile names as mere text."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import scipy.sparse as sp

from catalograph.kg.log import InteractionLog
from catalograph.scoring.exposure import Attribute, exposure
from catalograph.scoring.folds import fold_of
from catalograph.scoring.report import _axis, heaviest, render, scatter, whiskers

HOSTILE = "<script>alert(1)</script>\"'><img src=http://evil.example/x onerror=alert(2)>{{ 7*7 }}"


@pytest.fixture(scope="module")
def metrics(built):
    (place,) = (built[1] / "bundles").iterdir()
    return json.loads((place / "metrics.json").read_text("utf-8"))


def hostile(value):
    """The document with every text and every key that is a name replaced by one that wants to break out."""
    if isinstance(value, dict):
        return {k: hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(v) for v in value]
    return HOSTILE if isinstance(value, str) else value


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def elements_of(page):
    parser = Elements()
    parser.feed(page)
    return parser.found


def test_a_rebuild_leaves_a_page_in_its_bundle(built, metrics):
    (place,) = (built[1] / "bundles").iterdir()
    page = (place / "report.html").read_text("utf-8")
    assert page == render(metrics)
    assert "folds drawn at random start anew" in page  # none is told to have begun with weights that saw its answers
    for told in ("Accuracy", "Segments", "The model", "Relations", "Exposure", "IN_CATEGORY", "Lamps"):
        assert told in page


def test_nothing_comes_from_elsewhere_and_nothing_runs(metrics):
    page = render(metrics)
    tags = {tag for tag, _ in elements_of(page)}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    attributes = {name for _, attributes in elements_of(page) for name in attributes}
    assert not {name for name in attributes if name.startswith("on") or name in ("href", "src", "srcset", "action")}
    assert not re.search(r"https?:|url\(|@import", page)
    (policy,) = [a["content"] for tag, a in elements_of(page) if tag == "meta" and "http-equiv" in a]
    assert "default-src 'none'" in policy


def test_hostile_names_are_text(metrics):
    worst = hostile(metrics)
    worst["model"]["weights"] = {HOSTILE: 1.0}
    worst["model"]["heads"] = {HOSTILE: metrics["model"]["heads"]["linear"]}
    worst["model"]["pool_recall"] = {HOSTILE: 0.5}
    worst["left_out"] = {HOSTILE: HOSTILE}
    worst["warnings"] = [HOSTILE]
    metric = "ndcg@10"
    for segment in worst["segments"]:
        segment[metric] = {HOSTILE: 0.1}
    within = {HOSTILE: {"difference": 0.1, "ci95": [0, 0.2]}}
    worst["ablation"] = [
        {"graph": "real", metric: 0.2, "difference": 0, "ci95": [0, 0]},
        {"graph": HOSTILE, metric: 0.1, "difference": 0.1, "ci95": [0, 0.2], "segments": within},
    ]
    page = render(worst)
    assert [tag for tag, _ in elements_of(page) if tag in ("script", "img")] == []
    assert not any(name.startswith("on") for _, attributes in elements_of(page) for name in attributes)
    assert page.count("{{ 7*7 }}") > 10
    assert "&lt;script&gt;" in page


def test_what_the_gnn_weighs_is_told_wherever_it_stands():
    weights = {f"walk_{n}.uniform": 1.0 - n / 100 for n in range(40)} | {"gnn.newest": 0.01}
    told = heaviest(weights)
    assert len(told) == 16
    assert told[0] == ("walk_0.uniform", 1.0)
    assert told[-1] == ("gnn.newest", 0.01)


def test_a_document_with_rows_alone_has_a_page(metrics):
    bare = {key: metrics[key] for key in ("shop", "split", "users", "items", "pool_recall", "rows", "left_out")}
    page = render(bare)
    assert "Accuracy" in page
    assert "Segments" not in page


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 0.083, [0, 0.02, 0.04, 0.06, 0.08, 0.1]), (-0.01, 0.03, [-0.01, 0, 0.01, 0.02, 0.03]), (0, 0, [0, 1])],
)
def test_axes_have_round_marks(low, high, expected):
    np.testing.assert_allclose(_axis(low, high), expected, atol=1e-12)


def test_points_and_whiskers_lie_where_their_numbers_say():
    drawn = scatter([("a", 0.5, 0.1), ("b", 1.0, 0.2), ("c", 1.0, 0.199)])
    places = {name: (x, y, y + shift) for name, x, y, _, shift in drawn["points"]}
    assert places["b"][0] > places["a"][0]
    assert places["b"][1] < places["a"][1]  # SVG counts downwards
    assert places["c"][2] - places["b"][2] >= 14  # names do not lie on each other
    row = {"graph": "empty", "difference": 0.02, "ci95": [0.01, 0.03]}
    ((_, _, low, middle, high),) = whiskers([row])["rows"]
    zero = next(x for x, mark in whiskers([row])["marks"] if mark == 0)
    assert zero < low < middle < high


def test_exposure_shares_an_item_among_its_values():
    log = InteractionLog(2, 3, np.array([0, 0, 1]), np.array([0, 1, 1]))
    test = fold_of(log, InteractionLog(2, 3, np.array([1]), np.array([0])), None)
    share = sp.csr_matrix(np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1]]))
    found = exposure(Attribute("BRAND", ["x", "y", "(none)"], share), np.array([[2], [0]]), test, np.ones(3, bool))
    rows = {row["value"]: row for row in found["values"]}
    assert {name: row["catalogue"] for name, row in rows.items()} == pytest.approx(
        {"x": 1.5 / 3, "y": 0.5 / 3, "(none)": 1 / 3}
    )
    assert {name: row["sales"] for name, row in rows.items()} == pytest.approx({"x": 2 / 3, "y": 1 / 3, "(none)": 0})
    assert {name: row["shown"] for name, row in rows.items()} == pytest.approx({"x": 0.5, "y": 0, "(none)": 0.5})
    assert found["distance"] == pytest.approx(0.5)
