"""The README does what it says: its examples run, on a small stand-in for the demo shop; its links lead somewhere."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_origin

import pytest
from serving import process
from shops import SHOP, make_shop
from typer.main import get_command

from catalograph.cli import app, main
from catalograph.config import PropertySpec, Section, ShopConfig, load_config
from catalograph.loaders.changes import BY_OP, read_changes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
STAND_IN = {
    "item,name": "item,description",
    "u01": "17850",
    "u02": "13047",
    "i00": "WHITE HANGING HEART T-LIGHT HOLDER",
    "i01": "RED RETROSPOT MUG",
}


LISTS, UPDATE = ((ROOT / f"docs/{page}.md").read_text("utf-8") for page in ("lists", "update"))


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text=README):
    lines = "".join(blocks("console", text)).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder where the README's paths and ids exist."""
    folder = tmp_path_factory.mktemp("desk")
    shop = SHOP.replace("planted", "online-retail")
    shop = shop.replace('title = "name"', 'title = "description"').replace("{ name = ", "{ description = ")
    toml = make_shop(folder / "examples/online-retail", toml=shop)
    for file in toml.parent.glob("*.csv"):
        text = file.read_text("utf-8")
        for here, there in STAND_IN.items():
            text = text.replace(f"{here},", f"{there},")
        file.write_text(text, "utf-8")
    return folder


def test_the_examples_run(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    for command in commands():
        if command.startswith("catalograph serve "):
            with process(*shlex.split(command)[2:]) as (running, _, _):
                running.terminate()
                assert running.wait(60) == 0
        elif command.startswith("catalograph "):
            assert main(shlex.split(command)[1:]) == 0, command + capsys.readouterr().err
        else:
            subprocess.run(command, shell=True, check=True)  # noqa: S602 - our own README
    (desk / "example.py").write_text("\n".join(blocks("python")), "utf-8")
    done = subprocess.run([sys.executable, "example.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *recommended, why = done.stdout.splitlines()
    assert 1 <= len(recommended) <= 10
    assert float(why.split()[0])


def test_the_examples_of_lists_run(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    for command in (commands()[0], *commands(LISTS)):
        assert main(shlex.split(command)[1:]) == 0, command + capsys.readouterr().err
    (desk / "lists.py").write_text("\n".join(blocks("python", LISTS)), "utf-8")
    done = subprocess.run([sys.executable, "lists.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(2, 1)\n")
    assert "UNION ALL MATCH" in done.stdout


def test_the_examples_of_updates_run(desk, monkeypatch, capsys):
    monkeypatch.chdir(desk)
    for command in commands(UPDATE):
        if command.startswith("catalograph "):
            assert main(shlex.split(command)[1:]) == 0, command + capsys.readouterr().err
        else:
            subprocess.run(command, shell=True, check=True)  # noqa: S602 - our own page
    (desk / "update.py").write_text("\n".join(blocks("python", UPDATE)), "utf-8")
    done = subprocess.run([sys.executable, "update.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True ['RED RETROSPOT MUG', 'GREEN RETROSPOT MUG']\n"


def test_the_changes_on_the_page_are_changes(tmp_path):
    (text,) = blocks("json", UPDATE)
    (tmp_path / "page.jsonl").write_text(text, "utf-8")
    (batch,) = read_changes(tmp_path / "page.jsonl")
    assert [change.op for change in batch.changes][::3] == ["upsert_item", "retire_item"]
    told = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`\w+`(?:, `\w+`)?) \| ", UPDATE, re.MULTILINE)))
    assert set(told) == {"op", *BY_OP}


def test_every_command_has_its_example():
    shown = {shlex.split(command)[1] for command in commands() if command.startswith("catalograph ")}
    assert shown == set(get_command(app).commands)


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"^    make (\w+)", README, re.MULTILINE)) == {"demo", "test"} <= targets


def test_the_example_shop_is_valid(tmp_path):
    (text,) = blocks("toml")
    (tmp_path / "shop.toml").write_text(text, "utf-8")
    assert load_config(tmp_path / "shop.toml").shop.name == "tea"


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_whole_shops_in_the_docs_are_valid(page, tmp_path):
    for text in re.findall(r"^```toml\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        if text.startswith("[shop]"):
            (tmp_path / "shop.toml").write_text(text, "utf-8")
            load_config(tmp_path / "shop.toml")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def sections_of(model, name=""):
    """heading -> class, for every table shop.toml may have."""
    for key, field in model.model_fields.items():
        for section, many in _sections_in(field.annotation):
            yield f"{name}{key}{'.NAME' if many is dict else ''}", section
            yield from sections_of(section, f"{name}{key}.")


def _sections_in(annotation, many=None):
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [(annotation, many)]
    return [found for part in get_args(annotation) for found in _sections_in(part, get_origin(annotation))]


def as_toml(field):
    if field.is_required():
        return "required"
    value = field.default
    if value is None or isinstance(value, Section):
        return ""
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value, default=str)}`"


def test_the_reference_has_every_key_with_its_default():
    text = (ROOT / "docs/shop-toml.md").read_text("utf-8")
    told = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        told[heading.strip("[]")] = dict(re.findall(r"^\| `(\w+)` \| (.*?) ?\| ", body, re.MULTILINE))
    sections = {name: cls for name, cls in sections_of(ShopConfig) if cls is not PropertySpec}
    assert told == {
        name: {key: as_toml(field) for key, field in cls.model_fields.items()} for name, cls in sections.items()
    }
