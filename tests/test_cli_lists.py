"""What recommend, similar and explain print: names to read, ids to copy, reasons in words, and why a list is empty."""

import json
import re

import numpy as np
import pytest
from shops import SHOP, make_shop

from catalograph import Changes, Recommender
from catalograph.cli import main
from catalograph.errors import CatalographError, UnknownIdError
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop
from catalograph.scoring import pool


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """The planted shop, in which two items are both called "Twin"."""
    folder = tmp_path_factory.mktemp("desk")
    toml = make_shop(folder)
    items = folder / "items.csv"
    items.write_text(
        items.read_text("utf-8").replace("Lamps number 1,", "Twin,").replace("Toys number 2,", "Twin,"), "utf-8"
    )
    rebuild(open_workshop(toml, out=folder / "build", device="cpu"))
    return toml, folder / "build"


def run(desk, capsys, command, *rest):
    assert main([command, str(desk[0]), *rest, "--out", str(desk[1])]) == 0
    return capsys.readouterr()


def test_a_place_has_title_and_id_and_what_is_printed_can_be_asked_for(desk, capsys):
    first = run(desk, capsys, "recommend", "--user", "u07", "-k", "3").out.splitlines()[1]
    title, _, rest = first.partition(". ")[2].partition(" [")
    id_ = rest.partition("]")[0]
    assert Recommender.load(desk[1]).title(id_) == title
    by_id, by_title = (run(desk, capsys, "similar", "--item", text, "-k", "3").out for text in (id_, title))
    assert by_id == by_title
    said = run(desk, capsys, "explain", "--user", "u07", "--item", title).out
    assert said.startswith(f"{title} [{id_}]: ")


def test_histories_may_be_titles(desk, capsys):
    by_id = run(desk, capsys, "recommend", "--history", "i03,i07", "-k", "2").out
    assert run(desk, capsys, "recommend", "--history", "Garden number 3,i07", "-k", "2").out == by_id
    assert by_id.startswith("Garden number 3 [i03], Garden number 7 [i07]:")


def test_a_title_of_two_items_names_them(desk):
    with pytest.raises(UnknownIdError, match=r"2 items in planted are called 'Twin'; name one by its id: 'i01', 'i02'"):
        Recommender.load(desk[1]).item("Twin")
    with pytest.raises(UnknownIdError, match="no item 'Garden number 33' in planted, did you mean 'Garden number 3"):
        Recommender.load(desk[1]).item("Garden number 33")


def test_reasons_are_told_in_words_beside_the_technical_name(desk, capsys):
    said = run(desk, capsys, "recommend", "--user", "u07", "-k", "2", "--explain").out
    assert "because of " in said
    assert "path: " in said
    said = run(desk, capsys, "explain", "--user", "u07", "--item", "i03", "-n", "5").out
    assert re.search(r"\+\d\.\d{4}  [a-z, ]+ \(\w+\.\w+\)\n", said)
    assert said.count("path: ") == 5


@pytest.mark.parametrize(
    "command", [["recommend", "-k", "2"], ["similar", "--item", "i03"], ["explain", "--item", "i03"]]
)
def test_a_store_that_is_not_the_models_is_refused(desk, capsys, command):
    who = [] if command[0] == "similar" else ["--user", "u07"]
    said = run(desk, capsys, *command, *who)
    assert run(desk, capsys, *command, *who, "--store", f"ladybug:{desk[1] / 'graph.lbug'}") == said
    arguments = [command[0], str(desk[0]), *command[1:], *who, "--out", str(desk[1])]
    assert main([*arguments, "--store", "neo4j://elsewhere"]) == 2
    assert "store neo4j://elsewhere: the model was built with ladybug:graph.lbug" in capsys.readouterr().err


def test_the_printed_cypher_runs_as_it_stands(desk, capsys):
    document = json.loads(run(desk, capsys, "explain", "--user", "u07", "--item", "i03", "--json").out)
    assert set(document) == {"user", "item", "score", "terms", "reasons", "paths"}
    path = document["paths"][0]
    assert set(path) == {"because", "score", "sentence", "triples", "cypher", "parameters"}
    values = [word for pair in path["parameters"].items() for word in ("-p", "=".join(pair))]
    answer = run(desk, capsys, "query", "--cypher", path["cypher"], *values, "--format", "json").out
    assert sorted(list(row.values()) for row in json.loads(answer)) == sorted(path["triples"])


def test_tastes_caps_and_diversity_have_their_options(desk, capsys):
    found = run(
        desk,
        capsys,
        "recommend",
        "--like",
        "IN_CATEGORY=Shop > Toys",
        "-k",
        "4",
        "--cap",
        "IN_CATEGORY=1",
        "--diversify",
        "0.2",
        "--json",
    )
    kinds = [int(item["item"][1:]) % 4 for item in json.loads(found.out)["items"]]
    assert sorted(kinds) == [0, 1, 2, 3]
    assert kinds[0] == 2


