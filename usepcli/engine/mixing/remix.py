"""Mixing sources again with other gains, in constant memory, exact where nothing is asked.

The mix is measured first, then written with one gain on the whole or through the limiter, and what stands in the
file is measured again before it gets its name. Stems are read once for each of these passes; a model runs once, and
what it gave is kept in a temporary file beside the output.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from usepcli import files
from usepcli.audio import io, raws
from usepcli.audio.formats import LOSSY
from usepcli.audio.limiter import Limiter, limit
from usepcli.audio.loudness import LoudnessMeter
from usepcli.audio.metadata import Tags
from usepcli.audio.true_peak import decibel
from usepcli.engine.mixing.desk import Desk
from usepcli.engine.mixing.inputs import Stems, check_stems
from usepcli.engine.mixing.levels import Goal, Levels, Room, first_gain, measure
from usepcli.engine.mixing.takes import Spool, listen, mix_file, mix_stems
from usepcli.engine.separation import outputs
from usepcli.engine.separation.jobs import check_subtype, identity, refuse_existing
from usepcli.errors import IOFault, OutputError
from usepcli.separator.how import Trace

if TYPE_CHECKING:  # stems need no model, and torch is most of the memory
    from usepcli.separator.separator import Separator, Watch

_BLOCK_S = 1.0
_TRIES = 5
_CLOSE_DB, _CLOSE_LU = 0.02, 0.1  # what a true peak may pass its target by, and a loudness miss its own
_RAISE_DB = 3.0  # the most that a gain is raised to make up for what the limiter costs


@dataclass(frozen=True)
class Remix:
    """What was written: gains and pans per source, the gain on the whole, the limiter's work, levels in and out.

    Loudness in LUFS (-inf: silent, nan: under 0.4 s), true peak in dBTP, sample peak in dBFS. `limited_db` is the
    limiter's largest reduction, `limited_share` the share of time that it was at work. `absent` names the queries that
    were judged absent: what was found for them stays as it is.
    """

    output: str
    gains_db: dict[str, float]
    pans: dict[str, float]
    gain_db: float
    limited_db: float
    limited_share: float
    lufs_before: float
    lufs_after: float
    true_peak_before: float
    true_peak_after: float
    peak_before: float
    peak_after: float
    duration_s: float
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Cut:
    """How the level is made: a gain on the whole, a limiter's ceiling or none, and what the limiter then did."""

    gain: float = 1.0
    ceiling: float | None = None
    reduction_db: float = 0.0
    share: float = 0.0


