"""shop.toml and its tables to a Catalogue: the loaders' one entry."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa

from ..config import ShopConfig
from ..errors import ConfigError, DataError, did_you_mean
from .attributes import Edges, Nodes, attribute
from .baskets import bought_together
from .catalogue import HELD_OUT, INTERACTED, Catalogue, EdgeKey
from .checks import Rejects
from .edges import edge_table
from .interactions import no_events, pairs, positive, read_events
from .nodes import RAW, item_table, log_columns, node_table, user_table, with_derived
from .search import searches
from .source import Files, Source
from .triples import triples

EVENT_COLUMNS = ("user", "item", "part", "at", "position", "quantity", "kind", "label", "basket")


def load_catalogue(
    config: ShopConfig, *, source: Source | None = None, split: int = 0, quarantine: Path | None = None
) -> Catalogue:
    """Everything the shop's source says (default: its files); `split` picks one of several split columns.

    Raises:
        ConfigError: the settings name something the source does not have.
        DataError: a table cannot be used as described. With `on_bad_rows = "quarantine"` bad rows are left out instead
            and written to `quarantine`/rejected.csv with their reasons.
    """
    _check_settings(config)
    source = source if source is not None else Files(config)
    rejects = Rejects(config.shop.on_bad_rows == "quarantine")
    if config.has_interactions:
        items, events, users = _with_log(config, source, split, rejects)
        nodes: Nodes = {config.items.label: _declared(items), config.users.label: users}
    else:
        events = no_events()
        items = item_table(config, source, events, rejects)
        nodes = {config.items.label: _declared(items)}
    edges: Edges = {}
    _add_knowledge(config, source, nodes, edges, items, rejects)
    if config.has_interactions:
        _add_interactions(config, edges, events)
    asked = None if config.search is None else searches(config, config.search, items["id"], rejects)
    if quarantine is not None:
        rejects.write(quarantine)
    return Catalogue(
        config.items.label,
        config.users.label,
        {label: plain_arrow(table) for label, table in nodes.items()},
        {key: plain_arrow(table) for key, table in edges.items()},
        plain_arrow(events.select(name for name in EVENT_COLUMNS if name in events.columns)),
        frozenset({config.baskets.relation} if config.baskets else ()),
        None if asked is None else plain_arrow(asked),
        rejects.counts,
    )


def _with_log(
    config: ShopConfig, source: Source, split: int, rejects: Rejects
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Items with their derived properties, the events of known items, and the users."""
    log = read_events(config, source, split, log_columns(config), rejects)
    items = item_table(config, source, log.frame, rejects)
    if config.has_item_table:
        log = log.known("item", items["id"], "item")
    train = _training(log.frame)
    if train.is_empty():
        raise DataError(f"{log.origin.place}: no training event is left after the checks")
    if positive(train).is_empty():
        raise DataError(f"{log.origin.place}: no training row is labelled 1; only those are history")
    users = user_table(config, source, log.frame, train, rejects)
    return with_derived(config, items, train), log.frame, users


def _training(events: pl.DataFrame) -> pl.DataFrame:
    return events.filter(pl.col("part") == "train")


def _declared(items: pl.DataFrame) -> pl.DataFrame:
    return items.select(name for name in items.columns if not name.startswith(RAW))


def _check_settings(config: ShopConfig) -> None:
    """Names that would meet in the graph, and a title that is no property."""
    properties = [*config.items.properties, *config.items.derived]
    for name in {"id", "source", "target"} & {*properties, *config.users.properties}:
        raise ConfigError(f"{name!r} is a name of the graph's own; call the property otherwise (column = {name!r})")
    for name in config.items.properties.keys() & config.items.derived.keys():
        raise ConfigError(f"items.derived.{name} is in items.properties too; give one of them another name")
    if not config.has_item_table and (config.items.properties or config.items.title):
        raise ConfigError("items.properties and items.title need items.file")
    if config.items.title is not None and config.items.title not in ("id", *properties):
        hint = did_you_mean(config.items.title, properties)
        raise ConfigError(f"items.title {config.items.title!r} is no item property{hint}")
    labels = Counter(section.label for section in config.attributes)
    for section in config.attributes:
        if isinstance(section.bands, int) and labels[section.label] > 1:
            raise ConfigError(f"attributes.{section.relation}: bands cut by quantiles need a label of their own")
    relations = [*(section.relation for section in config.attributes), *(section.relation for section in config.edges)]
    for relation in relations:
        if relation in (INTERACTED, HELD_OUT) or relation.startswith("rev_"):
            raise ConfigError(f"relation {relation!r} is a name of the graph's own; choose another one")


