"""From files, folders and patterns to jobs: which file becomes which outputs; clashes are found here."""

from __future__ import annotations

import glob
import os
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from usepcli.audio import io
from usepcli.errors import InputNotFound, OutputError, UsageError, choices

FORMATS = ("wav", "flac", "ogg", "mp3", "aiff", "w64", "caf")


@dataclass(frozen=True)
class Source:
    """An input file, and the path below the output folder, without suffix, that its outputs build on."""

    path: Path
    relative: Path


@dataclass(frozen=True)
class Job:
    """One file to separate: its outputs in order, and the subtype to write ('' takes the input's own)."""

    source: Path
    outputs: tuple[Path, ...]
    subtype: str = ""


def find_sources(inputs: Iterable[str | Path], out: Path) -> list[Source]:
    """Return the sound files that files, folders and glob patterns stand for; folders keep their tree.

    Files under `out` are left out, so that a second run does not separate what the first one wrote. Named
    files are taken as they are (a bad one fails later, alone); InputNotFound for a folder or pattern without
    any sound file.
    """
    found: dict[str, Source] = {}
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            sources = [Source(p, p.relative_to(path).with_suffix("")) for p in _walk(path, out)]
        elif not os.path.lexists(path) and glob.has_magic(str(text)):
            sources = [
                Source(p, Path(p.stem)) for p in sorted(map(Path, glob.glob(str(text), recursive=True))) if _is_sound(p)
            ]
        else:
            sources = [Source(path, Path(path.stem))]
        if not sources:
            raise InputNotFound(f"{io.show(text)}: no sound files there ({' '.join(sorted(io.AUDIO_SUFFIXES))})")
        for source in sources:
            found.setdefault(os.path.realpath(source.path), source)
    return list(found.values())


def _walk(folder: Path, out: Path) -> list[Path]:
    # os.walk does not follow links to folders, so a loop of links does no harm.
    skip = os.path.realpath(out)
    paths = []
    for place, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if os.path.realpath(os.path.join(place, f)) != skip and not f.startswith(".")]
        paths += [Path(place, name) for name in names if _is_sound(Path(name))]
    return sorted(paths)


def _is_sound(path: Path) -> bool:
    return path.suffix.lower() in io.AUDIO_SUFFIXES and not path.name.startswith(".")


def plan(
    sources: Sequence[Source], out: Path, n_src: int, *, name: str = "{stem}_{i}", form: str = "wav",
    subtype: str = "", overwrite: bool = False,
) -> list[Job]:  # fmt: skip
    """Return one job per source file; OutputError where outputs clash, exist or hit an input."""
    check_template(name)
    if form not in FORMATS:
        raise UsageError(choices("format", form, FORMATS))
    if subtype:
        check_subtype(f"x.{form}", subtype)
    jobs = []
    for source in sources:
        stem = source.relative.name
        files = [name.format(stem=stem, i=k + 1) + f".{form}" for k in range(n_src)]
        jobs.append(Job(source.path, tuple(out / source.relative.parent / file for file in files), subtype))
    _refuse_clashes(jobs)
    for path in (path for job in jobs for path in job.outputs):
        refuse_existing(path, overwrite, [source.path for source in sources])
    _refuse_folder(out)
    return jobs


def check_template(name: str) -> None:
    """Raise UsageError unless `name` is a file name with {i} and at most {stem} besides."""
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(name) if field is not None}
        sample = name.format(stem="x", i=1)
    except (ValueError, KeyError, IndexError, AttributeError) as fault:
        raise UsageError(f"--name: '{name}' is no template ({fault}); expected e.g. '{{stem}}_{{i}}'") from fault
    if "i" not in fields or not fields <= {"i", "stem"}:
        raise UsageError(f"--name: found '{name}'; expected {{i}} and, besides it, at most {{stem}}")
    if Path(sample).name != sample:
        raise UsageError(f"--name: '{name}' names a folder; expected a file name, folders come from --out")


def check_subtype(path: str | Path, subtype: str) -> None:
    """Raise UsageError if a file of this suffix cannot hold the sample format `subtype`."""
    try:
        io.Writer(Path(path).name, 8000, 1, subtype, overwrite=True)  # looks at the names only
    except OutputError as fault:
        raise UsageError(f"--subtype {subtype}: {fault}") from fault


def _refuse_clashes(jobs: Sequence[Job]) -> None:
    taken: dict[str, Path] = {}
    for job in jobs:
        for path in job.outputs:
            # Names that differ in case only are one file on many systems.
            other = taken.setdefault(str(path).casefold(), job.source)
            if other != job.source:
                raise OutputError(
                    f"{io.show(path)}: would be written for both {io.show(other)} and {io.show(job.source)}; "
                    "separate them into different folders, or give their common folder as input"
                )


def refuse_existing(path: Path, overwrite: bool, sources: Iterable[Path]) -> None:
    """Raise OutputError if the output exists and may not be replaced; an input may never be replaced."""
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise OutputError(f"{io.show(path)}: exists already; choose another folder or pass --overwrite")
    if path.is_dir():
        raise OutputError(f"{io.show(path)}: is a folder where a sound file is to be written")
    real = os.path.realpath(path)
    if any(os.path.realpath(source) == real for source in sources):
        raise OutputError(f"{io.show(path)}: is an input; an input is never overwritten, choose another folder")


def _refuse_folder(out: Path) -> None:
    place = out
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{io.show(out)}: cannot be made or written to; choose another folder with -o")
