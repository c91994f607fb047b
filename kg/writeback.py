"""Write-back: what a model found, beside the graph it was fitted on, so that analysts can ask for it in Cypher.

A publication is lists, `(Item)-[:SIMILAR_TO]->(Item)` and `(User)-[:RECOMMENDED]->(Item)` with the properties of
:data:`PROPERTIES`, and vectors as a node property. It is no part of the graph: `schema`, `counts` and the export do not
show it, so no model trains on its own output. Each store writes it in its own way; what it should then hold is decided
here, once for all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import GraphError
from ..loaders.catalogue import EdgeKey
from .schema import ARROW_TYPES, ColumnType, Schema

SIMILAR_TO, RECOMMENDED = "SIMILAR_TO", "RECOMMENDED"
# rank: 1 is the best. previous_rank: in the version published before, null where the pair was not in the list.
PROPERTIES: Mapping[str, ColumnType] = {
    "score": "float64",
    "rank": "int64",
    "previous_rank": "int64",
    "version": "string",
}
ENDS = ["source", "target"]
TABLE = pa.schema([*((end, pa.string()) for end in ENDS), *((n, ARROW_TYPES[kind]) for n, kind in PROPERTIES.items())])
VectorKey = tuple[str, str]  # (label, property)
NOTE = "published"  # id of the note under schema.META that says what stands in the graph


@dataclass(frozen=True)
class Publication:
    """What one version of a model says.

    lists: key -> table with `source`, `target` (string ids), `score` (float64) and `rank` (int64), unique as pairs; a
        relation type has one key.
    vectors: (label, property) -> table with `id` (string) and `vector` (fixed-size list of float32, finite, not zero).
    """

    version: str
    lists: Mapping[EdgeKey, pa.Table]
    vectors: Mapping[VectorKey, pa.Table] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """What stands in a graph: edges per relation, nodes with a vector per (label, property), and the version.

    The version is "" while lists of two versions stand there: a publication is under way or was broken off.
    """

    version: str
    edges: Mapping[EdgeKey, int]
    vectors: Mapping[VectorKey, int]


def to_note(version: str, lists: Iterable[EdgeKey], vectors: Iterable[VectorKey]) -> str:
    """What the store keeps under NOTE: the version, and the names that are ours."""
    return json.dumps({"version": version, "lists": [list(k) for k in lists], "vectors": [list(k) for k in vectors]})


def of_note(text: str) -> tuple[str, list[EdgeKey], list[VectorKey]]:
    """Back from :func:`to_note`."""
    kept = json.loads(text)
    return kept["version"], [EdgeKey(*key) for key in kept["lists"]], [(label, name) for label, name in kept["vectors"]]


def check_publication(publication: Publication, schema: Schema) -> None:
    """Raises GraphError where a relation or property of the graph itself has a name that is to be published."""
    own = {name.lower(): name for name in schema.relations()}
    for key in publication.lists:
        if key.relation.lower() in own:
            raise GraphError(
                f"the graph has {own[key.relation.lower()]} relations of its own, and a publication is not mixed with "
                "them; give them another name and rebuild"
            )
    for label, name in publication.vectors:
        for column in schema.nodes.get(label, {}):
            if column.lower() == name.lower():
                raise GraphError(f"{label} nodes have a property {column!r} of their own; rename it and rebuild")


def within_graph(
    publication: Publication, ids_of: Callable[[str], pa.ChunkedArray]
) -> tuple[dict[EdgeKey, pa.Table], dict[VectorKey, pa.Table]]:
    """Lists and vectors without the ids the graph does not hold: it may have moved on since the model was fitted.

    Raises:
        GraphError: a relation of which nothing remains.
    """
    known = {label: ids_of(label) for label in {end for key in publication.lists for end in (key.source, key.target)}}
    lists = {}
    for key, table in publication.lists.items():
        found = pc.and_(pc.is_in(table["source"], known[key.source]), pc.is_in(table["target"], known[key.target]))
        lists[key] = table.filter(found)
        if table.num_rows and not lists[key].num_rows:
            raise GraphError(
                f"{key.relation}: none of the {table.num_rows:,} pairs has both its ends in this graph; "
                "name the --store of this shop, or rebuild it"
            )
    vectors = {
        (label, name): table.filter(pc.is_in(table["id"], ids_of(label)))
        for (label, name), table in publication.vectors.items()
    }
    return lists, vectors


def renewed(old: pa.Table, ranked: pa.Table, version: str) -> pa.Table:
    """`ranked` with all of PROPERTIES, by source and rank: what the graph should hold where it now holds `old`.

    `old` looks like the result. A pair keeps its `previous_rank` while the version stays, so that publishing again,
    after an interruption or with longer lists, compares with the same version as before.
    """
    rank_before = pl.when(pl.col("version") == version).then("previous_rank").otherwise("rank")
    before = _frame(old).select(*ENDS, previous_rank=rank_before)
    joined = _frame(ranked).join(before, on=ENDS, how="left").with_columns(version=pl.lit(version))
    return joined.select(TABLE.names).sort("source", "rank").to_arrow().cast(TABLE)


def difference(old: pa.Table, new: pa.Table) -> tuple[pa.Table, pa.Table]:
    """What turns `old` into `new`: rows of `new` to write, and rows of `old` whose pair has to go."""
    written = _frame(new).join(_frame(old), on=TABLE.names, how="anti", nulls_equal=True)
    gone = _frame(old).join(_frame(new), on=ENDS, how="anti")
    return written.to_arrow().cast(TABLE), gone.to_arrow().cast(TABLE)


def whole_lists(new: pa.Table, gone: pa.Table, most: int) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Both tables cut alike, no source's rows apart, about `most` rows together at a time."""
    frames = [_frame(table).with_columns(new=pl.lit(table is new)) for table in (new, gone)]
    rows = pl.concat(frames).sort("source", "rank").with_row_index("place")
    rows = rows.with_columns(batch=pl.col("place").first().over("source") // most)
    for batch in rows.partition_by("batch", maintain_order=True):
        yield tuple(batch.filter(kept).select(TABLE.names).to_arrow().cast(TABLE) for kept in ("new", ~pl.col("new")))


def _frame(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table))
