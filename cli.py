"""The command line: a thin shell over the pipeline and the recommender. Heavy modules load inside the commands."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .errors import CatalographError, ConfigError
from .printed import table_of_events, table_of_rows

if TYPE_CHECKING:
    from .pipeline.workshop import Workshop
    from .scoring.explain import Explanation
    from .scoring.recommender import Recommended, Recommender

TERMS = 12  # that `explain` prints one by one
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Shop = Annotated[Path, typer.Argument(metavar="SHOP.toml", help="The shop's description.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder of the shop's files, instead of shop.data.")]
Store = Annotated[str | None, typer.Option("--store", help="Graph store: ladybug:PATH, neo4j://HOST:PORT or memory:.")]
SameStore = Annotated[str | None, typer.Option("--store", help="To be sure: that of the last rebuild.")]
Out = Annotated[Path | None, typer.Option("--out", help="Build folder; default build/<shop>.")]
Build = Annotated[Path | None, typer.Option("--build", help="Build folder; default build/<shop>.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu or cuda; default: what there is.")]
Seed = Annotated[int, typer.Option("--seed", help="Equal seeds give equal results.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, nothing else.")]
Top = Annotated[int, typer.Option("-k", min=1, help="How many items.")]
Where = Annotated[
    str | None, typer.Option("--where", help="Filter: price < 5 and category in ['Mugs', 'Plates'] and in_stock.")
]
Diversify = Annotated[float, typer.Option("--diversify", help="0 to 1: how much being like others in the list costs.")]
History = Annotated[
    list[str] | None,
    typer.Option("--history", help="Item ids or titles, oldest first: comma between, or given again."),
]
Like = Annotated[
    list[str] | None,
    typer.Option("--like", help="RELATION=ID: what somebody never seen likes; may be given again."),
]
Cap = Annotated[
    list[str] | None, typer.Option("--cap", help="brand=2: at most two items of a brand; may be given again.")
]
Exclude = Annotated[
    list[str] | None, typer.Option("--exclude", help="An item id or title to leave out; may be given again.")
]


def _check_place(target: Path) -> None:
    """Said before the work, not after it."""
    if not target.parent.is_dir():
        raise ConfigError(f"{target}: there is no folder {target.parent}; make it, or name another file by --out")


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _workshop(shop: Path, **options: Any) -> Workshop:
    from .pipeline.workshop import open_workshop  # noqa: PLC0415

    return open_workshop(shop, say=_say, **options)


def _recommender(shop: Path, out: Path | None, store: str | None = None) -> Recommender:
    from .config import build_folder, load_config  # noqa: PLC0415
    from .scoring.recommender import Recommender  # noqa: PLC0415

    made = Recommender.load(out if out is not None else build_folder(load_config(shop)))
    if store is not None:
        made.check_store(store)
    return made


@app.command()
def init(
    tables: Annotated[list[Path] | None, typer.Argument(metavar="FILE…", help="The shop's tables, or folders.")] = None,
    store: Annotated[str | None, typer.Option("--store", help="Draft from this Neo4j graph instead.")] = None,
    out: Annotated[Path, typer.Option("--out", help="File to write; - is stdout.")] = Path("shop.toml"),
    name: Annotated[
        str | None, typer.Option("--name", help="The shop's name; default: the file's or folder's.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="Column (or label) of users, if not seen.")] = None,
    item: Annotated[str | None, typer.Option("--item", help="Column (or label) of items, if not seen.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite.")] = False,
) -> None:
    """Look at tables, or at a Neo4j graph, and write a commented shop.toml that loads as it stands."""
    from .kg.drafts import draft_shop, proved  # noqa: PLC0415

    if out.exists() and not force:
        raise ConfigError(f"{out} is there already; say --force to overwrite it, or --out FILE")
    _check_place(out)
    text = draft_shop(tables or [], store, out, name=name, user=user, item=item)
    found = proved(text, out)
    if str(out) == "-":
        typer.echo(text, nl=False)
        return
    out.write_text(text, encoding="utf-8")
    _say(f"{found}; read {out} over, then: catalograph rebuild {out}")


@app.command()
def rebuild(
    shop: Shop,
    data: Data = None,
    store: Store = None,
    out: Out = None,
    device: Device = None,
    seed: Seed = 0,
    full: Annotated[bool, typer.Option("--full", help="Skip nothing.")] = False,
    drop_updates: Annotated[
        bool, typer.Option("--drop-updates", help="Forget what `update` took in: the files have it by now.")
    ] = False,
    warm: Annotated[bool, typer.Option("--warm", help="Go on from the weights of the published version.")] = False,
    offline_import: Annotated[
        Path | None,
        typer.Option("--offline-import", metavar="DIR", help="Only write the graph as files for neo4j-admin."),
    ] = None,
) -> None:
    """Load, export, encode, train, evaluate, publish; what did not change is skipped."""
    from .pipeline.graph import prepare_import  # noqa: PLC0415
    from .pipeline.rebuild import rebuild as run  # noqa: PLC0415

    workshop = _workshop(
        shop,
        data=data,
        store=store,
        out=out,
        device=device,
        seed=seed,
        full=full,
        drop_updates=drop_updates,
        warm=warm,
    )
    if offline_import is not None:
        prepare_import(workshop, offline_import)
    else:
        run(workshop)


@app.command()
def update(
    shop: Shop,
    batches: Annotated[
        list[Path] | None, typer.Argument(metavar="BATCH.jsonl…", help="Changes, one JSON object a line.")
    ] = None,
    feedback: Annotated[bool, typer.Option("--feedback", help="And what the service was told since.")] = False,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", help="Of --feedback: purchase (the default), cart, click …")
    ] = None,
    store: SameStore = None,
    out: Out = None,
) -> None:
    """Take changes into the graph and the published model, without training."""
    from .loaders.changes import read_changes  # noqa: PLC0415
    from .updating import PURCHASE, take_in  # noqa: PLC0415

    if not batches and not feedback:
        raise ConfigError("update needs a file of changes, or --feedback; docs/update.md says what is in a file")
    if kind and not feedback:
        raise ConfigError("--kind is a part of --feedback; give both")
    changes = [batch for file in batches or [] for batch in read_changes(file)]
    take_in(_workshop(shop, out=out), changes, store=store, feedback=(kind or [PURCHASE]) if feedback else ())


@app.command()
def evaluate(
    shop: Shop,
    data: Data = None,
    store: Store = None,
    out: Out = None,
    device: Device = None,
    seed: Seed = 0,
    baselines: Annotated[bool, typer.Option("--baselines", help="Tune and test the baselines too.")] = False,
    all_baselines: Annotated[
        bool, typer.Option("--all-baselines", help="Also those that take minutes: iALS, LightGCN, SASRec.")
    ] = False,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Fit again with the graph shuffled, without it, and without the GNN.")
    ] = False,
    each_relation: Annotated[bool, typer.Option("--each-relation", help="And without one relation at a time.")] = False,
    online: Annotated[
        bool, typer.Option("--online", help="Instead: what customers did with what the service showed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fit and test with full ranking; with --baselines in one table with popularity, kNN, RP3beta, EASE …"""
    from .pipeline.evaluation import run_evaluation  # noqa: PLC0415

    if online:
        if baselines or all_baselines or ablation or each_relation:
            raise ConfigError("--online fits nothing; leave --baselines, --all-baselines and --ablation away")
        found = _online(shop, out)
        typer.echo(json.dumps(found) if as_json else table_of_events(found))
        return
    workshop = _workshop(shop, data=data, store=store, out=out, device=device, seed=seed)
    if each_relation and not ablation:
        raise ConfigError("--each-relation is a part of --ablation; give both")
    document = run_evaluation(
        workshop,
        baselines=baselines,
        all_baselines=all_baselines,
        ablation=ablation,
        each_relation=each_relation,
    )
    typer.echo(json.dumps(document) if as_json else table_of_rows(document))


