"""Bad input: one clear line that names what and where, exit code 2, nothing lost."""

import gzip
import json
import shutil

import pytest
from shops import SHOP, make_shop

from catalograph.cli import main
from catalograph.config import load_config
from catalograph.errors import CatalographError
from catalograph.loaders.load import load_catalogue


def edit(file, old, new, count=1):
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, count), encoding="utf-8")


def toml(old, new):
    return lambda shop: edit(shop, old, new)


def items(old, new):
    return lambda shop: edit(shop.parent / "items.csv", old, new)


def sales(change):
    def act(shop):
        file = shop.parent / "sales.csv"
        lines = file.read_text(encoding="utf-8").splitlines()
        file.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")

    return act


def cell(row, column, value):
    def change(lines):
        cells = lines[row].split(",")
        cells[column] = value
        return [*lines[:row], ",".join(cells), *lines[row + 1 :]]

    return sales(change)


CASES = {
    "no such shop": (lambda shop: shop.unlink(), "shop.toml: no such file"),
    "not TOML": (toml("[shop]", "[shop"), "not valid TOML"),
    "shop.toml not UTF-8": (lambda shop: shop.write_bytes(b'[shop]\nname = "\xff"'), "byte 15 is not UTF-8"),
    "unknown key": (toml("title =", "titel ="), "[items] has no 'titel', did you mean 'title'?"),
    "unknown section": (toml("[baskets]", "[basket]"), "has no 'basket', did you mean 'baskets'?"),
    "wrong kind of value": (toml("folds = 2", 'folds = "two"'), "model.folds"),
    "value out of range": (toml("folds = 2", "folds = 0"), "model.folds"),
    "name missing": (toml('name = "planted"', ""), "shop.name is missing"),
    "a bad name": (toml('name = "planted"', 'name = "../x"'), "shop.name"),
    "a hostile relation": (toml('"IN_CATEGORY"', '"X`] DETACH"'), "relation"),
    "a relation that is not there": (
        toml("[baskets]", "[relations.IN_CATEGROY]\nuse = false\n[baskets]").__call__,
        "[relations.IN_CATEGROY]: the graph has no such relation, did you mean 'IN_CATEGORY'?",
    ),
    "time split without times": (toml('time = "time"', "").__call__, "needs interactions.time"),
    "bands with levels": (toml("bands = 3", 'bands = 3\nlevels = ">"'), "bands do not go with"),
    "missing file": (lambda shop: (shop.parent / "items.csv").unlink(), "items.csv: no such file"),
    "misnamed file": (toml('"items.csv"', '"item.csv"'), "item.csv: no such file, did you mean 'items.csv'?"),
    "missing column": (items("price", "prize"), "no column 'price', did you mean 'prize'?"),
    "empty table": (lambda shop: (shop.parent / "items.csv").write_text("item,name,price,category\n"), "has no rows"),
    "empty file": (lambda shop: (shop.parent / "items.csv").write_text(""), "items.csv: cannot be read"),
    "unreadable number": (items("3.00", "3.0o"), "items.csv: row 6, column 'price': '3.0o' is no finite number"),
    "a NaN": (items("3.00", "NaN"), "row 6, column 'price': 'NaN' is no finite number"),
    "duplicate id": (items("i03", "i02"), "items.csv: row 5, column 'item': 'i02' stands twice"),
    "empty id": (items("i03", ""), "items.csv: row 5, column 'item': the cell is empty"),
    "not UTF-8": (
        lambda shop: (shop.parent / "items.csv").write_bytes(b"item,name,price,category\ni00,\xff,1,A\n"),
        "row 2: byte 0xff is not UTF-8",
    ),
    "torn gzip": (
        lambda shop: (
            (shop.parent / "items.csv.gz").write_bytes(gzip.compress(b"item,name\n" * 999)[:40]),
            edit(shop, "items.csv", "items.csv.gz"),
        ),
        "items.csv.gz: cannot be read",
    ),
    "unknown format": (
        lambda shop: ((shop.parent / "items.xls").write_text("x"), edit(shop, "items.csv", "items.xls")),
        "the name must end in .csv",
    ),
    "unknown item": (cell(7, 1, "i99"), "sales.csv: row 8, column 'item': 'i99' is no item of the shop"),
    "no user": (cell(7, 0, ""), "sales.csv: row 8, column 'user': the cell is empty"),
    "bad time": (cell(7, 2, "yesterday"), "sales.csv: row 8, column 'time': 'yesterday' is no time"),
    "bad quantity": (cell(7, 3, "two"), "sales.csv: row 8, column 'quantity': 'two' is no finite number"),
    "a return": (cell(7, 3, "-1"), "sales.csv: row 8, column 'quantity': -1.0 is not above 0; say returns"),
    "everything held out": (toml("2024-04-01", "2023-04-01"), "nothing is left to train on"),
    "bands of text": (
        toml('column = "price"\nrelation', 'column = "name"\nrelation'),
        "attributes.IN_PRICE_BAND: bands need a number",
    ),
    "unknown attribute column": (toml('column = "category"', 'column = "categry"'), "did you mean 'category'?"),
    "unknown title": (toml('title = "name"', 'title = "nam"'), "items.title 'nam' is no item property"),
}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_line_and_exit_2(name, shop, capsys):
    act, complaint = CASES[name]
    act(shop)
    assert main(["rebuild", str(shop), "--out", str(shop.parent / "build")]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("catalograph rebuild:")]
    assert len(said) == 1
    assert complaint in said[0]
    assert not (shop.parent / "build" / "current").exists()


