"""Fixtures: generated shops, one of them built once. Test modules import `shops` from this folder."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

import hypothesis
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "neo4j"))

import server
from shops import make_shop

from catalograph.kg.bolt import Bolt

hypothesis.settings.register_profile("suite", deadline=None)  # a busy machine is no finding
hypothesis.settings.load_profile("suite")

NEO4J_VERSION = os.environ.get("NEO4J_VERSION", server.LTS)


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def shop(tmp_path):
    return make_shop(tmp_path / "shop")


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """(shop.toml, build folder) of a shop rebuilt once for all tests that only read it."""
    from catalograph.pipeline.rebuild import rebuild  # noqa: PLC0415
    from catalograph.pipeline.workshop import open_workshop  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("built")
    toml = make_shop(folder / "shop")
    rebuild(open_workshop(toml, out=folder / "build", device="cpu"))
    return toml, folder / "build"


@pytest.fixture(scope="session")
def neo4j_server(tmp_path_factory):
    """A real Neo4j Community server, started once; the credentials stand in the environment.

    Where Java or Maven is missing its tests are skipped; in CI that is a failure.
    """
    lacking = server.missing(NEO4J_VERSION)
    if lacking and not os.environ.get("CI"):
        pytest.skip(f"Neo4j: {lacking}")
    assert not lacking, lacking
    running = server.Server(tmp_path_factory.mktemp("neo4j"), secrets.token_urlsafe(12), version=NEO4J_VERSION)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NEO4J_USERNAME", "neo4j")
        environment.setenv("NEO4J_PASSWORD", running.password)
        running.start()
        yield running
        running.kill()


@pytest.fixture
def neo4j_url(neo4j_server):
    """The address of an empty database."""
    emptied(neo4j_server.url)
    return neo4j_server.url


def emptied(url):
    """Leave nothing in the server's database."""
    bolt = Bolt(url)
    with bolt.session("WRITE") as session:
        for each in ("()-[x]->()", "(x)"):
            session.run(f"MATCH {each} CALL (x) {{ DELETE x }} IN TRANSACTIONS OF 10000 ROWS").consume()
        for kind in ("CONSTRAINT", "INDEX"):
            for name in session.run(f"SHOW {kind} YIELD name, type WHERE type <> 'LOOKUP' RETURN name").value():
                session.run(f"DROP {kind} `{name}`").consume()
    bolt.close()


@pytest.fixture
def store_url(request, tmp_path):
    """kind -> the URL of an empty store of that kind."""

    def url(kind):
        if kind == "neo4j":
            return request.getfixturevalue("neo4j_url")
        return "memory:" if kind == "memory" else f"ladybug:{tmp_path / 'graph.lbug'}"

    return url
