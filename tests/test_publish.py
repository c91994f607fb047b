"""What is written back: the model's lists, whole and alike however many are made at once, by the command line."""

import json
import shutil

import numpy as np
import pytest

from catalograph import Recommender
from catalograph.cli import main
from catalograph.errors import ConfigError, UnknownIdError
from catalograph.kg.export import export_snapshot
from catalograph.kg.stores import open_store
from catalograph.scoring import versions


@pytest.fixture(scope="module")
def shop(built):
    return Recommender.load(built[1])


@pytest.fixture
def desk(built, tmp_path):
    """(shop.toml, a build folder to write into)."""
    shutil.copytree(built[1], tmp_path / "build")
    return str(built[0]), tmp_path / "build"


def lists_of(table):
    found = {}
    for row in table.to_pylist():
        assert row["rank"] == len(found.setdefault(row["source"], [])) + 1
        found[row["source"]].append((row["target"], row["score"]))
    return found


def assert_alike(found, expected):
    """The same items in the same places; the scores may differ by the order a matrix product adds in."""
    assert [target for target, _ in found] == [item.item for item in expected]
    np.testing.assert_allclose([score for _, score in found], [item.score for item in expected], rtol=1e-5, atol=1e-5)


def test_all_similar_lists_at_once_are_those_asked_one_by_one(shop):
    found = lists_of(shop.similar_lists(12))
    assert len(found) == 40
    for item, places in found.items():
        assert_alike(places, shop.similar(item, 12))


def test_the_lists_of_many_users_are_those_asked_one_by_one(shop):
    users = [f"u{n:02}" for n in (40, 3, 17)]
    found = lists_of(shop.recommended_lists(users, 7))
    assert list(found) == users
    for user, places in found.items():
        assert_alike(places, shop.recommend([user], 7)[0])


def test_lists_are_no_longer_than_what_the_model_ranks(shop):
    with pytest.raises(ConfigError, match="lists of 21 items: this model ranks 1 to 20"):
        shop.similar_lists(21)
    with pytest.raises(UnknownIdError, match="no user 'u99'"):
        shop.recommended_lists(["u01", "u99"], 3)


def test_vectors_are_the_texts_and_the_relations_at_unit_length(shop):
    found = shop.item_vectors()
    relations = sum(shop.vectors(["i03", "i20"]).values())
    for name, expected in (("text_vector", shop.bundle.text[[3, 20]]), ("graph_vector", relations)):
        ids = found[name]["id"].to_pylist()
        vectors = np.stack(found[name]["vector"].to_pylist())[[ids.index("i03"), ids.index("i20")]]
        np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def ask(desk, cypher, capsys):
    toml, out = desk
    assert main(["query", toml, "--out", str(out), "--cypher", cypher, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def digest(out):
    store = open_store(f"ladybug:{out / 'graph.lbug'}")
    found = export_snapshot(store).digest, store.counts()
    store.close()
    return found


def test_what_is_published_is_asked_in_cypher_and_taken_out_again(desk, capsys):
    toml, out = desk
    before = digest(out)
    assert main(["publish", toml, "--out", str(out), "-n", "5", "--users", "u01, u02", "-k", "3"]) == 0
    told = capsys.readouterr().err
    assert "200 Item-SIMILAR_TO-Item" in told
    for name in ("text_vector", "graph_vector"):
        assert f"Item.{name} left out, this store has no vector index" in told
    similar = "MATCH (:Item {id: 'i02'})-[r:SIMILAR_TO]->(o:Item) RETURN o.id AS item, r.version AS v ORDER BY r.rank"
    expected = [item.item for item in Recommender.load(out).similar("i02", 5)]
    version = versions.published(out).name
    assert ask(desk, similar, capsys) == [{"item": item, "v": version} for item in expected]
    listed = "MATCH (u:User)-[r:RECOMMENDED]->(:Item) RETURN u.id AS user, count(*) AS n ORDER BY user"
    assert ask(desk, listed, capsys) == [{"user": "u01", "n": 3}, {"user": "u02", "n": 3}]
    assert digest(out) == before
    assert main(["publish", toml, "--out", str(out), "--remove"]) == 0
    assert f"version {version} is taken out" in capsys.readouterr().err
    assert digest(out) == before
    assert main(["publish", toml, "--out", str(out), "--remove"]) == 0
    assert "nothing is published" in capsys.readouterr().err


def test_a_rebuild_after_publishing_has_nothing_to_do(built, capsys):
    command = ["publish", str(built[0]), "--out", str(built[1])]
    assert main(command) == 0
    assert main(["rebuild", *command[1:]]) == 0
    assert capsys.readouterr().err.count("unchanged, skipped") == 7
    assert main([*command, "--remove"]) == 0  # other tests read this graph


def test_users_may_stand_in_a_table(desk, tmp_path, capsys):
    toml, out = desk
    (tmp_path / "users.csv").write_text("user,since\nu05,2019\nu06,2020\nu05,2021\n")
    assert main(["publish", toml, "--out", str(out), "--users", str(tmp_path / "users.csv"), "-k", "1"]) == 0
    assert "2 User-RECOMMENDED-Item" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--users", "u01,nobody"], "no user 'nobody' in planted"),
        (["--users", " , "], "--users names no user; write --users ID,ID… or a table with a column user"),
        (["-n", "21"], "lists of 21 items: this model ranks 1 to 20"),
        (["--store", "memory:"], "the graph in memory is empty"),
        (["--remove", "--users", "u01"], "--remove takes everything out; leave --users away"),
    ],
)
def test_what_cannot_be_published_is_one_line_and_changes_nothing(desk, options, complaint, capsys):
    toml, out = desk
    before = (out / "graph.lbug").read_bytes()
    assert main(["publish", toml, "--out", str(out), *options]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("catalograph publish:")]
    assert complaint in line
    assert (out / "graph.lbug").read_bytes() == before
