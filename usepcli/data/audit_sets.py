"""Faults that show between files, or in names alone: duplicates, talkers in two splits, mixed microphones, odd rates,
names that a spreadsheet takes for formulas.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from usepcli.data.audit import ERROR, WARNING, Finding, Item, Result
from usepcli.files import show

_WV = re.compile(r"[._-]wv([12])(?=[._-]|$)", re.IGNORECASE)  # WSJ: wv1 close microphone, wv2 a second one
# A cell that begins so is worked out by a spreadsheet, whatever quotes stand around it in the file.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def audit_set(results: Sequence[Result], talkers: Iterable[tuple[str, str]]) -> list[Finding]:
    """Return the faults between the items of one table; talkers are pairs (speaker, split)."""
    items, talkers = [result.item for result in results], list(talkers)
    return [
        *_names(items, talkers),
        *_same_ids(items),
        *_same_content(results),
        *_torn_talkers(talkers),
        *_microphones(items),
        *_odd_rates(results),
    ]


def _names(items: Sequence[Item], talkers: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    """Name cells that are no names to a spreadsheet, or not to a reader's eye: the first of each item, and talkers."""
    for item in items:
        cells = (item.id, item.whole, *item.sources, item.noise)
        if found := next(((cell, why) for cell in cells if (why := _unlike_a_name(cell))), None):
            yield Finding(WARNING, "name", item.split, item.id, item.whole, f"{found[0]!r} {found[1]}")
    for speaker, split in sorted(set(talkers)):
        if why := _unlike_a_name(speaker):
            yield Finding(WARNING, "name", split, speaker, "", f"talker {speaker!r} {why}")


def _unlike_a_name(cell: str) -> str:
    if cell.startswith(_FORMULA):
        return "is taken for a formula where a table is opened in a spreadsheet; rename it, or import it as text"
    return "" if show(cell) == cell else "holds characters that drive a screen, or are no text; rename it"


def _same_ids(items: Sequence[Item]) -> Iterator[Finding]:
    counts = Counter(item.id for item in items)
    for item in items:
        if counts[item.id] > 1:
            yield Finding(
                ERROR,
                "duplicate-id",
                item.split,
                item.id,
                item.whole,
                f"{counts.pop(item.id)} rows have this id",
            )


def _same_content(results: Sequence[Result]) -> Iterator[Finding]:
    """Compare whole files, and between splits sources too (within a split a source may serve twice)."""
    places: dict[str, list[tuple[Item, str]]] = defaultdict(list)
    for result in results:
        for path, digest in result.digests.items():
            places[digest].append((result.item, path))
    for found in places.values():
        (first, first_path), *others = dict.fromkeys(found)
        told = {first_path}
        for item, path in others:
            if path in told and item.split == first.split:
                continue
            told.add(path)
            twin = f"the same samples as {first_path} ({first.split or 'no split'})"
            if item.split != first.split:
                yield Finding(ERROR, "leak", item.split, item.id, path, f"{twin}: the splits are not independent")
            elif path == item.whole and first_path == first.whole:
                yield Finding(WARNING, "duplicate", item.split, item.id, path, twin)


def _torn_talkers(talkers: Iterable[tuple[str, str]]) -> Iterator[Finding]:
    splits: dict[str, set[str]] = defaultdict(set)
    for speaker, split in talkers:
        if speaker:
            splits[speaker].add(split)
    for speaker, where in sorted(splits.items()):
        if len(where) > 1:
            yield Finding(
                ERROR,
                "talker",
                "",
                speaker,
                "",
                f"talker '{speaker}' speaks in {' and '.join(sorted(where))}",
            )


def known_voices(pool: Iterable[tuple[str, str]], mixtures: Iterable[tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Return the talkers of one split of a pool who speak in another split of mixtures: to (pool's, mixtures') split.

    Both are pairs (speaker, split); a talker without a name is none of the others.
    """
    heard: dict[str, set[str]] = defaultdict(set)
    for speaker, split in mixtures:
        heard[speaker].add(split)
    found: dict[str, tuple[str, str]] = {}
    for speaker, split in pool:
        others = sorted(heard.get(speaker, set()) - {split}) if speaker else []
        if others:
            found.setdefault(speaker, (split, others[0]))
    return found


def _microphones(items: Sequence[Item]) -> Iterator[Finding]:
    """Find second microphones: WSJ recorded all twice, and no usual corpus takes the noisier wv2."""
    found: dict[str, dict[str, Item]] = defaultdict(dict)
    named = [
        (item, path, match) for item in items for path in (item.whole, *item.sources) if (match := _WV.search(path))
    ]
    for item, path, match in named:
        utterance = _WV.sub("", re.split(r"[/\\]", path)[-1])
        found[utterance][match[1]] = item
    kinds = {match[1] for _, _, match in named}
    for item, path, match in named:
        if match[1] != "2":
            continue
        utterance = _WV.sub("", re.split(r"[/\\]", path)[-1])
        if len(found[utterance]) == 2:
            yield Finding(ERROR, "wv1-wv2", item.split, item.id, path, "both microphones of one utterance are listed")
        else:
            level = ERROR if "1" in kinds else WARNING
            mixed = " among wv1 files" if "1" in kinds else ""
            yield Finding(level, "wv1-wv2", item.split, item.id, path, f"the second microphone (wv2){mixed}")


def _odd_rates(results: Sequence[Result]) -> Iterator[Finding]:
    """Where no rate was promised, name the files that differ from most others."""
    counts = Counter(rate for result in results if not result.item.rate for rate in result.rates.values())
    if len(counts) < 2:
        return
    usual = counts.most_common(1)[0][0]
    for result in results:
        for path, rate in result.rates.items():
            if rate != usual and not result.item.rate:
                detail = f"{rate} Hz where most files have {usual} Hz"
                yield Finding(WARNING, "rate", result.item.split, result.item.id, path, detail)
