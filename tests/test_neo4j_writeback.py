"""Publications on a real Neo4j: beside what others keep there, vectors with their index, broken off and taken over."""

import threading

import numpy as np
import pyarrow as pa
import pytest
from test_writeback import EDGES, LISTED, NODES, ONE, SIMILAR, TWO, held, ranked

from catalograph.errors import GraphError, StoreError
from catalograph.kg import neo4j_writeback
from catalograph.kg.bolt import Bolt
from catalograph.kg.stores import open_store
from catalograph.kg.writeback import Publication, to_note

VECTORS = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0, 1]], np.float32)
NEAREST = "MATCH (i:Item {id: 'a'}) CALL db.index.vector.queryNodes('catalograph Item text_vector', 2, i.text_vector) "


def vectors(ids, values=VECTORS):
    array = pa.FixedSizeListArray.from_arrays(pa.array(values[: len(ids)].ravel()), values.shape[1])
    return {("Item", "text_vector"): pa.table({"id": list(ids), "vector": array})}


@pytest.fixture
def store(neo4j_url):
    opened = open_store(neo4j_url)
    opened.rebuild(NODES, EDGES)
    yield opened
    opened.close()


@pytest.fixture
def bolt(neo4j_url):
    opened = Bolt(neo4j_url)
    yield opened
    opened.close()


def write(bolt, text):
    bolt.write(lambda transaction: transaction.run(text).consume())


def everything(bolt):
    """Nodes, relations, constraints and indexes, with all they carry."""
    nodes = bolt.read("MATCH (n) RETURN labels(n) AS l, properties(n) AS p")
    edges = bolt.read("MATCH (a)-[r]->(b) RETURN a.id AS a, type(r) AS t, properties(r) AS p, b.id AS b")
    rules = bolt.read("SHOW INDEXES YIELD name, type, labelsOrTypes, properties RETURN *")
    return [sorted(str(record.data()) for record in records) for records in (nodes, edges, rules)]


def test_taken_out_again_the_database_is_what_it_was(store, bolt):
    write(bolt, "MATCH (i:Item {id: 'a'}) SET i.note = 'keep' CREATE (:Analyst {name: 'Ann'})-[:LIKES]->(i)")
    write(bolt, "CREATE (:Analyst)-[:RECOMMENDED_TO]->(:Analyst)")
    before = everything(bolt)
    store.publish(Publication("1", ONE.lists, vectors("abcd")))
    store.publish(Publication("2", TWO.lists, vectors("abc")))
    assert held(store, LISTED) == []
    assert store.published().vectors == {("Item", "text_vector"): 3}
    store.withdraw()
    assert everything(bolt) == before
    assert store.published() is None


def test_the_index_finds_the_nearest_vectors(store, bolt):
    store.publish(Publication("1", ONE.lists, vectors("abcd")))
    nearest = f"{NEAREST} YIELD node, score RETURN node.id AS id, score"
    assert [record["id"] for record in bolt.read(nearest)] == ["a", "b"]
    kept = bolt.read("MATCH (i:Item {id: 'b'}) RETURN i.text_vector AS v")[0]["v"]
    np.testing.assert_array_equal(np.array(kept, np.float32), VECTORS[1])
    wider = np.array([[0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0.1, 1]], np.float32)
    store.publish(Publication("2", ONE.lists, vectors("abc", wider)))
    assert [record["id"] for record in bolt.read(nearest)] == ["a", "c"]
    store.publish(Publication("3", ONE.lists))
    assert bolt.read("SHOW VECTOR INDEXES YIELD name RETURN name") == []
    assert bolt.read("MATCH (i:Item) WHERE i.text_vector IS NOT NULL RETURN i") == []


