"""Ready knowledge graphs: head, relation, tail, with or without a table of entities."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from ..config import EntityTable, ShopConfig, TriplesSection
from ..errors import ConfigError, did_you_mean
from .attributes import Edges, Nodes
from .catalogue import EdgeKey
from .checks import Rejects, Sheet


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
    """Nodes (id, name) and edges of one [[triples]] entry; `items` are the known item ids.

    Entities that are items become the items themselves; self-loops and repeated triples are dropped and counted.
    """
    data = config.shop.data
    names = {"head": section.head, "relation": section.relation, "tail": section.tail}
    sheet = Sheet.read(data / section.file, names, rejects)
    for name in names:
        sheet = sheet.typed(name).present(name)
    sheet = _kept(_named(sheet, section, data), section)
    entities = _entities(sheet, config, section, items)
    for end in ("head", "tail"):
        sheet = sheet.known(end, entities["entity"], "entity")
        places = entities.select(pl.col("entity").alias(end), **{f"{end}_id": "id", f"{end}_label": "label"})
        sheet = sheet.with_frame(sheet.frame.join(places, on=end, how="left", maintain_order="left"))
    loops = (sheet.frame["head_label"] == sheet.frame["tail_label"]) & (
        sheet.frame["head_id"] == sheet.frame["tail_id"]
    )
    sheet = sheet.drop(loops, "self-loop")
    relations = {name: relation_of(name) for name in sheet.frame["relation"].unique()}
    table = sheet.frame.select(
        "head_label", pl.col("relation").replace_strict(relations), "tail_label", source="head_id", target="tail_id"
    )
    distinct = table.unique()
    rejects.count(sheet.origin.name, "repeated triple", table.height - distinct.height)
    return _nodes(entities, distinct, config.items.label), _edges(distinct)


def _named(sheet: Sheet, section: TriplesSection, data: Path) -> Sheet:
    """The triples with the names of numbered relations; a relation without a name keeps its number."""
    if section.names is None:
        return sheet
    columns = {"number": section.names.id, "name": section.names.name}
    names = Sheet.read(data / section.names.file, columns, sheet.rejects).typed("number").typed("name").unique("number")
    sheet = sheet.known("relation", names.frame["number"], "relation")
    joined = sheet.frame.join(
        names.frame.select("number", "name"), left_on="relation", right_on="number", how="left", maintain_order="left"
    )
    return sheet.with_frame(joined.with_columns(relation=pl.coalesce("name", "relation")).drop("name"))


def _kept(sheet: Sheet, section: TriplesSection) -> Sheet:
    """The triples of the relations asked for."""
    relations = sheet.frame["relation"].unique().to_list()
    for name in (*section.only, *section.skip):
        if name not in relations:
            raise ConfigError(f"triples: {section.file} has no relation {name!r}{did_you_mean(name, relations)}")
    wanted = [name for name in relations if (not section.only or name in section.only) and name not in section.skip]
    return sheet.with_frame(sheet.frame.filter(pl.col("relation").is_in(wanted)))


def _entities(sheet: Sheet, config: ShopConfig, section: TriplesSection, items: pl.Series) -> pl.DataFrame:
    """entity (as in the triples), id, label, name of every entity."""
    if section.entities is not None:
        return _told_entities(config, section, section.entities, items, sheet.rejects)
    ids = pl.concat([sheet.frame["head"], sheet.frame["tail"]]).unique().sort()
    shared = pl.col("entity").is_in(items.implode()) if section.items == "shared" else pl.lit(False)
    label = pl.when(shared).then(pl.lit(config.items.label)).otherwise(pl.lit(section.label))
    return pl.DataFrame({"entity": ids, "id": ids, "name": ids}).with_columns(label=label)


def _told_entities(
    config: ShopConfig, section: TriplesSection, told: EntityTable, items: pl.Series, rejects: Rejects
) -> pl.DataFrame:
    columns = {"entity": told.id, "type": told.type, "name": told.name, "item": told.item}
    names = {name: column for name, column in columns.items() if column is not None}
    sheet = Sheet.read(config.shop.data / told.file, names, rejects)
    for name in names:
        sheet = sheet.typed(name)
    sheet = sheet.unique("entity")
    if told.item is not None:
        lost = ~(sheet.frame["item"].is_in(items.implode()) | sheet.frame["item"].is_null())
        sheet = sheet.check("item", lost, "is no item of the shop", items)
        is_item = pl.col("item").is_not_null()
    else:
        is_item = pl.col("entity").is_in(items.implode()) if section.items == "shared" else pl.lit(False)
    blank = {name: pl.lit(None, pl.String) for name in columns if name not in names}
    found = sheet.frame.with_columns(**blank)
    labels = {text: label_of(text) for text in found["type"].drop_nulls().unique()}
    label = pl.col("type").replace_strict(labels, default=section.label, return_dtype=pl.String)
    entities = sheet.with_frame(
        found.with_columns(
            label=pl.when(is_item).then(pl.lit(config.items.label)).otherwise(label),
            id=pl.when(is_item).then(pl.coalesce("item", "entity")).otherwise(pl.col("entity")),
            name=pl.coalesce("name", "entity"),
        )
    )
    strange = (entities.frame["label"] == config.items.label) & ~entities.frame["id"].is_in(items.implode())
    return entities.check("entity", strange, f"has the type {config.items.label} and is no item of the shop").frame


def _nodes(entities: pl.DataFrame, used: pl.DataFrame, item_label: str) -> Nodes:
    """The entities some triple touches, by label; items have their nodes already."""
    heads = used.select(label="head_label", id="source")
    tails = used.select(label="tail_label", id="target")
    touched = pl.concat([heads, tails]).unique()
    kept = entities.join(touched, on=["label", "id"], how="semi").filter(pl.col("label") != item_label)
    return {str(label): rows.select("id", "name").sort("id") for (label,), rows in kept.group_by("label")}


def _edges(table: pl.DataFrame) -> Edges:
    grouped = table.group_by("head_label", "relation", "tail_label")
    found = {EdgeKey(*map(str, key)): rows.select("source", "target").sort("source", "target") for key, rows in grouped}
    return dict(sorted(found.items()))
