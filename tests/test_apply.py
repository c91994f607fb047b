"""Batches: applied whole, once, with the same outcome in every store."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalograph.errors import GraphError, StoreError
from catalograph.kg.export import export_snapshot
from catalograph.kg.store import Batch
from catalograph.kg.stores import open_store
from catalograph.loaders.catalogue import EdgeKey

BOUGHT, HAS, SUB = (
    EdgeKey("User", "INTERACTED", "Item"),
    EdgeKey("Item", "HAS", "Brand"),
    EdgeKey("Brand", "HAS", "Brand"),
)
STRINGS = pa.string()


def rebuild(store):
    """2 users, 4 items, 3 brands."""
    nodes = {
        "User": pa.table({"id": ["u1", "u0"]}),
        "Item": pa.table(
            {"id": ["d", "a", "c", "b"], "price": [4.0, 1.0, 3.0, None], "sold": [True, None, False, True]}
        ),
        "Brand": pa.table({"id": ["x", "y", "z"]}),
    }
    edges = {
        BOUGHT: pa.table({"source": ["u0", "u1", "u1"], "target": ["a", "a", "b"], "count": [1, 2, 3]}),
        HAS: pa.table({"source": ["a", "b", "c"], "target": ["x", "x", "y"], "sure": [True, False, None]}),
        SUB: pa.table({"source": ["x"], "target": ["y"]}),
    }
    return store.rebuild(nodes, edges)


@pytest.fixture(params=["memory", "ladybug", "neo4j"])
def store(request, store_url):
    opened = open_store(store_url(request.param))
    rebuild(opened)
    yield opened
    opened.close()


def pairs(store, key):
    source, target = (store.nodes(label)["id"].to_pylist() for label in (key.source, key.target))
    found = store.edges(key)
    return [source[s] + target[t] for s, t in zip(found.source, found.target, strict=True)]


CHANGE = Batch(
    "monday",
    nodes={"Item": pa.table({"id": ["e", "a"], "price": [5.0, 1.5]}), "User": pa.table({"id": ["u2"]})},
    edges={
        BOUGHT: pa.table({"source": ["u2", "u0"], "target": ["e", "a"], "count": [7, 8]}),
        HAS: pa.table({"source": ["b", "e"], "target": ["z", "y"]}),
    },
    replace_edges_of={HAS: ["b", "nobody"]},
    delete_nodes={"Item": ["c", "gone already"]},
)


def test_a_batch_deletes_adds_sets_and_replaces(store):
    counts = store.apply(CHANGE)
    assert counts == store.counts()
    assert counts.nodes == {"User": 3, "Item": 4, "Brand": 3}
    items = store.nodes("Item", ["price", "sold"])
    assert items["id"].to_pylist() == ["a", "b", "d", "e"]
    assert items["price"].to_pylist() == [1.5, None, 4.0, 5.0]
    assert items["sold"].to_pylist() == [None, True, True, None]  # a column not given stays
    assert pairs(store, HAS) == ["ax", "bz", "ey"]
    assert pairs(store, BOUGHT) == ["u0a", "u1a", "u1b", "u2e"]
    assert store.edges(BOUGHT, ["count"]).columns["count"].tolist() == [8, 2, 3, 7]
    assert pairs(store, SUB) == ["xy"]


def test_single_edges_go_and_may_come_back_as_new(store):
    gone = pa.table({"source": ["u1", "u0", "u0"], "target": ["a", "a", "never"]})
    back = pa.table({"source": ["u0"], "target": ["a"], "count": [9]})
    counts = store.apply(Batch("1", edges={BOUGHT: back}, delete_edges={BOUGHT: gone}))
    assert counts == store.counts()
    assert pairs(store, BOUGHT) == ["u0a", "u1b"]
    assert store.edges(BOUGHT, ["count"]).columns["count"].tolist() == [9, 3]


def test_a_store_knows_the_batches_since_its_rebuild(store):
    assert not store.holds("monday")
    store.apply(CHANGE)
    assert store.holds("monday")
    assert not store.holds("tuesday")
    rebuild(store)
    assert not store.holds("monday")


def test_applying_twice_is_applying_once(store):
    store.apply(CHANGE)
    once = export_snapshot(store).digest
    store.apply(CHANGE)
    assert export_snapshot(store).digest == once
    store.apply(Batch("tuesday", delete_nodes={"Item": ["e"]}))
    later = export_snapshot(store).digest
    store.apply(CHANGE)  # a late repeat neither fails nor brings back what is gone
    assert export_snapshot(store).digest == later


def test_a_rebuild_forgets_batches(store):
    store.apply(CHANGE)
    rebuild(store)
    assert store.apply(CHANGE).nodes["Item"] == 4
    assert pairs(store, HAS) == ["ax", "bz", "ey"]


@pytest.mark.parametrize(
    ("batch", "complaint"),
    [
        (Batch("1", nodes={"Itme": pa.table({"id": ["q"]})}), "no 'Itme', did you mean 'Item'"),
        (
            Batch("1", nodes={"Item": pa.table({"id": ["q"], "colour": ["red"]})}),
            "Item.colour is string.* no such column",
        ),
        (
            Batch("1", nodes={"Item": pa.table({"id": ["q"], "price": [1]})}),
            "Item.price is int64, the graph has float64",
        ),
        (Batch("1", nodes={"Item": pa.table({"id": ["q", "q"]})}), "id 'q' stands twice, again in row 2"),
        (Batch("1", nodes={"Item": pa.table({"id": ["a"]})}, delete_nodes={"Item": ["a"]}), "both written and deleted"),
        (
            Batch("1", edges={HAS: pa.table({"source": ["a"], "target": ["w"]})}),
            "row 1 has target 'w', which is no Brand",
        ),
        (
            Batch("1", edges={HAS: pa.table({"source": ["a"], "target": ["x"]})}, delete_nodes={"Brand": ["x"]}),
            "row 1 has target 'x'",
        ),
        (Batch("1", edges={HAS: pa.table({"source": ["a", "a"], "target": ["x", "x"]})}), "'a' -> 'x' stands twice"),
        (Batch("1", replace_edges_of={EdgeKey("User", "HAS", "Item"): ["u0"]}), "no 'User-HAS-Item'"),
    ],
)
def test_a_bad_batch_changes_nothing(store, batch, complaint):
    before = export_snapshot(store).digest
    with pytest.raises(GraphError, match=complaint):
        store.apply(batch)
    assert export_snapshot(store).digest == before


IDS = st.lists(st.sampled_from("abcdefg"), unique=True, max_size=4)
ENDS = st.lists(st.tuples(st.sampled_from("abcdefg"), st.sampled_from("xyz")), unique=True, max_size=6)


@pytest.mark.parametrize("kind", ["ladybug", "neo4j"])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(IDS, ENDS, IDS, IDS), min_size=1, max_size=3))
def test_any_batches_leave_all_stores_alike(store_url, kind, changes):
    stores = [open_store("memory:"), open_store(store_url(kind))]
    for each in stores:
        rebuild(each)
    for n, (written, ends, replaced, deleted) in enumerate(changes):
        source, target = [s for s, _ in ends], [t for _, t in ends]
        kept = pa.array(sorted({*written, *source}), STRINGS)
        batch = Batch(
            str(n),
            nodes={"Item": pa.table({"id": kept, "price": np.arange(len(kept)) + n / 2})},
            edges={HAS: pa.table({"source": pa.array(source, STRINGS), "target": pa.array(target, STRINGS)})},
            replace_edges_of={HAS: replaced},
            delete_nodes={"Item": [id_ for id_ in deleted if id_ not in kept.to_pylist()]},
        )
        for each in stores:
            each.apply(batch)
        assert stores[0].counts() == stores[1].counts()
        assert export_snapshot(stores[0]).digest == export_snapshot(stores[1]).digest
    stores[1].close()


APPLY = """
import pyarrow as pa
from catalograph.kg.stores import open_store
from catalograph.kg.store import Batch
ids = [str(n) for n in range(100_000)]
store = open_store({url!r})
store.schema()
print("go", flush=True)
store.apply(Batch("big", nodes={{"Item": pa.table({{"id": ids}})}}, delete_nodes={{"Item": ["a"]}}))
"""


def test_a_killed_batch_is_there_wholly_or_not_at_all(tmp_path):
    url = f"ladybug:{tmp_path / 'g.lbug'}"
    store = open_store(url)
    rebuild(store)
    store.close()
    for pause in (0.02, 0.1, 0.3):
        command = [sys.executable, "-W", "ignore", "-c", APPLY.format(url=url)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            time.sleep(pause)
            os.kill(process.pid, signal.SIGKILL)
        assert store.counts().nodes["Item"] in (4, 100_003)
        store.close()
    assert store.apply(Batch("after", nodes={"User": pa.table({"id": ["u9"]})})).nodes["User"] == 3
    store.close()


def test_one_writer_at_a_time(tmp_path):
    one, two = (open_store(f"ladybug:{tmp_path / 'g.lbug'}") for _ in range(2))
    rebuild(one)
    with one._locked(), pytest.raises(StoreError, match="another process is writing this graph"):
        two.apply(CHANGE)
    one.apply(Batch("first", delete_nodes={"Brand": ["z"]}))
    with pytest.raises(GraphError, match="row 1 has target 'z'"):  # checked against the graph of now
        two.apply(CHANGE)
    one.close()
    two.close()


def test_a_reader_keeps_the_graph_it_opened(tmp_path):
    writer, reader = (open_store(f"ladybug:{tmp_path / 'g.lbug'}") for _ in range(2))
    rebuild(writer)
    assert reader.counts().nodes["Item"] == 4
    writer.apply(Batch("1", delete_nodes={"Item": ["a"]}))
    assert pairs(reader, HAS) == ["ax", "bx", "cy"]
    reader.close()
    assert pairs(reader, HAS) == ["bx", "cy"]
    writer.close()
    reader.close()
