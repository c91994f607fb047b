"""Files for neo4j-admin: imported, they are the graph that a rebuild over Bolt makes."""

import csv
import resource
import shlex
import subprocess
import sys

import pyarrow as pa
import pytest
import server
from conftest import NEO4J_VERSION
from shops import make_shop
from test_neo4j import assert_equal, missing_everywhere

from catalograph.cli import main
from catalograph.errors import GraphError, StoreError
from catalograph.kg.bolt import Bolt
from catalograph.kg.export import export_snapshot
from catalograph.kg.neo4j_import import write_import
from catalograph.kg.store import Batch
from catalograph.kg.stores import open_store
from catalograph.loaders.catalogue import EdgeKey
from catalograph.pipeline.graph import prepare_import
from catalograph.pipeline.rebuild import rebuild
from catalograph.pipeline.workshop import open_workshop


@pytest.fixture(scope="module")
def own(tmp_path_factory, neo4j_server):
    """A server that may be stopped."""
    made = server.Server(tmp_path_factory.mktemp("own"), neo4j_server.password, version=NEO4J_VERSION, heap="512m")
    yield made
    made.kill()


@pytest.fixture
def running(own):
    """The own server, started."""
    if not own.answers():
        own.start()
    return own


def run_import(own, folder):
    """What import.sh does, with this server's neo4j-admin."""
    own.stop()
    line = (folder / "import.sh").read_text().splitlines()[-1]
    words = shlex.split(line.partition("exec ")[2])
    assert words[0] == "neo4j-admin"
    assert words[-1] == "$@"
    own.admin(*words[1:-1], "--overwrite-destination", cwd=folder)
    own.start()


def awkward():
    nodes, edges = missing_everywhere(5)
    sizes = pa.array([1e300, -1e-7, 123456789.123456789, None, 1e-300, 0.1, 2**53 + 1.0, -0.0])
    nodes["Shelf"] = pa.table({"id": ["a\nb", "c\r\nd", '"', "", " e ", ",", "-1", "\\"], "size": sizes})
    edges[EdgeKey("Shelf", "UNDER", "Shelf")] = pa.table({"source": ["a\nb", ""], "target": ['"', "\\"]})
    return nodes, edges


def test_an_import_is_a_rebuild(own, tmp_path):
    tables = awkward()
    embedded = open_store(f"ladybug:{tmp_path / 'g.lbug'}")
    embedded.rebuild(*tables)
    generation = write_import(tmp_path / "files", *tables, "neo4j")
    run_import(own, tmp_path / "files")
    store, bolt = open_store(own.url), Bolt(own.url)
    assert bolt.read("SHOW CONSTRAINTS YIELD name RETURN count(*)")[0][0] == 0
    assert_equal(export_snapshot(store), export_snapshot(embedded))
    assert store.generation() == generation
    assert store.schema() == embedded.schema()
    assert store.counts() == embedded.counts()
    assert bolt.read("SHOW CONSTRAINTS YIELD name RETURN count(*)")[0][0] == len(tables[0]) + 1
    change = Batch("1", nodes={"Shelf": pa.table({"id": ["new"]})}, delete_nodes={"Shelf": ["a\nb"]})
    for each in (store, embedded):
        each.apply(change)
    assert_equal(export_snapshot(store), export_snapshot(embedded))
    store.rebuild(*tables)
    embedded.rebuild(*tables)
    assert_equal(export_snapshot(store), export_snapshot(embedded))
    for each in (store, embedded, bolt):
        each.close()


