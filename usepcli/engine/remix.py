"""Mixing sources again with other gains, in constant memory, exact where nothing is asked."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np

from usepcli.audio import io
from usepcli.audio.loudness import LoudnessMeter, gain_to
from usepcli.engine import outputs
from usepcli.engine.jobs import check_subtype, refuse_existing
from usepcli.engine.separate import Separator, Watch
from usepcli.errors import BadInput, IOFault, UsageError, did_you_mean

_BLOCK_S = 4.0
Mix = Iterator[tuple[np.ndarray, np.ndarray]]  # pieces (C, t) of the sum without any gain, and of the remix


@dataclass(frozen=True)
class Remix:
    """What was written: gains per source, the gain on the whole, and loudness in LUFS (nan under 0.4 s)."""

    output: str
    gains_db: dict[str, float]
    gain_db: float
    lufs_before: float
    lufs_after: float
    duration_s: float


def parse_gains(names: Sequence[str], gains: Iterable[str], mutes: Iterable[str]) -> np.ndarray:
    """Return the linear gain (N,) of each named source from "NAME=dB" and muted NAMEs, or their numbers 1..N.

    UsageError for unknown, ambiguous or repeated names and for values that are no number of dB.
    """
    chosen: dict[int, float] = {}
    wishes = [(*_split(text), f"--gain {text}") for text in gains]
    wishes += [(name, -math.inf, f"--mute {name}") for name in mutes]
    for name, decibel, where in wishes:
        index = _index(names, name, where)
        if index in chosen:
            raise UsageError(f"{where}: source '{names[index]}' is given twice; name each source once")
        chosen[index] = 10 ** (decibel / 20)
    return np.array([chosen.get(index, 1.0) for index in range(len(names))])


def _split(text: str) -> tuple[str, float]:
    name, equals, value = text.rpartition("=")
    try:
        decibel = float(value)
    except ValueError:
        decibel = math.nan
    if not equals or not name or math.isnan(decibel) or decibel > 120:
        raise UsageError(f"--gain: found '{text}'; expected NAME=dB, for example 1=-6")
    return name, decibel


def _index(names: Sequence[str], name: str, where: str) -> int:
    found = {k for k, known in enumerate(names) if known == name}
    if name.isdecimal() and 1 <= int(name) <= len(names):
        found.add(int(name) - 1)
    if len(found) == 1:
        return found.pop()
    if found:
        raise UsageError(f"{where}: '{name}' fits {len(found)} sources; use numbers, 1 to {len(names)}")
    hint = did_you_mean(name, names)
    raise UsageError(f"{where}: no such source{hint}; there are {', '.join(names)} (or 1 to {len(names)})")


def mix_stems(stems: Sequence[Path], gains: np.ndarray) -> Mix:
    """Yield the sum of the stems without and with gains (N,); shorter stems end in silence.

    Sums are float64, so integer samples of up to 24 bits add up exactly.
    """
    frames = max(1, round(_BLOCK_S * io.info(stems[0]).rate))
    for blocks in zip_longest(*(io.blocks(stem, frames) for stem in stems)):
        length = max(block.shape[1] for block in blocks if block is not None)
        plain = wanted = np.zeros((1, length))
        for block, gain in zip(blocks, gains, strict=True):
            if block is not None:
                wave = np.pad(block.astype(np.float64), ((0, 0), (0, length - block.shape[1])))
                plain, wanted = plain + wave, wanted + gain * wave
        yield plain, wanted


def mix_file(path: Path, separator: Separator | None, gains: np.ndarray, watch: Watch | None = None) -> Mix:
    """Yield a file without and with gains (N,) on its separated sources: x + sum_i (g_i - 1) s_i.

    So what the model leaves out (residue, frequencies above its band) stays in, and gains of 0 dB return the
    samples themselves; the model does not even run then, and `separator` may be None.
    """
    info = io.info(path)
    frames = max(1, round(_BLOCK_S * info.rate))
    blocks: Iterable[np.ndarray] = io.blocks(path, frames)
    if watch:
        blocks = watch(blocks, -(-info.frames // frames), io.show(path.name))
    if separator is None or np.all(gains == 1):
        yield from ((block, block) for block in blocks)
        return
    held: list[np.ndarray] = []
    change = (gains - 1).astype(np.float32)
    for sources in separator.stream(_remember(blocks, held), info.rate):
        plain = _take(held, sources.shape[2])
        yield plain, plain + np.einsum("n,nct->ct", change, sources)


def _remember(blocks: Iterable[np.ndarray], held: list[np.ndarray]) -> Iterator[np.ndarray]:
    for block in blocks:
        held.append(block)
        yield block


def _take(held: list[np.ndarray], count: int) -> np.ndarray:
    """Remove and return the first `count` samples (C, count) of the held blocks."""
    whole = np.concatenate(held, axis=1)
    held[:] = [whole[:, count:]]
    return whole[:, :count]


def check_stems(stems: Sequence[Path]) -> io.Info:
    """Return the first stem's info with the longest stem's length; BadInput unless rates and channels agree."""
    first = io.info(stems[0])
    for stem in stems[1:]:
        other = io.info(stem)
        if (other.rate, other.channels) != (first.rate, first.channels):
            raise BadInput(
                f"{io.show(stem)}: {other.rate} Hz, {other.channels} channels; the first stem "
                f"{io.show(stems[0])} has {first.rate} Hz, {first.channels}; stems must agree"
            )
        first = replace(first, frames=max(first.frames, other.frames))
    return first


def check_output(out: Path, info: io.Info, inputs: Sequence[Path], subtype: str, overwrite: bool) -> str:
    """Return the subtype to write; OutputError or UsageError, before any work, where `out` cannot be made."""
    check_subtype(out, subtype or outputs.default_subtype(info, out.suffix))
    refuse_existing(out, overwrite, inputs)
    return subtype or outputs.default_subtype(info, out.suffix)


def remix(
    inputs: Sequence[Path],
    out: Path,
    names: Sequence[str],
    gains: np.ndarray,
    *,
    separator: Separator | None = None,
    subtype: str = "",
    lufs: float | None = None,
    overwrite: bool = False,
    watch: Watch | None = None,
) -> Remix:
    """Mix stems, or with a separator the sources of the one input, with gains (N,) of the named sources.

    One input of which nothing is asked, not even another format, is copied byte by byte.
    """
    info = check_stems(inputs)
    kind = check_output(out, info, inputs, subtype, overwrite)
    same = subtype in ("", info.subtype) and out.suffix.lower() == inputs[0].suffix.lower()
    if len(inputs) == 1 and same and lufs is None and np.all(gains == 1):
        level = loudness(inputs[0])
        _copy(inputs[0], out)
        return Remix(io.show(out), decibels(names, gains), 0.0, level, level, info.seconds)

    def produce() -> Mix:
        return mix_file(inputs[0], separator, gains, watch) if separator else mix_stems(inputs, gains)

    done, before = write(out, info, kind, produce, lufs=lufs, overwrite=overwrite)
    seconds = done.frames / info.rate
    return Remix(io.show(out), decibels(names, gains), done.gain_db, before, loudness(out), seconds)


def decibels(names: Sequence[str], gains: np.ndarray) -> dict[str, float]:
    """Return gains (N,) in dB by source name, or by number where two sources share a name."""
    unique = names if len(set(names)) == len(names) else [str(k + 1) for k in range(len(names))]
    found = [round(20 * math.log10(gain), 6) if gain > 0 else -math.inf for gain in gains.tolist()]
    return dict(zip(unique, found, strict=True))


def write(
    out: Path,
    info: io.Info,
    subtype: str,
    produce: Callable[[], Mix],
    *,
    lufs: float | None = None,
    overwrite: bool = False,
) -> tuple[outputs.Written, float]:
    """Write the remix that `produce()` yields; return what was written and the LUFS without any gain.

    With a loudness target the mix is made twice: to measure, then to write. One gain on the whole serves the
    target and, if something would clip, the protection, which wins.
    """
    before: list[LoudnessMeter] = []

    def pieces() -> Iterator[np.ndarray]:
        before[:] = [LoudnessMeter(info.rate, info.channels)]
        for plain, wanted in produce():
            before[0].push(plain)
            yield (wanted if subtype in ("PCM_24", "PCM_32", "DOUBLE") else wanted.astype(np.float32))[None]

    gain = 1.0
    if lufs is not None:
        meter = LoudnessMeter(info.rate, info.channels)
        for _, wanted in produce():
            meter.push(wanted)
        gain = gain_to(lufs, meter.lufs())
    done = outputs.write_all(
        [out], info.rate, info.channels, subtype, pieces, gain=gain, overwrite=overwrite, frames=info.frames
    )
    return done, before[0].lufs()


def loudness(path: Path) -> float:
    """Return the integrated loudness of a file in LUFS: -inf for silence, nan for less than 0.4 s."""
    info = io.info(path)
    meter = LoudnessMeter(info.rate, info.channels)
    for block in io.blocks(path, max(1, round(_BLOCK_S * info.rate))):
        meter.push(block)
    return meter.lufs()


def _copy(source: Path, out: Path) -> None:
    """Copy a file byte by byte under its final name in one step; IOFault leaves nothing behind."""
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, temporary)
        os.replace(temporary, out)
    except OSError as fault:
        temporary.unlink(missing_ok=True)
        raise IOFault(f"{io.show(out)}: writing failed: {fault.strerror or fault}") from fault
