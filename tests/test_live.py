"""A live Neo4j graph as the source: the catalogue files would give, nothing written, bad values told in one line."""

import re
from contextlib import closing

import polars as pl
import pytest
from foreign import DIRECT, ORDERS, dump, plant, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shops import SHOP, make_shop

from catalograph import Recommender
from catalograph.cli import main
from catalograph.config import load_config
from catalograph.errors import ConfigError
from catalograph.kg.bolt import Bolt
from catalograph.kg.live_read import nodes, series
from catalograph.kg.sources import open_source
from catalograph.loaders.catalogue import EdgeKey
from catalograph.loaders.load import load_catalogue
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop

LABELS = SHOP.replace("[items]\n", '[items]\nlabel = "Product"\n').replace(
    "[interactions]", '[users]\nlabel = "Customer"\n[interactions]'
)


def live(url, text=LABELS, relation='"BOUGHT"'):
    """A shop.toml for files as one for the graph `plant` makes of them."""
    changes = {
        "[items]\n": f'[graph]\nurl = "{url}"\n[items]\n',
        'file = "items.csv"\nid = "item"': 'id = "sku"',
        'label = "Customer"\n': 'label = "Customer"\nid = "email"\n',
        'file = "sales.csv"\nuser = "user"\nitem = "item"\ntime = "time"\nquantity = "quantity"': (
            f'relation = {relation}\ntime = "at"\nquantity = "units"'
        ),
    }
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def small(url, settings="", *, items='id = "sku"', events="", graph=""):
    """A small shop's shop.toml."""
    return (
        f'[shop]\nname = "small"\n{settings}\n[graph]\nurl = "{url}"\n{graph}\n[items]\nlabel = "Product"\n{items}\n'
        f'[users]\nlabel = "Customer"\nid = "email"\n[interactions]\nrelation = "BOUGHT"\n{events}\n'
    )


def load(folder, text, **options):
    (folder / "shop.toml").write_text(text, encoding="utf-8")
    config = load_config(folder / "shop.toml")
    with closing(open_source(config)) as source:
        return load_catalogue(config, source=source, **options)


def ends(catalogue, source, relation, target, *columns):
    table = catalogue.edges[EdgeKey(source, relation, target)]
    return [tuple(row.values()) for row in table.select(["source", "target", *columns]).to_pylist()]


BASE = """
CREATE (a:Product {sku: 'a', name: 'Apple'}), (b:Product {sku: 'b', name: 'Bread'}), (c:Product {sku: 'c'})
CREATE (u:Customer {email: 'u'}), (v:Customer {email: 'v'})
CREATE (u)-[:BOUGHT]->(a), (u)-[:BOUGHT]->(b), (v)-[:BOUGHT]->(a), (v)-[:BOUGHT]->(c), (v)-[:BOUGHT]->(c)
"""
A = "MATCH (a:Product {sku: 'a'}) MATCH (b:Product {sku: 'b'}) MATCH (u:Customer {email: 'u'}) "


# The same catalogue


@pytest.mark.parametrize(
    ("events", "relation"), [(DIRECT, '"BOUGHT"'), (ORDERS, '["PLACED_BY", "CONTAINS"]')], ids=["direct", "orders"]
)
def test_a_graph_gives_the_catalogue_of_its_files(neo4j_url, tmp_path, events, relation):
    shop = make_shop(tmp_path, toml=LABELS)
    expected = load_catalogue(load_config(shop))
    plant(neo4j_url, shop, events)
    found = load(tmp_path, live(neo4j_url, relation=relation))
    assert found.nodes == expected.nodes
    assert found.edges == expected.edges
    by_item = [("user", "ascending"), ("at", "ascending"), ("item", "ascending")]
    assert found.interactions.select(expected.interactions.column_names).sort_by(by_item) == (
        expected.interactions.sort_by(by_item)
    )
    assert found.rejected == {}


