"""What fine-tuning the text encoder brings, each figure beside the packaged weights in the same run.

    python benchmarks/encoders.py [--data DIR] [--out DIR] [--only NAME …] [--set KEY=VALUE …] [--encoder KEY=VALUE …]
                                  [--validation]

Parts: pgpr, loo (next purchase from text alone, amazon-beauty: profile · M(s)), cold (items nobody is seen to buy),
homedepot (judged searches), ways (full beside lora on pgpr), robust (typos), small (precisions, layers), model-pgpr,
model-sports and model-retail (the whole scoring model fitted on either M(s)). Each prints a line of JSON. The last line
is one JSON object: text_ratio_pgpr, text_ratio_loo, cold_ratio, homedepot_ndcg, homedepot_spearman, finetune_s; what
was not asked for is null.

`--set` overrides a setting of [encoder.finetune], `--encoder` one of [encoder] on both sides (keep_layers=3 prunes the
packaged weights as well). Encoders tuned before are found again by digest; their seconds are
those of the run that made them. `--validation` stops before the test part is read. DIR holds amazon-beauty and
homedepot-search. Intervals are 95 % bootstraps over users or queries, paired.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer

from catalograph.config import EncoderSection, FinetuneSection
from catalograph.encoders.finetune import Check, Lessons, tune
from catalograph.encoders.node_text import clean, compose
from catalograph.encoders.pairs import misspelt, of_queries
from catalograph.encoders.transformer import INTEGERS, encode, opened, reduced, vectors_of
from catalograph.encoders.weights import resolve
from catalograph.kg.log import InteractionLog
from catalograph.pipeline.workshop import Workshop, open_workshop
from catalograph.pipeline.world import World, build_world
from catalograph.scoring.evaluate import evaluate
from catalograph.scoring.evidence import histories_of
from catalograph.scoring.folds import Fold, fold_of, training_folds
from catalograph.scoring.lessons import lessons_of
from catalograph.scoring.metrics import PerUser, rank_metrics
from catalograph.scoring.model import fit
from catalograph.scoring.profiles import profiles_of
from catalograph.scoring.topk import search

HERE = Path(__file__).parent
COLD_SHARE, COLD_SEED = 0.05, 1  # with the items of seed 0 choices were made
DRAWS = 2_000
FOLDERS = {
    "amazon-beauty-pgpr": "amazon-beauty",
    "amazon-beauty-loo": "amazon-beauty",
    "amazon-sports-loo": "amazon-sports",
}


@dataclass(frozen=True)
class Bench:
    """What was asked for."""

    data: Path
    out: Path
    changes: dict[str, Any]
    encoder: dict[str, Any]
    validation: bool

    def settings(self, **given: Any) -> FinetuneSection:
        """The defaults, what a part says, and what the command line says."""
        return FinetuneSection.model_validate({"way": "full"} | given | self.changes)

    def workshop(self, shop: str, finetune: FinetuneSection = FinetuneSection()) -> Workshop:  # noqa: B008  frozen
        """A benchmark shop or the demo's; its encoder not tuned, or as told."""
        demo = HERE.parent / "examples" / "online-retail" / "shop.toml"
        toml = demo if shop == "online-retail" else HERE / "shops" / f"{shop}.toml"
        data = None if toml == demo else self.data / FOLDERS[shop]
        workshop = open_workshop(toml, data=data, out=self.out / shop, say=say)
        change = {"precision": "reduced"} | self.encoder  # both sides alike, and faster
        known = workshop.config.encoder.model_dump() | change | {"finetune": finetune}
        encoder = EncoderSection.model_validate(known)
        workshop.config = workshop.config.model_copy(update={"encoder": encoder})
        return workshop


def say(line: str) -> None:
    """Progress goes to stderr."""
    print(line, file=sys.stderr, flush=True)


