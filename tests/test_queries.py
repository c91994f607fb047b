"""Named queries: every answer on two shops is the one worked out in plain Python, on every store that has Cypher."""

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import emptied
from query_shop import HIDDEN, Answers, skewed

from catalograph.config import ShopConfig
from catalograph.errors import QueryError, UnknownIdError
from catalograph.kg.named import get_query, list_queries, run_query
from catalograph.kg.query_file import GROUPS, parsed
from catalograph.kg.query_page import listing_of_all, page
from catalograph.kg.stores import open_store
from catalograph.loaders.catalogue import EdgeKey

SHOPS = {
    "plain": skewed(),
    "renamed": skewed(seed=1, users=40, items=36, item="Shop item", user="Kundé", baskets="SHARE-A-BASKET"),
}
ITEMS = ("i001", "i010", "it's", "x'}) RETURN 1 //", "é", "i020")  # popular ones, a twin, quotes; in no shop an orphan
USERS = ("u000", "u001", "o'neil", "u020", "only held out")
PAIRS = [
    {"item": a, "other": b} for a, b in [("i010", "i011"), ("it's", "i001"), ("é", "é"), ("é", "😀"), ("i001", "i020")]
]
RELATIONS = ("MADE_BY", "HAS_COLOUR", "GOES_WITH", "HAS_PART")
CASES = {
    "audience": [{"relation": "MADE_BY", "value": "acme"}, {"relation": "HAS_COLOUR", "value": "colour 3", "limit": 2}],
    "bought_together": [{"item": i} for i in ITEMS],
    "bundle_drift": [{}, {"within": 1}, {"within": 0}],
    "cold_items": [{}, {"limit": 2}],
    "complements": [*({"item": i} for i in ITEMS), {"item": "i001", "overlap": 0.0, "both": 1, "limit": 50}],
    "connections": PAIRS,
    "customer_affinity": [{"user": u, "relation": r} for u in USERS for r in RELATIONS],
    "customer_profile": [{"user": u} for u in USERS],
    "degree_outliers": [{}, {"deviations": 1.5}],
    "distance": PAIRS,
    "find_items": [{"text": t} for t in ("i", "RED", "'", "thing 2", "😀", "%", "nothing like it")],
    "labels": [{}],
    "lapsed_customers": [{}, {"days": 20, "items": 2, "limit": 5}, {"days": 0, "items": 0}],
    "missing_relation": [{"relation": r} for r in RELATIONS],
    "near_duplicates": [{}, {"overlap": 0.3, "common": 1, "rare": 40, "limit": 500}],
    "orphans": [{}, {"limit": 0}],
    "popular": [{}, {"limit": 1000}],
    "price_against_peers": [{"item": i} for i in ITEMS],
    "price_outliers": [{"relation": r, "factor": f} for r in RELATIONS for f in (10, 1.5)],
    "product_card": [{"item": i} for i in ITEMS],
    "recommendation_coverage": [{}, {"within": 1}, {"within": 2}],
    "relation_quality": [{}],
    "rising": [{}, {"days": 60, "limit": 5}, {"days": 0}],
    "sales_by_period": [{}, {"days": 7}],
    "sales_by_value": [{"relation": r} for r in RELATIONS],
    "same_title": [{}],
    "similar_by_attributes": [{"item": i} for i in ITEMS],
    "similar_items": [*({"item": i} for i in ITEMS), {"item": "é", "limit": 2}],
    "similar_customers": [{"user": u, "limit": 15} for u in USERS],
    "substitutes": [*({"item": i} for i in ITEMS), {"item": "i001", "together": 1, "limit": 100}],
    "value_spellings": [{}],
    "why_item": [{"user": u, "item": i, "limit": 60} for u in USERS for i in ITEMS[:4]],
}


