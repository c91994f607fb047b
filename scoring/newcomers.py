"""People and items nobody has seen: a taste as a profile, and new items on the scale of the known ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from ..config import RelationSection
from ..errors import ConfigError, UnknownIdError, did_you_mean
from ..kg.snapshot import IdMap
from .cold import NewItems, cold_terms
from .evidence import Edges, Relation, relations_from
from .folded import blended
from .head import rank_pool
from .model import Model
from .names import MOST_HINTED
from .pool import Scorable, chunks, fill, in_batches
from .profiles import with_more

NewItem = Mapping[str, Any]  # "text": str, "attributes": Attributes
PARTS = ("text", "attributes")
SAMPLED = 200  # known items that tell how low scores go behind the pool's end; as many values as a pool has
Attributes = Mapping[str, Sequence[str]]  # relation -> ids of what it leads to


def parts_of(items: Sequence[NewItem]) -> tuple[list[Attributes], list[str]]:
    """The attributes and the texts of new items.

    Raises:
        ConfigError: something else is said of one.
    """
    for item in items:
        if not isinstance(item, Mapping):
            raise ConfigError(f"a new item is a dictionary of text and attributes, not {str(item)[:80]!r}")
        for part in item.keys() - set(PARTS):
            raise ConfigError(f"a new item has no {part!r}{did_you_mean(str(part), PARTS)}")
        lists = item.get("attributes", {})
        plain = isinstance(lists, Mapping) and all(isinstance(ids, list | tuple) for ids in lists.values())
        if not plain or not isinstance(item.get("text", ""), str):
            raise ConfigError("a new item's text is a string, and attributes are relation -> ids, a list of them")
    return [item.get("attributes", {}) for item in items], [item.get("text", "") for item in items]


@dataclass(frozen=True)
class Vocabulary:
    """What items are linked to: the relations, and per relation the columns of `members` each id stands for."""

    relations: tuple[Relation, ...]
    columns: Mapping[str, Mapping[str, Sequence[int]]]
    _turned: dict[str, sp.csc_matrix] = field(default_factory=dict, init=False, repr=False, compare=False)

    def known(self, relation: str) -> Mapping[str, Sequence[int]]:
        """id -> columns.

        Raises:
            ConfigError: the items have no such relation.
        """
        if relation not in self.columns:
            raise ConfigError(f"the items have no relation {relation!r}{did_you_mean(relation, self.columns)}")
        return self.columns[relation]

    def members(self, wanted: Sequence[Attributes]) -> dict[str, sp.csr_matrix]:
        """relation -> sparse 0/1 [len(wanted), entity]; an id that no item has yet links nothing and is left out."""
        found = {r.name: sp.lil_matrix((len(wanted), r.members.shape[1]), dtype=np.float32) for r in self.relations}
        for row, attributes in enumerate(wanted):
            for relation, ids in attributes.items():
                known = self.known(relation)
                for column in (column for id_ in ids for column in known.get(id_, ())):
                    found[relation][row, column] = 1
        return {name: sp.csr_matrix(matrix) for name, matrix in found.items()}

    def liked(self, features: Attributes) -> tuple[sp.csr_matrix, int]:
        """Weights sparse [1, item] of a taste, and of how many values it is: each is one item's worth of history, in
        equal parts from every item that has it.

        Raises:
            ConfigError: no such relation. UnknownIdError: nothing is linked to such an id.
        """
        rows = []
        for relation, ids in features.items():
            if isinstance(ids, str):
                raise ConfigError(f"features: {relation} is a list of ids; say [{ids!r}]")
            known = self.known(relation)
            for id_ in ids:
                if id_ not in known:
                    hint = did_you_mean(id_, known) if len(known) < MOST_HINTED else ""
                    raise UnknownIdError(f"no item has {id_!r} as {relation}{hint}")
                holders = np.unique(self._by_column(relation)[:, list(known[id_])].indices)
                rows.append((holders, np.full(len(holders), 1 / len(holders), np.float32)))
        n_items = self.relations[0].members.shape[0] if self.relations else 0
        weights = np.zeros(n_items, np.float32)
        for holders, parts in rows:
            weights[holders] += parts
        return sp.csr_matrix(weights[None]), len(rows)

    def _by_column(self, relation: str) -> sp.csc_matrix:
        """A relation's members to be read by entity; turned when first asked for, and kept."""
        if relation not in self._turned:
            (members,) = (found.members for found in self.relations if found.name == relation)
            self._turned[relation] = sp.csc_matrix(members)
        return self._turned[relation]


