"""From recordings to jobs: which file becomes which outputs, and what stands in the way of one of them."""

from __future__ import annotations

import itertools
import operator
import os
import string
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from usepcli.audio import io
from usepcli.audio.formats import LOSSY
from usepcli.audio.writer import check_suffix
from usepcli.engine.separation.source import Source, suffix_of
from usepcli.errors import OutputError, UsageError, choices
from usepcli.separator.how import RESIDUAL

FORMATS = ("wav", "flac", "ogg", "mp3", "aiff", "w64", "caf")


@dataclass(frozen=True)
class Job:
    """One file to separate: its outputs in order, and the subtype to write ('' takes the input's own).

    `names` are the sources that the outputs hold, "1", "2" and so on; the last three as in Source.
    """

    source: Path
    outputs: tuple[Path, ...]
    subtype: str = ""
    names: tuple[str, ...] = ()
    relative: Path = Path()
    name: str = ""
    tar: tuple[int, int] | None = None

    @property
    def file(self) -> str:
        """What messages and tables call the input: its path as given, or - for standard input."""
        return self.name or os.fspath(self.source)


Rivals = dict[str, list[Job]]  # the jobs that want one output, in their order
FileId = tuple[int, int] | str  # device and number, or the path of a file that cannot be asked


class InTheWay(OutputError):
    """An output exists already, and may be replaced by whoever says so."""


def plan(
    sources: Sequence[Source], out: Path, names: int | Sequence[str], *, name: str = "{stem}_{i}", form: str = "wav",
    subtype: str = "", overwrite: bool = False,
) -> list[Job]:  # fmt: skip
    """Return the jobs of `lay_out`; OutputError where one of them may not be done."""
    jobs = lay_out(sources, out, names, name=name, form=form, subtype=subtype)
    wanted, inputs = rivals(jobs), {identity(source.path) for source in sources}
    for job in jobs:
        refuse_rival(job, wanted)
        refuse_outputs(job, overwrite, inputs)
    return jobs


def lay_out(
    sources: Sequence[Source], out: Path, names: int | Sequence[str], *, name: str = "{stem}_{i}", form: str = "wav",
    subtype: str = "",
) -> list[Job]:  # fmt: skip
    """Return one job per source file, with an output for each of `names` (a number n stands for 1 to n).

    UsageError for a wrong name, format or subtype; OutputError where no folder can be made there.
    """
    return lay_out_some(sources, out, names, lambda _: True, name=name, form=form, subtype=subtype)[0]


def lay_out_some(
    sources: Sequence[Source], out: Path, names: int | Sequence[str], wanted: Callable[[Source], bool], *,
    name: str = "{stem}_{i}", form: str = "wav", subtype: str = "",
) -> tuple[list[Job], list[Job]]:  # fmt: skip
    """Return the jobs of the files wanted, and those of others that would write one of their outputs, too.

    All are in the order of the files. The others make no jobs: they may be a million. Errors as for `lay_out`.
    """
    check_template(name)
    if form not in FORMATS:
        raise UsageError(choices("format", form, FORMATS))
    if subtype:
        check_subtype(f"x.{form}", subtype)
    labels = tuple(str(k + 1) for k in range(names)) if isinstance(names, int) else tuple(names)
    mine = [wanted(source) for source in sources]

    def job(source: Source) -> Job:
        folder = out / source.relative.parent
        outputs = tuple(folder / file for file in _files(name, source, labels, form))
        return Job(source.path, outputs, subtype, labels, source.relative, source.name, source.tar)

    keys: set[str] = set()
    for source in itertools.compress(sources, mine):
        keys.update(_keys(source, name, labels, form))
    others = itertools.compress(sources, map(operator.not_, mine))
    beside = [source for source in others if not keys.isdisjoint(_keys(source, name, labels, form))]
    _refuse_folder(out)
    return [job(source) for source in itertools.compress(sources, mine)], [job(source) for source in beside]


def _keys(source: Source, template: str, labels: Sequence[str], form: str) -> list[str]:
    """Return what outputs of one name, whatever its case, have in common."""
    folder = source.under.rpartition(os.sep)[0]
    return [f"{folder}/{file}".casefold() for file in _files(template, source, labels, form)]