@pytest.fixture(scope="module", params=[(kind, shop) for kind in ("ladybug", "neo4j") for shop in SHOPS], ids="-".join)
def asked(request, tmp_path_factory):
    """A store of a kind with one of the shops in it, and that shop."""
    kind, shop = request.param
    if kind == "neo4j":
        url = request.getfixturevalue("neo4j_server").url
        emptied(url)
    else:
        url = f"ladybug:{tmp_path_factory.mktemp(shop) / 'graph.lbug'}"
    store = open_store(url)
    store.rebuild(*SHOPS[shop].tables())
    for publication in SHOPS[shop].publications():
        store.publish(publication)
    yield store, SHOPS[shop]
    store.close()


def answer(store, shop, query, given):
    return run_query(store, shop.config(), query, {key: str(value) for key, value in given.items()})


def rows_of(table):
    """Times back to milliseconds, so that rows compare with the expected ones."""
    times = [n for n, f in enumerate(table.schema) if pa.types.is_timestamp(f.type)]
    for n in times:
        table = table.set_column(n, table.column_names[n], table.column(n).cast(pa.int64()))
    return [tuple(row.values()) for row in table.to_pylist()]


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_answer_is_the_one_worked_out_in_python(asked, name):
    expected = Answers(asked[1])
    query, some = get_query(name), False
    for given in CASES[name]:
        full = {p.name: given.get(p.name, typed(p)) for p in query.parameters}
        found = answer(*asked, name, given)
        assert tuple(found.column_names) == tuple(column.name for column in query.columns)
        wanted = getattr(expected, name)(**full)
        assert rounded(rows_of(found)) == rounded(wanted), given
        some = some or bool(wanted)
    assert some, f"{name}: no case has an answer, so none was tested"


def rounded(rows):
    """Sums and means may differ in their last bits."""
    return [tuple(float(f"{v:.9g}") if isinstance(v, float) else v for v in row) for row in rows]


def typed(parameter):
    return {"int": int, "float": float}.get(parameter.kind, str)(parameter.default or "")


