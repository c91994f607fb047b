"""The whole path on a generated shop: stages, resumption, determinism, planted structure, explanations."""

import json
import subprocess
import sys

import numpy as np
import pytest
from shops import SHOP, make_shop

from catalograph import Recommender
from catalograph.cli import main
from catalograph.durable import alone
from catalograph.errors import ArtifactError, ConfigError
from catalograph.pipeline.evaluation import run_evaluation
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop


def run(toml, out, **options):
    lines = []
    result = rebuild(open_workshop(toml, out=out, device="cpu", say=lines.append, **options))
    return result, lines


def test_a_second_rebuild_skips_every_stage(built):
    toml, out = built
    result, lines = run(toml, out)
    assert result["skipped"]
    assert len(lines) == 7
    assert all(line.endswith("unchanged, skipped") for line in lines)


def test_a_changed_file_is_noticed(shop):
    first, _ = run(shop, shop.parent / "b")
    sales = shop.parent / "sales.csv"
    sales.write_text(sales.read_text() + "u01,i05,2024-02-01T10:00:00,1\n")
    second, _ = run(shop, shop.parent / "b")
    assert not second["skipped"]
    assert second["version"] != first["version"]


def test_equal_seeds_give_equal_metrics_and_lists(built, tmp_path):
    toml, out = built
    again, _ = run(toml, tmp_path / "again")
    one, two = Recommender.load(out), Recommender.load(tmp_path / "again")
    assert one.bundle.metrics["rows"][0]["ndcg@10"] == pytest.approx(again["metrics"]["rows"][0]["ndcg@10"], abs=1e-6)
    users = ["u01", "u02", "u33"]
    assert [[r.item for r in row] for row in one.recommend(users)] == [
        [r.item for r in row] for row in two.recommend(users)
    ]


def test_a_period_in_which_nobody_came_back_teaches_nothing_and_stops_nothing(shop):
    """The 20 days before the cut are all newcomers': learning and testing both look further back."""
    sales = shop.parent / "sales.csv"
    head, *lines = sales.read_text().splitlines()
    lines = [line for line in lines if not "2024-03-12" <= line.split(",")[2] < "2024-04-01"]
    lines += [f"new{n},i{n:02},2024-03-20T10:00:00,1" for n in range(9)]
    sales.write_text("\n".join([head, *lines]) + "\n")
    result, _ = run(shop, shop.parent / "b")
    assert result["metrics"]["rows"][0]["ndcg@10"] > 0
    assert run_evaluation(open_workshop(shop, out=shop.parent / "b", device="cpu"), baselines=True)["rows"][1:]


def test_a_test_part_of_newcomers_asks_nothing(shop):
    sales = shop.parent / "sales.csv"
    head, *lines = sales.read_text().splitlines()
    lines = [line for line in lines if line.split(",")[2] < "2024-04-01"]
    sales.write_text("\n".join([head, *lines, *(f"new{n},i{n:02},2024-04-05T10:00:00,1" for n in range(9))]) + "\n")
    result, said = run(shop, shop.parent / "b")
    assert any("nobody of the test part has a history" in line for line in said)
    assert not result["metrics"].get("rows")
    with pytest.raises(ConfigError, match="no interaction of a customer with a history"):
        run_evaluation(open_workshop(shop, out=shop.parent / "b", device="cpu"), baselines=False)


@pytest.mark.parametrize("gnn", ["none", "relational"])
@pytest.mark.parametrize("each", [1, 2])
def test_too_few_customers_are_told_in_a_line(shop, gnn, each):
    sales = [f"u{n},i{item:02},2024-02-01T10:00:00,1" for n in range(3) for item in range(each)]
    (shop.parent / "sales.csv").write_text("user,item,time,quantity\n" + "\n".join(sales) + "\n")
    toml = SHOP.replace('method = "time"\nat = 2024-04-01\nperiod_days = 20', 'method = "last"')
    shop.write_text(toml.replace("[gnn]", f'[gnn]\nmodel = "{gnn}"').replace("[baskets]\n", ""))
    with pytest.raises(ConfigError, match="a model needs 4"):
        run(shop, shop.parent / "b")


