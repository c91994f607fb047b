"""Other graphs: what they keep, what the comparison finds where the answer was planted, and relations that leak."""

import csv

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catalograph.cli import main
from catalograph.kg.export import export_snapshot
from catalograph.kg.log import InteractionLog
from catalograph.pipeline import evaluation, fitting
from catalograph.pipeline.evaluation import run_evaluation
from catalograph.pipeline.workshop import open_workshop, opened_store
from catalograph.scoring.ablation import WITHOUT_GNN, graphs, shuffled_tails, verdict
from catalograph.scoring.evidence import Relation
from catalograph.scoring.folds import fold_of
from catalograph.scoring.leaks import linkages, shares
from catalograph.scoring.model import fit
from catalograph.scoring.segments import ndcg_within, segments_of

BRANDS, PER_BRAND = 60, 12
SHOP = """
[shop]
name = "brands"
[items]
file = "items.csv"
id = "item"
[[attributes]]
column = "brand"
relation = "MADE_BY"
label = "Brand"
[[attributes]]
column = "shelf"
relation = "LIES_ON"
label = "Shelf"
[interactions]
file = "sales.csv"
user = "user"
item = "item"
position = "position"
[split]
method = "last"
[gnn]
dim = 8
epochs = 1
[model]
pool_size = 50
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Two users a brand who never share an item: only the graph says what they take next. Shelves say nothing."""
    folder = tmp_path_factory.mktemp("brands")
    random = np.random.default_rng(0)
    with (folder / "items.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["item", "brand", "shelf"])
        for n in range(BRANDS * PER_BRAND):
            writer.writerow([f"i{n}", f"b{n % BRANDS}", f"s{random.integers(0, 20)}"])
    with (folder / "sales.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["user", "item", "position"])
        for user in range(2 * BRANDS):
            mine = random.permutation(np.arange(user // BRANDS, PER_BRAND, 2))
            writer.writerows([f"u{user}", f"i{number * BRANDS + user % BRANDS}", at] for at, number in enumerate(mine))
    (folder / "shop.toml").write_text(SHOP, encoding="utf-8")
    return folder / "shop.toml"


@pytest.fixture(scope="module")
def document(shop):
    workshop = open_workshop(shop, out=shop.parent / "build", device="cpu")
    return run_evaluation(workshop, baselines=False, ablation=True, each_relation=True)


def test_where_the_graph_is_the_only_signal_the_real_one_wins(document):
    rows = {row["graph"]: row for row in document["ablation"]}
    assert list(rows) == ["real", "shuffled", "empty", "without LIES_ON", "without MADE_BY", WITHOUT_GNN]
    assert rows["real"]["difference"] == 0
    for name in ("shuffled", "empty", "without MADE_BY"):
        assert rows[name]["ci95"][0] > 0.05, name
        assert rows["real"]["ndcg@10"] - rows[name]["ndcg@10"] == pytest.approx(rows[name]["difference"])
    assert rows["without LIES_ON"]["ci95"][0] < 0.05  # it was noise
    assert rows["empty"]["segments"]["new users"] == {key: rows["empty"][key] for key in ("difference", "ci95")}


def test_graphs_that_equal_the_real_one_are_not_fitted(shop, tmp_path, monkeypatch):
    """Both relations are there and neither is in use; without vectors to learn nothing is left to compare."""
    off = "".join(f"[relations.{name}]\nuse = false\n" for name in ("MADE_BY", "LIES_ON"))
    (tmp_path / "shop.toml").write_text(SHOP.replace("[gnn]", '[gnn]\nmodel = "none"') + off, encoding="utf-8")
    said, fits = [], []
    for module in (fitting, evaluation):
        monkeypatch.setattr(module, "fit", lambda given, say: fits.append(given) or fit(given, say))
    workshop = open_workshop(
        tmp_path / "shop.toml", data=shop.parent, out=tmp_path / "build", device="cpu", say=said.append
    )
    found = run_evaluation(workshop, baselines=False, ablation=True)
    assert [row["graph"] for row in found["ablation"]] == ["real"]
    assert len(fits) == 1
    assert "ablation  graphs shuffled and empty skipped: the model reads no relation" in "\n".join(said)


def test_the_document_lies_in_the_build_folder_beside_its_page(shop, document):
    assert (shop.parent / "build/metrics.json").is_file()
    assert "real − shuffled" in (shop.parent / "build/report.html").read_text("utf-8")


def test_the_report_says_whether_the_gnn_pays(shop, document):
    row = document["ablation"][-1]
    assert row["graph"] == WITHOUT_GNN
    assert document["gnn"] == verdict([row], 10)
    assert document["gnn"] in (shop.parent / "build/report.html").read_text("utf-8").replace("&#39;", "'")
    for ends, said in (([0.01, 0.03], "pay here"), ([-0.03, -0.01], "cost"), ([-0.01, 0.02], "not shown to pay")):
        assert said in verdict([row | {"ci95": ends}], 10)
    assert verdict(document["ablation"][:-1], 10) is None


def test_each_relation_without_ablation_is_one_line(shop, capsys):
    assert main(["evaluate", str(shop), "--each-relation", "--out", str(shop.parent / "build")]) == 2
    assert "give both" in capsys.readouterr().err


@settings(max_examples=60)
@given(
    pairs=st.sets(st.tuples(st.integers(0, 12), st.integers(0, 9)), max_size=60),
    among_items=st.booleans(),
    seed=st.integers(0, 99),
)
def test_shuffled_tails_keep_every_degree(pairs, among_items, seed):
    if among_items:
        pairs = {(a, b) for a, b in pairs if a != b}
    edges = torch.tensor(sorted(pairs), dtype=torch.int64).reshape(-1, 2).T
    found = shuffled_tails(edges, among_items, np.random.default_rng(seed))
    assert found.shape == edges.shape
    for side in (0, 1):
        assert torch.equal(found[side].bincount(minlength=13), edges[side].bincount(minlength=13))


def test_shuffled_tails_are_simple_and_new():
    random = np.random.default_rng(0)
    edges = torch.from_numpy(np.unique(random.integers(0, 60, (2, 700)), axis=1))
    edges = edges[:, edges[0] != edges[1]]
    found = shuffled_tails(edges, True, random)
    assert len(torch.unique(found, dim=1).T) == edges.size(1)
    assert not (found[0] == found[1]).any()
    kept = {*map(tuple, edges.T.tolist())} & {*map(tuple, found.T.tolist())}
    assert len(kept) < 0.4 * edges.size(1)  # a fifth by chance


def test_all_relations_of_a_graph_change_together_and_purchases_never(shop):
    workshop = open_workshop(shop, out=shop.parent / "build", device="cpu")
    with opened_store(workshop) as store:
        real = export_snapshot(store)
    made = dict(graphs(real, ["MADE_BY"], seed=0))
    again = dict(graphs(real, [], seed=0))
    assert made["shuffled"].digest == again["shuffled"].digest != real.digest
    bought = [key for key in real.relations() if key.relation == "INTERACTED" and real.relation(key).size(1)]
    for name, kept in (("shuffled", {"MADE_BY", "LIES_ON"}), ("empty", set()), ("without MADE_BY", {"LIES_ON"})):
        graph = made[name]
        there = {key.relation for key in graph.relations() if graph.relation(key).size(1)}
        assert there == kept | {"INTERACTED"}
        for key in bought:
            assert torch.equal(graph.relation(key), real.relation(key))
        for key in graph.relations():
            back = graph.data[key.target, "rev_" + key.relation, key.source].edge_index
            assert torch.equal(back.flip(0), graph.relation(key))


def test_segments_part_the_users_and_the_held_out_items():
    n_items = 30
    lengths = np.array([3, 10, 25, 5])
    user = np.repeat(np.arange(4), lengths)
    item = np.concatenate([np.arange(length) for length in lengths])
    hidden = InteractionLog(4, n_items, np.array([0, 1, 2, 2, 3]), np.array([29, 20, 28, 26, 5]))
    test = fold_of(InteractionLog(4, n_items, user, item), hidden, None)
    users = np.arange(4)
    segments = {segment.name: segment for segment in segments_of(test, users)}
    by_users = [segments[f"{name} users"].users.tolist() for name in ("new", "light", "heavy")]
    assert by_users == [[True, False, False, True], [False, True, False, False], [False, False, True, False]]
    kinds = np.stack([segments[f"{name} items"].items for name in ("head", "tail", "cold")])
    assert (kinds.sum(0) == 1).all()
    assert kinds[0].nonzero()[0].tolist() == [0, 1, 2, 3, 4]
    assert kinds[2].nonzero()[0].tolist() == [25, 26, 27, 28, 29]
    lists = np.array([[29, 1], [1, 2], [26, 28], [5, 6]])
    np.testing.assert_array_equal(ndcg_within(segments["cold items"], lists, test, users, 2), [1, np.nan, 1, np.nan])
    np.testing.assert_array_equal(ndcg_within(segments["tail items"], lists, test, users, 2), [np.nan, 0, np.nan, 1])


@pytest.fixture
def cut():
    """(test fold, fold of the training part, an attribute that says something about both)."""
    random = np.random.default_rng(0)
    n_users, n_items, kinds = 300, 200, 10
    user = np.repeat(np.arange(n_users), 12)
    item = (random.integers(0, n_items // kinds, len(user)) * kinds + user % kinds) % n_items
    item = np.where(random.random(len(user)) < 0.5, item, random.integers(0, n_items, len(user)))
    part = random.permutation(len(user)) % 4
    log = InteractionLog(n_users, n_items, user, item)
    test = fold_of(log.where(part > 0), log.where(part == 0), None)
    train = fold_of(log.where(part > 1), log.where(part == 1), None)
    kind = Relation("KIND", sp.csr_matrix(np.eye(kinds, dtype=np.float32)[np.arange(n_items) % kinds]), None, 0.3)
    return test, train, kind


def test_an_honest_attribute_links_test_and_training_items_alike(cut):
    test, train, kind = cut
    (found,) = linkages((kind,), test, train, frozenset())
    assert found.test > 0.2
    assert found.test == pytest.approx(found.train, rel=0.15)
    assert not found.suspicious


def test_a_relation_made_from_the_test_part_is_found(cut):
    test, train, kind = cut
    pairs = {
        tuple(sorted((test.seen.item[test.seen.user == u][0], i)))
        for u, i in zip(*test.held_out.nonzero(), strict=True)
    }
    source, target = np.array(sorted((a, b) for a, b in pairs if a != b)).T
    links = sp.csr_matrix((np.ones(len(source), np.float32), (source, target)), shape=(200, 200))
    leaking = Relation("SEEN_WITH", links, links, 1.0)
    honest, found = linkages((kind, leaking), test, train, frozenset({"KIND"}))
    assert found.suspicious
    assert found.ci95[0] > 0
    assert (honest.declared, honest.suspicious, found.declared) == (True, False, False)


def test_shares_count_pairs_that_are_linked_at_all():
    """User 0 has items 0, 1 and must find 2; 0-2 share two entities, 1-2 none: one pair of two."""
    log = InteractionLog(1, 3, np.array([0, 0]), np.array([0, 1]))
    fold = fold_of(log, InteractionLog(1, 3, np.array([0]), np.array([2])), None)
    members = sp.csr_matrix(np.array([[1, 1, 0], [0, 0, 1], [1, 1, 0]], np.float32))
    assert shares(Relation("R", members, None, 1.0), fold).tolist() == [0.5]
    links = sp.csr_matrix((np.ones(1, np.float32), ([2], [1])), shape=(3, 3))
    assert shares(Relation("R", members, links, 1.0), fold).tolist() == [1.0]
