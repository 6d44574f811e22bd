"""The mix as a stream that can be run through as often as levels, limiter and file need it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from usepcli.audio import io
from usepcli.engine.mixing.desk import Desk
from usepcli.engine.mixing.inputs import Stems
from usepcli.engine.mixing.levels import Levels, Meter
from usepcli.errors import IOFault

if TYPE_CHECKING:  # stems need no model, and torch is most of the memory
    from usepcli.separator.separator import Separator, Trace, Watch

_BLOCK_S = 1.0
_EXACT = ("PCM_32", "DOUBLE")  # what float32 does not hold
Mix = Iterator[tuple[np.ndarray, np.ndarray]]  # pieces (C, t) of the sum without any gain, and of the remix


def mix_stems(stems: Stems, desk: Desk, watch: Watch | None = None) -> Mix:
    """Yield the sum of the stems without and with the desk's gains; shorter stems end in silence.

    Sums are float64, so that integer samples of up to 32 bits add up exactly.
    """
    infos = [io.info(path) for path in stems.paths]
    rate, channels = infos[0].rate, infos[0].channels
    frames, start = max(1, round(_BLOCK_S * rate)), 0
    blocks: Iterable[Any] = zip_longest(*(io.blocks(path, frames, wide=True) for path in stems.paths))
    if watch:
        blocks = watch(blocks, -(-max(info.frames for info in infos) // frames), "mixing")
    for found in blocks:
        length = max(block.shape[1] for block in found if block is not None)
        weights = None if desk.neutral else desk.weights(start, length, rate, desk.channels(channels))
        plain = wanted = np.zeros((channels, length))
        for index, block in enumerate(found):
            if block is not None:
                wave = np.pad(block, ((0, 0), (0, length - block.shape[1])))
                wave = wave * stems.scale if stems.scale != 1 else wave
                plain = plain + wave
                wanted = plain if weights is None else wanted + weights[index] * wave
        yield plain, wanted
        start += length


def mix_file(
    path: Path, separator: Separator | None, desk: Desk, watch: Watch | None = None, trace: Trace | None = None,
    absent: Collection[int] = (),
) -> Mix:  # fmt: skip
    """Yield a file without and with the desk's gains on its separated sources: x + sum_i (g_i - 1) s_i.

    So what the model leaves out stays in, and gains of 0 dB return the samples themselves; the model does not
    even run then, and `separator` may be None.  trace: as of a stream.  absent: queries whose answers are silenced.
    """
    info = io.info(path)
    frames = max(1, round(_BLOCK_S * info.rate))
    blocks: Iterable[np.ndarray] = io.blocks(path, frames, wide=info.subtype in _EXACT)
    if watch:
        blocks = watch(blocks, -(-info.frames // frames), io.show(path.name))
    if separator is None or desk.neutral:
        yield from ((block, block) for block in blocks)
        return
    held: list[np.ndarray] = []
    start, channels = 0, desk.channels(info.channels)
    for sources in separator.stream(_remember(blocks, held), info.rate, trace=trace, absent=absent):
        plain = _take(held, sources.shape[2])
        weights = desk.weights(start, sources.shape[2], info.rate, channels) - 1
        wanted = np.repeat(plain, channels // len(plain), axis=0)
        for weight, source in zip(weights, sources, strict=True):
            if weight.any():
                wanted = wanted + weight * source
        yield plain, wanted
        start += sources.shape[2]


def _remember(blocks: Iterable[np.ndarray], held: list[np.ndarray]) -> Iterator[np.ndarray]:
    for block in blocks:
        held.append(block)
        yield block


def _take(held: list[np.ndarray], count: int) -> np.ndarray:
    """Remove and return the first `count` samples (C, count) of the held blocks."""
    whole = np.concatenate(held, axis=1)
    held[:] = [whole[:, count:]]
    return whole[:, :count]


class Spool:
    """A temporary file of raw samples beside the output, written once and read as often as needed.

    It is gone when the `with` block or the process ends; IOFault when the disk is full.
    """

    def __init__(self, out: Path, channels: int, exact: bool) -> None:
        self.channels, self.dtype = channels, np.dtype(np.float64 if exact else np.float32)
        self._path = out.with_name(f".{out.name}.{os.getpid()}.spool")

    def __enter__(self) -> Spool:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._path, "w+b")
            # Without a name it is gone however this process ends; where open files cannot lose it, it goes at the end.
            with suppress(OSError):
                self._path.unlink()
        except OSError as fault:
            raise self._fault(fault) from fault
        return self

    def clear(self) -> None:
        """Forget all that was written."""
        try:
            self._file.seek(0)
            self._file.truncate()
        except OSError as fault:
            raise self._fault(fault) from fault

    def write(self, block: np.ndarray) -> None:
        """Append a block (C, T)."""
        try:
            self._file.write(np.ascontiguousarray(block.T, self.dtype).tobytes())
        except OSError as fault:
            raise self._fault(fault) from fault

    def blocks(self, frames: int) -> Iterator[np.ndarray]:
        """Yield all that was written as blocks (C, <= frames)."""
        size = frames * self.channels * self.dtype.itemsize
        try:
            self._file.flush()
            self._file.seek(0)
            while data := self._file.read(size):
                yield np.frombuffer(data, self.dtype).reshape(-1, self.channels).T
        except OSError as fault:
            raise self._fault(fault) from fault

    def _fault(self, fault: OSError) -> IOFault:
        return IOFault(
            f"{io.show(self._path.parent)}: the remix cannot be kept there for its second pass: "
            f"{fault.strerror or fault}; free some space, or choose another folder with -o"
        )

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError:  # a full disk again, while the buffer is emptied: said before
            if kind is None:
                raise
        finally:
            self._path.unlink(missing_ok=True)


def listen(
    mix: Mix, rate: int, channels: int, channels_out: int, *, same: bool = False, spool: Spool | None = None
) -> tuple[Levels, Levels]:
    """Run through the mix once and return the levels without gains and of the remix, which goes into the spool.

    `same` says that the remix is the sum itself, and saves its measurement.
    """
    before, after = Meter(rate, channels), Meter(rate, channels_out)
    for plain, wanted in mix:
        before.push(plain)
        if not same:
            after.push(wanted)
        if spool:
            spool.write(wanted)
    return before.levels(), (before if same else after).levels()