def test_quarantine_sets_bad_rows_aside_with_their_reason(shop):
    edit(shop, 'name = "planted"', 'name = "planted"\non_bad_rows = "quarantine"')
    cell(7, 1, "i99")(shop)
    aside = shop.parent / "aside"
    catalogue = load_catalogue(load_config(shop), quarantine=aside)
    assert sum(catalogue.rejected.values()) == 1
    kept = (aside / "rejected.csv").read_text()
    assert "i99" in kept
    assert "is no item of the shop" in kept


BUILT = {
    "unknown user": (["recommend", "--user", "u99"], "no user 'u99' in planted, did you mean"),
    "unknown item": (["similar", "--item", "i9"], "no item 'i9'"),
    "user and history": (["recommend", "--user", "u01", "--history", "i01"], "--user is somebody known, --history"),
    "user and taste": (["explain", "--user", "u01", "--like", "A=b", "--item", "i01"], "--user is somebody known"),
    "nobody's reasons": (["recommend", "--explain"], "of nobody there is nothing to explain"),
    "nobody to explain to": (["explain", "--item", "i01"], "explain needs --user ID, --history ID,ID… or --like"),
    "empty history": (["recommend", "--history", ","], "--history names no item"),
    "unknown relation liked": (["recommend", "--like", "IN_CATEGROY=x"], "no relation 'IN_CATEGROY', did you mean"),
    "unknown value liked": (["recommend", "--like", "IN_CATEGORY=Toy"], "no item has 'Toy' as IN_CATEGORY"),
    "no number of a cap": (["similar", "--item", "i01", "--cap", "IN_CATEGORY=x"], "'x' is no number of items"),
    "a cap of nothing": (["similar", "--item", "i01", "--cap", "IN_CATEGORY=0"], "can have 1 item of a value"),
    "a cap twice": (
        ["similar", "--item", "i01", "--cap", "IN_CATEGORY=2", "--cap", "IN_CATEGORY=3"],
        "IN_CATEGORY is given twice: 2 and 3",
    ),
    "unknown cap": (
        ["similar", "--item", "i01", "--cap", "IN_CATEGROY=1"],
        "cap: no property or relation 'IN_CATEGROY'",
    ),
    "too diverse": (["similar", "--item", "i01", "--diversify", "2"], "diversify is 2; it goes from 0"),
    "unknown property": (["recommend", "--user", "u01", "--where", "prise < 2"], "no property or relation 'prise'"),
}


@pytest.mark.parametrize("name", BUILT)
def test_bad_questions_are_one_clear_line_and_exit_2(name, built, capsys):
    (command, *rest), complaint = BUILT[name]
    toml_file, out = built
    assert main([command, str(toml_file), *rest, "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert complaint in said[0]


def test_a_truncated_bundle_is_named(built, tmp_path, capsys):
    toml_file, out = built
    copy = tmp_path / "build"
    shutil.copytree(out, copy)
    weights = next(copy.glob("bundles/*/model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    assert main(["recommend", str(toml_file), "--user", "u01", "--out", str(copy)]) == 2
    assert "the bundle is incomplete" in capsys.readouterr().err


def test_a_bundle_with_a_setting_that_is_gone_is_named(built, tmp_path, capsys):
    toml_file, out = built
    copy = shutil.copytree(out, tmp_path / "build")
    manifest = next(copy.glob("bundles/*/manifest.json"))
    told = json.loads(manifest.read_text("utf-8"))
    told["config"]["gnn"]["patience"] = 2
    manifest.write_text(json.dumps(told), "utf-8")
    assert main(["recommend", str(toml_file), "--user", "u01", "--out", str(copy)]) == 2
    assert (
        "settings are of another version (gnn.patience: Extra inputs are not permitted); rebuild"
        in capsys.readouterr().err
    )


def test_nothing_published_is_named(tmp_path, capsys):
    shop = make_shop(tmp_path, toml=SHOP)
    assert main(["recommend", str(shop), "--user", "u01", "--out", str(tmp_path / "none")]) == 2
    assert "nothing is published here" in capsys.readouterr().err
    with pytest.raises(CatalographError):
        load_config(tmp_path / "none.toml")
