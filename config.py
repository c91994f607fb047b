"""What a shop is: the ``shop.toml`` file as frozen, checked objects. The syntax is described in ``docs/shop-toml.md``.

Nothing here opens a table; :mod:`catalograph.loaders` does. An unknown key is refused with the nearest known one.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from .errors import ConfigError, did_you_mean

PropertyType = Literal["string", "int", "float", "bool", "time"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,62}$")]  # a property of the graph
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
PACKAGED = "packaged"  # the `encoder.model` that is installed as a package, not a folder of this name


def _quotable(name: str) -> str:
    """A graph made elsewhere has names like "Product Line"; what cannot end a quoted Cypher name is let through."""
    if not name.isprintable() or name != name.strip() or any(sign in name for sign in "`'\\") or not name:
        raise ValueError("a name holds no quotes, back-ticks, back-slashes or line ends, and no blanks around it")
    return name


def is_label(name: str) -> bool:
    """Whether a name found somewhere can be a label or relation type here."""
    try:
        return len(_quotable(name)) <= LABEL_LENGTH
    except ValueError:
        return False


LABEL_LENGTH = 63
Label = Annotated[
    str, Field(max_length=LABEL_LENGTH), AfterValidator(_quotable)
]  # a label or relation type of the graph


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Strings = Annotated[tuple[str, ...], BeforeValidator(_as_list)]  # TOML may give one string or a list of them
Labels = Annotated[tuple[Label, ...], BeforeValidator(_as_list)]


class Section(BaseModel):
    """A table of the file: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PropertySpec(Section):
    """A property whose name in the graph differs from its column, or whose type is not string."""

    type: PropertyType = "string"
    column: str | None = None  # default: the property's own name


Property = Annotated[PropertySpec, BeforeValidator(lambda v: {"type": v} if isinstance(v, str) else v)]


class ShopSection(Section):
    """Who the shop is and where its files are."""

    name: Slug
    data: Path = Path(".")  # folder of all files below, relative to shop.toml; `--data DIR` overrides it
    on_bad_rows: Literal["fail", "quarantine"] = "fail"


class GraphSection(Section):
    """A Neo4j graph that is there already and is only read: the shop's items, and its users and events, are in it."""

    url: str  # neo4j://HOST:PORT, or …/DATABASE; credentials come from NEO4J_USERNAME and NEO4J_PASSWORD alone
    others: bool = True  # take the items' relations that no section names, too
    skip: Labels = ()  # relation types `others` leaves out

    @model_validator(mode="after")
    def _is_address(self) -> GraphSection:
        """No message repeats the URL before it is known to hold no password."""
        if "@" in self.url:
            raise ValueError("a URL is no place for credentials; set NEO4J_USERNAME and NEO4J_PASSWORD")
        _ = urlsplit(self.url).port  # a ValueError, when it is no number
        return self


Repeats = Literal["fail", "first"]  # of one id in several rows: an error, or the first row counts


class ItemsSection(Section):
    """The item table. Without `file` or a [graph], items are the ones that occur in the interactions."""

    file: Path | None = None
    id: str = "item_id"
    repeats: Repeats = "fail"
    label: Label = "Item"
    title: str | None = None  # the property shown to people; default: the id
    properties: dict[Name, Property] = {}
    # properties computed from *training* interactions: {price = {column = "unit_price", how = "median"}}
    derived: dict[Name, DerivedSpec] = {}


class DerivedSpec(Section):
    """An item property aggregated over a numeric column of the training interactions."""

    column: str
    how: Literal["median", "mean", "min", "max", "last"] = "median"


class UsersSection(Section):
    """Properties of users, from a table of their own or from the newest training interaction that fills them."""

    file: Path | None = None
    id: str = "user_id"
    label: Label = "User"
    properties: dict[Name, Property] = {}


