"""Paths of at most two edges between items, over the graph's relations and over customers, without asking a store.

The shape of a path is drawn as its edges point, read from the history item to the recommended one:

    >   history -> item            ><  both -> something they share      >>  history -> x -> item
    <   history <- item            <>  both <- something that has both   <<  history <- x <- item
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from ..kg.log import InteractionLog
from ..kg.paths import Node, Triple
from ..loaders.catalogue import INTERACTED

SHAPES = {(True, None): ">", (False, None): "<"} | {
    (out, into): (">" if out else "<") + ("<" if into else ">") for out in (True, False) for into in (True, False)
}


@dataclass(frozen=True)
class Step:
    """A path between two item rows. `via`: the node between them, None for one edge; `shared`: how many nodes would do.

    rarity: how few edges `via` has, as 1 / degree; 1 for one edge.
    """

    history: int
    relation: str
    shape: str
    via: int | None
    shared: int
    rarity: float


class ItemGraph:
    """Every edge of items, found from either end: items are nodes 0..n-1, then what they lead to, then customers."""

    def __init__(self, edges: pa.Table, log: InteractionLog, items: Sequence[Node], users: Sequence[Node]) -> None:
        """edges: as a bundle keeps them. log: the events of training. items, users: who they are, in row order."""
        self.items, self._user_labels = items, {user.label for user in users}
        target, others = _targets(edges, items)
        relation, self.relations = _coded(edges["relation"])
        self.relations.append(INTERACTED)
        self._nodes: list[Node] = [*items, *others, *users]
        self._names: dict[Node, str] = others
        self.first_user = len(items) + len(others)
        pairs = np.unique(log.user * log.n_items + log.item)
        user, item = pairs // max(log.n_items, 1) + self.first_user, pairs % max(log.n_items, 1)
        source = np.concatenate([edges["source"].to_numpy(), user])
        target = np.concatenate([target, item])
        relation = np.concatenate([relation, np.full(len(user), len(self.relations) - 1)])
        apart = source != target
        source, target, relation = source[apart], target[apart], relation[apart]
        self._out = _Sides(source, target, relation, len(self._nodes))
        self._into = _Sides(target, source, relation, len(self._nodes))

    def name(self, number: int) -> str:
        """What a node is called: by its name where it is neither item nor customer, else by its id."""
        node: Node = self._nodes[number]
        return str(self._names.get(node, node.id))

    def is_customer(self, number: int) -> bool:
        """Whether it is a customer, be it that a relation of the items leads there."""
        return self._nodes[number].label in self._user_labels

    def steps(self, history: np.ndarray, item: int, user: int | None = None) -> list[Step]:
        """The ways from each item of a history (int64 rows) to another item: per history item, relation and shape the
        one over the node with the fewest edges (ties: the first node). None leads over the `user` (a row) whose
        history it is: that they have both is no reason."""
        at, near, relation, out = self._around(history)
        if user is not None:
            others = near != user + self.first_user
            at, near, relation, out = at[others], near[others], relation[others], out[others]
        _, mine, my_relation, mine_out = self._around(np.array([item]))
        direct = near == item
        found = [
            Step(int(h), self.relations[r], SHAPES[bool(o), None], None, 1, 1.0)
            for h, r, o in zip(at[direct], relation[direct], out[direct], strict=True)
        ]
        for into in (True, False):  # whether the item's own edge leads into the node between
            wanted = np.unique(mine[mine_out == into] * len(self.relations) + my_relation[mine_out == into])
            meets = np.isin(near * len(self.relations) + relation, wanted) & (near != item)
            found += self._grouped(at[meets], near[meets], relation[meets], out[meets], into)
        return found

    def _grouped(
        self, at: np.ndarray, near: np.ndarray, relation: np.ndarray, out: np.ndarray, into: bool
    ) -> list[Step]:
        if not len(at):
            return []
        degree = self._out.degrees(near) + self._into.degrees(near)
        group = (at * len(self.relations) + relation) * 2 + out
        order = np.lexsort((near, degree, group))
        _, first, count = np.unique(group[order], return_index=True, return_counts=True)
        return [
            Step(
                int(at[k]), self.relations[relation[k]], SHAPES[bool(out[k]), into], int(near[k]), int(n), 1 / degree[k]
            )
            for k, n in zip(order[first], count, strict=True)
        ]

    def _around(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Per edge of these nodes: the node, the other end, the relation, and whether the edge leaves the node."""
        sides = [side.of(nodes) for side in (self._out, self._into)]
        at, near, relation = (np.concatenate(part) for part in zip(*sides, strict=True))
        return at, near, relation, np.repeat([True, False], [len(sides[0][0]), len(sides[1][0])])

    def nodes(self, step: Step, item: int, user: int | None = None) -> tuple[Node, ...]:
        """The nodes of a step in the order they are passed, from the `user` (a row) if there is one, to the item."""
        rows = [*([] if user is None else [user + self.first_user]), step.history, step.via, item]
        return tuple(self._nodes[row] for row in rows if row is not None)

    def triples(self, step: Step, item: int, user: int | None = None) -> tuple[Triple, ...]:
        """The edges between :meth:`nodes`, in their order, as they are stored."""
        ways = step.shape if user is None else ">" + step.shape
        relations = (
            [step.relation] * len(step.shape) if user is None else [INTERACTED] + [step.relation] * len(step.shape)
        )
        return tuple(
            Triple(one, relation, other) if way == ">" else Triple(other, relation, one)
            for way, relation, (one, other) in zip(ways, relations, pairwise(self.nodes(step, item, user)), strict=True)
        )


class _Sides:
    """Edges sorted by one end."""

    def __init__(self, here: np.ndarray, there: np.ndarray, relation: np.ndarray, n_nodes: int) -> None:
        order = np.argsort(here, kind="stable")
        self.there, self.relation = there[order], relation[order]
        self.start = np.searchsorted(here[order], np.arange(n_nodes + 1))

    def degrees(self, nodes: np.ndarray) -> np.ndarray:
        """int64 [n]."""
        return np.asarray(self.start[nodes + 1] - self.start[nodes])

    def of(self, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Per edge of these nodes: the node, the other end, the relation."""
        size = self.degrees(nodes)
        places = np.repeat(self.start[nodes] - (np.cumsum(size) - size), size) + np.arange(size.sum())
        return np.repeat(nodes, size), self.there[places], self.relation[places]


def _targets(edges: pa.Table, items: Sequence[Node]) -> tuple[np.ndarray, dict[Node, str]]:
    """int64 [edge], the node each leads to, and the nodes that are no items, in the order of their numbers, with what
    they are called."""
    (label, labels), (target, targets) = (_coded(edges[name]) for name in ("label", "target"))
    keys, first, place = np.unique(label * max(len(targets), 1) + target, return_index=True, return_inverse=True)
    rows = {item: row for row, item in enumerate(items)}
    names = edges["name"].take(pa.array(first)).to_pylist()
    others: dict[Node, str] = {}
    number = np.empty(len(keys), np.int64)
    for n, (key, name) in enumerate(zip(keys.tolist(), names, strict=True)):
        node = Node(labels[key // len(targets)], targets[key % len(targets)])
        number[n] = rows.get(node, len(rows) + len(others))
        if node not in rows:
            others[node] = name
    return number[place], others


def _coded(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Codes int64 [n], and what they stand for."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    encoded = column.unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # of no chunk at all
        return np.empty(0, np.int64), []
    return encoded.indices.to_numpy().astype(np.int64), list(encoded.dictionary.to_pylist())
