"""Loaders on tiny files with known answers."""

import datetime as dt
import gzip
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalograph.cli import main
from catalograph.config import BasketsSection, load_config
from catalograph.errors import CatalographError, ConfigError, DataError
from catalograph.loaders.baskets import basket_numbers, bought_together
from catalograph.loaders.catalogue import EdgeKey
from catalograph.loaders.load import load_catalogue
from catalograph.loaders.tables import read_table, text, value
from catalograph.loaders.triples import label_of, relation_of

ITEMS = "item_id,title\na,Apple\nb,Bread\nc,Cake\n"
LOG = "user_id,item_id\nu,a\nu,b\nv,a\nv,c\n"


def load(folder, settings="", *, split=0, quarantine=None, **files):
    """The catalogue of a shop with `settings` and files named like items_csv."""
    files = {"items_csv": ITEMS, "log_csv": LOG} | files
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content, encoding="utf-8")
    toml = folder / "shop.toml"
    parts = {"shop": 'name = "tiny"', "items": 'file = "items.csv"', "interactions": 'file = "log.csv"'}
    for section, line in parts.items():
        head = f"[{section}]\n"
        settings = settings.replace(head, f"{head}{line}\n") if head in settings else f"{settings}\n{head}{line}\n"
    toml.write_text(settings, encoding="utf-8")
    return load_catalogue(load_config(toml), split=split, quarantine=quarantine)


def rows(table, *columns):
    return [tuple(row[c] for c in columns) for row in table.select(columns).to_pylist()]


def ends(catalogue, source, relation, target):
    return rows(catalogue.edges[EdgeKey(source, relation, target)], "source", "target")


def part_of(catalogue):
    return rows(catalogue.interactions, "user", "item", "part")


# Tables


def test_all_formats_give_the_same_table(tmp_path):
    table = pl.DataFrame({"id": ["1", "2"], "name": ["Mug, red", None]})
    table.write_csv(tmp_path / "t.csv")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    table.write_parquet(tmp_path / "t.parquet")
    table.write_ndjson(tmp_path / "t.jsonl")
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress((tmp_path / "t.jsonl").read_bytes()))
    for name in ("t.csv", "t.csv.gz", "t.parquet", "t.jsonl", "t.jsonl.gz"):
        first = 2 if ".csv" in name else 1  # as a spreadsheet counts
        assert read_table(tmp_path / name, ["id", "name"]).rows() == [
            (first, "1", "Mug, red"),
            (first + 1, "2", None),
        ]


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_csv_cells_come_back_as_they_were(tmp_path_factory, cells):
    table = pl.DataFrame(cells, schema={"a": pl.String, "b": pl.String}, orient="row")
    file = tmp_path_factory.mktemp("csv") / "t.csv"
    table.write_csv(file, quote_style="always")
    assert read_table(file, ["a", "b"]).select("a", "b").rows() == table.rows()


def read(cells, kind, **unit):
    frame = pl.DataFrame({"x": cells})
    return frame.select(value("x", frame.schema["x"], kind, **unit).alias("x"))["x"].to_list()


@pytest.mark.parametrize(
    ("cells", "kind", "expected"),
    [
        ([" a ", "", "  "], "string", ["a", None, None]),
        ([17850.0, 2.5, None], "string", ["17850", "2.5", None]),
        (["3", "3.0", "3.5", "x", "9007199254740993"], "int", [3, 3, None, None, 9007199254740993]),
        ([1.0, 1.5], "int", [1, None]),
        (["1e3", "nan", "inf", "-0.5"], "float", [1000.0, None, None, -0.5]),
        ([1.5, float("nan")], "float", [1.5, None]),
        (["yes", "F", "1", "maybe"], "bool", [True, False, True, None]),
        ([True, False], "bool", [True, False]),
        (["1970-01-02", "1970-01-01T00:00:01", "1970-01-01 00:01", "soon"], "time", [86_400_000, 1000, 60_000, None]),
        (["1970-01-01T02:00:00+02:00", "1970-01-01T00:00:00.25Z"], "time", [0, 250]),
        ([dt.date(1970, 1, 2), None], "time", [86_400_000, None]),
        ([dt.datetime(1970, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))], "time", [0]),
    ],
)
def test_cells_become_values(cells, kind, expected):
    assert read(cells, kind) == expected


