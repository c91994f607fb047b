"""Batches of changes as files and as dictionaries: read back alike, refused with one line that says where and what."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalograph import Changes
from catalograph.config import EdgesSection, ShopConfig, SplitSection, load_config
from catalograph.errors import DataError
from catalograph.kg.net import net_of
from catalograph.kg.replay import Tables, replayed
from catalograph.kg.schema import Schema
from catalograph.loaders.catalogue import Catalogue, EdgeKey
from catalograph.loaders.changes import read_changes
from catalograph.loaders.load import interaction_edges, load_catalogue

STARTED = '{"batch": "1"}\n'
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
VALUES = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)


@given(TEXTS, st.dictionaries(TEXTS, VALUES, max_size=3), st.integers(0, 2**40))
def test_any_batch_comes_back_from_its_lines(tmp_path_factory, id_, properties, at):
    changes = [
        {
            "op": "upsert_item",
            "id": id_,
            "properties": properties,
            "relations": {id_: [id_, {"label": "B", "id": id_}]},
        },
        {"op": "interaction", "user": id_, "item": 7, "at": at},
    ]
    batch = Changes.of("an id", changes)
    file = tmp_path_factory.mktemp("changes") / "x.jsonl"
    file.write_text(batch.text() + Changes.of("another", []).text(), "utf-8", newline="")
    back, empty = read_changes(file)
    assert back.changes == batch.changes
    assert (empty.id, empty.changes) == ("another", ())


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "it is empty; let the first line be"),
        ('{"op": "retire_item", "id": "a"}', "line 1: no batch has begun"),
        ('{"batch": ""}', "line 1: '' is no batch id"),
        ('{"batch": "1", "id": 3}', "line 1: 'id' beside 'batch'"),
        (STARTED + STARTED, "line 2: batch '1' begins a second time"),
        (STARTED + "{", "line 2: no JSON"),
        (STARTED + "[]", "line 2: a list; write one JSON object a line"),
        (STARTED + "[" * 100_000, "line 2: no JSON"),
        (
            STARTED + '{"op": "upsert_itme", "id": "a"}',
            "line 2, field 'op': 'upsert_itme' is no change, did you mean 'upsert_item'",
        ),
        (STARTED + '{"id": "a"}', "line 2, field 'op': None is no change; known: upsert_item"),
        (STARTED + '{"op": "retire_item"}', "line 2, field 'id' is missing"),
        (STARTED + '\n\n{"op": "retire_item", "id": " "}', "line 4, field 'id': ' ': an id is not empty"),
        (STARTED + '{"op": "retire_item", "id": 1.5}', "line 2, field 'id': 1.5: an id is a text or a whole number"),
        (STARTED + '{"op": "retire_item", "id": "\\ud800"}', "line 2, field 'id': .*valid Unicode"),
        (STARTED + '{"op": "retire_item", "id": "a", "itme": 1}', "line 2, field 'itme': there is no such field"),
        (
            STARTED + '{"op": "interaction", "user": "u", "item": "i", "at": "soon"}',
            "field 'at': 'soon': a time is ISO 8601",
        ),
        (
            STARTED + '{"op": "interaction", "user": "u", "item": "i", "position": 1' + "0" * 30 + "}",
            "field 'position': 1000",
        ),
        (
            STARTED + '{"op": "interaction", "user": "u", "item": "i", "quantity": 1' + "0" * 400 + "}",
            "field 'quantity': 1000",
        ),
        (STARTED + '{"op": "interaction", "user": "u", "item": "i", "quantity": NaN}', "field 'quantity': nan"),
        (
            STARTED + '{"op": "upsert_item", "id": "i", "properties": {"p": Infinity}}',
            "field 'properties.p': inf: a number is finite",
        ),
        (
            STARTED + '{"op": "upsert_item", "id": "i", "properties": {"p": [1]}}',
            r"field 'properties.p': \[1\]: a property is",
        ),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_line_and_the_field(tmp_path, text, complaint):
    file = tmp_path / "x.jsonl"
    file.write_text(text, "utf-8")
    with pytest.raises(DataError, match=complaint) as found:
        read_changes(file)
    assert str(found.value).startswith(str(file))
    assert "\n" not in str(found.value)


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"batch": "\xff"}')
    with pytest.raises(DataError, match="byte 11 is not UTF-8"):
        read_changes(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_changes(tmp_path / "y.jsonl")


CONFIG = ShopConfig.model_validate(
    {"shop": {"name": "s"}, "items": {"file": "i.csv"}, "interactions": {"file": "e.csv", "time": "t"}}
)
NODES = {
    "Item": pa.table({"id": ["a", "b", "c"], "price": [1.0, 2.0, None], "sold": pa.array([1, 2, 3])}),
    "User": pa.table({"id": ["u"]}),
    "Brand": pa.table({"id": ["x", "y"], "name": ["X", "Y"]}),
    "Maker": pa.table({"id": ["m"]}),
}
BY, SOLD = EdgeKey("Item", "BY", "Brand"), EdgeKey("Item", "BY", "Maker")
EDGES = {
    BY: pa.table({"source": ["a", "b"], "target": ["x", "x"], "sure": [True, False]}),
    SOLD: pa.table({"source": ["c"], "target": ["m"]}),
    EdgeKey("Item", "LIKE", "Item"): pa.table({"source": ["a"], "target": ["b"]}),
    EdgeKey("User", "INTERACTED", "Item"): pa.table({"source": ["u"], "target": ["a"], "count": [1]}),
}
EVENTS = pa.table({"user": ["u", "u"], "item": ["a", "c"], "part": ["train"] * 2, "at": [1_000, 2_000]})
SHOP = Catalogue("Item", "User", NODES, EDGES, EVENTS)


def after(*changes):
    return replayed(SHOP, [Changes.of("1", changes)], CONFIG)


def rows(table):
    return sorted(tuple(row.values()) for row in table.to_pylist())


def test_changes_count_in_their_order():
    found = after(
        {
            "op": "upsert_item",
            "id": "d",
            "properties": {"sold": 4.0},
            "relations": {"BY": [{"label": "Brand", "id": "z"}]},
        },
        {"op": "upsert_item", "id": "d", "properties": {"price": 4}},
        {"op": "upsert_item", "id": "a", "relations": {"BY": []}},
        {"op": "upsert_node", "label": "Brand", "id": "x", "properties": {"name": "Xu"}},
        {"op": "unrelate", "source": "b", "relation": "BY", "target": {"label": "Brand", "id": "x"}},
        {"op": "relate", "source": "b", "relation": "BY", "target": {"label": "Brand", "id": "x"}},
        {"op": "retire_item", "id": "c"},
    )
    assert rows(found.nodes["Item"]) == [("a", 1.0, 1), ("b", 2.0, 2), ("d", 4.0, 4)]
    assert rows(found.nodes["Brand"]) == [("x", "Xu"), ("y", "Y"), ("z", "z")]
    assert rows(found.edges[BY]) == [("b", "x", None), ("d", "z", None)]
    assert rows(found.edges[SOLD]) == []
    assert found.interactions["item"].to_pylist() == ["a"]


def test_an_edge_that_leaves_its_item_may_be_told_from_the_other_end():
    brand = {"source": {"label": "Brand", "id": "y"}, "relation": "BY"}
    found = after({"op": "relate", "target": "a", **brand}, {"op": "relate", "target": "b", **brand})
    assert rows(found.edges[BY]) == [("a", "x", True), ("a", "y", None), ("b", "x", False), ("b", "y", None)]
    found = after({"op": "relate", "target": "b", **brand}, {"op": "unrelate", "target": "b", **brand})
    assert rows(found.edges[BY]) == [("a", "x", True), ("b", "x", False)]


MADE = """
[shop]
name = "made"
[items]
properties = { price = "float", tags = "string", kind = "string", gone = "string" }
[[attributes]]
column = "price"
relation = "COSTS"
label = "Band"
bands = [1, 5, 12]
[[attributes]]
column = "tags"
relation = "TAGGED"
label = "Tag"
separator = ","
missing = ["none"]
[[attributes]]
column = "kind"
relation = "OF_KIND"
label = "Kind"
levels = " > "
"""
TAGS, KINDS = (
    st.sampled_from(["red", "blue, red", "none", "", "tall"]),
    st.sampled_from(["A > B", "A", "A > C > D", ""]),
)
PRICES = st.sampled_from(["", "0.5", "1", "4.999", "5", "1000"])


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder for a shop's files, and a function that reads the catalogue out of these rows."""
    folder = tmp_path_factory.mktemp("shelf")
    (folder / "shop.toml").write_text(MADE.replace("[items]", '[items]\nfile = "items.csv"\nid = "id"'))
    config = load_config(folder / "shop.toml")

    def read(*rows):
        (folder / "items.csv").write_text("\n".join(["id,price,tags,kind,gone", *map('%s,%s,"%s",%s,'.__mod__, rows)]))
        return load_catalogue(config)

    return config, read


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PRICES, TAGS, KINDS, PRICES, TAGS, KINDS)
def test_attributes_follow_the_properties_they_are_made_from(shelf, price, tags, kind, new_price, new_tags, new_kind):
    config, read = shelf
    other = ("b", "3", "tall", "A > B")
    before, expected = read(("a", price, tags, kind), other), read(("a", new_price, new_tags, new_kind), other)
    values = {"price": float(new_price) if new_price else None, "tags": new_tags or None, "kind": new_kind or None}
    change = {"op": "upsert_item", "id": "a", "properties": values}
    twice = {"op": "upsert_item", "id": "a", "properties": {"gone": "x", "price": 3}}
    found = replayed(before, [Changes.of("0", [twice]), Changes.of("1", [change])], config)
    for key in (EdgeKey("Item", "COSTS", "Band"), EdgeKey("Item", "TAGGED", "Tag"), EdgeKey("Item", "OF_KIND", "Kind")):
        assert rows(found.edges[key]) == rows(expected.edges[key])
    assert {row["id"]: row["name"] for row in expected.nodes["Kind"].to_pylist()}.items() <= {
        row["id"]: row["name"] for row in found.nodes["Kind"].to_pylist()
    }.items()
    tree = EdgeKey("Kind", "SUBCATEGORY_OF", "Kind")
    assert set(rows(expected.edges[tree])) <= set(rows(found.edges[tree]))
    assert found.nodes["Band"] == before.nodes["Band"]


