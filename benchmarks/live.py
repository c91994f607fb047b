"""How long a live Neo4j graph takes to become a catalogue, and how much memory; beside it, one record per relation.

    NEO4J_PASSWORD=… python benchmarks/live.py bolt://127.0.0.1:7687 [--fill] [--events N] [--items N] [--users N]

`--fill` first writes the generated shop into the database, which has to be empty. The last line is one JSON object:
{"seconds", "relations_per_s", "record_relations_per_s", "peak_mib"}.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from contextlib import closing

from generated import BOUGHT, shop

from catalograph.config import ShopConfig
from catalograph.kg.bolt import Bolt
from catalograph.kg.sources import open_source
from catalograph.loaders.load import load_catalogue

ROWS, SAMPLE = 20_000, 100_000


def main() -> None:
    """Fill if asked, load, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--fill", action="store_true")
    for name, default in (("users", 100_000), ("items", 200_000), ("events", 2_000_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    if asked.fill:
        fill(asked.url, asked.users, asked.items, asked.events)
    start = time.perf_counter()
    with closing(open_source(config(asked.url))) as source:
        found = load_catalogue(config(asked.url), source=source)
    seconds = time.perf_counter() - start
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    events = found.interactions.num_rows
    facts = sum(table.num_rows for key, table in found.edges.items() if key.source == "Product")
    print(f"{events:,} events and {facts:,} relations of {found.nodes['Product'].num_rows:,} items in {seconds:.1f} s")
    figures = {"seconds": round(seconds, 1), "relations_per_s": round((events + facts) / seconds)}
    print(json.dumps(figures | {"record_relations_per_s": round(one_by_one(asked.url)), "peak_mib": round(peak)}))


def config(url: str) -> ShopConfig:
    """The shop.toml of the generated graph."""
    return ShopConfig.model_validate(
        {
            "shop": {"name": "generated"},
            "graph": {"url": url},
            "items": {
                "label": "Product",
                "id": "sku",
                "title": "name",
                "properties": {"name": "string", "price": "float"},
            },
            "users": {"label": "Customer", "id": "email"},
            "interactions": {"relation": "BOUGHT", "time": "at", "quantity": "units"},
        }
    )


def one_by_one(url: str) -> float:
    """Relations a second when each is a record of its own."""
    with closing(Bolt(url)) as bolt:
        start = time.perf_counter()
        text = "MATCH (c:Customer)-[b:BOUGHT]->(p:Product) RETURN c.email, p.sku, b.at, b.units LIMIT $n"
        return len(bolt.read(text, {"n": SAMPLE})) / (time.perf_counter() - start)


def fill(url: str, users: int, items: int, events: int) -> None:
    """Write the generated shop: products with a brand, customers, and an event per pair."""
    nodes, edges = shop(users=users, items=items, edges=events)
    with closing(Bolt(url)) as bolt:
        if bolt.read("MATCH (n) RETURN 1 LIMIT 1"):
            sys.exit(f"{url} is not empty; give it a database of its own")
        with bolt.session("WRITE") as session:
            for label, key in (("Product", "sku"), ("Customer", "email"), ("Brand", "name")):
                session.run(f"CREATE CONSTRAINT FOR (n:{label}) REQUIRE n.{key} IS UNIQUE").consume()
            for table, text in (
                (
                    nodes["Item"],
                    "CREATE (p:Product {sku: row.id, name: row.name, price: row.price}) "
                    "MERGE (b:Brand {name: 'brand ' + right(row.id, 3)}) CREATE (p)-[:MADE_BY]->(b)",
                ),
                (nodes["User"], "CREATE (:Customer {email: row.id})"),
                (
                    edges[BOUGHT],
                    "MATCH (c:Customer {email: row.source}) MATCH (p:Product {sku: row.target}) "
                    "CREATE (c)-[:BOUGHT {at: datetime({epochMillis: row.last_at}), units: row.count}]->(p)",
                ),
            ):
                for low in range(0, table.num_rows, ROWS):
                    session.run(f"UNWIND $rows AS row {text}", rows=table.slice(low, ROWS).to_pylist()).consume()


if __name__ == "__main__":
    main()