def _online(shop: Path, out: Path | None) -> dict[str, Any]:
    from .config import build_folder, load_config  # noqa: PLC0415
    from .loaders.feedback import read_feedback  # noqa: PLC0415
    from .scoring.online import online  # noqa: PLC0415

    config = load_config(shop)
    return {"shop": config.shop.name} | online(read_feedback(out if out is not None else build_folder(config)))


@app.command()
def tune(
    shop: Shop,
    budget: Annotated[
        float, typer.Option("--budget", min=0, help="Minutes; a trial that would take longer is not begun.")
    ],
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="So many in all, with earlier calls'.")] = None,
    target: Annotated[Path, typer.Option("--out", help="File to write: the whole shop.toml.")] = Path("tuned.toml"),
    data: Data = None,
    store: Store = None,
    build: Build = None,
    device: Device = None,
    seed: Seed = 0,
) -> None:
    """Search for better settings on the validation part; what was found is kept, and a killed search goes on."""
    from .tuning import tune as run  # noqa: PLC0415

    _check_place(target)
    workshop = _workshop(shop, data=data, store=store, out=build, device=device, seed=seed)
    run(workshop, shop.read_text(encoding="utf-8"), target, minutes=budget, trials=trials)


@app.command()
def recommend(
    shop: Shop,
    user: Annotated[str | None, typer.Option("--user", help="A user id.")] = None,
    history: History = None,
    like: Like = None,
    k: Top = 10,
    where: Where = None,
    diversify: Diversify = 0.0,
    cap: Cap = None,
    exclude: Exclude = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why: terms, history items, a graph path.")] = False,
    everyone: Annotated[
        Path | None, typer.Option("--all", metavar="DIR", help="Every user's list, as Parquet files in this folder.")
    ] = None,
    shards: Annotated[
        str, typer.Option("--shards", help="Of --all: so many files, or 3/8, the third of eight alone.")
    ] = "1",
    processes: Annotated[int, typer.Option("--processes", min=1, help="Of --all: that write side by side.")] = 1,
    device: Annotated[str, typer.Option("--device", help="Of --all: where lists are made, cpu or cuda.")] = "cpu",
    store: SameStore = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """The best items for a user, for a history or a taste nobody has seen, or for everybody.

    Without any of them, what most people took lately.
    """
    if everyone is not None:
        if user or history or like or explain or store or as_json:
            raise ConfigError(
                "--all goes with -k, --where, --diversify, --cap, --exclude, --shards, --processes and --device alone; "
                "leave the others out"
            )
        wishes = (k, where, diversify, cap, exclude)
        _write_everyone(shop, out, everyone, lambda made: _shape(made, *wishes), shards, processes, device)
        return
    if shards != "1" or processes != 1 or device != "cpu":
        raise ConfigError("--shards, --processes and --device are parts of --all; give --all DIR, too")
    _check_one_person(user, history, like)
    if explain and not (user or history or like):
        raise ConfigError("--explain needs --user, --history or --like: of nobody there is nothing to explain")
    made = _recommender(shop, out, store)
    ids, features = _newcomer(history, like, made)
    shape = _shape(made, k, where, diversify, cap, exclude)
    if user is not None:
        found = made.recommend([user], **shape)[0]
    else:
        found = made.recommend_for(ids, features=features, **shape)
    if as_json:
        items = [{"item": r.item, "score": r.score, "terms": r.terms} for r in found]
        typer.echo(json.dumps({"user": user, "items": items}))
        return
    typer.echo(f"{user or ', '.join([made.label(id_) for id_ in ids] + (like or [])) or 'somebody unknown'}:")
    for place, item in enumerate(found, 1):
        typer.echo(f"{place:>3}. {made.label(item.item)}  {item.score:.3f}")
        if explain:
            why = (
                made.explain(user, item.item)
                if user is not None
                else made.explain_for(ids, item.item, features=features)
            )
            _say_why(why, made)
    _say_if_empty(found, where, made)


def _write_everyone(
    shop: Path,
    out: Path | None,
    target: Path,
    shape: Callable[[Recommender], dict[str, Any]],
    shards: str,
    processes: int,
    device: str,
) -> None:
    from .config import build_folder, load_config  # noqa: PLC0415
    from .scoring.everyone import write_all  # noqa: PLC0415
    from .scoring.placed import usable_device  # noqa: PLC0415

    if not re.fullmatch(r"[1-9]\d{0,3}(/[1-9]\d{0,3})?", shards):
        raise ConfigError(f"--shards {shards!r}: write a number of files, or 3/8 for the third of eight")
    first, _, second = shards.partition("/")
    parts, only = (int(second), int(first)) if second else (int(first), None)
    _check_place(target)
    usable_device(device)
    build = out if out is not None else build_folder(load_config(shop))
    wished = shape(_recommender(shop, out))
    write_all(build, target, shape=wished, parts=parts, only=only, processes=processes, device=device, say=_say)


def _say_why(why: Explanation, made: Recommender) -> None:
    """A few lines under a place of a list."""
    from .scoring.words import in_both  # noqa: PLC0415

    parts = sorted(why.terms.items(), key=lambda term: -abs(term[1]))[:4]
    typer.echo("     terms: " + ", ".join(f"{in_both(name)} {part:+.3f}" for name, part in parts))
    for reason in why.reasons[:2]:
        typer.echo(f"     because of {made.label(reason.because)}: {in_both(reason.term)} {reason.score:+.3f}")
    for path in why.paths[:1]:
        typer.echo(f"     path: {path.sentence}")


def _say_if_empty(found: list[Recommended], where: str | None, made: Recommender) -> None:
    """An empty list says why."""
    if found:
        return
    if where is None:
        _say("no item is left: all that may be recommended are theirs already")
    elif not (passing := made.passing(where)):
        _say(f"no item is left by the filter: none of {made.n_items:,} items passes {where!r}")
    else:
        _say(f"no item is left: {passing:,} of {made.n_items:,} pass the filter, all theirs or never recommended")


@app.command()
def similar(
    shop: Shop,
    item: Annotated[str, typer.Option("--item", help="An item id, or a title that one item alone has.")],
    k: Top = 10,
    where: Where = None,
    diversify: Diversify = 0.0,
    cap: Cap = None,
    exclude: Exclude = None,
    store: SameStore = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Items the model puts next to one."""
    made = _recommender(shop, out, store)
    item = made.item(item)
    found = made.similar(item, **_shape(made, k, where, diversify, cap, exclude))
    if as_json:
        typer.echo(json.dumps({"item": item, "items": [{"item": r.item, "score": r.score} for r in found]}))
        return
    for place, other in enumerate(found, 1):
        typer.echo(f"{place:>3}. {made.label(other.item)}  {other.score:.3f}")
    _say_if_empty(found, where, made)


@app.command()
def explain(
    shop: Shop,
    item: Annotated[str, typer.Option("--item", help="An item id, or a title that one item alone has.")],
    user: Annotated[str | None, typer.Option("--user", help="A user id.")] = None,
    history: History = None,
    like: Like = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many history items and paths.")] = 3,
    store: SameStore = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """The terms of one score, the history items behind it, and paths through the graph with their Cypher."""
    from dataclasses import asdict  # noqa: PLC0415

    from .scoring.words import in_both  # noqa: PLC0415

    _check_one_person(user, history, like)
    if not (user or history or like):
        raise ConfigError("explain needs --user ID, --history ID,ID… or --like RELATION=ID")
    made = _recommender(shop, out, store)
    item, (ids, features) = made.item(item), _newcomer(history, like, made)
    if user is not None:
        why = made.explain(user, item, most=n)
    else:
        why = made.explain_for(ids, item, features=features, most=n)
    if as_json:
        words = ("because", "score", "sentence", "triples", "cypher", "parameters")
        paths = [{word: getattr(path, word) for word in words} for path in why.paths]
        typer.echo(json.dumps({"user": user, **asdict(why), "paths": paths}))
        return
    typer.echo(f"{made.label(why.item)}: {why.score:.4f}")
    parts = sorted(why.terms.items(), key=lambda term: -abs(term[1]))
    for name, part in parts[:TERMS]:
        typer.echo(f"  {part:+.4f}  {in_both(name)}")
    if rest := parts[TERMS:]:
        typer.echo(f"  {sum(part for _, part in rest):+.4f}  {len(rest)} other terms, all of them in --json")
    for reason in why.reasons:
        typer.echo(f"because of {made.label(reason.because)}: {in_both(reason.term)} {reason.score:+.4f}")
    for path in why.paths:
        typer.echo(f"path: {path.sentence}")
        typer.echo("  " + path.cypher.replace("\n", "\n  "))
        typer.echo("  " + " ".join("-p " + shlex.quote(f"{key}={value}") for key, value in path.parameters.items()))


@app.command()
def score(
    shop: Shop,
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.csv", help="Columns user and item.")],
    target: Annotated[Path, typer.Option("--out", help="Parquet file to write: user, item, score.")],
    build: Build = None,
) -> None:
    """Scores of given user-item pairs."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    from .loaders.checks import Rejects, Sheet  # noqa: PLC0415

    _check_place(target)
    sheet = Sheet.read(pairs, {"user": "user", "item": "item"}, Rejects())
    table = sheet.typed("user").typed("item").present("user", "item").frame
    users, items = table["user"].to_list(), table["item"].to_list()
    made = _recommender(shop, build)
    values = made.score_pairs(users, items)
    pq.write_table(pa.table({"user": users, "item": items, "score": values}), target)
    _say(f"scores of {len(values):,} pair{'s' * (len(values) != 1)} in {target}")


@app.command()
def export(
    shop: Shop,
    target: Annotated[Path, typer.Option("--out", help="File or folder to write.")],
    kind: Annotated[str, typer.Option("--format", help="pyg, networkx or parquet.")] = "pyg",
    store: Store = None,
    build: Build = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="With the held-out interactions.")] = False,
) -> None:
    """The graph for people's own models, ids included."""
    from .errors import did_you_mean  # noqa: PLC0415
    from .kg.export import FORMATS, export_snapshot  # noqa: PLC0415
    from .pipeline.workshop import opened_store  # noqa: PLC0415

    if kind not in FORMATS:
        raise ConfigError(f"--format {kind!r} is unknown{did_you_mean(kind, FORMATS)}")
    _check_place(target)
    with opened_store(_workshop(shop, store=store, out=build)) as graph:
        snapshot = export_snapshot(graph, held_out=held_out)
    FORMATS[kind](snapshot, target)
    _say(
        f"{len(snapshot.ids)} labels, {len(snapshot.relations())} relations in {target}, digest {snapshot.digest[:12]}"
    )


