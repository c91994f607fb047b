"""Fixtures: generated shops, one of them built once. Test modules import `shops` from this folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from shops import make_shop


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def shop(tmp_path):
    return make_shop(tmp_path / "shop")


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """(shop.toml, build folder) of a shop rebuilt once for all tests that only read it."""
    from catalograph.pipeline import open_workshop, rebuild  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("built")
    toml = make_shop(folder / "shop")
    rebuild(open_workshop(toml, out=folder / "build", device="cpu"))
    return toml, folder / "build"
