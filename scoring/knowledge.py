"""The part of the graph a bundle keeps, the edges that leave items, and a snapshot of items and their targets again."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from ..config import RelationSection
from ..kg.snapshot import REVERSE, IdMap, Snapshot
from ..loaders.catalogue import EdgeKey
from ..pyg import HeteroData

Kinds = tuple[tuple[str, str], ...]  # (relation, label of what it leads to)
NO_EDGES = pa.table(
    {"source": pa.array([], pa.int64())}
    | {n: pa.array([], pa.string()) for n in ("relation", "label", "target", "name")}
)


def kinds_of(snapshot: Snapshot, label: str) -> Kinds:
    """The relations that lead from the nodes of a label, whether there is an edge or not."""
    return tuple((key.relation, key.target) for key in snapshot.relations() if key.source == label)


def edges_of(snapshot: Snapshot, label: str) -> pa.Table:
    """Every edge that leaves a node of this label, as a bundle keeps it (:class:`.bundle.Bundle`)."""
    parts = []
    for relation, other in kinds_of(snapshot, label):
        source, target = (pa.array(end) for end in snapshot.relation(EdgeKey(label, relation, other)).numpy())
        said = {
            name: pa.DictionaryArray.from_arrays(np.zeros(len(source), np.int32), [text])
            for name, text in (("relation", relation), ("label", other))
        }
        names, ids = snapshot.called(other), snapshot.ids[other].ids
        ends = {"target": pa.array(ids, pa.string()), "name": pa.array(names, pa.string())}
        parts.append(pa.table({"source": source, **said, **{end: found.take(target) for end, found in ends.items()}}))
    return pa.concat_tables(parts).unify_dictionaries() if parts else NO_EDGES


def edges_used(edges: pa.Table, settings: Mapping[str, RelationSection]) -> pa.Table:
    """Without the relations a model may not read: they are no reason for anything."""
    unused = [name for name, relation in settings.items() if not relation.use]
    return (
        edges
        if not unused
        else edges.filter(pc.invert(pc.is_in(pc.cast(edges["relation"], pa.string()), pa.array(unused))))
    )


def with_relations(items: pa.Table, edges: pa.Table, kinds: Kinds, inner: Collection[str]) -> pa.Table:
    """The items with a column of ids per relation that leads to none of the labels `inner`; filters can name it."""
    taken = items.column_names
    for name in dict.fromkeys(relation for relation, label in kinds if label not in inner):
        if name in taken:
            continue
        labels = [label for relation, label in kinds if relation == name and label not in inner]
        some = _some(edges, name, labels)
        source = some["source"].to_numpy()
        order = np.argsort(source, kind="stable")
        offsets = np.searchsorted(source[order], np.arange(len(items) + 1))
        targets = some["target"].combine_chunks().take(pa.array(order))
        lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), targets)
        items = items.append_column(name, lists)
    return items


def _some(edges: pa.Table, relation: str, labels: Sequence[str]) -> pa.Table:
    """The edges of one relation to these labels."""
    wanted = pc.and_(
        pc.equal(edges["relation"], relation),
        pc.is_in(edges["label"], pa.array(labels, pa.string())),
    )
    return edges.filter(wanted)


def rows_of(ids: IdMap, column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """int64 [n]: the rows of known ids, many at once."""
    values = pa.array(ids.ids, pa.string())
    found = pc.index_in(pc.cast(column, pa.string()), value_set=values)
    return np.asarray(pc.cast(found, pa.int64()).to_numpy(zero_copy_only=False))


def snapshot_of(items: pa.Table, edges: pa.Table, kinds: Kinds, label: str) -> Snapshot:
    """The items with their texts, and what they lead to with its names: all that texts, walks and layers read.

    Nodes that no item leads to are not in it, and neither are users.
    """
    data, ids = HeteroData(), {label: IdMap(label, items["id"].to_pylist())}
    data[label].num_nodes = len(items)
    for name in items.column_names:
        if name != "id" and pa.types.is_string(items[name].type):
            data[label][name] = [text or "" for text in items[name].to_pylist()]
    parts = {kind: _some(edges, kind[0], [kind[1]]) for kind in kinds}
    for other in {other for _, other in kinds if other != label}:
        told = pa.concat_tables([part.select(["target", "name"]) for (_, to), part in parts.items() if to == other])
        told = told.group_by("target").aggregate([("name", "max")])  # a node has one name, whatever leads to it
        names = dict(zip(told["target"].to_pylist(), told["name_max"].to_pylist(), strict=True))
        ids[other] = IdMap(other, names)
        data[other].num_nodes = len(names)
        data[other]["name"] = [names[id_] for id_ in ids[other].ids]
    for (relation, other), part in parts.items():
        index = np.stack([part["source"].to_numpy(), rows_of(ids[other], part["target"])])
        found = torch.from_numpy(index[:, np.lexsort(index[::-1])])
        data[label, relation, other].edge_index = found
        data[other, REVERSE + relation, label].edge_index = found.flip(0)
    return Snapshot(data, ids, "")
