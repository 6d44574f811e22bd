"""What a list promises of a file, and whether the file keeps it: rate, length, channels, as its header has them.

A manifest was made from the files that it names.  A file that has changed since, or was cut short by a copy, still
decodes: as another length of silence, at another speed.  So a row whose files are not what it says is no data.  Where a
list leaves a number empty or 0 it promises nothing of it.
  rate      sample_rate of every file of a row, but for a sum of sources alone: these may have several
  length    frames of the mixture and of every source of a row that has both numbers; of a sum of sources alone the
            longest, and a stretch (`start`) has to lie within each file
  channels  a list says nothing of them: where their mean is heard, all files of a row have as many
  sources   where frames promise nothing, each lasts at least as long as its mixture, unless only what all have in
            common is used, as in scores
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from usepcli.audio.io import Info, show
from usepcli.audio.resample import length_after
from usepcli.data.manifest import Row
from usepcli.errors import BadInput

Header = Callable[[Path], Info]
_MEND = "bring the former file back, or make the list again with usep prepare-data"


def check_row(row: Row, mixture: Path | None, sources: list[Path], header: Header, covered: bool = True) -> None:
    """Raise BadInput for the first file of a row that is not what the row says; errors of `header`.

    mixture, sources: of the row, those that are opened; the sources of a row without a mixture are all of them.
    covered: where frames promise nothing, a source that ends before its mixture is no source of it.
    """
    exact = row.start is None and row.frames and row.sample_rate
    if not row.mixture:
        _check_sum(row, sources, header)
        return
    for path in [*([mixture] if mixture else []), *sources]:
        said = header(path)
        _check_rate(path, said, row.sample_rate)
        if exact:
            _check_length(path, said, row.frames)
        elif row.start is not None and said.frames * row.sample_rate < (row.start + row.frames) * said.rate:
            raise BadInput(
                f"{show(path)}: shorter than the list says, {said.frames} samples where the item lasts from sample "
                f"{row.start} to {row.start + row.frames}; {_MEND}"
            )
    if covered and mixture and not exact and row.start is None:
        _check_covered(mixture, sources, header)


class Promised(NamedTuple):
    """What a list says of an utterance; of a source of a `summed` row, it says the length of the sum."""

    sample_rate: int
    frames: int
    summed: bool = False


def check_channels(paths: list[Path], header: Header) -> None:
    """Raise BadInput where the files of a row have different numbers of channels."""
    counts = [header(path).channels for path in paths]
    if len(set(counts)) > 1:
        odd = next(i for i, count in enumerate(counts) if count != counts[0])
        raise BadInput(
            f"{show(paths[odd])}: channels: {counts[odd]}, but {counts[0]} in {show(paths[0])}; expected as many in "
            "every file of an item, or hear the first of each with data.channels: first"
        )


def check_utterance(promised: Promised, path: Path, said: Info) -> None:
    """Raise BadInput where an utterance is not what its list says; one of a sum may be shorter, of another rate."""
    rate, frames, summed = promised
    if summed and rate and length_after(said.frames, said.rate, rate) <= (frames or math.inf):
        return
    _check_rate(path, said, rate)
    if frames and rate:
        _check_length(path, said, frames)


def _check_rate(path: Path, said: Info, rate: int) -> None:
    if rate and said.rate != rate:
        raise BadInput(f"{show(path)}: {said.rate} Hz where the list says {rate} Hz; {_MEND}")


def _check_length(path: Path, said: Info, frames: int) -> None:
    if said.frames != frames:
        how = "shorter" if said.frames < frames else "longer"
        raise BadInput(
            f"{show(path)}: {how} than the list says, {said.frames} samples where {frames} were expected; {_MEND}"
        )


def _check_sum(row: Row, sources: list[Path], header: Header) -> None:
    """Check a sum of sources alone, which is as long as the longest of them and has the rate of the first."""
    lengths = [length_after(header(path).frames, header(path).rate, row.sample_rate or 1) for path in sources]
    if not lengths or not row.sample_rate:
        return
    _check_rate(sources[0], header(sources[0]), row.sample_rate)
    longest, end = max(lengths), (row.start or 0) + row.frames
    if row.frames and (longest < end or (row.start is None and longest > end)):
        raise BadInput(
            f"{show(sources[lengths.index(longest)])}: {'shorter' if longest < end else 'longer'} than the list says, "
            f"the longest source of {row.id} has {longest} samples where {end} were expected; {_MEND}"
        )


def _check_covered(mixture: Path, sources: list[Path], header: Header) -> None:
    whole = header(mixture)
    for path in sources:
        said = header(path)
        if said.frames * whole.rate < whole.frames * said.rate:
            raise BadInput(
                f"{show(path)}: shorter than its mixture, {said.frames} samples at {said.rate} Hz beside "
                f"{whole.frames} at {whole.rate} Hz in {show(mixture)}; {_MEND}"
            )
