"""A store's graph as a Snapshot, and a Snapshot as the files people's own models read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import networkx as nx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from ..errors import StoreError
from ..loaders.catalogue import HELD_OUT
from ..pyg import HeteroData
from .snapshot import REVERSE, IdMap, Snapshot
from .store import GraphStore, numpy_of

TRIES = 5  # to read a graph that others change meanwhile


def export_snapshot(store: GraphStore, *, held_out: bool = False) -> Snapshot:
    """Everything the store holds; HELD_OUT interactions only when asked.

    The result depends on the graph alone: equal graphs give equal tensors and digests, whatever the store.

    Raises:
        StoreError: the graph did not stand still for long enough to be read as a whole.
    """
    for _ in range(TRIES):
        generation = store.generation()
        snapshot = _exported(store, held_out)
        if store.generation() == generation:
            return snapshot
    raise StoreError(f"the graph changed {TRIES} times while it was exported; try again later")


def _exported(store: GraphStore, held_out: bool) -> Snapshot:
    schema, data, digest = store.schema(), HeteroData(), hashlib.sha256()
    ids: dict[str, IdMap] = {}
    for label in sorted(schema.nodes):
        columns = sorted(schema.nodes[label])
        table = store.nodes(label, columns)
        ids[label] = IdMap(label, table["id"].to_pylist())
        data[label].num_nodes = table.num_rows
        digest.update(json.dumps([label, columns, list(ids[label].ids)]).encode())
        for name in columns:
            value = _value(table[name])
            data[label][name] = value
            digest.update(json.dumps(value).encode() if isinstance(value, list) else value.numpy().tobytes())
    for key in sorted(schema.edges):
        if key.relation == HELD_OUT and not held_out:
            continue
        columns = sorted(name for name, kind in schema.edges[key].items() if kind != "string")
        arrays = store.edges(key, columns)
        index = torch.from_numpy(np.stack([arrays.source, arrays.target]))
        data[tuple(key)].edge_index = index
        digest.update(json.dumps([list(key), columns]).encode() + index.numpy().tobytes())
        for name in columns:
            data[tuple(key)][name] = torch.from_numpy(np.array(arrays.columns[name]))
            digest.update(arrays.columns[name].tobytes())
        data[key.target, REVERSE + key.relation, key.source].edge_index = index.flip(0)
    return Snapshot(data, ids, digest.hexdigest())


def _value(column: pa.ChunkedArray) -> torch.Tensor | list[str]:
    if pa.types.is_string(column.type):
        return [text or "" for text in column.to_pylist()]
    return torch.from_numpy(np.array(numpy_of(column)))


def to_networkx(snapshot: Snapshot) -> nx.MultiDiGraph[tuple[str, str]]:
    """Nodes (label, id) with their properties; edges keyed by relation with theirs."""
    graph: nx.MultiDiGraph[tuple[str, str]] = nx.MultiDiGraph()
    for label, ids in snapshot.ids.items():
        columns = _columns(snapshot.data[label])
        for row, id_ in enumerate(ids.ids):
            graph.add_node((label, id_), **{name: values[row] for name, values in columns.items()})
    for key in snapshot.relations():
        source, target = (snapshot.ids[label].ids for label in (key.source, key.target))
        columns = _columns(snapshot.data[tuple(key)])
        for n, (s, t) in enumerate(snapshot.relation(key).T.tolist()):
            values = {name: column[n] for name, column in columns.items()}
            graph.add_edge((key.source, source[s]), (key.target, target[t]), key=key.relation, **values)
    return graph


def _columns(storage: Any) -> dict[str, list[Any]]:
    """The properties of a node or edge type as lists."""
    skipped = {"num_nodes", "edge_index"}
    return {n: v if isinstance(v, list) else v.tolist() for n, v in storage.items() if n not in skipped}


def _save_pyg(snapshot: Snapshot, out: Path) -> None:
    data = snapshot.data.clone()
    for label, ids in snapshot.ids.items():
        data[label].ids = list(ids.ids)
    torch.save(data.to_dict(), out)


def _save_networkx(snapshot: Snapshot, out: Path) -> None:
    graph = nx.node_link_data(to_networkx(snapshot), edges="edges")
    for row in (*graph["nodes"], *graph["edges"]):
        row.update({name: None for name, value in row.items() if value != value})  # JSON knows no NaN  # noqa: PLR0124
    out.write_text(json.dumps(graph, allow_nan=False), encoding="utf-8")


def _save_parquet(snapshot: Snapshot, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for label, ids in snapshot.ids.items():
        columns = _columns(snapshot.data[label])
        pq.write_table(pa.table({"id": _strings(ids), **columns}), out / f"nodes-{quote(label, '')}.parquet")
    for key in snapshot.relations():
        source, target = snapshot.relation(key).numpy()
        ends = {
            "source": _strings(snapshot.ids[key.source]).take(pa.array(source)),
            "target": _strings(snapshot.ids[key.target]).take(pa.array(target)),
        }
        columns = _columns(snapshot.data[tuple(key)])
        pq.write_table(pa.table({**ends, **columns}), out / f"edges-{quote('-'.join(key), '')}.parquet")


def _strings(ids: IdMap) -> pa.StringArray:
    return pa.array(ids.ids, pa.string())


FORMATS: Mapping[str, Callable[[Snapshot, Path], None]] = {
    "pyg": _save_pyg,  # HeteroData.from_dict(torch.load(path)) gives it back, ids included; no pickled classes
    "networkx": _save_networkx,  # node-link JSON
    "parquet": _save_parquet,  # a folder of node and edge tables
}
