"""Learned relation vectors: planted structure is found, seeds and edge orders do not matter, own modules fit in."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn
from torch_geometric.data import HeteroData
from torch_geometric.nn import HeteroConv, SAGEConv

from catalograph.config import GnnSection
from catalograph.errors import CatalographError, ConfigError
from catalograph.gnn.embed import Weights
from catalograph.gnn.model import RelationalEncoder, Spread, graph_for_training
from catalograph.gnn.train import _Lessons, propagate, train_relational
from catalograph.gnn.walks import LARGEST, SMALLEST, informative
from catalograph.kg.log import InteractionLog

CLUSTERS, ITEMS, USERS = 6, 90, 240
SECTION = GnnSection(dim=16, epochs=6, batch_size=256, negatives=64, learning_rate=0.02, id_dropout=0.3, history=4)
CLUSTER = np.arange(ITEMS) % CLUSTERS
COLD = np.arange(ITEMS) >= ITEMS - CLUSTERS  # one item of each cluster that nobody has bought


def graph(*, noise_first=False):
    """Items in clusters (BY the brand of the cluster), a relation between items of a cluster, and one of noise."""
    random = np.random.default_rng(0)
    items = torch.arange(ITEMS)
    data = HeteroData()
    data["Item"].num_nodes, data["Brand"].num_nodes, data["Shelf"].num_nodes = ITEMS, CLUSTERS, 9
    noise = torch.stack([items, torch.from_numpy(random.integers(0, 9, ITEMS))])
    edges = {
        ("Item", "BY", "Brand"): torch.stack([items, torch.from_numpy(CLUSTER)]),
        ("Item", "LIKE", "Item"): torch.stack([items[:-CLUSTERS], items[CLUSTERS:]]),
        ("Item", "ON", "Shelf"): noise,
    }
    for key in sorted(edges, reverse=noise_first):
        data[key].edge_index = edges[key]
        data[key[2], "rev_" + key[1], key[0]].edge_index = edges[key].flip(0)
    return data


def events():
    """Users who buy seven items of one cluster, never a cold one."""
    random = np.random.default_rng(1)
    item = np.stack([random.permutation(np.flatnonzero((u % CLUSTERS == CLUSTER) & ~COLD))[:7] for u in range(USERS)])
    return InteractionLog(
        USERS, ITEMS, np.repeat(np.arange(USERS), 7), item.ravel(), position=np.tile(np.arange(7), USERS)
    )


@pytest.fixture(scope="module")
def log():
    return events()


def train(data, log, section=SECTION, **changes):
    given = {"exclude": frozenset({"ON"}), "valid": None, "seed": 3, "text": None} | changes
    return train_relational(data, "Item", log, given.pop("text"), section, **given)


@pytest.fixture(scope="module")
def trained(log):
    return train(graph(), log)


def test_shapes(trained):
    assert trained.items.shape == (ITEMS, 16)
    assert trained.relations == ("BY", "LIKE")
    assert trained.by_relation.shape == (ITEMS, 2, 16)
    assert trained.items.dtype == trained.by_relation.dtype == trained.decay.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(trained.items, axis=1), 1, atol=1e-5)


def test_items_nobody_bought_are_near_their_cluster(trained):
    scores = trained.items[COLD] @ trained.items[~COLD].T
    best = CLUSTER[~COLD][np.argsort(-scores, axis=1)[:, :5]]
    assert (best == CLUSTER[COLD][:, None]).mean() > 0.9


def test_cold_items_are_recommended_to_their_cluster(trained):
    queries = trained.queries([np.flatnonzero((c == CLUSTER) & ~COLD)[:3].tolist() for c in range(CLUSTERS)])
    assert (CLUSTER[COLD][np.argmax(queries @ trained.items[COLD].T, axis=1)] == np.arange(CLUSTERS)).all()


def test_without_the_graph_cold_items_are_nowhere(log):
    blind = train(graph(), log, exclude=frozenset({"ON", "BY", "LIKE"}))
    assert blind.relations == ()
    assert not blind.items[COLD].any()


def test_text_alone_serves_cold_items(log):
    text = np.eye(CLUSTERS, dtype=np.float32)[CLUSTER]
    vectors = train(graph(), log, exclude=frozenset({"ON", "BY", "LIKE"}), text=text)
    scores = vectors.items[COLD] @ vectors.items[~COLD].T
    assert (CLUSTER[~COLD][scores.argmax(1)] == CLUSTER[COLD]).all()


def test_same_seed_same_result_and_the_callers_generator_is_left_alone(trained, log):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    again = train(graph(), log)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(again.items, trained.items)
    assert np.array_equal(again.projection, trained.projection)
    assert not np.array_equal(train(graph(), log, seed=4).items, trained.items)


def test_order_of_edges_and_relations_does_not_matter(trained, log):
    shuffled = graph(noise_first=True)
    for key in shuffled.edge_types:
        index = shuffled[key].edge_index
        shuffled[key].edge_index = index[:, torch.from_numpy(np.random.default_rng(5).permutation(index.size(1)))]
    assert np.array_equal(train(shuffled, log).items, trained.items)


def test_events_in_the_graph_are_never_read(trained, log):
    leaking = graph()
    leaking["User"].num_nodes = USERS
    for relation in ("INTERACTED", "HELD_OUT"):
        pairs = torch.stack([torch.arange(USERS) % ITEMS, torch.arange(USERS)])
        leaking["Item", "rev_" + relation, "User"].edge_index = pairs
        leaking["User", relation, "Item"].edge_index = pairs.flip(0)
    assert not [k for k in graph_for_training(leaking, "Item", None, frozenset()).edge_types if "User" in k]
    assert np.array_equal(train(leaking, log).items, trained.items)


def test_every_gate_gets_a_gradient():
    torch.manual_seed(0)
    seen = graph_for_training(graph(), "Item", None, frozenset())
    encoder = RelationalEncoder(seen, "Item", 8, 2)
    (encoder(seen) * torch.randn(ITEMS, 8)).sum().backward()
    assert encoder.gates.shape == (3, 2)
    assert (encoder.gates.grad != 0).all()
    assert (encoder.free.grad != 0).any()


def test_relation_parts_add_up_to_the_item_vector():
    seen = graph_for_training(graph(), "Item", np.random.default_rng(0).random((ITEMS, 5), np.float32), frozenset())
    encoder = RelationalEncoder(seen, "Item", 8, 2)
    total = encoder._start(seen) + encoder.by_relation(seen).sum(1)
    torch.testing.assert_close(nn.functional.normalize(total, dim=1), encoder(seen))


def test_spread_is_the_normalised_product_and_so_is_its_gradient():
    index = torch.tensor([[0, 0, 1, 3, 3], [0, 1, 1, 0, 1]])
    dense = torch.zeros(2, 4)
    dense[index[1], index[0]] = 1
    dense = dense / dense.sum(1, keepdim=True).sqrt() / dense.sum(0, keepdim=True).clamp(min=1).sqrt()
    x = torch.randn(4, 3, requires_grad=True)
    towards = torch.randn(2, 3)
    spread = Spread(index, (4, 2))(x)
    torch.testing.assert_close(spread, dense @ x)
    (spread * towards).sum().backward()
    torch.testing.assert_close(x.grad, dense.T @ towards)


def test_the_graph_follows_the_model_to_its_device():
    assert {name for name, _ in Spread(torch.tensor([[0], [0]]), (1, 1)).named_buffers()} == {"index", "weight"}


@pytest.mark.parametrize("members", [SMALLEST - 1, SMALLEST, LARGEST - 1, LARGEST])
def test_entities_too_small_or_too_large_pass_nothing_to_vectors_and_walks(members):
    data = HeteroData()
    data["Item"].num_nodes, data["Brand"].num_nodes = members, 1
    data["Item", "BY", "Brand"].edge_index = torch.stack(
        [torch.arange(members), torch.zeros(members, dtype=torch.long)]
    )
    found = RelationalEncoder(graph_for_training(data, "Item", None, frozenset()), "Item", 2, 1).relations
    assert found == (("BY",) if SMALLEST <= members < LARGEST else ())
    assert informative(sp.csr_matrix(np.ones((1, members), np.float32))).shape[0] == len(found)


def test_queries_from_rows_and_from_weights_agree(trained):
    rows = [[3, 1, 2], [], [5]]
    weights = sp.csr_matrix((trained.decay[[0, 1, 2, 0]], ([0, 0, 0, 2], [3, 1, 2, 5])), shape=(3, ITEMS))
    np.testing.assert_allclose(trained.queries(rows), trained.queries(weights), atol=1e-6)
    assert not trained.queries(rows)[1].any()
    np.testing.assert_allclose(trained.queries([[*range(9)]]), trained.queries([[*range(4)]]))  # history = 4


def held_out(log):
    last = log.position == 6
    return log.where(~last), (log.user[last], log.item[last])


def ndcg(vectors, seen, valid):
    """NDCG@10 spelt out, one user after the other."""
    gains = []
    for user, item in zip(*valid, strict=True):
        known = seen.item[seen.user == user]
        scores = (vectors.queries([known[::-1].tolist()]) @ vectors.items.T)[0]
        scores[known] = -np.inf
        rank = int((scores > scores[item]).sum())
        gains.append(1 / np.log2(rank + 2) if rank < 10 else 0)
    return np.mean(gains)


def test_validation_keeps_the_best_of_all_epochs(log):
    seen, valid = held_out(log)
    long = SECTION.model_copy(update={"epochs": 30})
    vectors = train(graph(), seen, long, valid=valid)
    assert len(vectors.validation) == 30
    assert max(vectors.validation) > 0.25  # one of the nine unseen items of the cluster: chance is 0.05
    assert ndcg(vectors, seen, valid) == pytest.approx(max(vectors.validation))
    warm = train(graph(), log, long, init=vectors)
    assert warm.validation == ()
    assert (warm.items != vectors.items).any()
    fresh = train(graph(), log, SECTION.model_copy(update={"epochs": vectors.best_epoch}))
    anew = Weights(state={}, gated=(), validation=vectors.validation)
    assert np.array_equal(train(graph(), log, long, init=anew).items, fresh.items)
    assert np.array_equal(train(graph(), log, init=vectors, sequential=False).state["decay"], np.zeros(SECTION.history))


@pytest.mark.parametrize("position", [None, np.tile(np.arange(7), USERS)])
def test_unordered_histories_weigh_alike(log, position):
    vectors = train(graph(), replace(log, position=position), sequential=None if position is None else False)
    assert np.array_equal(vectors.decay, np.ones(7))
    hits = CLUSTER[~COLD][(vectors.items[COLD] @ vectors.items[~COLD].T).argmax(1)] == CLUSTER[COLD]
    assert hits.all()


@pytest.mark.parametrize("ordered", [True, False])
def test_lessons_are_of_the_same_user_and_without_the_answer(log, ordered):
    some = log.where(log.user * 7 + log.position < 20)  # 7, 7 and 6 events
    owner = {(u, i) for u, i in zip(some.user, some.item, strict=True)}
    total = 0
    for histories, targets in _Lessons(some, SECTION, ordered).epoch():
        for history, target in zip(histories.tolist(), targets.tolist(), strict=True):
            known = [item for item in history if item < ITEMS]
            assert target not in known
            assert len(set(known)) == len(known) > 0
            assert any(all((u, item) in owner for item in [target, *known]) for u in range(3))
            total += 1
    assert total == len(_Lessons(some, SECTION, ordered)) == (17 if ordered else 20)


class Sage(nn.Module):
    """What a team might bring: two PyG convolutions over the relations and their reverses."""

    def __init__(self, data, item, dim, layers):
        super().__init__()
        self.item = item
        self.start = nn.ParameterDict({t: nn.Parameter(torch.randn(data[t].num_nodes, dim)) for t in data.node_types})
        self.layers = nn.ModuleList(
            HeteroConv({key: SAGEConv((dim, dim), dim) for key in data.edge_types}) for _ in range(layers)
        )

    def forward(self, data):
        x = dict(self.start.items())
        x[self.item] = x[self.item] * ~data[self.item].hidden[:, None]
        for layer in self.layers:
            x = layer(x, data.edge_index_dict)
        return x[self.item]


class Narrow(Sage):
    def forward(self, data):
        return super().forward(data)[:, :3]


def test_a_module_of_ones_own(log, monkeypatch):
    import sys  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, "our_models", sys.modules[__name__])
    vectors = train(graph(), log, SECTION.model_copy(update={"model": "our_models:Sage"}))
    assert vectors.by_relation.shape == (ITEMS, 0, 16)
    best = CLUSTER[~COLD][np.argsort(-(vectors.items[COLD] @ vectors.items[~COLD].T), axis=1)[:, :3]]
    assert (best == CLUSTER[COLD][:, None]).mean() > 0.9
    with pytest.raises(ConfigError, match=r"gives \(90, 3\); it must give \(90, 16\)"):
        train(graph(), log, SECTION.model_copy(update={"model": "our_models:Narrow"}))


@pytest.mark.parametrize("name", ["relationale", "no_such_module:Class", "torch.nn:NoSuchClass", ":x", "json:dumps"])
def test_a_name_of_nothing_is_one_line(log, name):
    with pytest.raises(ConfigError, match=r"gnn\.model") as caught:
        train(graph(), log, SECTION.model_copy(update={"model": name}))
    assert "\n" not in str(caught.value)


def test_nothing_to_learn_from_is_said(log):
    with pytest.raises(CatalographError, match="no user has two items"):
        train(graph(), log.where(log.position == 0))


def test_a_loss_that_explodes_is_said(log):
    with pytest.raises(CatalographError, match="lower"):
        train(graph(), log, SECTION.model_copy(update={"learning_rate": 1e38}))


def test_the_same_weights_on_the_same_graph_are_the_same_vectors(trained, log):
    again = propagate(
        graph(), "Item", log, None, SECTION, exclude=frozenset({"ON"}), trained=trained, rows=np.arange(ITEMS)
    )
    np.testing.assert_allclose(again.items, trained.items, atol=1e-6)
    np.testing.assert_allclose(again.by_relation, trained.by_relation, atol=1e-6)
    assert again.relations == trained.relations


def test_a_new_item_gets_its_vector_from_its_neighbours(trained, log):
    """Item 0 is new to the weights: nothing is left of its free vector, its cluster speaks for it."""
    rows = np.where(np.arange(ITEMS) == 0, -1, np.arange(ITEMS))
    found = propagate(graph(), "Item", log, None, SECTION, exclude=frozenset({"ON"}), trained=trained, rows=rows)
    likeness = found.items @ found.items[0]
    assert likeness[CLUSTER == 0].mean() > likeness[CLUSTER != 0].mean() + 0.3
    assert not found.state["encoder.free"][0].any()


def test_a_relation_without_a_gate_passes_nothing_on(trained, log):
    with_noise = propagate(
        graph(), "Item", log, None, SECTION, exclude=frozenset(), trained=trained, rows=np.arange(ITEMS)
    )
    np.testing.assert_allclose(with_noise.items, trained.items, atol=1e-6)
    assert with_noise.gated == trained.gated


def test_weights_of_an_own_module_are_not_run_on_another_graph(trained, log):
    own = SECTION.model_copy(update={"model": "somewhere:Module"})
    with pytest.raises(ConfigError, match="module of your own"):
        propagate(graph(), "Item", log, None, own, exclude=frozenset(), trained=trained, rows=np.arange(ITEMS))