def test_a_relation_into_items_is_told_and_cannot_be_weighed(shop):
    (shop.parent / "makes.csv").write_text("brand,item\nAcme,i01\nAcme,i02\n")
    (shop.parent / "brands.csv").write_text("brand,name\nAcme,7\n")
    more = """
[[nodes]]
label = "Brand"
file = "brands.csv"
id = "brand"
properties = { name = "int" }
[[edges]]
file = "makes.csv"
relation = "MAKES"
source = "brand"
source_label = "Brand"
target = "item"
target_label = "Item"
[[edges]]
file = "makes.csv"
relation = "BY"
source = "item"
target = "brand"
target_label = "Brand"
"""
    shop.write_text(SHOP + more)
    _, said = run(shop, shop.parent / "b")
    assert any("no model reads MAKES" in line for line in said)
    shop.write_text(SHOP + more + "[relations.MAKES]\nweight = 2\n")
    with pytest.raises(ConfigError, match=r"MAKES.*leads into Item.*the other way round"):
        run(shop, shop.parent / "b")


def test_the_planted_taste_is_found(built):
    shop = Recommender.load(built[1])
    wanted = {0: 0, 1: 1, 2: 2, 3: 3}
    right = [
        int(item.item[1:]) % 4 == wanted[user % 4]
        for user in range(20)
        for item in shop.recommend([f"u{user:02}"], k=3)[0]
    ]
    assert np.mean(right) > 0.7  # one in four by chance


def test_evaluation_beats_popularity_and_has_the_promised_keys(built, tmp_path):
    document = run_evaluation(open_workshop(built[0], out=tmp_path, device="cpu"), baselines=False, all_baselines=True)
    assert {"shop", "split", "users", "items", "rows"} <= set(document)
    rows = {row["name"]: row for row in document["rows"]}
    expected = {"catalograph", "popularity", "item-kNN", "RP3beta", "EASE"}
    expected |= {"recent popularity", "newest item-kNN", "recent RP3"}  # there are times
    expected |= {"iALS", "LightGCN", "SASRec"}  # asked for
    assert set(rows) == expected
    assert {"ndcg@10", "recall@10", "hr@10", "precision@10", "coverage@10", "fit_s"} <= set(rows["catalograph"])
    assert rows["catalograph"]["ndcg@10"] > rows["popularity"]["ndcg@10"]


def test_some_test_users_may_stand_for_all(built, tmp_path):
    toml = make_shop(tmp_path / "shop", toml=SHOP + "[evaluation]\nusers = 7\n")
    document = run_evaluation(open_workshop(toml, out=tmp_path / "build", device="cpu"), baselines=True)
    assert document["users"] == 7
    assert Recommender.load(built[1]).bundle.metrics["users"] > 7


