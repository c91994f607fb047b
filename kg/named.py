"""Named queries: the library in `queries/*.cypher`, run on any shop's graph with parameters as people type them.

A label, relation or property cannot be a parameter in Cypher. The few that differ between shops are placeholders in
the texts, filled from shop.toml with names the configuration has checked; all else a person types is a parameter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import pyarrow as pa

from ..config import ShopConfig
from ..errors import QueryError, UnknownIdError, did_you_mean
from ..loaders.catalogue import HELD_OUT, INTERACTED
from . import queries
from .query_file import GROUPS, NEEDS, NamedQuery, Parameter, filled, parsed
from .schema import Schema, quoted
from .store import GraphStore, Scalar
from .writeback import RECOMMENDED, SIMILAR_TO

ARROW = {
    "string": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "time": pa.timestamp("ms", "UTC"),
}


@cache
def list_queries() -> tuple[NamedQuery, ...]:
    """All of them, by group and name."""
    texts: dict[str, dict[str, str]] = {}
    for file in files(queries).iterdir():
        if file.name.endswith(".cypher"):
            name, _, dialect = file.name.removesuffix(".cypher").partition(".")
            texts.setdefault(name, {})[dialect] = file.read_text("utf-8")
    found = [parsed(name, by_dialect) for name, by_dialect in texts.items()]
    return tuple(sorted(found, key=lambda query: (list(GROUPS).index(query.group), query.name)))


def get_query(name: str) -> NamedQuery:
    """The query of this name.

    Raises:
        QueryError: there is none.
    """
    by_name = {query.name: query for query in list_queries()}
    if name not in by_name:
        raise QueryError(f"no query {name!r}{did_you_mean(name, by_name)}")
    return by_name[name]


def run_query(store: GraphStore, config: ShopConfig, name: str, given: Mapping[str, str]) -> pa.Table:
    """Run a named query. The columns are those of its header, as string, int64, float64, bool or timestamp[ms, UTC];
    columns of titles are left out where the shop names none.

    Raises:
        QueryError: an unknown, missing or unreadable parameter, or something this shop's graph does not have.
        UnknownIdError: an item, customer or relation it does not have.
    """
    query = get_query(name)
    published = store.published() if {RECOMMENDED, SIMILAR_TO}.intersection(query.needs) else None
    shop = Vocabulary(config, store.schema(), {key.relation for key in published.edges} if published else ())
    known = {parameter.name: parameter for parameter in query.parameters}
    for key in given:
        if key not in known:
            raise QueryError(f"{name} takes no parameter {key!r}{did_you_mean(key, known)}")
    shop.check_needs(query)
    values: dict[str, Any] = {parameter.name: _value(name, parameter, given) for parameter in query.parameters}
    for parameter in query.parameters:
        _check_known(store, shop, parameter, values[parameter.name])
    answer = _ask(store, shop, query.text(store.dialect), values)
    shown = [column for column in query.columns if shop.has_titles or not column.is_title]
    return pa.table({column.name: answer[column.name].cast(ARROW[column.kind]) for column in shown})


class Vocabulary:
    """What one shop calls the things all shops have. Held-out events, and what a model has published beside the graph,
    are in none of its words."""

    def __init__(self, config: ShopConfig, schema: Schema, published: Collection[str] = ()) -> None:
        """`published` are the relations of a publication. Raises QueryError when the graph was not made with this
        configuration."""
        self.item, self.user = config.items.label, config.users.label
        for label in (self.item, self.user) if INTERACTED in schema.relations() else (self.item,):
            if label not in schema.nodes:
                raise QueryError(f"the graph has no {label} nodes, as shop.toml calls them; run `catalograph rebuild`")
        self._schema = schema
        self._baskets = config.baskets.relation if config.baskets else None
        title = config.items.title or ""
        self.has_titles = schema.nodes[self.item].get(title) == "string"
        self._title = title if self.has_titles else "id"
        self._published = published
        self._relations = schema.relations().keys() - {HELD_OUT}
        leaving = {key.relation for key in schema.edges if key.source == self.item}
        self.facts = leaving - {INTERACTED, HELD_OUT, self._baskets}

    def words(self) -> dict[str, str]:
        """Placeholder -> what stands for it in Cypher."""
        schema = self._schema
        values = {key.target for key in schema.edges if key.source == self.item}
        named = any(schema.nodes[label].get("name") == "string" for label in values)
        plain = {"item": self.item, "user": self.user, "title": self._title, "name": "name" if named else self._title}
        if self._baskets:
            plain["baskets"] = self._baskets
        several = {"relations": self._relations, "facts": self.facts}
        return {key: quoted(name) for key, name in plain.items()} | {
            key: "|".join(map(quoted, sorted(names))) for key, names in several.items()
        }

    def lists(self) -> dict[str, list[str]]:
        """Parameter -> value, of those a text may use without asking for them."""
        return {"facts": sorted(self.facts), "labels": sorted(self._schema.nodes)}

    def check_needs(self, query: NamedQuery) -> None:
        """Raises QueryError naming the first thing a query needs and the graph lacks."""
        for need in query.needs:
            if not self._has(*need.partition(".")[::2]):
                what, why = NEEDS[need]
                raise QueryError(f"{query.name} needs {what}, and this shop's graph has none; {why}")

    def _has(self, owner: str, column: str) -> bool:
        if owner in ("@facts", "@relations"):
            return bool(self.facts if owner == "@facts" else self._relations)
        owner = {"@item": self.item, "@user": self.user, "@baskets": self._baskets or ""}.get(owner, owner)
        if owner in self._schema.nodes:
            return not column or column in self._schema.nodes[owner]
        if owner in self._published:
            return True
        return owner in self._schema.relations() and (not column or column in self._schema.unified(owner))


def _ask(store: GraphStore, shop: Vocabulary, text: str, values: Mapping[str, Any]) -> pa.Table:
    """The answer of a text with placeholders; an engine wants the parameters the text uses and no other."""
    used = set(re.findall(r"\$(\w+)", text))
    given = {key: value for key, value in {**shop.lists(), **values}.items() if key in used}
    return store.run(filled(text, shop.words()), given)


def _check_known(store: GraphStore, shop: Vocabulary, parameter: Parameter, value: str) -> None:
    if parameter.kind == "relation" and value not in shop.facts:
        raise UnknownIdError(f"{shop.item} nodes have no relation {value!r}{did_you_mean(value, shop.facts)}")
    if parameter.kind in ("item", "user"):
        text = f"MATCH (n:@{parameter.kind} {{id: $id}}) RETURN count(*) AS n"
        if _ask(store, shop, text, {"id": value})["n"][0].as_py() == 0:
            hint = "; `find_items` looks for one by a part of its name" if parameter.kind == "item" else ""
            raise UnknownIdError(f"the graph has no {getattr(shop, parameter.kind)} {value!r}{hint}")


def _value(name: str, parameter: Parameter, given: Mapping[str, str]) -> Scalar:
    text = given.get(parameter.name, parameter.default)
    if text is None:
        raise QueryError(f"{name} needs {parameter.name}; for example -p '{parameter.name}={parameter.example}'")
    try:
        return PARSED.get(parameter.kind, str)(text)
    except ValueError:
        raise QueryError(f"{name}: {parameter.name} is {text!r}, which is no {parameter.kind} of 0 or more") from None


def _natural(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 31:
        raise ValueError(text)
    return number


def _measure(text: str) -> float:
    number = float(text)
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(text)
    return number


PARSED: Mapping[str, Callable[[str], Scalar]] = {"int": _natural, "float": _measure}
