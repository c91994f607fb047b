"""What one process of the service is told. Light to import: workers unpickle it before their logs are set up."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from ..config import ServeSection
from .keys import Keys, load_keys


@dataclass(frozen=True)
class Serving:
    """What one process is told. keyed: False lets everybody in. keys: the file of keys, or None for the environment."""

    folder: Path
    limits: ServeSection
    keyed: bool
    keys: Path | None = None
    salt: bytes = field(default_factory=lambda: secrets.token_bytes(16), repr=False)

    def load_keys(self) -> Keys | None:
        """The keys to start with."""
        return load_keys(self.keys) if self.keyed else None
