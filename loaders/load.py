"""shop.toml to Catalogue: the loaders' one entry."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa

from ..config import EdgeFileSection, Property, ShopConfig
from ..errors import ConfigError, DataError, did_you_mean
from .attributes import attribute
from .catalogue import HELD_OUT, INTERACTED, Catalogue, EdgeKey
from .checks import known, present, unique_ids
from .interactions import bought_together, pairs, read_events
from .tables import ROW, Rejects, read_table, strings, typed
from .triples import triples

Nodes = dict[str, pl.DataFrame]
Edges = dict[EdgeKey, pl.DataFrame]
HOW = {
    "median": pl.Expr.median,
    "mean": pl.Expr.mean,
    "min": pl.Expr.min,
    "max": pl.Expr.max,
    "last": pl.Expr.last,
}


def load_catalogue(config: ShopConfig, *, split: int = 0, quarantine: Path | None = None) -> Catalogue:
    """Everything the shop's files say; `split` picks one of several split columns.

    Raises:
        ConfigError: the settings name something the files do not have.
        DataError: a file cannot be used as described. With `on_bad_rows = "quarantine"` bad rows are written to
            `quarantine`/rejected.csv with their reasons instead.
    """
    rejects = Rejects(config.shop.on_bad_rows == "quarantine")
    derived_columns = [spec.column for spec in config.items.derived.values()]
    user_columns = [] if config.users.file else [spec.column or n for n, spec in config.users.properties.items()]
    extra = tuple(dict.fromkeys([*derived_columns, *user_columns]))
    events = read_events(config, extra, split, rejects)
    items, columns = _items(config, events, rejects)
    if config.items.file is not None:
        file = config.shop.data / config.interactions.file
        events = known(events, "item", items["id"], "item", file, rejects)
    train = events.filter(pl.col("part") == "train")
    items = _derived(config, items, train, rejects)
    nodes: Nodes = {config.items.label: items, config.users.label: _users(config, events, train, rejects)}
    edges: Edges = {}
    for section in config.attributes:
        table = columns if section.column in columns.columns else items
        if section.column not in table.columns:
            raise ConfigError(
                f"attributes.{section.relation}: no column {section.column!r}{did_you_mean(section.column, columns.columns)}"
            )
        _merge(nodes, edges, *attribute(table, section, config.items.label))
    for edge_section in config.edges:
        _merge(nodes, edges, *_edge_file(config, edge_section, nodes, rejects))
    for triples_section in config.triples:
        _merge(nodes, edges, *triples(config, triples_section, items["id"], rejects))
    user, item = config.users.label, config.items.label
    edges[EdgeKey(user, INTERACTED, item)] = pairs(train)
    held_out = events.filter(pl.col("part") != "train")
    if held_out.height:
        edges[EdgeKey(user, HELD_OUT, item)] = pairs(held_out)
    derived = frozenset[str]()
    if config.baskets is not None:
        edges[EdgeKey(item, config.baskets.relation, item)] = bought_together(train, config)
        derived = frozenset({config.baskets.relation})
    if quarantine is not None:
        rejects.write(quarantine)
    _check_title(config, items)
    kept = [c for c in ("user", "item", "part", "at", "position", "quantity", "kind", "label", "basket") if c in events]
    return Catalogue(
        item,
        user,
        config.items.title,
        {label: _arrow(table) for label, table in nodes.items()},
        {key: _arrow(table) for key, table in edges.items()},
        _arrow(events.select(kept)),
        derived,
        rejects.counts,
    )


def _items(config: ShopConfig, events: pl.DataFrame, rejects: Rejects) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The item nodes (id and properties) and the columns attributes are made of."""
    section = config.items
    if section.file is None:
        items = events.select(pl.col("item").alias("id")).unique().sort("id")
        return items, items
    file = config.shop.data / section.file
    wanted = {name: spec.column or name for name, spec in section.properties.items()}
    raw_columns = [a.column for a in config.attributes if a.column not in {*section.derived, *section.properties}]
    raw = read_table(file, [section.id, *wanted.values(), *raw_columns])
    table = raw.select(
        ROW,
        strings(section.id).alias("id"),
        *(pl.col(column).alias(name) for name, column in wanted.items()),
        *(strings(column).alias(column) for column in dict.fromkeys(raw_columns) if column not in wanted),
    )
    table = unique_ids(table, "id", file, rejects)
    table = _typed(table, section.properties, file, rejects)
    return table.select("id", *wanted).sort("id"), table.drop(ROW)


def _typed(table: pl.DataFrame, properties: dict[str, Property], file: Path, rejects: Rejects) -> pl.DataFrame:
    for name, spec in properties.items():
        table = typed(table, name, spec.type, file, rejects)
    return table