def test_of_somebody_unknown_the_list_is_what_most_people_took(desk, capsys):
    said = run(desk, capsys, "recommend", "-k", "2", "--where", "IN_CATEGORY == 'Shop > Garden'").out.splitlines()
    expected = Recommender.load(desk[1]).recommend_for(k=2, where="IN_CATEGORY == 'Shop > Garden'")
    assert said[0] == "somebody unknown:"
    assert [re.findall(r"\[(i\d\d)\]", line) for line in said[1:]] == [[item.item] for item in expected]


def test_a_place_in_the_list_of_somebody_never_seen_has_reasons(desk, capsys):
    made = Recommender.load(desk[1])
    item, who = ("--item", "Toys number 10"), ("--history", "Toys number 6", "--like", "IN_CATEGORY=Shop > Toys")
    document = json.loads(run(desk, capsys, "explain", *item, *who, "-n", "2", "--json").out)
    why = made.explain_for(["i06"], "i10", features={"IN_CATEGORY": ["Shop > Toys"]}, most=2)
    assert document["user"] is None
    assert document["score"] == pytest.approx(why.score)
    assert [path["sentence"] for path in document["paths"]] == [path.sentence for path in why.paths]
    assert "because of Toys number 6 [i06]" in run(desk, capsys, "explain", *item, *who).out


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("price > 900", "no item is left by the filter: none of 40 items passes 'price > 900'"),
        ("name == 'Toys number 6' and price > 0", "no item is left: 1 of 40 pass the filter, all theirs"),
    ],
)
def test_an_empty_list_says_why(desk, capsys, where, why):
    said = run(desk, capsys, "recommend", "--history", "i06", "--where", where)
    assert why in said.err
    assert json.loads(run(desk, capsys, "recommend", "--history", "i06", "--where", where, "--json").out)["items"] == []


def test_whoever_has_no_history_gets_what_most_took(tmp_path):
    """Walks and tastes say nothing about somebody without a purchase: the pool is then no accident of the ids."""
    toml = make_shop(tmp_path / "shop", toml=SHOP.replace("pool_size = 20", 'pool_size = 10\npool = "strongest"'))
    rebuild(open_workshop(toml, out=tmp_path / "build", device="cpu"))
    shop = Recommender.load(tmp_path / "build")
    shop.update(Changes.of("one", [{"op": "upsert_user", "id": "nobody"}]))
    ids, n = shop.bundle.items["id"].to_pylist(), len(shop.bundle.items)
    buyers = np.bincount(np.unique(shop.bundle.log.user * n + shop.bundle.log.item) % n, minlength=n)
    shown = [buyers[ids.index(place.item)] for place in shop.recommend(["nobody"], 10)[0]]
    assert sorted(shown) == sorted(buyers)[-10:]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda shop: shop.recommend("u01"), r"a list of user ids is wanted; say \['u01'\]"),
        (lambda shop: shop.recommend_for("i03"), r"a list of item ids is wanted; say \['i03'\]"),
        (lambda shop: shop.recommend_for(features={"IN_CATEGORY": "Mugs"}), r"IN_CATEGORY is a list of ids; say \['M"),
        (lambda shop: shop.recommend([17]), "no user 17 in planted"),
        (lambda shop: shop.recommend(["u01"], 0), "lists of 0 items: this model ranks 1 to 20"),
        (lambda shop: shop.recommend_for(k=21), "lists of 21 items: this model ranks 1 to 20"),
        (lambda shop: shop.score_pairs(["u01"], ["i03", "i04"]), "an item for each user: 1 users, 2 items"),
        (lambda shop: shop.explain("u01", "i03", most=-1), "most is -1; an explanation has 0 or more paths"),
    ],
)
def test_what_a_caller_gets_wrong_is_told_in_a_line(built, call, complaint):
    with pytest.raises(CatalographError, match=complaint):
        call(Recommender.load(built[1]))


def test_nothing_asked_is_nothing_answered(built):
    shop = Recommender.load(built[1])
    assert shop.recommend([]) == []
    assert shop.score_pairs([], []).shape == (0,)
    assert shop.score([], ["i03"]).shape == (0, 1)
    assert shop.encode([]).shape == (0, shop.encode(["a mug"]).shape[1])


def test_lists_of_many_are_those_of_each(built, monkeypatch):
    shop = Recommender.load(built[1])
    users = shop.bundle.users["id"].to_pylist()
    whole, scores = shop.recommend(users, 3), shop.score_pairs(users, ["i03"] * len(users))
    monkeypatch.setattr(pool, "ROWS", 7)
    assert shop.recommend(users, 3) == whole
    np.testing.assert_array_equal(shop.score_pairs(users, ["i03"] * len(users)), scores)


def test_a_pair_without_a_user_is_named_by_row(built, tmp_path, capsys):
    pairs, target = tmp_path / "pairs.csv", tmp_path / "scores.parquet"
    command = ["score", str(built[0]), str(pairs), "--out", str(target), "--build", str(built[1])]
    pairs.write_text("user,item\nu01,i03\n,i04\n", "utf-8")
    assert main(command) == 2
    assert "row 3, column 'user': the cell is empty; every row needs one" in capsys.readouterr().err
    pairs.write_text("user,item\n u01 ,i03\n", "utf-8")
    assert main(command) == 0
