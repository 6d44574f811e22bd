"""The pages of a separation: one recording to see and hear, and the table of many."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from usepcli.report import html
from usepcli.report.progress import clock

# Where a player has its tracks from, and what it does with them: decoded as a whole and played to the sample; held as
# MP3 in elements of their own and streamed from there; or files beside the page, streamed.
SOUND = ("inside", "streamed", "linked")
LOW_CONFIDENCE = 0.5  # the same in player.js
_SEAMS_SHOWN = 300
# The levels are those of player.js.
DRAWN = (
    "Drawn for each track: its waveform, all on one scale; a strip that is dark where it sounds, down to 40 dB below "
    "the loudest moment of all tracks; its spectrogram on the mel scale, down to 62 dB below the loudest band of all."
)


# What a difference of -100 dB is easily taken for.
ADDING_UP = (
    "That the sources add up to the input shows that nothing was lost or added. It is no measure of how well they are "
    "separated: two bad sources add up as exactly as two good ones."
)


@dataclass(frozen=True)
class Lane:
    """One thing to hear: `src` is a data: URI, base64 of MP3, or a relative URL (see SOUND); `gain`: of playing.

    `kind` is mixture, source or residual; `lufs` its loudness, `peak` its largest sample, `activity` the share of
    time (0 to 1) in which it sounds, nan where unknown. `file` is the name to show and `link` the relative URL of
    the file itself, both empty where none was written (`silent`: too quiet to be worth one).
    """

    name: str
    kind: str
    src: str
    picture: Mapping[str, Any]
    lufs: float = math.nan
    peak: float = math.nan
    activity: float = math.nan
    file: str = ""
    link: str = ""
    gain: float = 1.0


@dataclass(frozen=True)
class Seam:
    """A seam between two chunks: when, which outputs of the new chunk continued the sources, and how sure."""

    time_s: float
    order: tuple[int, ...]
    confidence: float
    quiet: bool

    @property
    def low(self) -> bool:
        """True if a listener should check it: a doubtful decision while something sounded."""
        return self.confidence < LOW_CONFIDENCE and not self.quiet


@dataclass(frozen=True)
class Separated:
    """What the page of one recording says: `facts` and `settings` are (label, text), `notices` whole sentences.

    `trained_for`: one sentence on what the model is for, as its card has it.

    `sound`: see SOUND. `rate`: that of the tracks inside the page, in Hz. `total`: loudness and peak of all sources
    together.
    """

    name: str
    lead: str
    duration_s: float
    rate: int
    tracks: Sequence[Lane]
    total: tuple[float, float] = (math.nan, math.nan)
    joins: Sequence[Seam] = ()
    sound: str = "inside"
    facts: Sequence[tuple[str, str]] = ()
    settings: Sequence[tuple[str, str]] = ()
    credits: Sequence[tuple[str, str]] = ()
    notices: Sequence[str] = field(default_factory=list)
    trained_for: str = ""
    version: str = ""


@dataclass(frozen=True)
class Entry:
    """One recording in the table of many; `link` leads to its page, '' where it has none."""

    name: str
    link: str
    duration_s: float
    sources: int
    active: int
    gain_db: float
    null_db: float
    joins: int
    low: int


def separation_page(what: Separated) -> Iterator[str]:
    """Yield the page of one recording, piece by piece: its sound may be large.  ValueError for an unknown `sound`."""
    if what.sound not in SOUND:
        raise ValueError(f"sound {what.sound!r}: expected one of {', '.join(SOUND)}")
    texts = {f"sound-{k}": t.src for k, t in enumerate(what.tracks)} if what.sound == "streamed" else {}
    sources = [f"#{name}" for name in texts] or [t.src for t in what.tracks]
    spec = {
        "label": what.name, "duration": what.duration_s, "rate": what.rate, "sound": what.sound,
        "tracks": [
            {
                "name": t.name, "kind": t.kind, "src": src, "gain": t.gain, "picture": t.picture,
                "note": _measures(t),
            }
            for t, src in zip(what.tracks, sources, strict=True)
        ],
        "seams": [
            {"time": j.time_s, "order": [k + 1 for k in j.order], "confidence": j.confidence, "quiet": j.quiet}
            for j in what.joins
        ],
    }  # fmt: skip
    body = [
        f"<main>\n<h1>{html.escape(what.name)}</h1>\n<p class='lead'>{html.escape(what.lead)}</p>",
        f"<p class='trained'>{html.escape(what.trained_for)}</p>" if what.trained_for else "",
        *(f"<p class='notice'>{html.escape(notice)}</p>" for notice in what.notices),
        '<div data-player="main"></div>',
        f"<p class='quiet'>{DRAWN}</p>",
        "<noscript><p class='notice'>The player needs JavaScript, which runs from this page alone.</p></noscript>",
        _facts(what.facts),
        f"<p class='quiet'>{ADDING_UP}</p>",
        "<h2>Sources</h2>",
        _tracks(what.tracks, what.total),
        *_joins(what.joins),
        *_listing("Settings", what.settings),
        *_listing("Model", what.credits),
        _footer(what.version, what.sound == "linked"),
    ]
    yield from html.pieces(what.name, "\n".join(body), data={"players": {"main": spec}}, texts=texts)


def index_page(
    title: str,
    rows: Sequence[Entry],
    failures: Sequence[tuple[str, str]],
    settings: Sequence[tuple[str, str]] = (),
    version: str = "",
) -> str:
    """Return the table of many recordings, with what failed as (file, error)."""
    seconds = sum(row.duration_s for row in rows)
    nulls = [row.null_db for row in rows if not math.isnan(row.null_db)]
    facts = [
        ("Recordings", str(len(rows))),
        ("Together", clock(seconds)),
        ("Failed", str(len(failures))),
        ("Turned down", f"{sum(row.gain_db != 0 for row in rows)} of {len(rows)}"),
        ("Doubtful seams", f"{sum(row.low for row in rows)} of {sum(row.joins for row in rows)}"),
        ("Worst sum check, not quality", null(max(nulls)) if nulls else "not measured"),
    ]
    heads = ("Recording", "Length", "Sources", "Gain", "Sum − input", "Seams", "Doubtful")
    table = [_table(heads, [_row(row) for row in rows], sortable=True)] if rows else []
    failed = [
        f"<tr><th scope='row'>{html.escape(file)}</th><td>{html.escape(error)}</td></tr>" for file, error in failures
    ]
    body = [
        f"<main>\n<h1>{html.escape(title)}</h1>\n<p class='lead'>{_count(len(rows))} separated</p>",
        *([f"<p class='notice bad'>{_count(len(failures))} failed, listed below.</p>"] if failures else []),
        _facts(facts),
        f"<p class='quiet'>{ADDING_UP}</p>",
        *table,
        *(["<h2>Failed</h2>", _table(("Recording", "Why"), failed)] if failures else []),
        *_listing("Settings", settings),
        _footer(version),
    ]
    return html.page(title, "\n".join(body))


def _count(number: int) -> str:
    return f"{number} recording{'' if number == 1 else 's'}"


def decibel(value: float, unit: str = "dB", digits: int = 1) -> str:
    """Return a level as text with a true minus sign; silence as −∞."""
    if math.isnan(value):
        return "not measured"
    if math.isinf(value):
        return f"{'−' if value < 0 else ''}∞\u00a0{unit}"
    text = f"{value:.{digits}f}"
    text = text if float(text) else text.removeprefix("-")  # a peak just below full scale is not minus nothing
    return f"{text}\u00a0{unit}".replace("-", "−")


def null(value: float) -> str:
    """Return how far a sum misses what it should be, as text: a level in dB, or that it is exact."""
    return "exact" if value == -math.inf else decibel(value)


def percent(share: float) -> str:
    """Return a share between 0 and 1 in per cent."""
    return "not measured" if math.isnan(share) else f"{100 * share:.0f}\u00a0%"


def _measures(track: Lane) -> list[str]:
    parts = [] if math.isnan(track.lufs) else [decibel(track.lufs, "LUFS")]
    return parts + ([] if math.isnan(track.activity) else [f"sounds\u00a0{percent(track.activity)}"])


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    items = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in facts)
    return f"<dl class='facts'>{items}</dl>"


def _tracks(tracks: Sequence[Lane], total: tuple[float, float]) -> str:
    rows = []
    for track in tracks:
        name = html.escape(track.file)
        file = f"<a href='{html.escape(track.link)}'>{name}</a>" if track.link else name
        share = "" if track.kind == "mixture" else percent(track.activity)
        rows.append(_measured(track.name, track.lufs, track.peak, share, file))
    if not math.isnan(total[1]):
        rows.append(_measured("All sources together", *total, "", ""))
    return _table(("", "Loudness", "Peak", "Sounds", "File"), rows, numeric=(1, 2, 3))


def _measured(name: str, lufs: float, peak: float, share: str, file: str) -> str:
    level = 20 * math.log10(peak) if peak > 0 else math.nan if math.isnan(peak) else -math.inf
    cells = [decibel(lufs, "LUFS"), decibel(level, "dBFS"), share]
    numbers = "".join(f"<td class='number'>{html.escape(cell)}</td>" for cell in cells)
    return f"<tr><th scope='row'>{html.escape(name)}</th>{numbers}<td>{file}</td></tr>"


def _joins(joins: Sequence[Seam]) -> list[str]:
    if not joins:
        return []
    low = [join for join in joins if join.low]
    shown = (
        joins if len(joins) <= _SEAMS_SHOWN else sorted(joins, key=lambda j: (not j.low, j.confidence))[:_SEAMS_SHOWN]
    )
    rows = [
        f"<tr><th scope='row'><button type='button' data-seek='{max(0.0, join.time_s):.3f}'>{_time(join.time_s)}"
        f"</button></th><td>{_order(join.order)}</td><td class='number{' low' if join.low else ''}'"
        f" data-value='{join.confidence:.4f}'>{percent(join.confidence)}</td><td>{_say(join)}</td></tr>"
        for join in shown
    ]
    seams = f"{len(joins)} seam{'' if len(joins) == 1 else 's'}"
    said = f"{seams} between chunks, {len(low)} of them doubtful" if low else f"{seams}, none doubtful"
    less = f"<p class='quiet'>The {len(shown)} least certain are shown.</p>" if len(shown) < len(joins) else ""
    note = (
        "<p class='quiet'>A long recording goes through the model in chunks. At each seam the new chunk’s outputs are "
        "matched with the sources so far; a doubtful seam is where two sources may have changed places.</p>"
    )
    table = _table(("At", "Order", "Confidence", ""), rows, sortable=True, numeric=(2,))
    return [
        "<h2>Seams</h2>", note,
        f"<details{' open' if low and len(shown) <= 20 else ''}><summary>{said}</summary>{less}{table}</details>",
    ]  # fmt: skip


def _say(join: Seam) -> str:
    if join.low:
        return "listen here"
    return "in a pause" if join.quiet else ""


def _order(order: tuple[int, ...]) -> str:
    text = " ".join(str(k + 1) for k in order)
    return text if order == tuple(range(len(order))) else f"{text} (changed)"


def _time(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"


def _listing(title: str, pairs: Sequence[tuple[str, str]]) -> list[str]:
    if not pairs:
        return []
    rows = [f"<tr><th scope='row'>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in pairs]
    table = f"<div class='table'><table class='plain'><tbody>{''.join(rows)}</tbody></table></div>"
    return [f"<details><summary>{title}</summary>{table}</details>"]


def _row(row: Entry) -> str:
    name = html.escape(row.name)
    cells = [
        (f"{row.duration_s:.3f}", clock(row.duration_s)),
        (str(row.sources), str(row.sources) if row.active == row.sources else f"{row.sources} ({row.active} sound)"),
        (f"{row.gain_db:.3f}", decibel(row.gain_db, digits=2) if row.gain_db else "0 dB"),
        (f"{max(row.null_db, -999.0):.3f}" if not math.isnan(row.null_db) else "", null(row.null_db)),
        (str(row.joins), str(row.joins)),
        (str(row.low), str(row.low)),
    ]
    first = f"<a href='{html.escape(row.link)}'>{name}</a>" if row.link else name
    rest = "".join(f"<td class='number' data-value='{value}'>{html.escape(text)}</td>" for value, text in cells)
    return f"<tr><th scope='row'>{first}</th>{rest}</tr>"


def _table(
    heads: Sequence[str], rows: Sequence[str], *, sortable: bool = False, numeric: Sequence[int] | None = None
) -> str:
    right = range(1, len(heads)) if numeric is None and sortable else numeric or ()
    cells = "".join(
        f"<th scope='col'{' class=number' if k in right else ''}>{html.escape(head)}</th>"
        for k, head in enumerate(heads)
    )
    head = f"<thead><tr>{cells}</tr></thead>" if heads else ""
    kind = " class='sortable'" if sortable else ""
    return f"<div class='table'><table{kind}>{head}<tbody>{''.join(rows)}</tbody></table></div>"


def _footer(version: str, linked: bool = False) -> str:
    by = f"Made by usep {html.escape(version)}. " if version else ""
    holds = "plays the files beside it" if linked else "holds all that it shows"
    return f"<footer>{by}This page {holds} and asks no network for anything.</footer>\n</main>"
