"""What became of one separated file: its outputs, what was measured on them, and how the joins went."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from usepcli.audio import io, raws
from usepcli.audio.formats import LOSSY
from usepcli.errors import BadInput
from usepcli.separator.how import Seam


@dataclass(frozen=True)
class Identity:
    """What tells one version of a file from another: size, time of change, and sha256 of all its bytes."""

    bytes: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Identity:
        """Read a file once; BadInput if it cannot be read."""
        try:
            held = raws.facts(path)
            return cls(held.size, held.mtime_ns, raws.sha256(path))
        except OSError as fault:
            raise BadInput(
                f"{io.show(path)}: cannot be read: {fault.strerror}; check the file and run again"
            ) from fault


@dataclass(frozen=True)
class Track:
    """One source: where it was written (`written` False: near-silent, so it was not) and what it is like.

    `peak` is of full scale 1, `level_db` the mean level in dB of full scale, `lufs` the integrated loudness, all
    of what is in the file; `activity` is the share of time in which it sounds (engine/separation/activity.py), `active`
    False for one that is near-silent, or has little but traces of others. `curve` holds its level in dB of full scale
    every `Record.step_s` seconds, at most 1000 values; it is empty for a file that an earlier run separated. `query`
    holds the words that a model by query was asked for, `presence` the odds from 0 to 1 that what they name is there
    (nan: the model is not calibrated); `silenced`: it was judged absent, and what was found is in the residual.
    """

    source: str
    path: Path
    written: bool
    sha256: str
    bytes: int
    peak: float
    level_db: float
    lufs: float
    activity: float
    active: bool
    curve: tuple[float, ...] = ()
    query: str = ""
    presence: float = math.nan
    silenced: bool = False

    @property
    def label(self) -> str:
        """What people call the source: the words that it was asked for by, else its name."""
        return self.query or self.source

    @property
    def faint(self) -> str:
        """What is to be said of a source that is not active."""
        return "has little of its own" if self.activity else "is near-silent"


class Pacing(NamedTuple):
    """How a live separation kept up.

    `latency_s` is the wait of model and resampling, `block_s` the sound that comes at once, on top of it; then the work
    on a block in ms (median, 99 of 100, longest), the blocks whose work took longer than they last, and the seconds
    that came and could not be kept. `blocks` is their number: where sound comes faster than it lasts they are longer.
    """

    latency_s: float
    block_s: float
    blocks: int
    p50_ms: float
    p99_ms: float
    most_ms: float
    underruns: int
    dropped_s: float


@dataclass(frozen=True)
class Record:
    """What became of one file.

    `file` is the name that tables use (- for standard input), `source` the path that was read, `relative` the
    path below the output folder without suffix. `gain_db` is the common gain of all its sources, 0 unless they
    would have clipped; `missing_s` is what the header promises beyond the samples that are there; `null_db` is
    the power of input minus sum of the files, in dB of the input's (-inf: they are equal; nan: not all sources have a
    file), the gain taken into account and what a lossy format adds left out; `null_peak_db` is its largest sample in
    dB of full scale. `resumed`: an earlier run did it. `lost` names what the file says besides its sound
    and the outputs cannot hold. `pacing`: of one that was separated live. `method`: the settings but for the choice of
    sources; `left`: outputs of an earlier run that are no part of any result now, and changed since, so that they stay.
    """

    file: str
    source: Path
    relative: Path
    tracks: tuple[Track, ...]
    frames: int
    rate: int
    channels: int
    subtype: str
    gain_db: float
    missing_s: float
    null_db: float
    null_peak_db: float
    rtf: float
    seams: tuple[Seam, ...]
    step_s: float
    identity: Identity
    settings: str
    resumed: bool = False
    lost: tuple[str, ...] = ()
    pacing: Pacing | None = None
    method: str = ""
    left: tuple[Path, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.rate

    @property
    def written(self) -> list[Track]:
        """The sources that have a file."""
        return [track for track in self.tracks if track.written]

    @property
    def outputs(self) -> list[str]:
        """The files written, as printable text."""
        return [io.show(track.path) for track in self.written]

    @property
    def left_out(self) -> list[str]:
        """The near-silent sources that were not written."""
        return [track.source for track in self.tracks if not track.written]

    @property
    def swaps(self) -> int:
        """How many joins needed another order of the sources than the model gave."""
        return sum(seam.swapped for seam in self.seams)

    def facts(self) -> dict[str, Any]:
        """Return all of it as one JSON object without the curves; what is not finite becomes null."""
        numbers = ("gain_db", "missing_s", "null_db", "null_peak_db", "rtf")
        sources = [
            {
                "source": track.source,
                **({"query": track.query, "presence": _json(track.presence)} if track.query else {}),
                **({"silenced": True} if track.silenced else {}),
                "output": io.show(track.path) if track.written else None,
                "active": track.active,
                **{key: _json(getattr(track, key)) for key in ("activity", "lufs", "level_db", "peak")},
            }
            for track in self.tracks
        ]
        return {
            "file": io.show(self.file),
            "outputs": self.outputs,
            "duration_s": self.duration_s,
            "rate": self.rate,
            "channels": self.channels,
            "subtype": self.subtype,
            **{key: _json(getattr(self, key)) for key in numbers},
            "exact": self.null_db == -math.inf and self.subtype not in LOSSY.values(),
            "seams": len(self.seams),
            "swaps": self.swaps,
            "sources": sources,
            "settings": self.settings,
            "resumed": self.resumed,
            **({"live": self.pacing._asdict()} if self.pacing else {}),
        }


def _json(value: float) -> float | None:
    return value if math.isfinite(value) else None
