"""The Python API: external ids in, external ids out, over a published bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..config import EncoderSection
from ..encoders.transformer import encode
from ..encoders.weights import resolve
from ..errors import ArtifactError, ConfigError, UnknownIdError, did_you_mean
from ..kg.snapshot import IdMap
from . import bundle as bundles
from . import versions
from .evidence import Histories, histories_of
from .explain import Explanation, explain
from .filters import compile_where
from .lists import ranked
from .pool import Scorable


@dataclass(frozen=True)
class Recommended:
    """One place of a list. terms: each term's part of the score; they add up to it."""

    item: str
    score: float
    terms: dict[str, float]


class Recommender:
    """A published model with the ids and histories it was fitted on."""

    def __init__(self, bundle: bundles.Bundle, vectors: bundles.StoredVectors | None, home: Path = Path()) -> None:
        self.bundle, self._vectors, self._home = bundle, vectors, home
        self.model = bundle.model
        self._items = IdMap("item", bundle.items["id"].to_pylist())
        self._users = IdMap("user", bundle.users["id"].to_pylist())
        self._columns = _Columns(bundle.items)
        self._histories = histories_of(bundle.log)
        self._scorable = self.model.scorable(bundle.log)

    @classmethod
    def load(cls, folder: str | Path) -> Recommender:
        """The published bundle of a build folder ("build/online-retail").

        Raises:
            ArtifactError: nothing is published there, or a part of it is missing or torn.
        """
        return cls(*bundles.load(versions.published(Path(folder))), Path(folder))

    def recommend(self, users: Sequence[str], k: int = 10, where: str | None = None) -> list[list[Recommended]]:
        """Per user the k best items they do not have yet; `where` filters by item properties.

        Raises:
            UnknownIdError: a user nobody knows; `recommend_for(history=…)` serves those.
            ConfigError: `where` does not parse or names an unknown property.
        """
        rows = self._rows(self._users, users)
        return self._lists(self._scorable, rows, k, where)

    def recommend_for(self, history: Sequence[str], k: int = 10, where: str | None = None) -> list[Recommended]:
        """The k best items for somebody never seen, from item ids, oldest first."""
        return self._lists(self._newcomer(history), np.zeros(1, np.int64), k, where)[0]

    def score(
        self, users: Sequence[str], items: Sequence[str], *, terms: bool = False
    ) -> np.ndarray | tuple[np.ndarray, dict[str, np.ndarray]]:
        """float32 [user, item]; with `terms` also each term's part, float32 [user, item], by name."""
        rows, columns = self._rows(self._users, users), self._rows(self._items, items)
        parts = self.model.parts(self._scorable, rows, columns, self.model.peaks(self._scorable, rows))
        if not terms:
            return np.asarray(parts.sum(-1))
        return np.asarray(parts.sum(-1)), {term.name: parts[..., n] for n, term in enumerate(self.model.terms)}

    def score_pairs(self, users: Sequence[str], items: Sequence[str]) -> np.ndarray:
        """float32 [pair]: the score of users[n] for items[n]."""
        names, number = np.unique(np.asarray(users, object), return_inverse=True)
        rows, columns = self._rows(self._users, names.tolist()), self._rows(self._items, items)
        peaks = self.model.peaks(self._scorable, rows)
        values = np.empty(len(users), np.float32)
        places = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
        for user, mine in enumerate(places):
            one = slice(user, user + 1)
            values[mine] = self.model.parts(self._scorable, rows[one], columns[mine], peaks[one]).sum(-1)[0]
        return values

    def similar(self, item: str, k: int = 10, where: str | None = None) -> list[Recommended]:
        """The k items the model puts next to one: the list of somebody who has only it."""
        return self.recommend_for([item], k, where)

    def similar_lists(self, k: int = 20) -> pa.Table:
        """:meth:`similar` of every item at once: `source`, `target`, `score` (float64), `rank` (int64, 1 is the best).

        Raises:
            ConfigError: k is more than the pool the model re-ranks.
        """
        everything = np.arange(len(self._items))
        return self._table(self._newcomers(everything[:, None]), everything, k, self._items)

    def recommended_lists(self, users: Sequence[str], k: int = 10) -> pa.Table:
        """:meth:`recommend` for many users at once, as :meth:`similar_lists` gives it."""
        return self._table(self._scorable, self._rows(self._users, users), k, self._users)

    def _table(self, scorable: Scorable, rows: np.ndarray, k: int, sources: IdMap) -> pa.Table:
        if not 1 <= k <= self.model.pool_size:
            raise ConfigError(
                f"lists of {k} items: this model ranks 1 to {self.model.pool_size} (model.pool_size in shop.toml)"
            )
        names = pa.array(sources.ids, pa.string()).take(pa.array(rows))
        return ranked(self.model, scorable, rows, k, names, pa.array(self._items.ids, pa.string()))

    def explain(self, user: str, item: str, *, most: int = 3) -> Explanation:
        """The terms of one score, and the history items and graph paths that weigh most."""
        row = self._rows(self._users, [user])
        return self._explain(self._scorable, row, int(self._rows(self._items, [item])[0]), most)

    def explain_for(self, history: Sequence[str], item: str, *, most: int = 3) -> Explanation:
        """The same for somebody never seen."""
        return self._explain(
            self._newcomer(history), np.zeros(1, np.int64), int(self._rows(self._items, [item])[0]), most
        )

    def vectors(self, items: Sequence[str]) -> dict[str, np.ndarray]:
        """R_s of these items: relation -> float32 [item, dim]; empty when the shop trains no GNN."""
        rows = self._rows(self._items, items)
        if self._vectors is None:
            return {}
        return {name: self._vectors.by_relation[rows, n] for n, name in enumerate(self._vectors.relations)}

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """M(s) of texts the shop may not have yet, by the encoder of this version: float32 [text, dim], unit length.

        Raises:
            ConfigError: the shop's items have no texts.
            ArtifactError: the encoder is not the one this version was fitted with.
        """
        named = self.bundle.encoder
        if named is None:
            raise ConfigError(f"{self.bundle.shop} reads no item texts; give shop.toml an encoder.text or items.title")
        inside = self._home / named["model"]
        model = str(inside) if inside.is_dir() else named["model"]
        if resolve(model).digest != named["digest"]:
            raise ArtifactError(f"encoder {model} is not the one of this version; run `catalograph rebuild` again")
        section = EncoderSection.model_validate(self.bundle.config["encoder"]).model_copy(update={"model": model})
        vectors: np.ndarray = encode(texts, section, cache=None)
        return vectors

    def item_vectors(self) -> dict[str, pa.Table]:
        """What the model compares items by: name -> table of `id` and `vector`, float32 of unit length.

        text_vector: M(s), what the item says. graph_vector: the sum of R_s over the relations, what the item is linked
        to. Items of which a vector knows nothing have no row.
        """
        found = {} if self.bundle.text is None else {"text_vector": self.bundle.text}
        if self._vectors is not None:
            found["graph_vector"] = self._vectors.by_relation.sum(1)
        tables = {name: self._vector_table(array) for name, array in found.items()}
        return {name: table for name, table in tables.items() if table.num_rows}

    def _vector_table(self, array: np.ndarray) -> pa.Table:
        length = np.linalg.norm(array, axis=1)
        rows = np.flatnonzero(np.isfinite(length) & (length > 0))
        values = (array[rows] / length[rows, None]).astype(np.float32)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), array.shape[1])
        return pa.table({"id": pa.array(self._items.ids, pa.string()).take(pa.array(rows)), "vector": vectors})

    def knows(self, item: str) -> bool:
        """Whether there is an item of this id."""
        return item in self._items

    def knows_user(self, user: str) -> bool:
        """Whether there is a user of this id."""
        return user in self._users

    def history(self, user: str) -> list[str]:
        """The items a user has, oldest first.

        Raises:
            UnknownIdError: nobody knows the user.
        """
        row = int(self._rows(self._users, [user])[0])
        first, last = np.searchsorted(self._histories.user, [row, row + 1])
        return [self._items.ids[item] for item in self._histories.item[first:last]]

    def title(self, item: str) -> str:
        """What people call the item: its title, else its id."""
        title = self.bundle.config["items"]["title"]
        if not title:
            return item
        value = self.bundle.items[title][int(self._rows(self._items, [item])[0])].as_py()
        return str(value) if value else item

    def _rows(self, ids: IdMap, wanted: Sequence[str]) -> np.ndarray:
        for id_ in wanted:
            if id_ not in ids:
                raise UnknownIdError(f"no {ids.node_type} {id_!r} in {self.bundle.shop}{_hint(id_, ids)}")
        return np.asarray(ids.rows(list(wanted)))

    def _newcomer(self, history: Sequence[str]) -> Scorable:
        items = self._rows(self._items, history)
        return self._newcomers([np.array(list(dict.fromkeys(items[::-1].tolist()))[::-1], np.int64)])

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

    def _lists(self, scorable: Scorable, users: np.ndarray, k: int, where: str | None) -> list[list[Recommended]]:
        only = None if where is None else self._where(where)
        items, scores, parts = self.model.recommend(scorable, users, k, only)
        names = [term.name for term in self.model.terms]
        return [
            [
                Recommended(self._items.ids[item], float(score), dict(zip(names, map(float, part), strict=True)))
                for item, score, part in zip(*row, strict=True)
                if item >= 0
            ]
            for row in zip(items, scores, parts, strict=True)
        ]

    def _where(self, where: str) -> np.ndarray:
        condition: Callable[[Any], np.ndarray] = compile_where(where)
        return np.asarray(condition(self._columns), bool)

    def _explain(self, scorable: Scorable, row: np.ndarray, item: int, most: int) -> Explanation:
        parts = self.model.parts(scorable, row, np.array([item]), self.model.peaks(scorable, row))[0, 0]
        rows = {name: matrix[row] for name, matrix in scorable.profiles.items()}
        return explain(self.model, rows, item, parts, self._items.ids, self.bundle.patterns, most=most)


def _hint(id_: str, ids: IdMap) -> str:
    return did_you_mean(id_, ids.ids) if len(ids) < 50_000 else ""


class _Columns(Mapping[str, Any]):
    """What `where` may name: properties and relations of the items, each read when it is asked for first."""

    def __init__(self, items: pa.Table) -> None:
        self._items, self._read = items, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._read:
            self._read[name] = _column(self._items[name])
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items.column_names)

    def __len__(self) -> int:
        return len(self._items.column_names)


def _column(column: pa.ChunkedArray) -> Any:
    values = column.to_pylist()
    if pa.types.is_list(column.type):
        return [frozenset(value or ()) for value in values]
    if pa.types.is_string(column.type):
        return ["" if value is None else value for value in values]
    return np.array([np.nan if value is None else value for value in values], np.float64)
