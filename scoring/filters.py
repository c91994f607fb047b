"""`--where` expressions: price < 5 and IS_A == 'mug'. Parsed here, never evaluated as code.

    or    := and ("or" and)*            and := not ("and" not)*           not := "not" not | "(" or ")" | test
    test  := NAME ("<" | "<=" | ">" | ">=" | "==" | "!=") value | NAME ["not"] "in" "(" value ("," value)* ")"

A comparison with a missing value is false. A column of sets (a relation of the graph: IS_A == 'mug') is == a value it
contains.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..errors import ConfigError, did_you_mean

Column = np.ndarray | Sequence[str] | Sequence[frozenset[str]]
Condition = Callable[[Mapping[str, Column]], np.ndarray]
Value = str | float
DEEPEST = 50  # parentheses within parentheses; far below where Python would stop us

TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<string>'[^']*'|\"[^\"]*\")|(?P<sign><=|>=|==|!=|<|>|\(|\)|,)"
    r"|(?P<name>[^\W\d]\w*))"
)
COMPARE: Mapping[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def compile_where(text: str) -> Condition:
    """A function from columns to bool [item].

    Raises:
        ConfigError: the text does not parse (now), or names an unknown column or compares unlike things (when called).
    """
    parser = _Parser(text)
    condition = parser.either()
    parser.done()
    return condition


class _Parser:
    def __init__(self, text: str) -> None:
        self.text, self.place, self.depth = text, 0, 0
        self.tokens = self._lex()

    def _lex(self) -> list[tuple[str, str, int]]:
        tokens, place = [], 0
        while self.text[place:].strip():
            found = TOKEN.match(self.text, place)
            if found is None:
                raise ConfigError(f"where: cannot read {self.text[place:].strip()[:20]!r} at character {place + 1}")
            tokens.append((str(found.lastgroup), found.group(str(found.lastgroup)), found.start(str(found.lastgroup))))
            place = found.end()
        return tokens

    def peek(self) -> str:
        """The next word, "" at the end; strings keep their quotes."""
        return self.tokens[self.place][1] if self.place < len(self.tokens) else ""

    def fail(self, wanted: str) -> ConfigError:
        """What was expected, and what stands there."""
        if self.place >= len(self.tokens):
            return ConfigError(f"where: {wanted} expected at the end of {self.text!r}")
        _, word, start = self.tokens[self.place]
        return ConfigError(f"where: {wanted} expected at character {start + 1}, found {word!r}")

    def take(self, *words: str) -> bool:
        """Step over one of these words."""
        if self.peek() in words:
            self.place += 1
            return True
        return False

    def need(self, word: str) -> None:
        """Step over this word or fail."""
        if not self.take(word):
            raise self.fail(repr(word))

    def done(self) -> None:
        """Nothing may be left."""
        if self.place < len(self.tokens):
            raise self.fail("'and', 'or' or the end")

    def either(self) -> Condition:
        """A chain of "or"."""
        parts = [self.both()]
        while self.take("or"):
            parts.append(self.both())
        return _joined(np.logical_or, parts)

    def both(self) -> Condition:
        """A chain of "and"."""
        parts = [self.negated()]
        while self.take("and"):
            parts.append(self.negated())
        return _joined(np.logical_and, parts)

    def negated(self) -> Condition:
        """not, parentheses, or a test."""
        negative = False
        while self.take("not"):
            negative = not negative
        inner = self.grouped() if self.peek() == "(" else self.test()
        return (lambda columns: ~inner(columns)) if negative else inner

    def grouped(self) -> Condition:
        """Something in parentheses."""
        if self.depth == DEEPEST:
            raise self.fail(f"at most {DEEPEST} parentheses within one another")
        self.depth += 1
        self.need("(")
        inner = self.either()
        self.need(")")
        self.depth -= 1
        return inner

    def test(self) -> Condition:
        """One comparison or membership."""
        if self.place >= len(self.tokens) or self.tokens[self.place][0] != "name":
            raise self.fail("a property name")
        name = self.peek()
        self.place += 1
        if self.peek() in COMPARE:
            sign = self.peek()
            self.place += 1
            value = self.value()
            return lambda columns: _compare(name, _column(columns, name), sign, value)
        negative = self.take("not")
        self.need("in")
        self.need("(")
        values = [self.value()]
        while self.take(","):
            values.append(self.value())
        self.need(")")

        def among(columns: Mapping[str, Column]) -> np.ndarray:
            column = _column(columns, name)
            found = np.any([_compare(name, column, "==", value) for value in values], axis=0)
            return _filled(column) & ~found if negative else np.asarray(found)

        return among

    def value(self) -> Value:
        """A number or a quoted string."""
        kind, word, _ = self.tokens[self.place] if self.place < len(self.tokens) else ("", "", 0)
        if kind not in ("number", "string"):
            raise self.fail("a number or a quoted string")
        self.place += 1
        return float(word) if kind == "number" else word[1:-1]


def _joined(how: np.ufunc, parts: Sequence[Condition]) -> Condition:
    if len(parts) == 1:
        return parts[0]
    return lambda columns: np.asarray(how.reduce([part(columns) for part in parts]), bool)


def _column(columns: Mapping[str, Column], name: str) -> Column:
    if name not in columns:
        raise ConfigError(f"where: no property {name!r}{did_you_mean(name, columns)}")
    return columns[name]


def _filled(column: Column) -> np.ndarray:
    if isinstance(column, np.ndarray):
        return ~np.isnan(column)
    return np.array([bool(value) for value in column], bool)


def _compare(name: str, column: Column, sign: str, value: Value) -> np.ndarray:
    if isinstance(column, np.ndarray):
        if isinstance(value, str):
            raise ConfigError(f"where: {name} is a number and {value!r} is text; write it without quotes")
        return np.asarray(COMPARE[sign](column, value) & ~np.isnan(column))
    if not isinstance(value, str):
        raise ConfigError(f"where: {name} is text and {value:g} is a number; put it in quotes")
    if sign not in ("==", "!="):
        raise ConfigError(f"where: {name} is text; compare it by == or !=")
    equal = np.array([value in held if isinstance(held, frozenset) else value == held for held in column], bool)
    return equal if sign == "==" else _filled(column) & ~equal
