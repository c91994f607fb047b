"""`catalograph init --store`: a draft for a Neo4j graph made elsewhere loads as it stands, and nothing is written."""

import re
import tomllib
from contextlib import closing

import pytest
from foreign import ORDERS, dump, plant, write
from shops import make_shop

from catalograph.cli import main
from catalograph.config import load_config
from catalograph.kg.bolt import Bolt
from catalograph.kg.sources import open_source
from catalograph.loaders.load import load_catalogue

MESSY = """
CREATE (top:Category {title: 'Home'}), (mugs:Category {title: 'Mugs'}), (again:Category {title: 'Mugs'})
CREATE (mugs)-[:CHILD_OF]->(top), (again)-[:CHILD_OF]->(top)
CREATE (acme:Brand:Company {name: 'Acme', country: 'UK'}), (best:Brand {name: 'Best'})
WITH top, mugs, again, acme, best
UNWIND range(0, 39) AS n
CREATE (p:Product {sku: 'p' + n, name: 'Thing number ' + n, stock: n, spot: point({x: n, y: 1}),
  tags: CASE n % 3 WHEN 0 THEN ['red'] WHEN 1 THEN ['red', 'blue'] ELSE 'blue' END})
SET p.price = CASE WHEN n % 10 = 0 THEN toString(n) ELSE n + 0.5 END,
  p.weight = CASE WHEN n = 7 THEN 'heavy' ELSE n * 1.5 END, p.since = CASE WHEN n % 2 = 0 THEN date('2020-01-01') END
FOREACH (x IN CASE WHEN n % 4 = 0 THEN [1] ELSE [] END | SET p:`On Sale`)
FOREACH (x IN CASE WHEN n % 2 = 0 THEN [1] ELSE [] END | CREATE (p)-[:IN]->(mugs))
FOREACH (x IN CASE WHEN n % 2 = 1 THEN [1] ELSE [] END | CREATE (p)-[:IN]->(again))
FOREACH (x IN CASE WHEN n % 5 = 0 THEN [1] ELSE [] END | CREATE (p)<-[:MAKES]-(acme))
FOREACH (x IN CASE WHEN n % 5 = 1 THEN [1] ELSE [] END | CREATE (p)<-[:MAKES]-(best))
CREATE (p)-[:`stored in`]->(:Shelf {size: n % 3})
"""
EVENTS = """
UNWIND range(0, 19) AS u
CREATE (c:Customer {email: 'c' + u + '@x', town: CASE WHEN u % 2 = 0 THEN 'Rome' ELSE 'Oslo' END})
WITH c, u UNWIND range(0, 4) AS o
CREATE (c)-[:PLACED]->(order:Order {number: u * 5 + o})
SET order.at = datetime({epochSeconds: 1700000000 + u * 3600 + o * 864000})
WITH order, u, o UNWIND range(0, 2) AS line
MATCH (p:Product {sku: 'p' + ((u * 7 + o * 3 + line) % 40)})
CREATE (order)-[:CONTAINS {units: line + 1}]->(p)
"""
VIEWS = "MATCH (c:Customer) MATCH (p:Product {sku: 'p1'}) CREATE (c)-[:VIEWED]->(p)"


def drafted(folder, url, *arguments):
    """The config and the catalogue of a draft for a graph, and its text."""
    out = folder / "draft.toml"
    assert main(["init", "--store", url, "--out", str(out), *arguments]) == 0
    config = load_config(out)
    with closing(open_source(config)) as source:
        return config, load_catalogue(config, source=source), out.read_text("utf-8")


def test_a_messy_graph_with_orders(neo4j_url, tmp_path):
    write(neo4j_url, MESSY, EVENTS, VIEWS)
    before, state = dump(neo4j_url), Bolt(neo4j_url).state()
    config, found, text = drafted(tmp_path, neo4j_url)
    assert (config.items.label, config.items.id, config.items.title) == ("Product", "sku", "name")
    assert {name: spec.type for name, spec in config.items.properties.items()} == {
        "name": "string",
        "price": "float",
        "spot": "string",
        "stock": "int",
        "weight": "string",
    }
    assert {(a.column, a.relation) for a in config.attributes} == {("tags", "HAS_TAG"), ("price", "IN_PRICE_BAND")}
    assert (config.users.label, config.users.id, list(config.users.properties)) == ("Customer", "email", ["town"])
    log = config.interactions
    assert (log.relation, log.time, log.quantity) == (("PLACED", "CONTAINS"), "at", "units")
    assert '# relation = "VIEWED"' in text
    assert config.split.method == "time"
    assert {(e.relation, e.source_label, e.target_label, e.target) for e in config.edges} == {
        ("IN", None, "Category", "title"),
        ("MAKES", None, "Brand", "name"),
        ("CHILD_OF", "Category", "Category", None),
    }
    assert config.graph.skip == ("VIEWED", "stored in")
    assert "# 20 VIEWED left out: leads to Customer, which users reach too" in text
    assert found.rejected == {}
    assert found.interactions.num_rows == 300
    assert {label: table.num_rows for label, table in found.nodes.items()} == {
        "Product": 40,
        "Customer": 20,
        "Category": 2,
        "Brand": 2,
        "Tag": 2,
        "PriceBand": 8,
    }
    assert dump(neo4j_url) == before
    assert Bolt(neo4j_url).state() == state