@pytest.mark.parametrize(("unit", "number"), [("s", 2), ("ms", 2000), ("us", 2_000_000), ("ns", 2_000_000_000)])
def test_numbers_are_times_in_their_unit(unit, number):
    assert read([number], "time", unit=unit) == read([str(number)], "time", unit=unit) == [2000]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_survive_their_text(numbers):
    assert read([repr(n) for n in numbers], "float") == numbers


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_ints_survive_their_text(numbers):
    assert read([str(n) for n in numbers], "int") == numbers
    frame = pl.DataFrame({"x": numbers})
    assert frame.select(text("x", frame.schema["x"]))["x"].to_list() == [str(n) for n in numbers]


# Items and attributes


def test_typed_properties(tmp_path):
    items = "item_id,title,cost,left,sold,since\na,Apple,1.5,3,yes,1970-01-01\nb,,,,,\nc,Cake,2,0,no,1970-01-02\n"
    settings = """[items]
title = "title"
[items.properties]
title = "string"
price = { type = "float", column = "cost" }
left = "int"
sold = "bool"
since = "time"
"""
    found = load(tmp_path, settings, items_csv=items).nodes["Item"].to_pylist()
    assert found == [
        {"id": "a", "title": "Apple", "price": 1.5, "left": 3, "sold": True, "since": 0},
        {"id": "b", "title": None, "price": None, "left": None, "sold": None, "since": None},
        {"id": "c", "title": "Cake", "price": 2.0, "left": 0, "sold": False, "since": 86_400_000},
    ]


ATTRIBUTE = '[[attributes]]\ncolumn = "x"\nrelation = "HAS"\nlabel = "X"\n'


def test_several_values_and_missing_ones(tmp_path):
    items = 'item_id,x\na,"red, blue,"\nb,Unknown\nc,red\n'
    found = load(tmp_path, ATTRIBUTE + 'separator = ","\nmissing = "Unknown"\n', items_csv=items)
    assert ends(found, "Item", "HAS", "X") == [("a", "blue"), ("a", "red"), ("c", "red")]
    assert rows(found.nodes["X"], "id", "name") == [("blue", "blue"), ("red", "red")]


def test_lists_of_json_lines_are_several_values(tmp_path):
    lines = '{"item_id": 1, "x": ["red", "blue"]}\n{"item_id": 2, "x": []}\n{"item_id": 3, "x": ["red"]}\n'
    settings = ATTRIBUTE + '[items]\nfile = "items.jsonl"\n'
    (tmp_path / "items.jsonl").write_text(lines)
    (tmp_path / "log.csv").write_text("user_id,item_id\nu,1\n")
    (tmp_path / "shop.toml").write_text(settings + '[shop]\nname = "tiny"\n[interactions]\nfile = "log.csv"\n')
    found = load_catalogue(load_config(tmp_path / "shop.toml"))
    assert ends(found, "Item", "HAS", "X") == [("1", "blue"), ("1", "red"), ("3", "red")]


def test_paths_become_a_tree_with_edges_from_child_to_parent(tmp_path):
    items = "item_id,x\na,Home > Mugs > Red|Home\nb,Home>Mugs\nc,Sale > Mugs\n"
    found = load(tmp_path, ATTRIBUTE + 'separator = "|"\nlevels = ">"\n', items_csv=items)
    assert ends(found, "Item", "HAS", "X") == [
        ("a", "Home"),
        ("a", "Home>Mugs>Red"),
        ("b", "Home>Mugs"),
        ("c", "Sale>Mugs"),
    ]
    assert ends(found, "X", "SUBCATEGORY_OF", "X") == [
        ("Home>Mugs", "Home"),
        ("Home>Mugs>Red", "Home>Mugs"),
        ("Sale>Mugs", "Sale"),
    ]
    assert dict(rows(found.nodes["X"], "id", "name")) == {
        "Home": "Home",
        "Home>Mugs": "Mugs",
        "Home>Mugs>Red": "Red",
        "Sale": "Sale",
        "Sale>Mugs": "Mugs",
    }


@pytest.mark.parametrize(
    ("bands", "expected"),
    [
        ("[1.25, 2.1]", [("a", "below 1.25"), ("b", "1.25-2.1"), ("c", "2.1 and up")]),
        ("2", [("a", "below 1.25"), ("b", "1.25 and up"), ("c", "1.25 and up")]),
        ("[]", [("a", "any"), ("b", "any"), ("c", "any")]),
        ("[1.2500001, 1.2500002]", [("a", "below 1.2500001"), ("b", "below 1.2500001"), ("c", "1.2500002 and up")]),
    ],
)
def test_bands_hold_their_lower_border(tmp_path, bands, expected):
    found = load(tmp_path, ATTRIBUTE + f"bands = {bands}\n", items_csv="item_id,x\na,1\nb,1.25\nc,2.1\n")
    assert ends(found, "Item", "HAS", "X") == expected