def _derived(config: ShopConfig, items: pl.DataFrame, train: pl.DataFrame, rejects: Rejects) -> pl.DataFrame:
    file = config.shop.data / config.interactions.file
    for name, spec in config.items.derived.items():
        column = f"extra:{spec.column}"
        numbers = typed(train, column, "float", file, rejects).select("item", column).drop_nulls()
        value = HOW[spec.how](pl.col(column)).alias(name)
        computed = numbers.group_by("item", maintain_order=True).agg(value)
        items = items.join(computed, left_on="id", right_on="item", how="left", maintain_order="left")
    return items


def _users(config: ShopConfig, events: pl.DataFrame, train: pl.DataFrame, rejects: Rejects) -> pl.DataFrame:
    section = config.users
    users = events.select(pl.col("user").alias("id")).unique().sort("id")
    names = list(section.properties)
    if section.file is not None:
        file = config.shop.data / section.file
        wanted = {name: spec.column or name for name, spec in section.properties.items()}
        raw = read_table(file, [section.id, *wanted.values()])
        table = raw.select(ROW, strings(section.id).alias("id"), *(pl.col(c).alias(n) for n, c in wanted.items()))
        table = _typed(unique_ids(table, "id", file, rejects), section.properties, file, rejects)
        return pl.concat([users, table.select("id")]).unique().sort("id").join(table.drop(ROW), on="id", how="left")
    file = config.shop.data / config.interactions.file
    for name, spec in section.properties.items():
        column = f"extra:{spec.column or name}"
        filled = typed(train, column, spec.type, file, rejects).select("user", column).drop_nulls()
        newest = filled.group_by("user").last().rename({column: name})
        users = users.join(newest, left_on="id", right_on="user", how="left", maintain_order="left")
    return users.select("id", *names)


def _edge_file(config: ShopConfig, section: EdgeFileSection, nodes: Nodes, rejects: Rejects) -> tuple[Nodes, Edges]:
    file = config.shop.data / section.file
    wanted = {name: spec.column or name for name, spec in section.properties.items()}
    raw = read_table(file, [section.source, section.target, *wanted.values()])
    table = raw.select(
        ROW,
        strings(section.source).alias("source"),
        strings(section.target).alias("target"),
        *(pl.col(column).alias(name) for name, column in wanted.items()),
    )
    table = present(present(table, "source", file, rejects), "target", file, rejects)
    table = _typed(table, section.properties, file, rejects)
    if section.source_label not in nodes:
        raise ConfigError(
            f"edges.{section.relation}: no label {section.source_label!r}{did_you_mean(section.source_label, nodes)}"
        )
    table = known(table, "source", nodes[section.source_label]["id"], section.source_label, file, rejects)
    if section.target_label == config.items.label:
        table = known(table, "target", nodes[section.target_label]["id"], section.target_label, file, rejects)
    distinct = table.drop(ROW).unique(subset=["source", "target"], keep="last", maintain_order=True)
    rejects.drop(file.name, "repeated edge", table.height - distinct.height)
    new = distinct.select(pl.col("target").alias("id"), pl.col("target").alias("name")).unique().sort("id")
    made = {} if section.target_label == config.items.label else {section.target_label: new}
    key = EdgeKey(section.source_label, section.relation, section.target_label)
    return made, {key: distinct.sort("source", "target")}


def _merge(nodes: Nodes, edges: Edges, more_nodes: Nodes, more_edges: Edges) -> None:
    """Add nodes and edges to what is there; a node that is there already keeps its properties."""
    for label, table in more_nodes.items():
        if label not in nodes:
            nodes[label] = table
            continue
        new = table.join(nodes[label], on="id", how="anti")
        common = [column for column in table.columns if column in nodes[label].columns]
        nodes[label] = pl.concat([nodes[label], new.select(common)], how="diagonal").sort("id")
    for key, table in more_edges.items():
        joined = table if key not in edges else pl.concat([edges[key], table], how="diagonal")
        edges[key] = joined.unique(subset=["source", "target"], keep="first").sort("source", "target")


def _check_title(config: ShopConfig, items: pl.DataFrame) -> None:
    title = config.items.title
    if title is not None and title not in items.columns:
        raise ConfigError(f"items.title {title!r} is no item property{did_you_mean(title, items.columns)}")
    if items.is_empty():
        raise DataError("the shop has no items")


def _arrow(table: pl.DataFrame) -> pa.Table:
    found = table.to_arrow()
    plain = [
        pa.field(f.name, pa.string() if pa.types.is_large_string(f.type) or str(f.type) == "string_view" else f.type)
        for f in found.schema
    ]
    return found.cast(pa.schema(plain))
