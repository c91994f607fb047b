"""--where against Python's own meaning of the same words."""

import ast
import operator
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalograph.errors import ConfigError
from catalograph.scoring.filters import compile_where

COLUMNS = {
    "price": np.array([1.0, 5.0, np.nan, 9.0]),
    "category": ["Mugs", "Toys", "Mugs", ""],
    "in stock": np.array([True, False, False, True]),
    "sold": np.array([True, True, False, False]),
    "size": ["5\" x 7' frame", "", "''", '"'],
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
        ("category == ''", [0, 0, 0, 0]),
        ("category in ['', 'Toys']", [0, 1, 0, 0]),
        ("category != ''", [1, 1, 1, 0]),
        ("category not in ['', 'Mugs']", [0, 1, 0, 0]),
        ("colour == ''", [0, 0, 0, 0]),
        ("size == '5\" x 7'' frame'", [1, 0, 0, 0]),
        ('size == "5"" x 7\' frame"', [1, 0, 0, 0]),
        ("size in ['\"', '''''']", [0, 0, 1, 1]),
        ("colour in ['BLUE', 'RED']", [1, 0, 1, 0]),
        ("colour not in ['BLUE']", [0, 0, 1, 0]),
        ("price in [9, 1, 9, 7]", [1, 0, 0, 1]),
        ("price not in [9, 7]", [1, 1, 0, 0]),
        ("colour == 'BLUE'", [1, 0, 0, 0]),
        ("not colour == 'RED'", [0, 1, 0, 1]),
        ("not not price < 5", [1, 0, 0, 0]),
        ("price < 20 and category in ['Mugs', 'Toys'] and sold", [1, 1, 0, 0]),
        ("sold", [1, 1, 0, 0]),
        ("not sold or sold == true and price < 2", [1, 0, 1, 1]),
        ("sold != true", [0, 0, 1, 1]),
        ("sold in (false)", [0, 0, 1, 1]),
        ("`in stock` and `price` < 9", [1, 0, 0, 0]),
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


SIGNS = {
    ast.Lt: operator.lt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda value, among: value in among,
    ast.NotIn: lambda value, among: value not in among,
}
NUMBERS = st.sampled_from(["a < 3", "b >= 2", "a == 1", "b != 4", "a in (1, 2)", "b not in (3, 4)"])
EXPRESSIONS = st.recursive(
    NUMBERS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join),
        inner.map("not {}".format),
        inner.map("({})".format),
    ),
    max_leaves=8,
)


def meaning(node, names):
    """What an expression says by Python's own grammar."""
    if isinstance(node, ast.BoolOp):
        return (all if isinstance(node.op, ast.And) else any)(meaning(part, names) for part in node.values)
    if isinstance(node, ast.UnaryOp):
        return not meaning(node.operand, names)
    return SIGNS[type(node.ops[0])](names[node.left.id], ast.literal_eval(node.comparators[0]))


@given(EXPRESSIONS, st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=6))
def test_words_bind_as_in_python(text, rows):
    a, b = np.array(rows, np.float64).T
    tree = ast.parse(text, mode="eval").body
    assert compile_where(text)({"a": a, "b": b}).tolist() == [meaning(tree, {"a": x, "b": y}) for x, y in rows]


