"""The gate for text somebody typed: a lexed allow-list of read-only Cypher.

Neither engine's read-only mode is a sandbox (COPY TO, LOAD FROM, CHECKPOINT pass it), so words are checked first.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container

from ..errors import QueryError

STARTS = frozenset({"MATCH", "OPTIONAL", "WITH", "UNWIND", "RETURN"})
DENIED = frozenset(
    """
    CREATE MERGE SET DELETE DETACH REMOVE DROP ALTER RENAME COPY LOAD CALL EXPORT IMPORT INSTALL UNINSTALL
    ATTACH USE CHECKPOINT BEGIN COMMIT ROLLBACK EXPLAIN PROFILE SHOW TERMINATE FOREACH CYPHER INSERT UPDATE
    MACRO YIELD GRANT REVOKE DENY
    """.split()  # noqa: SIM905 - a list of one word a line is no easier to check
)
KEYWORDS = frozenset(
    """
    MATCH OPTIONAL WITH UNWIND RETURN WHERE AND OR XOR NOT IN AS ORDER BY SKIP LIMIT DISTINCT CASE WHEN THEN
    ELSE END UNION ALL EXISTS ON IS CONTAINS STARTS ENDS SHORTEST ANY NONE SINGLE
    """.split()  # noqa: SIM905 - a list of one word a line is no easier to check
)
FUNCTIONS = frozenset(
    """
    count sum avg min max collect coalesce size length abs ceil floor sqrt log ln exp round sign tolower
    toupper lower upper trim ltrim rtrim replace substring left right id label labels type properties keys
    nodes relationships rels percentilecont percentiledisc stdev tointeger tofloat tostring head last tail
    reverse range startnode endnode elementid offset cast list_contains array_cosine_similarity any all none
    single exists shortestpath
    """.split()  # noqa: SIM905 - a list of one word a line is no easier to check
)
TOKEN = re.compile(
    r"""
    (?P<space>\s+|//[^\n\r\v\f\x85\u2028\u2029]*(?=\r?\n|\Z)|/\*[^*]*\*/)
  | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
  | (?P<quoted>`(?:[^`]|``)*`)
  | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
  | (?P<parameter>\$[A-Za-z_]\w*)
  | (?P<word>[^\W\d]\w*)
  | (?P<sign>[()\[\]{}.,:|<>=~+\-*%^!&]|/(?![/*]))
    """,
    re.VERBOSE | re.DOTALL,
)
Token = tuple[str, str]  # kind, text
MOST_CHARACTERS = 20_000
AGGREGATES = frozenset("count sum avg min max collect stdev percentilecont percentiledisc".split())  # noqa: SIM905
PROJECTIONS = ("WITH", "RETURN", "UNION")
MOST_REPEATS = 3  # in a regular expression: with each, the time grows by the length of the text
REPEAT = re.compile(r"[*+{|]|(?<!\()\?")
ENTANGLED = re.compile(r"\)[*+?{]|\\\\[1-9k]")
OWNERS = ("word", "quoted", "parameter")  # what a property may belong to, besides brackets


def check(text: str, given: Container[str] | None = None, *, distinct_last: bool = False) -> str:
    """The same text when it only reads and uses no parameter but the `given` ones (None: any).

    distinct_last: refuse an aggregate after one of DISTINCT values, which the embedded engine answers wrongly.

    Raises:
        QueryError: naming the first word, sign or parameter that is not allowed.
    """
    if len(text) > MOST_CHARACTERS:
        raise QueryError(f"the query has {len(text):,} characters, at most {MOST_CHARACTERS:,} are read")
    if "\\u" in text.lower():
        raise QueryError("the query holds a \\u escape, which can hide words; write the character itself")
    tokens = _tokens(text)
    if not tokens:
        raise QueryError("the query is empty; start with MATCH")
    if tokens[0][1].upper() not in STARTS:
        raise QueryError(f"a query starts with MATCH, OPTIONAL, WITH, UNWIND or RETURN, not {tokens[0][1][:30]!r}")
    for place, (kind, word) in enumerate(tokens):
        after = tokens[place + 1][1] if place + 1 < len(tokens) else ""
        if kind == "quoted" and after == "(":
            raise QueryError(f"a quoted function name {word} is not allowed")
        if kind == "parameter" and given is not None and word[1:] not in given:
            raise QueryError(f"the query uses {word}, which is not given")  # an engine would read it as null
        if kind == "word":
            _check_word(word, tokens[:place][-2:], after)
        if (word, after[:1]) == ("=", "~"):
            _check_pattern(tokens[place + 2 : place + 4])
    if distinct_last:
        _check_aggregates(tokens)
    return text


def _check_word(word: str, before: list[Token], after: str) -> None:
    if _is_property(before):
        if after == "(":
            raise QueryError(f"namespaced functions such as …{word}() are not allowed")
        return
    if before and before[-1][1] in (":", "|") and after != "(":  # a label or relation type
        return
    plain = unicodedata.normalize("NFKC", word).upper()  # a Kelvin sign is a K to some parsers
    if plain in DENIED:
        raise QueryError(f"{plain} is not allowed: analysts' queries only read; a name of yours goes into back-ticks")
    if after == "(" and plain not in KEYWORDS and word.lower() not in FUNCTIONS:
        raise QueryError(f"the function {word}() is not on the list of those allowed")


def _check_pattern(after: list[Token]) -> None:
    """A regular expression that backtracks is not stopped by a time limit, so only plain ones are let through."""
    if not after or after[0][0] != "string" or (after[1:] and after[1][1] in ("+", "|")):
        raise QueryError("what follows =~ is written out as one text; CONTAINS, STARTS WITH and ENDS WITH take values")
    pattern = after[0][1]
    if len(REPEAT.findall(pattern)) > MOST_REPEATS or ENTANGLED.search(pattern):
        raise QueryError(
            f"the regular expression {pattern[:30]} may run for ever: at most {MOST_REPEATS} of * + ? {{ |, none "
            "of them after a group, no \\1; often CONTAINS, STARTS WITH or ENDS WITH will do"
        )


def _check_aggregates(tokens: list[Token]) -> None:
    """In a grouped answer `count(*)` after `count(DISTINCT x)` is 0 and `min(x.id)` a crash; before it both work."""
    distinct = ""
    for (_, word), (_, opening), (_, inner) in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if word.upper() in PROJECTIONS:
            distinct = ""
        if opening == "(" and word.lower() in AGGREGATES:
            if inner.upper() == "DISTINCT":
                distinct = word
            elif distinct:
                raise QueryError(
                    f"{word}() stands after {distinct}(DISTINCT …); put aggregates of DISTINCT values last"
                )


def _is_property(before: list[Token]) -> bool:
    """After `n.`, `).` or `].`; after `1.` a clause may follow."""
    if len(before) < 2 or before[1][1] != ".":
        return False
    kind, text = before[0]
    return kind in OWNERS or text in (")", "]", "}")


def _tokens(text: str) -> list[Token]:
    tokens: list[Token] = []
    place = 0
    while place < len(text):
        found = TOKEN.match(text, place)
        if found is None:
            sign = text[place]
            hint = "; one statement at a time" if sign == ";" else ""
            raise QueryError(f"{sign!r} at character {place + 1} is not allowed in a query{hint}")
        if found.lastgroup != "space":
            tokens.append((str(found.lastgroup), found.group()))
        place = found.end()
    return tokens
