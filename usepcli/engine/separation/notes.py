"""What a listener should know of each file that was separated, in words."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable

from usepcli.audio.formats import LOSSY
from usepcli.engine.separation.record import Record
from usepcli.files import show
from usepcli.separator.how import USUAL, How
from usepcli.weights.cards import Card, barred, trained_for

_EQUAL_DB = -100.0
_ROUNDED_DB = -96.0  # of full scale: half a code of 16 bits
_BAND = {
    "share": "goes to the sources in proportion to what they hold just below it",
    "leave": "is left out of the sources",
    "source": "is in the residual",
}


class Notes:
    """Says what a listener should know about each file; warnings also when quiet."""

    def __init__(self, say: Callable[[str], None], how: How, quiet: bool) -> None:
        self.say, self.how, self.quiet = say, how, quiet
        self._rates: set[int] = set()
        self._uncalibrated = False

    def skipped(self, done: int, total: int) -> None:
        """Say that files are done already."""
        if done and not self.quiet:
            self.say(f"{done} of {total} files are done already (outputs.csv); --no-resume separates them again")

    def file(self, record: Record, inner: int) -> None:
        """Say what became of a file: gain, missing samples, sources left out, sum check, band limit.

        inner: the model's rate in Hz.
        """
        from usepcli.audio import io

        file, say = record.file, self.say
        if record.gain_db:
            say(f"{file}: all sources turned down by {-record.gain_db:.2f} dB so that none clips")
        if record.missing_s:
            say(f"{file}: {record.missing_s:g} s shorter than its header or its size says; separated what is there")
        if record.lost:
            kind = record.tracks[0].path.suffix
            say(f"{file}: {kind} files cannot hold what it says of {', '.join(record.lost)}; left out")
        stays(record, say)
        for track in record.tracks:
            if track.silenced:
                kept = "its file is silent" if track.written else "it has no file"
                say(
                    f"{file}: '{track.query}' is judged absent (presence {track.presence:.2f}): {kept}; --always "
                    "writes what was found"
                )
            elif not track.written:
                say(f"{file}: source {track.label} {track.faint} and was not written; --sources all writes it")
        if self.quiet:
            return
        if not self.how.track and len(found := io.tracks(record.source)) > 1:
            say(f"{file}: has {len(found)} tracks of sound ({'; '.join(found)}); took the first, see --track")
        sounds = any(track.level_db > -math.inf for track in record.tracks)
        if not sounds:
            say(f"{file}: all its sources are silent")
        for track in record.tracks:
            if sounds and track.written and not track.active and not track.silenced:
                say(f"{file}: source {track.label} {track.faint}; --sources auto leaves such sources out")
        if record.file != "-" and io.is_open_ended(record.source):
            say(f"{file}: nothing in it says where it ends; if it was cut short, nobody can tell")
        self._presence(record)
        rate = record.rate
        if rate > inner and rate not in self._rates:
            self._rates.add(rate)
            say(
                f"{file}: {rate} Hz, but the model works at {inner} Hz: what lies above {inner / 2000:g} kHz "
                f"{_BAND[self.how.rest]}"
            )
        say(f"{file}: {null(record, self.how)}")

    def _presence(self, record: Record) -> None:
        """Say once of a model by query that its answers do not tell what is absent."""
        bare = any(track.query and math.isnan(track.presence) for track in record.tracks)
        if bare and not self._uncalibrated:
            self._uncalibrated = True
            self.say(
                "presence: the model is not calibrated, so an absent sound gets whatever it takes for it; see "
                "`usep calibrate`"
            )


def stays(record: Record, say: Callable[[str], None]) -> None:
    """Say which outputs of an earlier run are no part of what is listed, and are there all the same."""
    for path in record.left:
        say(f"{record.file}: {show(path)} is of an earlier separation and changed since: it stays, no longer listed")


def purpose(model: str, card: Card) -> list[str]:
    """Return in lines what a model can do at all.

    It is said of every input: cheap measures of a recording (how long partials hold, how far levels swing) that leave
    98 % of speech alone find four of five notes of instruments, and none of four electronic songs.
    """
    return textwrap.wrap(f"model {show(model)}: {trained_for(card)} {barred(card)}", 100)


def null(record: Record, how: How = USUAL) -> str:
    """Return the sum check in words: how far the files that were written, all together, miss the input.

    It is no measure of quality: two copies of the input at half its level would pass.
    """
    if math.isnan(record.null_db):
        several = len(record.left_out) > 1
        named = f"source{'s' * several} {', '.join(record.left_out)} {'were' if several else 'was'}"
        kept = named if record.left_out else "some sources were"
        return f"no sum check: {kept} not written, so the files do not add up to the input"
    whole = {"mix": "the mean of the input's channels", "first": "the input's first channel"}
    goal = whole.get(how.channels, "the input")
    if record.gain_db:
        goal += ", turned down as they are,"
    if math.isinf(record.null_db):
        said = f"sources add up to {goal} exactly" if record.null_db < 0 else "the input is silent, its sources are not"
    else:
        close = min(record.null_db - _EQUAL_DB, record.null_peak_db - _ROUNDED_DB) < 0
        said = f"sources {f'add up to {goal}: difference' if close else f'differ from {goal} by'}"
        said += f" {record.null_db:.0f} dB of it, peak {record.null_peak_db:.0f} dB of full scale"
    coded = f", before coding as {record.subtype}" if record.subtype in LOSSY.values() else ""
    return f"{said}{coded} (sum check, not quality)"
