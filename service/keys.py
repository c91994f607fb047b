"""Who may ask: API keys, of which only SHA-256 digests are kept.

A line a key, `name scopes sha256`, for instance `website read,events 9f86d0…`; `-` for scopes takes everything from a
key that stays known. Keys are 256 random bits, so a plain digest cannot be turned back by guessing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ConfigError, did_you_mean

SCOPES = ("read", "events", "metrics")
VARIABLE = "CATALOGRAPH_KEYS"
NAME, DIGEST = re.compile(r"[A-Za-z0-9._-]{1,64}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Key:
    """One line."""

    name: str
    scopes: frozenset[str]
    digest: str


@dataclass(frozen=True)
class Keys:
    """All keys of a service. source: the file they are in, or None when they come from the environment."""

    keys: tuple[Key, ...]
    source: Path | None = None

    def holder(self, secret: str) -> Key | None:
        """Whose secret this is. Every key is compared, in constant time, so the time tells nothing."""
        digest, found = digest_of(secret), None
        for key in self.keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def left(self) -> Keys:
        """Those whose digest still stands in the file, whatever else does; all, while it cannot be read."""
        if self.source is None:
            return self
        try:
            text = self.source.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return self
        standing = {word for words in _words(text) for word in words}
        return replace(self, keys=tuple(key for key in self.keys if key.digest in standing))


def digest_of(secret: str) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def load_keys(source: Path | None) -> Keys:
    """Keys from a file, or from CATALOGRAPH_KEYS, where a semicolon may stand for the end of a line.

    Raises:
        ConfigError: there is no key, or a line is not one.
    """
    if source is None:
        place, text = VARIABLE, os.environ.get(VARIABLE, "").replace(";", "\n")
    else:
        place, text = str(source), _text(source)
    keys = _keys(text, place)
    if not keys:
        raise ConfigError(
            f"{place} holds no API key; make one with `catalograph key FILE NAME --scope read` and name the file by "
            "--keys, or serve this machine alone by --without-keys"
        )
    return Keys(keys, source)


def renewed(before: Keys) -> Keys:
    """The keys as their file has them now. None are left where it is empty or gone: the last key may be taken, too.

    Raises:
        ConfigError: the file cannot be read, or a line is not a key.
    """
    if before.source is None:
        return before
    text = _text(before.source) if before.source.exists() else ""
    return replace(before, keys=_keys(text, str(before.source)))


def _keys(text: str, place: str) -> tuple[Key, ...]:
    keys = tuple(_key(words, f"{place}, line {n}") for n, words in enumerate(_words(text), 1) if words)
    names = [key.name for key in keys]
    twice = next((name for n, name in enumerate(names) if name in names[:n]), None)
    if twice is not None:
        raise ConfigError(f"{place}: two keys are named {twice!r}; names stand in logs and must tell keys apart")
    return keys


def _words(text: str) -> list[list[str]]:
    """Of each line, without what is commented out."""
    return [line.split("#")[0].split() for line in text.splitlines()]


def _text(source: Path) -> str:
    try:
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(
            f"{source}: the keys cannot be read ({getattr(e, 'strerror', None) or 'not UTF-8'})"
        ) from None


def _key(words: Sequence[str], place: str) -> Key:
    # The words themselves stay out of the message: somebody may have put a secret there.
    if len(words) != 3 or not NAME.fullmatch(words[0]) or not DIGEST.fullmatch(words[2]):
        raise ConfigError(f"{place} is not `name scopes sha256` (the digest in 64 hex digits)")
    scopes = frozenset() if words[1] == "-" else frozenset(words[1].split(","))
    if not scopes <= set(SCOPES):
        raise ConfigError(f"{place} names a scope that is none of {', '.join(SCOPES)}")
    return Key(words[0], scopes, words[2])


def add_key(file: Path, name: str, scopes: Sequence[str]) -> str:
    """Append a new key to a file that nobody else may read; returns the secret, which is kept nowhere.

    Raises:
        ConfigError: the name is taken or malformed, a scope is unknown, or the file cannot be written.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"a key is named by 1 to 64 letters, digits and . _ -, not {name!r}")
    for scope in scopes:
        if scope not in SCOPES:
            raise ConfigError(f"--scope: no scope {scope!r}{did_you_mean(scope, SCOPES)}")
    text = _text(file) if file.is_file() else ""
    if name in {words[0] for words in _words(text) if words}:
        raise ConfigError(f"{file} has a key {name!r} already; take its line out, or choose another name")
    secret = secrets.token_urlsafe(32)
    line = f"{name} {','.join(sorted(set(scopes))) or '-'} {digest_of(secret)}\n"
    if text and not text.endswith("\n"):
        line = "\n" + line
    try:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w", encoding="utf-8") as handle:
            handle.write(line)
    except OSError as e:
        raise ConfigError(f"{file}: the key cannot be written ({e.strerror})") from None
    return secret