def test_bands_know_their_ends_and_stand_in_the_graph_without_items(tmp_path):
    found = load(tmp_path, ATTRIBUTE + "bands = [-5, 2.1, 7]\n", items_csv="item_id,x\na,1\nb,\nc,2.1\n")
    bands = {row.pop("id"): row for row in found.nodes["X"].to_pylist()}
    assert bands == {
        "below -5": {"name": "below -5", "low": None, "high": -5},
        "-5-2.1": {"name": "-5-2.1", "low": -5, "high": 2.1},
        "2.1-7": {"name": "2.1-7", "low": 2.1, "high": 7},
        "7 and up": {"name": "7 and up", "low": 7, "high": None},
    }


def test_items_come_from_the_log_where_no_file_tells_them(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "shop.toml").write_text('[shop]\nname = "tiny"\n[interactions]\nfile = "log.csv"\n')
    found = load_catalogue(load_config(tmp_path / "shop.toml"))
    assert found.nodes["Item"]["id"].to_pylist() == ["a", "b", "c"]
    assert found.nodes["User"]["id"].to_pylist() == ["u", "v"]


# Edge files and ready graphs


def test_edge_files(tmp_path):
    settings = """[[edges]]
file = "made.csv"
relation = "MADE_BY"
target = "brand"
target_label = "Brand"
properties = { since = "int" }
[[edges]]
file = "in.csv"
relation = "SITS_IN"
source = "brand"
source_label = "Brand"
target = "town"
target_label = "Town"
"""
    made = "item_id,brand,since\na,Acme,1990\nb,Acme,\na,Acme,1991\n"
    found = load(tmp_path, settings, made_csv=made, in_csv="brand,town\nAcme,Rome\n")
    key = EdgeKey("Item", "MADE_BY", "Brand")
    assert rows(found.edges[key], "source", "target", "since") == [("a", "Acme", 1991), ("b", "Acme", None)]
    assert ends(found, "Brand", "SITS_IN", "Town") == [("Acme", "Rome")]
    assert found.rejected == {("made.csv", "repeated edge"): 1}


TRIPLES = """[[triples]]
file = "kg.csv"
entities = { file = "entities.csv", type = "type", name = "name", item = "item" }
"""
ENTITIES = "entity_id,type,name,item\n0,item,,a\n1,item,,b\n2,related_product,Pen,\n3,brand,Acme,\n4,brand,Idle,\n"


def test_triples_with_entities_meet_the_items(tmp_path):
    kg = "head_id,relation,tail_id\n0,also_bought,2\n0,also_bought,1\n0,also_bought,1\n1,also_bought,1\n1,made.by,3\n"
    found = load(tmp_path, TRIPLES, kg_csv=kg, entities_csv=ENTITIES)
    assert ends(found, "Item", "ALSO_BOUGHT", "RelatedProduct") == [("a", "2")]
    assert ends(found, "Item", "ALSO_BOUGHT", "Item") == [("a", "b")]
    assert ends(found, "Item", "MADE_BY", "Brand") == [("b", "3")]
    assert rows(found.nodes["Brand"], "id", "name") == [("3", "Acme")]
    assert found.rejected == {("kg.csv", "self-loop"): 1, ("kg.csv", "repeated triple"): 1}


def test_triples_into_items_leave_them(tmp_path):
    kg = "head_id,relation,tail_id\nAcme,makes,a\na,makes,Acme\nAcme,makes,b\nAcme,in,Rome\na,with,b\n"
    found = load(tmp_path, '[[triples]]\nfile = "kg.csv"\nitems = "shared"\n', kg_csv=kg)
    assert ends(found, "Item", "MAKES", "Entity") == [("a", "Acme"), ("b", "Acme")]
    assert ends(found, "Item", "WITH", "Item") == [("a", "b")]
    assert ends(found, "Entity", "IN", "Entity") == [("Acme", "Rome")]
    assert EdgeKey("Entity", "MAKES", "Item") not in found.edges


