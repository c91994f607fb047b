"""Tables with one relation each: source, target and typed properties of the edge."""

from __future__ import annotations

from ..config import EdgeFileSection, ShopConfig
from ..errors import ConfigError, did_you_mean
from .attributes import Edges, Nodes, named_nodes
from .catalogue import EdgeKey
from .checks import Rejects, Sheet


def edge_file(config: ShopConfig, section: EdgeFileSection, nodes: Nodes, rejects: Rejects) -> tuple[Nodes, Edges]:
    """Nodes and edges of one [[edges]] entry. Sources must exist; targets too when they are items or users.

    Of repeated pairs the last one counts, as in a log of changes.
    """
    if section.source_label not in nodes:
        hint = did_you_mean(section.source_label, nodes)
        raise ConfigError(f"edges.{section.relation}: no label {section.source_label!r}{hint}")
    columns = {name: spec.column or name for name, spec in section.properties.items()}
    names = {"source": section.source, "target": section.target, **columns}
    sheet = Sheet.read(config.shop.data / section.file, names, rejects)
    sheet = sheet.typed("source").typed("target").present("source", "target")
    for name, spec in section.properties.items():
        sheet = sheet.typed(name, spec.type)
    sheet = sheet.known("source", nodes[section.source_label]["id"], section.source_label)
    closed = section.target_label in (config.items.label, config.users.label)
    if closed:
        sheet = sheet.known("target", nodes[section.target_label]["id"], section.target_label)
    table = sheet.frame.select("source", "target", *columns)
    distinct = table.unique(subset=["source", "target"], keep="last")
    rejects.count(sheet.file, "repeated edge", table.height - distinct.height)
    key = EdgeKey(section.source_label, section.relation, section.target_label)
    return {} if closed else named_nodes(section.target_label, distinct["target"]), {key: distinct}
