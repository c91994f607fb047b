"""What only a graph on a server has to get right: others in the same database, readers of a rebuild, two writers."""

import logging
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shops import make_shop

from catalograph.cli import main
from catalograph.config import load_config
from catalograph.errors import GraphError, QueryError, StoreError
from catalograph.kg import bulk, neo4j_rebuild
from catalograph.kg.bolt import Bolt
from catalograph.kg.export import export_snapshot
from catalograph.kg.schema import MARK, quoted
from catalograph.kg.store import Batch
from catalograph.kg.stores import open_store
from catalograph.loaders.catalogue import EdgeKey
from catalograph.loaders.load import load_catalogue

BOUGHT, HAS = EdgeKey("User", "BOUGHT", "Item"), EdgeKey("Item", "HAS", "Brand")
SECRET = "correct-horse"


def graph(items="abcde", *, price=1.0, brand=True):
    """2 users, the items, and what they bought of the first three; the first item is left out when not among them."""
    nodes = {
        "User": pa.table({"id": ["u0", "u1"]}),
        "Item": pa.table({"id": list(items), "price": [price] * len(items), "name": [f"{i} {price}" for i in items]}),
    }
    bought = [(u, i) for u, i in (("u0", "a"), ("u0", "b"), ("u1", "b"), ("u1", "c")) if i in items]
    edges = {BOUGHT: pa.table({"source": [u for u, _ in bought], "target": [i for _, i in bought]})}
    edges[BOUGHT] = edges[BOUGHT].append_column("at", pa.array(range(len(bought)), pa.int64()))
    if brand:
        nodes["Brand"] = pa.table({"id": ["x"]})
        edges[HAS] = pa.table({"source": [items[-1]], "target": ["x"]})
    return nodes, edges


def reference(*given):
    store = open_store("memory:")
    store.rebuild(*given)
    return export_snapshot(store).digest


def digest(store):
    return export_snapshot(store).digest


@pytest.fixture
def store(neo4j_url):
    opened = open_store(neo4j_url)
    yield opened
    opened.close()


@pytest.fixture
def cypher(neo4j_url):
    """Writes and reads as anybody with a driver would."""
    bolt = Bolt(neo4j_url)

    def ask(text, **values):
        return bolt.write(lambda transaction: [list(record) for record in transaction.run(text, values)])

    yield ask
    bolt.close()


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    """So that small graphs take several records."""
    monkeypatch.setattr(bulk, "CHUNK", 3)
    monkeypatch.setattr(bulk, "BLOCK", 2)


OTHERS = """
CREATE (s:Supplier {id: 'a', since: 1999})-[:BOUGHT {at: 1}]->(t:Supplier {id: 'b'}), (s)-[:OWNS]->(:User:Staff)
WITH s MATCH (a:Item {id: 'a'}), (b:Item {id: 'b'}), (u:User {id: 'u0'})
CREATE (s)-[:SUPPLIES {price: 7}]->(a), (b)-[:KEPT_IN]->(:Shelf {n: 3})
CREATE (u)-[:BOUGHT {at: 77, channel: 'till'}]->(b), (u)-[:BOUGHT {at: 78}]->(a)
SET a.stock = 12, a:Featured
"""
SEEN = f"""
MATCH (n) WHERE n.{MARK} IS NULL AND NOT n:CatalographMeta RETURN labels(n) + [toString(n.since), toString(n.n)] AS x
UNION ALL MATCH (a)-[r]->(b) WHERE r.{MARK} IS NULL
RETURN [a.id, type(r), b.id, r.channel] + toStringList([r.at, r.price]) AS x
UNION ALL MATCH (n:Featured) RETURN labels(n) + [toString(n.stock)] AS x
"""


def seen(cypher):
    return sorted(map(str, cypher(SEEN)))


def test_what_others_wrote_survives_rebuilds_and_batches_and_is_not_exported(store, cypher):
    store.rebuild(*graph())
    cypher(OTHERS.replace("(:User:Staff)", "(:Staff)"))
    before = seen(cypher)
    assert len(before) == 4 + 6 + 1
    assert digest(store) == reference(*graph())
    for tables in (graph(price=2.0), graph("abc"), graph("abcxyz", brand=False)):
        counts = store.rebuild(*tables)
        assert seen(cypher) == before
        assert digest(store) == reference(*tables)
        assert counts == store.counts()
        assert counts.nodes["Item"] == tables[0]["Item"].num_rows
    store.apply(
        Batch("1", edges={BOUGHT: pa.table({"source": ["u1"], "target": ["a"]})}, replace_edges_of={BOUGHT: ["u0"]})
    )
    assert seen(cypher) == before
    assert store.counts().edges[BOUGHT] == 3