@app.command()
def publish(
    shop: Shop,
    store: Store = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Similar items of each item.")] = 20,
    users: Annotated[
        str | None, typer.Option("--users", help="Users to list items for: ID,ID… or a table with column user.")
    ] = None,
    k: Top = 10,
    remove: Annotated[bool, typer.Option("--remove", help="Take everything published out of the graph again.")] = False,
    out: Out = None,
) -> None:
    """Write the published model's lists and vectors into the graph, for analysts to ask in Cypher."""
    from .publishing import withdraw, write_back  # noqa: PLC0415

    if remove and users is not None:
        raise ConfigError("--remove takes everything out; leave --users away")
    workshop = _workshop(shop, store=store, out=out)
    if remove:
        withdraw(workshop)
    else:
        write_back(workshop, n=n, users=_named_users(users), k=k)


def _named_users(text: str | None) -> list[str]:
    """Distinct ids out of a table's `user` column, or written one after the other."""
    from .loaders.tables import read_table  # noqa: PLC0415

    if text is None:
        return []
    if Path(text).is_file():
        ids = read_table(Path(text), ["user"])["user"].cast(str).drop_nulls().to_list()
    else:
        ids = [part.strip() for part in text.split(",") if part.strip()]
    if not ids:
        raise ConfigError("--users names no user; write --users ID,ID… or a table with a column user")
    return list(dict.fromkeys(ids))


