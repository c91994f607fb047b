"""Attributes out of product descriptions: how a graph is built from a catalogue that has nothing but names.

    python attributes.py items.csv attributes.csv

Writes one row per fact (item, relation, value): KIND (mug), SUBKIND (coffee mug), COLOUR, MATERIAL, MOTIF, SET_SIZE.
The kind of a thing is the word that most often ends descriptions: "RED RETROSPOT MUG" is a mug.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

# fmt: off
COLOURS = frozenset([
    "RED", "BLUE", "GREEN", "PINK", "WHITE", "BLACK", "IVORY", "CREAM", "PURPLE", "YELLOW", "ORANGE", "BROWN",
    "SILVER", "GOLD", "GREY", "GRAY", "TURQUOISE", "MINT", "LILAC", "AMBER", "AMETHYST", "RUBY", "BEIGE", "NATURAL",
    "OLIVE", "LAVENDER", "PASTEL", "MULTICOLOUR", "CLEAR", "ROSE", "JADE", "AQUA", "COPPER", "BRONZE", "CRYSTAL",
    "PEARL", "CHOCOLATE",
])
MATERIALS = frozenset([
    "METAL", "WOOD", "WOODEN", "GLASS", "CERAMIC", "PAPER", "TIN", "FELT", "WICKER", "ZINC", "ENAMEL", "COTTON",
    "PORCELAIN", "FABRIC", "PLASTIC", "BAMBOO", "LEATHER", "KNITTED", "WOOL", "BEADED", "STONE", "RATTAN", "WIRE",
    "IRON", "CARDBOARD", "CARD", "ACRYLIC", "BRASS", "STRAW", "FEATHER", "WAX", "SOAP", "FLOCK", "MELAMINE",
    "CANVAS", "RESIN", "MARBLE",
])
SMALL_WORDS = frozenset([
    "OF", "THE", "AND", "IN", "WITH", "ON", "A", "FOR", "TO", "W", "SET", "PACK", "BOX", "SMALL", "LARGE", "MEDIUM",
    "MINI", "ASSORTED", "PIECE", "DESIGN", "PC", "PCS", "PK", "CM", "SIZE", "YOUR", "ASST", "NO", "TYPE", "STYLE",
    "BIG", "JUMBO",
])
# fmt: on
SET_SIZE = re.compile(r"\b(?:SET|PACK|BOX|PK)\s*(?:OF|/)?\s*(\d+)\b|\b(\d+)\s*(?:PIECE|PC|PCS)\b")
COMMON_MOTIF = 300  # a word in more descriptions than this tells items apart no longer


def words_of(description: str) -> list[str]:
    """The words of a description in capitals, set sizes taken out: "SET OF 3 RED MUGS" -> RED, MUGS."""
    text = SET_SIZE.sub(" ", description.upper().replace("'", "").replace("T-LIGHT", "TLIGHT"))
    return re.findall(r"[A-Z]{2,}", text)


def attributes_of(descriptions: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """(item, relation, value) of every fact found, items in the order given."""
    core = {item: [w for w in words_of(text) if w not in SMALL_WORDS | COLOURS] for item, text in descriptions.items()}
    seen = Counter(word for words in core.values() for word in set(words))
    ends = Counter(words[-1] for words in core.values() if words)
    kindness = {word: ends[word] / n * min(1.0, n / 4) for word, n in seen.items()}  # rare words discounted
    for item, text in descriptions.items():
        words, all_words = core[item], set(words_of(text))
        if words:
            last = len(words) - 1
            place = max(range(len(words)), key=lambda n: (kindness[words[n]] + 0.15 * (n == last), n))
            kind = words[place]
            yield item, "KIND", kind
            if place:
                yield item, "SUBKIND", f"{words[place - 1]} {kind}"
            motifs = {w for w in words if w != kind and w not in MATERIALS and seen[w] <= COMMON_MOTIF}
            yield from ((item, "MOTIF", word) for word in sorted(motifs))
        yield from ((item, "COLOUR", word) for word in sorted(all_words & COLOURS))
        yield from ((item, "MATERIAL", word) for word in sorted(all_words & MATERIALS))
        size = SET_SIZE.search(text.upper())
        if size:
            yield item, "SET_SIZE", size[1] or size[2]


def main(items: Path, out: Path) -> None:
    """Read item and description, write the facts, one file per relation beside `out`'s name."""
    with items.open(encoding="utf-8", newline="") as handle:
        descriptions = {row["item"]: row["description"] for row in csv.DictReader(handle)}
    facts = list(attributes_of(descriptions))
    for relation in sorted({relation for _, relation, _ in facts}):
        path = out.with_name(f"{out.stem}-{relation.lower()}.csv")
        with path.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(["item", "value"])
            writer.writerows((item, value) for item, found, value in facts if found == relation)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