def test_triples_without_entities_share_the_items_and_name_their_relations(tmp_path):
    settings = """[[triples]]
file = "kg.csv"
relation = "number"
names = { file = "relations.csv" }
items = "shared"
skip = ["film.star"]
"""
    kg = "head_id,number,tail_id\na,0,Rome\nRome,2,Italy\na,1,Rome\n"
    names = "relation_id,name\n0,music.artist.origin\n1,film.star\n2,\n"
    found = load(tmp_path, settings, kg_csv=kg, relations_csv=names)
    assert ends(found, "Item", "MUSIC_ARTIST_ORIGIN", "Entity") == [("a", "Rome")]
    assert ends(found, "Entity", "REL_2", "Entity") == [("Rome", "Italy")]
    assert len(found.edges) == 3


@pytest.mark.parametrize(("name", "label"), [("related_product", "RelatedProduct"), ("item", "Item"), ("3d", "Type3d")])
def test_labels(name, label):
    assert label_of(name) == label


@given(st.text())
def test_labels_and_relations_are_names_whatever_a_file_says(name):
    for made in (label_of(name), relation_of(name)):
        assert made.isascii()
        assert made[0].isalpha()
        assert made.replace("_", "").isalnum()


def test_ids_of_different_labels_may_coincide(tmp_path):
    log = "user_id,item_id\na,a\nb,a\n"
    found = load(tmp_path, ATTRIBUTE, items_csv="item_id,x\na,a\n", log_csv=log)
    assert ends(found, "Item", "HAS", "X") == ends(found, "User", "INTERACTED", "Item")[:1] == [("a", "a")]


# Interactions and splits

TIMED = """[interactions]
time = "day"
quantity = "n"
"""
TIMED_LOG = """user_id,item_id,day,n,paid,town
u,b,2024-03-02,1,9,
u,a,2024-03-01,2,1,Rome
u,a,2024-03-03,3,3,Oslo
u,c,2024-04-01,1,99,Bonn
v,a,2024-03-05,1,8,Kyiv
v,b,2024-03-31T23:59:59,4,5,
v,c,2024-04-01,1,99,Bonn
"""
AT = '[split]\nmethod = "time"\nat = 2024-04-01\n'
DAY = 86_400_000
MARCH = int(dt.datetime(2024, 3, 1, tzinfo=dt.UTC).timestamp() * 1000)


def test_one_edge_a_pair_with_its_sums(tmp_path):
    found = load(tmp_path, TIMED + AT, log_csv=TIMED_LOG)
    table = found.edges[EdgeKey("User", "INTERACTED", "Item")]
    assert table.column_names == ["source", "target", "count", "quantity", "first_at", "last_at"]
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("u", "a", 2, 5.0, MARCH, MARCH + 2 * DAY),
        ("u", "b", 1, 1.0, MARCH + DAY, MARCH + DAY),
        ("v", "a", 1, 1.0, MARCH + 4 * DAY, MARCH + 4 * DAY),
        ("v", "b", 1, 4.0, MARCH + 31 * DAY - 1000, MARCH + 31 * DAY - 1000),
    ]
    assert ends(found, "User", "HELD_OUT", "Item") == [("u", "c"), ("v", "c")]


def test_events_are_oldest_first_per_user(tmp_path):
    found = load(tmp_path, TIMED + AT, log_csv=TIMED_LOG)
    assert part_of(found) == [
        ("u", "a", "train"),
        ("u", "b", "train"),
        ("u", "a", "train"),
        ("u", "c", "test"),
        ("v", "a", "train"),
        ("v", "b", "train"),
        ("v", "c", "test"),
    ]


def test_a_cut_with_an_offset_is_a_moment(tmp_path):
    cut = AT.replace("2024-04-01", "2024-04-01T01:00:00+01:00")
    assert part_of(load(tmp_path, TIMED + cut, log_csv=TIMED_LOG))[3] == ("u", "c", "test")
    cut = AT.replace("2024-04-01", "2024-04-01T00:00:00-01:00")
    assert part_of(load(tmp_path, TIMED + cut, log_csv=TIMED_LOG))[3] == ("u", "c", "train")


DERIVED = """[items]
derived = { price = { column = "paid" }, newest = { column = "paid", how = "last" } }
[users]
properties = { town = "string" }
[[attributes]]
column = "price"
relation = "IN_BAND"
label = "Band"
bands = [5]
[baskets]
window_s = 172801
min_count = 1
"""


