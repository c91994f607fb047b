"""The benchmark shops load to the counts their data sets publish; skipped where the data is not."""

from pathlib import Path

import pytest

from catalograph.config import load_config
from catalograph.loaders.load import load_catalogue

SHOPS = Path(__file__).parents[1] / "benchmarks/shops"
# name -> users, items, training events, test events, triples kept, rows left out
COUNTS = {
    "amazon-beauty-pgpr": (22_363, 12_101, 149_844, 48_658, 239_344 + 651_837 + 155_350 + 9_021 + 10_021 + 49_756, 1),
    "amazon-beauty-loo": (22_363, 12_101, 176_139, 22_363, 10_021 + 49_756, 0),
    "amazon-beauty-loo-all": (22_363, 12_101, 176_139, 22_363, 891_181 + 155_350 + 9_021 + 10_021 + 49_756, 1),
    "amazon-sports-loo": (35_598, 18_357, 260_739, 35_598, 98_100, 0),
    "amazon-book-cf": (70_679, 24_915, 652_514, 193_920, 0, 0),
    "lastfm-kgcn": (1_872, 3_846, 25_408, 8_469, 15_518 - 49, 49),
}
# shops without customers: name -> nodes of some labels and edges of some relations
CATALOGUES = {
    "homedepot-search": ({"Item": 54_667, "Query": 9_436}, {"JUDGED": 59_200}),
    "clothing-reviews": ({"Review": 18_789, "Department": 6}, {"REVIEWS": 18_789}),
    "cosmetics-prices": ({"Item": 1_472, "Brand": 116, "Kind": 6, "PriceBand": 8}, {"MADE_BY": 1_472}),
    "laptops-prices": ({"Item": 1_303}, {"MADE_BY": 1_303}),
}


def test_every_benchmark_shop_is_counted():
    assert {file.stem for file in SHOPS.glob("*.toml")} == {*COUNTS, *CATALOGUES}


@pytest.mark.parametrize("name", CATALOGUES)
def test_counts_of_shops_without_customers(name):
    config = load_config(SHOPS / f"{name}.toml")
    if not config.shop.data.is_dir():
        pytest.skip(f"no data in {config.shop.data.name}")
    found, (nodes, edges) = load_catalogue(config), CATALOGUES[name]
    assert {label: found.nodes[label].num_rows for label in nodes} == nodes
    assert {key.relation: table.num_rows for key, table in found.edges.items() if key.relation in edges} == edges
    assert found.interactions.num_rows == 0


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    config = load_config(SHOPS / f"{name}.toml")
    if not config.shop.data.is_dir():
        pytest.skip(f"no data in {config.shop.data.name}")
    found = load_catalogue(config)
    users, items, train, test, triples, left_out = COUNTS[name]
    parts = found.interactions["part"].to_pylist()
    assert (found.nodes["User"].num_rows, found.nodes["Item"].num_rows) == (users, items)
    assert (parts.count("train"), parts.count("test")) == (train, test)
    assert sum(table.num_rows for key, table in found.edges.items() if key.source != "User") == triples
    assert sum(found.rejected.values()) == left_out
    assert set(config.relations) <= {key.relation for key in found.edges}
