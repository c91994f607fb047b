"""One contract for every graph store, and the same snapshot out of each."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import networkx as nx
import numpy as np
import pyarrow as pa
import pytest
import torch

from catalograph.errors import ConfigError, GraphError, StoreError
from catalograph.kg.export import FORMATS, export_snapshot, to_networkx
from catalograph.kg.store import Batch
from catalograph.kg.stores import open_store
from catalograph.loaders.catalogue import EdgeKey

BOUGHT, HELD = EdgeKey("User", "INTERACTED", "Item"), EdgeKey("User", "HELD_OUT", "Item")
BRAND, ALSO = EdgeKey("Item", "HAS", "Brand"), EdgeKey("Item", "ALSO", "Item")
ALSO_OUT = EdgeKey("Item", "ALSO", "Brand")


def graph():
    """3 users, 5 items, 2 brands: every size differs, so a swapped axis fails."""
    nodes = {
        "User": pa.table({"id": ["u2", "u0", "u1"]}),
        "Item": pa.table(
            {"id": ["é", "b", "a", "d`", "c"], "price": [1.5, None, 2.0, 3.0, 4.0], "name": ["x", None, "y'", "z", "w"]}
        ),
        "Brand": pa.table({"id": ["a", "B"], "name": ["Acme", "Bolt"]}),
    }
    edges = {
        BOUGHT: pa.table({"source": ["u2", "u0", "u1"], "target": ["c", "a", "a"], "at": [3, None, 2**53 + 1]}),
        HELD: pa.table({"source": ["u0"], "target": ["é"], "at": [9]}),
        BRAND: pa.table({"source": ["a", "b", "é"], "target": ["B", "a", "B"]}),
        ALSO: pa.table({"source": ["a", "b"], "target": ["b", "a"], "count": [4, 5]}),
        ALSO_OUT: pa.table({"source": ["a"], "target": ["a"]}),
    }
    edges[BOUGHT] = edges[BOUGHT].set_column(2, "at", pa.array([3, None, 7], pa.int64()))
    return nodes, edges


@pytest.fixture(params=["memory", "ladybug", "neo4j"])
def store(request, store_url):
    opened = open_store(store_url(request.param))
    yield opened
    opened.close()


def test_counts_are_what_was_given(store):
    nodes, edges = graph()
    counts = store.rebuild(nodes, edges)
    assert counts == store.counts()
    assert counts.nodes == {"User": 3, "Item": 5, "Brand": 2}
    assert counts.edges[ALSO] == 2
    assert counts.edges[ALSO_OUT] == 1


def test_nodes_come_sorted_with_their_columns(store):
    store.rebuild(*graph())
    items = store.nodes("Item", ["price", "name"])
    assert items["id"].to_pylist() == ["a", "b", "c", "d`", "é"]
    assert items["price"].to_pylist() == [2.0, None, 4.0, 3.0, 1.5]
    assert items["name"].to_pylist() == ["y'", None, "w", "z", "x"]


def test_edges_are_rows_sorted_by_source_then_target(store):
    store.rebuild(*graph())
    found = store.edges(BOUGHT, ["at"])
    assert list(zip(found.source.tolist(), found.target.tolist(), strict=True)) == [(0, 0), (1, 0), (2, 2)]
    np.testing.assert_array_equal(found.columns["at"], [np.nan, 7, 3])


def test_one_relation_type_may_join_several_labels(store):
    store.rebuild(*graph())
    assert store.edges(ALSO).target.tolist() == [1, 0]
    assert store.edges(ALSO_OUT).target.tolist() == [1]  # "B" < "a"


def test_rebuilding_replaces_everything(store):
    nodes, edges = graph()
    store.rebuild(nodes, edges)
    store.rebuild({"Item": nodes["Item"]}, {ALSO: edges[ALSO]})
    assert store.counts().nodes == {"Item": 5}
    assert set(store.schema().edges) == {ALSO}


@pytest.mark.parametrize(
    ("label", "table", "complaint"),
    [
        ("Item", pa.table({"id": ["a", "b", "a"]}), "Item: id 'a' stands twice"),
        ("Item", pa.table({"id": pa.array(["a", None], pa.string())}), "Item: row 2 has no id"),
        ("Item", pa.table({"name": ["a"]}), "no column 'id'"),
        ("Item", pa.table({"id": ["a", "b"], "price": [None, float("nan")]}), "Item: row 2 has price nan"),
        ("Item", pa.table({"id": ["a", "b"], "price": [float("-inf"), 1.0]}), "Item: row 1 has price -inf"),
    ],
)
def test_bad_nodes_are_refused_and_the_old_graph_stays(store, label, table, complaint):
    nodes, edges = graph()
    store.rebuild(nodes, edges)
    with pytest.raises(GraphError, match=complaint):
        store.rebuild({label: table}, {})
    assert store.counts().nodes["Item"] == 5


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (pa.table({"source": ["a", "zz"], "target": ["b", "b"]}), "ALSO: row 2 has source 'zz', which is no Item"),
        (pa.table({"source": ["a"], "target": ["zz"]}), "ALSO: row 1 has target 'zz'"),
        (pa.table({"source": ["a", "a"], "target": ["b", "b"]}), "ALSO: 'a' -> 'b' stands twice"),
        (pa.table({"source": ["a"], "target": ["b"], "w": [float("inf")]}), "ALSO: row 1 has w inf"),
    ],
)
def test_bad_edges_are_refused_and_the_old_graph_stays(store, table, complaint):
    nodes, edges = graph()
    store.rebuild(nodes, edges)
    with pytest.raises(GraphError, match=complaint):
        store.rebuild(nodes, {ALSO: table})
    assert store.counts().edges[BOUGHT] == 3


def test_every_store_gives_the_same_snapshot(store):
    reference = open_store("memory:")
    snapshots = []
    for each in (reference, store):
        each.rebuild(*graph())
        snapshots.append(export_snapshot(each))
    assert snapshots[0].digest == snapshots[1].digest
    for key in snapshots[0].data.edge_types:
        assert torch.equal(snapshots[0].data[key].edge_index, snapshots[1].data[key].edge_index)


def test_a_snapshot_is_of_one_generation(store, monkeypatch):
    """Here a batch comes in after the nodes were read and before the edges are."""
    store.rebuild(*graph())
    read, changes = store.edges, iter([Batch("1", nodes={"Item": pa.table({"id": ["0"]})})])

    def edges(key, columns=()):
        for batch in changes:
            store.apply(batch)
        return read(key, columns)

    monkeypatch.setattr(store, "edges", edges)
    snapshot = export_snapshot(store)
    monkeypatch.undo()
    assert snapshot.digest == export_snapshot(store).digest
    assert snapshot.ids["Item"].ids[0] == "0"
    for key in snapshot.relations():  # rows mean what they meant before the batch, one further on
        assert snapshot.data[tuple(key)].edge_index.shape[1] == store.counts().edges[key]


def test_a_snapshot_leaves_out_what_is_held_out_unless_asked(store):
    store.rebuild(*graph())
    without, with_all = export_snapshot(store), export_snapshot(store, held_out=True)
    assert HELD not in without.relations()
    assert HELD in with_all.relations()
    assert without.digest != with_all.digest
    forward = without.data["User", "INTERACTED", "Item"].edge_index
    assert torch.equal(without.data["Item", "rev_INTERACTED", "User"].edge_index, forward.flip(0))
    without.data.validate()


def test_networkx_and_files_hold_the_same_graph(store, tmp_path):
    store.rebuild(*graph())
    snapshot = export_snapshot(store)
    found = to_networkx(snapshot)
    assert found.number_of_nodes() == 10
    assert found.has_edge(("Item", "a"), ("Brand", "B"), key="HAS")
    FORMATS["pyg"](snapshot, tmp_path / "g.pt")
    kept = torch.load(tmp_path / "g.pt", weights_only=True)
    assert kept["Item"]["ids"] == ["a", "b", "c", "d`", "é"]
    FORMATS["parquet"](snapshot, tmp_path / "p")
    assert (tmp_path / "p" / "edges-Item-HAS-Brand.parquet").is_file()
    FORMATS["networkx"](snapshot, tmp_path / "g.json")
    assert (tmp_path / "g.json").stat().st_size > 100


def test_a_missing_or_broken_file_is_one_clear_line(tmp_path):
    with pytest.raises(StoreError, match="no graph here"):
        open_store(f"ladybug:{tmp_path / 'none.lbug'}").counts()
    (tmp_path / "broken.lbug").write_bytes(b"not a graph" * 1000)
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(f"ladybug:{tmp_path / 'broken.lbug'}").counts()
    with pytest.raises(ConfigError, match="no store 'mysql:x'"):
        open_store("mysql:x")


def test_a_killed_rebuild_leaves_the_old_graph(tmp_path):
    url = f"ladybug:{tmp_path / 'g.lbug'}"
    store = open_store(url)
    store.rebuild(*graph())
    store.close()
    code = f"""