def test_what_is_derived_reads_training_events_alone(tmp_path):
    found = load(tmp_path, DERIVED + TIMED + AT, log_csv=TIMED_LOG)
    assert rows(found.nodes["Item"], "id", "price", "newest") == [("a", 3.0, 8.0), ("b", 7.0, 5.0), ("c", None, None)]
    assert rows(found.nodes["User"], "id", "town") == [("u", "Oslo"), ("v", "Kyiv")]
    assert ends(found, "Item", "BOUGHT_TOGETHER", "Item") == [("a", "b"), ("b", "a")]
    assert found.derived == {"BOUGHT_TOGETHER"}


def test_a_no_is_in_no_basket(tmp_path):
    log = "user_id,item_id,day,y\nu,a,2024-03-01,1\nu,b,2024-03-01,1\nu,c,2024-03-01,0\n"
    settings = '[baskets]\nmin_count = 1\n[interactions]\ntime = "day"\nlabel = "y"\n'
    assert ends(load(tmp_path, settings, log_csv=log), "Item", "BOUGHT_TOGETHER", "Item") == [("a", "b"), ("b", "a")]


def test_scrambling_the_held_out_part_changes_nothing_that_is_trained_on(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = load(tmp_path / "one", DERIVED + TIMED + AT, log_csv=TIMED_LOG)
    scrambled = TIMED_LOG.replace("u,c,2024-04-01,1,99,Bonn", "u,b,2024-04-09,7,0.01,Lima")
    two = load(tmp_path / "two", DERIVED + TIMED + AT, log_csv=scrambled)
    assert one.nodes == two.nodes
    held_out = EdgeKey("User", "HELD_OUT", "Item")
    assert {k: t for k, t in one.edges.items() if k != held_out} == {
        k: t for k, t in two.edges.items() if k != held_out
    }
    train = [
        c.interactions.filter(pl.Series(c.interactions["part"].to_pylist()).eq("train").to_arrow()) for c in (one, two)
    ]
    assert train[0].drop(["basket"]) == train[1].drop(["basket"])


def test_last_keeps_a_history(tmp_path):
    log = "user_id,item_id,at\nu,b,2\nu,a,1\nu,c,3\nv,a,1\nw,a,1\nw,a,2\n"
    settings = '[interactions]\nposition = "at"\n[split]\nmethod = "last"\n'
    held = [row for row in part_of(load(tmp_path, settings, log_csv=log)) if row[2] == "test"]
    assert held == [("u", "c", "test")]


def test_random_holds_out_whole_pairs_by_seed(tmp_path):
    pairs = [(f"u{u}", f"i{i}") for u in range(200) for i in range(10)]
    log = "user_id,item_id\n" + "".join(f"{u},{i}\n" * 2 for u, i in pairs)
    items = "item_id\n" + "".join(f"i{i}\n" for i in range(10))

    def test_part(seed):
        settings = f'[split]\nmethod = "random"\nfraction = 0.3\nseed = {seed}\n'
        return {row[:2] for row in part_of(load(tmp_path, settings, items_csv=items, log_csv=log)) if row[2] == "test"}

    first = test_part(1)
    assert 0.25 < len(first) / len(pairs) < 0.35
    assert first == test_part(1) != test_part(2)
    train = ends(load(tmp_path, '[split]\nmethod = "random"\nfraction = 0.99\n', log_csv=log, items_csv=items),
                 "User", "INTERACTED", "Item")  # fmt: skip
    assert {user for user, _ in train} == {f"u{n}" for n in range(200)}


def test_columns_say_the_part_and_labels_the_edges(tmp_path):
    log = "user_id,item_id,y,s0,s1\nu,a,1,train,test\nu,b,0,train,train\nu,c,1,valid,train\nv,a,1,test,\nv,b,0,test,x\n"
    settings = '[interactions]\nlabel = "y"\n[split]\nmethod = "column"\ncolumn = ["s0", "s1"]\nvalid = ["valid"]\n'
    found = load(tmp_path, settings, log_csv=log)
    assert [row[2] for row in part_of(found)] == ["train", "train", "valid", "test", "test"]
    assert ends(found, "User", "INTERACTED", "Item") == [("u", "a")]
    assert ends(found, "User", "HELD_OUT", "Item") == [("u", "c"), ("v", "a")]
    other = load(tmp_path, settings, split=1, log_csv=log)
    assert [row[2] for row in part_of(other)] == ["test", "train", "train", "train", "train"]
    with pytest.raises(ConfigError, match=r"no split 2; split.column names 2"):
        load(tmp_path, settings, split=2, log_csv=log)


def test_rows_without_user_and_returns_are_dropped_and_counted(tmp_path):
    log = "user_id,item_id,n\nu,a,1\n,b,1\nu,c,-1\n"
    settings = '[interactions]\nquantity = "n"\nmissing_user = "drop"\nreturns = "drop"\n'
    found = load(tmp_path, settings, log_csv=log)
    assert part_of(found) == [("u", "a", "train")]
    assert found.rejected == {("log.csv", "no user"): 1, ("log.csv", "returned"): 1}


def test_users_of_a_table_stay_without_events(tmp_path):
    settings = '[users]\nfile = "users.csv"\nproperties = { town = "string" }\n'
    found = load(tmp_path, settings, users_csv="user_id,town\nv,Rome\nz,Oslo\n")
    assert rows(found.nodes["User"], "id", "town") == [("u", None), ("v", "Rome"), ("z", "Oslo")]


# Baskets


def test_a_basket_starts_with_its_first_event():
    seconds = [0, 30, 60, 119, 120, 5]
    events = pl.DataFrame({"user": ["u"] * 5 + ["v"], "at": np.array(seconds) * 1000})
    assert basket_numbers(events, 60).to_list() == [0, 0, 2, 2, 3, 1]


@given(st.lists(st.tuples(st.sampled_from("uvw"), st.integers(0, 40)), min_size=1), st.integers(1, 9))
def test_baskets_agree_with_the_obvious_loop(pairs, window):
    pairs = sorted(pairs)
    events = pl.DataFrame({"user": [u for u, _ in pairs], "at": [t * 1000 for _, t in pairs]})
    starts, whose = [], []
    for user, at in pairs:
        if not starts or starts[-1][1] != user or at >= starts[-1][0] + window:
            starts.append((at, user))
        whose.append(len(starts) - 1)
    order = sorted(range(len(starts)), key=lambda n: starts[n][0])
    assert basket_numbers(events, window).to_list() == [order.index(n) for n in whose]


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from("abcd")), min_size=1), st.integers(1, 3), st.integers(1, 3)
)
def test_pairs_of_baskets_agree_with_the_obvious_loop(lines, min_count, per_item):
    events = pl.DataFrame(
        {"basket": [b for b, _ in lines], "item": [i for _, i in lines], "at": [b * 10 for b, _ in lines]},
        schema={"basket": pl.Int64, "item": pl.String, "at": pl.Int64},
    )
    shared = {}
    for basket in {b for b, _ in lines}:
        for one in {i for b, i in lines if b == basket}:
            for two in {i for b, i in lines if b == basket} - {one}:
                count, at = shared.get((one, two), (0, 0))
                shared[one, two] = count + 1, max(at, basket * 10)
    expected = []
    for one in "abcd":
        mine = [(-n, two, at) for (first, two), (n, at) in shared.items() if first == one and n >= min_count]
        expected += [(one, two, -n, at) for n, two, at in sorted(mine)[:per_item]]
    found = bought_together(events, BasketsSection(min_count=min_count, per_item=per_item))
    assert found.rows() == sorted(expected)


