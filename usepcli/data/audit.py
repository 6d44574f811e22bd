"""What is wrong with sound files and with mixtures: one finding for each fault."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np

from usepcli import guard
from usepcli.audio import io, raws, tars
from usepcli.audio.extent import extent
from usepcli.data import rttm
from usepcli.data.items import fitted
from usepcli.data.words import fault_of
from usepcli.errors import InputNotFound

ERROR, WARNING = "error", "warning"
_SILENT = 10 ** (-80 / 20)
_CLIP_LEVEL = 0.999
_CLIP_RUN = 3
_SUM_ERROR_DB, _SUM_WARNING_DB = 20.0, 40.0  # rounding each source to 16 bits alone leaves far more
_DC_LEVEL, _DC_SHARE = 1e-3, 0.1


@dataclass(frozen=True)
class Finding:
    """One fault: `level` is error if it would spoil a training, else warning; `kind` sorts faults."""

    level: str
    kind: str
    split: str
    id: str
    path: str
    detail: str


@dataclass(frozen=True)
class Item:
    """What to audit together: a mixture with its parts, or one recording (`whole`) alone."""

    id: str
    split: str
    whole: str
    rate: int
    frames: int
    root: Path
    sources: tuple[str, ...] = ()
    noise: str = ""
    queries: tuple[str, ...] = ()
    start: int | None = None  # of a stretch of `frames` samples, where the item is not its whole files
    activity: str = ""


@dataclass
class Result:
    """The findings of one item, a digest of each file's samples, and how well its parts add up (dB)."""

    item: Item
    findings: list[Finding] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    sum_snr_db: float | None = None
    rates: dict[str, int] = field(default_factory=dict)

    def add(self, level: str, kind: str, path: str, detail: str) -> None:
        """Note one finding."""
        self.findings.append(Finding(level, kind, self.item.split, self.item.id, path, detail))


def audit_item(item: Item) -> Result:
    """Read every file of an item once and return all that is wrong with them; never raises for bad data."""
    result = Result(item)
    try:
        _audit(result)
    except Exception as error:
        result.add(ERROR, "unreadable", item.whole, guard.reason(error, item.whole or item.id))
    return result


def _audit(result: Result) -> None:
    item = result.item
    whole = _audit_file(result, item.whole, item.rate, item.frames) if item.whole else None
    if item.whole and whole is not None and not _loud(whole):
        result.add(ERROR, "silent", item.whole, _silence(item, item.whole))
    parts = []
    for path in (*item.sources, *([item.noise] if item.noise else [])):
        wave = _audit_file(result, path, item.rate, 0)
        parts.append(wave)
        if wave is not None and not _loud(wave):
            result.add(WARNING, "silent-source", path, _silence(item, path))
    found = [part for part in parts if part is not None]
    if whole is not None and parts and len(found) == len(parts):
        _audit_sum(result, whole, found)
    if item.queries:
        _audit_queries(result)
    if item.activity:
        _audit_turns(result)
    if not item.whole:
        _audit_unmixed(result, found[: len(item.sources)] if len(found) == len(parts) else [])


def _audit_queries(result: Result) -> None:
    item = result.item
    if fault := fault_of(item.queries, len(item.sources)):
        result.add(ERROR, "queries", "", fault)
    twice = [query for query, count in Counter(item.queries).items() if query and count > 1]
    if twice:
        result.add(WARNING, "same-query", "", f"'{twice[0]}' asks for two sources, which no model can tell apart")


def _audit_turns(result: Result) -> None:
    item = result.item
    place = tars.located(item.root, item.activity)
    try:
        turns = rttm.of_recording(place, PurePath(item.whole).stem)
    except Exception as error:
        result.add(ERROR, "turns", item.activity, guard.reason(error, place))
        return
    end = item.frames / item.rate if item.start is None and item.frames and item.rate else math.inf
    late = sum(turn.begin >= end for turn in turns)
    if late:
        result.add(WARNING, "turns", item.activity, f"{late} turns begin behind the end of the recording, {end:g} s")
    if not turns:
        result.add(WARNING, "turns", item.activity, "no turn of any talker: nobody speaks")


def _audit_unmixed(result: Result, sources: list[np.ndarray]) -> None:
    """Look at a mixture that is the sum of its sources, no file; sources: none where one cannot be used."""
    item = result.item
    if not item.sources:
        result.add(ERROR, "missing", "", "neither a mixture nor sources")
    if not sources:
        return
    if not _loud(fitted(sources, max(map(len, sources))).sum(0)):
        result.add(ERROR, "silent", item.sources[0], "the sum of the sources is silent: nothing above -80 dBFS")
    longest = max(map(len, sources))
    if item.frames and longest != item.frames:
        detail = f"sources of up to {longest} samples, and no mixture, where the list says {item.frames}"
        result.add(WARNING, "length", item.sources[0], detail)


