"""From what a separation wrote to pages and pictures: what is told of a recording, its tracks, its seams, its model.

Everything that is played, drawn or measured is read back from the files, block by block (report_sound, report_tracks).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usepcli import __version__
from usepcli.audio import io
from usepcli.audio.loudness import LoudnessMeter
from usepcli.audio.written import MEDIA, PAGE_MARK
from usepcli.engine.separation import report_sound
from usepcli.engine.separation.jobs import Job
from usepcli.engine.separation.record import Record
from usepcli.engine.separation.report_sound import Heard, heard
from usepcli.engine.separation.report_tracks import lanes
from usepcli.errors import OutputError, UsageError, choices
from usepcli.report import html, listen, plots
from usepcli.report.progress import clock
from usepcli.report.separation import Entry, Seam, Separated, decibel, index_page, null, separation_page
from usepcli.separator.how import USUAL, How
from usepcli.versions import need
from usepcli.weights.cards import Card, trained_for

if TYPE_CHECKING:
    from usepcli.separator.separator import Watch

_LONGEST_NAME = 255
# By these the head of a page, a PNG or an SVG of ours is known.
_MARKS = (PAGE_MARK, b"Software\0usep", b"<dc:title>usep</dc:title>")


def report_path(record: Record | Job, out: Path, alone: bool) -> Path:
    """Return where the page of a record goes: OUT/report.html, or beside its outputs if it is one of many."""
    return out / "report.html" if alone else out / record.relative.parent / f"{record.relative.name}_report.html"


def write_report(
    record: Record, settings: Mapping[str, Any], out: Path, *, card: Card | None = None, how: How = USUAL,
    alone: bool = True, overwrite: bool = False, watch: Watch | None = None,
) -> Path:  # fmt: skip
    """Write the page of one separated file and return its path; `settings` are shown as they are.

    `watch` sees all blocks that are read, and may raise. A page of an earlier run is replaced, another file of that
    name only with `overwrite` (OutputError). BadInput or InputNotFound if the input or an output has gone since.
    """
    path = report_path(record, out, alone)
    check_replaceable(path, overwrite)
    tracks = heard(record, how, watch)
    where = report_sound.place(tracks, record)
    total = _measure(tracks)
    # One gain for all, so that they still add up, and only where something would pass full scale.
    top = max((track.peak * track.gain for track in tracks if math.isfinite(track.peak)), default=0.0)
    common = min(1.0, 0.999 / top) if top > 0 else 1.0
    beside = path.with_name(f"{path.stem}{MEDIA}")
    if where.sound == "linked":
        report_sound.forget(beside)
    louder = [replace(track, gain=track.gain * common) for track in tracks]
    page = Separated(
        name=_name(record),
        lead=_lead(record, tracks),
        duration_s=record.duration_s,
        rate=where.rate(record.rate),
        tracks=lanes(louder, path, where, record),
        total=(total.lufs, total.peak),
        joins=[Seam(seam.time_s, seam.order, seam.confidence, seam.quiet) for seam in record.seams],
        sound=where.sound,
        facts=_facts(record, tracks[0].lufs, total, card),
        settings=_text({**settings, "sample format": record.subtype, "settings hash": record.settings}),
        credits=_credits(card),
        notices=_notices(record, tracks, common) + where.notices(),
        trained_for=trained_for(card) if card else "",
        version=__version__,
    )
    html.save(path, separation_page(page), overwrite=True)
    if where.sound != "linked":
        report_sound.forget(beside)  # not before the page that needed it has gone
    return path


def write_index(
    records: Sequence[Record], out: Path, settings: Mapping[str, Any], *, failures: Iterable[tuple[str, str]] = (),
    overwrite: bool = False,
) -> Path:  # fmt: skip
    """Write OUT/report.html, the table of all files with links to their pages where these exist; return its path.

    `failures` are (file, error). OutputError as for `write_report`.
    """
    path = out / "report.html"
    check_replaceable(path, overwrite)
    rows = []
    for record in records:
        own = report_path(record, out, alone=False)
        rows.append(
            Entry(
                name="-" if record.file == "-" else str(record.relative.parent / Path(record.file).name),
                link=html.link(own, out) if own.is_file() else "",
                duration_s=record.duration_s,
                sources=len(record.tracks),
                active=sum(track.active for track in record.tracks),
                gain_db=record.gain_db,
                null_db=record.null_db,
                joins=len(record.seams),
                low=sum(Seam(s.time_s, s.order, s.confidence, s.quiet).low for s in record.seams),
            )
        )
    title = f"Separated: {os.path.basename(os.path.abspath(out))}"
    return html.save(path, index_page(title, rows, list(failures), _text(settings), __version__), overwrite=True)


def figure_path(record: Record | Job, out: Path, form: str) -> Path:
    """Return where the picture of a record goes, beside its outputs; form: png or svg."""
    return out / record.relative.parent / f"{record.relative.name}_figure.{form}"


def check_figures(form: str) -> None:
    """UsageError for a form that is none of plots.FORMS, MissingDependency where nothing can be drawn."""
    if form not in plots.FORMS:
        raise UsageError(choices("form for --figure", form, plots.FORMS))
    need("--figure", "plot")


def write_figure(
    record: Record, path: Path, how: How = USUAL, overwrite: bool = False, watch: Watch | None = None
) -> Path:
    """Draw input and sources of a record as PNG or SVG for print and return the path.

    A picture of an earlier run is replaced, another file of that name only with `overwrite` (OutputError).
    """
    from usepcli.report.pictures import spectrograms

    check_replaceable(path, overwrite)
    drawn = []
    for track in heard(record, how, watch):
        info = io.info(track.path)
        painter = listen.Painter(info.rate, seconds=info.seconds)
        for block in track.blocks("picture"):
            painter.push(block * np.float32(track.gain))
        drawn.append((track.name, painter.finish()))
    return spectrograms(drawn, path)


def check_replaceable(path: Path, overwrite: bool) -> None:
    """OutputError for too long a name and, unless `overwrite`, for what exists and is no page or picture of ours."""
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise OutputError(f"{io.show(path)}: no file name may have more than {_LONGEST_NAME} bytes; leave pages out")
    if overwrite or not os.path.lexists(path):
        return
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError:
        head = b""
    if not any(mark in head for mark in _MARKS):
        what = "picture" if path.suffix in (".png", ".svg") else "report"
        raise OutputError(f"{io.show(path)}: exists already and is no {what} of usep; move it away or pass --overwrite")


@dataclass(frozen=True)
class _Total:
    """What all sources are together: loudness, largest sample, and the power by which they miss the input (dB)."""

    lufs: float = math.nan
    peak: float = math.nan
    missed_db: float = math.nan


def _measure(tracks: Sequence[Heard]) -> _Total:
    """Find loudness and peak of the input as it is, and what the written files are together, rounding included."""
    mixture, rate = tracks[0], io.info(tracks[0].path).rate
    before, after = (LoudnessMeter(rate, mixture.channels) for _ in range(2))
    top = peak = missed = power = 0.0
    for waves in zip(*(track.blocks("levels" if track is mixture else "") for track in tracks), strict=False):
        # A lossy format may end a few samples early or late.
        block, *parts = (wave[:, : min(w.shape[1] for w in waves)] for wave in waves)
        together, meant = np.sum(parts, 0), block * np.float32(mixture.gain)
        before.push(block)
        after.push(together)
        top = max(top, float(np.abs(block).max(initial=0.0)))
        peak = max(peak, float(np.abs(together).max(initial=0.0)))
        missed += float(np.square(meant - together, dtype=np.float64).sum())
        power += float(np.square(meant, dtype=np.float64).sum())
    mixture.lufs, mixture.peak = before.lufs(), top
    share = missed / power if power > 0 else math.nan
    return _Total(after.lufs(), peak, 10 * math.log10(share) if share > 0 else -math.inf if share == 0 else math.nan)


def _name(record: Record) -> str:
    return "Standard input" if record.file == "-" else record.source.name


def _lead(record: Record, tracks: Sequence[Heard]) -> str:
    count = sum(track.kind == "source" for track in tracks)
    channels = {1: "one channel", 2: "two channels"}.get(record.channels, f"{record.channels} channels")
    rest = " and the rest" if any(track.kind == "residual" for track in tracks) else ""
    sources = "one source" if count == 1 else f"{count} sources"
    return f"{_length(record.duration_s)} at {record.rate} Hz, {channels}, separated into {sources}{rest}"


def _length(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def _facts(record: Record, before: float, total: _Total, card: Card | None) -> list[tuple[str, str]]:
    model = [("Model", f"{card.name} ({card.licence})" if card.licence else card.name)] if card and card.name else []
    return [
        ("Loudness before → after", f"{decibel(before, '').strip()} → {decibel(total.lufs, 'LUFS')}"),
        ("Sum check, not quality", "none" if math.isnan(record.null_db) else null(record.null_db)),
        (f"…of the {record.subtype} files", null(total.missed_db)),
        ("Common gain", decibel(record.gain_db, digits=2) if record.gain_db else "none"),
        ("Seams", f"{len(record.seams)}, {record.swaps} reordered" if record.seams else "none"),
        *model,
    ]


def _notices(record: Record, tracks: Sequence[Heard], common: float) -> list[str]:
    said = []
    if record.missing_s:
        said.append(
            f"The file is {record.missing_s:g} s shorter than its header or its size says; what is there was separated."
        )
    if record.gain_db:
        said.append(
            f"All sources were turned down by {decibel(-record.gain_db, digits=2)} so that none clips; the mixture is "
            "played here turned down as much."
        )
    if several := sorted({track.averaged for track in tracks if track.averaged}):
        said.append(f"What is played here of {' or '.join(map(str, several))} channels is their mean.")
    if math.isnan(record.null_db) and not record.left_out:
        said.append("Not all sources were written: those that are heard here do not add up to the mixture.")
    if record.left_out:
        names = ", ".join(record.left_out)
        said.append(
            f"Near-silent or with little of its own, and not written: {names}. The sum of what is heard here lacks it."
        )
    if common < 0.995:  # what rounds to 0.0 dB needs no word
        said.append(f"Everything is played {decibel(-20 * math.log10(common))} softer here, so that no peak clips.")
    return said


def _credits(card: Card | None) -> list[tuple[str, str]]:
    if card is None:
        return []
    parts = [
        ("name", card.name), ("about", card.about), ("licence", card.licence), ("learned from", card.training_data),
        ("credits", card.credits), ("objective", card.objective), ("rate", f"{card.sample_rate} Hz"),
    ]  # fmt: skip
    return [(key, value) for key, value in parts if value]


def _text(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    told = {key: ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value for key, value in
            settings.items()}  # fmt: skip
    return [(str(key), io.show(str(value))) for key, value in told.items() if value not in (None, "")]
