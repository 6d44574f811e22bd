"""Rooms for fresh mixtures: every voice of a mixture through a response of its own of one room.

A voice is heard from the arrival of its direct sound on and as far as the segment lasts, at the level that it had
before. What is heard, all its echoes with it, is the reference.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from usepcli.audio import io
from usepcli.audio.resample import resample
from usepcli.data.corpora.base import Bad
from usepcli.data.corpora.responses import responses_in
from usepcli.data.rooms import arrival
from usepcli.errors import BadInput, InputNotFound
from usepcli.files import show

if TYPE_CHECKING:
    from torch import Tensor

_RATIOS = (0.8, 0.1, 0.1)  # of rooms whose splits nobody names, as for recordings
_REMEMBERED = 1000  # responses; a second of each is 64 kB at 16 kHz
_TRANSFORMED = 250  # spectra of responses; one for segments of three seconds takes 229 kB at 16 kHz


class Echo(NamedTuple):
    """A response: a channel of a file."""

    path: str
    channel: int


class Echoes:
    """Rooms at one rate, each a list of responses, which are read when they are first heard."""

    def __init__(self, rooms: Sequence[Sequence[Echo]], rate: int) -> None:
        self.rooms, self.rate = [list(room) for room in rooms], rate
        self.read_last = Path()  # the file that was asked for last

    def __call__(self, waves: Sequence[np.ndarray], draw: np.random.Generator) -> list[np.ndarray]:
        """Return waves (T,) as they sound in a room that is drawn, no two at one place while it has another."""
        room = self.rooms[int(draw.integers(len(self.rooms)))]
        places = draw.permutation(len(room))
        return self._heard(waves, [room[places[k % len(room)]] for k in range(len(waves))])

    def _heard(self, waves: Sequence[np.ndarray], where: Sequence[Echo]) -> list[np.ndarray]:
        """Return each wave as it sounds at a place, all of them transformed together."""
        import torch  # commands that only look at rooms do without

        length = max(wave.size for wave in waves)
        responses = [self._response(echo) for echo in where]
        size = _size(length + min(length, max(response.size for response in responses)) - 1)
        # A row alone takes a transform longer than two do.
        rows = np.zeros((max(2, len(waves)), length), np.result_type(np.float32, *waves))
        for row, wave in zip(rows, waves, strict=False):
            row[: wave.size] = wave
        spec = torch.fft.rfft(torch.from_numpy(rows), size)
        for row, echo in zip(spec, where, strict=False):
            row *= _spectrum(echo, self.rate, length, size)
        heard = torch.fft.irfft(spec, size).numpy()
        return [_as_loud(found[: wave.size], wave) for found, wave in zip(heard, waves, strict=False)]

    def _response(self, echo: Echo) -> np.ndarray:
        self.read_last = Path(echo.path)
        return _response(echo, self.rate)


def _as_loud(found: np.ndarray, wave: np.ndarray) -> np.ndarray:
    """Return what is heard of a wave at the level of that wave."""
    level, now = (float(np.sqrt(np.mean(np.square(each)))) for each in (wave, found))
    return found * (level / now) if now else found


def _size(least: int) -> int:
    """Return a length of quick transforms, of few there are: 4, 5, 6 or 7 times a power of two, at least `least`."""
    step = 1 << max(0, (least - 1).bit_length() - 3)
    return -(-least // step) * step


def place(folder: Path) -> Path:
    """Return where the responses lie: in a folder, or in that of the rooms which prepare-data simulated for a set."""
    return folder / "rooms" if (folder / "prepare.json").is_file() else folder


def echoes(folder: Path, split: str, rate: int, seed: int) -> Echoes:
    """Return the rooms of a split in a folder of responses, or those that prepare-data simulated for a set.

    InputNotFound where there is no such folder, BadInput where it holds none.
    """
    if not folder.is_dir():
        raise InputNotFound(f"data.rooms: {show(folder)}: no such folder; expected one of room responses")
    if (there := place(folder)) != folder:
        # Of every place the response and its direct sound alone (data/rooms.py).
        files = sorted(there.glob(f"{split}_*.wav"))
        rooms = [[Echo(str(path), k) for k in range(0, io.info(path).channels, 2)] for path in files]
    else:
        bad: list[Bad] = []
        by_room: dict[str, list[Echo]] = defaultdict(list)
        for row in responses_in(folder, [split], _RATIOS, seed, bad)[0]:
            by_room[row.speaker].append(Echo(str(folder / row.path), 0))
        rooms = [by_room[name] for name in sorted(by_room)]
    if not rooms:
        raise BadInput(
            f"data.rooms: {show(folder)}: no room response for split '{split}'; name a folder of responses, or a set "
            "that usep prepare-data made with --rooms"
        )
    return Echoes(rooms, rate)


@functools.lru_cache(maxsize=_REMEMBERED)
def _response(echo: Echo, rate: int) -> np.ndarray:
    """Return a response (L,) at a rate from its direct sound on, float32; BadInput for one that is silent."""
    waves, own = io.read(echo.path)
    wave = waves[echo.channel]
    if not wave.any():
        raise BadInput(f"{show(echo.path)}: channel {echo.channel + 1} is silent, a room response was expected")
    heard = wave if own == rate else resample(wave, own, rate)
    return heard[arrival(heard) :].astype(np.float32)


@functools.lru_cache(maxsize=_TRANSFORMED)
def _spectrum(echo: Echo, rate: int, length: int, size: int) -> Tensor:
    """Return the spectrum (size / 2 + 1,) of as much of a response as is heard within `length` samples, complex64."""
    import torch

    return torch.fft.rfft(torch.from_numpy(_response(echo, rate)[:length]), size)