def _audit_file(result: Result, path: str, rate: int, frames: int) -> np.ndarray | None:
    """Return the mono samples, or None if they cannot be used; frames 0: the length is not known."""
    place = tars.located(result.item.root, path)
    try:
        header = io.info(place)
    except Exception as error:
        kind = (
            "missing"
            if isinstance(error, InputNotFound)
            else "empty"
            if place.is_file() and not place.stat().st_size
            else "unreadable"
        )
        result.add(ERROR, kind, path, guard.reason(error, place))
        return None
    if not header.frames:
        result.add(ERROR, "empty", path, "a header without samples")
        return None
    result.rates[path] = header.rate
    if rate and header.rate != rate:
        result.add(ERROR, "rate", path, f"{header.rate} Hz where {rate} Hz were expected")
    if header.channels > 1:
        result.add(WARNING, "channels", path, f"{header.channels} channels; their mean would be used")
    try:
        start, count = (0, -1) if result.item.start is None else (result.item.start, result.item.frames)
        wave, _ = io.read_mono(place, start, count, finite=False)
    except Exception as error:
        result.add(ERROR, "truncated", path, guard.reason(error, place))
        return None
    for finding in _length_faults(place, header, len(wave), frames) if result.item.start is None else ():
        result.add(*finding[:2], path, finding[2])
    for finding in _sample_faults(wave):
        result.add(*finding[:2], path, finding[2])
    if not np.isfinite(wave).all():
        return None
    if _loud(wave):  # two silent files are no duplicates
        result.digests[path] = hashlib.sha1(wave.tobytes(), usedforsecurity=False).hexdigest()
    return wave


def _length_faults(place: Path, header: io.Info, found: int, frames: int) -> Iterator[tuple[str, str, str]]:
    layout = io.wav_layout(place)
    if layout and layout.declared and layout.offset + layout.declared > raws.facts(place).size:
        yield ERROR, "truncated", "the header promises more samples than the file holds"
    elif found < 0.99 * header.frames:
        yield ERROR, "truncated", f"{found} of {header.frames} samples can be decoded"
    elif (held := extent(place)).left_over_bytes:
        yield WARNING, "left-over", f"{held.left_over_bytes} bytes behind what can be read: another file joined to it?"
    elif held.missing_s:
        yield ERROR, "truncated", f"{held.missing_s} s shorter than its header or its size says"
    elif frames and found != frames:
        yield ERROR, "length", f"{found} samples where the list says {frames}"


def _sample_faults(wave: np.ndarray) -> Iterator[tuple[str, str, str]]:
    bad = int((~np.isfinite(wave)).sum())
    if bad:
        yield ERROR, "not-finite", f"{bad} samples are NaN or infinite"
        return
    mean, rms = float(wave.mean(dtype=np.float64)), float(np.sqrt(np.mean(wave.astype(np.float64) ** 2)))
    if abs(mean) > max(_DC_LEVEL, _DC_SHARE * rms):
        yield WARNING, "dc", f"the mean is {mean:+.4f}, {abs(mean) / rms:.0%} of the rms"
    clipped = _clipped_runs(wave)
    if clipped:
        yield WARNING, "clipping", f"{clipped} runs of {_CLIP_RUN} or more samples at full scale"


def _clipped_runs(wave: np.ndarray) -> int:
    """Return how many times at least three samples in a row stand at full scale on the same side."""
    runs = 0
    for side in (wave >= _CLIP_LEVEL, wave <= -_CLIP_LEVEL):
        edges = np.flatnonzero(np.diff(np.concatenate(([False], side, [False])).astype(np.int8)))
        runs += int((edges[1::2] - edges[::2] >= _CLIP_RUN).sum())
    return runs


def _loud(wave: np.ndarray) -> bool:
    return bool(np.isfinite(wave).all() and np.abs(wave).max() > _SILENT)


def _silence(item: Item, path: str) -> str:
    """Say of a file whose mean over the channels is silent whether the channels are, too."""
    start, count = (0, -1) if item.start is None else (item.start, item.frames)
    channels = io.read(tars.located(item.root, path), start, count, finite=False)[0]
    if any(map(_loud, channels)):
        return f"the mean of its {len(channels)} channels is silent: they cancel each other, each alone sounds"
    return "silent: nothing above -80 dBFS"


def _audit_sum(result: Result, whole: np.ndarray, parts: list[np.ndarray]) -> None:
    total = np.zeros(len(whole))
    for path, part in zip((*result.item.sources, result.item.noise), parts, strict=False):
        if len(part) != len(whole):
            level = ERROR if len(part) > len(whole) else WARNING
            result.add(level, "source-length", path, f"{len(part)} samples beside a mixture of {len(whole)}")
        count = min(len(part), len(whole))
        total[:count] += part[:count]
    power = float(np.mean(whole.astype(np.float64) ** 2))
    rest = float(np.mean((whole - total) ** 2))
    if not power:
        return
    snr = float("inf") if rest == 0 else 10 * np.log10(power / rest)
    result.sum_snr_db = float(snr)
    if snr < _SUM_WARNING_DB:
        level = ERROR if snr < _SUM_ERROR_DB else WARNING
        result.add(level, "sum", result.item.whole, f"the sources differ from the mixture: {snr:.1f} dB SNR")
