"""What the text encoder is taught, and what it is checked on, without a look at what the scoring model is fitted on.

The head learns how far to trust the text term from folds of the training part. An encoder that had seen those folds'
hidden purchases would look better there than it is, so pairs come from events :func:`.folds.in_no_fold` alone, searches
from before anything is held out, and one encoder serves every fold and the final model alike
(docs/decisions/0008-tune-before-the-folds.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from ..config import ShopConfig
from ..encoders import pairs as teach
from ..encoders.cache import text_digests
from ..encoders.finetune import Check, Lessons
from ..encoders.node_text import clean
from ..encoders.teacher import Tastes
from ..kg.log import InteractionLog
from ..kg.snapshot import Snapshot
from ..loaders.catalogue import Catalogue
from .evidence import DAY_MS, Relation, histories_of
from .folds import Fold, in_no_fold, training_folds
from .metrics import rank_metrics
from .profiles import profiles_of
from .topk import search

OF_PURCHASES = ("users", "baskets")  # kinds of pairs: items somebody took
CHECK_USERS = 2_000  # at most, of a check: it is repeated while the encoder learns
CHECK_ITEMS = 20_000  # among which they look: what they have and want, filled up to so many


def lessons_of(
    texts: Sequence[str],
    encoded: Callable[[], np.ndarray],
    log: InteractionLog,
    relations: Sequence[Relation],
    catalogue: Catalogue,
    snapshot: Snapshot,
    config: ShopConfig,
    seed: int,
) -> tuple[Lessons, Check]:
    """Pairs from the events before the folds, and a check on the oldest fold; where nobody is in it, on noised texts.

    Purchases of a shop with labels teach nothing: trees learn there from all its pairs, each as if it were unknown; nor
    do searches from the first of them on.

    texts: of the items, in row order. encoded: gives their unit vectors float32 [item, dim] by the encoder before it is
    tuned; asked only for tastes and hard negatives. log: training.
    """
    settings, label = config.encoder.finetune, catalogue.item_label
    folds = training_folds(log, config.split, config.model.folds)
    shown = in_no_fold(log, config.split, config.model.folds)
    known = log.where(shown)
    most, kinds = settings.steps * settings.batch_size, set(settings.learn_from)
    if config.interactions.label is not None:
        kinds -= {"tastes", *OF_PURCHASES}
        shown = np.zeros(len(log), bool)
    leaking = {name for name, relation in config.relations.items() if relation.leaks}
    table, found = list(texts), {}
    histories = histories_of(known).matrix()
    taken = np.diff(histories.indptr)
    telling = int(taken[taken > 1].sum())  # whoever took one item does not tell what goes with it
    tastes = Tastes(histories, encoded) if "tastes" in kinds and telling else None
    if "users" in kinds:
        found["users"] = teach.of_users(known, most=most, seed=seed)
    if "baskets" in kinds:
        found["baskets"] = teach.of_baskets(known, most=most, seed=seed)
    if "attributes" in kinds:
        unused = {name for name, relation in config.relations.items() if not relation.use}
        kept_out = frozenset(catalogue.derived | unused | leaking)
        names, pairs = teach.of_attributes(snapshot, label, kept_out, len(table))
        table, found["attributes"] = table + [clean(name) for name in names], pairs.drawn(most, seed)
    if "queries" in kinds and catalogue.searches is not None:
        asked = _before_any_answer(catalogue.searches, catalogue, log, shown, folds[-1])
        rows = snapshot.ids[label].rows(asked["item"].to_pylist())
        judged = asked["relevance"].to_numpy() if "relevance" in asked.column_names else None
        queries = [clean(query) for query in asked["query"].to_pylist()]
        names, pairs = teach.of_queries(queries, rows, len(table), judged)
        table, found["queries"] = table + names, pairs.drawn(most, seed)
    learned = telling if tastes is not None else sum(map(len, found.values()))
    if "text" in kinds or learned < len(texts):  # too little happened here yet
        own = np.arange(len(texts))
        pairs = teach.TextPairs(own + len(table), own)
        table, found["text"] = table + teach.noised(texts, seed=seed), pairs.drawn(most, seed)
    negatives, bought = {}, [kind for kind in OF_PURCHASES if kind in found]
    if settings.hard_negatives and bought:
        members = [r.members for r in relations if r.links is None and r.name not in leaking]
        around = teach.Neighbourhood.of(known, encoded(), members)
        negatives = {kind: around.negatives(found[kind].anchor, seed=seed) for kind in bought}
    found = {kind: pairs for kind, pairs in found.items() if len(pairs)}
    users = np.empty(0, np.int64) if not folds else folds[-1].users[np.isin(folds[-1].users, known.user)]
    check = _check_on_users(texts, known, folds[-1], users) if len(users) else _check_on_texts(texts, seed)
    return Lessons(table, found, negatives, tastes), check


def _before_any_answer(
    searches: pa.Table, catalogue: Catalogue, log: InteractionLog, shown: np.ndarray, oldest: Fold
) -> pa.Table:
    """The searches from before the first event that is a question somewhere, and not later than the oldest fold begins:
    a click may be the way to a purchase, and does not say whose. All of them where one side has no times.

    log, shown: the training events, and bool [event] which of them are no question of a fold or of a tree.
    """
    if log.at is None or "at" not in searches.column_names:
        return searches
    held_out = catalogue.interactions.filter(pc.field("part") != "train")["at"].to_numpy()
    assert oldest.now is not None
    until = np.concatenate([log.at[~shown], held_out, [oldest.now * DAY_MS]]).min()
    return searches.filter(searches["at"].to_numpy() < until)


def _check_on_texts(texts: Sequence[str], seed: int) -> Check:
    """NDCG@10 of texts with words lost and letters slipped that look for what they were."""
    told = np.flatnonzero([bool(text.strip()) for text in texts])
    some = np.random.default_rng(seed).permutation(told)[:CHECK_ITEMS]
    whole, asked = [texts[row] for row in some.tolist()], np.arange(min(len(some), CHECK_USERS))
    spoilt = teach.noised(whole[: len(asked)], seed=seed + 1)  # other noise than the lessons'
    wanted = sp.csr_matrix((np.ones(len(asked), np.float32), (asked, asked)), shape=(len(asked), len(whole)))

    def score(vectors: np.ndarray) -> float:
        items, _ = search(vectors[: len(asked)], vectors[len(asked) :], 10)
        return float(rank_metrics(items, wanted, 10).ndcg.mean()) if len(asked) else 0.0

    return Check([*spoilt, *whole], score, hashlib.sha256(text_digests([*spoilt, *whole]).tobytes()).hexdigest())


def _check_on_users(texts: Sequence[str], known: InteractionLog, fold: Fold, users: np.ndarray) -> Check:
    """NDCG@10 of profile · M(s) for `users` of `fold`, their history being what is `known` before all folds."""
    histories, users = histories_of(known), np.sort(users[:CHECK_USERS])
    profiles, held_out = profiles_of(histories)["uniform"][users], fold.held_out[users]
    own, some = histories.matrix()[users], np.arange(len(texts))
    if len(texts) > CHECK_ITEMS:
        wanted = np.union1d(held_out.indices, profiles.indices)
        filled = np.random.default_rng(7).permutation(np.setdiff1d(some, wanted))
        some = np.sort(np.concatenate([wanted, filled[: max(CHECK_ITEMS - len(wanted), 0)]]))
        profiles, held_out, own = (sp.csr_matrix(matrix[:, some]) for matrix in (profiles, held_out, own))

    def score(vectors: np.ndarray) -> float:
        items, _ = search(np.asarray(profiles @ vectors, np.float32), vectors, 10, hidden=own)
        return float(rank_metrics(items, held_out, 10).ndcg.mean())

    parts = (users, some, profiles.indptr, profiles.indices, held_out.indptr, held_out.indices)
    digest = hashlib.sha256(b"|".join(np.ascontiguousarray(part, np.int64).tobytes() for part in parts)).hexdigest()
    return Check([texts[row] for row in some.tolist()], score, digest)