def ratio(tuned: np.ndarray, packaged: np.ndarray) -> dict[str, Any]:
    """Ratio of the means, with its interval."""
    random = np.random.default_rng(0)
    draws = random.integers(0, len(tuned), (DRAWS, len(tuned)))
    low, high = np.percentile(tuned[draws].mean(1) / np.maximum(packaged[draws].mean(1), 1e-12), [2.5, 97.5])
    return {"ratio": tuned.mean() / packaged.mean(), "ci95": [low, high]}


def listed(vectors: np.ndarray, log: InteractionLog, fold: Fold, k: int = 10) -> PerUser:
    """Everybody's list by profile · M(s) over the whole catalogue, their own items left out."""
    users, histories = np.sort(fold.users), histories_of(log)
    profiles = profiles_of(histories)["uniform"][users]
    items, _ = search(np.asarray(profiles @ vectors, np.float32), vectors, k, hidden=histories.matrix()[users])
    return rank_metrics(items, fold.held_out[users], k)


def tuned(bench: Bench, workshop: Workshop, world: World, log: InteractionLog, settings: FinetuneSection) -> Tuned:
    """The shop's encoder taught from `log`, and its vectors beside the packaged ones."""
    section = world.encoder.model_copy(update={"finetune": settings})
    config = workshop.config.model_copy(update={"encoder": section})
    texts = compose(world.snapshot, world.catalogue.item_label, section.text)
    before = world.given.text
    assert before is not None
    lessons, check = lessons_of(
        texts, lambda: before, log, world.given.relations, world.catalogue, world.snapshot, config, workshop.seed
    )
    place = tune(
        lessons, section, check, folder=workshop.folder / "encoder", device=workshop.device, say=say, progress=True
    )
    report = json.loads(place.with_name(place.name + ".json").read_text("utf-8"))
    section = section.model_copy(update={"model": str(place)})
    after = encode(texts, section, cache=workshop.folder / "text", device=workshop.device, progress=True)
    return Tuned(texts, section, report, before, after)


@dataclass(frozen=True)
class Tuned:
    """before, after: float32 [item, dim], M(s) of the packaged and of the tuned encoder."""

    texts: list[str]
    section: EncoderSection
    report: dict[str, Any]
    before: np.ndarray
    after: np.ndarray

    def told(self) -> dict[str, Any]:
        """What tuning itself reports."""
        names = ("way", "trained_parameters", "seconds", "before", "after", "checks", "forgetting", "lessons")
        return {name: self.report[name] for name in names}


def text_alone(bench: Bench, shop: str) -> dict[str, Any]:
    """Next purchase from text alone, on the test part."""
    workshop = bench.workshop(shop)
    world = build_world(workshop)
    found = tuned(bench, workshop, world, world.given.log, bench.settings())
    result = {"part": shop, **found.told()}
    if bench.validation or world.test is None:
        return result
    before, after = (listed(vectors, world.given.log, world.test) for vectors in (found.before, found.after))
    result |= {
        "packaged": float(before.ndcg.mean()),
        "tuned": float(after.ndcg.mean()),
        **ratio(after.ndcg, before.ndcg),
    }
    return result | {"users": len(after.ndcg), "recall": [float(before.recall.mean()), float(after.recall.mean())]}


def cold(bench: Bench) -> dict[str, Any]:
    """Items whose purchases are all hidden, among all items: Recall@10 of everybody who bought one."""
    workshop = bench.workshop("amazon-beauty-pgpr")
    world = build_world(workshop)
    log = world.given.log
    hidden = np.zeros(log.n_items, bool)
    hidden[np.random.default_rng(COLD_SEED).permutation(log.n_items)[: int(COLD_SHARE * log.n_items)]] = True
    known = log.where(~hidden[log.item])
    found = tuned(bench, workshop, world, known, bench.settings())
    result = {"part": "cold", **found.told()}
    if bench.validation or world.test is None:
        return result
    late = world.test.held_out.tocoo()
    user = np.concatenate([log.user[hidden[log.item]], late.row[hidden[late.col]]]).astype(np.int64)
    item = np.concatenate([log.item[hidden[log.item]], late.col[hidden[late.col]]]).astype(np.int64)
    asked = fold_of(known, InteractionLog(log.n_users, log.n_items, user, item), None)
    before, after = (listed(vectors, known, asked) for vectors in (found.before, found.after))
    popular = np.bincount(known.item, minlength=log.n_items).astype(np.float32)
    users = np.sort(asked.users)
    lists, _ = search(
        np.ones((len(users), 1), np.float32), popular[:, None], 10, hidden=histories_of(known).matrix()[users]
    )
    popularity = rank_metrics(lists, asked.held_out[users], 10)
    rates = {
        name: float(rate.recall.mean())
        for name, rate in (("packaged", before), ("tuned", after), ("popularity", popularity))
    }
    return result | {"items": int(hidden.sum()), "users": len(users), **rates, **ratio(after.recall, before.recall)}