def test_many_ranges_and_batches_give_the_same(neo4j_url, tmp_path, monkeypatch):
    shop = make_shop(tmp_path, toml=LABELS)
    plant(neo4j_url, shop)
    whole = load(tmp_path, live(neo4j_url))
    monkeypatch.setattr("catalograph.kg.bulk.CHUNK", 10)
    monkeypatch.setattr("catalograph.kg.bulk.BLOCK", 4)
    parts = load(tmp_path, live(neo4j_url))
    assert (parts.nodes, parts.edges) == (whole.nodes, whole.edges)
    assert parts.interactions.num_rows == whole.interactions.num_rows


# Relations of items


def test_relations_of_items_are_taken_unasked_and_leave_the_item(neo4j_url, tmp_path):
    write(
        neo4j_url,
        BASE,
        A + "CREATE (m:Brand:Company {name: 'Acme'}), (n:Brand {name: 'Best'}) "
        "CREATE (a)-[:MADE_BY {since: 1}]->(m), (a)-[:MADE_BY {since: 2}]->(m), (b)<-[:MADE_BY]-(n)",
        A + "CREATE (a)-[:GOES_WITH]->(b), (a)-[:`stored in`]->(:`Big Shelf` {code: 7, title: 'Left'})",
        "CREATE (:Brand {name: 'Idle'})",
    )
    found = load(tmp_path, small(neo4j_url))
    assert ends(found, "Product", "MADE_BY", "Brand", "count") == [("a", "Acme", 2), ("b", "Best", 1)]
    assert ends(found, "Product", "GOES_WITH", "Product") == [("a", "b")]
    assert ends(found, "Product", "stored in", "Big Shelf") == [("a", "7")]
    assert found.nodes["Big Shelf"].to_pylist() == [{"id": "7", "name": "Left"}]
    assert found.nodes["Brand"]["id"].to_pylist() == ["Acme", "Best"]
    assert set(found.nodes) == {"Product", "Customer", "Brand", "Big Shelf"}
    assert found.rejected == {}


def test_what_users_reach_is_left_out_and_counted_unless_told(neo4j_url, tmp_path):
    write(
        neo4j_url,
        BASE,
        A + "CREATE (u)-[:WROTE]->(w:Review {id: 1})-[:ABOUT]->(a), (u)-[:SAW]->(b)",
        A + "CREATE (a)-[:MADE_BY]->(m:Brand {name: 'Acme'})<-[:FOLLOWS]-(u), (b)-[:HIDDEN]->(:Note {id: 1})",
    )
    found = load(tmp_path, small(neo4j_url, graph='skip = "HIDDEN"'))
    assert set(found.nodes) == {"Product", "Customer"}
    assert {name: rows for (name, _), rows in found.rejected.items()} == {"ABOUT": 1, "SAW": 1, "MADE_BY": 1}
    told = '[[edges]]\nrelation = "MADE_BY"\ntarget_label = "Brand"\n'
    found = load(tmp_path, small(neo4j_url, graph="others = false") + told)
    assert ends(found, "Product", "MADE_BY", "Brand") == [("a", "Acme")]
    assert found.rejected == {}


def test_told_relations_may_lie_anywhere_and_tell_the_id(neo4j_url, tmp_path):
    write(
        neo4j_url,
        BASE,
        A + "CREATE (top:Category {slug: 'food', name: 'Food'}), (s:Category {slug: 'fruit', name: 'Food'}) "
        "CREATE (s)-[:CHILD_OF {rank: 3}]->(top), (s)-[:HOLDS]->(a)",
    )
    told = (
        '[[edges]]\nrelation = "CHILD_OF"\nsource_label = "Category"\ntarget_label = "Category"\nsource = "slug"\n'
        'properties = { rank = "int" }\n[[edges]]\nrelation = "HOLDS"\ntarget_label = "Category"\n'
    )
    found = load(tmp_path, small(neo4j_url) + told)
    assert ends(found, "Category", "CHILD_OF", "Category", "rank", "count") == [("fruit", "food", 3, 1)]
    assert ends(found, "Product", "HOLDS", "Category") == [("a", "fruit")]
    assert found.nodes["Category"].to_pylist() == [{"id": "food", "name": "Food"}, {"id": "fruit", "name": "Food"}]


