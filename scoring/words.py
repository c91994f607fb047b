"""What a term computes, in words for people who do not know the model."""

from __future__ import annotations

FAMILIES = {
    "walk": "bought by the same customers",
    "next": "often bought afterwards",
    "previous": "often bought before",
    "next_basket": "often bought in one of the next baskets",
    "basket": "bought together",
    "ease": "goes with what they have",
    "text": "described alike",
    "low_pass": "liked by people of this taste",
    "gnn": "close in the graph",
    "popularity": "popular",
    "first_time": "new customers are finding it",
    "trend": "on the rise",
    "age": "how long it has been sold",
    "since": "sold lately",
}
RELATIONS = {
    "share": "the same {}",
    "to": "linked by {}",
    "from": "linked back by {}",
    "cited": "linked by {} from the same items",
    "twice": "two steps along {}",
}
PROFILES = {"last": "newest items", "newest": "newest items", "decayed": "newer items more", "frequent": "often taken"}


def in_words(term: str) -> str:
    """A few words for a term's name: "walk.uniform" -> "bought by the same customers"; the name where there are none.

    The profile is told where it is not the whole history alike.
    """
    name, _, profile = term.rpartition(".")
    kind, _, relation = name.removeprefix("fresh_").partition(":")
    if kind in RELATIONS:
        named = relation_in_words(relation)
        said = RELATIONS[kind].format(named.removeprefix("has ").removeprefix("in ") if kind == "share" else named)
    else:
        found = [known for known in FAMILIES if kind.startswith(known)]
        if not found:
            return term
        said = FAMILIES[max(found, key=len)]
    told = [PROFILES[profile]] if profile in PROFILES else []
    if name.startswith("fresh_"):
        told.append("being discovered now")
    return ", ".join([said, *told])


def in_both(term: str) -> str:
    """The words, and the name in brackets."""
    said = in_words(term)
    return term if said == term else f"{said} ({term})"


def relation_in_words(relation: str) -> str:
    """ "HAS_COLOUR" -> "has colour"."""
    return relation.replace("_", " ").lower()