class _Master:
    """The remix with its level; `take` runs through the mix (C, T) anew each time, `check` may end that."""

    def __init__(
        self, take: Callable[[], Iterator[np.ndarray]], rate: int, channels: int, goal: Goal, check: Callable[[], None],
        tags: Tags | None = None,
    ) -> None:  # fmt: skip
        self.take, self.rate, self.channels, self.goal, self.check = take, rate, channels, goal, check
        self.tags = tags

    def plan(self, found: Levels, room: Room) -> _Cut:
        """Return gain and ceiling for a mix of these levels."""
        gain, top = first_gain(self.goal, found, room), self.goal.ceiling_db
        if not self.goal.limits or top is None:
            return _Cut(gain)
        ceiling = 10 ** (top / 20)
        if found.true_peak * gain <= ceiling:
            return _Cut(gain)
        return _Cut(self._make_up(gain, ceiling), ceiling)

    def _make_up(self, first: float, ceiling: float) -> float:
        """Return the gain at which the limited mix has its loudness, or the nearest found."""
        gain, most = first, first * 10 ** (_RAISE_DB / 20)
        for _ in range(_TRIES if self.goal.lufs is not None else 0):
            meter = LoudnessMeter(self.rate, self.channels)
            for piece in self.pieces(gain, Limiter(self.rate, self.channels, ceiling)):
                meter.push(piece)
            missing = (self.goal.lufs or 0.0) - meter.lufs()
            if not abs(missing) > _CLOSE_LU or gain == most:
                break
            gain = min(gain * 10 ** (missing / 20), most)
        return gain

    def pieces(self, gain: float, limiter: Limiter | None) -> Iterator[np.ndarray]:
        """Yield the mix (C, t) with a gain and through a limiter."""
        blocks = (piece * gain if gain != 1 else piece for piece in _watched(self.take(), self.check))
        return limit(blocks, limiter) if limiter else blocks

    def write(self, path: Path, subtype: str, frames: int, cut: _Cut) -> _Cut:
        """Write the file and return what the limiter did."""
        limiter = Limiter(self.rate, self.channels, cut.ceiling) if cut.ceiling else None
        with io.Writer(path, self.rate, self.channels, subtype, True, frames=frames, tags=self.tags) as writer:
            for piece in self.pieces(cut.gain, limiter):
                writer.write(piece)
        if limiter is None:
            return cut
        return replace(cut, reduction_db=limiter.reduction_db, share=limiter.limited / max(frames, 1))

    def settle(self, path: Path, subtype: str, frames: int, cut: _Cut) -> tuple[Levels, _Cut]:
        """Write the file so that what can be read from it keeps the peak; return its levels."""
        top = self.goal.ceiling_db
        for _ in range(_TRIES):
            cut = self.write(path, subtype, frames, cut)
            after = levels(path, self.check)
            over = after.dbtp - top if top is not None else -math.inf
            if over <= _CLOSE_DB:
                break
            # Few bits, or a lossy format, move the peaks; so does a gain that changes between two samples.
            less = 10 ** (-(over + _CLOSE_DB / 4) / 20)
            cut = replace(cut, ceiling=cut.ceiling * less) if cut.ceiling else replace(cut, gain=cut.gain * less)
        return after, cut


