"""The model's lists and vectors into the graph, where analysts can ask for them in Cypher, and out of it again."""

from __future__ import annotations

import time
from collections.abc import Sequence

from .kg.writeback import RECOMMENDED, SIMILAR_TO, Publication, Published
from .loaders.catalogue import EdgeKey
from .pipeline.workshop import Workshop, opened_store
from .scoring import bundle as bundles
from .scoring import versions
from .scoring.recommender import Recommender


def write_back(workshop: Workshop, *, n: int, users: Sequence[str], k: int) -> Published:
    """Put the published model's lists and vectors into the graph: the n most similar of every item, k for each user.

    Returns what then stands there.
    """
    start = time.perf_counter()
    place = versions.published(workshop.folder)
    with opened_store(workshop) as store:
        store.schema()  # a store that is down is told before the work
        publication = _publication(Recommender(*bundles.load(place)), place.name, n, users, k)
        places = sum(table.num_rows for table in publication.lists.values())
        workshop.line("lists", f"{places:,} places, version {place.name}", start)
        start = time.perf_counter()
        published = store.publish(publication)
    for key, edges in published.edges.items():
        gone = publication.lists[key].num_rows - edges
        missing = f", {gone:,} left out: an end is not in the graph" if gone else ""
        workshop.line("edges", f"{edges:,} {key.source}-{key.relation}-{key.target}{missing}", start)
    for label, name in publication.vectors:
        held = published.vectors.get((label, name))
        told = "left out, this store has no vector index" if held is None else f"on {held:,} nodes, indexed by cosine"
        workshop.line("vectors", f"{label}.{name} {told}", start)
    return published


def withdraw(workshop: Workshop) -> None:
    """Take everything published out of the graph."""
    with opened_store(workshop) as store:
        published = store.published()
        store.withdraw()
    told = "nothing is published" if published is None else f"version {published.version} is taken out"
    workshop.say(f"{'publish':<9} {told}")


def _publication(shop: Recommender, version: str, n: int, users: Sequence[str], k: int) -> Publication:
    label, user_label = (shop.bundle.config[part]["label"] for part in ("items", "users"))
    lists = {EdgeKey(label, SIMILAR_TO, label): shop.similar_lists(n)}
    if users:
        lists[EdgeKey(user_label, RECOMMENDED, label)] = shop.recommended_lists(users, k)
    return Publication(version, lists, {(label, name): table for name, table in shop.item_vectors().items()})