def test_events_and_facts_may_come_from_files_beside_the_graph(neo4j_url, tmp_path):
    write(neo4j_url, BASE, A + "CREATE (a)-[:MADE_BY]->(:Brand {name: 'Acme'})")
    (tmp_path / "log.csv").write_text("who,what\nx,a\nx,b\ny,c\n")
    (tmp_path / "made.csv").write_text("sku,town\na,Rome\n")
    text = small(neo4j_url, events='file = "log.csv"\nuser = "who"\nitem = "what"').replace('relation = "BOUGHT"\n', "")
    text += '[[edges]]\nfile = "made.csv"\nrelation = "FROM"\ntarget = "town"\ntarget_label = "Town"\n'
    found = load(tmp_path, text)
    assert found.nodes["Customer"]["id"].to_pylist() == ["x", "y"]
    assert ends(found, "Product", "FROM", "Town") == [("a", "Rome")]
    assert ends(found, "Product", "MADE_BY", "Brand") == [("a", "Acme")]


# Values


def test_values_of_every_kind(neo4j_url, tmp_path):
    write(
        neo4j_url,
        """
        CREATE (a:Product {sku: 1, price: 2, since: date('1970-01-02'), tags: ['x', 'y'], spot: point({x: 1, y: 2.5})})
        CREATE (b:Product {sku: 2.0, price: '2.5', since: datetime('1970-01-01T02:00:00+02:00'), tags: 'x'})
        CREATE (c:Product {sku: 'three', price: 0.5, since: localdatetime('1970-01-01T00:00:01'), tags: []})
        CREATE (d:Product {sku: 4, since: 5, spot: 'here', sold: true}), (e:Product {sku: 5, since: '1970-01-01'})
        CREATE (u:Customer {email: 17850.0})-[:BOUGHT]->(a)
        """,
    )
    items = """id = "sku"
properties = { price = "float", since = "time", spot = "string", sold = "bool" }
"""
    tags = '[[attributes]]\ncolumn = "tags"\nrelation = "TAGGED"\nlabel = "Tag"\n'
    found = load(tmp_path, small(neo4j_url, items=items) + tags)
    table = found.nodes["Product"].to_pydict()
    assert table["id"] == ["1", "2", "4", "5", "three"]
    assert table["price"] == [2.0, 2.5, None, None, 0.5]
    assert table["since"] == [86_400_000, 0, 5000, 0, 1000]
    assert table["spot"] == ["POINT(1 2.5)", None, "here", None, None]
    assert table["sold"] == [None, None, True, None, None]
    assert ends(found, "Product", "TAGGED", "Tag") == [("1", "x"), ("1", "y"), ("2", "x")]
    assert found.nodes["Customer"]["id"].to_pylist() == ["17850"]


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=5)
)


@given(st.lists(SCALARS, max_size=8))
def test_no_value_is_lost_whatever_stands_beside_it(values):
    column = series("x", values).cast(pl.String).to_list()
    assert [v is None for v in column] == [v is None for v in values]
    for found, value in zip(column, values, strict=True):
        if isinstance(value, str):
            assert found == value
        elif isinstance(value, bool):
            assert found == str(value).lower()
        elif value is not None:
            assert type(value)(float(found) if isinstance(value, float) else found) == value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None)
@given(st.lists(SCALARS, min_size=1, max_size=6))
def test_nulls_keep_their_places(neo4j_url, values):
    write(
        neo4j_url,
        "MATCH (n:Thing) DELETE n",
        "UNWIND range(0, size($values) - 1) AS k CREATE (:Thing {place: k, value: $values[k]})",
        values=values,
    )
    with closing(Bolt(neo4j_url)) as bolt:
        found = nodes(bolt, "Thing", {"place": ("place", "int"), "value": ("value", "string")})
    assert found.sort("place")["value"].equals(series("value", values), null_equal=True)


