"""`where` texts: price < 20 and category in ['Mugs', 'Plates'] and in_stock. Parsed here, never evaluated as code.

    or    := and ("or" and)*            and := not ("and" not)*           not := "not" not | "(" or ")" | test
    test  := NAME | NAME ("<" | "<=" | ">" | ">=" | "==" | "!=") value | NAME ["not"] "in" among
    among := "[" value ("," value)* "]" | "(" value ("," value)* ")"
    value := number | "'" text "'" | '"' text '"' | "true" | "false"

A NAME is a property or a relation of the items; one with blanks or signs in it stands in back-ticks. Within quotes, the
same quote is written twice: '5" x 7'' frame'. A comparison with a missing value is false, and an empty text is one; a
missing true-or-false value counts as false. A relation (IS_A == 'mug') is == each of the values it leads to. A NAME
alone is for properties that are true or false.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import numpy as np

from ..errors import ConfigError, did_you_mean

Column = np.ndarray | Sequence[str] | Sequence[frozenset[str]]  # numbers float64 (NaN: missing) or bool; texts; sets
Condition = Callable[[Mapping[str, Column]], np.ndarray]
Value = str | float | bool
DEEPEST = 50  # parentheses within parentheses; far below where Python would stop us
LOW_CARDINALITY = 200  # a column of at most so many values is a list to choose from: an unknown one is a mistake
WORDS = ("and", "or", "not", "in", "true", "false")

TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<string>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")"
    r"|(?P<sign><=|>=|==|!=|<|>|=|[()\[\],])|(?P<name>[^\W\d]\w*)|`(?P<quoted>[^`]*)`)"
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
    if not isinstance(text, str):
        raise ConfigError(f'where is a text such as "price < 5" (got {text!r})')
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
        end = len(self.text.rstrip())
        while place < end:
            found = TOKEN.match(self.text, place)
            if found is None:
                raise ConfigError(f"where: cannot read {self.text[place:].strip()[:20]!r} at character {place + 1}")
            kind = str(found.lastgroup)
            tokens.append((kind, found.group(kind), found.start(kind)))
            place = found.end()
        return tokens

    def peek(self) -> str:
        """The next word, "" at the end; what was quoted is no word."""
        kind, word, _ = self.tokens[self.place] if self.place < len(self.tokens) else ("", "", 0)
        return word if kind in ("sign", "name") else ""

    def fail(self, wanted: str) -> ConfigError:
        """What was expected, and what stands there."""
        if self.place >= len(self.tokens):
            return ConfigError(f"where: {wanted} expected at the end of {_shown(self.text)}")
        _, word, start = self.tokens[self.place]
        return ConfigError(f"where: {wanted} expected at character {start + 1}, found {_shown(word)}")

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
        """One comparison, membership or truth."""
        kind, name, _ = self.tokens[self.place] if self.place < len(self.tokens) else ("", "", 0)
        if kind not in ("name", "quoted") or (kind == "name" and name in WORDS):
            raise self.fail("a property name")
        self.place += 1
        if self.peek() == "=":
            raise self.fail("== (one = is none of the comparisons)")
        if self.peek() in COMPARE:
            return self.comparison(name)
        negative = self.take("not")
        if negative or self.peek() == "in":
            self.need("in")
            return _among(name, self.values(), negative)
        return lambda columns: _truth(name, _column(columns, name))

    def comparison(self, name: str) -> Condition:
        """A sign and a value."""
        sign = self.peek()
        self.place += 1
        value = self.value()
        return lambda columns: _compare(name, _column(columns, name), sign, value)

    def values(self) -> list[Value]:
        """Values in brackets, square or round."""
        closing = {"[": "]", "(": ")"}.get(self.peek())
        if closing is None:
            raise self.fail("a list like ['a', 'b']")
        self.place += 1
        found = [self.value()]
        while self.take(","):
            found.append(self.value())
        self.need(closing)
        return found

    def value(self) -> Value:
        """A number, a quoted string, true or false."""
        kind, word, _ = self.tokens[self.place] if self.place < len(self.tokens) else ("", "", 0)
        if kind not in ("number", "string") and self.peek() not in ("true", "false"):
            raise self.fail("a number or a quoted string")
        self.place += 1
        if kind == "name":
            return word == "true"
        return float(word) if kind == "number" else word[1:-1].replace(word[0] * 2, word[0])


def _joined(how: Callable[[np.ndarray, np.ndarray], np.ndarray], parts: Sequence[Condition]) -> Condition:
    if len(parts) == 1:
        return parts[0]

    def condition(columns: Mapping[str, Column]) -> np.ndarray:
        found = parts[0](columns)
        for part in parts[1:]:  # one after the other: a long text takes time, and no memory
            found = how(found, part(columns))
        return found

    return condition


def _among(name: str, values: Sequence[Value], negative: bool) -> Condition:
    def condition(columns: Mapping[str, Column]) -> np.ndarray:
        column = _column(columns, name)
        found = _one_of(name, column, values)
        return _filled(column) & ~found if negative else found

    return condition


def _column(columns: Mapping[str, Column], name: str) -> Column:
    if name not in columns:
        raise ConfigError(f"where: no property or relation {_shown(name)}{did_you_mean(name, columns)}")
    return columns[name]


def _filled(column: Column) -> np.ndarray:
    if isinstance(column, np.ndarray):
        return np.ones(len(column), bool) if column.dtype == bool else ~np.isnan(column)
    return np.array([bool(value) for value in column], bool)


def values_of(column: Column) -> list[frozenset[str]]:
    """What each item has of a property or relation, as a set of texts; empty where that is missing."""
    if isinstance(column, np.ndarray):
        return [
            frozenset([str(value)]) if there else frozenset()
            for value, there in zip(column, _filled(column), strict=True)
        ]
    return [held if isinstance(held, frozenset) else frozenset([held] if held else []) for held in column]


def _truth(name: str, column: Column) -> np.ndarray:
    if isinstance(column, np.ndarray) and column.dtype == bool:
        return column
    _refuse(name, f"is {_kind(column)} and neither true nor false", f"compare it, like {name} {_example(column)}")


def _compare(name: str, column: Column, sign: str, value: Value) -> np.ndarray:
    if isinstance(column, np.ndarray):
        return np.asarray(COMPARE[sign](column, _number(name, column, value)) & _filled(column))
    if isinstance(value, str) and sign not in ("==", "!="):
        _refuse(name, "is text", "compare it by == or !=")
    equal = _one_of(name, column, [value])
    return equal if sign == "==" else _filled(column) & ~equal


def _one_of(name: str, column: Column, values: Sequence[Value]) -> np.ndarray:
    """bool [item]: who has one of these values, in one pass however many they are."""
    if isinstance(column, np.ndarray):
        numbers = {_number(name, column, value) for value in values}
        return np.isin(column, np.array(list(numbers), column.dtype))
    texts = [text for value in values if (text := _text(name, value))]  # "" is how a missing one is held
    _check_known(name, column, texts)
    wanted = set(texts)
    return np.array(
        [not wanted.isdisjoint(held) if isinstance(held, frozenset) else held in wanted for held in column], bool
    )


def _number(name: str, column: np.ndarray, value: Value) -> float:
    if isinstance(value, str):
        _refuse(name, f"is {_kind(column)} and {_shown(value)} is text", "write it without quotes")
    if isinstance(value, bool) != (column.dtype == bool):
        _refuse(name, f"is {_kind(column)} and {_written(value)} is not", f"write {name} {_example(column)}".strip())
    return value


def _text(name: str, value: Value) -> str:
    if not isinstance(value, str):
        _refuse(name, f"is text and {_written(value)} is not", "put it in quotes")
    return value


def _check_known(name: str, column: Sequence[str] | Sequence[frozenset[str]], wanted: Sequence[str]) -> None:
    """A value that a short list of values does not have is most likely misspelt."""
    known, left = set[str](), set(wanted)
    for held in column:
        found = held if isinstance(held, frozenset) else {held}
        known |= found
        left -= found
        if not left or len(known) > LOW_CARDINALITY:
            return
    known.discard("")
    for value in wanted:
        if value in left:
            raise ConfigError(f"where: no item has {_shown(value)} as {name}{did_you_mean(value, known)}")


def _kind(column: Column) -> str:
    if isinstance(column, np.ndarray):
        return "true or false" if column.dtype == bool else "a number"
    return "text"


def _written(value: float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def _example(column: Column) -> str:
    if isinstance(column, np.ndarray):
        return "" if column.dtype == bool else "> 0"
    return "== 'x'"


def _refuse(name: str, found: str, do: str) -> NoReturn:
    raise ConfigError(f"where: {name} {found}; {do}")


def _shown(text: str) -> str:
    """Quoted, on one line, and no longer than a line."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
