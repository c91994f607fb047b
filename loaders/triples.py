"""Ready knowledge graphs: head, relation, tail, with or without a table of entities."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from ..config import ShopConfig, TriplesSection
from .catalogue import EdgeKey
from .checks import known, present, unique_ids
from .tables import ROW, Rejects, read_table, strings

Nodes = dict[str, pl.DataFrame]
Edges = dict[EdgeKey, pl.DataFrame]


def label_of(text: str) -> str:
    """A label from a type's name: "related_product" -> "RelatedProduct"."""
    words = re.findall(r"[A-Za-z0-9]+", text)
    label = "".join(word[:1].upper() + word[1:] for word in words)
    return label if label[:1].isalpha() else f"Type{label}"


def relation_of(text: str) -> str:
    """A relation type from a relation's name: "music.artist.origin" -> "MUSIC_ARTIST_ORIGIN"."""
    name = "_".join(re.findall(r"[A-Za-z0-9]+", text)).upper()[:60]
    return name if name[:1].isalpha() else f"REL_{name}"


def triples(config: ShopConfig, section: TriplesSection, items: pl.Series, rejects: Rejects) -> tuple[Nodes, Edges]:
    """Entities that are items become the items themselves; self-loops and repeated triples are dropped and counted."""
    file = config.shop.data / section.file
    table = read_table(file, [section.head, section.relation, section.tail])
    table = table.select(
        ROW,
        strings(section.head).alias("head"),
        strings(section.relation).alias("relation"),
        strings(section.tail).alias("tail"),
    )
    for column in ("head", "relation", "tail"):
        table = present(table, column, file, rejects)
    table = _named(table, config, section, file, rejects)
    if section.only:
        table = table.filter(pl.col("relation").is_in(list(section.only)))
    table = table.filter(~pl.col("relation").is_in(list(section.skip)))
    entities = _entities(table, config, section, items, file, rejects)
    for end in ("head", "tail"):
        table = known(table, end, entities["entity"], "entity", file, rejects)
        renamed = entities.rename({"entity": end, "id": f"{end}_id", "label": f"{end}_label"}).drop("name")
        table = table.join(renamed, on=end, how="left", maintain_order="left")
    loops = (table["head_label"] == table["tail_label"]) & (table["head_id"] == table["tail_id"])
    rejects.drop(file.name, "self-loop", int(loops.sum()))
    columns = ("head_label", "relation", "tail_label", "head_id", "tail_id")
    clean = table.filter(~loops).select(columns)
    distinct = clean.unique()
    rejects.drop(file.name, "repeated triple", clean.height - distinct.height)
    return _nodes(entities, distinct, config.items.label), _edges(distinct)


def _named(
    table: pl.DataFrame, config: ShopConfig, section: TriplesSection, file: Path, rejects: Rejects
) -> pl.DataFrame:
    if section.names is None:
        return table
    names_file = config.shop.data / section.names.file
    names = read_table(names_file, [section.names.id, section.names.name])
    names = names.select(
        ROW, strings(section.names.id).alias("number"), strings(section.names.name).alias("relation_name")
    )
    names = unique_ids(names, "number", names_file, rejects).drop(ROW)
    table = known(table, "relation", names["number"], "relation", file, rejects)
    joined = table.join(names, left_on="relation", right_on="number", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("relation_name", "relation").alias("relation")).drop("relation_name")


def _entities(
    table: pl.DataFrame, config: ShopConfig, section: TriplesSection, items: pl.Series, file: Path, rejects: Rejects
) -> pl.DataFrame:
    """entity (as in the triples), id, label, name of every entity."""
    item_label = config.items.label
    if section.entities is None:
        ids = pl.concat([table["head"], table["tail"]]).unique().sort().alias("entity")
        shared = ids.is_in(items.implode()) if section.items == "shared" else pl.Series([False] * len(ids))
        label = pl.when(shared).then(pl.lit(item_label)).otherwise(pl.lit(section.label)).alias("label")
        return pl.DataFrame([ids]).select("entity", pl.col("entity").alias("id"), label, pl.col("entity").alias("name"))
    spec, entity_file = section.entities, config.shop.data / section.entities.file
    optional = {"type": spec.type, "name": spec.name, "item": spec.item}
    told = {name: column for name, column in optional.items() if column is not None}
    raw = read_table(entity_file, [spec.id, *told.values()])
    found = raw.select(ROW, strings(spec.id).alias("entity"), *(strings(c).alias(n) for n, c in told.items()))
    found = unique_ids(found, "entity", entity_file, rejects)
    found = found.with_columns(pl.lit(None, pl.String).alias(name) for name in optional if name not in told)
    labels = {text: label_of(text) for text in found["type"].drop_nulls().unique()}
    is_item = pl.col("item").is_not_null() if spec.item else pl.col("entity").is_in(items.implode())
    if section.items == "none" and not spec.item:
        is_item = pl.lit(False)
    label = pl.col("type").replace_strict(labels, default=section.label, return_dtype=pl.String)
    found = found.with_columns(
        pl.when(is_item).then(pl.lit(item_label)).otherwise(label).alias("label"),
        pl.when(is_item).then(pl.coalesce("item", "entity")).otherwise(pl.col("entity")).alias("id"),
        pl.coalesce("name", "entity").alias("name"),
    )
    mine = found.filter(pl.col("label") == item_label)
    known(mine, "id", items, "item", entity_file, rejects)
    return found.select("entity", "id", "label", "name")


def _nodes(entities: pl.DataFrame, used: pl.DataFrame, item_label: str) -> Nodes:
    nodes: Nodes = {}
    heads = used.select(pl.col("head_label").alias("label"), pl.col("head_id").alias("id"))
    tails = used.select(pl.col("tail_label").alias("label"), pl.col("tail_id").alias("id"))
    touched = pl.concat([heads, tails]).unique()
    kept = entities.join(touched, on=["label", "id"], how="semi").filter(pl.col("label") != item_label)
    for (label,), rows in kept.group_by("label"):
        nodes[str(label)] = rows.select("id", "name").sort("id")
    return nodes


def _edges(table: pl.DataFrame) -> Edges:
    edges: Edges = {}
    for (head, relation, tail), rows in table.group_by("head_label", "relation", "tail_label"):
        key = EdgeKey(str(head), relation_of(str(relation)), str(tail))
        ends = rows.select(pl.col("head_id").alias("source"), pl.col("tail_id").alias("target"))
        edges[key] = pl.concat([edges[key], ends]).unique() if key in edges else ends
    return {key: edges[key].sort("source", "target") for key in sorted(edges)}
