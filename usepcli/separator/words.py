"""Queries as they are typed: which are refused, and the names of sources and files that are made of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from usepcli.errors import UsageError
from usepcli.separator.how import RESIDUAL

MOST_QUERIES, MOST_LETTERS = 100, 1000  # each query is an open file, and a stream of samples in memory
_NAME_BYTES = 80
# Windows takes these for devices, whatever their case and whatever suffix follows.
_DEVICES = {"con", "prn", "aux", "nul", "clock$"} | {f"{kind}{n}" for kind in ("com", "lpt") for n in "0123456789¹²³"}


def checked(queries: Sequence[str]) -> tuple[str, ...]:
    """Return queries without the spaces around them.

    UsageError for one that is empty, holds control characters, is longer than 1000 letters or asked twice, and for
    more than 100.
    """
    if len(queries) > MOST_QUERIES:
        raise UsageError(f"--query: found {len(queries)} queries; expected at most {MOST_QUERIES} in one run")
    found: list[str] = []
    for k, query in enumerate(queries, 1):
        words = unicodedata.normalize("NFC", query.strip())
        bad = next((letter for letter in words if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")), "")
        if bad:
            raise UsageError(f"--query: query {k} holds the character {bad!a}; expected words in one line")
        if not any(letter.isprintable() and not letter.isspace() for letter in words):
            raise UsageError(f"--query: query {k} is empty; expected words such as 'a dog barking'")
        if len(words) > MOST_LETTERS:
            raise UsageError(f"--query: query {k} has {len(words)} letters; expected at most {MOST_LETTERS}")
        if words in found:
            raise UsageError(f"--query: '{words}' is asked twice; leave one out")
        found.append(words)
    return tuple(found)


def names(queries: Sequence[str]) -> tuple[str, ...]:
    """Return a name for each query that every file system takes, no two alike whatever their case.

    Letters, marks and digits of all scripts stay, anything else becomes `_`; at most 80 bytes and a number.
    """
    found: list[str] = []
    taken = {RESIDUAL}
    for query in queries:
        name = _name(query)
        tries = (name if n == 1 else f"{name}_{n}" for n in range(1, len(queries) + 3))
        name = next(one for one in tries if _key(one) not in taken)
        taken.add(_key(name))
        found.append(name)
    return tuple(found)


def _key(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()


def _name(query: str) -> str:
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in unicodedata.normalize("NFC", query))
    name = "_".join("".join(kept).split())
    name = name.encode()[:_NAME_BYTES].decode(errors="ignore").strip("_")
    # A number would count as that of a source, and a mark needs a letter to stand on.
    odd = not name or name.isdecimal() or name.casefold() in _DEVICES or unicodedata.category(name[0])[0] == "M"
    return f"query_{name}".rstrip("_") if odd else name
