"""How the tracks of a separation's page are made: all read side by side, each encoded and drawn in a thread of its own.

Encoding takes most of a page's time, and its libraries let other threads run; the files are read, and a bar moved, by
the thread that asks, so that whatever stops it stops all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from usepcli.audio import io
from usepcli.audio.resample import StreamResampler
from usepcli.audio.written import MEDIA
from usepcli.engine.separation.record import Record
from usepcli.engine.separation.report_sound import Heard, Place
from usepcli.report import html, listen, streamed
from usepcli.report.separation import Lane

_COLUMNS = 2400
_AHEAD = 3  # blocks that wait for a track's thread
# Containers and sample formats that browsers play.
_PLAYED = {"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "MPEG"}
_PLAYED_SUBTYPES = {"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "VORBIS", "OPUS", "MPEG_LAYER_III"}


def lanes(tracks: Sequence[Heard], page: Path, where: Place, record: Record) -> list[Lane]:
    """Read every track once for its picture, and for its sound where that goes into the page or beside it.

    The `watch` of the first track sees all blocks pass, and may raise.
    """
    with ExitStack() as stack:
        hands = [stack.enter_context(_Hand(_Making(track, page, where, record, stack))) for track in tracks]
        for blocks in zip_longest(*(track.blocks("page" if track is tracks[0] else "") for track in tracks)):
            for hand, block in zip(hands, blocks, strict=True):
                if block is not None:
                    hand.push(block)
        ending = [hand.finish() for hand in hands]
        return [future.result() for future in ending]


class _Hand:
    """A thread that takes the blocks of one track in turn; what goes wrong there is raised here."""

    def __init__(self, making: _Making) -> None:
        self._making = making
        self._waiting: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._making.close()

    def push(self, block: np.ndarray) -> None:
        """Hand a block over; waits while too many wait."""
        while len(self._waiting) >= _AHEAD:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._making.push, block))

    def finish(self) -> Future[Lane]:
        """Return what comes of the track when all its blocks are through."""
        return self._pool.submit(self._finished)

    def _finished(self) -> Lane:
        for done in self._waiting:
            done.result()
        return self._making.finish()


class _Sound(Protocol):
    """Where the samples of a track go: `push` blocks (C, t), then `finish` for what a page plays."""

    def push(self, block: np.ndarray) -> Any:
        """Add a block."""

    def finish(self) -> str:
        """Return what the page has to play: sound as text, or a relative URL."""
        ...

    def close(self) -> None:
        """Let go of what is not finished."""


class _Making:
    """A track on its way onto the page: `push` its blocks (C, t), then `finish`."""

    def __init__(self, track: Heard, page: Path, where: Place, record: Record, stack: ExitStack) -> None:
        info = io.info(track.path)
        gone = track.kind == "mixture" and record.file == "-"
        self.track, self._link = track, "" if gone else html.link(track.path, page.parent)
        self._gain, self._left = np.float32(track.gain), 1.0  # applied here, and left to the page
        self._painter = listen.Painter(info.rate, _COLUMNS, seconds=info.seconds)
        self._sound: _Sound
        if where.coding:
            self._sound = streamed.Encoder(info.rate, track.channels, where.coding)
        elif where.sound == "inside":
            self._sound = listen.Encoder(info.rate, track.channels, where.codec)
        elif gone or not _played(track, info):
            self._sound = _Beside(track, page, info.rate, stack)
        else:
            self._sound, self._left = _AsItIs(track, page), track.gain

    def push(self, block: np.ndarray) -> None:
        """Draw and encode a block."""
        loud = block * self._gain
        self._painter.push(loud)
        self._sound.push(loud)

    def finish(self) -> Lane:
        """Return the track as the page takes it."""
        track = self.track
        return Lane(
            name=track.name, kind=track.kind, src=self._sound.finish(), picture=self._painter.finish(),
            lufs=track.lufs, peak=track.peak, activity=track.activity, file=track.file, link=self._link,
            gain=self._left,
        )  # fmt: skip

    def close(self) -> None:
        """Let go of what is not finished."""
        self._sound.close()


def _played(track: Heard, info: io.Info) -> bool:
    """Return whether a browser plays the file as it is to be heard."""
    return info.format in _PLAYED and info.subtype in _PLAYED_SUBTYPES and not track.how.one_channel


class _AsItIs:
    """The file itself, which the page links."""

    def __init__(self, track: Heard, page: Path) -> None:
        self._src = html.link(track.path, page.parent)

    def push(self, block: np.ndarray) -> None:
        """Nothing has to be stored."""

    def finish(self) -> str:
        """Return the link."""
        return self._src

    def close(self) -> None:
        """Nothing is open."""


class _Beside:
    """A file beside the page, 16-bit FLAC, of what browsers do not play; whole when `stack` ends well."""

    def __init__(self, track: Heard, page: Path, rate: int, stack: ExitStack) -> None:
        target = page.with_name(f"{page.stem}{MEDIA}") / f"{track.name.lower().replace(' ', '_')}.flac"
        kept, self._blank = listen.page_rate(rate), np.zeros((track.channels, 0), np.float32)
        self._src = html.link(target, page.parent)
        self._sampler = StreamResampler(rate, kept, track.channels)
        self._writer = stack.enter_context(io.Writer(target, kept, track.channels, "PCM_16", overwrite=True))

    def push(self, block: np.ndarray) -> None:
        """Write a block."""
        self._writer.write(self._sampler.push(block))

    def finish(self) -> str:
        """Write the rest and return the link."""
        self._writer.write(self._sampler.push(self._blank, last=True))
        return self._src

    def close(self) -> None:
        """The writer is let go of where it was taken."""