import pyarrow as pa
from catalograph.kg.store import Batch
from catalograph.kg.stores import open_store
ids = [str(n) for n in range(300_000)]
print("go", flush=True)
open_store({url!r}).rebuild({{"Item": pa.table({{"id": ids}})}}, {{}})
"""
    for pause in (0.05, 0.3):
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert open_store(url).counts().nodes["Item"] in (5, 300_000)


FULL_DISK = """
import resource, sys
from catalograph.kg.stores import open_store
from test_store import graph
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)  # a write beyond it fails as on a full disk
open_store(sys.argv[1]).rebuild(*graph())
"""


@pytest.mark.parametrize("size", [2_000, 20_000, 60_000])
def test_a_full_disk_keeps_the_old_graph_and_does_not_stop_the_next_rebuild(tmp_path, size):
    url = f"ladybug:{tmp_path / 'g.lbug'}"
    with contextlib.closing(open_store(url)) as store:
        store.rebuild(*graph())
        before = export_snapshot(store).digest
    command = [sys.executable, "-W", "ignore", "-c", FULL_DISK, url, str(size)]
    tests = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run(command, env=tests, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "errors.StoreError" in done.stderr.splitlines()[-1]
    with contextlib.closing(open_store(url)) as store:
        assert export_snapshot(store).digest == before
        store.rebuild(*graph())
        assert export_snapshot(store).digest == before
    assert sorted(os.listdir(tmp_path)) == ["g.lbug", "g.lbug.lock"]


QUERIES = {
    "one hop": ("MATCH (a:N)-[:R]->(b:N) RETURN count(*) AS n", lambda g: g.number_of_edges()),
    "two hops": (
        "MATCH (a:N)-[:R]->(b:N)-[:R]->(c:N) RETURN count(*) AS n",
        lambda g: sum(g.in_degree(b) * g.out_degree(b) for b in g),
    ),
    "shared target": (
        "MATCH (a:N)-[:R]->(b:N)<-[:R]-(c:N) WHERE a.id <> c.id RETURN count(*) AS n",
        lambda g: sum(d * (d - 1) for _, d in g.in_degree()),
    ),
    "shared source": (
        "MATCH (a:N)<-[:R]-(b:N)-[:R]->(c:N) WHERE a.id <> c.id RETURN count(*) AS n",
        lambda g: sum(d * (d - 1) for _, d in g.out_degree()),
    ),
    "three hops": (
        "MATCH (a:N)-[:R]->(b:N)-[:R]->(c:N)-[:R]->(d:N) RETURN count(*) AS n",
        lambda g: sum(g.in_degree(b) * g.out_degree(c) for b, c in g.edges),
    ),
    "collaborative": (
        "MATCH (a:N)-[:R]->(b:N)<-[:R]-(c:N)-[:R]->(d:N) RETURN count(*) AS n",
        lambda g: sum(g.in_degree(b) * g.out_degree(c) for c, b in g.edges),
    ),
    "triangle": (
        "MATCH (a:N)-[:R]->(b:N)-[:R]->(c:N)-[:R]->(a) RETURN count(*) AS n",
        lambda g: sum(1 for a, b in g.edges for c in g.successors(b) if g.has_edge(c, a)),
    ),
    "mutual": (
        "MATCH (a:N)-[:R]->(b:N)-[:R]->(a) RETURN count(*) AS n",
        lambda g: sum(g.has_edge(b, a) for a, b in g.edges),
    ),
    "distinct ends": (
        "MATCH (a:N)-[:R]->(:N)-[:R]->(c:N) WITH DISTINCT a.id AS a, c.id AS c RETURN count(*) AS n",
        lambda g: len({(a, c) for a, b in g.edges for c in g.successors(b)}),
    ),
    "sources": (
        "MATCH (a:N)-[:R]->() RETURN count(DISTINCT a.id) AS n",
        lambda g: sum(d > 0 for _, d in g.out_degree()),
    ),
    "no edge out": (
        "MATCH (a:N) WHERE NOT EXISTS { MATCH (a)-[:R]->(:N) } RETURN count(*) AS n",
        lambda g: sum(d == 0 for _, d in g.out_degree()),
    ),
    "optional": (
        "MATCH (a:N) OPTIONAL MATCH (a)-[:R]->(b:N) WITH a.id AS a, count(b.id) AS d WHERE d >= 2 RETURN count(*) AS n",
        lambda g: sum(d >= 2 for _, d in g.out_degree()),
    ),
    "property on nodes": (
        "MATCH (a:N)-[:R]->(b:N) WHERE a.v < b.v RETURN count(*) AS n",
        lambda g: sum(int(a) % 7 < int(b) % 7 for a, b in g.edges),
    ),
    "property on edges": (
        "MATCH (a:N)-[r:R]->(b:N)-[s:R]->(c:N) WHERE r.w < s.w RETURN count(*) AS n",
        lambda g: sum(g[a][b]["w"] < g[b][c]["w"] for a, b in g.edges for c in g.successors(b)),
    ),
    "sum": ("MATCH (:N)-[r:R]->(:N) RETURN sum(r.w) AS n", lambda g: sum(w for _, _, w in g.edges(data="w"))),
    "one to three": (
        "MATCH (a:N {id: '0'})-[:R*1..3]->(b:N) WITH DISTINCT b.id AS b RETURN count(*) AS n",
        lambda g: len(within(g, "0", 3)),
    ),
    "two patterns": (
        "MATCH (a:N)-[:R]->(b:N) MATCH (b)-[:R]->(c:N) WHERE c.id = '0' RETURN count(*) AS n",
        lambda g: sum(g.in_degree(b) for b in g.predecessors("0")),
    ),
}


def within(g, start, hops):
    found, edge = set(), {start}
    for _ in range(hops):
        edge = {b for a in edge for b in g.successors(a)}
        found |= edge
    return found


@pytest.mark.parametrize("seed", range(3))
def test_query_shapes_agree_with_networkx_on_skewed_graphs(tmp_path, seed):
    """Guards an upgrade of the embedded engine: versions after the pinned one miscount two and three hops."""
    random = np.random.default_rng(seed)
    weight = 1 / np.arange(1, 61)
    ends = random.choice(60, (700, 2), p=weight / weight.sum())
    g = nx.DiGraph()
    g.add_nodes_from(str(n) for n in range(60))
    g.add_edges_from((str(a), str(b), {"w": int(a * 3 + b) % 11}) for a, b in ends if a != b)
    store = open_store(f"ladybug:{tmp_path / 'g.lbug'}")
    source, target = zip(*g.edges, strict=True)
    store.rebuild(
        {"N": pa.table({"id": list(g), "v": [int(n) % 7 for n in g]})},
        {
            EdgeKey("N", "R", "N"): pa.table(
                {"source": source, "target": target, "w": [w for *_, w in g.edges(data="w")]}
            )
        },
    )
    found = {name: store.run(text, {})["n"][0].as_py() for name, (text, _) in QUERIES.items()}
    store.close()
    assert found == {name: expected(g) for name, (_, expected) in QUERIES.items()}