# Bad rows


def test_the_message_names_the_files_own_column_and_the_nearest_id(tmp_path):
    log = "customer,product\nu,a\nu,bb\nu,bb\n"
    settings = '[interactions]\nuser = "customer"\nitem = "product"\n'
    with pytest.raises(DataError) as error:
        load(tmp_path, settings, log_csv=log)
    place = f"{tmp_path / 'log.csv'}: row 3, column 'product'"
    assert str(error.value) == f"{place}: 'bb' is no item of the shop, did you mean 'b'? (2 such rows)"


def test_quarantine_keeps_the_good_rows_and_writes_the_bad(tmp_path):
    log = "user_id,item_id,n\nu,a,1\nu,z,1\nu,b,two\n,b,1\nv,c,3\n"
    items = "item_id,title\na,Apple\nb,Bread\nc,Cake\na,Again\n"
    settings = '[shop]\non_bad_rows = "quarantine"\n[interactions]\nquantity = "n"\n'
    aside = tmp_path / "aside"
    found = load(tmp_path, settings, items_csv=items, log_csv=log, quarantine=aside)
    assert part_of(found) == [("u", "a", "train"), ("v", "c", "train")]
    assert found.rejected == {
        ("log.csv", "user_id is empty; every row needs one"): 1,
        ("log.csv", "n is no finite number"): 1,
        ("log.csv", "item_id is no item of the shop"): 1,
        ("items.csv", "item_id stands twice; ids must be unique"): 1,
    }
    written = pl.read_csv(aside / "rejected.csv", infer_schema=False).select("file", "row", "n").rows()
    assert written == [
        ("log.csv", "5", "1"),
        ("log.csv", "4", "two"),
        ("items.csv", "5", None),
        ("log.csv", "3", "1.0"),
    ]
    load(tmp_path, settings, quarantine=aside, log_csv="user_id,item_id,n\nu,a,1\n")
    assert not (aside / "rejected.csv").exists()


