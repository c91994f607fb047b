"""The gate for typed text, and the process such text runs in."""

import contextlib
import time

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalograph.errors import CatalographError, QueryError, StoreError
from catalograph.kg import worker
from catalograph.kg.named import list_queries
from catalograph.kg.query_file import filled
from catalograph.kg.readonly import DENIED, check
from catalograph.kg.stores import open_store
from catalograph.loaders.catalogue import EdgeKey

HIDDEN = [
    "MATCH (n) // a comment\rSET n.id = 1",  # one engine ends a comment at a carriage return
    "MATCH (n) // a comment\u2028DELETE n",
    "MATCH (n) RETURN 1.CREATE (m:Item)",
    "MATCH (n) WITH n LIMIT 1.SET n.id = 2",
    "MATCH (n) RETURN [1, 2][1..DELETE n",
    "MATCH (n)/**/DETACH/**/DELETE/**/n",
    "MATCH (n) WITH n\u00a0MERGE (m:Item {id: 'x'})",
    "MATCH (n) WITH n CREATE(m:Item)",
    "MATCH (n) WITH n cReAtE (m)",
    "MATCH (n) WITH n CHEC\u212aPOINT",  # a Kelvin sign
    "MATCH (n) WITH n \uff33\uff25\uff34 n.id = 1",  # full-width letters
    "MATCH (n) \u017fET n.id = 1",  # a long s
    "MATCH (n) RETURN '\\u0027 DELETE n //'",
    'MATCH (n) RETURN "\\U00000022 DELETE n"',
    "MATCH (n) RETURN 'it''s' DELETE n",
    "MATCH (n) RETURN `a`` DELETE n",
    "MATCH (n) RETURN \"it's\" SET n.x = 'y'",
    "MATCH (n) RETURN n /* 'open */ SET n.x = 1 // '",
    "MATCH (n) RETURN apoc.load.json('file:///etc/passwd')",
    "MATCH (n) RETURN gds . util . asNode (1)",
    "MATCH (n) RETURN `read_text`('/etc/passwd')",
    "MATCH (n) RETURN nextval('s')",
    "MATCH (n) RETURN current_setting ('threads')",
    "MATCH (n) RETURN file_exists /* */ ('/etc/passwd')",
    "MATCH (n) RETURN n.id UNION CALL show_tables() RETURN *",
    "MATCH (n) CALL { WITH n DELETE n } IN TRANSACTIONS",
    "MATCH (n) RETURN n.id;",
    "MATCH (n) RETURN n.id; ; CHECKPOINT",
    "UNWIND [1] AS x LOAD FROM df RETURN *",
    "WITH 1 AS x LOAD CSV FROM 'http://127.0.0.1/' AS line RETURN line",
    "RETURN 1 AS x UNION ALL COPY (MATCH (n) RETURN n.id) TO 'x.csv'",
    "match (n) foreach (x in [1] | set n.id = x)",
    "MATCH (n) RETURN n.id \x00 DELETE n",
    "MATCH (n) RETURN #n",
    "MATCH (n) WHERE n.id = $`x` RETURN n",
    "EXPLAIN\nMATCH (n) RETURN n",
    "Item",
    "(n) RETURN n",
    "COMMENT ON TABLE Item IS 'x'",
]

HARMLESS = [
    "MATCH (i:Item {id: $item}) RETURN i.id AS id",
    "MATCH (a)-[:HAS|ALSO]->(b) RETURN a.id AS a_id, b.id AS b_id",
    "MATCH (a:Item)-[:ALSO*1..3]->(b:Item) RETURN DISTINCT b.id AS id",
    "MATCH (a:Item) WHERE a.name =~ 'x.*' AND NOT a.price >= 1.5e3 RETURN count(*) AS n",
    "MATCH (a:Item) WHERE EXISTS { MATCH (a)-[:HAS]->(b) } RETURN a.id AS id",
    "MATCH (a:Item) WITH a.id AS id, CASE WHEN a.price > 2 THEN 'dear' ELSE 'cheap' END AS band RETURN id, band",
    "MATCH (a:Item) RETURN a.set AS x, a.load AS y, {of: a.id} AS z",
    "MATCH (a:Item) WHERE a.name CONTAINS 'DROP TABLE; DELETE' RETURN a.id AS id /* CREATE */",
    'MATCH (a:`SET`) WHERE a.name STARTS WITH "L\'été" RETURN a.id AS id',
    "MATCH (a:Item)-[r]->() RETURN type(r) AS relation, count(*) AS n ORDER BY n DESC SKIP 1 LIMIT 5",
    "UNWIND range(1, 3) AS x RETURN x % 2 AS odd, -x AS minus, x ^ 2 AS square",
]

NAMES = {"item": "`Item`", "user": "`User`", "title": "`name`", "name": "`name`", "baskets": "`B`"}
NAMES |= {"facts": "`IS_A`|`MADE_OF`", "relations": "`IS_A`|`INTERACTED`"}
LIBRARY = [filled(text, NAMES) for query in list_queries() for text in query.texts.values()]


@pytest.mark.parametrize("text", HIDDEN)
def test_what_writes_or_reaches_out_is_refused_however_it_hides(text):
    with pytest.raises(QueryError) as caught:
        check(text)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", [*HARMLESS, *LIBRARY])
def test_reading_is_let_through_unchanged(text):
    assert check(text) == text


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
        ("MATCH (n:Nothing) RETURN n.id AS id", "Nothing does not exist"),
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
