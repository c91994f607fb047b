"""What a Neo4j graph made elsewhere holds: labels, relation types, what tells the nodes of a label apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from .bolt import Bolt
from .live_read import Way
from .schema import quoted

SAMPLE: Final = 1_000  # nodes or ways looked at for a hint or a guess
ID_NAMES: Final = ("id", "uuid", "sku", "code", "key", "slug", "email", "name", "title")  # likely ids, likeliest first


def labels(bolt: Bolt) -> list[str]:
    """Every label in use."""
    return [record[0] for record in bolt.read("CALL db.labels() YIELD label RETURN label ORDER BY label")]


def relation_types(bolt: Bolt) -> list[str]:
    """Every relation type in use."""
    query = "CALL db.relationshipTypes() YIELD relationshipType AS type RETURN type ORDER BY type"
    return [record[0] for record in bolt.read(query)]


def properties(bolt: Bolt, label: str) -> list[str]:
    """Property names of some nodes of a label."""
    query = f"MATCH (n:{quoted(label)}) WITH n LIMIT $sample UNWIND keys(n) AS key RETURN DISTINCT key ORDER BY key"
    return [record[0] for record in bolt.read(query, {"sample": SAMPLE})]


def identifier(bolt: Bolt, label: str) -> str | None:
    """The property that tells the nodes of a label apart, filled and different on all of them; None when there is none.

    Properties with a uniqueness constraint are tried first, then those with an id's name, then the others.
    """
    constrained = _constrained(bolt, label)
    lead = [f"{label.lower()}{end}" for end in ("_id", "id")]
    names = [*lead, *ID_NAMES]

    def rank(name: str) -> tuple[bool, int, str]:
        lower = name.lower()
        return name not in constrained, names.index(lower) if lower in names else len(names), name

    known = [name for name in {*properties(bolt, label), *constrained} if _can_be_quoted(name)]
    return next((name for name in sorted(known, key=rank) if tells_apart(bolt, label, name)), None)


def tells_apart(bolt: Bolt, label: str, property_: str) -> bool:
    """Whether a property is there, a text or a whole number, and different on every node of a label."""
    x = f"n.{quoted(property_)}"
    query = (
        f"MATCH (n:{quoted(label)}) WITH {x} AS value, {x} IS :: STRING OR {x} IS :: INTEGER AS plain "
        "RETURN count(*), count(CASE WHEN plain THEN 1 END), count(DISTINCT value)"
    )
    ((nodes, plain, distinct),) = bolt.read(query)
    return bool(nodes == plain == distinct)


def _constrained(bolt: Bolt, label: str) -> set[str]:
    query = (
        "SHOW CONSTRAINTS YIELD type, labelsOrTypes, properties "
        "WHERE type IN ['UNIQUENESS', 'NODE_KEY'] AND labelsOrTypes = [$label] AND size(properties) = 1 "
        "RETURN properties[0]"
    )
    return {record[0] for record in bolt.read(query, {"label": label})}


def ends(bolt: Bolt, label: str, relation: str) -> list[tuple[frozenset[str], int]]:
    """The label sets of what the nodes of a label are linked to by a relation type, in any direction, and how often."""
    query = (
        f"MATCH (:{quoted(label)})-[:{quoted(relation)}]-(b) "
        "RETURN labels(b) AS labels, count(*) AS relations ORDER BY relations DESC, labels"
    )
    return [(frozenset(record[0]), record[1]) for record in bolt.read(query)]


def one_label(found: Sequence[tuple[frozenset[str], int]], prefer: Iterable[str]) -> dict[frozenset[str], str]:
    """One label for every label set: a preferred one, else the one that covers most of what was found."""
    weight: Counter[str] = Counter()
    for labels_, count in found:
        weight.update(dict.fromkeys(labels_, count))
    first = set(prefer)
    return {
        labels_: min(labels_, key=lambda label: (label not in first, -weight[label], label))
        for labels_, _ in found
        if labels_
    }


def touches(bolt: Bolt, label: str, other: str) -> bool:
    """Whether any relation links two labels."""
    return bool(bolt.read(f"MATCH (:{quoted(label)})--(:{quoted(other)}) RETURN 1 LIMIT 1"))


def has_property(bolt: Bolt, label: str, property_: str) -> bool:
    """Whether any node of a label has a property."""
    query = f"MATCH (n:{quoted(label)}) WHERE n.{quoted(property_)} IS NOT NULL RETURN 1 LIMIT 1"
    return bool(bolt.read(query))


def variable_with(bolt: Bolt, way: Way, property_: str) -> str | None:
    """The relation of a way, or the node between two, that has a property anywhere; the one nearest to the end."""
    match = f"MATCH {way.pattern()}"
    for variable in way.variables():
        if bolt.read(f"{match} WHERE {variable}.{quoted(property_)} IS NOT NULL RETURN 1 LIMIT 1"):
            return variable
    return None


def way_properties(bolt: Bolt, way: Way) -> list[str]:
    """Property names of some relations of a way and of the nodes between."""
    match = f"MATCH {way.pattern()}"
    keys = " + ".join(f"keys({variable})" for variable in way.variables())
    query = f"{match} WITH {', '.join(way.variables())} LIMIT $sample UNWIND {keys} AS key RETURN DISTINCT key"
    return sorted(record[0] for record in bolt.read(query, {"sample": SAMPLE}))


def _can_be_quoted(name: str) -> bool:
    return "`" not in name and "\\" not in name
