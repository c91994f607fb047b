"""Relations told edge by edge: source, target and typed properties of the edge."""

from __future__ import annotations

import polars as pl

from ..config import EdgesSection, ShopConfig
from ..errors import ConfigError, did_you_mean
from .attributes import Edges, Nodes, named_nodes
from .catalogue import EdgeKey
from .checks import Rejects, Sheet
from .source import Source


def edge_table(
    config: ShopConfig, source: Source, section: EdgesSection, nodes: Nodes, rejects: Rejects
) -> tuple[Nodes, Edges]:
    """Nodes and edges of one relation. Items and users must exist; so must other sources that only a file speaks of.

    Of repeated pairs the last one counts, as in a log of changes; a source that counts them says so in `count`.
    """
    key = EdgeKey(section.source_label or config.items.label, section.relation, section.target_label)
    if key.source not in nodes and source.names(key.source) is None:
        raise ConfigError(f"edges.{key.relation}: no label {key.source!r}{did_you_mean(key.source, nodes)}")
    columns = {name: (spec.column or name, spec.type) for name, spec in section.properties.items()}
    sheet = source.edges(section, columns, rejects)
    sheet = sheet.typed("source").typed("target").present("source", "target")
    for name, (_, kind) in columns.items():
        sheet = sheet.typed(name, kind)
    open_ends = [end for end in ("source", "target") if _is_open(config, source, key, end)]
    for end in {"source", "target"}.difference(open_ends):
        label = getattr(key, end)
        sheet = sheet.known(end, nodes[label]["id"], label)
    table = sheet.frame.select("source", "target", *dict.fromkeys([*columns, *_counted(sheet)]))
    distinct = table.unique(subset=["source", "target"], keep="last")
    rejects.count(sheet.origin.name, "repeated edge", table.height - distinct.height)
    found: dict[str, list[pl.Series]] = {}
    for end in open_ends:
        found.setdefault(getattr(key, end), []).append(distinct[end].alias("id"))
    return {label: _nodes(source, label, pl.concat(ids)) for label, ids in found.items()}, {key: distinct}


def _is_open(config: ShopConfig, source: Source, key: EdgeKey, end: str) -> bool:
    """Whether the nodes at this end are made from the edges."""
    label = getattr(key, end)
    if label in (config.items.label, config.users.label):
        return False
    return end == "target" or source.names(label) is not None


def _counted(sheet: Sheet) -> list[str]:
    return [name for name in sheet.frame.columns if name == "count"]


def _nodes(source: Source, label: str, ids: pl.Series) -> pl.DataFrame:
    """id and name, once each; a node without a name is called by its id."""
    nodes, names = named_nodes(label, ids)[label], source.names(label)
    if names is None:
        return nodes
    told = nodes.join(names, on="id", how="left", suffix="_told")
    return told.select("id", name=pl.coalesce("name_told", "name"))
