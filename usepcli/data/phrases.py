"""Captions of whole mixtures as phrases that name one source each, and prompts for one source or several.

The rules cut a caption in English at punctuation, at words that join two events ("followed by", "while", "over"), and
at an "and" between two events.  An "and" inside one subject ("a man and a woman talking") does not cut: nothing before
it does anything, and what follows does.  Captions in another language are one phrase.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from usepcli.data.manifest import Phrase
from usepcli.encoders.templates import ONE, SEVERAL
from usepcli.errors import BadInput, InputNotFound, MissingDependency
from usepcli.files import show


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_BE = r"(?:(?:is|are|was|were|being|be)\s+)?"
_FOLLOWED = (
    rf"(?:and\s+|then\s+)*{_BE}(?:(?:immediately|shortly|quickly|soon|then)\s+)?(?:followed|accompanied|joined)\s+by"
)
_JOINS = (
    "along with", "together with", "as well as", "and then", "at the same time as", "mixed with", "in front of",
    "while", "whilst", "whereas", "when", "before", "after", "during", "then", "with", "over", "amid", "amidst",
    "but", "plus", r"(?<!such )as", "alongside", "against a background of", "against",
)  # fmt: skip
_CUT = re.compile(
    rf"\s*[;!?]+\s*|\s*[,:](?!\d)\s*|\s+[/&+]\s+|\.(?:\s+|$)|\s*\.{{3,}}\s*|\b(?:{_FOLLOWED}|{'|'.join(_JOINS)})\b",
    re.IGNORECASE,
)
_AND = re.compile(r"(?<!\brock)(?<!\bdrum)(?<!\brhythm)(?<!\bcountry)\s+and\s+", re.IGNORECASE)
_EDGES = re.compile(
    r"^(?:(?:and|then|or|also|again|by|finally|afterwards|later|suddenly|the sounds? (?:mixture )?of)\s+)+"
    r"|(?:\s+(?:and|then|or|occurs?|nearby|again|afterwards|later|together|simultaneously|is heard|are heard"
    r"|can be heard|in the (?:far |near )?(?:background|distance|foreground)))+$",
    re.IGNORECASE,
)
_BARE = _set(
    """
    a again an and are background continue continues continuously distance end ends follows foreground he heard
    in intermittently is it loudly nearby occur occurs of or others quietly repeatedly she softly someone
    something somewhere start starts stop stops the then there they
    """
)
_ENGLISH = _set(
    """
    a an and are as bird birds by car cat child dog engine followed is man men music noise of over people rain
    several some sound sounds the then water while wind with woman women
    """
)
_FOREIGN = _set(
    """
    avec con dans das der des deux dos du e een ein eine einen el en et ett gli het il im las le les lo los mit
    o och og os que um uma un una und uno y zwei
    """
)
_NO_VERBS = _set(
    """
    anything building ceiling clearing during evening everything king morning nothing plumbing ring something
    spring sting string swing thing wedding wing
    """
)
_VERBS = _set(
    """
    accelerate applaud bark beep bleat blow buzz call chatter cheer chime chirp clang clap clatter click cluck
    conversate converse cough crack crackle crash creak croak crow cry drip drive drum fire flow follow give
    growl grunt gurgle hiss honk hoot howl hum idle laugh meow moan moo move mumble murmur neigh occur oink pass
    play pop pour purr quack rattle rev ring roar rumble run rustle scream screech shout sing sizzle slam snap
    sneeze sniff snore snort sound speak splash splatter spray squawk squeak squeal talk tap thump thunder tick
    toll trickle tweet vibrate wail whimper whine whir whisper whistle whoosh yell yelp
    """
)


class Chosen(NamedTuple):
    """As many phrases as were asked for; incomplete: some of the caption's were left out, so no sum is whole."""

    phrases: tuple[Phrase, ...]
    incomplete: bool


def phrases(caption: str, spacy: str = "") -> list[str]:
    """Return the phrases of a caption, in its order and without repetition; the caption itself where it has none.

    spacy: the folder of a spaCy model, which then cuts instead of the rules.  [] for a caption without a word.
    """
    whole = " ".join(caption.split())
    if not whole:
        return []
    if not english(whole):
        return [whole]
    parts = _by_model(whole, spacy) if spacy else _by_rules(whole)
    found: dict[str, str] = {}
    for part in map(_clean, parts):
        if part and not set(_words(part)) <= _BARE:
            found.setdefault(_key(part), part[0].upper() + part[1:])
    return list(found.values()) or [whole]


def english(caption: str) -> bool:
    """Return whether the rules may cut a caption: Latin letters without pictures, and no words of other languages."""
    if any(ord(letter) > 0x24F and not 0x2000 <= ord(letter) <= 0x206F for letter in caption):
        return False
    words = _words(caption)
    if _FOREIGN & set(words):
        return False
    return caption.isascii() or bool(_ENGLISH & set(words))


