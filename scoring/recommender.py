"""The Python API: external ids in, external ids out, over a published bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import pyarrow as pa

from ..config import EncoderSection, RelationSection
from ..encoders.node_text import clean
from ..encoders.transformer import SHELVES, encode_with, open_encoder
from ..errors import ConfigError, UnknownIdError, did_you_mean
from ..gnn.embed import unit
from ..kg.paths import Node
from ..kg.snapshot import IdMap
from ..kg.stores import check_same, kept_url
from ..loaders.changes import Changes
from . import bundle as bundles
from . import versions
from .cold import NewItems
from .columns import Columns
from .diverse import Values, Wish
from .encoding import encoder_of
from .evidence import Histories, histories_of
from .explain import Case, Explanation, explain
from .fidelity import Fidelity, TakenApart, Triples, fidelity
from .filters import compile_where, values_of
from .knowledge import edges_used
from .lists import ranked
from .names import MOST_HINTED, ItemNames
from .newcomers import Attributes, NewItem, Vocabulary, parts_of, score_new, vocabulary, with_taste
from .paths import ItemGraph
from .placed import usable_device
from .pool import Scorable, chunks
from .terms import reasoned
from .topk import top_k
from .update import Updated, settle, update

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

RECENT_DAYS = 28.0  # of what is popular lately
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Recommended:
    """One place of a list. terms: each term's part of the score; they add up to it."""

    item: str
    score: float
    terms: dict[str, float]


def at_once(method: Callable[Concatenate[Recommender, P], T]) -> Callable[Concatenate[Recommender, P], T]:
    """A call sees one version from its beginning to its end, whatever update comes in another thread meanwhile."""

    @wraps(method)
    def call(self: Recommender, /, *arguments: P.args, **named: P.kwargs) -> T:
        held = object.__new__(type(self))
        held.__dict__ = self.__dict__  # the same one, with what is cached in it; an update gives `self` another
        return method(held, *arguments, **named)

    return call