def homedepot(bench: Bench) -> dict[str, Any]:
    """Judged searches: order within a query's judged products, and agreement of cosine and judgement over all pairs."""
    folder = bench.data / "homedepot-search"
    products = pl.read_csv(folder / "products.csv.gz")
    judged = pl.read_csv(folder / "judgments.csv.gz").with_columns(pl.col("query").map_elements(clean, pl.String))
    titles = [clean(title or "") for title in products["title"]]
    row = dict(zip(products["product_uid"], range(len(titles)), strict=True))
    parts = {name: Judged.of(judged.filter(pl.col("split") == name), row) for name in ("train", "valid", "test")}
    section = EncoderSection(finetune=bench.settings(steps=300, learning_rate=2e-4, checks=3))  # chosen on "valid"
    taught = parts["train"]
    texts, pairs = of_queries(taught.query, taught.product, len(titles), taught.relevance)
    wanted = parts["valid"]
    check_texts, score = wanted.check(titles)

    def value(vectors: np.ndarray) -> float:
        return float(np.mean([score(vectors)[0].mean(), score(vectors)[1]]))

    check = Check(check_texts, value, "homedepot-search, valid: mean of NDCG@10 and Spearman")
    lessons = Lessons([*titles, *texts], {"queries": pairs.drawn(len(pairs), 0)}, {})
    place = tune(lessons, section, check, folder=bench.out / "homedepot" / "encoder", say=say, progress=True)
    report = json.loads(place.with_name(place.name + ".json").read_text("utf-8"))
    result = {"part": "homedepot", "seconds": report["seconds"], "checks": report["checks"], "before": report["before"]}
    after = section.model_copy(update={"model": str(place)})
    for name in ("valid",) if bench.validation else ("valid", "test"):
        asked, score = parts[name].check(titles)
        found = [
            score(encode(asked, one, cache=bench.out / "homedepot" / "text", progress=True)) for one in (section, after)
        ]
        (ndcg, rank), (tuned_ndcg, tuned_rank), (words_ndcg, words_rank) = *found, score(by_words(titles, asked))
        result[name] = {
            "ndcg": [float(ndcg.mean()), float(tuned_ndcg.mean())],
            "spearman": [rank, tuned_rank],
            "tf_idf": {"ndcg": float(words_ndcg.mean()), "spearman": words_rank},
            "ndcg_gain_ci95": list(interval(tuned_ndcg - ndcg)),
        }
    return result


def by_words(titles: list[str], texts: list[str]) -> Any:
    """Sparse TF-IDF vectors of texts, the frequencies being the titles'."""
    return sp.csr_array(TfidfVectorizer(sublinear_tf=True).fit(titles).transform(texts), dtype=np.float32)


