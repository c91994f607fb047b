"""Catalograph: from a shop's catalogue and logs to a knowledge graph, and from the graph to recommendations.

>>> from catalograph import Recommender
>>> shop = Recommender.load("build/online-retail")

Public names load on first use, so that importing the package imports neither torch nor PyG.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import ShopConfig, load_config
    from .errors import CatalographError
    from .kg.snapshot import Snapshot
    from .kg.stores import open_store
    from .loaders.catalogue import Catalogue
    from .loaders.changes import Changes
    from .scoring.recommender import Recommender

__version__ = "0.1.0"
__all__ = [
    "CatalographError",
    "Catalogue",
    "Changes",
    "Recommender",
    "ShopConfig",
    "Snapshot",
    "load_config",
    "open_store",
]

_HOMES = {
    "Catalogue": ".loaders.catalogue",
    "CatalographError": ".errors",
    "Changes": ".loaders.changes",
    "Recommender": ".scoring.recommender",
    "ShopConfig": ".config",
    "Snapshot": ".kg.snapshot",
    "load_config": ".config",
    "open_store": ".kg.stores",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
