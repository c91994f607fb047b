"""Publications: lists and vectors beside the graph, renewed, withdrawn, and never part of what a model learns from."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalograph.errors import GraphError, StoreError
from catalograph.kg.export import export_snapshot
from catalograph.kg.store import Batch
from catalograph.kg.stores import open_store
from catalograph.kg.writeback import TABLE, Publication, difference, renewed, whole_lists
from catalograph.loaders.catalogue import EdgeKey

SIMILAR, LISTED = EdgeKey("Item", "SIMILAR_TO", "Item"), EdgeKey("User", "RECOMMENDED", "Item")
BOUGHT, HAS = EdgeKey("User", "INTERACTED", "Item"), EdgeKey("Item", "HAS", "Brand")
NODES = {
    "User": pa.table({"id": ["u0", "u1"]}),
    "Item": pa.table({"id": ["a", "b", "c", "d", "e"], "price": [1.0, 2.0, None, 4.0, 5.0]}),
    "Brand": pa.table({"id": ["x", "y", "z"]}),
}
EDGES = {
    BOUGHT: pa.table({"source": ["u0", "u1"], "target": ["a", "b"], "count": [1, 2]}),
    HAS: pa.table({"source": ["a", "b", "c"], "target": ["x", "x", "y"]}),
}


@pytest.fixture(params=["ladybug", "neo4j"])
def store(request, store_url):
    opened = open_store(store_url(request.param))
    opened.rebuild(NODES, EDGES)
    yield opened
    opened.close()


def ranked(*lists):
    """("a", "bc") is the list of a: b first, then c; scores fall by place and are no round numbers."""
    rows = [(s, t, 1 / (3 + n), n) for s, targets in lists for n, t in enumerate(targets, 1)]
    columns = zip(*rows, strict=True) if rows else ([], [], [], [])
    kinds = (pa.string(), pa.string(), pa.float64(), pa.int64())
    names = ("source", "target", "score", "rank")
    return pa.table([pa.array(c, k) for c, k in zip(columns, kinds, strict=True)], names)


def held(store, key=SIMILAR):
    """[(source, target, rank, previous_rank, version)] by source and rank."""
    text = (
        f"MATCH (a:{key.source})-[r:{key.relation}]->(b:{key.target}) RETURN a.id AS s, b.id AS t, r.rank AS rank, "
        "r.previous_rank AS previous_rank, r.version AS version ORDER BY s, rank"
    )
    return [tuple(row.values()) for row in store.run(text, {}).to_pylist()]


def picture(store):
    """All that the rest of the package can see of the graph."""
    return store.schema(), store.counts(), export_snapshot(store).digest


ONE = Publication("1", {SIMILAR: ranked(("a", "bc"), ("b", "a")), LISTED: ranked(("u0", "cd"))})
TWO = Publication("2", {SIMILAR: ranked(("a", "cde"), ("c", "a"))})


def test_lists_are_read_in_cypher_with_the_rank_of_the_version_before(store):
    published = store.publish(ONE)
    assert (published.version, published.edges) == ("1", {SIMILAR: 3, LISTED: 2})
    assert held(store) == [("a", "b", 1, None, "1"), ("a", "c", 2, None, "1"), ("b", "a", 1, None, "1")]
    assert held(store, LISTED) == [("u0", "c", 1, None, "1"), ("u0", "d", 2, None, "1")]
    published = store.publish(TWO)
    assert (published.version, published.edges) == ("2", {SIMILAR: 4})
    assert held(store) == [
        ("a", "c", 1, 2, "2"),
        ("a", "d", 2, None, "2"),
        ("a", "e", 3, None, "2"),
        ("c", "a", 1, None, "2"),
    ]
    scores = store.analyst("MATCH (:Item {id: 'a'})-[r:SIMILAR_TO]->(b:Item) RETURN r.score AS s ORDER BY s DESC", {})
    assert scores["s"].to_pylist() == [1 / 4, 1 / 5, 1 / 6]


def test_publishing_again_changes_nothing(store):
    store.publish(ONE)
    store.publish(TWO)
    before = held(store)
    assert store.publish(TWO) == store.published()
    assert held(store) == before


def test_a_publication_may_be_empty(store):
    assert store.publish(Publication("1", {})).edges == {}
    store.publish(ONE)
    assert store.publish(Publication("2", {})).version == "2"
    assert store.published().edges == {}


def test_longer_lists_of_the_same_version_compare_with_the_version_before(store):
    store.publish(ONE)
    store.publish(Publication("2", {SIMILAR: ranked(("a", "c"))}))
    store.publish(Publication("2", {SIMILAR: ranked(("a", "cb"))}))
    assert held(store) == [("a", "c", 1, 2, "2"), ("a", "b", 2, None, "2")]


def test_models_never_see_what_was_published(store):
    before = picture(store)
    store.publish(ONE)
    assert picture(store) == before
    with pytest.raises(GraphError):
        store.edges(SIMILAR)
    store.publish(TWO)
    store.withdraw()
    assert picture(store) == before
    assert store.published() is None
    everything = "MATCH (n)-[r]->(m) RETURN type(r) AS t, count(*) AS n ORDER BY t"
    assert store.analyst(everything, {}).to_pylist() == [{"t": "HAS", "n": 3}, {"t": "INTERACTED", "n": 2}]
    store.withdraw()


def test_batches_go_on_and_deleted_items_leave_the_lists(store):
    store.publish(ONE)
    store.apply(Batch("1", delete_nodes={"Item": ["c"]}))
    assert held(store) == [("a", "b", 1, None, "1"), ("b", "a", 1, None, "1")]
    assert store.published().edges == {SIMILAR: 2, LISTED: 1}
    store.publish(TWO)  # it still knows c
    assert held(store) == [("a", "d", 2, None, "2"), ("a", "e", 3, None, "2")]


@pytest.mark.parametrize(
    ("nodes", "edges", "complaint"),
    [
        (
            NODES,
            {EdgeKey("Item", "Similar_To", "Item"): pa.table({"source": ["a"], "target": ["b"]})},
            "the graph has Similar_To relations of its own",
        ),
        ({"Item": pa.table({"id": ["q"]})}, {}, "SIMILAR_TO: none of the 4 pairs has both its ends in this graph"),
        ({"Brand": pa.table({"id": ["q"]})}, {}, "no label 'Item'"),
    ],
)
def test_a_graph_that_does_not_fit_is_told_and_stays(store, nodes, edges, complaint):
    store.rebuild(nodes, edges)
    before = picture(store)
    with pytest.raises(GraphError, match=complaint):
        store.publish(TWO)
    assert picture(store) == before
    assert store.published() is None


def test_the_store_in_memory_says_where_to_publish():
    with pytest.raises(StoreError, match="publish to ladybug:PATH"):
        open_store("memory:").publish(ONE)


def test_the_embedded_file_is_not_touched_when_nothing_changes_and_forgets_with_a_rebuild(tmp_path):
    path = tmp_path / "graph.lbug"
    store = open_store(f"ladybug:{path}")
    store.rebuild(NODES, EDGES)
    store.publish(ONE)
    written = path.stat().st_mtime_ns
    store.publish(ONE)
    assert path.stat().st_mtime_ns == written
    store.rebuild(NODES, EDGES)
    assert store.published() is None
    store.publish(ONE)
    assert len(held(store)) == 3
    store.close()


LISTS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.lists(st.sampled_from("wxyz"), unique=True)), unique_by=lambda p: p[0]
)


@given(st.lists(st.tuples(LISTS, st.sampled_from(["1", "2"])), max_size=4))
def test_differences_lead_to_the_new_lists_and_ranks_to_the_version_before(steps):
    old = TABLE.empty_table()
    for lists, version in steps:
        new = renewed(old, ranked(*lists), version)
        written, gone = difference(old, new)
        pairs = {(row["source"], row["target"]): row for row in old.to_pylist()}
        expected = {pair: row for pair, row in pairs.items() if pair not in keys(gone)}
        expected |= {(row["source"], row["target"]): row for row in written.to_pylist()}
        assert expected == {(row["source"], row["target"]): row for row in new.to_pylist()}
        assert {(s, t): n for s, targets in lists for n, t in enumerate(targets, 1)} == {
            pair: row["rank"] for pair, row in expected.items()
        }
        for pair, row in expected.items():
            before = pairs.get(pair, {"rank": None, "previous_rank": None, "version": None})
            again = before["version"] == version
            assert row["previous_rank"] == before["previous_rank" if again else "rank"]
        assert [table.num_rows for table in difference(new, renewed(new, ranked(*lists), version))] == [0, 0]
        old = new


@given(LISTS, LISTS, st.integers(1, 6))
def test_lists_are_cut_between_sources_and_nothing_is_lost(new, gone, most):
    tables = [renewed(TABLE.empty_table(), ranked(*lists), "1") for lists in (new, gone)]
    batches = list(whole_lists(*tables, most))
    for place, table in enumerate(tables):
        assert pa.concat_tables([TABLE.empty_table(), *(batch[place] for batch in batches)]).equals(table)
    sources = [{source for source, _ in keys(batch[0]) | keys(batch[1])} for batch in batches]
    assert sum(map(len, sources)) == len(set().union(*sources))
    assert all(sum(table.num_rows for table in batch) < most + 8 for batch in batches)


def keys(table):
    return set(zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True))