class AttributeSection(Section):
    """A column of the item table whose values become nodes: (Item)-[relation]->(label)."""

    column: str  # a column of the item table, or the name of a derived property
    relation: Label
    label: Label
    separator: str | None = None  # several values in one cell
    levels: str | None = None  # each value is a path ("Beauty > Make-up"): levels are linked by SUBCATEGORY_OF
    bands: int | tuple[float, ...] | None = None  # numeric column to bands: how many quantiles, or the inner borders
    missing: Strings = ()  # values that mean "unknown", besides the empty cell

    @model_validator(mode="after")
    def _one_kind(self) -> AttributeSection:
        if self.bands is not None and (self.separator or self.levels):
            raise ValueError("bands do not go with separator or levels")
        if isinstance(self.bands, int) and self.bands < 2:
            raise ValueError(f"bands must be at least 2 (got {self.bands})")
        return self


class NodesSection(Section):
    """A table of another kind of node: suppliers, reviews, search queries …; [[edges]] link them."""

    file: Path
    label: Label
    id: str
    repeats: Repeats = "fail"
    properties: dict[Name, Property] = {}


class EdgesSection(Section):
    """One relation of a table or of the [graph]: (source_label)-[relation]->(target_label). New targets are created."""

    file: Path | None = None  # needed, unless there is a [graph] that has the relation
    relation: Label
    source: str | None = None  # default: items.id where the sources are items; in a [graph] else the likeliest property
    target: str | None = None  # needed with `file`; in a [graph] as `source`
    source_label: Label | None = None  # default: items.label
    target_label: Label
    properties: dict[Name, Property] = {}


class EntityTable(Section):
    """Names and types of the entities of a ready knowledge graph."""

    file: Path
    id: str = "entity_id"
    type: str | None = None  # column whose value becomes the label ("related_product" -> RelatedProduct)
    name: str | None = None  # column kept as the node's `name`
    item: str | None = None  # column with the item id, filled where the entity is an item


class RelationNames(Section):
    """Names of numbered relations."""

    file: Path
    id: str = "relation_id"
    name: str = "name"


class TriplesSection(Section):
    """A ready knowledge graph: head, relation, tail in one table."""

    file: Path
    head: str = "head_id"
    relation: str = "relation"
    tail: str = "tail_id"
    entities: EntityTable | None = None
    names: RelationNames | None = None
    label: Label = "Entity"  # of entities whose type no table tells
    items: Literal["none", "shared"] = "none"  # "shared": an entity id that is an item id is that item
    only: Strings = ()  # relations to keep (as written in the file, after `names`); default all
    skip: Strings = ()  # relations to leave out


class InteractionsSection(Section):
    """Who bought, clicked or rated what. One row, or one relation of the [graph], is one event."""

    file: Path | None = None  # needed without a [graph]
    relation: Labels = ()  # of the [graph]: the relation types from a user to an item, one a step
    user: str = "user_id"
    item: str = "item_id"
    time: str | None = None
    time_unit: Literal["s", "ms", "us", "ns"] = "s"  # of integer times
    position: str | None = None  # rank of the event in the user's history, 0 = oldest
    quantity: str | None = None
    kind: str | None = None  # view, cart, purchase …
    label: str | None = None  # 0/1: labelled pairs (click prediction) instead of positives only
    missing_user: Literal["fail", "drop"] = "fail"
    returns: Literal["fail", "drop", "keep"] = "fail"  # rows with quantity <= 0


class SplitSection(Section):
    """Which interactions are held out for the final test, and which items may be recommended."""

    method: Literal["none", "column", "last", "random", "time"] = "none"
    column: Strings = ()  # several columns: several splits, figures are their mean
    test: Strings = ("test",)  # values of the column that are held out
    valid: Strings = ()  # values kept out of training altogether and used for choices (labelled pairs)
    like: Literal["last", "random"] = "random"  # method = "column": how the test part was cut, so validation is alike
    at: dt.datetime | dt.date | None = None  # method = "time": events at or after this moment (UTC) are held out
    period_days: int = Field(28, ge=1)  # method = "time": length of the validation periods cut before `at`
    fraction: float = Field(0.2, gt=0, lt=1)  # method = "random"
    seed: int = 0
    candidates: Literal["all", "seen"] = "all"  # "seen": only items with a training interaction are recommended

    @model_validator(mode="after")
    def _complete(self) -> SplitSection:
        if self.method == "column" and not self.column:
            raise ValueError("method = 'column' needs column")
        if self.method == "time" and self.at is None:
            raise ValueError("method = 'time' needs at")
        return self