def vocabulary(
    edges: pa.Table, items: IdMap, item_label: str, settings: Mapping[str, RelationSection], derived: str | None
) -> Vocabulary:
    """Out of the edges a bundle keeps; the `derived` relation (of baskets) is no attribute."""
    found: dict[str, list[Edges]] = {}
    columns: dict[str, dict[str, list[int]]] = {}
    groups = edges.select(["relation", "label"]).group_by(["relation", "label"]).aggregate([])
    for relation, label in sorted((str(row["relation"]), str(row["label"])) for row in groups.to_pylist()):
        if relation == derived:
            continue
        some = edges.filter((pc.field("relation") == relation) & (pc.field("label") == label))
        ids = items if label == item_label else IdMap(label, some["target"].to_pylist())
        targets = ids.rows(some["target"].to_pylist())
        start = sum(part.n_targets for part in found.get(relation, ()))
        found.setdefault(relation, []).append(Edges(some["source"].to_numpy(), targets, len(ids), label == item_label))
        mine = columns.setdefault(relation, {})
        for column in np.unique(targets).tolist():
            mine.setdefault(ids.ids[column], []).append(start + column)
    return Vocabulary(relations_from(found, len(items), settings), columns)


def with_taste(scorable: Scorable, weights: sp.csr_matrix, values: int, newest: float) -> Scorable:
    """A newcomer's row (there is one) with a taste in its profiles; nothing of it is hidden from the list.

    weights: sparse [1, item]. values: how many values they stand for, which lengthen the history heads read about.
    newest: weight in the profile of the newest items.
    """
    about = scorable.about_users.copy()
    about[:, 0] = np.log1p(np.expm1(about[:, 0]) + values)
    return replace(scorable, profiles=with_more(scorable.profiles, weights, newest), about_users=about)


def score_new(model: Model, scorable: Scorable, users: np.ndarray, new: NewItems) -> np.ndarray:
    """float32 [user, new]: on the scale of the model's scores for known items.

    The cold blend says where among the known items a new one would stand for a user, and its score is that of the item
    that stands there in the user's list. So among the best ten is about the same share of new items as of known ones: a
    new item can win, and many do not flood the list. Of known items that tie with it, half are ahead of it. Behind the
    pool's end nothing is listed; there it gets what stands at that place among SAMPLED known items and their scores.
    """
    terms, n_items = cold_terms(model.terms, new), scorable.hidden.shape[1]

    def places(batch: np.ndarray) -> np.ndarray:
        worth = blended(terms, model.cold, {name: matrix[batch] for name, matrix in scorable.profiles.items()})
        known = np.where(scorable.forbidden(batch), -np.inf, worth[:, :n_items])
        return np.stack([_ahead(known, column[:, None]) for column in worth[:, n_items:].T], axis=1)

    ahead = np.concatenate(list(in_batches(users, places, size=scorable.batch(4))))
    pool = fill(scorable, users, model.blend, model.pool_size)
    listed = rank_pool(model.head, pool, pool.items.shape[1])[2]
    sampled = _sampled(model, scorable, users, pool.context.peak)
    far = _at_places(sampled, ahead * (min(SAMPLED, n_items) / n_items))
    return _within(listed, ahead, far)


def _ahead(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """int64 [user]: how many of the known items [user, item] are ahead of a new one [user, 1]."""
    return np.asarray((known > new).sum(1) + ((known == new).sum(1) + 1) // 2)


def _sampled(model: Model, scorable: Scorable, users: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """float32 [user, SAMPLED]: scores of known items drawn at random, the best first, -inf for what is not shown.

    peaks: float32 [user, term] of their pools.
    """
    n_items = scorable.hidden.shape[1]
    drawn = np.sort(np.random.default_rng(0).permutation(n_items)[:SAMPLED])

    def scores(place: np.ndarray) -> np.ndarray:
        some = users[place]
        found = model.parts(scorable, some, drawn, peaks[place]).sum(-1)
        return np.sort(np.where(scorable.forbidden(some)[:, drawn], -np.inf, found))[:, ::-1]

    return np.concatenate([scores(place) for place in chunks(np.arange(len(users)))])


def _within(listed: np.ndarray, ahead: np.ndarray, far: np.ndarray) -> np.ndarray:
    """float32 [user, new]: the scores of the list [user, size] at places int [user, new] from 0 on; behind its end
    the far ones [user, new], none of them above the list's last."""
    filled = np.isfinite(listed).sum(1)[:, None]
    if not listed.shape[1]:
        return np.asarray(far, np.float32)
    at = np.take_along_axis(listed, np.clip(ahead, 0, np.maximum(filled - 1, 0)), 1)
    behind = np.where(filled > 0, np.minimum(far, at), far)
    return np.asarray(np.where(ahead < filled, at, behind), np.float32)


def _at_places(scores: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Sorted scores [user, n] at places float [user, new], read between two where a place lies between them; at the
    last place behind the end, and 0 where there is none."""
    filled = np.isfinite(scores).sum(1)[:, None]
    place = np.clip(places, 0, np.maximum(filled - 1, 0))
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(filled - 1, 0))
    one, other = (np.take_along_axis(np.where(np.isfinite(scores), scores, 0), at, 1) for at in (low, high))
    return np.asarray(one + (other - one) * (place - low))