def test_every_query_has_its_cases():
    assert sorted(CASES) == sorted(query.name for query in list_queries())
    for query in list_queries():
        assert set(inspect.signature(getattr(Answers, query.name)).parameters) - {"self"} == {
            parameter.name for parameter in query.parameters
        }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The smaller shop, embedded, and where it lies."""
    store = open_store(f"ladybug:{tmp_path_factory.mktemp('small') / 'graph.lbug'}")
    store.rebuild(*SHOPS["renamed"].tables())
    for publication in SHOPS["renamed"].publications():
        store.publish(publication)
    yield store
    store.close()


def examples(query):
    """Parameters that fit the smaller shop."""
    known = {"item": "i001", "user": "u001", "relation": "MADE_BY", "other": "it's"}
    return {p.name: known.get(p.name, known.get(p.kind, p.example)) for p in query.parameters}


@pytest.fixture(scope="module")
def unhidden(tmp_path_factory):
    """The same without held-out events and what a model has written."""
    shop = SHOPS["renamed"]
    without = replace(shop, edges={key: rows for key, rows in shop.edges.items() if key[1] not in HIDDEN})
    store = open_store(f"ladybug:{tmp_path_factory.mktemp('unhidden') / 'graph.lbug'}")
    store.rebuild(*without.tables())
    yield store
    store.close()


PUBLISHED = [query for query in list_queries() if {"RECOMMENDED", "SIMILAR_TO"} & set(query.needs)]


@pytest.mark.parametrize("query", [q for q in list_queries() if q not in PUBLISHED], ids=lambda query: query.name)
def test_held_out_and_published_edges_change_no_answer(small, unhidden, query):
    shop, given = SHOPS["renamed"], examples(query)
    assert answer(small, shop, query.name, given) == answer(unhidden, shop, query.name, given)


@pytest.mark.parametrize("query", list_queries(), ids=lambda query: query.name)
def test_every_file_is_complete(query):
    assert query.title[0].isupper()
    assert query.about.endswith(".")
    assert all(p.words and p.example for p in query.parameters)
    for text in query.texts.values():
        assert "HELD_OUT" not in text
        assert re.search(r"\nORDER BY [\w ,.*/]+(\nLIMIT \$limit)?\n$", text), "no order, no answer twice the same"
        assert ":INTERACTED" not in text or any(need.startswith("INTERACTED") for need in query.needs)
        used = set(re.findall(r"\$(\w+)", text)) - {"facts", "labels"}
        assert used == {p.name for p in query.parameters}


def test_the_page_is_what_the_headers_say():
    made = page()
    assert (Path(__file__).parents[1] / "docs/queries.md").read_text("utf-8") == made, "run `make docs`"
    listed = re.findall(r"^  (\w+)", listing_of_all(), re.MULTILINE)
    assert listed == re.findall(r"^### (\w+)", made, re.MULTILINE) == [query.name for query in list_queries()]


def test_groups_are_those_declared():
    assert {query.group for query in list_queries()} == set(GROUPS)


@pytest.mark.parametrize(
    "broken",
    [
        "// title: T\n// group: sales\n// about: A.\n// column: a int: x\n// colour: red\n",
        "// title: T\n// group: sale\n// about: A.\n// column: a int: x\n",
        "// title: T\n// group: sales\n// about: A.\n// column: a integer: x\n",
        "// title: T\n// group: sales\n// about: A.\n// column: a int: x\n// param: p int: no default, no example\n",
        "// title: T\n// group: sales\n// about: A.\n// column: a int: x\n// param: p number = 3: unknown kind\n",
        "// title: T\n// group: sales\n// about: A.\n// column: a int: x\n// needs: @wings\n",
    ],
)
def test_a_broken_header_is_seen(broken):
    with pytest.raises(ValueError, match=r"no (parameter|column):|T: unknown (colour|sale|@wings)"):
        parsed("T", {"": broken})


@pytest.mark.parametrize(
    ("name", "given", "complaint"),
    [
        ("populer", {}, "no query 'populer', did you mean 'popular'"),
        ("popular", {"limits": "3"}, "takes no parameter 'limits', did you mean 'limit'"),
        ("popular", {"limit": "many"}, "limit is 'many', which is no int of 0 or more"),
        ("popular", {"limit": "-1"}, "no int of 0 or more"),
        ("popular", {"limit": str(2**40)}, "no int of 0 or more"),
        ("near_duplicates", {"overlap": "nan"}, "overlap is 'nan', which is no float of 0 or more"),
        ("product_card", {}, "needs item; for example -p 'item="),
        ("product_card", {"item": "nobody's"}, 'the graph has no Shop item "nobody\'s"; `find_items`'),
        ("customer_profile", {"user": "u999"}, "the graph has no Kundé 'u999'"),
        ("missing_relation", {"relation": "MADE_OF"}, "have no relation 'MADE_OF', did you mean 'MADE_BY'"),
        ("missing_relation", {"relation": "INTERACTED"}, "have no relation 'INTERACTED'"),
        ("missing_relation", {"relation": "HELD_OUT"}, "have no relation 'HELD_OUT'"),
    ],
)
def test_wrong_parameters_are_told(small, name, given, complaint):
    with pytest.raises((QueryError, UnknownIdError), match=re.escape(complaint)):
        answer(small, SHOPS["renamed"], name, given)


def test_an_id_is_a_value_and_never_text_of_the_query(small):
    hostile = "x'}) RETURN 1 //"
    assert answer(small, SHOPS["renamed"], "product_card", {"item": hostile}).num_rows > 0
    with pytest.raises(UnknownIdError):
        answer(small, SHOPS["renamed"], "product_card", {"item": hostile + "'"})


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A shop of which only the log is known: no attributes, titles, prices, times or baskets."""
    nodes = {"User": pa.table({"id": ["u", "v"]}), "Item": pa.table({"id": ["a", "b", "c"]})}
    log = pa.table({"source": ["u", "v"], "target": ["a", "a"], "count": [2, 1]})
    store = open_store(f"ladybug:{tmp_path_factory.mktemp('bare') / 'graph.lbug'}")
    store.rebuild(nodes, {EdgeKey("User", "INTERACTED", "Item"): log})
    config = ShopConfig.model_validate({"shop": {"name": "bare"}, "interactions": {"file": "log.csv"}})
    yield lambda name, given: run_query(store, config, name, given)
    store.close()


