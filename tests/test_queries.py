"""Named queries: what each answers on a small shop, and how wrong parameters are told."""

import pyarrow as pa
import pytest

from catalograph.errors import QueryError
from catalograph.kg.named import get_query, list_queries, run_query
from catalograph.kg.stores import open_store
from catalograph.loaders.catalogue import EdgeKey

NODES = {
    "User": pa.table({"id": ["u0", "u1", "u2"]}),
    "Item": pa.table({"id": ["mug", "cup", "lamp", "toy", "bare"], "name": ["Mug", "Cup", "Lamp", "Toy", "Bare"]}),
    "Brand": pa.table({"id": ["acme", "bolt"], "name": ["Acme", "Bolt"]}),
    "Colour": pa.table({"id": ["red", "blue"], "name": ["Red", "Blue"]}),
}
EDGES = {
    EdgeKey("User", "INTERACTED", "Item"): pa.table(
        {"source": ["u0", "u1", "u2", "u0"], "target": ["mug", "mug", "mug", "cup"]}
    ),
    EdgeKey("User", "HELD_OUT", "Item"): pa.table({"source": ["u1", "u2"], "target": ["lamp", "lamp"]}),
    EdgeKey("Item", "HAS_BRAND", "Brand"): pa.table(
        {"source": ["mug", "cup", "lamp", "toy"], "target": ["acme", "acme", "acme", "bolt"]}
    ),
    EdgeKey("Item", "IN_COLOUR", "Colour"): pa.table(
        {"source": ["mug", "cup", "toy"], "target": ["red", "red", "red"]}
    ),
    EdgeKey("Item", "BOUGHT_TOGETHER", "Item"): pa.table(
        {"source": ["mug", "cup", "mug", "bare"], "target": ["cup", "mug", "lamp", "mug"], "count": [9, 9, 2, 1]}
    ),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    opened = open_store(f"ladybug:{tmp_path_factory.mktemp('queries') / 'graph.lbug'}")
    opened.rebuild(NODES, EDGES)
    yield opened
    opened.close()


ANSWERS = {
    "product_card": ({"item": "mug"}, [("HAS_BRAND", "acme"), ("IN_COLOUR", "red")]),
    "bought_together": ({"item": "mug"}, [("cup", 9), ("lamp", 2)]),
    "similar_by_attributes": ({"item": "mug"}, [("cup", 2), ("lamp", 1), ("toy", 1)]),
    "orphans": ({}, [("bare",)]),
    "popular": ({"limit": "1"}, [("mug", 3)]),
}


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_each_query_answers_what_its_header_says(store, name):
    given, rows = ANSWERS[name]
    found = run_query(store, name, given)
    assert tuple(found.column_names) == get_query(name).columns
    assert [tuple(row.values()) for row in found.to_pylist()] == rows


@pytest.mark.parametrize("query", list_queries(), ids=lambda query: query.name)
def test_every_header_is_complete_and_its_example_runs(store, query):
    assert query.title
    assert query.group
    assert query.sentence.endswith(".")
    assert all(parameter.example for parameter in query.parameters)
    found = run_query(store, query.name, {parameter.name: parameter.example for parameter in query.parameters})
    assert tuple(found.column_names) == query.columns


@pytest.mark.parametrize(
    ("name", "given", "complaint"),
    [
        ("populer", {}, "no query 'populer', did you mean 'popular'"),
        ("popular", {"limits": "3"}, "takes no parameter 'limits', did you mean 'limit'"),
        ("popular", {"limit": "many"}, "limit is 'many', which is no int"),
        ("popular", {"limit": "-1"}, "must be a non-negative"),
        ("product_card", {}, "needs item; for example -p 'item="),
    ],
)
def test_wrong_parameters_are_told(store, name, given, complaint):
    with pytest.raises(QueryError, match=complaint):
        run_query(store, name, given)


def test_an_id_is_a_value_and_never_text_of_the_query(store):
    assert run_query(store, "product_card", {"item": "mug'}) RETURN 1 //"}).num_rows == 0


@pytest.mark.parametrize(
    ("nodes", "edges", "name", "complaint"),
    [
        (["User", "Item"], [], "popular", "popular needs INTERACTED relations, and this shop's graph has none"),
        (["Item"], [], "bought_together", "bought_together needs BOUGHT_TOGETHER"),
        (["Brand"], [], "orphans", "orphans speaks of Item nodes"),
    ],
)
def test_a_shop_without_the_relation_is_told(tmp_path, nodes, edges, name, complaint):
    store = open_store(f"ladybug:{tmp_path / 'graph.lbug'}")
    store.rebuild({label: NODES[label] for label in nodes}, {key: EDGES[key] for key in edges})
    given = {p.name: p.example for p in get_query(name).parameters}
    with pytest.raises(QueryError, match=complaint):
        run_query(store, name, given)
    store.close()


def test_a_shop_without_attributes_has_only_orphans(tmp_path):
    store = open_store(f"ladybug:{tmp_path / 'graph.lbug'}")
    bought = EdgeKey("User", "INTERACTED", "Item")
    store.rebuild({label: NODES[label] for label in ("User", "Item")}, {bought: EDGES[bought]})
    assert run_query(store, "orphans", {}).num_rows == 5
    assert run_query(store, "product_card", {"item": "mug"}).num_rows == 0
    assert run_query(store, "similar_by_attributes", {"item": "mug"}).num_rows == 0
    store.close()


@pytest.mark.parametrize(
    "text",
    [
        "MATCH (i:Item) OPTIONAL MATCH (i)-[:INTERACTED]->(x) WITH i.id AS item, count(x.id) AS n RETURN sum(n) AS n",
        "MATCH (i:Item) OPTIONAL MATCH (i)-[r]->(x) WITH i.id AS item, count(x.id) AS n RETURN sum(n) AS n",
        "MATCH (i:Item) WHERE EXISTS { MATCH (i)-[:INTERACTED]->(x) } RETURN count(*) AS n",
        "MATCH (u:User) WHERE (u)<-[:INTERACTED]-() RETURN count(*) AS n",
    ],
)
def test_a_pattern_against_the_direction_of_a_relation_finds_nothing(tmp_path, text):
    """The engine by itself answers these as if the relation went the other way."""
    store = open_store(f"ladybug:{tmp_path / 'graph.lbug'}")
    bought = EdgeKey("User", "INTERACTED", "Item")
    store.rebuild({label: NODES[label] for label in ("User", "Item")}, {bought: EDGES[bought]})
    assert store.run(text, {})["n"].to_pylist() == [0]
    store.close()
