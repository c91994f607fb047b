"""Neo4j graphs as other people make them, for tests that read one."""

from __future__ import annotations

import csv
from pathlib import Path

from catalograph.kg.bolt import Bolt

DIRECT = (
    "UNWIND $rows AS row MATCH (c:Customer {email: row.user}) MATCH (p:Product {sku: row.item}) "
    "CREATE (c)-[:BOUGHT {at: localdatetime(row.time), units: toInteger(row.quantity)}]->(p)"
)
ORDERS = (  # the older way round for one of the two steps
    "UNWIND $rows AS row MATCH (c:Customer {email: row.user}) MATCH (p:Product {sku: row.item}) "
    "MERGE (o:Order {number: row.user + row.time}) ON CREATE SET o.at = datetime({datetime: localdatetime(row.time), "
    "timezone: 'UTC'}) MERGE (o)-[:PLACED_BY]->(c) CREATE (o)-[:CONTAINS {units: toInteger(row.quantity)}]->(p)"
)


def write(url, *statements, **parameters):
    """Run statements one after the other."""
    bolt = Bolt(url)
    with bolt.session("WRITE") as session:
        for statement in statements:
            session.run(statement, parameters).consume()
    bolt.close()


def dump(url):
    """All there is: nodes, relations, constraints and indexes, as comparable text."""
    bolt = Bolt(url)
    nodes = bolt.read("MATCH (n) RETURN elementId(n), labels(n), properties(n) ORDER BY elementId(n)")
    edges = bolt.read(
        "MATCH (a)-[r]->(b) WITH a, r, b ORDER BY elementId(r) "
        "RETURN elementId(a), elementId(r), type(r), properties(r), elementId(b)"
    )
    rules = [
        bolt.read(f"SHOW {kind} YIELD name, type, labelsOrTypes, properties") for kind in ("CONSTRAINTS", "INDEXES")
    ]
    bolt.close()
    return [[repr(record.values()) for record in records] for records in (nodes, edges, *rules)]


def plant(url, shop: Path, events=DIRECT):
    """The files of tests/shops.make_shop as a graph."""
    items, sales = (rows(shop.parent / name) for name in ("items.csv", "sales.csv"))
    write(
        url,
        "CREATE CONSTRAINT skus FOR (p:Product) REQUIRE p.sku IS UNIQUE",
        "CREATE CONSTRAINT emails FOR (c:Customer) REQUIRE c.email IS UNIQUE",
        "UNWIND $items AS row CREATE (:Product {sku: row.item, name: row.name, price: toFloat(row.price), "
        "category: row.category})",
        "UNWIND $rows AS row WITH DISTINCT row.user AS user CREATE (:Customer {email: user})",
        events,
        items=items,
        rows=sales,
    )


def rows(file: Path):
    """The rows of a CSV file as dicts."""
    with file.open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))
