"""A batch of changes as a store applies it: the nodes and edges it names, and the edges that are made from events."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pyarrow as pa

from ..config import ShopConfig
from ..loaders.baskets import bought_together
from ..loaders.catalogue import HELD_OUT, INTERACTED, EdgeKey
from ..loaders.interactions import pairs, positive
from ..loaders.load import plain_arrow
from .net import ENDS, Net
from .replay import frame_of
from .schema import Schema
from .store import Batch, GraphStore

TOTALS = {"count": pl.Expr.sum, "quantity": pl.Expr.sum, "first_at": pl.Expr.min, "last_at": pl.Expr.max}


def store_batch(
    id_: str, net: Net, config: ShopConfig, store: GraphStore, before: pl.DataFrame, after: pl.DataFrame
) -> Batch:
    """The whole batch. before, after: the training events as a catalogue has them, and after the change also those
    new ones that are held out."""
    schema, batch = store.schema(), net.batch(id_, store.schema())
    taken, held = (EdgeKey(config.users.label, relation, config.items.label) for relation in (INTERACTED, HELD_OUT))
    edges, gone = dict(batch.edges), dict(batch.delete_edges)
    forgotten = pl.DataFrame(sorted(net.forgotten), schema=dict.fromkeys(ENDS, pl.String), orient="row")
    if net.forgotten:
        gone |= {key: plain_arrow(forgotten) for key in (taken, held) if key in schema.edges}
    touched = {event.user for event in net.events}
    if touched:
        named = pl.DataFrame(
            sorted({(event.user, event.item) for event in net.events}),
            schema=dict.fromkeys(ENDS, pl.String),
            orient="row",
        )
        theirs = after.filter(pl.col("user").is_in(list(touched)))
        edges[taken] = plain_arrow(pairs(theirs.filter(pl.col("part") == "train")).join(named, on=ENDS, how="semi"))
        behind = pairs(theirs.filter(pl.col("part") != "train"))
        if behind.height and held in schema.edges:
            edges[held] = plain_arrow(_added(behind, _present(store, held, schema, forgotten)))
    if config.baskets is not None:
        key = EdgeKey(config.items.label, config.baskets.relation, config.items.label)
        old, new = (bought_together(positive(_train(events)), config.baskets) for events in (before, after))
        gone[key] = plain_arrow(old.join(new, on=ENDS, how="anti").select(ENDS))
        edges[key] = plain_arrow(new.join(old, on=new.columns, how="anti"))
    return replace(
        batch,
        edges={key: table for key, table in edges.items() if table.num_rows},
        delete_edges={key: table for key, table in gone.items() if table.num_rows},
    )


def _train(events: pl.DataFrame) -> pl.DataFrame:
    return events.filter(pl.col("part") == "train")


def _present(store: GraphStore, key: EdgeKey, schema: Schema, forgotten: pl.DataFrame) -> pl.DataFrame:
    """The edges of a relation with ids, without the forgotten ones."""
    names = list(schema.edges[key])
    found = store.edges(key, names)
    ends = {
        end: store.nodes(label)["id"].take(pa.array(rows))
        for end, label, rows in (("source", key.source, found.source), ("target", key.target, found.target))
    }
    table = frame_of(pa.table({**ends, **found.columns}))
    return table.join(forgotten, on=ENDS, how="anti")


def _added(new: pl.DataFrame, present: pl.DataFrame) -> pl.DataFrame:
    """New pairs, with what their edges say already."""
    both = pl.concat([new, present.join(new, on=ENDS, how="semi").select(new.columns).cast(new.schema)])
    totals = {name: TOTALS.get(name, pl.Expr.max)(pl.col(name)) for name in new.columns if name not in ENDS}
    return both.group_by(ENDS).agg(**totals)
