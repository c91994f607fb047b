"""Changes without retraining: equal to a rebuild with the same weights, taken once, together with the store or not."""

import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from shops import SHOP, copied, make_shop

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from same_weights import rebuilt_with_weights

from catalograph import Changes, Recommender
from catalograph.cli import main
from catalograph.durable import alone
from catalograph.errors import ArtifactError, DataError, StoreError
from catalograph.kg.export import export_snapshot
from catalograph.kg.stores import open_store
from catalograph.loaders.catalogue import HELD_OUT, EdgeKey
from catalograph.loaders.feedback import Event, FeedbackLog
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop
from catalograph.scoring import bundle as bundles
from catalograph.scoring import families, versions
from catalograph.scoring.update import update
from catalograph.service.shelf import Shelf

FIXED_BANDS = SHOP.replace("bands = 3", "bands = [5, 12]")  # quantiles would move with every new price
RELATED = """
[[edges]]
file = "like.csv"
relation = "GOES_WITH"
source = "item"
target = "other"
target_label = "Item"
properties = { since = "int" }
[encoder]
text = ["name", "IN_CATEGORY"]
"""


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """(shop.toml, build folder) that no test changes."""
    folder = tmp_path_factory.mktemp("update")
    toml = make_shop(folder / "shop", toml=FIXED_BANDS + RELATED)
    rows = [f"i{n:02},i{(n * 7 + 3) % 40:02},{n}" for n in range(0, 40, 2)]
    (toml.parent / "like.csv").write_text("item,other,since\n" + "\n".join(rows) + "\n")
    rebuild(open_workshop(toml, out=folder / "build", device="cpu"))
    return toml, folder / "build"


@pytest.fixture
def shop(first, tmp_path):
    """A copy of it: (shop.toml, build folder)."""
    return copied(*first, tmp_path)


def graph_of(out):
    with closing(open_store(f"ladybug:{out / 'graph.lbug'}")) as store:
        return export_snapshot(store, held_out=True)


def with_fixed_weights(before, toml, folder):
    """The bundle a rebuild of these files makes when nothing is learned: weights and vectors are those of `before`."""
    return rebuilt_with_weights(open_workshop(toml, out=folder, device="cpu"), *before)


