"""LightGCN as a baseline: a vector per user and item, smoothed over who has what (He et al. 2020)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.nn.models import LightGCN

from ..seeding import seeded
from .evidence import Evidence, Histories
from .profiles import USER
from .terms import LowRank

warnings.filterwarnings("ignore", "Sparse CSR", UserWarning, __name__)  # torch says once a process that it is a beta
DIM, RATE, TEMPERATURE = 64, 0.01, 0.15
STEPS, SMALLEST = 32, 512  # steps of an epoch, unless a batch would be smaller: each step walks the whole graph
NEGATIVES = 1_024  # items drawn for a step, and shared by its pairs


def light_gcn(evidence: Evidence, *, layers: int, seed: int = 0) -> Iterator[LowRank]:
    """A term after every epoch over all pairs; equal seeds give equal terms.

    The paper's model by torch-geometric's `LightGCN`. The loss is a softmax of cosines among drawn items instead of
    BPR: it is the stronger one and needs far fewer epochs (Wu et al. 2022).
    """
    histories, graph = evidence.histories, _adjacency(evidence.histories)
    user, item = torch.from_numpy(histories.user), torch.from_numpy(histories.item)
    with seeded(seed):
        model = LightGCN(histories.n_users + histories.n_items, DIM, layers, normalize=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    random = torch.Generator().manual_seed(seed)
    batch = max(SMALLEST, -(-len(user) // STEPS))
    while True:
        for rows in torch.randperm(len(user), generator=random).split(batch):
            users, items = _vectors(model, graph, histories)
            drawn = torch.randint(histories.n_items, (NEGATIVES,), generator=random)
            loss = _loss(users[user[rows]], items[item[rows]], items[drawn], item[rows, None] == drawn)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            users, items = _vectors(model, graph, histories)
        yield LowRank("LightGCN", USER, users.numpy(), items.numpy())


def _adjacency(histories: Histories) -> Tensor:
    """D^-1/2 A D^-1/2 of users and items side by side, sparse CSR float32 [node, node]."""
    user, item = torch.from_numpy(histories.user), torch.from_numpy(histories.item) + histories.n_users
    size = histories.n_users + histories.n_items
    edges = torch.stack([torch.cat([user, item]), torch.cat([item, user])])
    weight = gcn_norm(edges, None, size, add_self_loops=False)[1]
    return torch.sparse_coo_tensor(edges, weight, (size, size)).coalesce().to_sparse_csr()


def _vectors(model: LightGCN, graph: Tensor, histories: Histories) -> tuple[Tensor, Tensor]:
    """Unit vectors of users and of items, float32 [user, DIM] and [item, DIM]."""
    users, items = F.normalize(model.get_embedding(graph), dim=1).split([histories.n_users, histories.n_items])
    return users, items


def _loss(users: Tensor, right: Tensor, drawn: Tensor, same: Tensor) -> Tensor:
    """Cross-entropy in nats of the right item of each pair [pair, DIM] among the drawn ones [n, DIM]; `same`, bool
    [pair, n], are right ones drawn again."""
    wrong = (users @ drawn.T).masked_fill(same, -torch.inf)
    scores = torch.cat([(users * right).sum(1, keepdim=True), wrong], 1) / TEMPERATURE
    return F.cross_entropy(scores, torch.zeros(len(users), dtype=torch.int64))
