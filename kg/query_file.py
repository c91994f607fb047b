"""What a file of `queries/` says: a header of `// key: value` lines, then read-only Cypher.

// title: Bought together
// group: sales
// about: The items that share most baskets with one item.
// param: item item: the item, e.g. RED RETROSPOT MUG
// param: limit int = 10: rows at most
// column: item string: the other item
// column: baskets int: baskets that hold both
// needs: @baskets

A parameter is `NAME KIND = DEFAULT: WORDS` or, where it has to be given, `NAME KIND: WORDS, e.g. EXAMPLE`; a column is
`NAME KIND: WORDS`. `needs` names relations, or properties as OWNER.PROPERTY, that a shop may lack (:data:`NEEDS`).

The text below the header names what a shop calls otherwise by placeholders (:func:`filled`), and takes beside its own
parameters $facts and $labels (:class:`.named.Vocabulary`). Where the stores' dialects differ, NAME.neo4j.cypher holds
Neo4j's text alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from string import Template

GROUPS: Mapping[str, str] = {
    "catalogue quality": "What is missing, doubled or odd in the catalogue.",
    "products": "One item and the items around it.",
    "customers": "One customer, or the customers of a kind.",
    "sales": "What is taken, by item, by time and by attribute.",
    "graph": "What the graph holds and how it hangs together.",
    "model": "What a recommendation can rest on.",
}
NEEDS: Mapping[str, tuple[str, str]] = {  # what a shop may lack, and why it would
    "INTERACTED": ("a log", "shop.toml has no [interactions]"),
    "@relations": ("relations", "shop.toml tells nothing of its items"),
    "@facts": ("attributes", "shop.toml tells nothing of its items"),
    "@baskets": ("baskets", "shop.toml has no [baskets]"),
    "@item.price": ("prices", "shop.toml names no item property or derived property `price`"),
    "INTERACTED.first_at": ("times", "shop.toml names no interactions.time"),
    "INTERACTED.last_at": ("times", "shop.toml names no interactions.time"),
    "RECOMMENDED": ("published recommendations", "run `catalograph publish` with --users"),
    "SIMILAR_TO": ("published lists of similar items", "run `catalograph publish`"),
}
PARAMETER_KINDS = ("item", "user", "relation", "string", "int", "float")
COLUMN_KINDS = ("string", "int", "float", "bool", "time")
PARAMETER = re.compile(
    r"(?P<name>\w+) (?P<kind>\w+)(?: = (?P<default>[^:]+))?: (?P<words>.+?)(?:, e\.g\. (?P<example>.+))?"
)
COLUMN = re.compile(r"(?P<name>\w+) (?P<kind>\w+): (?P<words>.+)")


@dataclass(frozen=True)
class Parameter:
    """One `param` line; without a default it has to be given."""

    name: str
    kind: str
    default: str | None
    words: str
    example: str


@dataclass(frozen=True)
class Column:
    """One `column` line."""

    name: str
    kind: str
    words: str

    @property
    def is_title(self) -> bool:
        """Whether it only repeats the id where a shop names no titles."""
        return self.name.endswith("title")


@dataclass(frozen=True)
class NamedQuery:
    """A query and its header; `texts` by dialect, "" for every store that has no text of its own."""

    name: str
    title: str
    group: str
    about: str
    parameters: tuple[Parameter, ...]
    columns: tuple[Column, ...]
    needs: tuple[str, ...]
    texts: Mapping[str, str]

    def text(self, dialect: str) -> str:
        """What to send to a store of this dialect, placeholders and all."""
        return self.texts.get(dialect, self.texts[""])


class _Text(Template):
    """`@item` instead of Template's `$item`, which is Cypher's own."""

    delimiter = "@"


def filled(text: str, words: Mapping[str, str]) -> str:
    """The text with `words` in place of its placeholders."""
    return _Text(text).substitute(words)


def parsed(name: str, texts: Mapping[str, str]) -> NamedQuery:
    """The query in a file and its dialects' texts.

    Raises:
        ValueError: the header is not as described above; the library's own tests read every file.
    """
    header: dict[str, list[str]] = {}
    for line in texts[""].splitlines():
        if line.startswith("// "):
            key, _, value = line.removeprefix("// ").partition(": ")
            header.setdefault(key, []).append(value)
    title, group, about = (header.pop(key)[0] for key in ("title", "group", "about"))
    parameters = tuple(_parameter(line) for line in header.pop("param", []))
    columns = tuple(_column(line) for line in header.pop("column"))
    needs = tuple(part.strip() for line in header.pop("needs", []) for part in line.split(","))
    unknown = [*header, *({group} - GROUPS.keys()), *(need for need in needs if need not in NEEDS)]
    if unknown:
        raise ValueError(f"{name}: unknown {', '.join(unknown)} in the header")
    return NamedQuery(name, title, group, about, parameters, columns, needs, texts)


def _parameter(line: str) -> Parameter:
    found = PARAMETER.fullmatch(line)
    if found is None or found["kind"] not in PARAMETER_KINDS or not (found["default"] or found["example"]):
        raise ValueError(f"no parameter: {line!r}")
    return Parameter(
        found["name"], found["kind"], found["default"], found["words"], found["default"] or found["example"]
    )


def _column(line: str) -> Column:
    found = COLUMN.fullmatch(line)
    if found is None or found["kind"] not in COLUMN_KINDS:
        raise ValueError(f"no column: {line!r}")
    return Column(found["name"], found["kind"], found["words"])