def _add_knowledge(
    config: ShopConfig, source: Source, nodes: Nodes, edges: Edges, items: pl.DataFrame, rejects: Rejects
) -> None:
    """What is known about the items: other nodes, attributes in columns, ready graphs, relations."""
    label = config.items.label
    for kind in config.nodes:
        if kind.label in nodes:
            raise ConfigError(
                f"nodes.{kind.label}: the shop has {kind.label} nodes already; give the label another name"
            )
        nodes[kind.label] = node_table(source, kind, rejects)
    for section in config.attributes:
        column = section.column if section.column in items.columns else RAW + section.column
        if column not in items.columns:
            hint = did_you_mean(section.column, nodes[label].columns)
            raise ConfigError(f"attributes.{section.relation}: no column {section.column!r}{hint}")
        _merge(nodes, edges, *attribute(items, column, section, label))
    for ready in config.triples:
        _merge(nodes, edges, *_leaving_items(config, *triples(config, ready, items["id"], rejects)))
    for relation in source.relations(rejects):
        _merge(nodes, edges, *edge_table(config, source, relation, nodes, rejects))


def _add_interactions(config: ShopConfig, edges: Edges, events: pl.DataFrame) -> None:
    found = interaction_edges(config, events)
    if config.baskets is not None and EdgeKey(config.items.label, config.baskets.relation, config.items.label) in edges:
        relation = config.baskets.relation
        raise ConfigError(f"baskets.relation {relation!r} is in the shop's graph already; choose another name")
    edges.update(found)


def interaction_edges(config: ShopConfig, events: pl.DataFrame) -> Edges:
    """The edges that are made from events: what users took, what is held out, and what was bought together."""
    user, item, train = config.users.label, config.items.label, _training(events)
    edges = {EdgeKey(user, INTERACTED, item): pairs(train)}
    held_out = events.filter(pl.col("part") != "train")
    if config.split.method != "none":  # declared even when there are none yet: updates may bring them
        edges[EdgeKey(user, HELD_OUT, item)] = pairs(held_out)
    if config.baskets is not None:
        edges[EdgeKey(item, config.baskets.relation, item)] = bought_together(positive(train), config.baskets)
    return edges


def _leaving_items(config: ShopConfig, nodes: Nodes, edges: Edges) -> tuple[Nodes, Edges]:
    """The triples with those into items turned round: models and reasons look for what is known of an item among the
    edges that leave it, and in a ready graph it is often a matter of taste which end is the head."""
    item, turned = config.items.label, Edges()
    for key, table in edges.items():
        if key.target == item and key.source not in (item, config.users.label):
            back = table.rename({"source": "target", "target": "source"})
            _merge({}, turned, {}, {EdgeKey(item, key.relation, key.source): back.select(table.columns)})
        else:
            _merge({}, turned, {}, {key: table})
    return nodes, turned


def _merge(nodes: Nodes, edges: Edges, more_nodes: Nodes, more_edges: Edges) -> None:
    """Add nodes and edges to what is there; a node or edge that is there already keeps its properties, and a property
    its type: where a shop's own `name` is a number, nodes that only an edge names have none."""
    for label, table in more_nodes.items():
        if label in nodes:
            kinds = {**table.schema, **nodes[label].schema}
            alike = table.select(name for name, kind in table.schema.items() if kinds[name] == kind)
            joined = pl.concat([nodes[label], alike], how="diagonal")
        else:
            joined = table
        nodes[label] = joined.unique(subset="id", keep="first", maintain_order=True).sort("id")
    for key, table in more_edges.items():
        joined = table if key not in edges else pl.concat([edges[key], table], how="diagonal")
        edges[key] = joined.unique(subset=["source", "target"], keep="first", maintain_order=True).sort(
            "source", "target"
        )


def plain_arrow(table: pl.DataFrame) -> pa.Table:
    """The table in the types a graph store takes: plain strings, no views."""
    found = table.to_arrow()
    text = (pa.types.is_large_string, pa.types.is_string_view)
    plain = [field.with_type(pa.string()) if any(is_(field.type) for is_ in text) else field for field in found.schema]
    return found.cast(pa.schema(plain))
