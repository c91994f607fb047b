"""Does the graph pay? The same fit with the real graph, with shuffled tails, with none, and without one relation; and
with the real one, without what the GNN learns of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch

from ..kg.snapshot import REVERSE, Snapshot
from ..loaders.catalogue import HELD_OUT, INTERACTED, EdgeKey
from ..pyg import HeteroData
from .evaluate import Evaluation
from .metrics import bootstrap_interval

ROUNDS = 100  # of swaps against repeated edges and loops; what is left after them stays
WITHOUT_GNN = "real, without the GNN"
Change = Callable[[EdgeKey, torch.Tensor], torch.Tensor | None]


def graphs(snapshot: Snapshot, relations: Iterable[str], *, seed: int) -> Iterator[tuple[str, Snapshot]]:
    """The other graphs to fit on: "shuffled", "empty", and "without R" for each of the relations."""
    random = np.random.default_rng(seed)
    yield "shuffled", altered(snapshot, lambda key, edges: shuffled_tails(edges, key.source == key.target, random))
    yield "empty", altered(snapshot, lambda key, edges: None)
    for name in relations:
        yield f"without {name}", altered(snapshot, _all_but(name))


def _all_but(relation: str) -> Change:
    return lambda key, edges: None if key.relation == relation else edges


def altered(snapshot: Snapshot, change: Change) -> Snapshot:
    """The snapshot with `change` made to each relation but the users' events; None drops it.

    Nodes, ids and properties of nodes stay; properties of edges are left out, for they belonged to the old edges.
    """
    data = HeteroData()
    for label in snapshot.data.node_types:
        for name, value in snapshot.data[label].items():
            data[label][name] = value
    digest = hashlib.sha256(snapshot.digest.encode())
    for key in snapshot.relations():
        edges = snapshot.relation(key)
        changed = edges if key.relation in (INTERACTED, HELD_OUT) else change(key, edges)
        if changed is not None:
            data[tuple(key)].edge_index = changed
            data[key.target, REVERSE + key.relation, key.source].edge_index = changed.flip(0)
            digest.update(repr(key).encode() + changed.numpy().tobytes())
    return Snapshot(data, snapshot.ids, digest.hexdigest())


def shuffled_tails(edges: torch.Tensor, loops_matter: bool, random: np.random.Generator) -> torch.Tensor:
    """edge_index int64 [2, E] with the targets permuted: every node keeps its degree, and who meets whom is chance.

    Repeated edges and, where both ends have one label, loops are swapped with edges drawn at random until none is left.
    """
    source, target = edges.numpy()[0], random.permutation(edges.numpy()[1])
    for _ in range(ROUNDS):
        order = np.lexsort((target, source))
        again = np.zeros(len(source), bool)
        again[order[1:]] = (np.diff(source[order]) == 0) & (np.diff(target[order]) == 0)
        bad = np.flatnonzero(again | (loops_matter & (source == target)))
        if not len(bad):
            break
        mixed = np.unique(np.concatenate([bad, random.integers(0, len(source), len(bad))]))
        target[mixed] = target[random.permutation(mixed)]
    order = np.lexsort((target, source))
    return torch.from_numpy(np.stack([source[order], target[order]]))


def compared(found: dict[str, list[Evaluation]], k: int) -> list[dict[str, Any]]:
    """One row per graph, from the evaluations of each split by graph, "real" first.

    difference = real minus this, with its paired 95 % bootstrap interval over users; the same within segments.
    """
    return [_row(name, found["real"], evaluations, k) for name, evaluations in found.items()]


def verdict(rows: list[dict[str, Any]], k: int) -> str | None:
    """Whether the GNN's relation vectors pay, in words, from :func:`compared`'s rows; None where none are learned."""
    row = next((row for row in rows if row["graph"] == WITHOUT_GNN), None)
    if row is None:
        return None
    low, high = row["ci95"]
    said = "pay" if low > 0 else "cost accuracy" if high < 0 else "are not shown to pay"
    figures = f"{100 * row['difference']:+.2f} [{100 * low:.2f}, {100 * high:.2f}] NDCG@{k} in percent"
    return f"The GNN's relation vectors {said} here: {figures} beside the same model without them"


def _row(name: str, real: list[Evaluation], other: list[Evaluation], k: int) -> dict[str, Any]:
    ours = np.concatenate([evaluation.per_user["catalograph"] for evaluation in other])
    whole = np.concatenate([evaluation.per_user["catalograph"] for evaluation in real])
    row = {"graph": name, f"ndcg@{k}": float(ours.mean()), **_difference(whole, ours)}
    if name != "real":
        row["segments"] = {
            segment: found
            for segment in real[0].segments
            if (found := _difference(*(_within(side, segment) for side in (real, other))))
        }
    return row


def _within(evaluations: list[Evaluation], segment: str) -> np.ndarray:
    return np.concatenate([evaluation.segments[segment]["catalograph"] for evaluation in evaluations])


def _difference(real: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    asked = ~np.isnan(real)
    if not asked.any():
        return {}
    low, high = bootstrap_interval(real[asked], other[asked])
    return {"difference": float((real - other)[asked].mean()), "ci95": [low, high]}