def test_terms_add_up_to_the_score_and_nothing_owned_is_shown(built):
    shop = Recommender.load(built[1])
    listed = shop.recommend(["u07"], k=10)[0]
    for item in listed:
        assert sum(item.terms.values()) == pytest.approx(item.score, abs=1e-4)
    owned = {shop.bundle.items["id"][int(row)].as_py() for row in shop.bundle.log.item[shop.bundle.log.user == 7]}
    assert not owned & {item.item for item in listed}
    scores, parts = shop.score(["u07"], [item.item for item in listed], terms=True)
    np.testing.assert_allclose(scores[0], [item.score for item in listed], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(sum(parts.values()), scores, rtol=1e-4, atol=1e-4)


def test_the_reasons_are_history_items(built):
    shop = Recommender.load(built[1])
    item = shop.recommend(["u07"], k=1)[0][0].item
    why = shop.explain("u07", item, most=20)
    owned = {shop.bundle.items["id"][int(row)].as_py() for row in shop.bundle.log.item[shop.bundle.log.user == 7]}
    assert why.reasons
    assert {reason.because for reason in why.reasons} <= owned


def test_similar_newcomers_filters_and_vectors(built):
    shop = Recommender.load(built[1])
    assert all(int(r.item[1:]) % 4 == 2 for r in shop.similar("i02", k=2))
    cheap = shop.recommend_for(["i02", "i06"], k=5, where="price < 8")
    assert cheap
    assert all(1 + 0.5 * int(r.item[1:]) < 8 for r in cheap)
    vectors = shop.vectors(["i00", "i01", "i02"])
    assert {name: v.shape for name, v in vectors.items()} == {"IN_CATEGORY": (3, 8), "IN_PRICE_BAND": (3, 8)}


def test_filters_read_the_relations_of_items_too(built):
    toys = Recommender.load(built[1]).recommend(["u07"], k=5, where="IN_CATEGORY == 'Shop > Toys'")[0]
    assert toys
    assert all(int(item.item[1:]) % 4 == 2 for item in toys)  # the third of the four categories


def test_more_items_than_the_head_ranks_are_refused(built):
    with pytest.raises(ConfigError, match=r"lists of 21 items: this model ranks 1 to 20"):
        Recommender.load(built[1]).recommend(["u07"], k=21)


def test_a_vanished_graph_is_built_again(tmp_path):
    toml, out = make_shop(tmp_path / "shop"), tmp_path / "build"
    run(toml, out)
    (out / "graph.lbug").unlink()
    result, lines = run(toml, out)
    assert not result["skipped"]
    assert [line.split()[0] for line in lines if "unchanged" in line] == ["train"]
    assert (out / "graph.lbug").is_file()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["rebuild", "--nope"], "catalograph rebuild: No such option: --nope"),
        (["rebuild"], "catalograph rebuild: Missing argument"),
        (["rebuilt"], "catalograph rebuilt: No such command 'rebuilt'"),
        (["recommend", "shop.toml", "-k", "0"], "catalograph recommend: Invalid value for '-k'"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(arguments, complaint, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(complaint)
    assert said.count("\n") == 1


def test_no_command_shows_the_help(capsys):
    assert main([]) == 0
    assert "rebuild" in capsys.readouterr().out


def test_commands_answer_json_alone_on_stdout(built, capsys):
    toml, out = built
    assert main(["recommend", str(toml), "--user", "u01", "-k", "2", "--json", "--out", str(out)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["user"] == "u01"
    assert [set(item) for item in document["items"]] == [{"item", "score", "terms"}] * 2


@pytest.mark.parametrize(
    "question",
    [
        ["product_card", "-p", "item=i01"],
        ["bought_together", "-p", "item=i00"],
        ["similar_by_attributes", "-p", "item=i01"],
        ["orphans"],
        ["popular", "-p", "limit=3"],
    ],
)
def test_named_queries_answer(built, capsys, question):
    toml, out = built
    assert main(["query", str(toml), "--out", str(out), *question, "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    if question[0] == "popular":
        log = Recommender.load(out).bundle.log
        users = [len(set(log.user[log.item == n])) for n in range(log.n_items)]
        assert [row["customers"] for row in rows] == sorted(users, reverse=True)[:3]
    if question[0] == "similar_by_attributes":
        assert all(int(row["item"][1:]) % 4 == 1 for row in rows[:2])
        assert rows[0]["shared"] == 2
    if question[0] == "orphans":
        assert rows == []


def test_a_wrong_query_parameter_is_one_line(built, capsys):
    toml, out = built
    assert main(["query", str(toml), "--out", str(out), "popular", "-p", "limt=3"]) == 2
    assert "popular takes no parameter 'limt', did you mean 'limit'?" in capsys.readouterr().err
    assert main(["query", str(toml), "--out", str(out), "poplar"]) == 2
    assert "no query 'poplar', did you mean 'popular'?" in capsys.readouterr().err


def test_score_and_export_write_files(built, tmp_path):
    toml, out = built
    (tmp_path / "pairs.csv").write_text("user,item\nu01,i02\nu02,i03\nu01,i05\n")
    target = tmp_path / "scores.parquet"
    assert main(["score", str(toml), str(tmp_path / "pairs.csv"), "--out", str(target), "--build", str(out)]) == 0
    assert target.is_file()
    assert main(["export", str(toml), "--out", str(tmp_path / "g.pt"), "--build", str(out)]) == 0


@pytest.mark.parametrize("command", [["score", "pairs.csv"], ["export"]])
def test_a_missing_folder_is_told_before_the_work(built, capsys, command):
    toml, out = built
    assert main([command[0], str(toml), *command[1:], "--out", "nowhere/x", "--build", str(out)]) == 2
    assert "there is no folder nowhere; make it" in capsys.readouterr().err


def test_only_one_process_builds_in_a_folder(built, capsys):
    toml, out = built
    with alone(out):
        assert main(["rebuild", str(toml), "--out", str(out)]) == 2
    assert f"{out}: another process is building here; wait for it to end" in capsys.readouterr().err
    assert main(["rebuild", str(toml), "--out", str(out)]) == 0


KILLED_AT_RANDOM = """
import os, random, signal, sys, time
from pathlib import Path
import catalograph.encoders.transformer, sentence_transformers  # the children start warm
from catalograph import Recommender
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop

toml, out = Path(sys.argv[1]), Path(sys.argv[2])
start = time.monotonic()
if not os.fork():
    rebuild(open_workshop(toml, out=out, device="cpu", full=True))
    os._exit(0)
os.wait()
seconds = time.monotonic() - start  # of a child left alone: the others are killed within that time
best = lambda: [item.item for item in Recommender.load(out).recommend(["u01"])[0]]
before, random_ = best(), random.Random(0)
for round_ in range(10):
    child = os.fork()
    if not child:
        rebuild(open_workshop(toml, out=out, device="cpu", full=True))
        os._exit(0)
    time.sleep(random_.uniform(0.02, 1.0) * seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert best() == before, f"round {round_}"
    print("killed" if os.WIFSIGNALED(status) else "ended")
"""


def test_kill_9_at_ten_random_moments_keeps_the_published_version(tmp_path):
    toml, out = make_shop(tmp_path / "shop"), tmp_path / "build"
    run(toml, out)
    command = [sys.executable, "-W", "ignore", "-c", KILLED_AT_RANDOM, str(toml), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split().count("killed") >= 3  # the rest were faster than the one left alone
    result, _ = run(toml, out, full=True)
    assert not result["skipped"]
    assert not list((out / "bundles").glob("*.part"))


def test_an_interruption_costs_the_stage_that_ran(tmp_path, monkeypatch):
    toml, out = make_shop(tmp_path / "shop"), tmp_path / "build"
    with monkeypatch.context() as broken:
        broken.setattr("catalograph.pipeline.evaluation.evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(toml, out)
    with pytest.raises(ArtifactError, match="nothing is published"):
        Recommender.load(out)
    monkeypatch.setattr("catalograph.pipeline.fitting.fit", interrupted)  # not reached again
    result, lines = run(toml, out)
    assert [line.split()[0] for line in lines if "unchanged" in line] == ["graph", "train"]
    assert Recommender.load(out).bundle.metrics == result["metrics"]


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_old_versions_make_room(tmp_path):
    toml, out = make_shop(tmp_path / "shop"), tmp_path / "build"
    for seed in range(4):
        run(toml, out, seed=seed)
    kept = sorted(place.name.partition("-")[0] for place in (out / "bundles").iterdir())
    assert kept == ["0002", "0003", "0004"]
    assert (out / "current").read_text().startswith("0004-")
    run(toml, out, seed=2)  # going back is publishing again
    assert (out / "current").read_text().startswith("0003-")