def test_a_planted_shop_is_found_again(neo4j_url, tmp_path):
    shop = make_shop(tmp_path / "files")
    expected = load_catalogue(load_config(shop))
    plant(neo4j_url, shop, ORDERS)
    config, found, _ = drafted(tmp_path, neo4j_url)
    assert config.interactions.relation == ("PLACED_BY", "CONTAINS")
    assert config.attributes[0].levels == " > "
    assert found.interactions.num_rows == expected.interactions.num_rows
    assert found.nodes["Product"].num_rows == expected.nodes["Item"].num_rows


def test_ids_that_repeat_are_set_aside(neo4j_url, tmp_path):
    write(neo4j_url, MESSY, EVENTS, "CREATE (:Product {sku: 'p1', name: 'Thing number 1'}), (:Product {})")
    config, found, text = drafted(tmp_path, neo4j_url)
    assert config.shop.on_bad_rows == "quarantine"
    assert "# 2 Product nodes repeat sku, or have none" in text
    assert found.nodes["Product"].num_rows == 40


def test_what_is_sampled_says_so(neo4j_url, tmp_path, monkeypatch):
    write(neo4j_url, MESSY, EVENTS)
    monkeypatch.setattr("catalograph.kg.bulk.CHUNK", 5)
    monkeypatch.setattr("catalograph.kg.bulk.BLOCK", 1)
    config, found, text = drafted(tmp_path, neo4j_url)
    assert config.shop.on_bad_rows == "quarantine"
    assert "of 300 events were looked at" in text
    assert re.search(r"# \(:Product\): 40 nodes, \d+ of them looked at", text)
    assert found.interactions.num_rows == 300


def test_labels_in_another_language_are_named_by_hand(neo4j_url, tmp_path, capsys):
    write(
        neo4j_url,
        "UNWIND range(0, 9) AS n MERGE (k:Kunde {nr: n % 3}) "
        "CREATE (k)-[:KAUFTE]->(:`Großer Artikel` {nr: n, Größe: 'L'})",
    )
    assert main(["init", "--store", neo4j_url, "--out", str(tmp_path / "x.toml")]) == 2
    assert (
        "the labels are Großer Artikel, Kunde; say which they are by --user LABEL --item LABEL"
        in capsys.readouterr().err
    )
    config, found, _ = drafted(tmp_path, neo4j_url, "--user", "Kunde", "--item", "Großer Artikel", "--name", "Laden")
    assert config.interactions.relation == ("KAUFTE",)
    assert (config.shop.name, found.interactions.num_rows) == ("laden", 10)


REFUSED = {
    "an empty graph": ((), [], "the labels are none"),
    "a misspelt label": ((MESSY, EVENTS), ["--item", "Prodct"], "no label 'Prodct' (--item), did you mean 'Product'?"),
    "items without any id": (
        ("UNWIND range(0, 9) AS n CREATE (:Customer {id: n})-[:BOUGHT]->(:Product {price: 1.5})",),
        [],
        "no property tells the Product nodes apart",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_drafted_is_one_clear_line(neo4j_url, tmp_path, capsys, name):
    statements, arguments, complaint = REFUSED[name]
    write(neo4j_url, *statements)
    assert main(["init", "--store", neo4j_url, "--out", str(tmp_path / "x.toml"), *arguments]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert complaint in said
    assert not (tmp_path / "x.toml").exists()


def test_hostile_names_in_a_graph_do_no_harm(neo4j_url, tmp_path):
    write(
        neo4j_url,
        MESSY,
        EVENTS,
        "MATCH (p:Product {sku: 'p1'}) CREATE (p)-[:`a``b`]->(:`x``) DETACH DELETE n //` {id: 1}) "
        "CREATE (p)-[:SHOWN]->(:`O'Neill` {id: 1, `we``ird`: 2}) SET p.`k``ey` = 1, p.`new\nline` = 'a\nb'",
    )
    before = dump(neo4j_url)
    _, found, text = drafted(tmp_path, neo4j_url)
    assert "a name here holds no quotes" in text
    assert tomllib.loads(text)
    assert found.interactions.num_rows == 300
    assert dump(neo4j_url) == before
