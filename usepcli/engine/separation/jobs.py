"""From files, folders and patterns to jobs: which file becomes which outputs; clashes are found here."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import os
import string
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from usepcli.audio import io
from usepcli.audio.formats import LOSSY
from usepcli.errors import InputNotFound, OutputError, UsageError, choices

FORMATS = ("wav", "flac", "ogg", "mp3", "aiff", "w64", "caf")


@dataclass(frozen=True)
class Source:
    """An input file, the path below the output folder, without suffix, that its outputs build on, and its name.

    `name` is what messages and tables call it; empty for the path itself.
    """

    path: Path
    relative: Path
    name: str = ""


@dataclass(frozen=True)
class Job:
    """One file to separate: its outputs in order, and the subtype to write ('' takes the input's own).

    `names` are the sources that the outputs hold, "1", "2" and so on; `relative` and `name` as in Source.
    """

    source: Path
    outputs: tuple[Path, ...]
    subtype: str = ""
    names: tuple[str, ...] = ()
    relative: Path = Path()
    name: str = ""

    @property
    def file(self) -> str:
        """What messages and tables call the input: its path as given, or - for standard input."""
        return self.name or os.fspath(self.source)


def read_list(data: bytes, null: bool = False) -> list[str]:
    """Return the paths in a list: one per line (LF or CR LF), or each ended by NUL; empty ones are left out."""
    parts = data.split(b"\0") if null else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [os.fsdecode(part) for part in parts if part]


def find_sources(
    inputs: Iterable[str | Path], out: Path, stdin: Path | None = None, made: Container[str] = ()
) -> list[Source]:
    """Return the sound files that files, folders and glob patterns stand for.

    Folders keep their tree, and patterns theirs below the folder that they name before the first wildcard; links to
    folders are not followed into the depth.

    Files in a folder `out` below an input are left out, and so are those in `made`, the real paths of what earlier
    runs wrote: a second run does not separate the sources of the first. Named files are taken as they are (a bad
    one fails later, alone); InputNotFound for a folder or pattern without any sound file. `-` stands for `stdin`,
    where standard input was copied to.
    """
    found: dict[str, Source] = {}
    for text in inputs:
        path, named = Path(text), False
        if stdin is not None and str(text) == "-":
            sources = [Source(stdin, Path("stdin"), "-")]
        elif path.is_dir():
            sources = _below(path, _walk(path, out))
        elif not os.path.lexists(path) and glob.has_magic(str(text)):
            sources = _below(_fixed(path), _matches(path, out))
        else:
            sources, named = [Source(path, Path(path.stem))], True
        if not sources:
            hint = "; a [ that is part of a name is written [[]" if "[" in str(text) else ""
            suffixes = " ".join(sorted(io.AUDIO_SUFFIXES))
            raise InputNotFound(f"{io.show(text)}: no sound files there ({suffixes}){hint}")
        for source in sources:
            real = os.path.realpath(source.path)
            if named or real not in made:
                found.setdefault(real, source)
    if not found:
        raise InputNotFound(f"{io.show(out)}: all sound files named are outputs in there; name what they come from")
    return list(found.values())


def _below(folder: Path, paths: Iterable[Path]) -> list[Source]:
    return [Source(path, path.relative_to(folder).with_suffix("")) for path in paths]


def _fixed(pattern: Path) -> Path:
    """Return the folder that a pattern names before its first wildcard."""
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))


def _matches(pattern: Path, out: Path) -> list[Path]:
    """Return the sound files that a pattern names; ** stands for any number of folders."""
    if "**" not in pattern.parts:
        return sorted(p for p in map(Path, glob.glob(str(pattern))) if _is_sound(p) and not p.is_dir())
    fixed = _fixed(pattern)
    wanted = pattern.parts[len(fixed.parts) :]
    return [path for path in _walk(fixed, out) if _fits(path.relative_to(fixed).parts, wanted)]


def _fits(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    if not wanted or not parts:
        return not parts and all(part == "**" for part in wanted)
    if wanted[0] == "**":
        return _fits(parts, wanted[1:]) or _fits(parts[1:], wanted)
    return fnmatch.fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])


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
    sources: Sequence[Source], out: Path, names: int | Sequence[str], *, name: str = "{stem}_{i}", form: str = "wav",
    subtype: str = "", overwrite: bool = False,
) -> list[Job]:  # fmt: skip
    """Return the jobs of `lay_out`; OutputError also where an output exists or hits an input."""
    jobs = lay_out(sources, out, names, name=name, form=form, subtype=subtype)
    refuse_outputs(jobs, overwrite, [source.path for source in sources])
    return jobs


def lay_out(
    sources: Sequence[Source], out: Path, names: int | Sequence[str], *, name: str = "{stem}_{i}", form: str = "wav",
    subtype: str = "",
) -> list[Job]:  # fmt: skip
    """Return one job per source file, with an output for each of `names` (a number n stands for 1 to n).

    UsageError for a wrong name, format or subtype; OutputError where two files want one output, or no folder
    can be made there.
    """
    check_template(name)
    if form not in FORMATS:
        raise UsageError(choices("format", form, FORMATS))
    if subtype:
        check_subtype(f"x.{form}", subtype)
    labels = tuple(str(k + 1) for k in range(names)) if isinstance(names, int) else tuple(names)
    jobs = []
    for source in sources:
        files = [_fill(name, source, label) + f".{form}" for label in labels]
        if len({file.casefold() for file in files}) < len(files):
            raise UsageError(
                f"--name: '{name}' gives two sources one name, {files[0]}; expected another for each {{i}}"
            )
        outputs = tuple(out / source.relative.parent / file for file in files)
        jobs.append(Job(source.path, outputs, subtype, labels, source.relative, source.name))
    _refuse_clashes(jobs)
    _refuse_folder(out)
    return jobs


class _Word(str):
    """The name of a source that has no number: takes its place in a template whatever format a number has there."""

    def __format__(self, spec: str) -> str:
        return str(self)


def _fill(template: str, source: Source, label: str) -> str:
    number = int(label) if label.isdecimal() else _Word(label)
    folder = os.path.basename(os.path.dirname(os.path.abspath(source.name or source.path)))
    return template.format(stem=source.relative.name, ext=source.path.suffix[1:], folder=folder, i=number)


def choose(names: Sequence[str], keep: str) -> tuple[str, ...]:
    """Return those of `names` that "1,3" lists, all of them for "", and always a source without a number."""
    if not keep:
        return tuple(names)
    numbers = [name for name in names if name.isdecimal()]
    wanted = [part.strip() for part in keep.split(",")]
    foreign = [part for part in wanted if part not in numbers]
    if foreign:
        raise UsageError(f"--keep {keep}: found '{foreign[0]}'; expected numbers of sources: {', '.join(numbers)}")
    return tuple(name for name in names if name in wanted or name not in numbers)


def check_template(name: str) -> None:
    """Raise UsageError unless `name` is a file name with {i} and at most {stem}, {ext} and {folder} besides."""
    try:
        fields = {field for _, field, _, _ in string.Formatter().parse(name) if field is not None}
        sample = name.format(stem="x", ext="wav", folder="y", i=1)
    except (ValueError, KeyError, IndexError, AttributeError) as fault:
        raise UsageError(f"--name: '{name}' is no template ({fault}); expected e.g. '{{stem}}_{{i}}'") from fault
    if "i" not in fields or not fields <= {"i", "stem", "ext", "folder"}:
        raise UsageError(f"--name: found '{name}'; expected {{i}} and, besides it, {{stem}}, {{ext}} or {{folder}}")
    if Path(sample).name != sample:
        raise UsageError(f"--name: '{name}' names a folder; expected a file name, folders come from --out")


def check_subtype(path: str | Path, subtype: str) -> None:
    """Raise UsageError if a file of this suffix cannot hold the sample format `subtype`."""
    only = LOSSY.get(Path(path).suffix.lower(), subtype)
    if subtype != only:
        raise UsageError(f"--subtype {subtype}: {Path(path).suffix} files hold {only} only; leave --subtype out")
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
                if other.parent == job.source.parent:
                    way = "rename one, or add {ext} to --name if they differ in that"
                else:
                    way = "give their common folder as input, or --name '{folder}_{stem}_{i}'"
                raise OutputError(
                    f"{io.show(path)}: would be written for both {io.show(other)} and {io.show(job.source)}; {way}"
                )


def refuse_existing(path: Path, overwrite: bool, sources: Iterable[Path], why: str = "") -> None:
    """Raise OutputError if the output exists and may not be replaced; an input may never be replaced."""
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise OutputError(f"{io.show(path)}: exists already{why}; choose another folder or pass --overwrite")
    if path.is_dir():
        raise OutputError(f"{io.show(path)}: is a folder where a sound file is to be written")
    real = os.path.realpath(path)
    if any(os.path.realpath(source) == real for source in sources):
        raise OutputError(f"{io.show(path)}: is an input; an input is never overwritten, choose another folder")


def refuse_outputs(
    jobs: Iterable[Job], overwrite: bool, sources: Iterable[Path], ours: Container[Path] = (),
    why: Callable[[Path], str] = lambda _: "",
) -> None:  # fmt: skip
    """Do `refuse_existing` for every output; those in `ours` may be replaced, `why` explains the others."""
    # An input under any of its names, also through links.
    inputs = {_identity(source): source for source in sources}
    for path in (path for job in jobs for path in job.outputs):
        hit = inputs.get(_identity(path)) if os.path.lexists(path) else None
        refuse_existing(path, overwrite or path in ours, [] if hit is None else [path], why(path))


def _identity(path: Path) -> tuple[int, int] | str:
    try:
        held = os.stat(path)
    except OSError:
        return os.path.abspath(path)
    return held.st_dev, held.st_ino


def _refuse_folder(out: Path) -> None:
    place = out
    while not os.path.lexists(place):
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{io.show(out)}: cannot be made or written to; choose another folder with -o")
