"""A reason's Cypher drawn as the way it walks: which nodes, which relations, in which direction."""

from __future__ import annotations

import re

from . import wire

NODE = re.compile(r"\((\w*)(?::(?:(\w+)|`([^`]*)`))?\)")
EDGE = re.compile(r"(<?)-\[:(?:(\w+)|`([^`]*)`)\]-(>?)")
PREFIX = "MATCH "


def way_of(cypher: str, because: str, item: str) -> wire.Way:
    """The chain after MATCH, its first node named `because` and its last `item`.

    The text is one :func:`..scoring.explain.cypher` made; ids in it stand after the chain, where nothing is read.
    """
    nodes, steps, place = [], [], len(PREFIX)
    while node := NODE.match(cypher, place):
        nodes.append(f"<{node[2] or node[3] or 'any'}>")
        edge = EDGE.match(cypher, node.end())
        if edge is None:
            break
        ends = (len(nodes), len(nodes) - 1) if edge[1] else (len(nodes) - 1, len(nodes))
        steps.append(wire.Step(source=ends[0], target=ends[1], relation=edge[2] or edge[3]))
        place = edge.end()
    return wire.Way(nodes=[because, *nodes[1:-1], item], steps=steps)
