"""A bundle after a batch of changes: the same weights over what the shop is now, without learning.

What "the same weights" are is told in docs/decisions/0012-updates-keep-the-weights.md. Terms that the batch cannot have
touched are kept; the others are computed as a rebuild with these weights computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import scipy.sparse as sp

from ..config import ShopConfig
from ..encoders.node_text import joined, parts_of
from ..errors import DataError
from ..gnn.train import RelationVectors, propagate
from ..kg.log import InteractionLog, positives
from ..kg.net import ENDS, Net
from ..kg.replay import frame_of, nodes_after
from ..kg.snapshot import IdMap, Snapshot
from ..kg.store import Batch, GraphStore
from ..loaders.catalogue import EdgeKey
from ..loaders.load import plain_arrow
from .bundle import LOG_COLUMNS, Bundle, StoredVectors
from .evidence import Known, relations_of
from .folds import end_of
from .knowledge import rows_of, snapshot_of, with_relations
from .model import Ingredients, Model, indexed, scorable_at
from .terms import ItemItem, LowRank, Term, family

Encode = Callable[[Sequence[str]], np.ndarray]  # texts -> float32 [text, dim] of unit length
# Families by what they are computed from; what stands nowhere is cheap and always computed.
OF_RELATION = ("share", "to", "from", "twice", "cited")
OF_EVENTS = ("walk", "next", "previous", "basket", "ease_users", "ease_90d", "ease_sharp", "ease_basket")
OF_BOTH = ("ease", "ease_graph", "low_pass")


def events_of(bundle: Bundle) -> pl.DataFrame:
    """The log a model was fitted on as a catalogue has it: with ids, and all of it "train"."""
    log = bundle.log
    told = {name: getattr(log, name) for name in LOG_COLUMNS[2:] if getattr(log, name) is not None}
    user, item = (
        table["id"].take(pa.array(rows)) for table, rows in ((bundle.users, log.user), (bundle.items, log.item))
    )
    return frame_of(pa.table({"user": user, "item": item, **told})).with_columns(part=pl.lit("train"))


def changed(
    bundle: Bundle,
    stored: StoredVectors | None,
    net: Net,
    batch: Batch,
    events: pl.DataFrame,
    store: GraphStore,
    encode: Encode,
) -> Bundle:
    """The bundle of the shop after the changes, with the inputs of the one before.

    batch: the changes as the store applies them. events: the log after them. store: the graph before them.

    Raises:
        DataError: nothing is left to recommend, or nobody to recommend it to.
        ConfigError: a team's own GNN would have to be run on the changed graph.
    """
    config = ShopConfig.model_validate(bundle.config)
    label, user_label = config.items.label, config.users.label
    items = _sorted(nodes_after(_properties(bundle.items), label, batch))
    users = _sorted(nodes_after(bundle.users, user_label, _ids_alone(batch, user_label)))
    ids = IdMap(label, items["id"].to_pylist()), IdMap(user_label, users["id"].to_pylist())
    train = positives(InteractionLog.of(plain_arrow(events.filter(pl.col("part") == "train")), ids[1], ids[0]))
    if not len(train):
        raise DataError("the changes leave no interaction; a model needs some")
    edges = _edges(bundle, net, batch, store, ids[0])
    before = snapshot_of(bundle.items, bundle.edges, bundle.kinds, label)
    after = snapshot_of(items, edges, bundle.kinds, label)
    rows = ids[0].rows(before.ids[label].ids, missing="minus-one")
    text, new_text = _text(bundle, config, before, after, rows, encode)
    gnn = _vectors(stored, config, after, train, text, rows)
    derived = frozenset({config.baskets.relation} if config.baskets else ())
    relations = relations_of(after, label, config.relations, derived)
    given = Ingredients(config, train, relations, text, lambda *_: None, 0)
    known = _known(bundle, net, rows, new_text)
    return replace(
        bundle,
        model=_renewed(bundle.model, given, gnn, known),
        log=train,
        items=with_relations(items, edges, bundle.kinds, (label, user_label)),
        users=users,
        text=text,
        edges=edges,
        metrics={},
    )


def _properties(items: pa.Table) -> pa.Table:
    """The items without the columns that their relations made."""
    return items.select([name for name in items.column_names if not pa.types.is_list(items[name].type)])


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by("id")


def _ids_alone(batch: Batch, label: str) -> Batch:
    """A bundle keeps of users nothing but their ids."""
    nodes = {name: table.select(["id"]) for name, table in batch.nodes.items() if name == label}
    return replace(batch, nodes=nodes)


def _edges(bundle: Bundle, net: Net, batch: Batch, store: GraphStore, ids: IdMap) -> pa.Table:
    """The edges that leave items, after the changes; ids: the items of now."""
    frame = frame_of(bundle.edges).with_columns(pl.col("relation", "label").cast(pl.String), source=_sources(bundle))
    frame = frame.filter(~_leaves(net, batch, ids.node_type))
    cut, drawn = (
        {key: _ends(key, table) for key, table in tables.items() if key.source == ids.node_type}
        for tables in (batch.delete_edges, batch.edges)
    )
    told = [*cut.values(), *drawn.values()]
    if told:
        frame = frame.join(pl.concat(told), on=told[0].columns, how="anti", maintain_order="left")
    named = [
        ends.join(_names(store, key.target), left_on="target", right_on="id", how="left")
        .with_columns(name=_name_or("target"))
        .select(frame.columns)
        for key, ends in drawn.items()
    ]
    frame = _renamed(pl.concat([frame, *named]), batch)
    row = pl.Series(rows_of(ids, frame["source"].to_arrow()))
    table = plain_arrow(frame.with_columns(source=row).sort("relation", "label", "source", "target"))
    for name in ("relation", "label"):
        table = table.set_column(table.column_names.index(name), name, table[name].dictionary_encode())
    return table.combine_chunks()


def _sources(bundle: Bundle) -> pl.Series:
    """The ids of the items that the bundle's edges leave."""
    return frame_of(pa.table({"id": bundle.items["id"].take(bundle.edges["source"])}))["id"]


