"""Every hostile text on every store with Cypher: refused in one line or ended by the limits, and nothing changed."""

import os
import time

import pyarrow as pa
import pytest
from conftest import emptied
from hostile import HONEST, REFUSED, SNEAKED
from hypothesis import example, given, settings
from hypothesis import strategies as st

from catalograph.errors import QueryError, StoreError
from catalograph.kg.engine import connected, execute, opened
from catalograph.kg.export import export_snapshot
from catalograph.kg.readonly import check
from catalograph.kg.stores import open_store
from catalograph.loaders.catalogue import EdgeKey

WRITES = ("CREATE (", "MERGE", "SET ", "DELETE", "REMOVE", "FOREACH", "INSERT (", "DROP", "ALTER", "RENAME")
PARAMETERS = {"item": "a", "items": ["b", "c"], "x": "x"}


def graph():
    """A small shop, and beside it nodes that are all joined, so that long ways are many."""
    dense = [str(n) for n in range(60)]
    nodes = {
        "User": pa.table({"id": ["u", "v"]}),
        "Item": pa.table(
            {"id": ["a", "b", "c", "é"], "name": ["xa", None, "L'été", "d"], "price": [1.5, 2.0, None, 4.0]}
        ),
        "Brand": pa.table({"id": ["a", "z"], "name": ["Acme", "Zed"]}),
        "N": pa.table({"id": dense}),
    }
    edges = {
        ("User", "INTERACTED", "Item"): {"source": ["u", "u", "v"], "target": ["a", "b", "a"], "at": [3, 9, 7]},
        ("Item", "HAS", "Brand"): {"source": ["a", "b", "c"], "target": ["a", "a", "z"]},
        ("Item", "ALSO", "Item"): {"source": ["a", "b", "c"], "target": ["b", "a", "é"], "count": [4, 4, 1]},
        ("N", "R", "N"): {"source": [a for a in dense for _ in dense], "target": [b for _ in dense for b in dense]},
    }
    return nodes, {EdgeKey(*key): pa.table(columns) for key, columns in edges.items()}


@pytest.fixture(scope="module", params=["ladybug", "neo4j"])
def store(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    url = f"ladybug:{folder / 'graph.lbug'}"
    if request.param == "neo4j":
        url = request.getfixturevalue("neo4j_server").url
        emptied(url)
    found = open_store(url)
    found.rebuild(*graph())
    found.folder = folder
    yield found
    found.close()


def state(store):
    """What must stay as it is: the graph, and the files beside an embedded one."""
    return export_snapshot(store, held_out=True).digest, sorted(os.listdir(store.folder))


def one_line(store, text, **limits):
    """The complaint about a text, which must not run."""
    try:
        found = store.analyst(text, PARAMETERS, **limits)
    except QueryError as e:
        assert "\n" not in str(e)  # noqa: PT017 - what it answers is to be told, too
        return str(e)
    return pytest.fail(f"{text} answers {str(found.slice(0, 1).to_pylist())[:200]}")


def test_what_is_refused_reaches_no_engine(store, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    before = state(store)
    for text in REFUSED.values():
        one_line(store, text)
    assert state(store) == before
    assert os.listdir(tmp_path) == []


def test_past_the_gate_the_engine_itself_refuses_to_write(store):
    """The second layer: a database opened read-only, a READ transaction."""
    before, tried = state(store), 0
    for text in REFUSED.values():
        if text.startswith(("MATCH", "UNWIND", "CREATE (", "MERGE", "INSERT")) and any(word in text for word in WRITES):
            tried += 1
            try:
                store.run(text.replace("$x", "'x'"), {})
            except (QueryError, StoreError):
                continue
    assert tried > 40
    assert state(store) == before


@pytest.mark.parametrize("text", SNEAKED.values(), ids=SNEAKED)
def test_what_would_take_all_there_is_is_ended(store, text):
    start = time.monotonic()
    complaint = one_line(store, text, timeout_s=0.7, max_rows=1_000)
    assert any(
        limit in complaint for limit in ("too long", "too much memory", "rows", "MiB", "too much for the memory")
    )
    assert time.monotonic() - start < 60
    assert store.run("MATCH (i:Item) RETURN count(*) AS n", {})["n"].to_pylist() == [4], "it answers as before"


def test_nothing_of_that_has_changed_the_graph(store):
    before = state(store)
    store.rebuild(*graph())
    assert state(store) == before


@pytest.fixture(scope="module")
def embedded(tmp_path_factory):
    found = open_store(f"ladybug:{tmp_path_factory.mktemp('embedded') / 'graph.lbug'}")
    found.rebuild(*graph())
    yield found
    found.close()


def test_honest_texts_answer_alike_on_every_store(store, embedded):
    assert store.analyst(HONEST[0], {"item": "a"}).to_pylist() == [{"id": "a"}]
    for text in HONEST:
        given = {name: value for name, value in PARAMETERS.items() if f"${name} " in text or f"${name}}}" in text}
        found, expected = (each.run(check(text, given, distinct_last=True), given) for each in (store, embedded))
        rows = [sorted(map(repr, table.to_pylist())) for table in (found, expected)]
        assert rows[0] == rows[1], text
        assert found.num_rows or "CONTAINS 'DROP" in text or "'L\\'été" not in text, text


@pytest.fixture(scope="module")
def writable(tmp_path_factory):
    """An engine that may write, as none does for an analyst: here only the gate is in the way."""
    database = opened(tmp_path_factory.mktemp("writable") / "graph.lbug", read_only=False)
    execute(database, "CREATE NODE TABLE Item(id STRING, PRIMARY KEY(id))")
    execute(database, "CREATE NODE TABLE Evil(id SERIAL, PRIMARY KEY(id))")
    execute(database, "CREATE (:Item {id: 'a'})")
    yield database
    database.close()


MARKS = ["'", '"', "`", "\\", "/", "*", "//", "/*", "*/", "**/", "/***/", "''", "\\'", "\\\\", " ", "x", "-", "+"]
MARKS += ["\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\ufeff", " CREATE (:Evil) ", " CREATE (:Evil) //"]
JUNK = st.lists(st.sampled_from(MARKS), max_size=6).map("".join)
OPENED = st.sampled_from(
    [("'", "'"), ('"', '"'), ("`", "`"), ("/*", "*/"), ("/*", "**/"), ("//", "\n"), ("//", "\x0c")]
)
PIECE = st.builds(lambda sign, body: f"{sign[0]}{body}{sign[1]}", OPENED, JUNK)


@settings(max_examples=1_500, deadline=None)
@given(st.sampled_from(["", ", 1 AS y ", ", "]), PIECE, st.sampled_from(["", " AS z ", " + "]), PIECE, JUNK)
@example("", "/***/", "", "' */ CREATE (:Evil) //'", "")
@example(", 1 AS y ", "// \x0c", "", "' \n CREATE (:Evil) //'", "")
def test_gate_and_engine_agree_where_strings_and_comments_end(writable, first, one, between, two, last):
    text = f"MATCH (n:Item) WITH n{first}{one}{between}{two}{last} CREATE (:Evil)"
    for candidate in (text, text.removesuffix(" CREATE (:Evil)"), text + " //" + one[:1]):
        try:
            check(candidate)
        except QueryError:
            continue
        with connected(writable) as connection:
            try:
                connection.execute(candidate)
            except RuntimeError:
                continue
        assert execute(writable, "MATCH (e:Evil) RETURN count(*) AS n")["n"].to_pylist() == [0], repr(candidate)
