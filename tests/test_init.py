"""`catalograph init`: the draft loads as it stands and finds the right parts, or there is one clear line."""

import contextlib
import datetime as dt
import io
import json
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from shops import make_shop

from catalograph.cli import main
from catalograph.config import load_config
from catalograph.kg.checks import check_graph
from catalograph.loaders.draft_items import groups_of
from catalograph.loaders.draft_log import _cut
from catalograph.loaders.hints import Names, noun, words
from catalograph.loaders.load import load_catalogue
from catalograph.loaders.profile import Table
from catalograph.loaders.toml_draft import Block, render, toml

DEMO = Path(__file__).parents[1] / "examples/online-retail"
SHARED = Path(__file__).parents[1].parent / "shared/data"


def drafted(folder, *tables, out=None, **options):
    """The config and the catalogue of a draft for a folder, or for some of its tables."""
    out = out or folder / "draft.toml"
    arguments = ["init", *map(str, tables or [folder]), "--out", str(out), *(x for o in options.items() for x in o)]
    assert main(arguments) == 0
    return load_config(out), load_catalogue(load_config(out))


def refused(capsys, *arguments):
    assert main(["init", *map(str, arguments)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    return said


# Parts are found


def test_the_demo_shop(tmp_path):
    config, found = drafted(tmp_path, DEMO, out=tmp_path / "demo.toml")
    assert (config.items.file, config.items.id, config.items.title) == (Path("items.csv"), "item", "description")
    assert config.items.derived["price"].column == "unit_price"
    assert list(config.users.properties) == ["country"]
    assert {e.relation for e in config.edges} == {
        f"HAS_{name}" for name in ("COLOUR", "KIND", "MATERIAL", "MOTIF", "SET_SIZE", "SUBKIND")
    }
    log = config.interactions
    assert (log.user, log.item, log.time, log.quantity) == ("customer", "item", "time", "quantity")
    assert (config.split.method, config.split.at) == ("time", dt.date(2011, 11, 21))
    assert config.baskets is not None
    assert config.shop.name == "demo"
    assert found.nodes["Item"].num_rows == 3969
    assert found.interactions.num_rows == 395_000
    assert found.rejected == {}


PARTS = {  # data set -> id and title of items, user, item and time of events, split, a relation, users, items
    "amazon-beauty": (("item_id", "title"), ("user_id", "item_id", None), "column", "PRODUCED_BY", 22_363, 12_101),
    "amazon-sports": (("item_id", "keywords"), ("user_id", "item_id", None), "column", "BELONGS_TO", 35_598, 18_357),
    "amazon-book-cf": (("item_id", None), ("user_id", "item_id", None), "column", None, 70_679, 24_915),
    "lastfm-kgcn": (("item_id", "name"), ("user_id", "item_id", None), "column", "MUSIC_ARTIST_ORIGIN", 1_872, 3_846),
    "online-retail": (
        ("sku_id", "description"),
        ("customer_id", "sku_id", "invoice_date"),
        "time",
        "IN_MEDIAN_PRICE_BAND",
        4_334,
        3_969,
    ),
}


@pytest.mark.parametrize("name", PARTS)
def test_public_data_sets(tmp_path, name):
    if not (SHARED / name).is_dir():
        pytest.skip(f"no data in {name}")
    item, event, split, relation, users, items = PARTS[name]
    config, found = drafted(tmp_path, SHARED / name, out=tmp_path / "draft.toml")
    log = config.interactions
    assert (config.items.id, config.items.title) == item
    assert (log.user, log.item, log.time) == event
    assert config.split.method == split
    assert relation is None or relation in {key.relation for key in found.edges}
    assert (found.nodes["User"].num_rows, found.nodes["Item"].num_rows) == (users, items)


def as_csv(folder):
    return [folder / "items.csv", folder / "sales.csv"]


def as_parquet(folder):
    pl.read_csv(folder / "items.csv").write_parquet(folder / "items.parquet")
    pl.read_csv(folder / "sales.csv", try_parse_dates=True).write_parquet(folder / "sales.parquet")
    return [folder / "items.parquet", folder / "sales.parquet"]


def as_json_lines(folder):
    pl.read_csv(folder / "items.csv").write_ndjson(folder / "items.jsonl")
    sales = pl.read_csv(folder / "sales.csv", try_parse_dates=True)
    sales.with_columns(pl.col("time").dt.epoch("s")).write_ndjson(folder / "sales.jsonl")
    return [folder / "items.jsonl", folder / "sales.jsonl"]


@pytest.mark.parametrize("form", [as_csv, as_parquet, as_json_lines])
def test_generated_shops_of_every_form(tmp_path, form):
    make_shop(tmp_path)
    config, found = drafted(tmp_path, *form(tmp_path))
    assert (config.items.id, config.items.title) == ("item", "name")
    assert config.items.properties["price"].type == "float"
    assert {a.relation: (a.levels, a.bands) for a in config.attributes} == {
        "IN_CATEGORY": (" > ", None),
        "IN_PRICE_BAND": (None, 8),
    }
    assert (config.interactions.time, config.interactions.quantity) == ("time", "quantity")
    assert config.split.method == "time"
    assert found.interactions.num_rows == 720
    parts = found.interactions["part"].to_pylist()
    assert 0.05 < parts.count("test") / len(parts) < 0.2


def test_names_that_differ_between_files_and_are_found_by_their_values(tmp_path):
    random = np.random.default_rng(0)
    products = pl.DataFrame({"artNo": [f"A{n}" for n in range(30)], "Title": [f"Thing number {n}" for n in range(30)]})
    events = {"customerID": random.integers(0, 9, 200), "article": [f"A{n}" for n in random.integers(0, 30, 200)]}
    products.write_csv(tmp_path / "catalogue.csv")
    pl.DataFrame(events).write_csv(tmp_path / "log.csv")
    config, _ = drafted(tmp_path)
    assert (config.items.id, config.items.title) == ("artNo", "Title")
    assert (config.interactions.user, config.interactions.item) == ("customerID", "article")
    assert config.split.method == "random"


def test_lists_users_facts_and_rows_to_set_aside(tmp_path):
    (tmp_path / "products.csv").write_text(
        "sku,name,tags\n"
        + "".join(f"{n},Tea no {n},{'red|blue' if n % 2 else 'red'}\n" for n in range(20))
        + "3,Again,red\n"
    )
    (tmp_path / "customers.csv").write_text("email,town\n" + "".join(f"u{n}@x,{'RB'[n % 2]}\n" for n in range(8)))
    (tmp_path / "suppliers.csv").write_text(
        "sku,supplier,share\n" + "".join(f"{n},S{n % 4},0.{n}\n" for n in range(1, 20))
    )
    log = [f"u{n % 8}@x,{n % 21},{1 + n % 3},{1_700_000_000 + n * 86_400}\n" for n in range(100)]
    (tmp_path / "orders.csv").write_text("customer_email,sku,qty,ordered_at\n" + "".join(log) + ",1,1,1700000000\n")
    config, found = drafted(tmp_path)
    (tags,) = config.attributes
    assert (tags.relation, tags.label, tags.separator) == ("HAS_TAG", "Tag", "|")
    assert (config.users.file, config.users.id, list(config.users.properties)) == (
        Path("customers.csv"),
        "email",
        ["town"],
    )
    (edges,) = config.edges
    assert (edges.relation, edges.target_label, list(edges.properties)) == ("HAS_SUPPLIER", "Supplier", ["share"])
    log = config.interactions
    assert (log.user, log.time, log.time_unit, log.quantity) == ("customer_email", "ordered_at", "s", "qty")
    assert log.missing_user == "drop"
    assert config.shop.on_bad_rows == "quarantine"
    text = (tmp_path / "draft.toml").read_text("utf-8")
    assert "# 1 rows of products.csv repeat an id" in text
    assert "# 4 rows of orders.csv have an item that is not in products.csv" in text
    assert "21 rows" in text
    assert sum(found.rejected.values()) == 1 + 1 + 4


# The file


def test_a_draft_is_not_overwritten_unasked(tmp_path, capsys):
    make_shop(tmp_path, toml="# mine\n")
    said = refused(capsys, tmp_path, "--out", tmp_path / "shop.toml")
    assert "is there already; say --force" in said
    assert (tmp_path / "shop.toml").read_text() == "# mine\n"
    assert main(["init", str(tmp_path), "--out", str(tmp_path / "shop.toml"), "--force"]) == 0
    assert load_config(tmp_path / "shop.toml").items.id == "item"


def test_a_draft_on_stdout_and_one_beside_other_folders(tmp_path, capsys, monkeypatch):
    make_shop(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert main(["init", "data", "--out", "-", "--name", "My Shop"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    assert tomllib.loads(told.out)["shop"] == {"name": "my-shop", "data": "data"}
    (tmp_path / "configs").mkdir()
    config, _ = drafted(tmp_path, "data/items.csv", "data/sales.csv", out=Path("configs/tea.toml"))
    assert (config.shop.name, config.shop.data) == ("tea", tmp_path / "data")


REFUSED = {
    "nothing to look at": ([], "init needs either FILE… or --store"),
    "both": (["x.csv", "--store", "neo4j://h"], "init needs either FILE… or --store"),
    "no such file": (["nope.csv"], "nope.csv: no such file"),
    "an empty folder": (["empty"], "no table in this folder"),
    "no table": (["notes.txt"], "the name must end in .csv"),
    "no log": (["plain.csv"], "no table tells who took what: none of plain.csv has a column of users and one of items"),
    "an unknown column": (
        ["plain.csv", "--user", "colr"],
        "there is no column 'colr' (--user), did you mean 'colour'?",
    ),
    "no folder to write to": (["plain.csv", "--out", "no/shop.toml"], "there is no folder no"),
    "a file that is torn": (["torn.parquet"], "torn.parquet: cannot be read"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_drafted_is_one_clear_line(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "plain.csv").write_text("colour,size\nred,1\nblue,2\n")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    arguments, complaint = REFUSED[name]
    assert complaint in refused(capsys, *arguments)
    assert not (tmp_path / "shop.toml").exists()


# Whatever the tables

CELL = st.one_of(
    st.none(),
    st.text(max_size=6),
    st.integers(-5, 2_000_000_000),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.booleans(),
    st.dates(dt.date(1, 1, 1)),
    st.sampled_from(["train", "test", "a > b", "a|b", "x;y", "u1", "i1", "i2", "0", "1"]),
)
HEADS = [
    "user",
    "item",
    "item_id",
    "time",
    "price",
    "title",
    "quantity",
    "split",
    "label",
    "id",
    "value",
    "tags",
    "kind",
]
NAME = st.one_of(st.sampled_from(HEADS), st.text(min_size=1, max_size=8))


IDS = st.sampled_from(["a", "b", "c", "7", " d ", None])


@st.composite
def tables(draw):
    """Columns of a few kinds of cells each, most of them called like something of a shop; often a log or items."""
    ids = draw(st.sampled_from([(), ("user", "item"), ("item",), ("head", "relation", "tail")]))
    names = [
        *ids,
        *draw(st.lists(NAME.filter(lambda name: name not in ids), min_size=not ids, max_size=5, unique=True)),
    ]
    rows = draw(st.integers(1, 12))
    kinds = [st.sampled_from(draw(st.lists(CELL, min_size=1, max_size=5))) for _ in names]
    kinds[: len(ids)] = [IDS] * len(ids)
    return {name: draw(st.lists(kind, min_size=rows, max_size=rows)) for name, kind in zip(names, kinds, strict=True)}


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=100, deadline=None)
@given(st.lists(tables(), min_size=1, max_size=3), st.booleans())
def test_any_tables_give_a_draft_that_loads_or_one_clear_line(tmp_path_factory, found, as_lines):
    folder = tmp_path_factory.mktemp("any")
    files = []
    for n, table in enumerate(found):
        rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
        if as_lines:
            files.append(folder / f"items{n}.jsonl")
            files[-1].write_text("".join(json.dumps(row, default=str) + "\n" for row in rows), "utf-8")
        else:
            files.append(folder / f"log {n}.csv")
            text = {name: [None if v is None else str(v) for v in cells] for name, cells in table.items()}
            pl.DataFrame(text, schema=dict.fromkeys(text, pl.String)).write_csv(files[-1], quote_style="always")
    out = folder / "shop.toml"
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        done = main(["init", *map(str, files), "--out", str(out)])
    (line,) = said.getvalue().splitlines()
    assert done == (0 if out.exists() else 2)
    assert out.exists() or "no table tells who took what" in line or "cannot be read" in line  # a draft always loads
    event("drafted" if out.exists() else "refused")
    if out.exists():
        catalogue = load_catalogue(load_config(out))
        check_graph(catalogue.nodes, catalogue.edges)


# The pieces


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("customerID", ("customer", "id")),
        ("unit_price", ("unit", "price")),
        ("SKU Number", ("sku", "number")),
        ("größe", ("größe",)),
        ("HTMLText2", ("html", "text", "2")),
        ("--", ()),
    ],
)
def test_names_are_taken_apart(name, parts):
    assert words(name) == parts


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("category_paths", ["category"]),
        ("tags", ["tag"]),
        ("top_categories", ["top", "category"]),
        ("class", ["class"]),
        ("--", ["value"]),
    ],
)
def test_nouns(name, parts):
    assert noun(name) == parts


def test_names_are_given_once_and_can_be_used():
    names = Names(["Item"])
    assert [names.label(["item"]), names.label(["item"]), names.label(["a`b"])] == ["Item_2", "Item_3", "Value"]
    assert names.relation(["category"]) == "IN_CATEGORY"
    assert names.property("Größe (cm)") == "Gr_e_cm"
    assert names.property("2nd") == "column_2nd"


@pytest.mark.parametrize(
    ("cells", "separator", "levels"),
    [
        (["red", "blue", "red", "red"], None, None),
        (["a > b", "a > c", "a > b > d", "a > c"], None, " > "),
        (["x|y", "y", "x|z", "z|y"], "|", None),
        (["a > b | a > c", "a > b", "a > c | a > b", "a > d | a > b"], "|", " > "),
        (["sweet, sour", "sour", "sweet, salty", "sour, salty"], ",", None),
    ],
)
def test_columns_that_group_items(tmp_path, cells, separator, levels):
    pl.DataFrame({"x": cells * 3}).write_csv(tmp_path / "t.csv", quote_style="always")
    found = groups_of(Table.read(tmp_path / "t.csv").columns["x"])
    assert found is not None
    assert (found.separator, found.levels) == (separator, levels)


@pytest.mark.parametrize(
    "cells",
    [
        ["a", "b", "c", "d"],
        ["Mug, red and blue, with a handle", "Cup, green, for tea and coffee", "Pot, big, for tea", "Jar, small, old"],
        ["1.5", "2.5", "1.5", "2.5"],
    ],
)
def test_columns_that_do_not(tmp_path, cells):
    pl.DataFrame({"x": cells}).write_csv(tmp_path / "t.csv", quote_style="always")
    assert groups_of(Table.read(tmp_path / "t.csv").columns["x"]) is None


DAY = 86_400_000


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        (np.arange(100) * DAY, (dt.date(1970, 4, 1), 0.1, 90)),
        (np.arange(100) * 60_000, (dt.datetime(1970, 1, 1, 1, 30), 0.1, 0)),
        (np.array([0] * 99 + [5]), (dt.datetime(1970, 1, 1, 0, 0, 0, 5000), 0.01, 0)),
        (np.zeros(9), None),
    ],
)
def test_the_newest_tenth_is_held_out_from_a_midnight_on(moments, expected):
    found = _cut(moments.astype(np.int64))
    assert found == (expected and (expected[0], pytest.approx(expected[1]), expected[2]))


VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(), st.dates()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)


@settings(deadline=None)
@given(VALUES, st.text(), st.text())
def test_what_is_rendered_is_read_back(value, key, why):
    block = Block("[x]", why=[why])
    block.add(key, value, why)
    block.add("off", 1, why, off=True)
    assert tomllib.loads(render([why], [block])) == {"x": {key: value}}
    assert tomllib.loads(f"a = {toml(value)}")["a"] == value