def test_quantiles_stay_where_they_were_cut_and_a_relation_that_is_named_stays_as_it_is_told(shelf):
    config, read = shelf
    read(("a", "1", "", ""), ("b", "3", "", ""), ("c", "9", "", ""))
    config = config.model_copy(update={"attributes": (config.attributes[0].model_copy(update={"bands": 2}),)})
    before = load_catalogue(config)
    cut = [row["high"] for row in before.nodes["Band"].to_pylist() if row["high"] is not None]
    change = {"op": "upsert_item", "id": "new", "properties": {"price": cut[0]}}
    (edges,) = replayed(before, [Changes.of("1", [change])], config).edges.values()
    assert ("new", f"{cut[0]:g} and up") in rows(edges)
    named = change | {"relations": {"COSTS": [f"below {cut[0]:g}"]}}
    (edges,) = replayed(before, [Changes.of("1", [named])], config).edges.values()
    assert [band for item, band in rows(edges) if item == "new"] == [f"below {cut[0]:g}"]


def bands_of(found, item="a"):
    return [band for one, band in rows(found.edges[EdgeKey("Item", "COSTS", "Band")]) if one == item]


def test_a_relation_that_was_named_once_stays_until_the_property_leads_elsewhere(shelf):
    config, read = shelf
    before = read(("a", "3", "", ""), ("b", "6", "", ""))
    for named in (["12 and up"], []):
        told = {"op": "upsert_item", "id": "a", "relations": {"COSTS": named}}
        for price, expected in ((4, named), (7, ["5-12"])):  # in the band of the old price, and in another
            value = {"op": "upsert_item", "id": "a", "properties": {"price": price}}
            assert bands_of(replayed(before, [Changes.of("1", [told]), Changes.of("2", [value])], config)) == expected
            assert bands_of(replayed(before, [Changes.of("1", [told, value])], config)) == expected