@pytest.mark.parametrize("text", ["price < 5" + " or price < 5" * 5_000, "not " * 5_000 + "price < 5"])
def test_a_long_text_is_no_problem(text):
    assert compile_where(text)(COLUMNS).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (np.arange(100_000.0), "{}"),
        ([f"name {n}" for n in range(100_000)], "'name {}'"),
        ([frozenset({f"name {n}"}) for n in range(100_000)], "'name {}'"),
    ],
    ids=["numbers", "texts", "sets"],
)
def test_a_long_list_takes_little_memory(column, value):
    for numbers in (range(980), [0, 1] * 490):
        condition = compile_where(f"x in [{', '.join(value.format(n) for n in numbers)}]")
        tracemalloc.start()
        found = condition({"x": column})
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert np.flatnonzero(found).tolist() == sorted(set(numbers))
        assert peak < 100 * len(column)  # bytes; with one array of bools per value it would be 2,000 for each item


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "a property name expected at the end"),
        ("(" * 51 + "price < 5" + ")" * 51, "at most 50 parentheses within one another expected at character 51"),
        ("price <", "a number or a quoted string expected at the end"),
        ("category == 'Mugs", 'cannot read "\'Mugs"'),
        ("category == 'Mugs''", 'cannot read "\'" at character 19'),
        ("price < 5 5", "'and', 'or' or the end expected at character 11"),
        ("price ; 5", "cannot read '; 5'"),
        ("__import__('os')", "'and', 'or' or the end expected at character 11"),
        ("prise < 5", "no property or relation 'prise', did you mean 'price'?"),
        ("price == 'x'", "price is a number"),
        ("category < 'x'", "compare it by == or !="),
        ("category == 5", "category is text and 5 is not; put it in quotes"),
        ("category in ['Mugs', 5]", "category is text and 5 is not; put it in quotes"),
        ("price in [1, true]", "price is a number and true is not; write price > 0"),
        ("sold in [true, 1]", "sold is true or false and 1 is not; write sold"),
        ("category == true", "category is text and true is not; put it in quotes"),
        ("category = 'Tea'", "== (one = is none of the comparisons) expected at character 10, found '='"),
        ("category == 'Mug'", "no item has 'Mug' as category, did you mean 'Mugs'?"),
        ("category in ['Mugs', 'Toy']", "no item has 'Toy' as category, did you mean 'Toys'?"),
        ("colour == 'Red'", "no item has 'Red' as colour, did you mean 'RED'?"),
        ("colour == 'green'", "no item has 'green' as colour; known: BLUE, RED"),
        ("category in 'Mugs'", "a list like ['a', 'b'] expected at character 13"),
        ("category in ['Mugs')", "']' expected at character 20, found ')'"),
        ("price", "price is a number and neither true nor false; compare it, like price > 0"),
        ("not category", "category is text and neither true nor false; compare it, like category == 'x'"),
        ("sold < 1", "sold is true or false and 1 is not; write sold"),
        ("price == true", "price is a number and true is not; write price > 0"),
        ("and", "a property name expected at character 1, found 'and'"),
    ],
)
def test_what_cannot_be_read_is_named(text, complaint):
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        compile_where(text)(COLUMNS)


def test_without_items_nobody_has_an_empty_text():
    assert compile_where("x == ''")({"x": []}).shape == (0,)


@given(st.text(), st.sampled_from("'\""))
def test_every_text_can_be_written(text, quote):
    found = compile_where(f"x == {quote}{text.replace(quote, 2 * quote)}{quote}")({"x": [text, text + "."]})
    assert found.tolist() == [bool(text), False]


def test_a_column_of_many_values_is_no_list_to_choose_from():
    names = [f"name {n}" for n in range(300)]
    assert not compile_where("name == 'nobody'")({"name": names}).any()


PIECES = [
    *COLUMNS,
    *"()[],<>=!'\"`;\\\0\n\u2028\U0001f4a9",
    "<=",
    "==",
    "!=",
    "and",
    "or",
    "not",
    "in",
    "true",
    "'Mugs'",
    '"',
    "5",
]
PIECES += ["-1e999", "9" * 400, "nan", "é", "__class__", "' or 1 == 1 --", "{price}", "%s", "(" * 60, "not " * 200]


@settings(max_examples=1_000)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join)))
def test_hostile_texts_are_read_or_refused_in_one_line(text):
    try:
        found = compile_where(text)(COLUMNS)
    except ConfigError as e:
        assert len(str(e).splitlines()) == 1  # noqa: PT017
        assert len(str(e)) < 400  # noqa: PT017
    else:
        assert found.shape == (4,)
        assert found.dtype == bool
