"""The house: who may import whom, what a wheel holds, and what the front door loads and names."""

import ast
import io
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import catalograph
from catalograph import errors

ROOT = Path(__file__).parents[1]
RANK = {
    "errors": 0,
    "durable": 1,
    "seeding": 1,
    "config": 1,
    "pyg": 1,
    "loaders": 2,
    "kg": 3,
    "encoders": 4,
    "gnn": 4,
    "scoring": 5,
    "pipeline": 6,
    "publishing": 7,
    "updating": 7,
    "tuning": 7,
    "service": 7,
    "printed": 7,
    "cli": 8,
    "__init__": 9,  # the front door names things of every room
}
SPARSE = """
import scipy.sparse as sp
from catalograph.scoring.product import as_sparse
as_sparse(sp.identity(3, "float32", "csr"))
"""
HEAVY = {"torch", "transformers", "torch_geometric", "neo4j", "fastapi"}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PACKAGES = PYPROJECT["tool"]["setuptools"]["packages"]


def folder_of(package):
    return ROOT.joinpath(*package.split(".")[1:])


MODULES = sorted(path for package in PACKAGES for path in folder_of(package).glob("*.py"))


def complaints(source, place):
    """What is wrong with the imports of a module at `place`, its path inside the package without .py."""
    return [
        f"line {node.lineno}: {wrong}"
        for node in ast.walk(ast.parse(source))
        for wrong in _complaints_about(node, place)
    ]


def _complaints_about(node, place):
    if isinstance(node, ast.Import):
        return [f"{a.name} is ours, import it relatively" for a in node.names if is_ours(a.name)]
    if not isinstance(node, ast.ImportFrom):
        return []
    if node.level == 0:
        return [f"{node.module} is ours, import it relatively"] if is_ours(node.module) else []
    if node.level > len(place):
        return ["reaches above the package"]
    base = place[: len(place) - node.level]
    targets = [node.module] if node.module else [a.name for a in node.names]
    rooms = {(*base, *target.split("."))[0] for target in targets}
    return [f"{place[0]} may not import {room}" for room in sorted(rooms) if not may_import(place[0], room)]


def is_ours(module):
    return module.split(".")[0] in {"catalograph", *RANK}


def may_import(room, other):
    return room == other or RANK[other] < RANK[room]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_relative_and_point_one_way(path):
    place = path.relative_to(ROOT).with_suffix("").parts
    assert complaints(path.read_text("utf-8"), place) == []


@pytest.mark.parametrize(
    ("place", "source", "wrong"),
    [
        (("kg", "store"), "from ..scoring.topk import top_k", "line 1: kg may not import scoring"),
        (("gnn", "model"), "from .. import encoders", "line 1: gnn may not import encoders"),
        (("kg", "store"), "if True:\n    from .. import cli", "line 2: kg may not import cli"),
        (("config",), "from .loaders.load import load_catalogue", "line 1: config may not import loaders"),
        (("cli",), "from catalograph.errors import DataError", "line 1: catalograph.errors is ours"),
        (("cli",), "import loaders.load", "line 1: loaders.load is ours"),
        (("cli",), "from ..kg import store", "line 1: reaches above the package"),
    ],
)
def test_a_wrong_import_is_seen(place, source, wrong):
    found = complaints(source, place)
    assert len(found) == 1
    assert found[0].startswith(wrong)


def test_every_source_folder_is_a_declared_package():
    folders = {path.parent for path in ROOT.glob("[a-z]*/**/__init__.py") if path.relative_to(ROOT).parts[0] != "build"}
    assert {folder_of(package) for package in PACKAGES} == {ROOT} | folders


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The last commit in a folder of its own, free of what lies about in the working tree."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    folder = tmp_path_factory.mktemp("checkout")
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def test_a_wheel_holds_every_source_file_and_no_test(checkout, tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    declared = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]
    folders = [checkout.joinpath(*package.split(".")[1:]) for package in declared]
    sources = [
        path
        for folder in folders
        for path in folder.iterdir()
        if path.suffix in (".py", ".cypher", ".typed", ".html", ".js", ".css")
    ]
    assert held == {f"catalograph/{path.relative_to(checkout).as_posix()}" for path in sources}
    assert any(name.endswith(".cypher") for name in held)


def test_help_loads_nothing_heavy():
    program = (
        "import sys\n"
        "from catalograph.cli import main\n"
        "code = main(['--help'])\n"
        f"print('loaded:', sorted({HEAVY!r} & set(sys.modules)), 'code:', code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "rebuild" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded: [] code: 0"


@pytest.mark.parametrize("text", ["from catalograph import Recommender", "import catalograph.pipeline.rebuild", SPARSE])
def test_python_callers_are_not_told_what_libraries_tell_each_other(text):
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT.parent, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_exported_names_resolve():
    for name in catalograph.__all__:
        assert getattr(catalograph, name).__name__ == name
    assert dir(catalograph) == sorted(catalograph.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = catalograph.nothing


def test_the_version_is_said_once():
    assert catalograph.__version__ == PYPROJECT["project"]["version"]


def test_the_tree_in_the_errors_docstring_is_the_tree_of_the_classes():
    drawn, path = {}, []
    for line in errors.__doc__.splitlines():
        found = re.match(r"([│ ]*[├└]── )?(\w+Error)\b", line)
        if found:
            depth = len(found.group(1) or "") // 4
            path[depth:] = [found.group(2)]
            drawn[found.group(2)] = path[depth - 1] if depth else "Exception"
    real = {
        n: c.__bases__[0].__name__
        for n, c in vars(errors).items()
        if isinstance(c, type) and c.__module__ == errors.__name__
    }
    assert drawn == real
    assert set(real) | {"did_you_mean"} == set(errors.__all__)
