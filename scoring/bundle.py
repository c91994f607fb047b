"""A bundle: one version of a shop's model as a folder of safetensors, JSON and Parquet. No pickle anywhere.

manifest.json                        format, digest of the inputs, settings, terms, scalars, SHA-256 of the other files
model.safetensors                    every array
items.parquet, users.parquet         ids in row order, with the items' properties
events.parquet                       the training events as rows
edges.parquet                        the graph's edges that leave items: what paths and new items are made of
dense.faiss                          the index of an approximate search, where there is one
metrics.json                         what the evaluation found; written after it
updates.jsonl                        the batches of changes taken in since the shop's files were read, in order
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
import torch
from pydantic import ValidationError
from safetensors.numpy import save_file

from ..config import ShopConfig
from ..errors import ArtifactError, DataError
from ..gnn.embed import RelationVectors, Weights
from ..kg.log import InteractionLog
from ..loaders.changes import Changes, read_changes
from .approximate import DenseIndex
from .boosted import BoostedHead
from .head import Head
from .knowledge import Kinds
from .mapped import mapped
from .model import Model
from .terms import ItemItem, LowRank, Prior, Term

FORMAT = 7
MANIFEST, ARRAYS, ITEMS, USERS, EVENTS, EDGES, METRICS, UPDATES = (
    "manifest.json",
    "model.safetensors",
    "items.parquet",
    "users.parquet",
    "events.parquet",
    "edges.parquet",
    "metrics.json",
    "updates.jsonl",
)
INDEX = "dense.faiss"
LOG_COLUMNS = ("user", "item", "at", "position", "quantity", "basket", "label")


@dataclass(frozen=True)
class Waits:
    """A version that was made beside a change of the store. batch: the id of the change. of: the version before."""

    batch: str
    of: str


@dataclass(frozen=True)
class Bundle:
    """inputs: hex digest of what it was made from. items: `id` and properties, in row order. users: `id`.

    text: M(s), float32 [item, dim]. encoder: `model` (a name, or a folder inside the build folder) and `digest` of the
    weights it comes from. edges: a row per edge from an item: source (int64 item row), relation, label and id
    (`target`) of the node it leads to, and its `name`, else its id. kinds: every (relation, label) such edges may have.
    metrics: empty until evaluated. waits: the batch that the store must hold before this version may be published, and
    the version it was made from; None after a rebuild.
    feedback: the number of the newest event of the service's log that was taken in. store: the URL of the graph that
    belongs to the model, as :func:`~catalograph.kg.stores.kept_url` tells it; None in bundles of before it was kept.
    """

    shop: str
    inputs: str
    config: dict[str, Any]
    model: Model
    log: InteractionLog
    items: pa.Table
    users: pa.Table
    text: np.ndarray | None
    encoder: dict[str, str] | None
    edges: pa.Table
    kinds: Kinds
    metrics: dict[str, Any] = field(default_factory=dict)
    waits: Waits | None = None
    feedback: int = 0
    store: str | None = None


def save(bundle: Bundle, folder: Path, updates: Iterable[Changes]) -> None:
    """Write the files of a bundle into an empty folder; :mod:`.versions` makes it appear whole.

    updates: the batches taken in since the shop's files were read. Who scores needs none of them, so they stay there.
    """
    model = bundle.model
    arrays: dict[str, np.ndarray] = {}
    specs = [_pack(term, number, arrays) for number, term in enumerate(model.terms)]
    arrays |= {"blend": model.blend, "cold": model.cold, "allowed": model.allowed, "about_items": model.about_items}
    arrays |= {f"head.{name}": array for name, array in model.head.arrays().items()}
    if model.decay is not None:
        arrays["decay"] = np.asarray(model.decay)
    if bundle.text is not None:
        arrays["text"] = bundle.text
    if model.vectors is not None:
        arrays["relation_vectors"] = np.asarray(model.vectors.by_relation)
        arrays |= {f"gnn.{name}": weight.numpy() for name, weight in model.vectors.state.items()}
    plain = {name: array if array.flags.c_contiguous else np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(plain, folder / ARRAYS)
    events = {name: getattr(bundle.log, name) for name in LOG_COLUMNS if getattr(bundle.log, name) is not None}
    pq.write_table(pa.table(events), folder / EVENTS)
    pq.write_table(bundle.items, folder / ITEMS)
    pq.write_table(bundle.users, folder / USERS)
    pq.write_table(bundle.edges, folder / EDGES)
    if model.index is not None:
        model.index.save(folder / INDEX)
    if told := "".join(batch.text() for batch in updates):
        (folder / UPDATES).write_text(told, encoding="utf-8")
    manifest = {
        "format": FORMAT,
        "shop": bundle.shop,
        "inputs": bundle.inputs,
        "terms": specs,
        "head": model.head.kind,
        "pool_size": model.pool_size,
        "batch_mib": model.batch_mib,
        "now": model.now,
        "gnn": None if model.vectors is None else _about(model.vectors),
        "kinds": bundle.kinds,
        "feedback": bundle.feedback,
        "store": bundle.store,
        "waits": None if bundle.waits is None else asdict(bundle.waits),
        "encoder": bundle.encoder,
        "config": bundle.config,
        "report": model.report,
        "files": digests(folder),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def digests(folder: Path) -> dict[str, str]:
    """File -> SHA-256 of what the manifest answers for. A quarter of a GiB takes .2 s, so every load looks."""
    found = {}
    for name in (ARRAYS, EVENTS, ITEMS, USERS, EDGES, *(part for part in (INDEX, UPDATES) if (folder / part).exists())):
        with (folder / name).open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _about(vectors: RelationVectors) -> dict[str, Any]:
    return {name: list(getattr(vectors, name)) for name in ("relations", "gated", "validation")}


def _pack(term: Term, number: int, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    spec: dict[str, Any] = {"name": term.name, "profile": term.profile, "shape": type(term).__name__}
    if isinstance(term, ItemItem):
        shared = next((k for k, v in arrays.items() if v is term.weights.data), None)
        spec["weights"] = shared.removesuffix(".data") if shared else f"t{number}"
        if shared is None:
            matrix = term.weights
            arrays |= {
                f"t{number}.data": matrix.data,
                f"t{number}.indices": matrix.indices,
                f"t{number}.indptr": matrix.indptr,
            }
    elif isinstance(term, LowRank):
        spec |= {"unit": term.unit}
        for side, array in (("left", term.left), ("right", term.right)):
            shared = next((k for k, v in arrays.items() if v is array), None)
            spec[side] = shared or f"t{number}.{side}"
            arrays.setdefault(spec[side], array)
    else:
        spec["values"] = f"t{number}.values"
        arrays[spec["values"]] = term.values
    return spec


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _head(kind: str, arrays: dict[str, np.ndarray]) -> Head | BoostedHead:
    return BoostedHead.of_arrays(arrays) if kind == BoostedHead.kind else Head.of_arrays(kind, arrays)


def _unpack(spec: dict[str, Any], arrays: dict[str, np.ndarray], matrices: dict[str, sp.csr_matrix], n: int) -> Term:
    if spec["shape"] == "ItemItem":
        key = spec["weights"]
        if key not in matrices:
            parts = tuple(arrays[f"{key}.{part}"] for part in ("data", "indices", "indptr"))
            matrices[key] = sp.csr_matrix(parts, shape=(n, n))
        return ItemItem(spec["name"], spec["profile"], matrices[key])
    if spec["shape"] == "LowRank":
        return LowRank(spec["name"], spec["profile"], arrays[spec["left"]], arrays[spec["right"]], spec["unit"])
    return Prior(spec["name"], arrays[spec["values"]], spec["profile"])


@dataclass(frozen=True)
class StoredVectors(Weights):
    """R_s as a bundle keeps them, by_relation float32 [item, relation, dim], and the weights they come from."""

    relations: tuple[str, ...]
    by_relation: np.ndarray


def load(place: Path) -> tuple[Bundle, StoredVectors | None]:
    """A bundle back from its folder.

    Raises:
        ArtifactError: a part is missing or torn, or format or settings are not this version's.
    """
    try:
        manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise ArtifactError(f"{place}: format {manifest['format']}, this version reads {FORMAT}; rebuild the shop")
        if why := _misfit(manifest["config"]):
            raise ArtifactError(f"{place}: its settings are of another version ({why}); rebuild the shop")
        told = manifest.get("files")  # bundles written before there were digests have none
        if told is not None and (wrong := told.items() ^ digests(place).items()):
            raise ValueError(f"{min(name for name, _ in wrong)} is not what was written")
        arrays = mapped(place / ARRAYS)
        items, users = pq.read_table(place / ITEMS), pq.read_table(place / USERS)
        events, edges = pq.read_table(place / EVENTS), pq.read_table(place / EDGES)
        metrics = json.loads((place / METRICS).read_text(encoding="utf-8")) if (place / METRICS).is_file() else {}
        matrices: dict[str, sp.csr_matrix] = {}
        terms = tuple(_unpack(spec, arrays, matrices, len(items)) for spec in manifest["terms"])
        model = Model(
            terms,
            arrays["blend"],
            arrays["cold"],
            _head(manifest["head"], _under("head.", arrays)),
            manifest["pool_size"],
            arrays["allowed"],
            arrays["about_items"],
            manifest["now"],
            arrays.get("decay"),
            None,
            manifest["report"],
            DenseIndex.opened(place / INDEX) if (place / INDEX).exists() else None,
            manifest["batch_mib"],
        )
        log = InteractionLog(len(users), len(items), **{name: events[name].to_numpy() for name in events.column_names})
        vectors = _stored(manifest["gnn"], arrays) if manifest["gnn"] is not None else None
        loaded = Bundle(
            shop=manifest["shop"],
            inputs=manifest["inputs"],
            config=manifest["config"],
            model=model,
            log=log,
            items=items,
            users=users,
            text=arrays.get("text"),
            encoder=manifest["encoder"],
            edges=edges,
            kinds=tuple((relation, label) for relation, label in manifest["kinds"]),
            metrics=metrics,
            feedback=manifest["feedback"],
            store=manifest.get("store"),
            waits=waits_in(manifest),
        )
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, pa.ArrowException) as e:
        raise ArtifactError(f"{place}: the bundle is incomplete ({e}); run `catalograph rebuild --full`") from e
    return loaded, vectors


def _misfit(config: dict[str, Any]) -> str:
    """What this version has against the settings of a bundle; "" where they are as it would write them."""
    try:
        ShopConfig.model_validate(config)
    except ValidationError as e:
        first = e.errors()[0]
        return ": ".join(part for part in (".".join(map(str, first["loc"])), first["msg"]) if part)
    return ""


def waits_in(manifest: Mapping[str, Any]) -> Waits | None:
    """What this version waits for."""
    told = manifest.get("waits")
    return None if told is None else Waits(told["batch"], told["of"])


def _stored(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> StoredVectors:
    return StoredVectors(
        tuple(about["relations"]),
        arrays["relation_vectors"],
        state={name: torch.from_numpy(np.array(array)) for name, array in _under("gnn.", arrays).items()},
        gated=tuple(about["gated"]),
        validation=tuple(about["validation"]),
    )


def updates_in(place: Path) -> tuple[Changes, ...]:
    """The batches a bundle was told since the shop's files were read.

    Raises:
        ArtifactError: the list of them is damaged.
    """
    file = place / UPDATES
    try:
        return read_changes(file) if file.is_file() else ()
    except DataError as e:
        raise ArtifactError(f"{file} is damaged ({e}); run `catalograph rebuild --drop-updates`") from None