def interval(difference: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of a mean."""
    random = np.random.default_rng(0)
    means = difference[random.integers(0, len(difference), (DRAWS, len(difference)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True)
class Judged:
    """Judgements: query texts, product rows int64 [n], relevance float64 [n] from 1 to 3."""

    query: list[str]
    product: np.ndarray
    relevance: np.ndarray

    @classmethod
    def of(cls, table: pl.DataFrame, row: dict[Any, int]) -> Judged:
        """From a part of judgments.csv."""
        rows = np.array([row[uid] for uid in table["product_uid"]], np.int64)
        return cls(table["query"].to_list(), rows, table["relevance"].to_numpy())

    def check(self, titles: list[str]) -> tuple[list[str], Callable[[Any], tuple[np.ndarray, float]]]:
        """(texts, score): from vectors of the texts to NDCG@10 per query [q] and Spearman over all pairs."""
        queries, number = np.unique(np.asarray(self.query, object).astype(str), return_inverse=True)
        products, place = np.unique(self.product, return_inverse=True)

        def score(vectors: Any) -> tuple[np.ndarray, float]:
            left, right = vectors[: len(queries)], vectors[len(queries) :]
            cosine = (left[number] * right[place]).sum(1)
            return self._ndcg(number, cosine), float(spearmanr(cosine, self.relevance).statistic)

        return [*queries.tolist(), *(titles[n] for n in products)], score

    def _ndcg(self, number: np.ndarray, score: np.ndarray, k: int = 10) -> np.ndarray:
        """Gain 2^(relevance - 1) - 1; queries whose products differ in relevance."""
        found, discount = [], 1 / np.log2(np.arange(2, k + 2))
        for query in range(number.max() + 1):
            gain = 2 ** (self.relevance[number == query] - 1) - 1
            if np.ptp(gain) > 0:
                best, got = np.sort(gain)[::-1][:k], gain[np.argsort(-score[number == query], kind="stable")][:k]
                found.append((got * discount[: len(got)]).sum() / (best * discount[: len(best)]).sum())
        return np.array(found)


def whole_model(bench: Bench, shop: str) -> dict[str, Any]:
    """The scoring model fitted on packaged and on tuned M(s); per user the NDCG@k of either on the test part."""
    reached, validation = [], []
    for finetune in (FinetuneSection(), bench.settings()):
        world = build_world(bench.workshop(shop, finetune))
        model = fit(world.given, say)
        validation.append(model.report["validation"])
        if not bench.validation and world.test is not None:
            reached.append(evaluate(world.given, model, world.test).per_user["catalograph"])
    result: dict[str, Any] = {"part": f"model {shop}", "validation": validation}
    if reached:
        packaged, tuned = reached
        gain = {"gain": float((tuned - packaged).mean()), "ci95": list(interval(tuned - packaged))}
        result |= {"packaged": float(packaged.mean()), "tuned": float(tuned.mean()), "users": len(tuned), **gain}
    return result


def ways(bench: Bench) -> list[dict[str, Any]]:
    """Trained numbers, seconds and quality of each way, on pgpr."""
    rates = {"full": None, "lora": 1e-3, "adapter": 3e-3}
    found = []
    for way, rate in rates.items():
        settings = {"way": way} | ({"learning_rate": rate} if rate else {})
        found.append(
            {**text_alone(replace(bench, changes=bench.changes | settings), "amazon-beauty-pgpr"), "part": f"way {way}"}
        )
        say(json.dumps(found[-1]))
    return found


def robust(bench: Bench) -> dict[str, Any]:
    """How far a slip of the keyboard in one word in five moves an embedding and the list of its nearest items."""
    workshop = bench.workshop("amazon-beauty-pgpr")
    world = build_world(workshop)
    found = tuned(bench, workshop, world, world.given.log, bench.settings())
    random = np.random.default_rng(0)
    some = random.permutation(len(found.texts))[:1_000]
    slipped = [
        " ".join(misspelt(w, random) if random.random() < 0.2 else w for w in found.texts[n].split()) for n in some
    ]
    result: dict[str, Any] = {"part": "robust", "texts": len(some)}
    for name, section, vectors in (("packaged", world.encoder, found.before), ("tuned", found.section, found.after)):
        moved = encode(slipped, section, cache=None)
        near, nearer = (search(one, vectors, 11)[0][:, 1:] for one in (vectors[some], moved))
        kept = [len(set(a) & set(b)) / 10 for a, b in zip(near.tolist(), nearer.tolist(), strict=True)]
        cosine = float((moved * vectors[some]).sum(1).mean())
        result[name] = {"cosine": cosine, "nearest_10_kept": float(np.mean(kept))}
    return result


def small(bench: Bench) -> list[dict[str, Any]]:
    """Speed, size and validation quality of the encoder at other precisions and with fewer layers, on pgpr."""
    workshop = bench.workshop("amazon-beauty-pgpr")
    world = build_world(workshop)
    texts = compose(world.snapshot, world.catalogue.item_label, world.encoder.text)
    settled = tuned(bench, workshop, world, world.given.log, bench.settings())
    fold = training_folds(world.given.log, workshop.config.split, 1)[0]
    variants: dict[str, dict[str, object]] = {
        "full": {"precision": "full"},
        "reduced": {"precision": "reduced"},
        "int8": {"precision": "int8"},
        "4 layers": {"keep_layers": 4, "precision": "full"},
        "3 layers": {"keep_layers": 3, "precision": "full"},
        "3 layers, reduced": {"keep_layers": 3, "precision": "reduced"},
    }
    found = []
    for name, change in variants.items():
        section = settled.section.model_copy(update=change)
        shelf = bench.out / f"small {name}"
        model = opened(resolve(section.model), section, "cpu", shelf)
        integers = shelf / INTEGERS
        context = reduced("cpu") if section.precision == "reduced" else nullcontext()
        with context:
            vectors_of(model, texts[:256], section.batch_size)
            start = time.process_time()
            vectors = vectors_of(model, texts, section.batch_size)
            spent = time.process_time() - start
        result = {
            "part": f"small {name}",
            "cpu_s_per_1000": 1_000 * spent / len(texts),
            "mib": (integers.stat().st_size if integers.is_file() else bytes_of(model)) / 2**20,
            "cosine": float((vectors * settled.after).sum(1).mean()),
            "validation_ndcg": float(listed(vectors, fold.seen, fold).ndcg.mean()),
        }
        found.append(result)
        say(json.dumps(result))
    return found


def bytes_of(model: Any) -> int:
    """What the weights take when saved."""
    import torch  # noqa: PLC0415

    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell()


PARTS: dict[str, Callable[[Bench], Any]] = {
    "pgpr": lambda bench: text_alone(bench, "amazon-beauty-pgpr"),
    "loo": lambda bench: text_alone(bench, "amazon-beauty-loo"),
    "cold": cold,
    "homedepot": homedepot,
    "ways": ways,
    "robust": robust,
    "small": small,
    "model-pgpr": lambda bench: whole_model(bench, "amazon-beauty-pgpr"),
    "model-sports": lambda bench: whole_model(bench, "amazon-sports-loo"),
    "model-retail": lambda bench: whole_model(bench, "online-retail"),
}


def told(changes: list[str]) -> dict[str, Any]:
    """Settings out of KEY=VALUE, values as JSON has them."""
    return {key: json.loads(value) for key, _, value in (change.partition("=") for change in changes)}


def main() -> None:
    """Run the parts, print a line each and the object of figures last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parent.parent / "shared" / "data")
    parser.add_argument("--out", type=Path, default=Path("build") / "benchmark-encoders")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--encoder", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--validation", action="store_true")
    asked = parser.parse_args()
    bench = Bench(asked.data, asked.out, told(asked.set), told(asked.encoder), asked.validation)
    results = {}
    for name in asked.only:
        results[name] = PARTS[name](bench)
        print(json.dumps(results[name]), flush=True)
    test = results.get("homedepot", {}).get("test", {})
    figures = {
        "text_ratio_pgpr": results.get("pgpr", {}).get("ratio"),
        "text_ratio_loo": results.get("loo", {}).get("ratio"),
        "cold_ratio": results.get("cold", {}).get("ratio"),
        "homedepot_ndcg": test.get("ndcg", [None, None])[1],
        "homedepot_spearman": test.get("spearman", [None, None])[1],
        "finetune_s": results.get("pgpr", results.get("loo", {})).get("seconds"),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