def test_a_label_of_others_is_refused_unless_it_may_be_adopted(store, cypher, neo4j_url):
    cypher("CREATE (:Item {id: 'a', colour: 'red', price: 5})-[:LIKED_BY]->(:Person), (:Item {id: 'mine'}), (:Item)")
    with pytest.raises(StoreError) as caught:
        store.rebuild(*graph())
    assert "3 Item nodes there are not of this shop" in str(caught.value)
    assert "adopt = true" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert cypher("MATCH (n) RETURN count(n)") == [[4]]
    adopting = open_store(neo4j_url, adopt=True)
    counts = adopting.rebuild(*graph())
    assert counts.nodes["Item"] == 5
    assert digest(adopting) == reference(*graph())
    assert cypher("MATCH (n:Item {id: 'a'})-[:LIKED_BY]->(:Person) RETURN n.colour, n.price") == [["red", 1.0]]
    assert cypher(f"MATCH (n:Item) WHERE n.{MARK} IS NULL RETURN count(n)") == [[2]]
    with pytest.raises(StoreError, match="a Item node there has an id of the batch"):
        store.apply(Batch("1", nodes={"Item": pa.table({"id": ["mine"]})}))
    assert adopting.apply(Batch("1", nodes={"Item": pa.table({"id": ["mine"]})})).nodes["Item"] == 6
    adopting.close()


def test_ids_that_others_have_twice_are_one_clear_line(cypher, neo4j_url):
    cypher("CREATE (:Item {id: 'a'}), (:Item {id: 'a'})")
    with pytest.raises(StoreError) as caught:
        open_store(neo4j_url, adopt=True).rebuild(*graph())
    assert "\n" not in str(caught.value)
    assert cypher("MATCH (n) RETURN count(n)") == [[2]]


@pytest.mark.parametrize("how", ["rebuild", "apply"])
def test_a_node_others_hold_on_to_retires_and_comes_back(store, cypher, how):
    def without_ab():
        if how == "rebuild":
            return store.rebuild(*graph("cde"))
        return store.apply(Batch("1", delete_nodes={"Item": ["a", "b", "b"]}))

    store.rebuild(*graph())
    cypher("MATCH (a:Item {id: 'a'}) CREATE (a)<-[:SUPPLIES {price: 7}]-(:Supplier) SET a.stock = 12")
    cypher(f"MATCH (a:Item {{id: 'a'}}), (b:Item {{id: 'b'}}) CREATE (a)-[:SIMILAR_TO {{{MARK}: 1}}]->(b)")
    counts = without_ab()
    assert counts == store.counts()
    assert (counts.nodes["Item"], counts.edges[BOUGHT]) == (3, 1)
    assert store.nodes("Item")["id"].to_pylist() == ["c", "d", "e"]
    kept = cypher("MATCH (n:CatalographRetired)<-[r]-() RETURN labels(n), properties(n), properties(r)")
    assert kept == [[["CatalographRetired"], {"id": "a", "_label": "Item", "stock": 12}, {"price": 7}]]
    assert cypher("MATCH (n {id: 'b'}) RETURN count(n)") == [[0]]
    if how == "rebuild":
        store.rebuild(*graph())
        assert digest(store) == reference(*graph())
    else:
        store.apply(Batch("2", nodes={"Item": pa.table({"id": ["a", "f"]})}))
        assert store.counts().nodes["Item"] == 5
    assert cypher("MATCH (n:Item {id: 'a'})<-[r:SUPPLIES]-() RETURN n.stock, r.price") == [[12, 7]]
    assert cypher("MATCH (n:CatalographRetired) RETURN count(n)") == [[0]]


