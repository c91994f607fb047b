"""Named queries: `queries/*.cypher`, each with a header that says what it is, what it takes and what it answers.

// title: Bought together
// group: sales
// about: Items that share baskets with one item.
// param: item string RED MUG
// param: limit int 10
// columns: item, count
// needs: BOUGHT_TOGETHER
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files

import pyarrow as pa

from ..errors import QueryError, did_you_mean
from . import queries
from .schema import Schema
from .store import GraphStore, Scalar

KINDS: Mapping[str, Callable[[str], Scalar]] = {"string": str, "int": int, "float": float}


@dataclass(frozen=True)
class Parameter:
    """One `param` line: a name, its kind, and an example that is also the default where a default makes sense."""

    name: str
    kind: str
    example: str

    @property
    def optional(self) -> bool:
        """Numbers default to their example; ids have to be given."""
        return self.kind != "string"


@dataclass(frozen=True)
class NamedQuery:
    """A query and its header."""

    name: str
    title: str
    group: str
    sentence: str
    parameters: tuple[Parameter, ...]
    columns: tuple[str, ...]
    needs: tuple[str, ...]
    text: str


def list_queries() -> list[NamedQuery]:
    """All of them, by group and name."""
    folder = files(queries)
    found = [_parsed(file.name, file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".cypher")]
    return sorted(found, key=lambda query: (query.group, query.name))


def get_query(name: str) -> NamedQuery:
    """The query of this name.

    Raises:
        QueryError: there is none.
    """
    by_name = {query.name: query for query in list_queries()}
    if name not in by_name:
        raise QueryError(f"no query {name!r}{did_you_mean(name, by_name)}")
    return by_name[name]


def run_query(store: GraphStore, name: str, given: Mapping[str, str]) -> pa.Table:
    """Run a named query with parameters as typed by people.

    Raises:
        QueryError: an unknown, missing or unreadable parameter, or a relation this shop's graph does not have.
    """
    query = get_query(name)
    known = {parameter.name: parameter for parameter in query.parameters}
    for key in given:
        if key not in known:
            raise QueryError(f"{name} takes no parameter {key!r}{did_you_mean(key, known)}")
    _check_needs(query, store.schema())
    values = {parameter.name: _value(name, parameter, given) for parameter in query.parameters}
    return store.run(query.text, values)


def _check_needs(query: NamedQuery, schema: Schema) -> None:
    for label in re.findall(r"\(\w*:(\w+)", query.text):
        if label not in schema.nodes:
            raise QueryError(f"{query.name} speaks of {label} nodes{did_you_mean(label, schema.nodes)}")
    for relation in query.needs:
        if relation not in schema.relations():
            raise QueryError(f"{query.name} needs {relation} relations, and this shop's graph has none")


def _value(name: str, parameter: Parameter, given: Mapping[str, str]) -> Scalar:
    if parameter.name not in given and not parameter.optional:
        raise QueryError(f"{name} needs {parameter.name}; for example -p '{parameter.name}={parameter.example}'")
    text = given.get(parameter.name, parameter.example)
    try:
        return KINDS[parameter.kind](text)
    except ValueError:
        raise QueryError(f"{name}: {parameter.name} is {text!r}, which is no {parameter.kind}") from None


def _parsed(file: str, text: str) -> NamedQuery:
    header: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("// "):
            key, _, value = line.removeprefix("// ").partition(": ")
            header.setdefault(key, []).append(value.strip())
    parameters = tuple(Parameter(*line.split(" ", 2)) for line in header.get("param", []))
    columns = tuple(part.strip() for part in header["columns"][0].split(","))
    needs = tuple(part.strip() for part in header.get("needs", [""])[0].split(",") if part.strip())
    one = {key: header[key][0] for key in ("title", "group", "about")}
    name = file.removesuffix(".cypher")
    return NamedQuery(name, one["title"], one["group"], one["about"], parameters, columns, needs, text)