def test_the_command_prepares_files_and_the_next_rebuild_goes_on_from_their_graph(running, built, tmp_path, capsys):
    toml, _ = built
    command = ["rebuild", str(toml), "--store", running.url, "--out", str(tmp_path / "build")]
    assert main([*command, "--offline-import", str(tmp_path / "files")]) == 0
    assert "import.sh" in capsys.readouterr().err
    assert main([*command, "--offline-import", str(tmp_path / "files")]) == 2
    assert "files: is there already; name a new folder" in capsys.readouterr().err
    run_import(running, tmp_path / "files")
    lines = []
    result = rebuild(open_workshop(toml, store=running.url, out=tmp_path / "build", device="cpu", say=lines.append))
    assert "graph     unchanged, skipped" in lines
    assert not result["skipped"]
    (said,) = [line for line in lines if line.startswith("export")]
    again = []
    rebuild(open_workshop(toml, out=tmp_path / "other", device="cpu", say=again.append))
    (expected,) = [line for line in again if line.startswith("export")]
    assert said.split("(")[0] == expected.split("(")[0]  # relations and digest


def test_files_that_were_not_imported_are_not_taken_for_the_graph(running, tmp_path):
    toml, lines = make_shop(tmp_path / "shop"), []
    options = {"store": running.url, "out": tmp_path / "build", "device": "cpu", "say": lines.append}
    rebuild(open_workshop(toml, **options))
    items = toml.parent / "items.csv"
    items.write_text(items.read_text().replace("Mugs number 4", "Mugs number 4 new"))  # as many of everything
    prepare_import(open_workshop(toml, **options), tmp_path / "files")
    lines.clear()
    rebuild(open_workshop(toml, **options))
    assert "graph     unchanged, skipped" not in lines
    store = open_store(running.url)
    assert "Mugs number 4 new" in store.nodes("Item", ["name"])["name"].to_pylist()
    store.close()


def test_the_files_say_what_they_hold(tmp_path):
    nodes = {"Item": pa.table({"id": ["b", "a"], "name": ["", None]}), "User": pa.table({"id": ["u"]})}
    edges = {EdgeKey("User", "SAW", "Item"): pa.table({"source": ["u"], "target": ["a"], "n": [3]})}
    generation = write_import(tmp_path / "files", nodes, edges, "shop")
    with (tmp_path / "files" / "edges-User-SAW-Item.csv").open() as file:
        assert list(csv.reader(file)) == [
            [":START_ID(User)", ":END_ID(Item)", "n:long", "_generation:long"],
            ["u", "a", "3", str(generation)],
        ]
    text = (tmp_path / "files" / "nodes-Item.csv").read_text()
    assert text.splitlines()[1:] == [f'"b","",{generation}', f'"a",,{generation}']
    script = (tmp_path / "files" / "import.sh").read_text()
    assert "neo4j-admin database import full shop --nodes=CatalographMeta=" in script
    assert "--overwrite-destination " not in script.splitlines()[-1]
    assert "multiline" not in script
    assert {path.name for path in tmp_path.iterdir()} == {"files"}


def test_names_the_importer_cannot_read_are_refused(tmp_path):
    with pytest.raises(GraphError, match="'a:b' cannot be imported from a file"):
        write_import(tmp_path / "files", {"Item": pa.table({"id": ["x"], "a:b": [1]})}, {}, "neo4j")
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_a_server_has_no_use_for_files(tmp_path, capsys):
    toml = make_shop(tmp_path / "shop")
    out = ["--out", str(tmp_path / "build"), "--offline-import", str(tmp_path / "files")]
    assert main(["rebuild", str(toml), *out]) == 2
    assert "--offline-import is for a Neo4j server" in capsys.readouterr().err


FULL_DISK = """
import resource, sys
from catalograph.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000,) * 2)
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_leaves_no_half_of_the_files(tmp_path):
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    toml, files = make_shop(tmp_path / "shop"), tmp_path / "files"
    arguments = ["rebuild", str(toml), "--out", str(tmp_path / "build"), "--offline-import", str(files)]
    arguments += ["--store", "neo4j://127.0.0.1:1"]
    command = [sys.executable, "-W", "ignore", "-c", FULL_DISK, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"catalograph rebuild: {files}: cannot be written (")
    assert {path.name for path in tmp_path.iterdir()} == {"shop", "build"}
    assert main(arguments) == 0
    assert (files / "import.sh").is_file()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_import(tmp_path / "file" / "files", {"Item": pa.table({"id": ["x"]})}, {}, "neo4j")
