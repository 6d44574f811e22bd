"""One reader of items: the mixture and the sources of a manifest's row, and files that belong to one item.

All that trains, scores or listens reads here. Training hears the mean of a file's channels; scores are taken channel
by channel, unless one is chosen. A row without a mixture file is the sum of its sources, the shorter ones followed by
silence. A file that is not what its row says is refused (data/promise.py); beyond that, lengths are brought together
in one of three ways:
  segment   every file from the same sample on, followed by silence where it ends: training
  whole     the sources are cut or followed by silence as the mixture is long: shuffled sets, sums of mixtures
  trimmed   all files are cut to the shortest of them, and a note says so: scores, where nothing may be made up
Of a row with a `start` nothing is read before that sample, nor behind `frames` from there: that is another item's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from usepcli.audio import io
from usepcli.audio.resample import length_after, resample
from usepcli.data.kept import Kept
from usepcli.data.manifest import Manifest, Row
from usepcli.data.promise import check_channels, check_row
from usepcli.data.store import AudioStore
from usepcli.errors import BadInput

CHANNELS = ("each", "first", "mix")  # what is made of a file's channels: all of them, the first, or their mean


class Item(NamedTuple):
    """One item, float32 at `rate` Hz: mix (T,), sources (K, T) or None where none were asked for, and a note.

    Of several channels mix is (C, T) and sources are (K, C, T).  first: the sample of its files, at `rate`, with which
    a segment begins.
    """

    mix: np.ndarray
    sources: np.ndarray | None
    rate: int
    note: str = ""
    first: int = 0


class Reader:
    """Reads a manifest's items at `rate` Hz; `seconds` is the length of a segment, or the most that is read (0: all).

    kept: where what segments are cut from stays.  channels: one of CHANNELS; of segments there is one channel.
    BadInput or InputNotFound for files that cannot be used, or are not what the manifest says.
    """

    def __init__(
        self,
        manifest: Manifest,
        rate: int,
        seconds: float = 0.0,
        kept: Kept | None = None,
        channels: str = "mix",
    ) -> None:
        self.manifest, self.rate, self.seconds, self.channels = manifest, rate, seconds, channels
        self.frames = round(seconds * rate)
        self._store = AudioStore(rate, kept, channels)

    def segment(self, row: Row, draw: np.random.Generator, with_sources: bool) -> Item:
        """Return `seconds` from a place that is drawn, the same in all files of a row; 0: all of it."""
        total = row.frames * self.rate // row.sample_rate if row.sample_rate else row.frames
        start = int(draw.integers(max(total - self.frames, 0) + 1)) if self.frames else 0
        count = self.frames
        if row.start is not None:
            start += -(-row.start * self.rate // (row.sample_rate or self.rate))
            count = min(count or total, total)
        self._check(row, with_sources)
        if self.channels == "mix" and (with_sources or not row.mixture):
            places = self._listed(row)
            check_channels([self.manifest.resolve(row.mixture), *places] if row.mixture else places, self._store.header)
        if not self.frames and row.start is None:
            return self._item(row, self._store.whole, with_sources)
        if not self.frames:
            return self._item(row, lambda path: self._store.segment(path, start, count), with_sources, start)
        over = self._over(row, start)

        def read(path: Path) -> np.ndarray:
            wave = np.zeros(1, np.float32) if path in over else self._store.segment(path, start, count)
            if not wave.size:
                raise BadInput(f"{io.show(path)}: ends before sample {start}; shorter than the manifest says")
            return np.pad(wave, (0, self.frames - wave.size))

        return self._item(row, read, with_sources, start)

    def whole(self, row: Row, with_sources: bool = False) -> Item:
        """Return an item from its beginning, at most `seconds` of it."""
        self._check(row, with_sources)
        return self._item(row, lambda path: self._first(path, row), with_sources)

    def sources(self, row: Row, length: int) -> np.ndarray:
        """Return the sources (K, length) of a row from their beginning; its mixture is not opened."""
        check_row(row, None, self._listed(row), self._store.header)
        return fitted([self._first(path, row) for path in self._listed(row)], length)

    def averaged(self, row: Row, with_sources: bool) -> int:
        """Return of how many files of a row the mean of several channels is taken; their headers are known by then."""
        if self.channels != "mix":
            return 0
        places = [self.manifest.resolve(row.mixture)] if row.mixture else []
        places += self._listed(row) if with_sources or not row.mixture else []
        return sum(self._store.header(place).channels > 1 for place in places)

    def _check(self, row: Row, with_sources: bool) -> None:
        check(self.manifest, row)
        mixture = self.manifest.resolve(row.mixture) if row.mixture else None
        sources = self._listed(row) if with_sources or mixture is None else []
        check_row(row, mixture, sources, self._store.header)

    def _item(self, row: Row, read: Callable[[Path], np.ndarray], with_sources: bool, first: int = 0) -> Item:
        mix = read(self.manifest.resolve(row.mixture)) if row.mixture else None
        refs = None
        if mix is None or (with_sources and row.sources):
            waves = [read(path) for path in self._listed(row)]
            refs = fitted(waves, mix.shape[-1] if mix is not None else max(wave.shape[-1] for wave in waves))
        if mix is None:
            assert refs is not None
            mix = refs.sum(0)
        return Item(mix, refs if with_sources else None, self.rate, first=first)

    def _over(self, row: Row, start: int) -> set[Path]:
        """Return the sources that are over before sample `start` of a sum: it lasts as long as the longest of them."""
        if row.mixture:
            return set()
        found = {path: self._store.header(path) for path in self._listed(row)}
        over = {path for path, said in found.items() if length_after(said.frames, said.rate, self.rate) <= start}
        return over if len(over) < len(found) else set()

    def _listed(self, row: Row) -> list[Path]:
        return [self.manifest.resolve(path) for path in row.sources]

    def _first(self, path: Path, row: Row) -> np.ndarray:
        wave, own = _heard(path, self.channels, row, self.seconds)
        if not wave.size:
            raise BadInput(f"{io.show(path)}: empty; replace or remove the file")
        return resample(wave, own, self.rate)


def trimmed_item(manifest: Manifest, row: Row, summed: bool = False, channels: str = "mix") -> Item:
    """Return a row's mixture and sources at their files' own rate, cut to the shortest; BadInput as for `together`.

    summed: the mixture is the sum of the sources, as long as the row says; its file is not opened.
    """
    check(manifest, row)
    places = [manifest.resolve(name) for name in row.sources]
    mixture = None if summed or not row.mixture else manifest.resolve(row.mixture)
    check_row(replace(row, mixture="") if summed else row, mixture, places, io.info, covered=False)
    names = row.sources if summed or not row.mixture else (row.mixture, *row.sources)
    waves, rate = together([manifest.resolve(name) for name in names], channels, row)
    if len(names) > len(row.sources):
        cut, note = trimmed(waves)  # (1 + K, T)
        return Item(cut[0], cut[1:], rate, note)
    longest = max(wave.shape[-1] for wave in waves)
    length = row.frames if summed and row.frames and row.sample_rate == rate else longest
    sources = fitted(waves, length)
    return Item(sources.sum(0), sources, rate)


def check(manifest: Manifest, row: Row) -> None:
    """BadInput for a row that names no file to hear."""
    if not row.mixture and not row.sources:
        raise BadInput(f"{manifest.path}: item {row.id} has neither a mixture nor sources")


def together(paths: Sequence[Path], channels: str = "mix", row: Row | None = None) -> tuple[list[np.ndarray], int]:
    """Read files whole, or what a row means of them, float32 (T,), or (C, T) of several channels each; and their rate.

    channels: one of CHANNELS.  BadInput for two rates, and for two numbers of channels where each is read.
    """
    waves, rates = zip(*(_heard(path, channels, row) for path in paths), strict=True)
    odd = next((i for i, rate in enumerate(rates) if rate != rates[0]), None)
    if odd is not None:
        raise BadInput(f"{paths[odd]}: {rates[odd]} Hz but {paths[0]}: {rates[0]} Hz; expected one rate per item")
    counts = [len(np.atleast_2d(wave)) for wave in waves]
    odd = next((i for i, count in enumerate(counts) if count != counts[0]), None)
    if odd is not None:
        raise BadInput(
            f"{paths[odd]}: channels: {counts[odd]}, but {counts[0]} in {paths[0]}; expected as many in every file of "
            "an item: choose --channels first or mix"
        )
    return list(waves), rates[0]


def _heard(path: Path, channels: str, row: Row | None = None, seconds: float = 0.0) -> tuple[np.ndarray, int]:
    """Read what a row means of one of its files, at most `seconds` of it (0: all), and the file's rate."""
    start, count = 0, -1
    if seconds:
        count = round(seconds * io.info(path).rate)
    if row is not None and row.start is not None and row.sample_rate:
        own = io.info(path).rate
        start, length = (round(n * own / row.sample_rate) for n in (row.start, row.frames))
        count = min(count, length) if seconds else length
    if channels == "mix":
        return io.read_mono(path, start, count)
    wave, rate = io.read(path, start, count)
    return (wave[0] if len(wave) == 1 or channels == "first" else wave), rate


def trimmed(waves: Sequence[np.ndarray]) -> tuple[np.ndarray, str]:
    """Return waves (T,) or (C, T) cut to the shortest of them (N, ..., T), and a note if any was longer."""
    lengths = sorted({wave.shape[-1] for wave in waves})
    note = "" if len(lengths) == 1 else f"trimmed from {lengths[-1]} to {lengths[0]} samples"
    return fitted(waves, lengths[0]), note


def fitted(waves: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Return waves (N, ..., length), each cut or followed by silence."""
    return np.stack([_fit(wave, length) for wave in waves])


def _fit(wave: np.ndarray, length: int) -> np.ndarray:
    missing = max(0, length - wave.shape[-1])
    return np.pad(wave[..., :length], [*[(0, 0)] * (wave.ndim - 1), (0, missing)])