@app.command()
def query(
    shop: Shop,
    name: Annotated[str | None, typer.Argument(help="A named query; see --list.")] = None,
    parameter: Annotated[list[str] | None, typer.Option("-p", help="key=value; of --cypher a string.")] = None,
    cypher: Annotated[str | None, typer.Option("--cypher", help="Read-only Cypher of your own.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="The named queries by group.")] = False,
    kind: Annotated[Literal["table", "csv", "json"], typer.Option("--format", help="How to print.")] = "table",
    store: Store = None,
    out: Out = None,
) -> None:
    """Ask the graph: a named query or read-only Cypher."""
    from .kg.answers import as_text  # noqa: PLC0415
    from .kg.named import run_query  # noqa: PLC0415
    from .kg.query_page import listing_of_all  # noqa: PLC0415
    from .pipeline.workshop import opened_store  # noqa: PLC0415

    if listing:
        typer.echo(listing_of_all(), nl=False)
        return
    if (name is None) == (cypher is None):
        raise ConfigError("query needs a NAME (see --list) or --cypher TEXT")
    given = dict(map(_key_value("-p"), parameter or []))
    workshop = _workshop(shop, store=store, out=out)
    with opened_store(workshop) as graph:
        if cypher is not None:
            answer = graph.analyst(cypher, given)
        else:
            answer = run_query(graph, workshop.config, str(name), given)
    typer.echo(as_text(answer, kind), nl=False)


def _key_value(option: str) -> Callable[[str], tuple[str, str]]:
    """What reads an option's NAME=VALUE."""

    def pair(text: str) -> tuple[str, str]:
        key, found, value = text.partition("=")
        if not found:
            raise ConfigError(f"{option} {text!r} is no key=value")
        return key, value

    return pair


@app.command()
def serve(
    shop: Shop,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")] = 8000,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes that answer.")] = 1,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="File of API keys; default: CATALOGRAPH_KEYS in the environment.")
    ] = None,
    without_keys: Annotated[
        bool, typer.Option("--without-keys", help="Ask for no key; only on this machine's own address.")
    ] = False,
    out: Out = None,
) -> None:
    """Answer over HTTP from the published model, with a page at /; a newly published one is taken up."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy loads: requests go side by side, not their products
    from .config import build_folder, load_config  # noqa: PLC0415
    from .service.run import serve as run  # noqa: PLC0415

    if without_keys and keys is not None:
        raise ConfigError("--without-keys asks for no key; leave --keys away")
    config = load_config(shop)
    run(
        out if out is not None else build_folder(config),
        config.serve,
        host=host,
        port=port,
        workers=workers,
        keys=keys,
        keyed=not without_keys,
    )


@app.command()
def key(
    keys: Annotated[Path, typer.Argument(metavar="FILE", help="The file of keys; made when it is not there.")],
    name: Annotated[str, typer.Argument(help="What logs call the key.")],
    scope: Annotated[list[str], typer.Option("--scope", help="read, events or metrics; may be given again.")],
) -> None:
    """Make an API key for the service: its digest into the file, the key itself onto stdout, once."""
    from .service.keys import add_key  # noqa: PLC0415

    typer.echo(add_key(keys, name, scope))


@app.command()
def doctor(
    shop: Annotated[
        Path | None, typer.Argument(metavar="[SHOP.toml]", help="Look at its published model, too.")
    ] = None,
    out: Out = None,
) -> None:
    """What a bug report needs: versions, devices, memory, and whether weights and model are what was written."""
    import platform  # noqa: PLC0415

    import psutil  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from .encoders.weights import resolve  # noqa: PLC0415

    names = ("catalograph", "torch", "torch-geometric", "transformers", "sentence-transformers", "ladybug", "polars")
    for name in names:
        typer.echo(f"{name:<22} {installed(name)}")
    typer.echo(f"{'python':<22} {platform.python_version()} on {platform.system()} {platform.machine()}")
    typer.echo(f"{'cores, memory':<22} {os.cpu_count()}, {psutil.virtual_memory().total / 2**30:.1f} GiB")
    typer.echo(f"{'cuda':<22} {torch.cuda.get_device_name() if torch.cuda.is_available() else 'none'}")
    typer.echo(f"{'default encoder':<22} {resolve('packaged').digest[:12]} (verified)")
    if shop is not None:
        typer.echo(f"{'published model':<22} {_published_model(shop, out)} (verified)")


def _published_model(shop: Path, out: Path | None) -> str:
    from .config import build_folder, load_config  # noqa: PLC0415
    from .scoring import bundle, versions  # noqa: PLC0415

    config = load_config(shop)
    place = versions.published(out if out is not None else build_folder(config))
    bundle.load(place)
    return place.name


def _ids(text: str, made: Recommender) -> list[str]:
    """The item ids of a --history; a comma may be part of an id or title."""
    parts = [text] if made.names_item(text) else [part.strip() for part in text.split(",") if part.strip()]
    return [made.item(part) for part in parts]


def _check_one_person(user: str | None, history: list[str] | None, like: list[str] | None) -> None:
    if user is not None and (history or like):
        raise ConfigError("--user is somebody known, --history and --like tell of somebody never seen; leave one away")


def _newcomer(
    history: list[str] | None, like: list[str] | None, made: Recommender
) -> tuple[list[str], dict[str, list[str]]]:
    """The item ids of all --history, and what all --like say: relation -> ids."""
    ids = [id_ for text in history or [] for id_ in _ids(text, made)]
    if history and not ids:
        raise ConfigError("--history names no item; write --history ID,ID…")
    features: dict[str, list[str]] = {}
    for relation, id_ in map(_key_value("--like"), like or []):
        features.setdefault(relation, []).append(id_)
    return ids, features


def _shape(
    made: Recommender, k: int, where: str | None, diversify: float, cap: list[str] | None, exclude: list[str] | None
) -> dict[str, Any]:
    """What a list is to be like, as the recommender's calls take it."""
    gone = [made.item(text) for text in exclude or []]
    return {"k": k, "where": where, "diversify": diversify, "cap": _caps(cap), "exclude": gone}


def _caps(texts: list[str] | None) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, most in map(_key_value("--cap"), texts or []):
        if not most.isdecimal():
            raise ConfigError(f"--cap {name}={most}: {most!r} is no number of items")
        if name in found:
            raise ConfigError(f"--cap {name} is given twice: {found[name]} and {most}; say it once")
        found[name] = int(most)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 2 the caller can fix it (one line on stderr)."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    command = arguments[0]
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="catalograph", standalone_mode=False)
    except typer.TyperException as e:  # an unknown option, a missing argument
        typer.echo(f"catalograph {command}: {_one_line(e)}", err=True)
        return 2
    except CatalographError as e:
        typer.echo(f"catalograph {command}: {e}", err=True)
        return 2
    return code if isinstance(code, int) else 0  # 130 after Ctrl-C


def _one_line(error: Any) -> str:
    return " ".join(str(error.format_message()).split())