# What is wrong is told


BAD = {
    "a missing id": (
        "CREATE (:Product {name: 'Nameless'})",
        {},
        r"Product with id\(n\) = \d+, property 'sku': it is empty",
    ),
    "an id twice": ("CREATE (:Product {sku: 'a'})", {}, r"property 'sku': 'a' stands twice; ids must be unique"),
    "a user twice": ("CREATE (:Customer {email: 'u'})", {}, r"Customer .* property 'email': 'u' stands twice"),
    "a list as id": (
        "CREATE (:Product {sku: ['x', 'y']})",
        {},
        r"property 'sku': \['x', 'y'\] is a list; one value is needed",
    ),
    "a text where a number is told": (
        A + "SET a.price = 'cheap', b.price = 2",
        {"items": 'id = "sku"\nproperties = { price = "float" }'},
        r"property 'price': 'cheap' is no finite number; correct it there or in shop.toml, or set shop.on_bad_rows",
    ),
    "a point where a number is told": (
        A + "SET a.price = point({x: 1, y: 2})",
        {"items": 'id = "sku"\nproperties = { price = "float" }'},
        r"'POINT\(1 2\)' is no finite number",
    ),
    "an event without its time": (
        A + "CREATE (u)-[:BOUGHT {at: date('2024-01-01')}]->(a)",
        {"events": 'time = "at"'},
        r"BOUGHT with id\(r\) = \d+, property 'at': it is empty; every row needs one \(5 such rows\)",
    ),
    "a misspelt label": (
        "",
        {"items": 'id = "sku"', "label": "Prodct"},
        r"no label 'Prodct', did you mean 'Product'\?",
    ),
    "a misspelt relation": ("", {"relation": "BOUGT"}, r"no relation type 'BOUGT', did you mean 'BOUGHT'\?"),
    "a misspelt property": (
        "",
        {"items": 'id = "sku"\nproperties = { nme = "string" }'},
        r"no Product has a property 'nme', did you mean 'name'\?",
    ),
    "a misspelt time": (
        A + "CREATE (u)-[:BOUGHT {when: 1}]->(a)",
        {"events": 'time = "wen"'},
        r"nothing along \(:Customer\)-\[:BOUGHT\]-\(:Product\) has a property 'wen', did you mean 'when'\?",
    ),
    "no event": (
        "MATCH ()-[r:BOUGHT]->(p) DELETE r CREATE (p)-[:BOUGHT]->(p)",
        {},
        r"nothing leads along \(:Customer\)-\[:BOUGHT\]-\(:Product\)",
    ),
    "nothing tells nodes apart": (
        A + "CREATE (a)-[:IN]->(:Box {size: 1}), (b)-[:IN]->(:Box {size: 1})",
        {},
        r"no property is filled and different on every Box; tell the one to take as id",
    ),
    "ids told twice": (
        A + "CREATE (a)-[:IN]->(:Box {size: 1, name: 'x'})",
        {
            "more": '[[edges]]\nrelation = "IN"\ntarget_label = "Box"\ntarget = "size"\n'
            '[[edges]]\nrelation = "IN"\ntarget_label = "Box"\ntarget = "name"\n'
        },
        r"edges: the ids of Box are told as name and size; name one property",
    ),
    "an end without its id": (
        A + "CREATE (a)-[:IN]->(:Box {size: 1}), (b)-[:IN]->(:Box)",
        {"more": '[[edges]]\nrelation = "IN"\ntarget_label = "Box"\ntarget = "size"\n'},
        r"IN with id\(r\) = \d+, property 'Box.size': it is empty",
    ),
    "a property that ends its quotes": (
        "",
        {"items": 'id = "sku\\\\u0060) DETACH DELETE n //"'},
        "cannot stand in a query; names have no back-tick and no backslash",
    ),
    "a label that ends its quotes": (
        "",
        {"label": "Product`) DETACH DELETE n //"},
        "items.label: a name holds no quotes",
    ),
    "credentials in the address": ("", {"url": "neo4j://me:secret@h"}, "a URL is no place for credentials"),
    "an address that is none": ("", {"url": "http://h"}, "no Neo4j address 'http://h'"),
    "a port that is none": ("", {"url": "neo4j://h:p"}, "graph: "),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_one_clear_line(neo4j_url, tmp_path, name, capsys):
    change, told, complaint = BAD[name]
    write(neo4j_url, BASE, *([change] if change else []))
    told = dict(told)
    more, label, relation, url = (told.pop(key, "") for key in ("more", "label", "relation", "url"))
    text = small(url or neo4j_url, **told) + more
    text = text.replace('label = "Product"', f'label = "{label}"') if label else text
    text = text.replace('relation = "BOUGHT"', f'relation = "{relation}"') if relation else text
    (tmp_path / "shop.toml").write_text(text, "utf-8")
    before = dump(neo4j_url)
    assert main(["rebuild", str(tmp_path / "shop.toml"), "--out", str(tmp_path / "build")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert re.search(complaint, said[0]), said[0]
    assert "secret" not in said[0]
    assert dump(neo4j_url) == before


def test_of_items_with_one_id_the_first_may_stand_for_all(neo4j_url, tmp_path):
    write(
        neo4j_url,
        BASE,
        "MATCH (u:Customer {email: 'u'}) CREATE (u)-[:BOUGHT]->(:Product {sku: 'a', name: 'Again'})",
    )
    found = load(tmp_path, small(neo4j_url, items='id = "sku"\nrepeats = "first"\nproperties = { name = "string" }'))
    assert found.nodes["Product"]["name"].to_pylist() == ["Apple", "Bread", None]
    assert ends(found, "Customer", "INTERACTED", "Product", "count")[0] == ("u", "a", 2)


def test_a_graph_without_events_is_a_catalogue(neo4j_url, tmp_path):
    write(neo4j_url, BASE, A + "CREATE (a)-[:MADE_BY]->(:Brand {name: 'Acme'})")
    text = small(neo4j_url).replace('[interactions]\nrelation = "BOUGHT"\n', "")
    found = load(tmp_path, text)
    assert set(found.nodes) == {"Product", "Brand"}
    assert ends(found, "Product", "MADE_BY", "Brand") == [("a", "Acme")]


def test_quarantine_sets_bad_nodes_and_relations_aside(neo4j_url, tmp_path):
    write(
        neo4j_url,
        BASE,
        "MATCH (u:Customer {email: 'u'}) CREATE (u)-[:BOUGHT]->(:Product {name: 'Nameless'})",
        "MATCH (u:Customer {email: 'u'}) CREATE (u)-[:BOUGHT]->(:Product {sku: 'a', name: 'Again'})",
        A + "SET b.price = 'cheap'",
    )
    text = small(
        neo4j_url, 'on_bad_rows = "quarantine"', items='id = "sku"\nproperties = { name = "string", price = "float" }'
    )
    found = load(tmp_path, text, quarantine=tmp_path / "aside")
    assert found.nodes["Product"].select(["id", "name"]).to_pylist() == [
        {"id": "a", "name": "Apple"},
        {"id": "c", "name": None},
    ]
    assert ends(found, "Customer", "INTERACTED", "Product", "count") == [("u", "a", 2), ("v", "a", 1), ("v", "c", 2)]
    written = pl.read_csv(tmp_path / "aside/rejected.csv", infer_schema=False)
    assert sorted(written["file"]) == ["BOUGHT", "BOUGHT", "Product", "Product", "Product"]
    assert "price is no finite number" in written["reason"].to_list()


# The whole path


@pytest.fixture
def stocked(neo4j_url, tmp_path):
    """(shop.toml, build folder, address) of a planted graph whose names need quotes."""
    shop = make_shop(tmp_path, toml=LABELS)
    plant(neo4j_url, shop)
    write(
        neo4j_url,
        "MATCH (p:Product) MERGE (l:`Product Line` {name: p.category}) CREATE (p)-[:`part of`]->(l) SET p:`Sales Item`",
    )
    text = live(neo4j_url).replace("[users]", '[relations]\n"part of" = { weight = 0.5 }\n[users]')
    shop.write_text(text.replace('"Product"', '"Sales Item"'), "utf-8")
    return shop, tmp_path / "build", neo4j_url


class FirstLineError(Exception):
    """Raised by the first line a rebuild says."""


def first_line(shop, out):
    def say(line):
        raise FirstLineError(line)

    with pytest.raises(FirstLineError) as begun:
        rebuild(open_workshop(shop, out=out, device="cpu", say=say))
    return str(begun.value)


def test_a_live_shop_is_built_and_asked_without_a_trace(stocked, capsys):
    shop, out, url = stocked
    before, state = dump(url), Bolt(url).state()
    rebuild(open_workshop(shop, out=out, device="cpu"))
    made = Recommender.load(out)
    items = made.recommend(["u01"], k=5)[0]
    paths = [path for item in items for path in made.explain("u01", item.item, most=50).paths]
    path = next(path for path in paths if "`part of`" in path.cypher)
    values = [word for pair in path.parameters.items() for word in ("-p", "=".join(pair))]
    for command in (
        ["recommend", "--user", "u01", "-k", "3", "--explain"],
        ["query", "--cypher", path.cypher, *values],
        ["evaluate"],
    ):
        assert main([command[0], str(shop), *command[1:], "--out", str(out)]) == 0, capsys.readouterr().err
    assert dump(url) == before
    assert Bolt(url).state() == state
    assert first_line(shop, out) == "load      unchanged, skipped"
    write(url, "MATCH (u:Customer {email: 'u01'}) SET u.town = 'Rome'")
    assert first_line(shop, out).startswith("load      720 interactions")


def test_every_question_is_asked_in_a_read_session(neo4j_url, tmp_path, monkeypatch):
    write(neo4j_url, BASE, A + "CREATE (a)-[:MADE_BY]->(:Brand {name: 'Acme'})")
    asked, session = [], Bolt.session

    def noted(self, access, *rest):
        asked.append(access)
        return session(self, access, *rest)

    monkeypatch.setattr(Bolt, "session", noted)
    load(tmp_path, small(neo4j_url))
    assert main(["init", "--store", neo4j_url, "--out", str(tmp_path / "draft.toml")]) == 0
    assert set(asked) == {"READ"}


@pytest.mark.parametrize(
    ("graph", "store"),
    [
        ("neo4j://localhost:7687", "bolt://127.0.0.1"),
        ("neo4j://[::1]/shop", "bolt+s://LOCALHOST:7687/shop"),
        ("neo4j://shop.example/one", "neo4j://shop.example"),
    ],
)
def test_the_store_may_not_be_the_graph_itself(tmp_path, graph, store):
    (tmp_path / "shop.toml").write_text(small(graph), "utf-8")
    with pytest.raises(ConfigError, match="is the shop's \\[graph\\], which is only read"):
        open_workshop(tmp_path / "shop.toml", store=store)


@pytest.mark.parametrize("store", ["bolt://localhost:7688/one", "bolt://localhost/two", "bolt://other/one", "memory:"])
def test_the_store_may_lie_beside_the_graph(tmp_path, store):
    (tmp_path / "shop.toml").write_text(small("neo4j://localhost/one"), "utf-8")
    assert open_workshop(tmp_path / "shop.toml", store=store).store_url == store