def test_a_band_that_is_retired_stays_so_until_an_item_gets_there(shelf):
    config, read = shelf
    before = read(("a", "3", "", ""), ("b", "6", "", ""))
    retired = {"op": "retire_node", "label": "Band", "id": "12 and up"}
    value = {"op": "upsert_item", "id": "a", "properties": {"price": 7}}
    found = replayed(before, [Changes.of("1", [retired, value])], config)
    assert bands_of(found) == ["5-12"]
    assert "12 and up" not in found.nodes["Band"]["id"].to_pylist()
    with pytest.raises(DataError, match="field 'properties', which lead to it by COSTS: Band '12 and up' is retired"):
        replayed(before, [Changes.of("1", [retired, value | {"properties": {"price": 70}}])], config)


def test_a_relation_that_edges_tell_as_well_does_not_follow(shelf):
    config, read = shelf
    before = read(("a", "3", "red", ""), ("b", "6", "", ""))
    told = EdgesSection(file="x.csv", relation="TAGGED", target="t", target_label="Tag")
    config = config.model_copy(update={"edges": (told,)})
    value = {"op": "upsert_item", "id": "a", "properties": {"tags": "tall", "price": 70}}
    found = replayed(before, [Changes.of("1", [value])], config)
    assert rows(found.edges[EdgeKey("Item", "TAGGED", "Tag")]) == [("a", "red")]
    assert bands_of(found) == ["12 and up"]


