"""Relation-aware propagation over a HeteroData: full graph, sparse, one learned gate per relation and layer."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..kg.snapshot import REVERSE
from ..loaders.catalogue import HELD_OUT, INTERACTED
from ..pyg import EdgeIndex, HeteroData, coalesce, degree, scatter
from .walks import LARGEST, SMALLEST

START_GATE = -1.0  # exp of it is a relation's first weight
Key = tuple[str, str, str]


def graph_for_training(data: HeteroData, item: str, text: np.ndarray | None, exclude: frozenset[str]) -> HeteroData:
    """The part of a snapshot's graph an item encoder may see, as a new HeteroData.

    `edge_index` of all relations but those in `exclude` and the users' events (the log gives them, cut at the right
    moment; properties may be computed from later events and stay out too). `data[item].x` is the text, float32
    [item, text dim], if there is one, and `data[item].hidden` a bool [item] mask of the items whose identity means
    nothing: no event yet, or dropped out in this step.
    """
    graph, left_out = HeteroData(), exclude | {INTERACTED, HELD_OUT}
    for label in data.node_types:
        graph[label].num_nodes = data[label].num_nodes
    for key in data.edge_types:
        if key[1].removeprefix(REVERSE) not in left_out:
            graph[key].edge_index = data[key].edge_index
    if text is not None:
        graph[item].x = torch.from_numpy(text)
    graph[item].hidden = torch.zeros(int(data[item].num_nodes), dtype=torch.bool)
    return graph


class Spread(nn.Module):
    """D_target^-1/2 A^T D_source^-1/2 x over one edge set: the convolution of Kipf and Welling (2017) without weights.

    The edges are an EdgeIndex [target, source] sorted by target, so a product and its gradient are sparse matrix
    products and nothing is materialised per edge. (`matmul(transpose=True)` of PyG 2.8 has a wrong gradient off the
    square.) An edge that occurs twice counts twice.
    """

    index: EdgeIndex
    weight: Tensor

    def __init__(self, edge_index: Tensor, sizes: tuple[int, int]) -> None:
        super().__init__()
        rows, count = coalesce(edge_index.flip(0), torch.ones(edge_index.size(1)), reduce="sum")
        target, source = rows
        leaving, arriving = scatter(count, source, dim_size=sizes[0]), scatter(count, target, dim_size=sizes[1])
        self.register_buffer("index", EdgeIndex(rows, sparse_size=sizes[::-1], sort_order="row"), persistent=False)
        self.register_buffer("weight", count * (leaving[source] * arriving[target]).rsqrt(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """float32 [source, d] -> [target, d]."""
        spread: Any = self.index.matmul(x, self.weight)
        return spread  # type: ignore[no-any-return]


class RelationalEncoder(nn.Module):
    """Item vectors from text, a free vector per item, and propagation item -> entity -> item.

    h_0 = text W + free;  h_l = sum_r exp(g_rl) A_r h_(l-1);  item = unit(sum_l h_l).
    A_r is the normalised round trip over relation r (between items: one step, both ways). An item whose free vector
    is hidden still gets a vector from its text and its neighbours, so items without interactions are served too.

    A team's own module has the same two methods: the constructor, and forward from the graph that
    :func:`graph_for_training` describes to item vectors float32 [item, dim] (any length; they are normalised).
    """

    def __init__(self, data: HeteroData, item: str, dim: int, layers: int) -> None:
        super().__init__()
        self.item, self.layers = item, layers
        self.free = nn.Parameter(torch.randn(int(data[item].num_nodes), dim) * 0.05)
        self.project = nn.Linear(data[item].x.size(1), dim, bias=False) if "x" in data[item] else None
        trips = _round_trips(data, item)
        self.relations = tuple(sorted({key[1] for key in trips}))
        self.trips = nn.ModuleList(trips.values())
        self.relation_of = [self.relations.index(key[1]) for key in trips]
        self.gates = nn.Parameter(torch.full((len(self.relations), layers), START_GATE))

    def forward(self, data: HeteroData) -> Tensor:
        """Item vectors float32 [item, dim] of unit length."""
        h = total = self._start(data)
        for layer in range(self.layers if self.trips else 0):
            h = torch.stack([part for _, part in self._spread(h, layer)]).sum(0)
            total = total + h
        return F.normalize(total, dim=1)

    def by_relation(self, data: HeteroData) -> Tensor:
        """R_s, float32 [item, relation, dim]: the part of sum_l h_l that came over each relation."""
        h = self._start(data)
        total = h.new_zeros(len(h), len(self.relations), h.size(1))
        for layer in range(self.layers if self.trips else 0):
            reached = torch.zeros_like(total)
            for relation, part in self._spread(h, layer):
                reached[:, relation] += part
            h, total = reached.sum(1), total + reached
        return total

    def _start(self, data: HeteroData) -> Tensor:
        h: Tensor = self.free * (~data[self.item].hidden).unsqueeze(1)
        return h if self.project is None else h + self.project(data[self.item].x)

    def _spread(self, h: Tensor, layer: int) -> list[tuple[int, Tensor]]:
        gates = self.gates[:, layer].exp()
        return [(r, gates[r] * trip(h)) for r, trip in zip(self.relation_of, self.trips, strict=True)]


def _round_trips(data: HeteroData, item: str) -> dict[Key, nn.Module]:
    """Per relation of items the way out and back as two Spreads; relations between items are one, made symmetric."""
    trips: dict[Key, nn.Module] = {}
    n_items = int(data[item].num_nodes)
    for key in sorted(data.edge_types):
        source, relation, target = key
        if source != item or relation.startswith(REVERSE):
            continue
        index = data[key].edge_index
        if target == item:
            index = torch.cat([index, index.flip(0)], dim=1)[:, (index[0] != index[1]).repeat(2)]
            if index.size(1):
                trips[key] = Spread(index, (n_items, n_items))
            continue
        size = int(data[target].num_nodes)
        members = degree(index[1], size)[index[1]]
        index = index[:, (members >= SMALLEST) & (members < LARGEST)]
        if index.size(1):
            trips[key] = nn.Sequential(Spread(index, (n_items, size)), Spread(index.flip(0), (size, n_items)))
    return trips


def make_encoder(name: str, data: HeteroData, item: str, dim: int, layers: int) -> nn.Module:
    """The encoder a shop names: "relational", or "package.module:Class", a team's own nn.Module.

    Raises:
        ConfigError: no such module, or no class of torch.nn.Module in it.
    """
    kind = RelationalEncoder if name == "relational" else _own(name)
    return kind(data, item, dim, layers)


def _own(name: str) -> type[nn.Module]:
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ConfigError(f"gnn.model {name!r}: say none, relational, or package.module:Class")
    try:
        kind = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as e:
        raise ConfigError(f"gnn.model {name!r} cannot be loaded: {e}") from None
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ConfigError(f"gnn.model {name!r} is no class of torch.nn.Module")
    return kind
