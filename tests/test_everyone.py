"""Everybody's lists: parts together are the whole, whoever wrote them, and a part is there complete or not at all."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalograph import Recommender
from catalograph.cli import main
from catalograph.errors import ArtifactError
from catalograph.scoring import everyone
from catalograph.scoring.everyone import write_all

K = 3
SHAPE = {"k": K}


def read(folder):
    """All parts in order."""
    return pa.concat_tables(pq.read_table(file) for file in sorted(folder.glob("part-*.parquet")))


@pytest.fixture
def small_batches(monkeypatch):
    """The shop has fewer users than a batch has rows."""
    monkeypatch.setattr(everyone, "ROWS", 16)


def test_parts_are_the_lists_of_everybody(built, tmp_path, small_batches):
    write_all(built[1], tmp_path / "whole", shape=SHAPE)
    write_all(built[1], tmp_path / "parts", shape=SHAPE, parts=3)
    whole = read(tmp_path / "whole")
    assert whole.equals(read(tmp_path / "parts"))
    shop = Recommender.load(built[1])
    lists = shop.recommend(sorted(shop.bundle.users["id"].to_pylist()), K)
    assert whole["item"].to_pylist() == [place.item for row in lists for place in row]
    assert whole["rank"].to_pylist() == [n + 1 for row in lists for n in range(len(row))]
    assert [len(pq.read_table(f)) for f in sorted((tmp_path / "parts").glob("*"))] == [2 * 16 * K, 16 * K, 12 * K]


@pytest.mark.slow
def test_processes_and_shards_of_other_machines_write_the_same(built, tmp_path):
    for target, options in (("one", []), ("two", ["--processes", "2"])):
        arguments = ["--all", str(tmp_path / target), "--shards", "2", "-k", str(K), "--out", str(built[1]), *options]
        assert main(["recommend", str(built[0]), *arguments]) == 0
    for shard in ("2/2", "1/2"):
        arguments = ["--all", str(tmp_path / "apart"), "--shards", shard, "-k", str(K), "--out", str(built[1])]
        assert main(["recommend", str(built[0]), *arguments]) == 0
    assert read(tmp_path / "one").equals(read(tmp_path / "two"))
    assert read(tmp_path / "one").equals(read(tmp_path / "apart"))


def test_filters_caps_and_exclusions_shape_everybodys_lists_as_they_do_one(built, tmp_path, small_batches):
    shop = Recommender.load(built[1])
    users, best = shop.bundle.users["id"].to_pylist(), shop.recommend(["u01"], K)[0][0].item
    shape = {"k": 4, "where": "price > 1", "diversify": 0.5, "cap": {"IN_CATEGORY": 2}, "exclude": [best]}
    write_all(built[1], tmp_path / "lists", shape=shape)
    expected = [
        (user, place.item) for user, row in zip(users, shop.recommend(users, **shape), strict=True) for place in row
    ]
    found = read(tmp_path / "lists")
    assert list(zip(found["user"].to_pylist(), found["item"].to_pylist(), strict=True)) == expected
    assert best not in found["item"].to_pylist()


def test_an_interruption_leaves_whole_parts_and_the_rest_is_made_later(built, tmp_path, small_batches, monkeypatch):
    lists, calls = Recommender.recommended_lists, []

    def interrupted(self, users, **shape):
        calls.append(users)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return lists(self, users, **shape)

    monkeypatch.setattr(Recommender, "recommended_lists", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_all(built[1], tmp_path / "lists", shape=SHAPE, parts=2)
    assert [file.name for file in (tmp_path / "lists").glob("*.parquet")] == ["part-0001-of-0002.parquet"]
    monkeypatch.setattr(Recommender, "recommended_lists", lists)
    said = []
    write_all(built[1], tmp_path / "lists", shape=SHAPE, parts=2, say=said.append)
    assert said == ["part 1 of 2: there already", f"part 2 of 2: {28 * K:,} places"]
    write_all(built[1], tmp_path / "whole", shape=SHAPE)
    assert read(tmp_path / "lists").equals(read(tmp_path / "whole"))


def test_more_parts_than_batches_are_empty_ones(built, tmp_path):
    write_all(built[1], tmp_path / "lists", shape=SHAPE, parts=2)
    sizes = [pq.read_metadata(file).num_rows for file in sorted((tmp_path / "lists").glob("*"))]
    assert sizes == [60 * K, 0]


def test_parts_of_two_models_never_mix(built, tmp_path):
    write_all(built[1], tmp_path / "lists", shape=SHAPE, parts=2, only=1)
    for options, complaint in (
        ({"shape": {"k": 2}, "parts": 2}, "is of k 3, not 2"),
        ({"shape": SHAPE | {"where": "price < 5"}, "parts": 2}, 'is of where null, not "price < 5"'),
        ({"shape": SHAPE, "parts": 3}, "is of parts 2"),
    ):
        with pytest.raises(ArtifactError, match=complaint):
            write_all(built[1], tmp_path / "lists", **options)
    (tmp_path / "lists" / "part-0002-of-0002.parquet").write_bytes(b"torn")
    with pytest.raises(ArtifactError, match="is no Parquet file"):
        write_all(built[1], tmp_path / "lists", shape=SHAPE, parts=2)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--shards", "x"], "--shards 'x': write a number of files, or 3/8"),
        (["--shards", "3/2"], "shard 3/2"),
        (["--shards", "0"], "--shards '0'"),
        (["-k", "999"], "lists of 999 items"),
        (["--user", "u01"], "--all goes with"),
        (["--like", "IN_CATEGORY=Mugs"], "--all goes with"),
        (["--where", "prize < 5"], "no property or relation 'prize'"),
        (["--store", "memory:"], "--all goes with"),
    ],
)
def test_bad_input_is_one_line(options, complaint, built, tmp_path, capsys):
    arguments = ["recommend", str(built[0]), "--all", str(tmp_path / "lists"), "--out", str(built[1]), *options]
    assert main(arguments) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert complaint in said


@pytest.mark.parametrize("options", [["--shards", "4"], ["--processes", "2"]])
def test_parts_are_of_everybodys_lists(options, built, capsys):
    assert main(["recommend", str(built[0]), "--user", "u01", "--out", str(built[1]), *options]) == 2
    assert "parts of --all" in capsys.readouterr().err
