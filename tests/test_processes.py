"""Two processes, started by torchrun and talking over gloo, learn what one learns."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from shops import make_shop
from test_gnn import SECTION, events, graph, train

from catalograph import Recommender
from catalograph.gnn import processes
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop

SECTION = SECTION.model_copy(update={"batch_size": 101})  # odd: the shares are not of one size
TRAIN = """
import numpy as np
from test_processes import SECTION, events, graph, processes, train

with processes.joined("cpu"):
    made = train(graph(), events(), SECTION)
    np.savez(f"{processes.rank()}.npz", items=made.items, projection=made.projection)
"""
BUILD = """
from pathlib import Path
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop

rebuild(open_workshop(Path("shop/shop.toml"), out=Path("build"), device="cpu"))
"""
STOP = """
import numpy as np
from catalograph.gnn import train as training
from test_processes import SECTION, events, graph, processes, train

with processes.joined("cpu"):
    measure, falling = training._ndcg, iter([0.3, 0.2, 0.1, 0.0, 0.0, 0.0])  # what the second would stop at
    training._ndcg = lambda *parts: next(falling) if processes.rank() else measure(*parts)
    made = train(graph(), events(), SECTION, valid=(np.arange(40), np.arange(40)))
    np.savez(f"{processes.rank()}.npz", items=made.items, validation=made.validation)
"""
OTHER_SEEDS = """
import os
from pathlib import Path
from catalograph.errors import ConfigError
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop

try:
    rebuild(open_workshop(Path("shop/shop.toml"), out=Path("build"), device="cpu", seed=int(os.environ["RANK"])))
except ConfigError as e:
    Path("said-" + os.environ["RANK"]).write_text(str(e), "utf-8")
"""


def torchrun(folder, program):
    """Run a program in two processes, in `folder`."""
    (folder / "program.py").write_text(program, "utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "program.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_steps_shared_by_two_are_the_steps_of_one(tmp_path):
    alone = train(graph(), events(), SECTION)
    torchrun(tmp_path, TRAIN)
    one, two = (np.load(tmp_path / f"{rank}.npz") for rank in (0, 1))
    np.testing.assert_array_equal(one["items"], two["items"])  # all hold the same weights
    np.testing.assert_allclose(one["items"], alone.items, atol=1e-5)
    np.testing.assert_allclose(one["projection"], alone.projection, atol=1e-5)


@pytest.mark.slow
def test_the_first_says_when_to_stop(tmp_path):
    torchrun(tmp_path, STOP)
    one, two = (np.load(tmp_path / f"{rank}.npz") for rank in (0, 1))
    np.testing.assert_array_equal(one["validation"], two["validation"])
    np.testing.assert_array_equal(one["items"], two["items"])


@pytest.mark.slow
def test_processes_that_read_something_else_do_not_begin(tmp_path):
    make_shop(tmp_path / "shop")
    torchrun(tmp_path, OTHER_SEEDS)
    for rank in (0, 1):
        assert "do not read the same files, updates and settings" in (tmp_path / f"said-{rank}").read_text("utf-8")
    assert not list((tmp_path / "build").glob("graph*"))


@pytest.mark.slow
def test_a_shop_built_by_two_is_the_shop_built_by_one(tmp_path):
    toml = make_shop(tmp_path / "shop")
    rebuild(open_workshop(toml, out=tmp_path / "alone", device="cpu"))
    torchrun(tmp_path, BUILD)
    one, two = (Recommender.load(tmp_path / name) for name in ("alone", "build"))
    items = one.bundle.items["id"].to_pylist()
    for relation, vectors in one.vectors(items).items():
        np.testing.assert_allclose(two.vectors(items)[relation], vectors, atol=1e-5)
    for metric, value in one.bundle.metrics["validation"].items():
        assert two.bundle.metrics["validation"][metric] == pytest.approx(value, abs=1e-3)
    assert not list((tmp_path / "build/process-1").glob("bundles/*"))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_event_is_somebodys(count, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: count)
    found = []
    for rank in range(count):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        found += list(range(5))[processes.share(5)]
    assert found == list(range(5))