def assert_equal(one, other):
    """The same ids, and every score of every user for every item the same to 1e-5."""
    assert one.items.equals(other.items)
    assert one.users.equals(other.users)
    assert one.edges.to_pylist() == other.edges.to_pylist()
    for name in ("user", "item", "at", "position", "quantity", "label"):
        np.testing.assert_array_equal(getattr(one.log, name), getattr(other.log, name))
    np.testing.assert_array_equal(one.model.allowed, other.model.allowed)
    np.testing.assert_allclose(one.model.about_items, other.model.about_items, atol=1e-5)
    assert [term.name for term in one.model.terms] == [term.name for term in other.model.terms]
    users, items = np.arange(len(one.users)), np.arange(len(one.items))
    scorables = [bundle.model.scorable(bundle.log) for bundle in (one, other)]
    for mine, theirs in zip(scorables[0].dense(users), scorables[1].dense(users), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    parts = [
        bundle.model.parts(scorable, users, items, bundle.model.peaks(scorable, users))
        for bundle, scorable in zip((one, other), scorables, strict=True)
    ]
    np.testing.assert_allclose(*parts, atol=1e-5)


MONDAY = [
    {"op": "upsert_item", "id": "i99", "properties": {"name": "Garden gnome", "price": 4.5}}
    | {"relations": {"IN_CATEGORY": ["Shop > Garden"]}},
    {"op": "upsert_item", "id": "i03", "properties": {"name": "Blue lamp & garden light", "price": 12}},
    {"op": "interaction", "user": "u00", "item": "i99", "at": "2024-03-30T10:00:00Z", "quantity": 2},
    {"op": "interaction", "user": "u00", "item": "i04", "at": "2024-03-30T10:00:20Z", "quantity": 1},
    {"op": "interaction", "user": "new", "item": "i05", "at": "2024-03-31T10:00:00", "quantity": 1},
    {"op": "interaction", "user": "u01", "item": "i05", "at": "2024-04-20T10:00:00", "quantity": 1},
    {"op": "retire_item", "id": "i08"},
    {"op": "retire_user", "id": "u05"},
    {"op": "relate", "source": "i01", "relation": "GOES_WITH", "target": "i02", "properties": {"since": 7}},
    {"op": "unrelate", "source": "i04", "relation": "GOES_WITH", "target": "i31"},
]


def edit_files(folder):
    """The same changes, made by hand in the shop's tables."""
    items = (folder / "items.csv").read_text().replace("Garden number 3,2.50,", "Blue lamp & garden light,12,")
    rows = [line for line in items.splitlines() if not line.startswith("i08,")]
    (folder / "items.csv").write_text("\n".join([*rows, "i99,Garden gnome,4.5,Shop > Garden"]) + "\n")
    sales = (folder / "sales.csv").read_text().splitlines()
    sales = [line for line in sales if ",i08," not in line and not line.startswith("u05,")]
    sales += ["u00,i99,2024-03-30T10:00:00,2", "u00,i04,2024-03-30T10:00:20,1"]
    sales += ["new,i05,2024-03-31T10:00:00,1", "u01,i05,2024-04-20T10:00:00,1"]
    (folder / "sales.csv").write_text("\n".join(sales) + "\n")
    like = (folder / "like.csv").read_text().splitlines()
    like = [line for line in like if "i08" not in line and not line.startswith("i04,i31")]
    (folder / "like.csv").write_text("\n".join([*like, "i01,i02,7"]) + "\n")


def test_an_update_is_a_rebuild_of_changed_files_with_the_same_weights(shop, tmp_path):
    toml, out = shop
    before = bundles.load(versions.published(out))
    done = Recommender.load(out).update(Changes.of("monday", MONDAY))
    assert done.taken
    assert versions.published(out).name == done.version
    after, _ = bundles.load(versions.published(out))
    edit_files(toml.parent)
    assert_equal(after, with_fixed_weights(before, toml, tmp_path / "reference"))
    assert graph_of(out).digest == graph_of(tmp_path / "reference").digest


def test_a_batch_is_taken_once(shop, capsys):
    toml, out = shop
    made = Recommender.load(out)
    made.update(Changes.of("monday", MONDAY))
    once, version = graph_of(out).digest, versions.published(out).name
    again = made.update(Changes.of("monday", [{"op": "retire_item", "id": "i01"}]))  # the id counts, not what it says
    assert (again.taken, again.version) == (False, version)
    assert graph_of(out).digest == once
    file = toml.parent / "monday.jsonl"
    file.write_text(Changes.of("monday", MONDAY).text())
    assert main(["update", str(toml), str(file), "--out", str(out)]) == 0
    assert "monday: known already" in capsys.readouterr().err


def test_the_recommender_answers_from_the_new_version(shop):
    made = Recommender.load(shop[1])
    with pytest.raises(DataError):
        made.update(Changes.of("0", [{"op": "retire_item", "id": "nothing"}]))
    assert not made.knows("i99")
    before = made.history("u01")
    made.update(Changes.of("monday", MONDAY))
    assert made.knows("i99")
    assert not made.knows("i08")
    assert made.history("u00")[-2:] == ["i99", "i04"]
    assert made.recommend(["new"], k=3)[0]
    assert made.history("u01") == [item for item in before if item != "i08"]  # theirs lies behind the split's cut
    assert made.recommend_for(["i00"], k=20, where="IN_CATEGORY == 'Shop > Garden' and price < 5")
    assert made.explain("u00", "i05").terms


def test_a_call_under_way_keeps_the_version_it_began_with(shop, monkeypatch):
    """The update comes between a call's first look at who is asked for and the search: rows are others by then."""
    made = Recommender.load(shop[1])
    before, rows_of = made.recommend(["u07"], k=5), Recommender._rows

    def meanwhile(self, ids, wanted):
        found = rows_of(self, ids, wanted)
        monkeypatch.setattr(Recommender, "_rows", rows_of)
        made.update(Changes.of("1", [{"op": "retire_user", "id": "u00"}]))
        return found

    monkeypatch.setattr(Recommender, "_rows", meanwhile)
    assert made.recommend(["u07"], k=5) == before
    assert not made.knows_user("u00")


def test_only_new_texts_are_encoded(shop, monkeypatch):
    told = []
    encode = sys.modules["catalograph.scoring.update"].encode
    monkeypatch.setattr(
        "catalograph.scoring.update.encode", lambda texts, *a, **k: told.extend(texts) or encode(texts, *a, **k)
    )
    made = Recommender.load(shop[1])
    made.update(Changes.of("1", [{"op": "upsert_item", "id": "i03", "properties": {"price": 3.0}}]))
    assert told == []
    made.update(
        Changes.of(
            "2", [{"op": "upsert_node", "label": "Category", "id": "Shop > Toys", "properties": {"name": "Games"}}]
        )
    )
    assert len(told) == 10  # a quarter of the items reads the name of this category
    told.clear()
    made.update(Changes.of("3", MONDAY))
    assert sorted(told) == ["Blue lamp & garden light | Garden", "Garden gnome | Garden"]


def test_only_the_walks_that_a_batch_touches_are_made_again(shop, monkeypatch):
    made = Recommender.load(shop[1])
    terms, met = {term.name.partition(".")[0] for term in made.model.terms}, []
    spread = families._spread

    def watched(name, evidence, make, wanted):
        yield from spread(name, evidence, lambda: met.append(name) or make(), wanted)

    monkeypatch.setattr(families, "_spread", watched)
    toys = {"label": "Category", "id": "Shop > Toys"}
    made.update(Changes.of("price", [{"op": "upsert_item", "id": "i03", "properties": {"price": 3.25}}]))
    assert met == []
    made.update(Changes.of("link", [{"op": "relate", "source": "i01", "relation": "IN_CATEGORY", "target": toys}]))
    of_relation = {name for name in met if ":" in name}
    assert of_relation == {"share:IN_CATEGORY"} < {name for name in terms if ":" in name}
    assert "walk" not in met
    met.clear()
    bought = {"user": "u00", "item": "i04", "at": "2024-03-30T10:00:20Z", "quantity": 1}
    made.update(Changes.of("sale", [{"op": "interaction", **bought}]))
    assert {"walk", "basket"} <= set(met)
    assert not any(":" in name for name in met)


def test_the_encoder_is_awaited_only_where_a_text_may_be_new(shop, monkeypatch):
    awaited = []
    monkeypatch.setattr("catalograph.scoring.update.import_early", lambda: awaited.append(True))
    for told, expected in (({"price": 3}, []), ({"name": "B"}, [True])):
        change = {"op": "upsert_item", "id": "i05", "properties": told}
        Recommender.load(shop[1]).update(Changes.of(*told, [change]))
        assert awaited == expected


PROGRAM = """
import os, signal, sys
from pathlib import Path
from catalograph import Changes
from catalograph.kg.ladybug import LadybugStore
from catalograph.kg.neo4j import Neo4jStore
from catalograph.scoring import update, versions
out, file, where = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
if where == "before the store":
    LadybugStore.apply = Neo4jStore.apply = die
if where == "before the pointer":
    versions.publish = die
if where == "while the bundle is written":
    versions.move_in = die
from catalograph.loaders.changes import read_changes
update.update(out, read_changes(file)[0])
"""


def assert_both_or_neither(out):
    """Whether the batch is there: in the model and in the graph, or in none of them."""
    model = Recommender.load(out).knows("i99")
    assert ("i99" in graph_of(out).ids["Item"]) == model
    return model


def killed(out, file, where):
    """Run an update that kills itself, as by kill -9, at a moment."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(out), str(file), where], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("where", "there"),
    [("while the bundle is written", False), ("before the store", False), ("before the pointer", True)],
)
def test_a_killed_update_is_in_the_graph_and_in_the_model_or_in_neither(shop, tmp_path, where, there):
    file = tmp_path / "monday.jsonl"
    file.write_text(Changes.of("monday", MONDAY).text())
    killed(shop[1], file, where)
    assert assert_both_or_neither(shop[1]) == there
    assert main(["update", str(shop[0]), str(file), "--out", str(shop[1])]) == 0
    assert assert_both_or_neither(shop[1])


def test_a_store_that_refuses_leaves_the_model_as_it_was(shop, monkeypatch):
    def refuse(*_):
        raise StoreError("the store is down")

    made, version = Recommender.load(shop[1]), versions.published(shop[1]).name
    monkeypatch.setattr("catalograph.kg.ladybug.LadybugStore.apply", refuse)
    with pytest.raises(StoreError, match="the store is down"):
        made.update(Changes.of("monday", MONDAY))
    assert versions.published(shop[1]).name == version
    assert versions.waiting(shop[1]) is None
    assert not made.knows("i99")


def test_an_update_goes_into_the_graph_of_the_last_rebuild_and_no_other(shop, capsys):
    toml, out = shop
    elsewhere, stale = f"ladybug:{toml.parent / 'other.lbug'}", graph_of(out).digest
    rebuild(open_workshop(toml, out=out, store=elsewhere, device="cpu"))
    assert Recommender.load(out).update(Changes.of("monday", MONDAY)).taken
    assert graph_of(out).digest == stale
    with closing(open_store(elsewhere)) as store:
        assert "i99" in export_snapshot(store).ids["Item"]
    file = toml.parent / "b.jsonl"
    file.write_text(Changes.of("b", [{"op": "retire_item", "id": "i99"}]).text())
    update = ["update", str(toml), str(file), "--out", str(out)]
    assert main([*update, "--store", f"ladybug:{out / 'graph.lbug'}"]) == 2
    assert "store ladybug:graph.lbug: the model was built with ladybug:/" in capsys.readouterr().err
    assert main([*update, "--store", elsewhere]) == 0
    assert graph_of(out).digest == stale


def test_one_update_at_a_time(shop):
    with alone(shop[1]), pytest.raises(ArtifactError, match="another process is building here"):
        Recommender.load(shop[1]).update(Changes.of("monday", MONDAY))


def test_a_rebuild_learns_from_the_updates_and_says_what_it_drops(shop):
    toml, out = shop
    Recommender.load(out).update(Changes.of("monday", MONDAY))
    updated, lines = graph_of(out).digest, []
    result = rebuild(open_workshop(toml, out=out, device="cpu", say=lines.append))
    assert not result["skipped"]
    assert "updates   10 changes of 1 batches, as if the files had them" in lines
    assert Recommender.load(out).knows("i99")
    assert graph_of(out).digest == updated
    assert not Recommender.load(out).update(Changes.of("monday", [])).taken
    assert rebuild(open_workshop(toml, out=out, device="cpu"))["skipped"]
    lines.clear()
    rebuild(open_workshop(toml, out=out, device="cpu", drop_updates=True, say=lines.append))
    assert lines[0] == "updates   dropped: 10 changes of 1 batches, the last monday"
    assert not Recommender.load(out).knows("i99")
    assert "i99" not in graph_of(out).ids["Item"]


def test_an_interaction_of_the_far_future_is_refused(shop):
    made = Recommender.load(shop[1])
    far = {"op": "interaction", "user": "u01", "item": "i05", "at": "9999-01-01", "quantity": 1}
    with pytest.raises(DataError, match="change 2, field 'at': 9999-01-01T00:00:00 is more than a day in the future"):
        made.update(Changes.of("far", [far | {"at": "2024-03-31"}, far]))


def test_a_shop_whose_own_log_is_later_goes_on_there():
    far = Changes.of("far", [{"op": "interaction", "user": "u", "item": "i", "at": 2**50}])
    far.check_times(2**50 - 1)
    with pytest.raises(DataError):
        far.check_times(1_711_800_000_000)


def test_going_back_to_an_earlier_version_stays(shop):
    out = shop[1]
    first = versions.published(out).name
    Recommender.load(out).update(Changes.of("monday", MONDAY))
    (out / "current").write_text(first + "\n")
    assert not Recommender.load(out).knows("i99")
    assert versions.published(out).name == first


def test_changes_are_refused_while_the_graph_is_ahead_of_the_model(shop):
    toml, out = shop
    first = versions.published(out).name
    Recommender.load(out).update(Changes.of("monday", MONDAY))
    (out / "current").write_text(first + "\n")
    tuesday = Changes.of("tuesday", [{"op": "upsert_item", "id": "i05", "properties": {"name": "Another"}}])
    with pytest.raises(
        ArtifactError, match="the graph holds batch 'monday', which the published version does not know"
    ):
        Recommender.load(out).update(tuesday)
    rebuild(open_workshop(toml, out=out, device="cpu", full=True))
    assert Recommender.load(out).update(tuesday).taken
    assert "i99" not in graph_of(out).ids["Item"]


def test_nothing_is_taken_in_while_the_graph_cannot_be_asked_about_a_killed_update(shop, monkeypatch):
    out = shop[1]
    with monkeypatch.context() as killed:
        killed.setattr("catalograph.scoring.versions.publish", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            update(out, Changes.of("monday", MONDAY))

    def refuse(*_):
        raise StoreError("the store is starting")

    with monkeypatch.context() as down:
        down.setattr("catalograph.kg.ladybug.LadybugStore.holds", refuse)
        with pytest.raises(StoreError, match="the graph may hold batch 'monday'"):
            update(out, Changes.of("tuesday", [{"op": "retire_item", "id": "i05"}]))
    assert update(out, Changes.of("tuesday", [{"op": "retire_item", "id": "i05"}])).taken
    assert Recommender.load(out).knows("i99")
    assert not Recommender.load(out).knows("i05")


def test_feedback_that_another_process_took_in_meanwhile_is_not_taken_again(shop):
    out, told = shop[1], {"op": "interaction", "user": "guest", "item": "i05", "at": "2024-03-30", "quantity": 1}
    update(out, Changes.of("feedback 1-3", [told]), feedback=(0, 3))
    version = versions.published(out)
    with pytest.raises(ArtifactError, match="another process took feedback in meanwhile"):
        update(out, Changes.of("feedback 1-4", [told]), feedback=(0, 4))
    assert versions.published(out) == version
    assert update(out, Changes.of("feedback 4-5", [told | {"item": "i06"}]), feedback=(3, 5)).taken


@pytest.mark.parametrize("earlier_stays", [True, False])
def test_feedback_that_was_taken_in_stays_taken_when_updates_are_dropped(shop, capsys, earlier_stays):
    toml, out = shop
    first = versions.published(out)
    log = FeedbackLog(out)
    log.append([[Event(id="1", user="guest", item="i05", kind="purchase", at=1_711_800_000_000)]])
    log.close()
    update = ["update", str(toml), "--feedback", "--out", str(out)]
    assert main(update) == 0
    if not earlier_stays:
        shutil.rmtree(first)
    rebuild(open_workshop(toml, out=out, device="cpu", drop_updates=True))
    assert not Recommender.load(out).knows_user("guest")
    capsys.readouterr()
    assert main(update) == 0
    assert "no new feedback" in capsys.readouterr().err


def test_a_shop_that_is_emptied_is_told_and_stays(shop):
    made = Recommender.load(shop[1])
    with pytest.raises(DataError, match="the changes leave no interaction"):
        made.update(Changes.of("all", [{"op": "retire_item", "id": f"i{n:02}"} for n in range(40)]))
    assert made.knows("i00")


def test_a_damaged_list_of_updates_can_be_dropped(shop):
    toml, out = shop
    Recommender.load(out).update(Changes.of("monday", MONDAY))
    (versions.published(out) / "updates.jsonl").write_text('{"batch": "monday"}\n{"op": "upsert_it')
    with pytest.raises(ArtifactError, match=r"is damaged .*--drop-updates"):
        rebuild(open_workshop(toml, out=out, device="cpu"))
    lines = []
    rebuild(open_workshop(toml, out=out, device="cpu", drop_updates=True, say=lines.append))
    assert lines[0] == "updates   dropped: a damaged list"
    assert not Recommender.load(out).knows("i99")
    assert "i99" not in graph_of(out).ids["Item"]


def test_updates_that_no_longer_fit_the_files_are_told(shop):
    toml, out = shop
    Recommender.load(out).update(Changes.of("monday", MONDAY))
    items = toml.parent / "items.csv"
    items.write_text("".join(line for line in items.open() if not line.startswith("i08,")))
    for name in ("sales.csv", "like.csv"):
        file = toml.parent / name
        file.write_text("".join(line for line in file.open() if "i08" not in line))
    with pytest.raises(
        DataError, match=r"no longer fits .* line 8, field 'id': there is no Item 'i08'.*--drop-updates"
    ):
        rebuild(open_workshop(toml, out=out, device="cpu"))


ITEMS = st.sampled_from([*(f"i{n:02}" for n in range(0, 40, 3)), "n0", "n1"])
USERS = st.sampled_from([*(f"u{n:02}" for n in range(0, 60, 7)), "v0", "v1"])
CATEGORY = st.lists(st.sampled_from(["Shop > Mugs", "Shop > Toys", "Shop > New"]), max_size=2, unique=True)
TIMES = st.integers(0, 110).map(lambda day: 1_704_100_000_000 + day * 86_400_000 + day % 7 * 1_000)


def op(name, **fields):
    return st.fixed_dictionaries({"op": st.just(name), **fields})


ANY_CHANGE = st.one_of(
    op("interaction", user=USERS, item=ITEMS, at=TIMES, quantity=st.integers(1, 3)),
    op("upsert_item", id=ITEMS, properties=op("", price=st.floats(1, 20)).map(lambda d: {"price": d["price"]})),
    op("upsert_item", id=ITEMS, relations=CATEGORY.map(lambda ids: {"IN_CATEGORY": ids})),
    op("upsert_item", id=ITEMS, properties=st.sampled_from(["Red mug", "Toy car", ""]).map(lambda n: {"name": n})),
    op("retire_item", id=ITEMS),
    op("upsert_user", id=USERS),
    op("retire_user", id=USERS),
    op("upsert_node", label=st.just("Category"), id=st.just("Shop > Mugs"), properties=st.just({"name": "Cups"})),
    op("retire_node", label=st.just("Category"), id=st.sampled_from(["Shop > Toys", "Shop > Mugs"])),
    op("relate", source=ITEMS, relation=st.just("GOES_WITH"), target=ITEMS, properties=st.just({"since": 1})),
    op("unrelate", source=st.just("i04"), relation=st.just("GOES_WITH"), target=st.just("i31")),
    op("retire_interaction", user=USERS, item=ITEMS),
)


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(ANY_CHANGE, min_size=1, max_size=5), min_size=1, max_size=2))
@example([[{"op": "upsert_item", "id": "i00", "properties": {"name": ""}}]])
def test_any_batches_are_a_rebuild_with_the_same_weights(first, tmp_path_factory, batches):
    toml, out = first[0], tmp_path_factory.mktemp("any") / "build"
    shutil.copytree(first[1], out)
    before = bundles.load(versions.published(out))
    taken = 0
    for n, changes in enumerate(batches):
        version = versions.published(out).name
        try:
            taken += Recommender.load(out).update(Changes.of(str(n), changes)).taken
        except DataError:  # most random changes that do not fit each other are refused
            assert versions.published(out).name == version
    if taken:
        after, updated = bundles.load(versions.published(out))[0], graph_of(out).digest
        assert_equal(after, with_fixed_weights(before, toml, out))
        assert graph_of(out).digest == updated
    shutil.rmtree(out)


def test_feedback_of_the_service_is_taken_in_once(shop, capsys):
    toml, out = shop
    log = FeedbackLog(out)
    told = {"at": 1_711_800_000_000, "user": "guest"}  # 2024-03-30
    log.append(
        [
            [
                Event(id="1", item="i05", kind="purchase", **told),
                Event(id="2", item="i06", kind="click", **told),
                Event(id="3", item="unknown", kind="purchase", **told),
                Event(id="4", item="i05", kind="purchase", **told | {"user": " "}),
                Event(id="5", item="i05", kind="purchase", **told | {"user": "guest "}),
                Event(id="7", item="i05", kind="purchase", **told | {"at": 2**52}),
            ]
        ]
    )
    update = ["update", str(toml), "--feedback", "--out", str(out)]
    assert main(update) == 0
    said = capsys.readouterr().err
    assert "left out, events of items the shop does not have: 1" in said
    assert "left out, events whose user or item is no id: 2" in said
    assert "left out, events of more than a day in the future: 1" in said
    assert "feedback 1-6: version" in said
    assert Recommender.load(out).history("guest") == ["i05"]
    assert main(update) == 0
    assert "no new feedback" in capsys.readouterr().err
    log.append([[Event(id="6", item="i07", kind="cart", **told | {"at": 1_711_900_000_000})]])
    log.close()
    assert main([*update, "--kind", "purchase", "--kind", "cart"]) == 0
    assert Recommender.load(out).history("guest") == ["i05", "i07"]
    assert main([*update, "--kind", "purchse"]) == 2
    assert "did you mean 'purchase'" in capsys.readouterr().err


def test_a_running_service_takes_the_new_version_up(shop):
    shelf = Shelf(shop[1])
    done = Recommender.load(shop[1]).update(Changes.of("monday", MONDAY))
    shelf.refresh()
    assert shelf.current.version == done.version
    assert shelf.current.model.knows("i99")


def test_neo4j_and_the_model_move_together(first, tmp_path, neo4j_url, capsys):
    toml, out = first[0], tmp_path / "build"
    rebuild(open_workshop(toml, out=out, store=neo4j_url, device="cpu"))
    embedded = tmp_path / "embedded"
    shutil.copytree(first[1], embedded)
    Recommender.load(embedded).update(Changes.of("monday", MONDAY))
    file = tmp_path / "monday.jsonl"
    file.write_text(Changes.of("monday", MONDAY).text())
    update = ["update", str(toml), str(file), "--out", str(out), "--store", neo4j_url]
    killed(out, file, "before the store")
    assert not Recommender.load(out).knows("i99")
    with closing(open_store(neo4j_url)) as store:
        assert "i99" not in export_snapshot(store).ids["Item"]
    killed(out, file, "before the pointer")  # after the server has committed
    assert Recommender.load(out).knows("i99")
    with closing(open_store(neo4j_url)) as store:
        assert export_snapshot(store, held_out=True).digest == graph_of(embedded).digest
    capsys.readouterr()
    assert main(update) == 0
    assert "known already" in capsys.readouterr().err


SMALL = """
[shop]
name = "small"
[gnn]
dim = 4
epochs = 1
history = 4
[model]
pool_size = 10
head = "linear"
folds = 1
[interactions]
file = "events.csv"
user = "user"
item = "item"
"""
WITH_BRANDS = """
[items]
file = "items.csv"
id = "item"
[[attributes]]
column = "brand"
relation = "BY"
label = "Brand"
"""
NEW = {"op": "upsert_item", "id": "n", "relations": {"BY": ["b1", "of its own"]}}


def events(number):
    """50 users, eight events each; the same draw for every shop."""
    random = np.random.default_rng(0)
    rows = [(f"u{u:02}", f"i{random.integers(15):02}", place) for u in range(50) for place in range(8)]
    return [f"{user},{item}{number(place, random)}" for user, item, place in rows]


def labelled(place, random):
    return f",{random.integers(2)},{'train' if place else 'test'},2024-01-{place + 1:02}"


def in_parts(place, _):
    return f",{place},{'test' if place == 4 else 'train'}"


OUT_OF_THE_MIDST = 'position = "pos"\n[split]\nmethod = "column"\ncolumn = "part"\nlike = "random"\n'
DISLIKED = next(row.split(",") for row in events(labelled) if ",0,train," in row)


@pytest.mark.parametrize(
    ("settings", "header", "number", "changes"),
    [
        (
            'position = "pos"\n[split]\nmethod = "last"\n',
            "user,item,pos",
            lambda place, _: f",{place}",
            [
                {"op": "interaction", "user": "u01", "item": "new"},
                {"op": "interaction", "user": "u01", "item": "i05"},
                {"op": "interaction", "user": "u02", "item": "i03", "position": 20},
                {"op": "retire_item", "id": "i04"},
            ],
        ),
        (
            OUT_OF_THE_MIDST,
            "user,item,pos,part",
            in_parts,
            [
                {"op": "interaction", "user": "u01", "item": "new"},
                {"op": "interaction", "user": "u02", "item": "i03", "position": 20},
            ],
        ),
        (
            WITH_BRANDS,
            "user,item",
            lambda *_: "",
            [
                NEW,
                {"op": "interaction", "user": "u01", "item": "n"},
                {"op": "interaction", "user": "new", "item": "n"},
                {"op": "retire_user", "id": "u09"},
            ],
        ),
        (
            'label = "label"\n[split]\nmethod = "column"\ncolumn = "part"\n' + WITH_BRANDS,
            "user,item,label,part",
            lambda place, random: f",{random.integers(2)},{'train' if place else 'test'}",
            [
                NEW,
                {"op": "interaction", "user": "u01", "item": "n", "label": 1},
                {"op": "interaction", "user": "u02", "item": "n", "label": 0},
                {"op": "retire_item", "id": "i03"},
            ],
        ),
        (
            'label = "label"\ntime = "day"\n[split]\nmethod = "column"\ncolumn = "part"\n' + WITH_BRANDS,
            "user,item,label,part,day",
            labelled,
            [{"op": "interaction", "user": DISLIKED[0], "item": DISLIKED[1], "at": DISLIKED[4], "label": 1}],
        ),
    ],
    ids=[
        "positions and no item table",
        "an order and a random split",
        "no order",
        "labelled pairs",
        "a label that changes",
    ],
)
def test_other_kinds_of_shops_are_updated_alike(tmp_path, settings, header, number, changes):
    (tmp_path / "items.csv").write_text("item,brand\n" + "".join(f"i{n:02},b{n % 4}\n" for n in range(15)))
    toml, out = small_shop(tmp_path, settings, header, number)
    before = bundles.load(versions.published(out))
    Recommender.load(out).update(Changes.of("1", changes))
    after, updated = bundles.load(versions.published(out))[0], graph_of(out).digest
    assert_equal(after, with_fixed_weights(before, toml, out))
    assert graph_of(out).digest == updated


def test_relation_vectors_learn_what_the_shop_asks_for(tmp_path):
    """Where the next item is asked for, newer ones count as is learned; out of the midst of a history all alike."""
    last = 'position = "pos"\n[split]\nmethod = "last"\n'
    for split, header, number, alike in (
        (last, "user,item,pos", lambda place, _: f",{place}", False),
        (OUT_OF_THE_MIDST, "user,item,pos,part", in_parts, True),
    ):
        _, out = small_shop(tmp_path, split, header, number)
        decay = bundles.load(versions.published(out))[0].model.decay
        assert (np.unique(decay).size == 1) == alike


def small_shop(folder, settings, header, number):
    """(shop.toml, build folder) of SMALL with these settings, rebuilt."""
    toml, out = folder / "shop.toml", folder / "build"
    toml.write_text(SMALL + settings)
    (folder / "events.csv").write_text("\n".join([header, *events(number)]) + "\n")
    rebuild(open_workshop(toml, out=out, device="cpu"))
    return toml, out


def test_an_interaction_without_a_position_comes_after_those_of_its_batch_too(tmp_path):
    settings = 'position = "pos"\n[split]\nmethod = "last"\n'
    _, out = small_shop(tmp_path, settings, "user,item,pos", lambda place, _: f",{place}")
    told = {"op": "interaction", "user": "u02"}
    Recommender.load(out).update(Changes.of("1", [told | {"item": "i03", "position": 100}, told | {"item": "new"}]))
    assert Recommender.load(out).history("u02")[-2:] == ["i03", "new"]


def test_the_first_held_out_interactions_may_come_by_an_update(tmp_path):
    settings = 'time = "day"\n[split]\nmethod = "time"\nat = 2024-01-09\nperiod_days = 3\n'
    toml, out = small_shop(tmp_path, settings, "user,item,day", lambda place, _: f",2024-01-{place + 1:02}")
    late = {"op": "interaction", "user": "u02", "item": "i03", "at": "2024-02-03"}
    assert update(out, Changes.of("1", [late])).held_out == 1
    updated = graph_of(out)
    assert len(updated.relation(EdgeKey("User", HELD_OUT, "Item"))[0]) == 1
    rebuild(open_workshop(toml, out=out, device="cpu"))
    assert graph_of(out).digest == updated.digest


def test_hostile_ids_and_texts_are_data(shop):
    made = Recommender.load(shop[1])
    hostile = ["'}) DETACH DELETE n //", '`x` \\ "', "a\nb\u2028c", "🦊 {0}", "=cmd|' /C calc'!A0", "\x00 nul"]
    changes = [{"op": "upsert_item", "id": id_, "properties": {"name": f"{id_} <b>"}} for id_ in hostile]
    changes += [
        {"op": "interaction", "user": id_, "item": id_, "at": 1_711_000_000_000 + n, "quantity": 1}
        for n, id_ in enumerate(hostile)
    ]
    done = made.update(Changes.of("x' OR 1=1 //", changes))
    assert made.update(Changes.of("x' OR 1=1 //", [])).version == done.version
    told = [id_.strip() for id_ in hostile]
    assert [made.history(id_) for id_ in told] == [[id_] for id_ in told]
    assert set(told) <= set(graph_of(shop[1]).ids["Item"].ids)
    assert len(graph_of(shop[1]).ids["Item"]) == 40 + len(hostile)
    assert bundles.updates_in(versions.published(shop[1]))[0].changes[0].id == told[0]
