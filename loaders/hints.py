"""Words that tell what a column, label or relation is for, and names made from the words of others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from ..config import LABEL_LENGTH, is_label
from .catalogue import HELD_OUT, INTERACTED, SUBCATEGORY_OF

WORD: Final = re.compile(r"[^\W\d_]+|\d+")
HUMP: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # of camelCase and of HTMLText


def words(name: str) -> tuple[str, ...]:
    """A name taken apart: "customerID" and "customer_id" are both ("customer", "id")."""
    return tuple(word.lower() for part in WORD.findall(name) for word in HUMP.sub(" ", part).split())


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


USER: Final = _set(
    "user users customer customers cust client member visitor buyer shopper account reviewer person consumer subscriber"
)
ITEM: Final = _set(
    "item items product products prod sku article articles asin isbn stock goods book books movie movies film song "
    "track artist album game recipe listing"
)
ID: Final = _set("id ids no nr num number code key uid uuid guid")
TIME: Final = _set("time date datetime timestamp ts at when day created ordered purchased sold")
QUANTITY: Final = _set("quantity qty units count plays pieces amount")
PRICE: Final = _set("price cost paid")
POSITION: Final = _set("position pos rank sequence seq")
EVENT_KIND: Final = _set("event kind type action behavior behaviour")
CLICK: Final = _set("label target clicked click y")
SPLIT: Final = _set("split fold part partition subset set")
PARTS: Final = _set("train test valid validation val dev")
HEAD: Final = _set("head subject")
TAIL: Final = _set("tail object")
RELATION: Final = _set("relation predicate rel")
ENTITY: Final = _set("entity node")
TITLES: Final = ("title", "name", "description", "keywords", "text", "label")  # the likeliest title first
PLACES: Final = _set("category department section collection class genre aisle")  # items are in these, and have others
TAKEN: Final = _set("bought buys purchased purchases purchase ordered orders order invoice basket sale receipt")
NO_MEANING: Final = _set("path paths id ids name names list lists code value values key no number target")
RESERVED: Final = ("CatalographMeta", "CatalographRetired", INTERACTED, HELD_OUT, SUBCATEGORY_OF, "BOUGHT_TOGETHER")
NO_PROPERTY: Final = ("id", "source", "target", "ids", "num_nodes", "edge_index")


def noun(name: str) -> list[str]:
    """What a column is about, in the singular: "category_paths" is ["category"], "tags" is ["tag"]."""
    found = list(words(name))
    while len(found) > 1 and found[-1] in NO_MEANING:
        found.pop()
    if found:
        found[-1] = _singular(found[-1])
    return found or ["value"]


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word


class Names:
    """Names not given out before; upper and lower case are one name, as they are to the embedded store."""

    def __init__(self, taken: Iterable[str] = RESERVED) -> None:
        self._taken = {name.lower() for name in taken}

    def new(self, wanted: str) -> str:
        """The name, with a number where it is taken."""
        name, n = wanted[: LABEL_LENGTH - 4], 1
        while name.lower() in self._taken:
            n += 1
            name = f"{wanted[: LABEL_LENGTH - 4]}_{n}"
        self._taken.add(name.lower())
        return name

    def label(self, parts: Sequence[str]) -> str:
        """ "PriceBand" from ["price", "band"]."""
        wanted = "".join(part[:1].upper() + part[1:] for part in parts)
        return self.new(wanted if is_label(wanted) else "Value")

    def relation(self, parts: Sequence[str]) -> str:
        """HAS_BRAND from ["brand"], IN_CATEGORY from ["category"]."""
        lead = "IN" if parts[-1] in PLACES or parts[-1] == "band" else "HAS"
        wanted = "_".join([lead, *parts]).upper()
        return self.new(wanted if is_label(wanted) else f"{lead}_VALUE")

    def property(self, name: str) -> str:
        """A property of letters, digits and _."""
        plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
        return self.new(plain if plain[:1].isalpha() else f"column_{plain}".rstrip("_"))
