"""The gate for typed text, and the process such text runs in."""

import contextlib
import time

import pyarrow as pa
import pytest
from hostile import HONEST, REFUSED, SNEAKED
from hypothesis import given
from hypothesis import strategies as st

from catalograph.errors import CatalographError, QueryError, StoreError
from catalograph.kg import worker
from catalograph.kg.named import list_queries
from catalograph.kg.query_file import filled
from catalograph.kg.readonly import DENIED, check
from catalograph.kg.stores import open_store
from catalograph.loaders.catalogue import EdgeKey

NAMES = {"item": "`Item`", "user": "`User`", "title": "`name`", "name": "`name`", "baskets": "`B`"}
NAMES |= {"facts": "`IS_A`|`MADE_OF`", "relations": "`IS_A`|`INTERACTED`"}
LIBRARY = [filled(text, NAMES) for query in list_queries() for text in query.texts.values()]


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_writes_or_reaches_out_is_refused_however_it_hides(text):
    with pytest.raises(QueryError) as caught:
        check(text, {"x"})
    assert len(str(caught.value).splitlines()) == 1


def test_there_are_many_ideas_and_each_is_another():
    texts = [*REFUSED.values(), *SNEAKED.values()]
    assert len(set(texts)) == len(texts) >= 150


@pytest.mark.parametrize("text", [*HONEST, *LIBRARY])
def test_reading_is_let_through_unchanged(text):
    assert check(text, distinct_last=True) == text


@pytest.mark.parametrize(
    ("answers", "right"),
    [
        ("n.a AS a, count(DISTINCT n.b) AS b, count(*) AS n", "n.a AS a, count(*) AS n, count(DISTINCT n.b) AS b"),
        ("n.a AS a, size(collect(DISTINCT n.b)) AS b, min(n.c) AS c", "min(n.c) AS c, collect(DISTINCT n.b) AS b, n.a"),
        ("Sum( distinct n.b) + COUNT (n) AS x", "COUNT(n) + sum(DISTINCT n.b) AS x"),
    ],
)
def test_an_aggregate_after_a_distinct_one_is_refused_where_the_engine_gets_it_wrong(answers, right):
    with pytest.raises(QueryError, match="put aggregates of DISTINCT values last"):
        check(f"MATCH (n) RETURN {answers}", distinct_last=True)
    assert check(f"MATCH (n) RETURN {answers}")
    assert check(f"MATCH (n) RETURN {right}", distinct_last=True)
    assert check(f"MATCH (n) WITH {right.rsplit(',', 1)[0]}, 1 AS one RETURN count(*) AS n", distinct_last=True)


@given(st.text(), st.sampled_from(sorted(DENIED)))
def test_a_denied_word_never_passes_bare(text, word):
    """Whatever stands before it, unless that opens a string, a comment or a quoted name, or owns it as a property."""
    harmless = "".join(letter for letter in text if letter not in "'\"`/*.:|")
    with pytest.raises(QueryError):
        check(f"MATCH (n) {harmless} {word} x")


@given(st.text())
def test_any_text_is_passed_or_refused_but_never_breaks_the_gate(text):
    with contextlib.suppress(QueryError):
        assert check(text) == text


@pytest.fixture
def store(tmp_path):
    opened = open_store(f"ladybug:{tmp_path / 'graph.lbug'}")
    ids = [str(n) for n in range(400)]
    ends = [(a, b) for a in ids[:60] for b in ids[:60]]
    source, target = zip(*ends, strict=True)
    opened.rebuild(
        {"Item": pa.table({"id": ids})},
        {EdgeKey("Item", "ALSO", "Item"): pa.table({"source": source, "target": target})},
    )
    yield opened
    opened.close()


def test_an_analyst_gets_an_arrow_table(store):
    found = store.analyst("MATCH (n:Item) WHERE n.id IN $ids RETURN n.id AS id ORDER BY id", {"ids": ["7", "3", "x"]})
    assert found.to_pydict() == {"id": ["3", "7"]}


def test_integer_sums_are_int64(store):
    found = store.analyst("UNWIND [1, 2] AS x RETURN sum(x) AS n", {})
    assert found["n"].to_pylist() == [3]
    assert found["n"].type == pa.int64()


def test_too_many_rows_are_refused_before_they_are_read(store):
    with pytest.raises(QueryError, match="answers 400 rows, at most 399 are shown; add LIMIT"):
        store.analyst("MATCH (n:Item) RETURN n.id AS id", {}, max_rows=399)
    assert store.analyst("MATCH (n:Item) RETURN n.id AS id", {}, max_rows=400).num_rows == 400


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("MATCH (n:Itm) RETURN n.id AS id", "no label or relation Itm, did you mean 'Item'"),
        ("MATCH (n:Item)-[r:SIMILAR_TO]->(m) RETURN n.id AS id", "relation SIMILAR_TO; `catalograph publish` makes it"),
        ("MATCH (n:Item RETURN n", "does not run"),
        ("MATCH (n:Item) RETURN n.colour AS c", "colour"),
        ("MATCH (n:Item {id: $x}) RETURN n.id AS id", "uses \\$x, which is not given"),
    ],
)
def test_a_query_that_does_not_run_is_one_line(store, text, complaint):
    with pytest.raises(QueryError, match=complaint) as caught:
        store.analyst(text, {})
    assert "\n" not in str(caught.value)


HOPS = "(a:Item)-[:ALSO]->(b)-[:ALSO]->(c)-[:ALSO]->(d)-[:ALSO]->(e)-[:ALSO]->(f)"
LONG = f"MATCH {HOPS} WHERE a.id < f.id RETURN count(*) AS n"


def test_a_long_query_is_stopped(store):
    start = time.monotonic()
    with pytest.raises(QueryError, match="took too long"):
        store.analyst(LONG, {}, timeout_s=0.3)
    assert time.monotonic() - start < 10


def test_a_query_that_eats_memory_is_killed(store, monkeypatch):
    monkeypatch.setattr(worker, "MEMORY_BYTES", 200 << 20)
    with pytest.raises(QueryError, match="too much memory"):
        store.analyst("UNWIND range(1, 200000000) AS i RETURN size(collect(i)) AS n", {}, timeout_s=5)


def test_a_file_of_the_folder_we_stand_in_is_not_imported(store, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert store.analyst("RETURN 1 AS one", {})["one"].to_pylist() == [1]


def test_a_truncated_file_is_a_clear_error(tmp_path):
    path = tmp_path / "graph.lbug"
    store = open_store(f"ladybug:{path}")
    store.rebuild({"Item": pa.table({"id": [str(n) for n in range(5000)]})}, {})
    store.close()
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises((StoreError, QueryError)) as caught:
        store.counts()
    assert "\n" not in str(caught.value)


def test_memory_says_it_speaks_no_cypher():
    for ask in (open_store("memory:").run, open_store("memory:").analyst):
        with pytest.raises(CatalographError, match="speaks no Cypher"):
            ask("MATCH (n) RETURN n", {})
