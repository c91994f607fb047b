"""A path of the graph as triples, and as a question that any of our stores answers with exactly these triples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .schema import quoted


class Node(NamedTuple):
    """One node: its label and its id."""

    label: str
    id: str


class Triple(NamedTuple):
    """One edge as it is stored: (source)-[relation]->(target)."""

    source: Node
    relation: str
    target: Node


def path_query(triples: Sequence[Triple]) -> tuple[str, dict[str, str]]:
    """Read-only Cypher and its parameters; the answer has a row per triple, in any order: source, relation, target.

    Ids are parameters, so nothing an id may hold can change the question. Labels and relation types cannot be
    parameters in Cypher; they are quoted. One `MATCH` an edge: the embedded engine plans each as a look-up by id.

    Raises:
        GraphError: a label or relation type that cannot be quoted.
    """
    nodes = list(dict.fromkeys(node for triple in triples for node in (triple.source, triple.target)))
    name = {node: f"n{number}" for number, node in enumerate(nodes, 1)}
    text = "\nUNION ALL ".join(_one_edge(triple, name[triple.source], name[triple.target]) for triple in triples)
    return text, {name[node]: node.id for node in nodes}


def _one_edge(triple: Triple, source: str, target: str) -> str:
    a, b = (
        f"({variable}:{quoted(node.label)} {{id: ${name}}})"
        for variable, node, name in (("a", triple.source, source), ("b", triple.target, target))
    )
    literal = triple.relation.replace("'", "\\'")  # a back-slash is refused by `quoted`
    return (
        f"MATCH {a}-[:{quoted(triple.relation)}]->{b} "
        f"RETURN DISTINCT a.id AS source, '{literal}' AS relation, b.id AS target"
    )
