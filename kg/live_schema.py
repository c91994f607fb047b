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
    known = [name for name in {*properties(bolt, label), *constrained} if can_be_quoted(name)]
    known.sort(key=lambda name: (name not in constrained, id_rank(label, name)))
    return next((name for name in known if tells_apart(bolt, label, name)), None)


def id_rank(label: str, name: str) -> tuple[int, str]:
    """Lower for names that ids have."""
    names = [f"{label.lower()}_id", f"{label.lower()}id", *ID_NAMES]
    return names.index(name.lower()) if name.lower() in names else len(names), name


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


def way_properties(bolt: Bolt, way: Way) -> dict[str, str]:
    """Property names of some relations of a way and of the nodes between -> the variable nearest to the end with it."""
    variables = way.variables()
    keys = ", ".join(f"keys({variable})" for variable in variables)
    query = (
        f"MATCH {way.pattern()} WITH {', '.join(variables)} LIMIT $sample WITH [{keys}] AS found "
        "UNWIND range(0, size(found) - 1) AS place UNWIND found[place] AS key RETURN key, min(place) ORDER BY key"
    )
    return {key: variables[place] for key, place in bolt.read(query, {"sample": SAMPLE})}


def count(bolt: Bolt, pattern: str) -> int:
    """How often a pattern occurs."""
    return int(bolt.read(f"MATCH {pattern} RETURN count(*)")[0][0])


def links(bolt: Bolt) -> list[tuple[frozenset[str], str, frozenset[str], int]]:
    """Labels of the start, relation type, labels of the end, and how often, of some relations of every type."""
    found = []
    for relation in filter(can_be_quoted, relation_types(bolt)):
        query = (
            f"MATCH (a)-[r:{quoted(relation)}]->(b) WITH labels(a) AS a, labels(b) AS b LIMIT $sample "
            "RETURN a, b, count(*) AS n ORDER BY n DESC, a, b"
        )
        found += [(frozenset(a), relation, frozenset(b), n) for a, b, n in bolt.read(query, {"sample": 10 * SAMPLE})]
    return found


def keeps_to(bolt: Bolt, label: str, property_: str, kind: str) -> bool:
    """Whether a property, where a node of a label has it, is of a type that reads as `kind`."""
    x = f"n.{quoted(property_)}"
    types = {
        "int": f"{x} IS :: INTEGER",
        "float": f"{x} IS :: INTEGER OR {x} IS :: FLOAT",
        "bool": f"{x} IS :: BOOLEAN",
        "time": f"{x} IS :: ZONED DATETIME OR {x} IS :: LOCAL DATETIME OR {x} IS :: DATE",
    }
    if kind not in types:
        return True
    return not bolt.read(f"MATCH (n:{quoted(label)}) WHERE {x} IS NOT NULL AND NOT ({types[kind]}) RETURN 1 LIMIT 1")


def can_be_quoted(name: str) -> bool:
    """Whether a name found in a graph can stand in a query."""
    return "`" not in name and "\\" not in name