def remix(
    stems: Stems,
    out: Path,
    desk: Desk,
    *,
    separator: Separator | None = None,
    subtype: str = "",
    goal: Goal | None = None,
    overwrite: bool = False,
    watch: Watch | None = None,
    check: Callable[[], None] = lambda: None,
    tags: Tags | None = None,
) -> Remix:
    """Mix stems, or with a separator the sources of the one input, as the desk and the level's goal say.

    One input of which nothing is asked, not even another format, is copied byte by byte. `watch` sees the blocks of
    the first pass; `check` is called between those of the others, and may raise; `tags` go into the result.
    BadInput, OutputError, UsageError before any work where inputs do not agree or the output cannot be made; IOFault
    leaves nothing behind.
    """
    goal, info = goal or Goal(), check_stems(stems.paths)
    channels = desk.channels(info.channels)
    kind = check_output(out, info, stems.paths, subtype, overwrite)
    room = Room.of(kind, out.suffix)

    gone: tuple[int, ...] = ()  # queries that are judged absent, and stay as they are

    def produce(watch: Watch | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        if separator:
            return mix_file(stems.paths[0], separator, desk, watch, trace, gone)
        return mix_stems(stems, desk, watch)

    with ExitStack() as stack:
        # The output's own suffix gives the format.
        draft = out.with_name(f".{out.stem}.{os.getpid()}.draft{out.suffix}")
        stack.callback(draft.unlink, missing_ok=True)
        spool = None
        if separator and not desk.neutral:
            spool = stack.enter_context(Spool(out, channels, kind in ("PCM_32", "DOUBLE")))
        trace = Trace()
        before, found = listen(produce(watch), info.rate, info.channels, channels, same=desk.neutral, spool=spool)
        gone = separator.absent(trace) if separator and not separator.always else ()
        if gone and spool:  # known at the end of the whole alone
            spool.clear()
            trace = Trace()
            before, found = listen(produce(watch), info.rate, info.channels, channels, spool=spool)

        def take() -> Iterator[np.ndarray]:
            if spool:
                return spool.blocks(round(_BLOCK_S * info.rate))
            return (wanted for _, wanted in produce())

        master = _Master(take, info.rate, channels, goal, check, tags)
        cut = master.plan(found, room)
        stack.enter_context(_named(draft, out))
        alike = desk.neutral and subtype in ("", info.subtype) and _alike(stems, out)
        if alike and cut == _Cut():
            _copy(stems.paths[0], draft)
            after = found
        else:
            after, cut = master.settle(draft, kind, found.frames, cut)
        check()
        _place(draft, out)
    return replace(_record(out, desk, cut, before, after, info), absent=tuple(desk.names[k] for k in gone))


def check_output(out: Path, info: io.Info, inputs: Sequence[Path], subtype: str, overwrite: bool) -> str:
    """Return the subtype to write; OutputError or UsageError, before any work, where `out` cannot be made."""
    kind = subtype or outputs.default_subtype(info, out.suffix)
    # A lossy format has none of its own: then `kind` is what its decoder gives.
    if subtype or out.suffix.lower() not in LOSSY:
        check_subtype(out, kind)
    refuse_existing(out, overwrite, {identity(path) for path in inputs})
    return kind


def decibels(names: Sequence[str], gains: np.ndarray) -> dict[str, float]:
    """Return gains (N,) in dB by source name, or by number where two sources share a name."""
    found = [round(decibel(gain), 6) if gain > 0 else -math.inf for gain in gains.tolist()]
    return dict(zip(_unique(names), found, strict=True))


def levels(path: Path, check: Callable[[], None] = lambda: None) -> Levels:
    """Return the levels of a sound file as it is read; `check` is called between blocks."""
    info = io.info(path)
    blocks = io.blocks(path, max(1, round(_BLOCK_S * info.rate)), wide=info.subtype in ("PCM_32", "DOUBLE"))
    return measure(_watched(blocks, check), info.rate, info.channels)


def _watched(blocks: Iterable[np.ndarray], check: Callable[[], None]) -> Iterator[np.ndarray]:
    for block in blocks:
        check()
        yield block


def _unique(names: Sequence[str]) -> Sequence[str]:
    return names if len(set(names)) == len(names) else [str(k + 1) for k in range(len(names))]


def _record(out: Path, desk: Desk, cut: _Cut, before: Levels, after: Levels, info: io.Info) -> Remix:
    places = dict(zip(_unique(desk.names), desk.pans.tolist(), strict=True))
    return Remix(
        output=io.show(out),
        gains_db=decibels(desk.names, desk.gains),
        pans={name: place for name, place in places.items() if place},
        gain_db=decibel(cut.gain),
        limited_db=cut.reduction_db,
        limited_share=cut.share,
        lufs_before=before.lufs,
        lufs_after=after.lufs,
        true_peak_before=before.dbtp,
        true_peak_after=after.dbtp,
        peak_before=before.dbfs,
        peak_after=after.dbfs,
        duration_s=after.frames / info.rate,
    )


def _alike(stems: Stems, out: Path) -> bool:
    """True where the output may be a copy of the input's bytes."""
    return len(stems.paths) == 1 and stems.scale == 1 and out.suffix.lower() == stems.paths[0].suffix.lower()


@contextmanager
def _named(draft: Path, out: Path) -> Iterator[None]:
    """Let faults of the draft speak of the output, the name that its user knows."""
    try:
        yield
    except (IOFault, OutputError) as fault:
        raise type(fault)(str(fault).replace(io.show(draft), io.show(out))) from fault


def _copy(source: Path, draft: Path) -> None:
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        with raws.open_raw(source) as read, open(draft, "wb") as written:
            shutil.copyfileobj(read, written)
    except OSError as fault:
        raise IOFault(f"{io.show(draft)}: writing failed: {fault.strerror or fault}") from fault


def _place(draft: Path, out: Path) -> None:
    """Give the finished file its name in one step."""
    try:
        files.place(draft, out)
    except OSError as fault:
        raise IOFault(f"{io.show(out)}: writing failed: {fault.strerror or fault}") from fault
