"""The committed demo shop: its counts, its attributes, and that its script makes them again."""

import importlib.util
import shutil
from pathlib import Path

import polars as pl
import pytest

from catalograph.config import load_config
from catalograph.loaders.catalogue import EdgeKey
from catalograph.loaders.load import load_catalogue

SHOP = Path(__file__).parents[1] / "examples/online-retail"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("attributes", SHOP / "attributes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def demo():
    return load_catalogue(load_config(SHOP / "shop.toml"))


def test_the_script_makes_the_committed_attributes(script, tmp_path):
    shutil.copy(SHOP / "items.csv", tmp_path)
    script.main(tmp_path / "items.csv", tmp_path / "attributes.csv")
    committed = sorted(SHOP.glob("attributes-*.csv"))
    assert [file.name for file in committed] == sorted(file.name for file in tmp_path.glob("attributes-*.csv"))
    for file in committed:
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_attributes_are_read_out_of_descriptions(script):
    names = ["RED RETROSPOT MUG", "BLUE POLKADOT MUG", "SET OF 6 WOODEN OWL EGG CUPS", "OWL DOORSTOP", "SILVER OWL MUG"]
    facts = set(script.attributes_of(dict(zip("abcde", names, strict=True))))
    assert {fact for fact in facts if fact[0] == "a"} == {
        ("a", "KIND", "MUG"),
        ("a", "SUBKIND", "RETROSPOT MUG"),
        ("a", "MOTIF", "RETROSPOT"),
        ("a", "COLOUR", "RED"),
    }
    assert {("c", "SET_SIZE", "6"), ("c", "MATERIAL", "WOODEN"), ("c", "MOTIF", "OWL")} <= facts


def test_counts(demo):
    assert {label: table.num_rows for label, table in demo.nodes.items() if label in ("Item", "User")} == {
        "Item": 3969,
        "User": 4334,
    }
    assert demo.interactions.num_rows == 395_000
    assert demo.rejected == {}
    assert (SHOP / "transactions.parquet").stat().st_size < 4_000_000


def test_the_test_part_holds_33663_new_pairs_of_1455_customers(demo):
    """Pairs not bought before the cut by customers known before it; items first sold after the cut count too."""
    pairs = pl.from_arrow(demo.edges[EdgeKey("User", "HELD_OUT", "Item")]).select("source", "target")
    before = pl.from_arrow(demo.edges[EdgeKey("User", "INTERACTED", "Item")]).select("source", "target")
    known = pairs.join(before, on="source", how="semi")
    new = known.join(before, on=["source", "target"], how="anti")
    assert (new.height, new["source"].n_unique()) == (33_663, 1_455)


def test_prices_know_nothing_of_the_time_after_the_cut(demo):
    sales = pl.read_parquet(SHOP / "transactions.parquet").filter(pl.col("time") < pl.datetime(2011, 11, 1))
    expected = dict(sales.group_by("item").agg(pl.col("unit_price").median()).iter_rows())
    items = demo.nodes["Item"].select(["id", "price"]).to_pylist()
    assert {row["id"]: row["price"] for row in items if row["price"] is not None} == pytest.approx(expected)
    assert sum(row["price"] is None for row in items) == 3969 - len(expected)
