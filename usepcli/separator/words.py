"""Queries as they are typed: which are refused, and the names of sources and files that are made of them.

A query is words, or a path: a clip that sounds like what is meant, for models that hear such.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from usepcli.encoders.templates import ONE
from usepcli.errors import InputNotFound, UsageError
from usepcli.files import sha256, show
from usepcli.separator.how import RESIDUAL

Query = str | Path

USUAL, USUAL_ASKED, USUAL_LIVE = "default", "words_small", "live"  # the models that separate where none is named
MOST_QUERIES, MOST_LETTERS = 100, 1000  # each query is an open file, and a stream of samples in memory
_NAME_BYTES = 80
# Windows takes these for devices, whatever their case and whatever suffix follows.
_DEVICES = {"con", "prn", "aux", "nul", "clock$"} | {f"{kind}{n}" for kind in ("com", "lpt") for n in "0123456789¹²³"}


@dataclass(frozen=True)
class Asked:
    """What a model by query is asked for in one run: sounds to have, and sounds to take out."""

    wanted: tuple[Query, ...] = ()
    without: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.queries)

    @property
    def queries(self) -> tuple[Query, ...]:
        """All that the model answers, one source each, in the order of the outputs."""
        return (*self.wanted, *self.without)

    @property
    def labels(self) -> tuple[str, ...]:
        """What people call each of them."""
        return tuple(map(label, self.queries))

    @property
    def usual_model(self) -> str:
        """The model that separates where none is named."""
        return USUAL_ASKED if self else USUAL

    @property
    def subtracts(self) -> bool:
        """Whether the rest is what is asked for: the input without what is named."""
        return bool(self.without) and not self.wanted

    def names(self, rest: bool) -> tuple[str, ...]:
        """Return the names of the sources, and of the rest where that is one more."""
        if not self.subtracts:
            return (*names(self.labels), RESIDUAL) if rest else names(self.labels)
        found = names([*self.labels, f"without {' and '.join(self.without)}"])
        return found if rest else found[:-1]

    def settings(self) -> dict[str, list[str]]:
        """Return what tells the outputs of one set of queries from those of another."""
        wanted = [query if isinstance(query, str) else f"{label(query)}, {sha256(query)}" for query in self.wanted]
        return {key: value for key, value in (("queries", wanted), ("without", list(self.without))) if value}


NOTHING = Asked()


def asked(
    queries: Sequence[Query] = (), like: Sequence[str | Path] = (), without: Sequence[str] = (),
    caption: str | None = None,
) -> Asked:  # fmt: skip
    """Return what is asked for, with the phrases of a caption behind the queries; UsageError as of `checked`.

    like: paths of clips, which are queries, too.  InputNotFound for one that is not there.
    """
    meant: list[Query] = [*queries, *(Path(path).expanduser() for path in like)]
    said = checked([query for query in meant if not isinstance(query, Path)])
    found, taken = phrases_of(caption, said), checked(without, "--without")
    if both := {_plain(query) for query in (*said, *found)} & {_plain(query) for query in taken}:
        raise UsageError(f"--without: '{min(both):.60}' is asked for and to be taken out; leave one of them out")
    _check_clips([query for query in meant if isinstance(query, Path)])
    told = iter(said)
    whole = Asked((*(query if isinstance(query, Path) else next(told) for query in meant), *found), taken)
    _refuse_many(len(whole.queries), "--query")
    return whole


def phrases_of(caption: str | None, known: Sequence[str] = ()) -> list[str]:
    """Return the phrases of a caption that are not known; none without one, UsageError for an empty one."""
    if caption is None:
        return []
    from usepcli.data.phrases import phrases

    plain = {_plain(query) for query in known}
    return [phrase for phrase in phrases(checked([caption], "--caption")[0]) if _plain(phrase) not in plain]


def _check_clips(clips: Sequence[Path]) -> None:
    for k, clip in enumerate(clips):
        if not clip.is_file():
            raise InputNotFound(
                f"--like: {show(clip)}: no such file; expected a clip that sounds like what is asked for"
            )
        if any(clip.samefile(other) for other in clips[:k]):
            raise UsageError(f"--like: {show(clip)} is given twice; leave one out")


def _refuse_many(count: int, where: str) -> None:
    if count > MOST_QUERIES:
        raise UsageError(f"{where}: found {count} queries; expected at most {MOST_QUERIES} in one run")


def label(query: Query) -> str:
    """Return what people call a query."""
    return query if isinstance(query, str) else f"like {show(query.stem)}"


def checked(queries: Sequence[str], where: str = "--query") -> tuple[str, ...]:
    """Return queries without the spaces around them; `where` they were found begins what is said of them.

    UsageError for one that is empty, holds control characters, is longer than 1000 letters or asked twice, whatever its
    case and spaces, and for more than 100.
    """
    _refuse_many(len(queries), where)
    found: dict[str, str] = {}
    for k, query in enumerate(queries, 1):
        if not isinstance(query, str):
            raise UsageError(f"{where}: query {k} is {query!r:.60}; expected words such as 'a dog barking'")
        words = unicodedata.normalize("NFC", query.strip())
        bad = next((letter for letter in words if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")), "")
        if bad:
            raise UsageError(f"{where}: query {k} holds the character {bad!a}; expected words in one line")
        if not any(letter.isprintable() and not letter.isspace() for letter in words):
            raise UsageError(f"{where}: query {k} is empty; expected words such as 'a dog barking'")
        if len(words) > MOST_LETTERS:
            raise UsageError(f"{where}: query {k} has {len(words)} letters; expected at most {MOST_LETTERS}")
        if _plain(words) in found:
            raise UsageError(f"{where}: '{words:.60}' is asked twice; leave one out")
        found[_plain(words)] = words
    return tuple(found.values())


def _plain(words: str) -> str:
    """Return words as they are compared: closed lists take "rain" for "the sound of rain"."""
    return " ".join(unicodedata.normalize("NFKC", words).casefold().split()).removeprefix(ONE.lower())


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
