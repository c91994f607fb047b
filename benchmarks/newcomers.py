"""New items: 5 % of a shop's items are hidden, the shop is fitted without them, and its customers are asked about all.

    python benchmarks/newcomers.py SHOP.toml [--data DIR] [--out DIR] [--share F] [--head KIND]

Of the hidden items neither purchases nor links nor texts are known to the model; then they come back as new items, with
their text and their attributes. For every customer of the test part all items are ranked, known ones by `recommend` and
new ones by `score_new`. The last line is one JSON object: recall@10_hidden, of the hidden items that were bought, among
all items; recall@10_random, the same with the scores of the new items permuted for each customer; recall@10_known, of
the known items, and recall@10_known_alone, without new items in the lists; new_shown, the share of places in the lists
that new items take, beside their share of the catalogue and of the test purchases.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from catalograph import Recommender
from catalograph.pipeline.fitting import bundle_of
from catalograph.pipeline.workshop import open_workshop
from catalograph.pipeline.world import World, build_world
from catalograph.scoring.evidence import Relation
from catalograph.scoring.model import fit

K = 10


def main() -> None:
    """Hide, fit, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shop", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--head", default="linear")
    asked = parser.parse_args()
    workshop = open_workshop(asked.shop, data=asked.data, out=asked.out, device="cpu", say=print)
    config = workshop.config
    workshop = replace(
        workshop, config=config.model_copy(update={"model": config.model.model_copy(update={"head": asked.head})})
    )
    world = build_world(workshop)
    assert world.test is not None
    hidden = drawn(world, asked.share)
    blind = without(world, hidden)
    start = time.perf_counter()
    model = fit(blind.given, print)
    print(f"fitted without {hidden.sum()} items in {time.perf_counter() - start:.0f} s")
    whole = bundle_of(workshop, world, model, "hidden")
    gone = set(np.array(whole.items["id"].to_pylist(), object)[hidden])
    source, target = whole.edges["source"].to_numpy(), np.array(whole.edges["target"].to_pylist(), object)
    kept = ~hidden[source] & ~np.isin(target, list(gone))
    bundle = replace(whole, log=blind.given.log, edges=whole.edges.filter(pa.array(kept)), text=blind.given.text)
    shop = Recommender(bundle, None, workshop.folder)
    new = as_new(whole.edges, np.flatnonzero(hidden), titles(whole.items, config.items.title), shop)
    users = np.sort(world.test.users)
    start = time.perf_counter()
    scores = shop.score_new(new, users=shop.bundle.users["id"].take(users).to_pylist())
    print(f"{scores.size:,} scores of new items in {time.perf_counter() - start:.1f} s")
    known, best, _ = model.recommend(shop._scorable, users, K)
    print(json.dumps(figures(known, best, scores, hidden, world.test.held_out[users])))


def drawn(world: World, share: float) -> np.ndarray:
    """bool [item]: a random share of the items that have a purchase in training."""
    sold = np.flatnonzero(np.bincount(world.given.log.item, minlength=world.given.log.n_items) > 0)
    hidden = np.zeros(world.given.log.n_items, bool)
    hidden[np.random.default_rng(0).permutation(sold)[: int(share * len(sold))]] = True
    return hidden


def without(world: World, hidden: np.ndarray) -> World:
    """The world before these items came: their rows stay, with nothing in them."""
    given, seen = world.given, sp.diags_array((~hidden).astype(np.float32))

    def cut(relation: Relation) -> Relation:
        links = None if relation.links is None else sp.csr_matrix(seen @ relation.links @ seen)
        return replace(relation, members=sp.csr_matrix(seen @ relation.members), links=links)

    text = None if given.text is None else given.text * ~hidden[:, None]
    log = given.log.where(~hidden[given.log.item])
    learn = (
        given.learn_vectors if given.config.gnn.model == "none" else lambda *_: None
    )  # the GNN would see their links
    relations = tuple(cut(relation) for relation in given.relations)
    return replace(world, given=replace(given, log=log, relations=relations, text=text, learn_vectors=learn))


def titles(items: pa.Table, title: str | None) -> list[str]:
    """The text the encoder reads of each item."""
    return [value or "" for value in items[title or "id"].to_pylist()]


def as_new(edges: pa.Table, rows: np.ndarray, texts: list[str], shop: Recommender) -> list[Mapping[str, object]]:
    """The hidden items as a shop would tell of them: text, and attributes the model has relations for."""
    told: dict[int, dict[str, list[str]]] = {int(row): {} for row in rows}
    for edge in edges.filter(pa.array(np.isin(edges["source"].to_numpy(), rows))).to_pylist():
        if edge["relation"] in shop._vocabulary.columns:
            told[edge["source"]].setdefault(edge["relation"], []).append(edge["target"])
    return [{"text": texts[row], "attributes": attributes} for row, attributes in told.items()]


def figures(
    known: np.ndarray, best: np.ndarray, scores: np.ndarray, hidden: np.ndarray, held_out: sp.csr_matrix
) -> dict[str, float]:
    """From the best known items [user, K] with their scores, the scores of the new ones [user, new] and the answers."""
    rows = np.flatnonzero(hidden)
    mixed = merged(known, best, np.broadcast_to(rows, scores.shape), scores)
    random = np.random.default_rng(1)
    chance = scores[
        np.arange(len(scores))[:, None], random.permuted(np.tile(np.arange(len(rows)), (len(scores), 1)), axis=1)
    ]
    at_random = merged(known, best, np.broadcast_to(rows, scores.shape), chance)
    return {
        "users": len(known),
        "recall@10_hidden": recall(mixed, held_out, hidden),
        "recall@10_random": recall(at_random, held_out, hidden),
        "recall@10_known": recall(mixed, held_out, ~hidden),
        "recall@10_known_alone": recall(known, held_out, ~hidden),
        "new_shown": round(float(hidden[mixed].mean()), 4),
        "new_in_catalogue": round(float(hidden.mean()), 4),
        "new_in_test": round(float(hidden[held_out.indices].mean()), 4),
    }


def merged(known: np.ndarray, best: np.ndarray, new: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """int64 [user, K]: the best of both."""
    items, values = np.concatenate([known, new], axis=1), np.concatenate([best, scores], axis=1)
    return np.take_along_axis(items, np.argsort(-values, axis=1, kind="stable")[:, :K], axis=1)


def recall(items: np.ndarray, held_out: sp.csr_matrix, among: np.ndarray) -> float:
    """The mean, over users who must find some item of `among`, of the share of these in their list."""
    wanted = held_out.toarray().astype(bool) & among
    found = np.take_along_axis(wanted, items, axis=1).sum(1)
    asked = wanted.any(1)
    return round(float((found[asked] / wanted.sum(1)[asked]).mean()), 4)


if __name__ == "__main__":
    main()