class BasketsSection(Section):
    """Items one user takes within `window_s` seconds are bought together; needs interaction times."""

    window_s: int = Field(60, ge=1)
    relation: Label = "BOUGHT_TOGETHER"
    min_count: int = Field(2, ge=1)  # baskets a pair must share
    per_item: int = Field(50, ge=1)  # strongest partners kept per item


class SearchSection(Section):
    """What was searched for and which item answered: clicked, bought, or judged to fit more or less. One row each."""

    file: Path
    query: str = "query"
    item: str = "item_id"
    time: str | None = None  # rows from the first held-out event on teach nothing; only judged pairs do without
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    relevance: str | None = None  # a number, the higher the better; without it every row is a good answer


class RelationSection(Section):
    """How the model treats one relation type."""

    use: bool = True
    leaks: bool = False  # known to have been collected with the test part in it: reports say so
    weight: float | None = Field(None, ge=0)  # of its rows beside the users' in EASE and the low-pass term


class FinetuneSection(Section):
    """How the text encoder learns what this shop's customers treat as alike."""

    way: Literal["none", "full", "lora", "adalora", "adapter"] = "none"  # which weights learn; "adapter": IA3
    learn_from: tuple[Literal["tastes", "users", "baskets", "attributes", "queries", "text"], ...] = (
        "tastes",
        "queries",
    )
    layers: int = Field(0, ge=0)  # full: the last so many layers alone; 0: everything
    steps: int = Field(420, ge=1)
    batch_size: int = Field(128, ge=2)  # pairs of a step; each is a negative to the others
    mini_batch: int = Field(0, ge=0)  # pairs held in memory at once, for batches larger than it; 0: the whole batch
    max_tokens: int = Field(32, ge=8, le=512)  # of a text, while learning
    hard_negatives: bool = False
    learning_rate: float = Field(5e-4, gt=0)
    warm_up: float = Field(0.1, ge=0, lt=1)  # share of the steps in which the rate rises; then it falls to 0
    weight_decay: float = Field(0.01, ge=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    temperature: float = Field(0.05, gt=0)
    rank: int = Field(16, ge=1)  # of lora and adalora
    checks: int = Field(2, ge=1)  # looks at the validation users, each with a checkpoint
    patience: int = Field(2, ge=1)  # looks without a better validation NDCG@10 before it stops
    runs: int = Field(1, ge=1)  # tuned with different seeds, and averaged


Finetune = Annotated[FinetuneSection, BeforeValidator(lambda v: {"way": v} if isinstance(v, str) else v)]


class EncoderSection(Section):
    """Item text to M(s)."""

    model: str = PACKAGED  # "packaged" (all-MiniLM-L6-v2), a folder, or a name the model hub knows
    text: tuple[str, ...] = ()  # item properties and relation types, joined in this order; default: the title
    max_tokens: int = Field(48, ge=8, le=512)
    batch_size: int = Field(64, ge=1)
    precision: Literal["full", "reduced", "int8"] = "full"  # of matrix products; tuning always reduces
    keep_layers: int = Field(0, ge=0)  # so many of the model's layers, evenly spaced, before it is tuned; 0: all
    finetune: Finetune = FinetuneSection()


class GnnSection(Section):
    """The learned relation vectors R_s."""

    model: str = "relational"  # "none", "relational", or "package.module:Class" of a team's own PyG module
    dim: int = Field(64, ge=2)
    layers: int = Field(2, ge=1)
    history: int = Field(8, ge=1)  # newest items of a user that make the query
    epochs: int = Field(12, ge=1)
    batch_size: int = Field(2048, ge=1)
    learning_rate: float = Field(0.004, gt=0)
    temperature: float = Field(0.07, gt=0)
    negatives: int = Field(1024, ge=1)
    id_dropout: float = Field(0.1, ge=0, lt=1)  # share of items whose free vector is hidden, so cold items are learned


class ModelSection(Section):
    """The scoring model: which terms, which pool, which head."""

    # auto: linear, mlps or ensemble, by the check users
    head: Literal["linear", "gated", "mlp", "mlps", "ensemble", "auto"] = "auto"
    pool: Literal["auto", "learned", "strongest"] = "auto"
    search: Literal["exact", "approximate"] = "exact"  # of the pool; approximate needs the extra of that name
    pool_size: int = Field(200, ge=10)
    batch_mib: float = Field(16, gt=0)  # of scores that a thread holds at once
    folds: int = Field(2, ge=1)  # validation-like cuts of the training part the head is fitted on
    fit_users: int = Field(15_000, ge=1)  # per fold, at most
    check_users: int = Field(4_000, ge=1)  # of the newest fold, out of all fits until the choices are made
    off: tuple[str, ...] = ()  # term families or single terms to leave out


class StoreSection(Section):
    """How a graph on a server goes with what others keep there."""

    adopt: bool = False  # take over nodes that have one of the shop's labels and ids and are not of the shop


class ServeSection(Section):
    """What `catalograph serve` lets through; changing it changes no model."""

    body_kib: int = Field(256, ge=1)  # of one request
    rate_per_s: float = Field(100, ge=1)  # requests of one key to one worker in the long run; twice as many at once
    timeout_s: float = Field(10, gt=0)  # for reading a request and working on it
    waiting: int = Field(500, ge=1)  # requests that may wait for the model; more are sent away with 503
    poll_s: float = Field(2, gt=0)  # between two looks for a new version and for changed keys
    drain_s: int = Field(30, ge=1)  # for the requests under way when the service is told to stop


class EvaluationSection(Section):
    """What `evaluate` prints."""

    k: int = Field(10, ge=1)
    users: int = Field(0, ge=0)  # test users, drawn at random; 0: all
    baselines: tuple[str, ...] = ()  # default: all that apply and take seconds


class ShopConfig(Section):
    """The whole file."""

    shop: ShopSection
    graph: GraphSection | None = None
    items: ItemsSection = ItemsSection()
    users: UsersSection = UsersSection()
    attributes: tuple[AttributeSection, ...] = ()
    nodes: tuple[NodesSection, ...] = ()
    edges: tuple[EdgesSection, ...] = ()
    triples: tuple[TriplesSection, ...] = ()
    interactions: InteractionsSection = (
        InteractionsSection()
    )  # left out: a catalogue to ask, with nothing to learn from
    split: SplitSection = SplitSection()
    baskets: BasketsSection | None = None
    search: SearchSection | None = None
    relations: dict[Label, RelationSection] = {}
    encoder: EncoderSection = EncoderSection()
    gnn: GnnSection = GnnSection()
    model: ModelSection = ModelSection()
    store: StoreSection = StoreSection()
    evaluation: EvaluationSection = EvaluationSection()
    serve: ServeSection = ServeSection()

    @model_validator(mode="after")
    def _consistent(self) -> ShopConfig:
        self._check_sources()
        if self.items.label == self.users.label:
            raise ValueError(f"items.label and users.label are both {self.items.label!r}; give one another name")
        timed = self.interactions.time is not None
        if self.baskets and not timed:
            raise ValueError("[baskets] needs interactions.time")
        if self.split.method == "time" and not timed:
            raise ValueError("split.method = 'time' needs interactions.time")
        if self.evaluation.k > self.model.pool_size:
            raise ValueError(f"evaluation.k ({self.evaluation.k}) is above model.pool_size ({self.model.pool_size})")
        if self.model.search == "approximate" and self.interactions.label is not None:
            raise ValueError(
                "model.search = 'approximate' is not for labelled pairs (interactions.label); leave it out"
            )
        if self.split.method == "last" and not (timed or self.interactions.position):
            raise ValueError("split.method = 'last' needs interactions.time or interactions.position")
        return self

    @property
    def has_interactions(self) -> bool:
        """Whether there are events; else the shop is a catalogue alone."""
        return self.interactions.file is not None or bool(self.interactions.relation)

    @property
    def has_item_table(self) -> bool:
        """Whether a table tells the items; else they are those of the log."""
        return self.items.file is not None or self.graph is not None

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The properties and relations that an item's text is made of."""
        return self.encoder.text or ((self.items.title,) if self.items.title else ())

    @property
    def has_user_table(self) -> bool:
        """Whether a table tells the users; else they are those of the log."""
        return self.users.file is not None or (self.graph is not None and self.interactions.file is None)

    def _check_catalogue_alone(self) -> None:
        if not self.has_item_table:
            raise ValueError("the shop has neither items nor interactions; name items.file or interactions.file")
        if self.split.method != "none":
            raise ValueError("[split] needs [interactions]")
        if self.items.derived:
            raise ValueError("items.derived is computed from [interactions], which the shop does not have")

    def _check_sources(self) -> None:
        """What comes from a file and what from a live graph must be told apart."""
        if "interactions" not in self.model_fields_set:
            self._check_catalogue_alone()
        elif self.graph is None:
            if self.interactions.file is None:
                raise ValueError("interactions.file is missing")
            if self.interactions.relation:
                raise ValueError("interactions.relation needs a [graph]")
        else:
            if self.items.file is not None:
                raise ValueError("items.file: the items are those of the [graph]; leave one of the two out")
            if (self.interactions.file is None) == (not self.interactions.relation):
                raise ValueError("interactions needs either relation, the way from a user to an item, or file")
            if self.users.file is not None and self.interactions.file is None:
                raise ValueError("users.file: the users are those of the [graph]; leave it out")
        for edges in self.edges:
            if edges.file is None and self.graph is None:
                raise ValueError(f"edges.{edges.relation}: file is missing")
            if edges.file is not None and edges.target is None:
                raise ValueError(f"edges.{edges.relation}: target is missing")


def build_folder(config: ShopConfig) -> Path:
    """Where a shop is built unless somebody says otherwise."""
    return Path("build") / config.shop.name


def load_config(path: Path, *, data: Path | None = None) -> ShopConfig:
    """The checked configuration in `path`; `shop.data` becomes absolute (`data` when given), and a folder of it that
    `encoder.model` names.

    Raises:
        ConfigError: no such file, not TOML, an unknown key (with the nearest known one) or a value of the wrong kind.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; name a shop.toml") from None
    except (IsADirectoryError, PermissionError) as e:
        raise ConfigError(f"{path}: cannot be read ({e.strerror}); name a shop.toml") from None
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: byte {e.start} is not UTF-8; save the file as UTF-8") from None
    return read_config(text, path, data=data)


def read_config(text: str, path: Path, *, data: Path | None = None) -> ShopConfig:
    """As :func:`load_config`, of a file at `path` that holds `text`."""
    try:
        config = ShopConfig.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path}: not valid TOML: {e}") from None
    except ValidationError as e:
        raise ConfigError(f"{path}: {_first_complaint(e)}") from None
    folder = (data if data is not None else path.parent / config.shop.data).resolve()
    beside = folder / Path(config.encoder.model).expanduser()
    encoder = config.encoder
    if encoder.model != PACKAGED and beside.is_dir():
        encoder = encoder.model_copy(update={"model": str(beside)})
    shop = config.shop.model_copy(update={"data": folder})
    return config.model_copy(update={"shop": shop, "encoder": encoder})


def _first_complaint(error: ValidationError) -> str:
    """One line for the first thing pydantic found; unknown keys first, for they explain the rest."""
    found = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = found[0]
    where = _dotted(first["loc"])
    if first["type"] == "extra_forbidden":
        table, key = _dotted(first["loc"][:-1]), str(first["loc"][-1])
        return f"[{table or 'top level'}] has no {key!r}{did_you_mean(key, _known_keys(first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"{where} is missing"
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    shown = "" if isinstance(given, dict | list) or first["type"] == "value_error" else f" (got {given!r})"
    return f"{where or 'shop.toml'}: {message}{shown}"


def _dotted(loc: tuple[Any, ...]) -> str:
    return ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in loc)


def _known_keys(loc: tuple[Any, ...]) -> list[str]:
    """Keys of the section at `loc`, found by walking the annotations."""
    model: Any = ShopConfig
    for part in loc:
        fields = getattr(model, "model_fields", {})
        if isinstance(part, str) and part in fields:
            model = _section_in(fields[part].annotation)
    return list(getattr(model, "model_fields", {}))


def _section_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _section_in(part)
        if found is not None:
            return found
    return None


ItemsSection.model_rebuild()
