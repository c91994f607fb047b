"""The library of named queries described from its headers: `query --list`, and the page docs/queries.md.

python -m catalograph.kg.query_page > docs/queries.md
"""

from __future__ import annotations

import shlex

from .named import list_queries
from .query_file import GROUPS, NEEDS, NamedQuery, Parameter

INTRODUCTION = """# Named queries

Made by `make docs` from the headers of `kg/queries/*.cypher`; edit those.

    catalograph query SHOP.toml --list
    catalograph query SHOP.toml NAME -p key=value … [--format table|csv|json]

They run on any shop: labels, the baskets' relation and the items' titles are taken from shop.toml, and a relation is a
parameter. *Attributes* are whatever the shop's files say of an item: every relation that leaves it but the baskets' and
what a model has written. Held-out events are never looked at. Every answer has a total order, so it is the same twice,
and on both stores. Columns of titles are there where shop.toml names `items.title`.

Where Cypher's dialects differ, a query has a second text for Neo4j; most have one for both.
"""


def listing_of_all() -> str:
    """Every query with its parameters, by group."""
    lines = []
    for group in GROUPS:
        lines.append(f"{group}:")
        for query in list_queries():
            if query.group == group:
                lines += [f"  {query.name}{_options(query)}", f"      {query.about}"]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page of the documentation, in Markdown."""
    parts = [INTRODUCTION]
    for group, sentence in GROUPS.items():
        parts.append(f"## {group.capitalize()}\n\n{sentence}\n")
        parts += [_section(query) for query in list_queries() if query.group == group]
    return "\n".join(parts)


def _section(query: NamedQuery) -> str:
    lines = [f"### {query.name}", "", query.about, "", f"    catalograph query SHOP.toml {query.name}{_options(query)}"]
    if query.parameters:
        lines += ["", "| parameter | kind | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| `{p.name}` | {p.kind} | {_default(p)} | {p.words} |" for p in query.parameters]
    lines += ["", "| column | kind | meaning |", "| --- | --- | --- |"]
    lines += [f"| `{column.name}` | {column.kind} | {column.words} |" for column in query.columns]
    if query.needs:
        lines += ["", f"Needs {' and '.join(dict.fromkeys(NEEDS[need][0] for need in query.needs))}."]
    return "\n".join(lines) + "\n"


def _options(query: NamedQuery) -> str:
    """What has to be given, by example."""
    needed = [p for p in query.parameters if p.default is None]
    return "".join(" -p " + shlex.quote(f"{p.name}={p.example}") for p in needed)


def _default(parameter: Parameter) -> str:
    return f"`{parameter.default}`" if parameter.default is not None else "required"


if __name__ == "__main__":
    print(page(), end="")
