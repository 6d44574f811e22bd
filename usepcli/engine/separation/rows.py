"""The rows of outputs.csv: what stands in them, and which of them belong together.

The rows of one input that agree in `method`, the settings but for the choice of sources, and in what the input held
are one result. What replaces an output of a result by one of another ends the whole result: its other outputs would be
summed with what they do not belong to. A result of which nothing is replaced stays.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from usepcli.engine.separation.jobs import Job
from usepcli.engine.separation.record import Identity, Pacing, Record, Track
from usepcli.engine.tables import Cells

OUTPUTS = (
    "file", "output", "source", "sha256", "bytes", "seconds", "frames", "rate", "channels", "subtype", "gain_db",
    "peak", "level_db", "lufs", "activity", "active", "null_db", "null_peak_db", "missing_s", "left_out", "settings",
    "file_bytes", "file_mtime_ns", "file_sha256",
)  # fmt: skip
# Then one that earlier versions did not write, and those of outputs asked for in words, and of such separated live.
_COLUMNS = (*OUTPUTS, "method", "query", "presence", "silenced", *Pacing._fields)
Making = tuple[str, str]  # by which method, from which bytes


def making(row: Mapping[str, str]) -> Making:
    """Return how an output was made; a row without a method, of an earlier version, has its settings for one."""
    return row.get("method", "") or row.get("settings", ""), row.get("file_sha256", "")


def result(row: Mapping[str, str]) -> tuple[str, ...]:
    """Return what the rows of one result have in common."""
    return row["file"], *making(row)


def together(rows: Iterable[Cells]) -> dict[str, Cells]:
    """Return the rows that count, by output: the last one of each, unless a later row ended its result.

    rows: of one table or of several, the one written last at the end.
    """
    last: dict[str, tuple[int, Cells]] = {}
    ended: dict[tuple[str, ...], int] = {}
    for n, row in enumerate(rows):
        _, old = last.get(row["output"], (0, row))
        if making(old) != making(row):
            ended[result(old)] = n
        last[row["output"]] = n, row
    return {name: row for name, (n, row) in last.items() if ended.get(result(row), -1) < n}


def columns_of(rows: Iterable[Cells]) -> tuple[str, ...]:
    """Return the columns of a table that holds these rows, in their order."""
    known = {name for row in rows for name in row}
    return tuple(name for name in _COLUMNS if name in OUTPUTS or name in known)


def rows_of(record: Record, text: Callable[[str | os.PathLike[str]], str], file: str) -> Iterator[Cells]:
    """Yield a row for each output; `text` tells how tables call a path, and `file` is what they call the input."""
    same = {
        "file": file,
        "seconds": f"{record.duration_s:.6f}",
        "frames": str(record.frames),
        "rate": str(record.rate),
        "channels": str(record.channels),
        "subtype": record.subtype,
        "gain_db": f"{record.gain_db:.9g}",
        "null_db": f"{record.null_db:.1f}",
        "null_peak_db": f"{record.null_peak_db:.1f}",
        "missing_s": f"{record.missing_s:g}",
        "left_out": " ".join(record.left_out),
        "settings": record.settings,
        "file_bytes": str(record.identity.bytes),
        "file_mtime_ns": str(record.identity.mtime_ns),
        "file_sha256": record.identity.sha256,
        **({"method": record.method} if record.method else {}),
        **(_paced(record.pacing) if record.pacing else {}),
    }
    for track in record.written:
        yield same | {
            "output": text(track.path),
            "source": track.source,
            "sha256": track.sha256,
            "bytes": str(track.bytes),
            "peak": f"{track.peak:.6f}",
            "level_db": f"{track.level_db:.1f}",
            "lufs": f"{track.lufs:.1f}",
            "activity": f"{track.activity:.4f}",
            "active": "true" if track.active else "false",
            **(_asked(track) if track.query else {}),
        }


def record_of(job: Job, rows: Sequence[Cells]) -> Record:
    """Return what the rows of a file that is done say; ValueError or OverflowError for such as no run wrote."""
    by_name = {row["source"]: row for row in rows}
    first = rows[0]
    return Record(
        file=job.file,
        source=job.source,
        relative=job.relative,
        tracks=tuple(_track(name, p, by_name.get(name)) for name, p in zip(job.names, job.outputs, strict=True)),
        frames=int(first["frames"]),
        rate=int(first["rate"]),
        channels=int(first["channels"]),
        subtype=first["subtype"],
        gain_db=float(first["gain_db"]),
        missing_s=float(first["missing_s"]),
        null_db=float(first["null_db"]),
        null_peak_db=float(first["null_peak_db"]),
        rtf=math.nan,
        seams=(),
        step_s=math.nan,
        identity=Identity(int(first["file_bytes"]), int(first["file_mtime_ns"]), first["file_sha256"]),
        settings=first["settings"],
        resumed=True,
        method=first.get("method", ""),
    )


def _track(name: str, path: Path, row: Cells | None) -> Track:
    if row is None:
        nan = math.nan
        return Track(name, path, False, "", 0, nan, nan, nan, 0.0, False)
    return Track(
        source=name,
        path=path,
        written=True,
        sha256=row["sha256"],
        bytes=int(row["bytes"]),
        peak=float(row["peak"]),
        level_db=float(row["level_db"]),
        lufs=float(row["lufs"]),
        activity=float(row["activity"]),
        active=row["active"] == "true",
        query=row.get("query", ""),
        presence=float(row.get("presence", "") or math.nan),
        silenced=row.get("silenced") == "true",
    )


def _asked(track: Track) -> dict[str, str]:
    odds = "" if math.isnan(track.presence) else f"{track.presence:.4f}"
    return {"query": track.query, "presence": odds, "silenced": "true" if track.silenced else "false"}


def _paced(pacing: Pacing) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in pacing._asdict().items()}
