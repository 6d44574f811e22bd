"""Where the sound of a separation's page lies, by its length, and where its tracks are read from.

Short recordings are inside the page and decoded as a whole, aligned to the sample: FLAC, or MP3 where FLAC would make
the page heavy. Long ones are inside as MP3 of constant bitrate that the browser streams (report/streamed.py). Only
where even the smallest of these would be too much does the page link the files; what a browser cannot play is then
written beside it as FLAC. Everything is read back from the files, block by block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from usepcli.audio import io
from usepcli.engine.separation.record import Record, Track
from usepcli.report import listen, streamed
from usepcli.separator.how import RESIDUAL, USUAL, How

if TYPE_CHECKING:
    from usepcli.separator.separator import Watch

# Samples of all tracks and channels of a page that a browser decodes as a whole, 4 bytes each: 160 MB at most.
MOST_SAMPLES = 40_000_000
# Up to here FLAC, 1.1 (speech) to 2.1 (white noise) characters of the page per sample; above, MP3, 0.4 to 0.6.
MOST_FLAC_SAMPLES = 15_000_000
# Characters of all tracks of a page that a browser streams. Chromium draws such a page at once, has read it in a second
# and begins to play it half a second after it is asked to.
MOST_TEXT = 64_000_000
_BLOCK_S = 4.0


@dataclass
class Heard:
    """One track on its way: where its samples are, what is done to them, and what was found."""

    name: str
    kind: str
    path: Path
    how: How
    gain: float = 1.0
    lufs: float = math.nan
    peak: float = math.nan
    activity: float = math.nan
    file: str = ""
    watch: Watch | None = None

    @property
    def channels(self) -> int:
        """The number of channels that `blocks` gives."""
        return 1 if self.how.one_channel or self.averaged else io.info(self.path, self.how.track).channels

    @property
    def averaged(self) -> int:
        """The number of channels whose mean `blocks` gives, because a page plays two at most; 0 where it need not."""
        found = io.info(self.path, self.how.track).channels
        return found if found > 2 and not self.how.one_channel else 0

    def blocks(self, work: str = "") -> Iterator[np.ndarray]:
        """Yield the samples (C, t), at most two channels, before `gain`; `watch` sees those of a work with a name."""
        info = io.info(self.path, self.how.track)
        frames = round(_BLOCK_S * info.rate)
        blocks: Iterable[np.ndarray] = io.blocks(self.path, frames, track=self.how.track)
        if self.watch and work:
            blocks = self.watch(blocks, -(-info.frames // frames), f"{work}: {self.file}")
        for block in blocks:
            heard = self.how.heard(block)
            yield heard if len(heard) <= 2 else heard.mean(0, keepdims=True)


def heard(record: Record, how: How, watch: Watch | None = None) -> list[Heard]:
    """Return the input, turned down as the outputs were, and every source that has a file."""
    name = "standard input" if record.file == "-" else io.show(record.source.name)
    found = [Heard("Mixture", "mixture", record.source, how, 10 ** (record.gain_db / 20), file=name, watch=watch)]
    for track in record.written:
        rest = track.source == RESIDUAL
        label = "Residual" if rest else _asked(track) if track.query else f"Source {track.source}"
        found.append(
            Heard(
                label, "residual" if rest else "source", track.path, USUAL, lufs=track.lufs, peak=track.peak,
                activity=track.activity, file=io.show(track.path.name), watch=watch,
            )
        )  # fmt: skip
    return found


def _asked(track: Track) -> str:
    """Return the words of a query, and what is known of whether the sound is there."""
    if math.isnan(track.presence):
        return track.query
    return f"{track.query} (presence {track.presence:.2f}{', judged absent: silent' if track.silenced else ''})"


@dataclass(frozen=True)
class Place:
    """Where the sound of a page lies (`sound`, see report/separation.SOUND) and how it is stored there."""

    sound: str
    codec: str = ""  # of inside: flac or mp3
    coding: streamed.Coding | None = None  # of streamed

    def rate(self, rate: int) -> int:
        """Return the rate (Hz) of the tracks inside the page, for files of `rate`."""
        return self.coding.rate if self.coding else listen.page_rate(rate, self.codec or "flac")

    def notices(self) -> list[str]:
        """Return what a listener should know of it, in whole sentences."""
        within = (
            "Several tracks at once run together within milliseconds (tens of them just after a start or a jump), not "
            "to the sample."
        )
        if self.sound == "linked":
            kept = "this page plays the sound files themselves, so keep it where it lies beside them."
            return [f"A very long recording: {kept} {within}"]
        if self.coding:
            small = "to keep the page small; the files themselves are not"
            beside = "After a jump all tracks may lie up to a fifth of a second beside the picture."
            return [f"The sound inside this page is {self.coding}, {small}. {within} {beside}"]
        if self.codec == "mp3":
            return ["The sound inside this page is MP3, to keep the page small; the files themselves are not."]
        return []


def place(tracks: Sequence[Heard], record: Record) -> Place:
    """Decide by length, rate, and the number of tracks and channels where the sound goes."""
    samples = sum(_samples(track) for track in tracks)
    if samples <= MOST_SAMPLES:
        return Place("inside", "flac" if samples <= MOST_FLAC_SAMPLES else "mp3")
    channels = max(track.channels for track in tracks)
    found = streamed.coding(record.duration_s, len(tracks), record.rate, channels, MOST_TEXT)
    return Place("streamed", coding=found) if found else Place("linked")


def _samples(track: Heard) -> int:
    info = io.info(track.path)
    return round(info.frames * track.channels * min(1.0, listen.TOP_RATE / info.rate))


def forget(beside: Path) -> None:
    """Remove what an earlier page wrote beside itself, and nothing else that may lie there."""
    for old in (*beside.glob("source_*.flac"), beside / "mixture.flac", beside / "residual.flac"):
        old.unlink(missing_ok=True)
    with suppress(OSError):
        beside.rmdir()