class Recommender:
    """A published model with the ids and histories it was fitted on."""

    def __init__(
        self, bundle: bundles.Bundle, vectors: bundles.StoredVectors | None, home: Path = Path(), *, device: str = "cpu"
    ) -> None:
        self.bundle, self._vectors, self._home = bundle, vectors, home
        self.model = bundle.model.on(usable_device(device))
        self._items = IdMap("item", bundle.items["id"].to_pylist())
        self._users = IdMap("user", bundle.users["id"].to_pylist())
        self._columns = Columns(bundle.items)
        self._histories = histories_of(bundle.log)
        self._scorable = self.model.scorable(bundle.log)
        self._encoding = Lock()

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "cpu") -> Recommender:
        """The published bundle of a build folder ("build/online-retail").

        device: where pools are made and ranked, "cpu" or "cuda".

        Raises:
            ArtifactError: nothing is published there, or a part of it is missing or torn.
            ConfigError: this machine has no such device.
        """
        settle(Path(folder))
        return cls(*bundles.load(versions.published(Path(folder))), Path(folder), device=device)

    def update(self, changes: Changes, *, store: str | None = None) -> Updated:
        """Take a batch of changes into the graph and the published model, and answer from the new version from now on.

        Nothing is learned: docs/update.md tells what is recomputed. A batch of an id that was taken before changes
        nothing.

        Args:
            store: where the shop's graph is, to be sure: it is where the last `catalograph rebuild` put it.

        Raises:
            ArtifactError: the model was not loaded from a build folder, or another process builds there.
            ConfigError: the model was built with another store.
            DataError: a change does not fit the shop; nothing was taken in.
            StoreError: the store cannot be written; nothing was taken in.
        """
        done = update(self._home, changes, store_url=store)
        new = Recommender.load(self._home, device=self.model.device)
        new.adopt(self)
        self.__dict__ = new.__dict__  # a call under way keeps what it began with
        return done

    @at_once
    def recommend(
        self,
        users: Sequence[str],
        k: int = 10,
        where: str | None = None,
        *,
        diversify: float = 0.0,
        cap: Mapping[str, int] | None = None,
        exclude: Iterable[str] = (),
    ) -> list[list[Recommended]]:
        """Per user the k best items they do not have yet.

        Args:
            where: filter over the items' properties and relations (:mod:`.filters`). It works inside the search: a
                filter that keeps few items still gives k of them, if there are so many.
            diversify: 0 to 1; how much an item loses for being like the ones listed before it (:mod:`.diverse`). Lists
                are then no longer in the order of their scores.
            cap: property or relation -> at most so many items of one value, like {"brand": 2}.
            exclude: item ids that this list is not to have, such as what lies in the cart; left out inside the search
                like the filter. An id the shop does not have leaves nothing out.

        Raises:
            UnknownIdError: a user nobody knows; `recommend_for(history=…)` serves those.
            ConfigError: `where` does not parse or names an unknown property; k is above the pool the head ranks.
        """
        rows = self._rows(self._users, users)
        return self._lists(self._scorable, rows, self._wish(k, where, diversify, cap, exclude))

    @at_once
    def recommend_for(
        self,
        history: Sequence[str] = (),
        k: int = 10,
        where: str | None = None,
        *,
        features: Attributes | None = None,
        diversify: float = 0.0,
        cap: Mapping[str, int] | None = None,
        exclude: Iterable[str] = (),
    ) -> list[Recommended]:
        """The k best items for somebody never seen; :meth:`recommend` tells the other arguments.

        Of somebody of whom nothing is known, the items most people took: lately where there are times, and among those
        equal in that, ever.

        Args:
            history: item ids, oldest first.
            features: what they like, relation -> ids: {"IN_CATEGORY": ["Mugs"]}. A value counts like one item.
        """
        wish = self._wish(k, where, diversify, cap, exclude)
        if not history and not any((features or {}).values()):
            return self._popular(wish)
        return self._lists(self._newcomer(history, features), np.zeros(1, np.int64), wish)[0]

    @at_once
    def score(
        self, users: Sequence[str], items: Sequence[str], *, terms: bool = False
    ) -> np.ndarray | tuple[np.ndarray, dict[str, np.ndarray]]:
        """float32 [user, item]; with `terms` also each term's part, float32 [user, item], by name."""
        rows, columns = self._rows(self._users, users), self._rows(self._items, items)
        parts = self.model.parts(self._scorable, rows, columns, self.model.peaks(self._scorable, rows))
        if not terms:
            return np.asarray(parts.sum(-1))
        return np.asarray(parts.sum(-1)), {term.name: parts[..., n] for n, term in enumerate(self.model.terms)}

    @at_once
    def score_pairs(self, users: Sequence[str], items: Sequence[str]) -> np.ndarray:
        """float32 [pair]: the score of users[n] for items[n].

        Raises:
            UnknownIdError: nobody knows one of them. ConfigError: there are more of the ones than of the others.
        """
        if len(users) != len(items):
            raise ConfigError(f"score_pairs needs an item for each user: {len(users)} users, {len(items)} items")
        every, columns = self._rows(self._users, users), self._rows(self._items, items)
        if not len(every):
            return np.empty(0, np.float32)
        rows, number = np.unique(every, return_inverse=True)
        peaks = self.model.peaks(self._scorable, rows)
        values = np.empty(len(users), np.float32)
        places = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
        for user, mine in enumerate(places):
            one = slice(user, user + 1)
            values[mine] = self.model.parts(self._scorable, rows[one], columns[mine], peaks[one]).sum(-1)[0]
        return values

    @at_once
    def score_new(
        self,
        items: Sequence[NewItem],
        *,
        users: Sequence[str] = (),
        history: Sequence[str] = (),
        features: Attributes | None = None,
    ) -> np.ndarray:
        """float32 [user, item]: scores of items the shop does not have yet, on the scale of the others' scores.

        Args:
            items: {"text": "Blue mug", "attributes": {"IN_CATEGORY": ["Mugs"]}}, either part may be missing. The text
                is what the encoder would read of an item (`encoder.text` in shop.toml, else the title).
            users: ids of known users; or else `history` and `features` of one never seen, as in `recommend_for`.

        Raises:
            ConfigError: neither or both of users and a history; an unknown part or relation; or a shop whose items have
                neither texts nor attributes that a model could go by.
        """
        if bool(users) == bool(history or features):
            raise ConfigError("score_new needs either users or a history and features")
        if not len(self.model.cold):
            raise ConfigError(f"{self.bundle.shop} has neither texts nor attributes of items to know a new one by")
        attributes, texts = parts_of(items)
        if not items:
            return np.empty((len(users) or 1, 0), np.float32)
        known, text = self.bundle.text, None
        if known is not None:
            text = self.encode(texts) if any(texts) else np.zeros((len(texts), known.shape[1]), np.float32)
        new = NewItems.of(self._vocabulary.relations, self._vocabulary.members(attributes), text, known)
        rows = self._rows(self._users, users) if users else np.zeros(1, np.int64)
        return score_new(self.model, self._scorable if users else self._newcomer(history, features), rows, new)

    @at_once
    def similar(
        self,
        item: str,
        k: int = 10,
        where: str | None = None,
        *,
        diversify: float = 0.0,
        cap: Mapping[str, int] | None = None,
        exclude: Iterable[str] = (),
    ) -> list[Recommended]:
        """The k items the model puts next to one: the list of somebody who has only it."""
        return self.recommend_for([item], k, where, diversify=diversify, cap=cap, exclude=exclude)

    @at_once
    def similar_lists(self, k: int = 20) -> pa.Table:
        """:meth:`similar` of every item at once: `source`, `target`, `score` (float64), `rank` (int64, 1 is the best).

        Raises:
            ConfigError: k is more than the pool the model re-ranks.
        """
        everything = np.arange(len(self._items))
        wish = self._wish(k, None, 0.0, None, ())
        return self._table(self._newcomers(everything[:, None]), everything, wish, self._items)

    @at_once
    def recommended_lists(
        self,
        users: Sequence[str],
        k: int = 10,
        where: str | None = None,
        *,
        diversify: float = 0.0,
        cap: Mapping[str, int] | None = None,
        exclude: Iterable[str] = (),
    ) -> pa.Table:
        """:meth:`recommend` for many users at once, as :meth:`similar_lists` gives it."""
        wish = self._wish(k, where, diversify, cap, exclude)
        return self._table(self._scorable, self._rows(self._users, users), wish, self._users)

    def _table(self, scorable: Scorable, rows: np.ndarray, wish: Wish, sources: IdMap) -> pa.Table:
        names = pa.array(sources.ids, pa.string()).take(pa.array(rows))
        return ranked(self.model, scorable, rows, wish, names, pa.array(self._items.ids, pa.string()))

    @at_once
    def explain(self, user: str, item: str, *, most: int = 3) -> Explanation:
        """The terms of one score, the history items that weigh most, and at most `most` paths through the graph.

        Raises:
            UnknownIdError: nobody knows the user or the item. ConfigError: `most` is negative.
        """
        row = int(self._rows(self._users, [user])[0])
        return self._explain(self._scorable, row, item, row, most)

    @at_once
    def explain_for(
        self, history: Sequence[str], item: str, *, features: Attributes | None = None, most: int = 3
    ) -> Explanation:
        """The same for somebody never seen; paths then start at an item of the history.

        Raises:
            ConfigError: neither a history nor a taste: nothing of which a score would be made.
        """
        if not history and not any((features or {}).values()):
            raise ConfigError("explain_for needs a history or features: of nobody there is nothing to explain")
        return self._explain(self._newcomer(history, features), 0, item, None, most)

    @at_once
    def fidelity(self, user: str, item: str, path: Triples, *, draws: int = 3) -> Fidelity:
        """Whether a path (`explain(…).paths[0].triples`) carries the score it is shown for.

        The score without its edges, and in the mean of `draws` without as many others of the same relations. The terms
        are computed anew for each: seconds, and on a shop of ten thousand items a quarter of a minute. Vectors that
        were learned stay as they are, and edges made of baskets are read from the baskets.

        Raises:
            UnknownIdError: nobody knows the user, the item or an edge of the path. ConfigError: draws is below 1.
        """
        if draws < 1:
            raise ConfigError(f"draws is {draws}; at least 1 is needed to compare with")
        self._rows(self._users, [user])
        self._rows(self._items, [item])
        return fidelity(self._taken_apart, user, item, path, draws=draws)

    @cached_property
    def _taken_apart(self) -> TakenApart:
        return TakenApart(self.bundle)

    @at_once
    def vectors(self, items: Sequence[str]) -> dict[str, np.ndarray]:
        """R_s of these items: relation -> float32 [item, dim]; empty when the shop trains no GNN."""
        rows = self._rows(self._items, items)
        if self._vectors is None:
            return {}
        return {name: self._vectors.by_relation[rows, n] for n, name in enumerate(self._vectors.relations)}

    @at_once
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """M(s) of texts the shop may not have yet, by the encoder of this version: float32 [text, dim], unit length.

        Raises:
            ConfigError: the shop's items have no texts, or a single text is given.
            ArtifactError: the encoder is not the one this version was fitted with.
        """
        if isinstance(texts, str):
            raise ConfigError(f"a list of texts is wanted; say [{texts[:80]!r}]")
        with self._encoding:  # tokenizers serve one thread at a time
            return encode_with(*self._encoder, [clean(text) for text in texts])

    def adopt(self, before: Recommender) -> None:
        """Take over what another version has in memory and this one would load again: the same encoder."""
        mine, other = ((bundle.encoder, bundle.config["encoder"]) for bundle in (self.bundle, before.bundle))
        if "_encoder" in vars(before) and mine == other:
            self._encoder, self._encoding = before._encoder, before._encoding

    @cached_property
    def _encoder(self) -> tuple[SentenceTransformer, EncoderSection]:
        section = encoder_of(self.bundle, self._home)
        return open_encoder(section, self._home / SHELVES), section

    @at_once
    def item_vectors(self) -> dict[str, pa.Table]:
        """What the model compares items by: name -> table of `id` and `vector`, float32 of unit length.

        text_vector: M(s), what the item says. graph_vector: the sum of R_s over the relations, what the item is linked
        to. Items of which a vector knows nothing have no row.
        """
        tables = {name: self._vector_table(array) for name, array in self._unit_vectors().items()}
        return {name: table for name, table in tables.items() if table.num_rows}

    def _unit_vectors(self) -> dict[str, np.ndarray]:
        """name -> float32 [item, dim] of unit length, zero where nothing is known."""
        found = {} if self.bundle.text is None else {"text_vector": self.bundle.text}
        if self._vectors is not None:
            found["graph_vector"] = self._vectors.by_relation.sum(1)
        return {name: unit(np.nan_to_num(array, posinf=0, neginf=0)) for name, array in found.items()}

    def _vector_table(self, array: np.ndarray) -> pa.Table:
        rows = np.flatnonzero(array.any(1))
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(array[rows].ravel()), array.shape[1])
        return pa.table({"id": pa.array(self._items.ids, pa.string()).take(pa.array(rows)), "vector": vectors})

    @at_once
    def item(self, text: str) -> str:
        """The id of the item people mean: by its id, or by its exact title where one item alone has it.

        Raises:
            UnknownIdError: no item, or several of that title.
        """
        return self._names.item(text)

    def knows(self, item: str) -> bool:
        """Whether there is an item of this id."""
        return item in self._items

    def names_item(self, text: str) -> bool:
        """Whether there is an item of this id or title."""
        return text in self._names

    def knows_user(self, user: str) -> bool:
        """Whether there is a user of this id."""
        return user in self._users

    @at_once
    def history(self, user: str) -> list[str]:
        """The items a user has, oldest first.

        Raises:
            UnknownIdError: nobody knows the user.
        """
        row = int(self._rows(self._users, [user])[0])
        first, last = np.searchsorted(self._histories.user, [row, row + 1])
        return [self._items.ids[item] for item in self._histories.item[first:last]]

    @at_once
    def title(self, item: str) -> str:
        """What people call the item: its title, else its id."""
        return self._names.title(int(self._rows(self._items, [item])[0]))

    @at_once
    def label(self, item: str) -> str:
        """Title and id of an item, for a list to read and to copy from; once where they are the same."""
        title = self.title(item)
        return item if title == item else f"{title} [{item}]"

    def check_store(self, url: str) -> None:
        """Make sure that the model's graph is where somebody thinks.

        Raises:
            ConfigError: it was built with another store.
        """
        check_same(kept_url(url, self._home), self.bundle.store)

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return len(self._items)

    def passing(self, where: str) -> int:
        """How many items a filter lets through, recommended or not."""
        return int(self._where(where).sum())

    @cached_property
    def _names(self) -> ItemNames:
        title = self.bundle.config["items"]["title"]
        titles = self.bundle.items[title].to_pylist() if title else [None] * len(self._items)
        return ItemNames(self.bundle.shop, self._items, titles)

    @cached_property
    def _graph(self) -> ItemGraph:
        config = self.bundle.config
        items = [Node(config["items"]["label"], id_) for id_ in self._items.ids]
        users = [Node(config["users"]["label"], id_) for id_ in self._users.ids]
        return ItemGraph(self._edges, self.bundle.log, items, users)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        label, settings = self.bundle.config["items"]["label"], self._settings
        return vocabulary(self._edges, self._items, label, settings, self._baskets)

    @cached_property
    def _edges(self) -> pa.Table:
        return edges_used(self.bundle.edges, self._settings)

    @cached_property
    def _settings(self) -> dict[str, RelationSection]:
        return {name: RelationSection(**told) for name, told in self.bundle.config["relations"].items()}

    @property
    def _baskets(self) -> str | None:
        """The relation of what is bought together, if the shop has baskets."""
        section = self.bundle.config["baskets"]
        return str(section["relation"]) if section else None

    def _rows(self, ids: IdMap, wanted: Sequence[str]) -> np.ndarray:
        if isinstance(wanted, str):
            raise ConfigError(f"a list of {ids.node_type} ids is wanted; say [{wanted!r}]")
        for id_ in wanted:
            if id_ not in ids:
                raise UnknownIdError(f"no {ids.node_type} {id_!r} in {self.bundle.shop}{_hint(str(id_), ids)}")
        return np.asarray(ids.rows(list(wanted)))

    def _newcomer(self, history: Sequence[str], features: Attributes | None = None) -> Scorable:
        items = self._rows(self._items, history)
        made = self._newcomers([np.array(list(dict.fromkeys(items[::-1].tolist()))[::-1], np.int64)])
        if not features:
            return made
        weights, values = self._vocabulary.liked(features)
        return with_taste(made, weights, values, 1.0 if self.model.decay is None else float(self.model.decay[0]))

    def _newcomers(self, histories: Sequence[np.ndarray] | np.ndarray) -> Scorable:
        """Rows for people nobody has seen, from the distinct item rows each has, oldest first."""
        length = np.array([len(items) for items in histories])
        back = np.concatenate([np.arange(n)[::-1] for n in length])
        now = None if self._histories.last is None else np.zeros(len(back))
        pairs = Histories(
            len(histories),
            len(self._items),
            np.repeat(np.arange(len(histories)), length),
            np.concatenate(histories),
            back,
            np.ones(len(back), np.int64),
            now,
            now,
            self._histories.ordered,
        )
        return self.model.scorable_for(pairs, None if now is None else 0.0)

    def _wish(
        self, k: int, where: str | None, diversify: float, cap: Mapping[str, int] | None, exclude: Iterable[str]
    ) -> Wish:
        if not 1 <= k <= self.model.pool_size:
            raise ConfigError(
                f"lists of {k} items: this model ranks 1 to {self.model.pool_size} (model.pool_size in shop.toml)"
            )
        if not 0 <= diversify <= 1:
            raise ConfigError(f"diversify is {diversify:g}; it goes from 0 (by score alone) to 1")
        alike = self._alike if diversify else None  # large, and of no use to a list by score alone
        if diversify and alike is None:
            raise ConfigError(f"diversify: {self.bundle.shop} has neither texts nor a GNN to tell how alike items are")
        caps = [self._cap(name, most) for name, most in (cap or {}).items()]
        return Wish(k, self._only(where, exclude), diversify, alike, caps)

    def _only(self, where: str | None, exclude: Iterable[str]) -> np.ndarray | None:
        """bool [item], what a filter and exclusions leave; None where they leave everything."""
        if isinstance(exclude, str):
            raise ConfigError(f"exclude is a list of item ids; say exclude=[{exclude!r}]")
        gone = [id_ for id_ in exclude if id_ in self._items]
        if where is None and not gone:
            return None
        only = np.ones(len(self._items), bool) if where is None else self._where(where).copy()
        only[self._items.rows(gone)] = False
        return only

    def _cap(self, name: str, most: int) -> tuple[Values, int]:
        if name not in self._columns:
            raise ConfigError(f"cap: no property or relation {name!r}{did_you_mean(name, self._columns)}")
        if most < 1 or most % 1:
            raise ConfigError(f"cap: {name} is {most}; a list can have 1 item of a value, or 2, 3, …")
        return values_of(self._columns[name]), most

    @cached_property
    def _alike(self) -> np.ndarray | None:
        """float32 [item, dim]: rows whose products are the mean cosine over what is known of both; None without any."""
        found = list(self._unit_vectors().values())
        return unit(np.concatenate(found, axis=1)) if found else None

    def _lists(self, scorable: Scorable, users: np.ndarray, wish: Wish) -> list[list[Recommended]]:
        size = wish.size(self.model.pool_size)
        return [
            [self._recommended(items[n], scores[n], parts[n]) for n in wish.places(items, scores)]
            for some in chunks(users)
            for items, scores, parts in zip(*self.model.recommend(scorable, some, size, wish.only), strict=True)
        ]

    def _recommended(self, item: int, score: float, parts: np.ndarray) -> Recommended:
        terms = dict(zip(self._term_names, parts.tolist(), strict=True))
        return Recommended(self._items.ids[item], float(score), terms)

    @cached_property
    def _term_names(self) -> tuple[str, ...]:
        return tuple(term.name for term in self.model.terms)

    def _popular(self, wish: Wish) -> list[Recommended]:
        """What most customers took, for somebody nothing is known of.

        Where there are times the score is how many took it in the last weeks, plus a part of one that grows with how
        many ever did: it orders what is equal lately, most of all what nobody took then.
        """
        histories, now, n_items = self._histories, self.model.now, len(self._items)
        counts = np.bincount(histories.item, minlength=n_items)
        if histories.last is not None and now is not None:
            lately = np.bincount(histories.item[histories.last >= now - RECENT_DAYS], minlength=n_items)
            counts = lately + counts / (counts.max() + 1)
        allowed = self.model.allowed if wish.only is None else self.model.allowed & wish.only
        (items,), (scores,) = top_k(counts[None], self.model.pool_size, None, allowed)
        return [
            Recommended(self._items.ids[items[n]], float(scores[n]), {"popularity": float(scores[n])})
            for n in wish.places(items, scores)
        ]

    def _where(self, where: str) -> np.ndarray:
        condition: Callable[[Any], np.ndarray] = compile_where(where)
        return np.asarray(condition(self._columns), bool)

    def _explain(self, scorable: Scorable, row: int, item: str, user: int | None, most: int) -> Explanation:
        if most < 0:
            raise ConfigError(f"most is {most}; an explanation has 0 or more paths")
        rows, column = np.array([row]), self._rows(self._items, [item])
        profiles = {name: matrix[rows] for name, matrix in scorable.profiles.items()}
        reasons, values = reasoned(self.model.terms, profiles, int(column[0]))
        parts = self.model.weighted(scorable, rows, column, values[None, None], self.model.peaks(scorable, rows))[0, 0]
        case = Case(int(column[0]), frozenset(scorable.hidden[rows].indices.tolist()), user, parts, reasons)
        return explain(self.model, self._graph, case, self._names.title, self._baskets, most)


def _hint(id_: str, ids: IdMap) -> str:
    return did_you_mean(id_, ids.ids) if len(ids) < MOST_HINTED else ""