EDGE = '[[edges]]\nfile = "e.csv"\nrelation = "R"\ntarget = "t"\ntarget_label = "T"\n'
BAD = {
    "an edge from nowhere": (
        EDGE,
        {"e_csv": "item_id,t\nq,x\n"},
        "row 2, column 'item_id': 'q' is no Item of the shop",
    ),
    "an edge to nowhere": (
        EDGE.replace('"T"', '"Item"'),
        {"e_csv": "item_id,t\na,q\n"},
        "e.csv: row 2, column 't': 'q' is no Item of the shop",
    ),
    "an edge from no label": (EDGE + 'source_label = "Itm"\n', {}, "edges.R: no label 'Itm', did you mean 'Item'?"),
    "an empty end": (EDGE, {"e_csv": "item_id,t\na,\n"}, "e.csv: row 2, column 't': the cell is empty"),
    "a reserved relation": (EDGE.replace('"R"', '"HELD_OUT"'), {}, "relation 'HELD_OUT' is a name of the graph's own"),
    "a strange entity": (
        TRIPLES,
        {"kg_csv": "head_id,relation,tail_id\n0,r,9\n", "entities_csv": ENTITIES},
        "kg.csv: row 2, column 'tail_id': '9' is no entity of the shop",
    ),
    "an entity that is no item": (
        TRIPLES,
        {"kg_csv": "head_id,relation,tail_id\n0,r,1\n", "entities_csv": ENTITIES.replace(",b\n", ",q\n")},
        "entities.csv: row 3, column 'item': 'q' is no item of the shop",
    ),
    "an entity of the items' type without its item": (
        TRIPLES,
        {"kg_csv": "head_id,relation,tail_id\n0,r,1\n", "entities_csv": ENTITIES.replace(",b\n", ",\n")},
        "entities.csv: row 3, column 'entity_id': '1' has the type Item and is no item of the shop",
    ),
    "an unknown relation": (
        TRIPLES + 'only = ["also_bougt"]\n',
        {"kg_csv": "head_id,relation,tail_id\n0,also_bought,1\n", "entities_csv": ENTITIES},
        "kg.csv has no relation 'also_bougt', did you mean 'also_bought'?",
    ),
    "baskets over a relation that is there": (
        EDGE.replace('"T"', '"Item"') + '[baskets]\nrelation = "R"\n[interactions]\ntime = "day"\n',
        {"e_csv": "item_id,t\na,b\n", "log_csv": TIMED_LOG},
        "baskets.relation 'R' is in the shop's graph already",
    ),
    "a split without test rows": (
        '[split]\nmethod = "column"\ncolumn = "s"\n',
        {"log_csv": "user_id,item_id,s\nu,a,tst\n"},
        "log.csv: split column 's' never says 'test', did you mean 'tst'?",
    ),
    "a label that is no label": (
        '[interactions]\nlabel = "y"\n',
        {"log_csv": "user_id,item_id,y\nu,a,1\nu,b,2\n"},
        "log.csv: row 3, column 'y': 2 is neither 0 nor 1",
    ),
    "labels without a yes": (
        '[interactions]\nlabel = "y"\n',
        {"log_csv": "user_id,item_id,y\nu,a,0\nu,b,0\n"},
        "log.csv: no training row is labelled 1",
    ),
    "a broken position": (
        '[interactions]\nposition = "p"\n',
        {"log_csv": "user_id,item_id,p\nu,a,1.5\n"},
        "log.csv: row 2, column 'p': '1.5' is no whole number",
    ),
    "a price that is none": (
        '[items]\nderived = { price = { column = "paid" } }\n',
        {"log_csv": "user_id,item_id,paid\nu,a,free\n"},
        "log.csv: row 2, column 'paid': 'free' is no finite number",
    ),
    "a row that is too long": ("", {"log_csv": "user_id,item_id\nu,a,b\n"}, "a row has more cells than the header"),
    "a property of the graph's own name": (
        '[items]\nproperties = { id = "string" }\n',
        {},
        "'id' is a name of the graph's own",
    ),
    "bands of text": (
        ATTRIBUTE + "bands = 2\n",
        {"items_csv": "item_id,x\na,1\nb,dear\n"},
        "items.csv: row 3, column 'x': 'dear' is no finite number",
    ),
    "an unknown attribute column": (
        ATTRIBUTE.replace('"x"', '"y"'),
        {},
        "items.csv: no column 'y'; known: item_id, title",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_named_in_one_line(tmp_path, name):
    settings, files, complaint = BAD[name]
    with pytest.raises((DataError, ConfigError)) as error:
        load(tmp_path, settings, **files)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


SETTINGS = Path(__file__).parents[1] / "docs/shop-toml.md"


@pytest.mark.parametrize(
    "block", re.findall(r"^```toml\n(.*?)^```", SETTINGS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
)
def test_the_reference_shows_settings_that_are_read(tmp_path, block):
    (tmp_path / "shop.toml").write_text(block, encoding="utf-8")
    assert load_config(tmp_path / "shop.toml").shop.data == tmp_path / "files"


CATALOGUE = """[shop]
name = "words"
[items]
file = "items.csv"
[[nodes]]
file = "judged.csv"
label = "Query"
id = "query_id"
repeats = "first"
properties = { words = "string" }
[[edges]]
file = "judged.csv"
relation = "JUDGED"
source = "query_id"
source_label = "Query"
target = "item_id"
target_label = "Item"
properties = { score = "float" }
"""


@pytest.fixture
def words(tmp_path):
    (tmp_path / "items.csv").write_text("item_id\na\nb\nc\n")
    (tmp_path / "judged.csv").write_text("query_id,words,item_id,score\nq1,red mug,a,3\nq1,red mug,b,1\nq2,lamp,c,2\n")
    (tmp_path / "shop.toml").write_text(CATALOGUE)
    return tmp_path


def test_a_shop_without_interactions_is_a_catalogue_with_nodes_of_any_kind(words):
    found = load_catalogue(load_config(words / "shop.toml"))
    assert rows(found.nodes["Query"], "id", "words") == [("q1", "red mug"), ("q2", "lamp")]
    judged = found.edges[EdgeKey("Query", "JUDGED", "Item")]
    assert rows(judged, "source", "target", "score") == [("q1", "a", 3.0), ("q1", "b", 1.0), ("q2", "c", 2.0)]
    assert set(found.nodes) == {"Item", "Query"}
    assert found.interactions.num_rows == 0


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('repeats = "first"', "", "judged.csv: row 3, column 'query_id': 'q1' stands twice"),
        ('label = "Query"', 'label = "Item"', "nodes.Item: the shop has Item nodes already"),
        ('file = "items.csv"', "", "the shop has neither items nor interactions"),
        ('file = "items.csv"', 'file = "items.csv"\n[split]\nmethod = "random"\n', "[split] needs [interactions]"),
    ],
)
def test_a_catalogue_that_cannot_be_is_one_line(words, old, new, complaint):
    (words / "shop.toml").write_text(CATALOGUE.replace(old, new, 1))
    with pytest.raises(CatalographError) as caught:
        load_catalogue(load_config(words / "shop.toml"))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_catalogue_is_rebuilt_asked_and_not_evaluated(words, capsys):
    toml, out = str(words / "shop.toml"), str(words / "build")
    assert main(["rebuild", toml, "--out", out]) == 0
    assert "nothing to learn from" in capsys.readouterr().err
    question = "MATCH (q:Query)-[r:JUDGED]->(i:Item) RETURN q.words AS words, i.id AS item ORDER BY item LIMIT 1"
    assert main(["query", toml, "--out", out, "--cypher", question, "--format", "csv"]) == 0
    assert capsys.readouterr().out == "words,item\nred mug,a\n"
    assert main(["evaluate", toml, "--out", out]) == 2
    assert main(["recommend", toml, "--out", out, "--history", "a"]) == 2