def _leaves(net: Net, batch: Batch, label: str) -> pl.Expr:
    """Which edges go with one of their ends, or because all of their source's are told anew."""
    gone = pl.col("source").is_in(list(net.gone[label]))
    for other, retired in net.gone.items():
        gone |= (pl.col("label") == other) & pl.col("target").is_in(list(retired))
    for key, sources in batch.replace_edges_of.items():
        if key.source == label:
            gone |= _of(key) & pl.col("source").is_in(list(sources))
    return gone


def _of(key: EdgeKey) -> pl.Expr:
    return (pl.col("relation") == key.relation) & (pl.col("label") == key.target)


def _ends(key: EdgeKey, table: pa.Table) -> pl.DataFrame:
    """These edges of one relation without their properties."""
    return frame_of(table.select(ENDS)).with_columns(relation=pl.lit(key.relation), label=pl.lit(key.target))


def _name_or(id_: str) -> pl.Expr:
    """What a node is called: its id where it has no name or an empty one, as :func:`.knowledge.edges_of` has it."""
    return pl.when(pl.col("name") != "").then("name").otherwise(id_)


def _names(store: GraphStore, label: str) -> pl.DataFrame:
    """What the nodes there are are called: id and name."""
    if store.schema().nodes[label].get("name") != "string":
        return pl.DataFrame(schema={"id": pl.String, "name": pl.String})
    return frame_of(store.nodes(label, ["name"]))


def _renamed(frame: pl.DataFrame, batch: Batch) -> pl.DataFrame:
    """The names of new and renamed nodes at the edges that lead to them."""
    for label, table in batch.nodes.items():
        if "name" in table.column_names and pa.types.is_string(table["name"].type):
            told = frame_of(table.select(["id", "name"])).select(
                pl.lit(label).alias("label"), pl.col("id").alias("target"), told=_name_or("id")
            )
            frame = frame.join(told, on=["label", "target"], how="left", maintain_order="left")
            frame = frame.with_columns(name=pl.coalesce("told", "name")).drop("told")
    return frame


def _text(
    bundle: Bundle, config: ShopConfig, before: Snapshot, after: Snapshot, rows: np.ndarray, encode: Encode
) -> tuple[np.ndarray | None, np.ndarray]:
    """M(s) of the items of now, and bool [item]: whose text is new; only those are encoded."""
    label = config.items.label
    new = np.ones(len(after.ids[label]), bool)
    if bundle.text is None:
        return None, new
    parts, earlier = (parts_of(snapshot, label, config.text_fields) for snapshot in (after, before))
    new[[row for old, row in enumerate(rows.tolist()) if row >= 0 and parts[row] == earlier[old]]] = False
    vectors = _moved_rows(bundle.text, rows, len(new))
    dirty = np.flatnonzero(new)
    vectors[dirty] = 0
    texts = [joined(parts[row]) for row in dirty]
    if any(texts):
        found = encode(texts)
        if found.shape[1] != vectors.shape[1]:
            raise DataError("the shop's items had no texts before this change; rebuild it to learn from them")
        vectors[dirty] = found
    return vectors, new