def test_a_reader_never_sees_less_than_old_and_new_have_in_common(store, neo4j_url):
    """Old and new share 1,500 of 3,000 items each; one reader asks for counts, another for names."""
    old, new = (
        (
            {
                "Item": pa.table({"id": [str(n) for n in ids], "name": [f"{age} {n}" for n in ids]}),
                "User": pa.table({"id": ["u"]}),
            },
            {EdgeKey("User", "SAW", "Item"): pa.table({"source": ["u"] * len(ids), "target": [str(n) for n in ids]})},
        )
        for age, ids in (("old", range(3_000)), ("new", range(1_500, 4_500)))
    )
    store.rebuild(*old)
    ended, counts, names = threading.Event(), [], []
    common = {f"{age} {n}" for n in range(1_500, 3_000) for age in ("old", "new")}

    def read():
        reader = open_store(neo4j_url)
        while not ended.is_set():
            found = reader.counts()
            counts.append((found.nodes["Item"], found.edges[EdgeKey("User", "SAW", "Item")]))
            text = "MATCH (:User)-[:SAW]->(i:Item) WITH DISTINCT i RETURN i.name AS name"
            names.append(len(common & set(reader.run(text, {})["name"].to_pylist())))
        reader.close()

    thread = threading.Thread(target=read)
    thread.start()
    while not names:  # the reader is under way
        ended.wait(0.05)
    try:
        store.rebuild(*new)
    finally:
        ended.set()
        thread.join()
    assert len(counts) > 3
    assert min(nodes for nodes, _ in counts) >= 1_500
    assert min(edges for _, edges in counts) >= 1_500
    assert set(names) == {1_500}
    assert digest(store) == reference(*new)


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["_write_edges", "_sweep", "finish"])
def test_a_broken_off_rebuild_is_told_and_the_next_one_leaves_nothing_of_it(store, cypher, monkeypatch, step):
    store.rebuild(*graph())
    nodes, edges = graph("abz")
    nodes["Item"] = nodes["Item"].append_column("colour", pa.array(["red"] * 3))
    nodes["Shelf"] = pa.table({"id": ["s"]})
    with monkeypatch.context() as patched:
        patched.setattr(neo4j_rebuild, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.rebuild(nodes, edges)
    assert store.counts().nodes["Item"] >= 3
    assert store.analyst("MATCH (i:Item) WHERE i.id IN ['a', 'b'] RETURN count(*) AS n", {})["n"].to_pylist() == [2]
    for attempt in (lambda: digest(store), lambda: store.edges(BOUGHT), lambda: store.apply(Batch("1"))):
        with pytest.raises(StoreError, match=r"a rebuild began .* UTC and is under way, or was broken off"):
            attempt()
    tables = graph("abq", brand=False)
    store.rebuild(*tables)
    assert digest(store) == reference(*tables)
    assert cypher("MATCH (n) WHERE n.colour IS NOT NULL OR n:Shelf OR n:Brand RETURN count(n)") == [[0]]
    assert cypher("SHOW CONSTRAINTS YIELD name RETURN collect(name) AS names") == [
        [["catalograph CatalographMeta", "catalograph Item", "catalograph User"]]
    ]


def test_the_newest_of_two_rebuilds_wins_and_the_other_ends(store, neo4j_url, monkeypatch):
    second, write_edges = open_store(neo4j_url), neo4j_rebuild._write_edges

    def late(*arguments):
        monkeypatch.undo()
        second.rebuild(*graph("axy", price=3.0))
        write_edges(*arguments)

    monkeypatch.setattr(neo4j_rebuild, "_write_edges", late)
    with pytest.raises(StoreError, match="another rebuild of this graph has begun"):
        store.rebuild(*graph())
    assert digest(second) == reference(*graph("axy", price=3.0))
    second.close()


def test_the_claim_is_compared_under_a_lock(neo4j_url, store):
    """A claim that is made while a transaction is about to commit waits for it, or that transaction fails."""
    store.rebuild(*graph())
    bolt = Bolt(neo4j_url)
    claimed = neo4j_rebuild.claim(bolt, store.schema())
    held, released = threading.Event(), []

    def newer():
        held.wait()
        neo4j_rebuild.claim(Bolt(neo4j_url), store.schema())
        released.append("claimed")

    thread = threading.Thread(target=newer)
    thread.start()

    def work(transaction):
        neo4j_rebuild.hold(transaction, claimed, "")
        held.set()
        thread.join(0.5)
        released.append("committed")

    bolt.write(work)
    thread.join()
    assert released == ["committed", "claimed"]
    with pytest.raises(StoreError, match="another rebuild"):
        bolt.write(lambda transaction: neo4j_rebuild.hold(transaction, claimed, ""))
    bolt.close()


def test_batches_from_two_sides_both_arrive(store, neo4j_url):
    store.rebuild(*graph())
    ids = [[f"{side}{n}" for n in range(4)] for side in "pq"]

    def send(mine):
        writer = open_store(neo4j_url)
        for id_ in mine:
            writer.apply(Batch(id_, nodes={"Item": pa.table({"id": [id_]})}, delete_nodes={"Item": [f"{id_}-"]}))
        writer.close()

    threads = [threading.Thread(target=send, args=(mine,)) for mine in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.counts().nodes["Item"] == 13
    assert set(ids[0] + ids[1]) <= set(store.nodes("Item")["id"].to_pylist())
    assert store.generation() == 9


def test_edges_somebody_doubled_or_removed_are_healed_by_the_next_rebuild(store, cypher):
    store.rebuild(*graph())
    cypher("MATCH (a:User {id: 'u0'})-[r:BOUGHT]->(b {id: 'a'}) CREATE (a)-[s:BOUGHT]->(b) SET s = properties(r)")
    cypher("MATCH (:User {id: 'u1'})-[r:BOUGHT]->({id: 'b'}) DELETE r")
    assert store.counts().edges[BOUGHT] == 4  # one more, one less: the totals agree, so this is what was noted
    assert len(store.edges(BOUGHT).source) == 4  # what is there
    cypher("MATCH (:User)-[r:BOUGHT]->({id: 'c'}) DELETE r")
    assert store.counts().edges[BOUGHT] == 3
    assert len(store.edges(BOUGHT).source) == 3
    store.rebuild(*graph())
    assert digest(store) == reference(*graph())


def values(random, kind, count):
    """A column with about a third missing."""
    made = {
        "int64": lambda: int(random.integers(-(2**53), 2**53)),
        "float64": lambda: float(random.normal()),
        "bool": lambda: bool(random.random() < 0.5),
        "string": lambda: str(random.choice(["", "ü", "a'b\"c\\", "\u2028", "日本", "🜁", "-1", "\t x"])),
    }[kind]
    types = {"int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_(), "string": pa.string()}
    return pa.array([None if random.random() < 1 / 3 else made() for _ in range(count)], types[kind])


def missing_everywhere(seed):
    """A shop whose every column has nulls, with ids from anywhere in Unicode."""
    random = np.random.default_rng(seed)
    kinds = ("int64", "float64", "bool", "string")
    ids = [f"{chr(0x61 + n * 0x3F7)}{n}" for n in range(40)] + [
        "'",
        '"',
        "\\",
        "`",
        " ",
        "{}",
        "\U0001f600",
        "\u0001\ufffe",
    ]
    nodes = {"Item": pa.table({"id": ids, **{k: values(random, k, len(ids)) for k in kinds}})}
    nodes["User"] = pa.table({"id": ids[::2]})
    nodes["Empty"] = pa.table({"id": pa.array([], pa.string()), "x": pa.array([], pa.int64())})
    edges = {}
    for key, n in ((BOUGHT, 90), (EdgeKey("Item", "NEXT", "Item"), 60), (EdgeKey("User", "NEXT", "Item"), 20)):
        pairs = sorted({(random.choice(ids[::2]), random.choice(ids)) for _ in range(n)})
        random.shuffle(pairs)
        columns = {k: values(random, k, len(pairs)) for k in kinds}
        edges[key] = pa.table({"source": [s for s, _ in pairs], "target": [t for _, t in pairs], **columns})
    nothing = pa.array([], pa.string())
    edges[EdgeKey("Item", "NEVER", "User")] = pa.table({"source": nothing, "target": nothing})
    return nodes, edges


def assert_equal(one, two):
    assert one.data.node_types == two.data.node_types
    assert one.data.edge_types == two.data.edge_types
    for kind in (*one.data.node_types, *one.data.edge_types):
        assert set(one.data[kind].keys()) == set(two.data[kind].keys())
        for name, value in one.data[kind].items():
            other = two.data[kind][name]
            if isinstance(value, torch.Tensor):
                assert value.dtype == other.dtype
                assert torch.equal(value.nan_to_num(-9), other.nan_to_num(-9)), (kind, name)
                assert torch.equal(value.isnan(), other.isnan())
            else:
                assert value == other
    assert {label: ids.ids for label, ids in one.ids.items()} == {label: ids.ids for label, ids in two.ids.items()}
    assert one.digest == two.digest


@pytest.mark.parametrize("seed", range(2))
def test_the_export_is_the_embedded_one_tensor_by_tensor(store, tmp_path, seed):
    embedded = open_store(f"ladybug:{tmp_path / 'g.lbug'}")
    for each in (store, embedded):
        each.rebuild(*missing_everywhere(seed))
    assert_equal(export_snapshot(store, held_out=True), export_snapshot(embedded, held_out=True))
    for label in ("Item", "Empty"):
        columns = list(store.schema().nodes[label])
        assert store.nodes(label, columns).equals(embedded.nodes(label, columns).combine_chunks())
    embedded.close()


@pytest.mark.slow
def test_the_export_of_the_demo_shop_is_the_embedded_one(store, tmp_path, monkeypatch):
    monkeypatch.undo()
    catalogue = load_catalogue(load_config(Path(__file__).parents[1] / "examples/online-retail/shop.toml"))
    embedded = open_store(f"ladybug:{tmp_path / 'g.lbug'}")
    for each in (store, embedded):
        each.rebuild(catalogue.nodes, catalogue.edges)
    assert_equal(export_snapshot(store), export_snapshot(embedded))
    embedded.close()


@given(st.sets(st.integers(0, 500), max_size=80))
def test_ranges_of_ids_hold_each_id_once(ids):
    class Told:
        @staticmethod
        def read(_):
            blocks = [n // bulk.BLOCK for n in ids]
            return [(list(dict.fromkeys(blocks)), [blocks.count(block) for block in dict.fromkeys(blocks)])]

    spans = bulk._spans(Told, "", "")
    covered = [n for group in spans for low, high in group for n in range(low, high + 1)]
    assert ids <= set(covered)
    assert len(covered) == len(set(covered))
    assert len(covered) <= len(ids) * bulk.BLOCK
    for group in spans:
        inside = sum(low <= n <= high for low, high in group for n in ids)
        assert 0 < inside < bulk.CHUNK + bulk.BLOCK


def test_answers_come_in_the_embedded_types(store, tmp_path):
    embedded = open_store(f"ladybug:{tmp_path / 'g.lbug'}")
    text = (
        "MATCH (u:User)-[r:BOUGHT]->(i:Item) RETURN u.id AS user, sum(r.at) AS sum, avg(r.at) AS mean, "
        "count(*) AS n, max(i.price) > 3 AS dear, collect(i.id) AS items ORDER BY user"
    )
    tables = []
    for each in (store, embedded):
        each.rebuild(*graph())
        tables.append(each.analyst(text, {}))
    assert tables[0].schema.equals(tables[1].schema)
    assert [{**row, "items": sorted(row["items"])} for row in tables[0].to_pylist()] == [
        {**row, "items": sorted(row["items"])} for row in tables[1].to_pylist()
    ]
    assert store.run("UNWIND [1, 2.5, null] AS x RETURN x", {})["x"].type == pa.float64()
    assert store.run("MATCH (n:Item {id: 'none'}) RETURN n.id AS id", {}).column_names == ["id"]
    embedded.close()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("MATCH (n:Item) RETURN n", "column 'n' holds nodes; return their properties, such as n.id"),
        ("MATCH (:User)-[r:BOUGHT]->() RETURN r", "column 'r' holds relations"),
        ("MATCH p = (:User)-[:BOUGHT]->() RETURN p", "column 'p' holds paths"),
        ("MATCH (n:Item) RETURN collect(n) AS ns", "column 'ns' holds nodes"),
        ("UNWIND [1, 'a'] AS x RETURN x", "column 'x' holds int, str"),
        ("UNWIND range(1, 11) AS x RETURN x", "more than 10 rows"),
        ("UNWIND range(1, 2000000000) AS x RETURN x", "more than 10 rows"),
        ("UNWIND range(1, 2000000000) AS x RETURN sum(x) AS n", "took too long"),
        ("UNWIND range(1, 2000000000) AS x RETURN collect(x) AS xs", "too much memory|took too long"),
        ("MATCH (n:Item RETURN n.id", "the query does not run: "),
        ("MATCH (n:Item) RETURN n.id AS x, 1 / 0 AS y", "by zero"),
        ("CREATE (n:Item {id: 'x'})", "starts with MATCH"),
    ],
)
def test_an_answer_that_cannot_be_shown_is_one_clear_line(store, text, complaint):
    store.rebuild(*graph())
    with pytest.raises(QueryError, match=complaint) as caught:
        store.analyst(text, {}, timeout_s=2, max_rows=10)
    assert "\n" not in str(caught.value)
    assert store.counts().nodes["Item"] == 5


def test_a_big_answer_stops_before_it_fills_the_memory_here(store, monkeypatch):
    monkeypatch.setattr("catalograph.kg.neo4j_answer.ANSWER_BYTES", 10_000)
    store.rebuild(*graph())
    with pytest.raises(QueryError, match="too much for the memory here"):
        store.run("UNWIND range(1, 5) AS x RETURN range(1, 1000) AS xs", {})


@pytest.mark.parametrize(
    "text",
    [
        "CREATE (n:Item {id: 'x'}) RETURN n.id",
        "MATCH (n) DETACH DELETE n",
        "MATCH (n:Item) SET n.price = 0",
        "MERGE (n:Item {id: 'x'})",
        "CREATE INDEX FOR (n:Item) ON (n.price)",
        "LOAD CSV FROM 'file:///etc/passwd' AS l RETURN l",
        "MATCH (n) CALL (n) { DETACH DELETE n } IN TRANSACTIONS",
    ],
)
def test_what_would_pass_the_gate_is_still_refused_by_the_server(store, text):
    store.rebuild(*graph())
    with pytest.raises(GraphError):
        store.run(text, {})
    assert digest(store) == reference(*graph())


@pytest.mark.parametrize("name", ["x`y", "x\\u0060 y", "x\\", "'", "a`) DETACH DELETE n //"])
def test_hostile_names_never_reach_the_server(store, name):
    nodes, edges = graph()
    store.rebuild(nodes, edges)
    for tables in (
        ({**nodes, name: nodes["Brand"]}, edges),
        ({**nodes, "Brand": pa.table({"id": ["x"], name: [1]})}, edges),
        (nodes, {**edges, EdgeKey("Item", name, "Brand"): edges[HAS]}),
        (nodes, {**edges, HAS: edges[HAS].append_column(name, pa.array([1]))}),
    ):
        with pytest.raises(GraphError, match="cannot be a"):
            store.rebuild(*tables)
    assert digest(store) == reference(nodes, edges)
    if name != "'":  # an apostrophe is harmless between back-ticks
        with pytest.raises(GraphError, match="cannot stand in a query"):
            quoted(name)


def test_hostile_notes_in_the_database_are_refused(store, cypher):
    store.rebuild(*graph())
    cypher("MATCH (m:CatalographMeta {id: 'graph'}) SET m.schema = replace(m.schema, 'Brand', 'X`) DETACH DELETE n')")
    with pytest.raises(GraphError, match="cannot stand in a query"):
        digest(store)
    assert cypher("MATCH (n:Item) RETURN count(n)") == [[5]]


def test_values_are_never_text_of_a_statement(store):
    nodes, edges = graph()
    hostile = "x'}) DETACH DELETE n //`"
    nodes["Item"] = pa.table({"id": [*"abcde", hostile], "price": [1.0] * 6, "name": [hostile] * 6})
    store.rebuild(nodes, edges)
    assert digest(store) == reference(nodes, edges)
    store.apply(Batch(hostile, delete_nodes={"Item": [hostile]}))
    assert store.counts().nodes["Item"] == 5


def test_the_password_is_in_no_error_log_or_repr(neo4j_url, tmp_path, monkeypatch, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    toml, out = make_shop(tmp_path / "shop"), ["--out", str(tmp_path / "build")]
    monkeypatch.setenv("NEO4J_PASSWORD", SECRET)
    bare = neo4j_url.removeprefix("bolt://")
    for url, complaint in (
        (neo4j_url, "NEO4J_PASSWORD are not accepted there"),
        (f"bolt://neo4j:{SECRET}@{bare}", "a URL is no place for credentials"),
        (f"mysql://neo4j:{SECRET}@{bare}", f"no store 'mysql://{bare}'"),
        ("bolt://127.0.0.1:1", "is the server up?"),
        ("bolt+s://127.0.0.1:1", "is the server up?"),
        (neo4j_url.replace("bolt", "bolt+s"), "no answer"),  # this server does not speak TLS
    ):
        for command in (["rebuild"], ["query", "popular"], ["export", "--out", str(tmp_path / "g.pt")]):
            place = [] if command[0] == "export" else out
            assert main([command[0], str(toml), *command[1:], *place, "--store", url]) == 2
            said = capfd.readouterr()
            (line,) = [line for line in said.err.splitlines() if line.startswith("catalograph ")]
            assert complaint in line
            assert SECRET not in said.out + said.err
    assert SECRET not in caplog.text
    assert SECRET not in repr(open_store(neo4j_url))