def test_what_others_call_the_same_is_refused_and_stays(store, bolt):
    write(bolt, "MATCH (a:Item {id: 'a'}), (b:Item {id: 'b'}) CREATE (a)-[:SIMILAR_TO {by: 'hand'}]->(b)")
    before = everything(bolt)
    with pytest.raises(GraphError, match="1 SIMILAR_TO relations there are not ours"):
        store.publish(ONE)
    write(bolt, "MATCH ()-[r:SIMILAR_TO]->() DELETE r")
    write(bolt, "MATCH (i:Item {id: 'c'}) SET i.text_vector = 'mine'")
    with pytest.raises(GraphError, match="Item nodes there have a property 'text_vector' that is not ours"):
        store.publish(Publication("1", ONE.lists, vectors("ab")))
    write(bolt, "MATCH (i:Item {id: 'c'}) REMOVE i.text_vector")
    write(bolt, "MATCH (a:Item {id: 'a'}), (b:Item {id: 'b'}) CREATE (a)-[:SIMILAR_TO {by: 'hand'}]->(b)")
    assert everything(bolt) == before


def test_a_rebuild_keeps_the_lists_of_items_that_stay(store, bolt):
    store.publish(Publication("1", ONE.lists, vectors("abcd")))
    gone = {**NODES, "Item": NODES["Item"].slice(0, 2)}
    store.rebuild(gone, {key: table.slice(0, 2) for key, table in EDGES.items()})
    assert held(store) == [("a", "b", 1, None, "1"), ("b", "a", 1, None, "1")]
    assert bolt.read("MATCH (n) WHERE n.id IN ['c', 'd', 'e'] RETURN n") == []
    assert store.published().edges == {SIMILAR: 2, LISTED: 0}
    store.rebuild(NODES, EDGES)
    store.publish(Publication("1", ONE.lists, vectors("abcd")))
    assert len(held(store)) == 3
    assert store.published().vectors == {("Item", "text_vector"): 4}


def test_broken_off_it_is_finished_by_running_it_again_or_taken_out(store, bolt, monkeypatch):
    before = everything(bolt)
    store.publish(ONE)
    with monkeypatch.context() as broken:
        broken.setattr(neo4j_writeback._Writing, "replace_vectors", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.publish(Publication("2", TWO.lists, vectors("ab")))
    assert store.published().version == ""
    store.publish(Publication("2", TWO.lists, vectors("ab")))
    assert store.published().version == "2"
    assert held(store)[0] == ("a", "c", 1, 2, "2")
    with monkeypatch.context() as broken:
        broken.setattr(neo4j_writeback._Writing, "replace_vectors", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.publish(Publication("3", ONE.lists, vectors("ab")))
    store.withdraw()
    assert everything(bolt) == before


def test_a_newer_publication_ends_an_older_one(store, bolt):
    older = neo4j_writeback._Writing(bolt, 1, to_note("", [], []))
    store.publish(ONE)
    with pytest.raises(StoreError, match="another publication has begun and ended this one"):
        older.remove_edges(SIMILAR)
    assert len(held(store)) == 3


def test_a_withdrawal_whose_last_answer_got_lost_is_done(store, bolt):
    writing = neo4j_writeback._Writing(bolt, 1, to_note("", [], []))
    writing.end()
    writing.end()  # as the driver does it again
    older, _ = (neo4j_writeback._Writing(bolt, 1, to_note("", [], [])) for _ in range(2))
    with pytest.raises(StoreError, match="another publication has begun"):
        older.end()


def test_no_reader_ever_finds_an_empty_list(store, neo4j_url):
    seen, done = [], threading.Event()

    def read():
        reader = open_store(neo4j_url)
        while not done.is_set():
            seen.extend(
                reader.run("MATCH (:Item {id: 'a'})-[r:SIMILAR_TO]->() RETURN count(r) AS n", {})["n"].to_pylist()
            )
        reader.close()

    store.publish(Publication("0", {SIMILAR: ranked(("a", "b"))}))
    thread = threading.Thread(target=read)
    thread.start()
    for version, targets in enumerate(["cd", "be", "cd", "be"], 1):  # nothing in common
        store.publish(Publication(str(version), {SIMILAR: ranked(("a", targets))}))
    done.set()
    thread.join()
    assert min(seen) >= 1
