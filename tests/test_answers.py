"""Answers as text: what a terminal and a spreadsheet must not obey, and JSON every program reads."""

import csv
import io
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalograph.kg.answers import as_text

FORMULAS = ["=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", " =1", "=cmd|' /C calc'!A0", "＝1", "－2"]


def cells(text):
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.parametrize("text", FORMULAS)
def test_a_csv_cell_or_heading_that_looks_like_a_formula_is_text(text):
    heading, row = cells(as_text(pa.table({text: [text], "n": [-1.5]}), "csv"))
    assert heading[0] == row[0] == "'" + text
    assert row[1] == "-1.5", "numbers stay numbers"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1))
def test_no_csv_cell_starts_a_formula_and_no_text_is_lost(text):
    _, (cell,) = cells(as_text(pa.table({"a": [text]}), "csv"))
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    assert cell in (text, "'" + text)


def test_a_table_steers_no_terminal():
    shown = as_text(pa.table({"\x1b[2Jname": ["\x1b]0;owned\x07", "a\u202eb", "two\nlines", "é"]}), "table")
    assert not set(shown) & {"\x1b", "\x07", "\u202e"}
    assert "\\x1b]0;owned\\x07" in shown
    assert "two\\nlines" in shown
    assert "é" in shown


def test_a_wide_table_shows_all_its_columns():
    shown = as_text(pa.table({f"column_{n}": [n] for n in range(20)}), "table")
    assert all(f"column_{n} " in shown for n in range(20))


def test_json_is_json():
    table = pa.table({"x": [float("nan"), 1.0], "xs": [[float("inf")], [2.0]], "s": ["\x1b", None]})
    table = table.append_column("at", pa.array([0, None], pa.timestamp("ms", "UTC")))
    found = json.loads(as_text(table, "json"), parse_constant=pytest.fail)
    assert found == [
        {"x": None, "xs": [None], "s": "\x1b", "at": "1970-01-01 00:00:00+00:00"},
        {"x": 1.0, "xs": [2.0], "s": None, "at": None},
    ]


@pytest.mark.parametrize("kind", ["table", "csv"])
def test_lists_and_maps_are_cells_too(kind):
    table = pa.table({"xs": [["a", "\x1b"], None], "map": [{"k": 1.5}, {"k": float("nan")}]})
    shown = as_text(table, kind)
    assert "\x1b" not in shown
    if kind == "csv":
        assert cells(shown)[1:] == [['["a", "\\u001b"]', '{"k": 1.5}'], ["", '{"k": null}']]
