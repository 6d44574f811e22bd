"""From what a separation wrote to pages: sound inside the page where it is short, beside it where it is long.

Everything that is played or drawn is read back from the files, block by block. All tracks of a page are stored alike,
so that they line up to the sample: FLAC, or MP3 where FLAC would make the page heavy. Beyond `MOST_SAMPLES` the page
links the files; what a browser cannot play is then written beside it as FLAC.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from usepcli import __version__
from usepcli.audio import io
from usepcli.audio.loudness import LoudnessMeter
from usepcli.audio.resample import StreamResampler
from usepcli.engine.checkpoint import Card
from usepcli.engine.separation.how import RESIDUAL, USUAL, How
from usepcli.engine.separation.jobs import Job
from usepcli.engine.separation.record import Record
from usepcli.errors import MissingDependency, OutputError, UsageError, choices
from usepcli.report import html, listen, plots
from usepcli.report.progress import clock
from usepcli.report.separation import Join, Row, Separated, Track, decibel, index_page, null, separation_page

# Samples of all tracks and channels of a page. A browser holds them decoded, 4 bytes each: 160 MB at most.
MOST_SAMPLES = 40_000_000
# Up to here FLAC, 1.1 (speech) to 2.1 (white noise) characters of the page per sample; above, MP3, 0.4 to 0.6.
MOST_FLAC_SAMPLES = 15_000_000
_COLUMNS = 2400
_BLOCK_S = 4.0
# Containers and sample formats that browsers play.
_PLAYED = {"WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "MPEG"}
_PLAYED_SUBTYPES = {"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "VORBIS", "OPUS", "MPEG_LAYER_III"}
_LONGEST_NAME = 255
# By these the head of a page, a PNG or an SVG of ours is known.
_MARKS = (b'<meta name="generator" content="usep">', b"Software\0usep", b"<dc:title>usep</dc:title>")


@dataclass
class _Heard:
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

    @property
    def channels(self) -> int:
        """The number of channels that `blocks` gives."""
        found = io.info(self.path).channels
        return 1 if self.how.one_channel or found > 2 else found

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the samples (C, t), at most two channels, before `gain`."""
        frames = round(_BLOCK_S * io.info(self.path).rate)
        for block in io.blocks(self.path, frames):
            heard = self.how.heard(block)
            yield heard if len(heard) <= 2 else heard.mean(0, keepdims=True)


def report_path(record: Record | Job, out: Path, alone: bool) -> Path:
    """Return where the page of a record goes: OUT/report.html, or beside its outputs if it is one of many."""
    return out / "report.html" if alone else out / record.relative.parent / f"{record.relative.name}_report.html"


