"""Batches of changes on a catalogue, as if the shop's files had said so: what a rebuild learns from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl
import pyarrow as pa

from ..config import ShopConfig
from ..loaders.baskets import basket_numbers
from ..loaders.catalogue import HELD_OUT, INTERACTED, Catalogue, EdgeKey
from ..loaders.changes import Changes
from ..loaders.interactions import is_behind
from ..loaders.load import interaction_edges, plain_arrow
from .net import ENDS, Net, net_of
from .schema import Schema
from .store import Batch

COLUMNS = {
    "user": pl.String,
    "item": pl.String,
    "at": pl.Int64,
    "position": pl.Int64,
    "quantity": pl.Float64,
    "kind": pl.String,
    "label": pl.Int8,
}
SAME = ["user", "item", "at", "position", "quantity", "label"]  # training events that agree in these are one event


@dataclass(frozen=True)
class Tables:
    """A catalogue's tables as a batch is checked against them."""

    tables: Mapping[str, pa.Table]

    def nodes(self, label: str, columns: Sequence[str] = ()) -> pa.Table:
        """`id` and the columns."""
        return self.tables[label].select(["id", *columns])


def replayed(catalogue: Catalogue, batches: Iterable[Changes], config: ShopConfig) -> Catalogue:
    """The catalogue after these batches.

    Raises:
        DataError: a change does not fit what the files say now.
    """
    nodes, edges, events = dict(catalogue.nodes), dict(catalogue.edges), frame_of(catalogue.interactions)
    for changes in batches:
        schema = Schema.of(nodes, edges)
        net = net_of(changes, config, schema, Tables(nodes))
        batch = net.batch(changes.id, schema)
        nodes = {label: nodes_after(table, label, batch) for label, table in nodes.items()}
        edges = {key: _edges(table, key, batch) for key, table in edges.items()}
        if config.has_interactions:
            events = events_after(events, net, config)
    if not config.has_interactions:
        return replace(catalogue, nodes=nodes, edges=edges)
    if config.split.method == "last":
        events = _without_overtaken(events)
    emptied = {key: table.slice(0, 0) for key, table in edges.items() if key.relation in (INTERACTED, HELD_OUT)}
    made = {key: plain_arrow(table) for key, table in interaction_edges(config, events).items()}
    return replace(catalogue, nodes=nodes, edges=edges | emptied | made, interactions=plain_arrow(events))


def _without_overtaken(events: pl.DataFrame) -> pl.DataFrame:
    """Under split.method = "last": a held-out event with a training event behind it is no question of a test any more,
    for the model knows what came after it."""
    goes_on = (pl.col("user") == pl.col("user").shift(-1)).fill_null(False)
    overtaken = (pl.col("part") == "test") & goes_on
    return events.with_columns(part=pl.when(overtaken).then(pl.lit("overtaken")).otherwise("part"))


def frame_of(table: pa.Table) -> pl.DataFrame:
    """An Arrow table as polars has it."""
    found = pl.from_arrow(table)
    assert isinstance(found, pl.DataFrame)
    return found


def nodes_after(table: pa.Table, label: str, batch: Batch) -> pa.Table:
    """The nodes of a label, their `id` and properties, after a batch."""
    new = batch.nodes.get(label)
    gone = [*batch.delete_nodes.get(label, ()), *([] if new is None else new["id"].to_pylist())]
    if not gone:
        return table
    kept = frame_of(table).filter(~pl.col("id").is_in(gone))
    return plain_arrow(kept if new is None else pl.concat([kept, frame_of(new).select(kept.columns)]))


def _edges(table: pa.Table, key: EdgeKey, batch: Batch) -> pa.Table:
    gone = batch.delete_nodes
    held = (gone.get(key.source), gone.get(key.target), batch.replace_edges_of.get(key))
    if not any(held) and key not in batch.delete_edges and key not in batch.edges:
        return table
    frame = frame_of(table).filter(
        ~pl.col("source").is_in([*gone.get(key.source, ()), *batch.replace_edges_of.get(key, ())])
        & ~pl.col("target").is_in(list(gone.get(key.target, ())))
    )
    for other in (batch.delete_edges.get(key), batch.edges.get(key)):
        if other is not None:
            frame = frame.join(frame_of(other), on=ENDS, how="anti", maintain_order="left")
    if key in batch.edges:
        frame = pl.concat([frame, frame_of(batch.edges[key]).select(frame.columns)])
    return plain_arrow(frame)


def events_after(events: pl.DataFrame, net: Net, config: ShopConfig) -> pl.DataFrame:
    """A log, as a catalogue has it, without what is gone and with what is new, sorted as before."""
    user, item = pl.col("user"), pl.col("item")
    gone = user.is_in(list(net.gone[config.users.label])) | item.is_in(list(net.gone[config.items.label]))
    forgotten = pl.struct("user", "item").is_in([{"user": one, "item": other} for one, other in sorted(net.forgotten)])
    leaving = gone | forgotten if net.forgotten else gone
    touched = {*events.filter(leaving)["user"].unique(), *(event.user for event in net.events)}
    events = events.filter(~leaving)
    if net.events:
        order = [name for name in ("at", "position") if name in events.columns]
        events = pl.concat([events, _new(events, net, config)]).sort("user", *order, maintain_order=True)
    if "basket" in events.columns and config.baskets is not None and touched:
        events = events.with_columns(_baskets(events, touched, config.baskets.window_s))
    return events


def _new(events: pl.DataFrame, net: Net, config: ShopConfig) -> pl.DataFrame:
    """The events that are not known yet, in the columns of the log."""
    rows = [event.model_dump(exclude={"op"}) for event in net.events]
    parts = ["test" if is_behind(event.at, config.split) else "train" for event in net.events]
    new = pl.DataFrame(rows, schema=COLUMNS, orient="row").with_columns(part=pl.Series(parts, dtype=pl.String))
    train = events.filter(pl.col("part") == "train")
    if "position" in events.columns:
        told = pl.concat([train.select("user", "position"), new.select("user", "position")])
        newest = told.group_by("user").agg(newest=pl.col("position").max())
        after = new.join(newest, on="user", how="left", maintain_order="left")["newest"].fill_null(-1)
        new = new.with_columns(pl.coalesce("position", after + 1 + pl.int_range(pl.len()).over("user")))
    if "at" in events.columns:
        same = [name for name in SAME if name in events.columns]
        new = new.unique(subset=same, keep="first", maintain_order=True)
        new = new.join(train, on=same, how="anti", nulls_equal=True, maintain_order="left")
    basket = pl.lit(-1, pl.Int64).alias("basket")  # until they are numbered
    return new.with_columns(basket).select(pl.col(name).cast(kind) for name, kind in events.schema.items())


def _baskets(events: pl.DataFrame, touched: set[str], window_s: int) -> pl.Series:
    """`basket` of every event: of these users told anew, then all numbered by their first times."""
    theirs = pl.col("user").is_in(list(touched))
    own = events.filter(theirs)
    above = events["basket"].max() or 0
    assert isinstance(above, int)
    told = events.with_row_index("row").filter(theirs).select("row", told=basket_numbers(own, window_s) + above + 1)
    found = events.with_row_index("row").join(told, on="row", how="left", maintain_order="left")
    found = found.with_columns(basket=pl.coalesce("told", "basket"))
    first = found.group_by("basket", maintain_order=True).agg(pl.col("at").min()).sort("at", maintain_order=True)
    numbers = first.select("basket", number=pl.int_range(pl.len(), dtype=pl.Int64))
    return found.join(numbers, on="basket", how="left", maintain_order="left")["number"].alias("basket")