def template(sources: Sequence[str]) -> str:
    """Return the prompt of one source or of a mixture of several, underscores as spaces (S003, Table 4)."""
    names = [" ".join(source.replace("_", " ").split()) for source in sources]
    if not names or not all(names):
        raise BadInput(f"a prompt for the sources {list(sources)}: one name or more, none of them empty, were expected")
    if len(names) == 1:
        return f"{ONE}{names[0]}"
    if len(names) == 2:
        return f"{SEVERAL}{names[0]} and {names[1]}"
    return f"{SEVERAL}{', '.join(names[:-1])}, and {names[-1]}"


def fixed(found: Sequence[Phrase], count: int, draw: np.random.Generator) -> Chosen:
    """Return `count` phrases, drawn where there are more different ones; of fewer, some come again.

    The weights of one phrase add up to those it had, so that the weighted sum of what all name is the mixture (S003,
    E.1).
    """
    if count < 1 or not found:
        raise BadInput(f"{count} of {len(found)} phrases: at least one of at least one was expected")
    weights: dict[str, float] = {}
    for text, weight in found:
        weights[text] = weights.get(text, 0.0) + weight
    own = [*weights]
    if len(own) > count:
        kept = sorted(draw.choice(len(own), count, replace=False).tolist())
        return Chosen(tuple(Phrase(own[k], weights[own[k]]) for k in kept), True)
    places = [*range(len(own)), *draw.integers(len(own), size=count - len(own)).tolist()]
    times = Counter(places)
    return Chosen(tuple(Phrase(own[k], weights[own[k]] / times[k]) for k in places), False)


def _words(text: str) -> list[str]:
    return re.findall(r"[\w'’]+", text.lower())


def _key(part: str) -> str:
    words = [word for word in _words(part) if word not in ("a", "an", "the")]
    return " ".join(words) or part


def _clean(part: str) -> str:
    before = ""
    while before != part:
        before, part = part, _EDGES.sub("", part.strip(" .,;:!?-\"'“”")).strip()
    return part


def _by_rules(caption: str) -> list[str]:
    return [piece for part in _CUT.split(caption) for piece in _at_and(part)]


def _at_and(part: str) -> list[str]:
    """Cut at every "and" between two events, or between two names where nothing says what they do."""
    pieces = _AND.split(part.strip())
    cut = [pieces[0]]
    for piece in pieces[1:]:
        if _one(cut[-1], piece):
            cut[-1] = f"{cut[-1]} and {piece}"
        else:
            cut.append(piece)
    return cut


def _one(left: str, right: str) -> bool:
    """Return whether "left and right" names one event: a shared verb, or another word of the same kind."""
    ends = _words(right)
    if not ends or not _words(left):
        return True
    adverbs = all(word.endswith("ly") or word in _BARE for word in ends) or ends in (["off"], ["on"], ["forth"])
    return adverbs or (not _acts(left) and _acts(right))


def _acts(part: str) -> bool:
    """Return whether a part says that something sounds: a verb in -ing, or one of sound behind its subject."""
    words = _words(part)
    if any(len(word) > 4 and word.endswith("ing") and word not in _NO_VERBS for word in words):
        return True
    return any(_stem(word) for word in words[1:])


def _stem(word: str) -> bool:
    return bool({word, word.removesuffix("s"), word.removesuffix("es"), word.removesuffix("ies") + "y"} & _VERBS)


@functools.lru_cache(maxsize=1)
def _model(path: str) -> Any:
    if not Path(path).is_dir():
        raise InputNotFound(f"{show(path)}: no such folder; the folder of a spaCy model was expected")
    try:
        import spacy
    except ImportError as error:
        raise MissingDependency(f"phrases by spaCy need its package ({error}): pip install spacy") from error
    try:
        model = spacy.load(path)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"{show(path)}: no spaCy model that can be loaded: {reason}") from error
    if not model.has_pipe("parser"):
        raise BadInput(f"{show(path)}: the model has no parser; one that parses sentences was expected")
    return model


def _by_model(caption: str, path: str) -> list[str]:
    """Return the clauses (a verb and all below it but other clauses), and the noun phrases outside of them."""
    found = _model(path)(caption)
    heads = [
        token for token in found if token.pos_ == "VERB" and any(c.dep_.startswith("nsubj") for c in token.children)
    ]
    mine = {head.i: _clause(head, {other.i for other in heads}) for head in heads}
    taken = {i for places in mine.values() for i in places}
    spans = [(min(places), " ".join(found[i].text for i in sorted(places))) for places in mine.values()]
    spans += [
        (chunk.start, chunk.text) for chunk in found.noun_chunks if not taken & set(range(chunk.start, chunk.end))
    ]
    return [text for _, text in sorted(spans)]


def _clause(head: Any, heads: set[int]) -> set[int]:
    places: set[int] = set()
    left = [head]
    while left:
        token = left.pop()
        places.add(token.i)
        inside = [
            child for child in token.children if child.i not in heads and child.dep_ not in ("cc", "punct", "mark")
        ]
        left += inside
    return places