LACKS = {
    "bought_together": r"needs baskets, and this shop's graph has none; shop.toml has no \[baskets\]",
    "lapsed_customers": "needs times, and this shop's graph has none; shop.toml names no interactions.time",
    "price_against_peers": "needs attributes, and this shop's graph has none; shop.toml tells nothing of its items",
    "price_outliers": "needs prices, and this shop's graph has none; shop.toml names no item property",
    "sales_by_value": "Item nodes have no relation 'MADE_BY'",
}


@pytest.mark.parametrize("query", list_queries(), ids=lambda query: query.name)
def test_a_bare_shop_gets_an_answer_or_is_told_what_it_lacks(bare, query):
    given = {p.name: {"item": "a", "user": "u", "relation": "MADE_BY"}.get(p.kind, p.example) for p in query.parameters}
    if set(query.needs) - {"INTERACTED", "@relations"} or "relation" in given:
        with pytest.raises(
            (QueryError, UnknownIdError), match=LACKS.get(query.name, "has none; (shop.toml|run)|no relation")
        ):
            bare(query.name, given)
    else:
        found = bare(query.name, given)
        assert tuple(found.column_names) == tuple(column.name for column in query.columns if not column.is_title)


def test_a_bare_shop_has_only_orphans(bare):
    assert bare("orphans", {}).to_pylist() == [
        {"item": "a", "customers": 2},
        {"item": "b", "customers": 0},
        {"item": "c", "customers": 0},
    ]
    assert bare("cold_items", {"limit": "1"}).to_pylist() == [{"item": "b", "attributes": 0, "seen": 0}]


@pytest.mark.parametrize(
    "told", [{}, {"IN": pa.table({"source": ["a"], "target": ["b"]})}], ids=["items", "attributes"]
)
def test_a_shop_without_a_log_can_be_asked_all_the_same(tmp_path, told):
    store = open_store(f"ladybug:{tmp_path / 'graph.lbug'}")
    nodes = {"Item": pa.table({"id": ["a", "b"]})}
    store.rebuild(nodes, {EdgeKey("Item", relation, "Item"): table for relation, table in told.items()})
    config = ShopConfig.model_validate({"shop": {"name": "quiet"}, "items": {"file": "items.csv"}})
    assert run_query(store, config, "orphans", {})["item"].to_pylist() == (["b"] if told else ["a", "b"])
    assert run_query(store, config, "find_items", {"text": "A"}).to_pylist() == [{"item": "a", "customers": 0}]
    refused = {}
    for query in list_queries():
        given = {p.name: {"item": "a", "user": "u", "relation": "IN"}.get(p.kind, p.example) for p in query.parameters}
        try:
            run_query(store, config, query.name, given)
        except (QueryError, UnknownIdError) as e:
            refused[query.name] = str(e)
    store.close()
    assert [why for why in refused.values() if not re.search("has none; (shop.toml|run)|no relation 'IN'", why)] == []
    assert all(query.needs for query in list_queries() if query.name in refused) or not told


@pytest.mark.parametrize("query", PUBLISHED, ids=lambda query: query.name)
def test_a_query_of_published_lists_says_how_to_get_them(unhidden, query):
    with pytest.raises(QueryError, match="this shop's graph has none; run `catalograph publish`"):
        answer(unhidden, SHOPS["renamed"], query.name, examples(query))


def test_a_graph_of_another_configuration_is_told(small):
    config = replace(SHOPS["renamed"], item="Item").config()
    with pytest.raises(QueryError, match="the graph has no Item nodes, as shop"):
        run_query(small, config, "popular", {})


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
    nodes = {"User": pa.table({"id": ["u"]}), "Item": pa.table({"id": ["a", "b"]})}
    store.rebuild(nodes, {EdgeKey("User", "INTERACTED", "Item"): pa.table({"source": ["u"], "target": ["a"]})})
    assert store.run(text, {})["n"].to_pylist() == [0]
    store.close()