def test_interactions_come_in_time_order_and_the_same_one_counts_once():
    event = {"op": "interaction", "user": "u", "item": "b", "at": 1_500}
    found = after(event, event, event | {"item": "a", "at": 1_000}, event | {"user": "v", "at": "1970-01-01T00:00:03Z"})
    assert found.interactions["user"].to_pylist() == ["u", "u", "u", "v"]
    assert found.interactions["item"].to_pylist() == ["a", "b", "c", "b"]
    assert found.nodes["User"]["id"].to_pylist() == ["u", "v"]
    found = after(event, {"op": "retire_interaction", "user": "u", "item": "b"}, event | {"at": 9})
    assert found.interactions["item"].to_pylist() == ["b", "a", "c"]


LAST = CONFIG.model_copy(update={"split": SplitSection(method="last")})
HELD = EdgeKey("User", "HELD_OUT", "Item")
CUT = replace(
    SHOP,
    interactions=EVENTS.set_column(2, "part", pa.array(["train", "test"])),
    edges=EDGES | {HELD: pa.table({"source": ["u"], "target": ["c"], "count": [1]})},
)


@pytest.mark.parametrize(
    ("at", "parts"), [(1_500, ["train", "train", "test"]), (2_500, ["train", "overtaken", "train"])]
)
def test_a_held_out_interaction_that_training_goes_on_after_is_no_question_of_the_test(at, parts):
    found = replayed(CUT, [Changes.of("1", [{"op": "interaction", "user": "u", "item": "b", "at": at}])], LAST)
    assert found.interactions["part"].to_pylist() == parts
    assert found.edges[HELD]["target"].to_pylist() == ["c"]


def test_a_held_out_interaction_that_is_retired_leaves_the_graph():
    found = replayed(CUT, [Changes.of("1", [{"op": "retire_interaction", "user": "u", "item": "c"}])], LAST)
    assert found.edges[HELD].num_rows == 0