def write_report(
    record: Record, settings: Mapping[str, Any], out: Path, *, card: Card | None = None, how: How = USUAL,
    alone: bool = True, overwrite: bool = False,
) -> Path:  # fmt: skip
    """Write the page of one separated file and return its path; `settings` are shown as they are.

    A page of an earlier run is replaced, another file of that name only with `overwrite` (OutputError). BadInput
    or InputNotFound if the input or an output has gone since.
    """
    path = report_path(record, out, alone)
    check_replaceable(path, overwrite)
    tracks = _heard(record, how)
    counts = [_samples(track) for track in tracks]
    linked = sum(counts) > MOST_SAMPLES
    codec = "flac" if sum(counts) <= MOST_FLAC_SAMPLES else "mp3"
    total = _measure(tracks)
    # One gain for all, so that they still add up, and only where something would pass full scale.
    top = max((track.peak * track.gain for track in tracks if math.isfinite(track.peak)), default=0.0)
    common = min(1.0, 0.999 / top) if top > 0 else 1.0
    beside = path.with_name(f"{path.stem}_media")
    _forget(beside)
    done = [_track(replace(track, gain=track.gain * common), path, linked, codec, record) for track in tracks]
    page = Separated(
        name=_name(record),
        lead=_lead(record, tracks),
        duration_s=record.duration_s,
        rate=listen.page_rate(record.rate, codec),
        tracks=done,
        total=(total.lufs, total.peak),
        joins=[Join(seam.time_s, seam.order, seam.confidence, seam.quiet) for seam in record.seams],
        linked=linked,
        facts=_facts(record, tracks[0].lufs, total, card),
        settings=_text({**settings, "sample format": record.subtype, "settings hash": record.settings}),
        credits=_credits(card),
        notices=_notices(record, linked, common, codec),
        version=__version__,
    )
    return html.save(path, separation_page(page), overwrite=True)


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
            Row(
                name=record.file,
                link=html.link(own, out) if own.is_file() else "",
                duration_s=record.duration_s,
                sources=len(record.tracks),
                active=sum(track.active for track in record.tracks),
                gain_db=record.gain_db,
                null_db=record.null_db,
                joins=len(record.seams),
                low=sum(Join(s.time_s, s.order, s.confidence, s.quiet).low for s in record.seams),
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
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependency(f"--figure needs matplotlib: {plots.INSTALL}")


def write_figure(record: Record, path: Path, how: How = USUAL, overwrite: bool = False) -> Path:
    """Draw input and sources of a record as PNG or SVG for print and return the path.

    A picture of an earlier run is replaced, another file of that name only with `overwrite` (OutputError).
    """
    from usepcli.report.pictures import spectrograms

    check_replaceable(path, overwrite)
    drawn = []
    for track in _heard(record, how):
        info = io.info(track.path)
        painter = listen.Painter(info.rate, seconds=info.seconds)
        for block in track.blocks():
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


def _heard(record: Record, how: How) -> list[_Heard]:
    """Return the input, turned down as the outputs were, and every source that has a file."""
    name = "standard input" if record.file == "-" else io.show(record.source.name)
    found = [_Heard("Mixture", "mixture", record.source, how, 10 ** (record.gain_db / 20), file=name)]
    for track in record.written:
        rest = track.source == RESIDUAL
        label = "Residual" if rest else f"Source {track.source}"
        found.append(
            _Heard(
                label, "residual" if rest else "source", track.path, USUAL, lufs=track.lufs, peak=track.peak,
                activity=track.activity, file=io.show(track.path.name),
            )
        )  # fmt: skip
    return found


def _samples(track: _Heard) -> int:
    info = io.info(track.path)
    return round(info.frames * track.channels * min(1.0, listen.TOP_RATE / info.rate))


@dataclass(frozen=True)
class _Total:
    """What all sources are together: loudness, largest sample, and the power by which they miss the input (dB)."""

    lufs: float = math.nan
    peak: float = math.nan
    missed_db: float = math.nan


def _measure(tracks: Sequence[_Heard]) -> _Total:
    """Find loudness and peak of the input as it is, and what the written files are together, rounding included."""
    mixture, rate = tracks[0], io.info(tracks[0].path).rate
    before, after = (LoudnessMeter(rate, mixture.channels) for _ in range(2))
    top = peak = missed = power = 0.0
    for waves in zip(*(track.blocks() for track in tracks), strict=False):
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


def _track(track: _Heard, page: Path, linked: bool, codec: str, record: Record) -> Track:
    """Read a track once for its picture, and for its sound where that goes into the page or beside it."""
    info = io.info(track.path)
    painter = listen.Painter(info.rate, _COLUMNS, seconds=info.seconds)
    apart = linked and (info.format not in _PLAYED or info.subtype not in _PLAYED_SUBTYPES or track.how.one_channel)
    apart = apart or (linked and track.kind == "mixture" and record.file == "-")
    kept: list[np.ndarray] = []
    if apart:
        target = page.with_name(f"{page.stem}_media") / f"{track.name.lower().replace(' ', '_')}.flac"
        _copy(track, target, info)
        src = html.link(target, page.parent)
    else:
        src = html.link(track.path, page.parent) if linked else ""
    for block in track.blocks():
        painter.push(block * np.float32(track.gain))
        if not linked:
            kept.append(block)
    if not linked:
        src = listen.encode(np.concatenate(kept, 1), info.rate, codec, track.gain)
    gone = track.kind == "mixture" and record.file == "-"
    return Track(
        name=track.name, kind=track.kind, src=src, picture=painter.finish(), lufs=track.lufs, peak=track.peak,
        activity=track.activity, file=track.file, link="" if gone else html.link(track.path, page.parent),
        gain=track.gain if linked and not apart else 1.0,
    )  # fmt: skip


def _forget(beside: Path) -> None:
    """Remove what an earlier page wrote beside itself, and nothing else that may lie there."""
    for old in (*beside.glob("source_*.flac"), beside / "mixture.flac", beside / "residual.flac"):
        old.unlink(missing_ok=True)
    with suppress(OSError):
        beside.rmdir()


def _copy(track: _Heard, target: Path, info: io.Info) -> None:
    """Write a track, gain included, as a 16-bit FLAC that browsers play."""
    rate = listen.page_rate(info.rate)
    sampler = StreamResampler(info.rate, rate, track.channels)
    with io.Writer(target, rate, track.channels, "PCM_16", overwrite=True) as writer:
        for block in track.blocks():
            writer.write(sampler.push(block * np.float32(track.gain)))
        writer.write(sampler.push(np.zeros((track.channels, 0), np.float32), last=True))


def _name(record: Record) -> str:
    return "Standard input" if record.file == "-" else record.source.name


def _lead(record: Record, tracks: Sequence[_Heard]) -> str:
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
        ("Sum minus input", null(record.null_db)),
        (f"…of the {record.subtype} files", null(total.missed_db)),
        ("Common gain", decibel(record.gain_db, digits=2) if record.gain_db else "none"),
        ("Seams", f"{len(record.seams)}, {record.swaps} reordered" if record.seams else "none"),
        *model,
    ]


def _notices(record: Record, linked: bool, common: float, codec: str) -> list[str]:
    said = []
    if record.missing_s:
        said.append(f"The file is {record.missing_s:g} s shorter than its header says; what is there was separated.")
    if record.gain_db:
        said.append(
            f"All sources were turned down by {decibel(-record.gain_db, digits=2)} so that none clips; the mixture is "
            "played here turned down as much."
        )
    if record.left_out:
        names = ", ".join(record.left_out)
        said.append(f"Near-silent and not written: {names}. The sum of what is heard here lacks it.")
    if common < 0.995:  # what rounds to 0.0 dB needs no word
        said.append(f"Everything is played {decibel(-20 * math.log10(common))} softer here, so that no peak clips.")
    if linked:
        said.append(
            "A long recording: this page plays the sound files themselves, so keep it where it lies beside them. "
            "Several tracks at once run together within milliseconds (tens of them just after a start or a jump), not "
            "to the sample."
        )
    elif codec == "mp3":
        said.append("The sound inside this page is MP3, to keep the page small; the files themselves are not.")
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
