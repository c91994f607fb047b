"""The seam to Neo4j: addresses, credentials and faults, each fault one line that never holds the password."""

import socket

import pytest

from catalograph.errors import ConfigError, QueryError, StoreError
from catalograph.kg.bolt import Bolt

SECRET = "correct-horse"


@pytest.fixture
def credentials(monkeypatch):
    monkeypatch.setenv("NEO4J_USERNAME", "neo4j")
    monkeypatch.setenv("NEO4J_PASSWORD", SECRET)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://shop.example", "no Neo4j address 'http://shop.example'; write neo4j://HOST:PORT"),
        ("neo4j://", "no Neo4j address 'neo4j://'"),
        ("bolt://shop:port", "the port is no number"),
        (f"neo4j://neo4j:{SECRET}@shop:7687", "neo4j://shop:7687: a URL is no place for credentials"),
        (f"http://neo4j:{SECRET}@shop", "no Neo4j address 'http://shop'"),
    ],
)
def test_an_address_we_cannot_use_is_refused(url, complaint):
    with pytest.raises(ConfigError) as caught:
        Bolt(url)
    assert complaint in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("scheme", ["neo4j+s", "neo4j+ssc", "bolt+s", "bolt+ssc"])
def test_encrypted_schemes_reach_the_driver(scheme, credentials):
    bolt = Bolt(f"{scheme}://127.0.0.1:{closed_port()}/shop")
    with pytest.raises(StoreError, match="no answer"):
        bolt.read("RETURN 1")
    assert SECRET not in repr(bolt)


def test_without_a_password_nothing_is_tried(monkeypatch):
    monkeypatch.delenv("NEO4J_PASSWORD", raising=False)
    with pytest.raises(ConfigError, match="NEO4J_PASSWORD is not set"):
        Bolt("neo4j://127.0.0.1:1").read("RETURN 1")


def test_an_absent_server_is_one_line(credentials):
    with pytest.raises(StoreError) as caught:
        Bolt(f"bolt://127.0.0.1:{closed_port()}").read("RETURN 1")
    assert "is the server up?" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_password_for_neo4j_is_named_but_not_shown(neo4j_url, monkeypatch):
    monkeypatch.setenv("NEO4J_PASSWORD", SECRET)
    with pytest.raises(StoreError) as caught:
        Bolt(neo4j_url).read("RETURN 1")
    assert "NEO4J_PASSWORD are not accepted" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_reading_from_neo4j_answers_and_refuses_to_write(neo4j_url):
    bolt = Bolt(neo4j_url)
    assert [record["x"] for record in bolt.read("UNWIND $xs AS x RETURN x", {"xs": [1, 2]})] == [1, 2]
    with pytest.raises(QueryError, match="the query does not run"):
        bolt.read("CREATE (:Thing)")
    with pytest.raises(QueryError, match="took too long"):
        bolt.read("UNWIND range(1, 1000000000) AS x RETURN sum(x)", timeout_s=0.5)
    bolt.close()


def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