def test_edges_of_interactions_are_made_once_however_many_batches_there_are(monkeypatch):
    made = []
    monkeypatch.setattr(
        "catalograph.kg.replay.interaction_edges", lambda *told: made.append(told) or interaction_edges(*told)
    )
    batches = [Changes.of(str(n), [{"op": "interaction", "user": "u", "item": "b", "at": 3_000 + n}]) for n in range(5)]
    found = replayed(SHOP, batches, CONFIG)
    assert found.interactions.num_rows == 7
    assert rows(found.edges[EdgeKey("User", "INTERACTED", "Item")]) == [
        ("u", "a", 1, 1_000, 1_000),
        ("u", "b", 5, 3_000, 3_004),
        ("u", "c", 1, 2_000, 2_000),
    ]
    assert len(made) == 1


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ([{"op": "retire_item", "id": "q"}], "change 1, field 'id': there is no Item 'q'"),
        ([{"op": "upsert_item", "id": "a", "properties": {"prise": 1}}], "no such property, did you mean 'price'"),
        ([{"op": "upsert_item", "id": "a", "properties": {"price": "dear"}}], "'dear' is no float64; write a number"),
        ([{"op": "upsert_item", "id": "a", "properties": {"sold": 1.5}}], "'1.5' is no int64"),
        ([{"op": "upsert_item", "id": "a", "properties": {"sold": 2**63}}], "is no int64"),
        ([{"op": "upsert_item", "id": "a", "properties": {"price": 10**400}}], "is no float64; write a number"),
        (
            [{"op": "upsert_item", "id": "a", "relations": {"BYE": ["x"]}}],
            "field 'relations.BYE': the graph has no 'BYE' of Item, did you mean 'BY'",
        ),
        (
            [{"op": "upsert_item", "id": "a", "relations": {"BY": ["x"]}}],
            'BY leads to Brand, Maker; write {"label": "Brand", "id": "x"}',
        ),
        (
            [{"op": "upsert_item", "id": "a", "relations": {"LIKE": ["q"]}}],
            "field 'relations.LIKE': there is no Item 'q'",
        ),
        (
            [{"op": "upsert_item", "id": "a", "relations": {"INTERACTED": ["u"]}}],
            "INTERACTED is made from the interactions",
        ),
        ([{"op": "upsert_node", "label": "Item", "id": "a"}], "Item nodes are the shop's items; say upsert_item"),
        ([{"op": "retire_node", "label": "Brad", "id": "x"}], "the graph has no 'Brad', did you mean 'Brand'"),
        ([{"op": "interaction", "user": "u", "item": "a"}], "field 'at' is missing"),
        ([{"op": "interaction", "user": "u", "item": "q", "at": 1}], "field 'item': there is no Item 'q'"),
        ([{"op": "interaction", "user": "u", "item": "a", "at": 1, "quantity": 2}], "the shop has no such column"),
        (
            [{"op": "retire_item", "id": "a"}, {"op": "upsert_item", "id": "a"}],
            "change 2, field 'id': Item 'a' is retired earlier",
        ),
    ],
)
def test_a_change_that_does_not_fit_is_one_line_that_says_what_to_do(changes, complaint):
    with pytest.raises(DataError) as found:
        net_of(Changes.of("1", changes), CONFIG, Schema.of(NODES, EDGES), Tables(NODES))
    assert complaint in str(found.value)
    assert "\n" not in str(found.value)


def test_a_batch_of_dictionaries_is_checked_as_a_file_is():
    with pytest.raises(DataError, match="batch 'x', change 2, field 'op': 'nothing' is no change"):
        Changes.of("x", [{"op": "retire_item", "id": "a"}, {"op": "nothing"}])
    with pytest.raises(DataError, match="is no batch id"):
        Changes.of("a\nb", [])
    assert json.loads(Changes.of("x", [{"op": "retire_item", "id": 7}]).text().splitlines()[1])["id"] == "7"