def _vectors(
    stored: StoredVectors | None,
    config: ShopConfig,
    after: Snapshot,
    log: InteractionLog,
    text: np.ndarray | None,
    rows: np.ndarray,
) -> RelationVectors | None:
    """R_s by the weights of before."""
    if stored is None:
        return None
    derived = {config.baskets.relation} if config.baskets else set()
    label = config.items.label
    came = np.full(len(after.ids[label]), -1, np.int64)
    came[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    unused = {name for name, relation in config.relations.items() if not relation.use}
    return propagate(
        after.data,
        label,
        log,
        text,
        config.gnn,
        exclude=frozenset(derived | unused),
        trained=stored,
        rows=came,
    )


def _renewed(model: Model, given: Ingredients, gnn: RelationVectors | None, known: Known) -> Model:
    """The model's weights over the terms of these ingredients."""
    now = end_of(given.log, given.config.split)
    found = scorable_at(given, given.log, now, gnn, known)
    made = {term.name: term for term in found.terms}
    lost = [term.name for term in model.terms if term.name not in made]
    if lost:
        raise DataError(
            f"the changes leave nothing to compute {lost[0]!r} from, which the model reads; rebuild the shop"
        )
    renewed = replace(
        model,
        terms=tuple(made[term.name] for term in model.terms),
        allowed=found.allowed,
        about_items=found.about_items,
        now=now,
        decay=None if gnn is None else gnn.decay,
        vectors=gnn,
        index=None,
    )
    return renewed if model.index is None else indexed(renewed, given.log)


def _known(bundle: Bundle, net: Net, rows: np.ndarray, new_text: np.ndarray) -> Known:
    """What the changes cannot have touched, in the rows of now; rows: int64 [item of before], -1 for retired ones."""
    terms = {family(term.name): term for term in bundle.model.terms}
    label, user_label = (bundle.config[part]["label"] for part in ("items", "users"))
    linked = _touched(bundle, net, label)
    same_items = len(rows) == len(new_text) and bool((rows == np.arange(len(rows))).all())
    same_events = not (net.events or net.forgotten or net.gone[label] or net.gone[user_label])
    kept = {f"{kind}:{name}" for name, _ in bundle.kinds if name not in linked for kind in OF_RELATION}
    kept |= {name for name in terms if same_items and same_events and name.startswith(OF_EVENTS)}
    kept |= {name for name in OF_BOTH if same_items and same_events and not linked}
    kept |= {name for name in ("text_near",) if same_items and not new_text.any()}
    near = terms.get("text_near")
    return Known(
        frozenset(terms),
        {name: _placed(terms[name], rows, len(new_text)) for name in kept & terms.keys()},
        _moved(near.weights, rows, len(new_text)) if isinstance(near, ItemItem) else None,
        new_text,
    )


def _touched(bundle: Bundle, net: Net, label: str) -> set[str]:
    """The relations of items of which an edge comes or goes."""
    told = {key.relation for held in (net.edges, net.cut, net.emptied) for key, some in held.items() if some}
    frame = frame_of(bundle.edges.select(["source", "relation", "label", "target"]))
    lost = _sources(bundle).is_in(list(net.gone[label]))
    for other, ids in net.gone.items():
        lost |= (frame["label"].cast(pl.String) == other) & frame["target"].is_in(list(ids))
    return told | set(frame["relation"].cast(pl.String).filter(lost).unique())


def _placed(term: Term, rows: np.ndarray, n_items: int) -> Term:
    """A term in other rows; a new item has nothing in it."""
    if isinstance(term, ItemItem):
        return replace(term, weights=_moved(term.weights, rows, n_items))
    if isinstance(term, LowRank):
        return replace(term, left=_moved_rows(term.left, rows, n_items), right=_moved_rows(term.right, rows, n_items))
    return replace(term, values=_moved_rows(term.values, rows, n_items))


def _moved_rows(array: np.ndarray, rows: np.ndarray, n_items: int) -> np.ndarray:
    found = np.zeros((n_items, *array.shape[1:]), array.dtype)
    found[rows[rows >= 0]] = array[rows >= 0]
    return found


def _moved(matrix: sp.csr_matrix, rows: np.ndarray, n_items: int) -> sp.csr_matrix:
    """Sparse [item, item] in other rows and columns; ids are sorted before and after, so indices stay sorted too."""
    if len(rows) == n_items and (rows == np.arange(n_items)).all():
        return matrix
    source, target = np.repeat(rows, np.diff(matrix.indptr)), rows[matrix.indices]
    stays = (source >= 0) & (target >= 0)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(source[stays], minlength=n_items))])
    return sp.csr_matrix((matrix.data[stays], target[stays], indptr), shape=(n_items, n_items))
