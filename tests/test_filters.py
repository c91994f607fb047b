"""--where against Python's own meaning of the same words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalograph.errors import ConfigError
from catalograph.scoring.filters import compile_where

COLUMNS = {
    "price": np.array([1.0, 5.0, np.nan, 9.0]),
    "category": ["Mugs", "Toys", "Mugs", ""],
    "colour": [frozenset({"RED", "BLUE"}), frozenset(), frozenset({"RED"}), frozenset()],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("price < 5", [1, 0, 0, 0]),
        ("price >= 5", [0, 1, 0, 1]),
        ("price != 5", [1, 0, 0, 1]),
        ("category == 'Mugs'", [1, 0, 1, 0]),
        ('category != "Mugs"', [0, 1, 0, 0]),
        ("category in ('Mugs', 'Toys') and price < 6", [1, 1, 0, 0]),
        ("category not in ('Mugs')", [0, 1, 0, 0]),
        ("colour == 'BLUE'", [1, 0, 0, 0]),
        ("not colour == 'RED'", [0, 1, 0, 1]),
        ("price < 2 or category == 'Toys' and price > 4", [1, 1, 0, 0]),
        ("(price < 2 or category == 'Toys') and price > 4", [0, 1, 0, 0]),
    ],
)
def test_meaning(text, expected):
    assert compile_where(text)(COLUMNS).tolist() == [bool(x) for x in expected]


@given(st.lists(st.floats(-9, 9), min_size=1), st.floats(-9, 9))
def test_numbers_compare_as_in_python(values, border):
    found = compile_where(f"x < {border!r} or x == {border!r}")({"x": np.array(values)})
    assert found.tolist() == [value <= border for value in values]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "a property name expected at the end"),
        ("price <", "a number or a quoted string expected at the end"),
        ("price < 5 5", "'and', 'or' or the end expected at character 11"),
        ("price ; 5", "cannot read '; 5'"),
        ("__import__('os')", "'in' expected at character 11"),
        ("prise < 5", "no property 'prise', did you mean 'price'?"),
        ("price == 'x'", "price is a number"),
        ("category < 'x'", "compare it by == or !="),
        ("category == 5", "put it in quotes"),
    ],
)
def test_what_cannot_be_read_is_named(text, complaint):
    with pytest.raises(ConfigError, match=complaint.replace("(", r"\(").replace("?", r"\?")):
        compile_where(text)(COLUMNS)
