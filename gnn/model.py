"""Relation-aware propagation over a HeteroData: full graph, sparse, one learned gate per relation and layer."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric import EdgeIndex
from torch_geometric.data import HeteroData
from torch_geometric.utils import degree

from ..errors import ConfigError
from ..kg.snapshot import REVERSE

SMALLEST, LARGEST = 2, 3_000  # items an entity must have to pass something on
Key = tuple[str, str, str]


class Spread(nn.Module):
    """D_target^-1/2 A^T D_source^-1/2 x over one edge set: the convolution of Kipf and Welling (2017) without weights.

    The edges are an EdgeIndex [target, source] sorted by target: a product and its gradient are sparse matrix products,
    and nothing is materialised per edge. (`matmul(transpose=True)` of PyG 2.8 has a wrong gradient off the square.)
    """

    def __init__(self, index: Tensor, sizes: tuple[int, int]) -> None:
        super().__init__()
        rows, _ = EdgeIndex(index.flip(0), sparse_size=sizes[::-1]).sort_by("row")
        target, source = rows.as_tensor()
        norm = degree(source, sizes[0])[source] * degree(target, sizes[1])[target]
        self.index, self.weight = rows, norm.clamp(min=1).rsqrt()

    def forward(self, x: Tensor) -> Tensor:
        """float32 [source, d] -> [target, d]."""
        spread: Any = self.index.matmul(x, self.weight)
        return spread  # type: ignore[no-any-return]


class RelationalEncoder(nn.Module):
    """Item vectors from text, a free vector per item, and propagation item -> entity -> item.

    h_0 = text W + free;  h_l = sum_r exp(g_rl) A_r h_(l-1);  item = unit(sum_l h_l).
    A_r is the normalised round trip over relation r (between items: one step, both ways). An item whose free vector
    is hidden still gets a vector from its text and its neighbours, so items without interactions are served too.
    """

    def __init__(
        self, data: HeteroData, item: str, *, dim: int, layers: int, exclude: frozenset[str], text_dim: int
    ) -> None:
        super().__init__()
        self.layers = layers
        self.free = nn.Parameter(torch.randn(int(data[item].num_nodes), dim) * 0.05)
        self.project = nn.Linear(text_dim, dim, bias=False) if text_dim else None
        trips = _round_trips(data, item, exclude)
        self.relations = tuple(sorted({key[1] for key in trips}))
        self.trips = nn.ModuleList(trips.values())
        self.relation_of = [self.relations.index(key[1]) for key in trips]
        self.gates = nn.Parameter(torch.full((len(self.relations), layers), -1.0))

    def forward(self, text: Tensor | None, hidden: Tensor) -> Tensor:
        """Unit-length item vectors float32 [item, dim]; items of the mask `hidden`, bool [item], show no free vector."""
        return F.normalize(self.propagate(text, hidden)[0], dim=1)

    def propagate(self, text: Tensor | None, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """sum_l h_l float32 [item, dim], and R_s float32 [item, relation, dim]: each relation's part of it."""
        h = self.free * (~hidden).unsqueeze(1)
        if self.project is not None and text is not None:
            h = h + self.project(text)
        total, by_relation = h, h.new_zeros(len(h), len(self.relations), h.size(1))
        for layer in range(self.layers if self.relations else 0):
            parts = torch.zeros_like(by_relation)
            for relation, trip in zip(self.relation_of, self.trips, strict=True):
                gate = self.gates[relation, layer].exp()
                parts = parts.index_add(1, torch.tensor([relation], device=h.device), (gate * trip(h)).unsqueeze(1))
            h = parts.sum(1)
            total, by_relation = total + h, by_relation + parts
        return total, by_relation


def _round_trips(data: HeteroData, item: str, exclude: frozenset[str]) -> dict[Key, nn.Sequential]:
    """Per relation of items the way out and back as two Spreads; relations between items are made symmetric."""
    trips: dict[Key, nn.Sequential] = {}
    n_items = int(data[item].num_nodes)
    for key in sorted(data.edge_types):
        if key[0] != item or key[1].startswith(REVERSE) or key[1] in exclude:
            continue
        index = data[key].edge_index
        if key[2] == item:
            both = torch.cat([index, index.flip(0)], dim=1)
            trips[key] = nn.Sequential(Spread(both[:, both[0] != both[1]], (n_items, n_items)))
            continue
        size = int(data[key[2]].num_nodes)
        members = degree(index[1], size)[index[1]]
        index = index[:, (members >= SMALLEST) & (members < LARGEST)]
        if index.size(1):
            trips[key] = nn.Sequential(Spread(index, (n_items, size)), Spread(index.flip(0), (size, n_items)))
    return trips


def encoder_named(name: str) -> Any:
    """The class a shop names: "relational", or "package.module:Class" of a team's own module.

    Such a class takes (data, item, dim=, layers=, exclude=, text_dim=) and its forward(text, hidden) returns item
    vectors float32 [item, dim].

    Raises:
        ConfigError: no such module or class.
    """
    if name == "relational":
        return RelationalEncoder
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(f"gnn.model {name!r}: say none, relational, or package.module:Class")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as e:
        raise ConfigError(f"gnn.model {name!r} cannot be loaded: {e}") from None