def _files(template: str, source: Source, labels: Sequence[str], form: str) -> list[str]:
    """Return the names of a file's outputs; UsageError where two have one."""
    stem, ext = source.under.rpartition(os.sep)[2], suffix_of(source.text)[1:]
    folder = _folder(source) if "{folder" in template else ""
    given = {"stem": stem, "ext": ext, "folder": folder}
    numbers = [int(label) if label.isdecimal() else _Word(label) for label in labels]
    files = [f"{template.format(**given, i=number)}.{form}" for number in numbers]
    if len({file.casefold() for file in files}) < len(files):
        raise UsageError(
            f"--name: '{template}' gives two sources one name, {files[0]}; expected another for each {{i}}"
        )
    return files


class _Word(str):
    """The name of a source that has no number: takes its place in a template whatever format a number has there."""

    def __format__(self, spec: str) -> str:
        return str(self)


def _folder(source: Source) -> str:
    return os.path.basename(os.path.dirname(os.path.abspath(source.name or source.text)))


def choose(names: Sequence[str], keep: str) -> tuple[str, ...]:
    """Return those of `names` that "1,3" or "bass,drums" lists, all of them for "", and always the residual."""
    if not keep:
        return tuple(names)
    own = [name for name in names if name != RESIDUAL]
    wanted = [part.strip() for part in keep.split(",")]
    foreign = [part for part in wanted if part not in own]
    if foreign:
        kind = "numbers" if own[0].isdecimal() else "names"
        raise UsageError(f"--keep {keep}: found '{foreign[0]}'; expected {kind} of sources: {', '.join(own)}")
    return tuple(name for name in names if name in wanted or name == RESIDUAL)


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
    """Raise UsageError for a suffix of no format, or if its files cannot hold the sample format `subtype`."""
    try:
        check_suffix(Path(path))
    except OutputError as fault:
        raise UsageError(str(fault)) from fault
    only = LOSSY.get(Path(path).suffix.lower(), subtype)
    if subtype != only:
        raise UsageError(f"--subtype {subtype}: {Path(path).suffix} files hold {only} only; leave --subtype out")
    try:
        io.Writer(Path(path).name, 8000, 1, subtype, overwrite=True)  # looks at the names only
    except OutputError as fault:
        raise UsageError(f"--subtype {subtype}: {fault}") from fault


def rivals(jobs: Iterable[Job]) -> Rivals:
    """Return the outputs that more than one job wants, under names without case: on many systems these are one file."""
    wanted: Rivals = {}
    for job in jobs:
        for path in job.outputs:
            wanted.setdefault(str(path).casefold(), []).append(job)
    return {key: several for key, several in wanted.items() if len(several) > 1}


def refuse_rival(job: Job, wanted: Rivals, done: Callable[[Job], bool] = lambda _: False) -> None:
    """Raise OutputError if an output belongs to another job: to the one that has it already, else to the first."""
    for path in job.outputs:
        several = wanted.get(str(path).casefold(), [job])
        first = next(filter(done, several), several[0])
        if first is not job:
            if first.source.parent == job.source.parent:
                way = "rename one, or add {ext} to --name if they differ in that"
            else:
                way = "give their common folder as input, or --name '{folder}_{stem}_{i}'"
            raise OutputError(
                f"{io.show(path)}: would be written for both {io.show(first.file)} and {io.show(job.file)}; {way}"
            )


def refuse_existing(path: Path, overwrite: bool, inputs: Container[FileId] = (), why: str = "") -> None:
    """Raise OutputError if the output exists and may not be replaced; an input may never be, under any of its names."""
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise InTheWay(f"{io.show(path)}: exists already{why}; choose another folder or pass --overwrite")
    if os.path.isdir(path):
        raise OutputError(f"{io.show(path)}: is a folder where a sound file is to be written")
    if identity(path) in inputs:
        raise OutputError(f"{io.show(path)}: is an input; an input is never overwritten, choose another folder")


def refuse_outputs(
    job: Job, overwrite: bool, inputs: Container[FileId], ours: Container[Path] = (),
    why: Callable[[Path], str] = lambda _: "",
) -> None:  # fmt: skip
    """Do `refuse_existing` for every output of a job; those in `ours` may be replaced, `why` explains the others."""
    for path in job.outputs:
        refuse_existing(path, overwrite or path in ours, inputs, why(path))


def identity(path: str | os.PathLike[str]) -> FileId:
    """Return what tells one file from another, whatever links lead to it."""
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
