"""What a batch separates: from files, folders, patterns and lists to recordings, without what usep wrote itself."""

from __future__ import annotations

import codecs
import fnmatch
import glob
import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from usepcli.audio import io, raws
from usepcli.audio.written import Written
from usepcli.engine.separation import tar_files
from usepcli.engine.separation.places import Places
from usepcli.engine.separation.source import Source, suffix_of
from usepcli.engine.shards import Shard
from usepcli.errors import BadInput, InputNotFound, UsageError, UsepError


@dataclass
class Found:
    """The recordings; what usep wrote itself and is left out, with the table that says so; inputs without any sound.

    `again` names the table of a single output that was named on purpose; `unread` tells of tables that say nothing;
    `unseen` counts the tars of other shares.
    """

    sources: list[Source] = field(default_factory=list)
    own: dict[str, str] = field(default_factory=dict)
    faults: dict[str, UsepError] = field(default_factory=dict)
    again: str = ""
    unread: list[str] = field(default_factory=list)
    unseen: int = 0

    def skipped(self) -> str:
        """Return in one line what was left out and what to do about it, '' for nothing."""
        if not self.own:
            return ""
        tables = list(dict.fromkeys(self.own.values()))
        more = f" and {len(tables) - 1} more" if len(tables) > 1 else ""
        one = len(self.own) == 1
        what = f"{io.show(next(iter(self.own)))}: is an output" if one else f"{len(self.own)} inputs are outputs"
        return (
            f"{what} of earlier runs ({io.show(tables[0])}{more}), skipped; to separate one again, name it alone "
            "with another -o"
        )


def texts(inputs: Sequence[str], files_from: str, null: bool, shared: bool) -> list[str]:
    """Return all inputs, those of --files-from behind the others; UsageError for what does not go together."""
    found = list(inputs)
    if "" in found:  # a variable of a script that is not set; as a path it would be the whole folder
        raise UsageError("an input is an empty text; name sound files, folders, quoted patterns, or -")
    if null and not files_from:
        raise UsageError("-0: says how --files-from LIST is read; name a list, or leave -0 out")
    once = UsageError("-: standard input can be read once; name it once, as sound or as --files-from -")
    if "-" in found and files_from == "-":
        raise once  # before it is read
    if files_from == "-":
        found += read_list(sys.stdin.buffer.read(), null, "standard input")
    elif files_from:
        try:
            found += read_list(Path(files_from).read_bytes(), null, files_from)
        except OSError as fault:
            raise InputNotFound(f"{files_from}: cannot be read: {fault.strerror}; name a list of paths") from fault
    if found.count("-") > 1 or ("-" in found and files_from == "-"):
        raise once
    if "-" in found and shared:
        raise UsageError("--shard: shares files by name, and standard input has none; leave one of them out")
    if not found:
        where = f"{files_from or 'standard input'}: no path in this list" if files_from else "no input"
        raise UsageError(f"{where}; name sound files, folders, quoted patterns, or - for standard input")
    return found


def read_list(data: bytes, null: bool = False, where: str = "list") -> list[str]:
    """Return the paths in a list: one per line (LF or CR LF), or each ended by NUL; empty ones are left out.

    UsageError for a list of the other kind: no path holds NUL, and a list of NULs has one behind each path.
    """
    if not null and b"\0" in data:
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        way = "save it as UTF-8" if wide else "read it with -0 if its paths end in NUL, as from find -print0"
        raise UsageError(f"--files-from {io.show(where)}: holds NUL bytes where one path per line was expected; {way}")
    if null and b"\0" not in data and b"\n" in data:
        raise UsageError(
            f"--files-from {io.show(where)}: holds lines and no NUL, where -0 expects a NUL behind each path; leave -0 "
            "out"
        )
    data = data.removeprefix(codecs.BOM_UTF8)
    parts = data.split(b"\0") if null else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [os.fsdecode(part) for part in parts if part]


def find_sources(inputs: Iterable[str | Path], out: Path, stdin: Path | None = None) -> list[Source]:
    """Return the recordings of `find`; InputNotFound where one of the inputs has none."""
    found = find(inputs, out, stdin)
    for fault in found.faults.values():
        raise fault
    return found.sources


def find(
    inputs: Iterable[str | Path],
    out: Path,
    stdin: Path | None = None,
    *,
    alone: bool = False,
    share: Shard | None = None,
) -> Found:
    """Return the sound files that files, folders and glob patterns stand for.

    Folders keep their tree, and patterns theirs below the folder that they name before the first wildcard; links to
    folders are not followed into the depth. Files in a folder `out` below an input are left out, and so is all that
    usep wrote, however it is named; only one file that stands `alone` on the command line may be an output, of
    another folder than `out`. Other named files are taken as they are: a bad one fails later, by itself. `-` stands
    for `stdin`, where standard input was copied to. Tars that are another share's than `share` are not read.
    InputNotFound if nothing is left.
    """
    found, places, seen = Found(), Places(), set()
    written = Written(places.real)
    texts = [str(text) for text in inputs]
    tars = {text: names for text in texts if (names := tar_files.listed(text)) is not None}
    numbers = tar_files.numbered([name for names in tars.values() for name in names], share)
    found.unseen = sum(number < 0 for number in numbers.values())
    listed = [  # before `written` is asked
        (text, tar_files.sources(tars[text], found.faults, numbers), False)
        if text in tars
        else (text, *_listed(text, out, stdin, found.faults, places))
        for text in texts
    ]
    for text, sources, named in listed:
        if not sources and all(numbers[name] >= 0 for name in tars.get(text, ())):
            found.faults.setdefault(text, _nothing(text))
        for source in sources:
            # A member's name leads nowhere on the disk, whatever dots are in it.
            real = source.text if raws.is_member(source.text) else places.real(source.text)
            table = "" if source.name else written.by(source.text)
            if table and alone and named and not _same(os.path.dirname(table), out):
                found.again, table = table, ""
            if table:
                found.own.setdefault(source.text, table)
            elif real not in seen:
                found.sources.append(source)
                seen.add(real)
    found.unread = written.unread
    if not found.sources and not found.unseen:
        for fault in found.faults.values():
            raise fault
        raise InputNotFound(found.skipped() or f"{io.show(out)}: no input")
    return found


def _listed(
    text: str, out: Path, stdin: Path | None, faults: dict[str, UsepError], places: Places
) -> tuple[list[Source], bool]:
    """Return what one input stands for, and whether it is a file's name; folders that cannot be read are faults."""
    path = Path(text)
    if stdin is not None and text == "-":
        return [Source(stdin, Path("stdin"), "-")], True
    if places.is_folder(os.fspath(path)):
        return _below(path, _walk(path, out, faults)), False
    if glob.has_magic(text) and not os.path.lexists(path):
        return _below(_fixed(path), _matches(path, out, faults)), False
    return [Source(path, Path(path.stem))], True


def _nothing(text: str) -> InputNotFound:
    hint = "; a [ that is part of a name is written [[]" if "[" in text else ""
    return InputNotFound(
        f"{io.show(text)}: no sound files there: none of {len(io.AUDIO_SUFFIXES)} suffixes from .aac to .wv; a file "
        f"of another suffix is read where it is named{hint}"
    )


def _same(folder: str, out: Path) -> bool:
    return os.path.realpath(folder) == os.path.realpath(out)


def _below(folder: Path, paths: Iterable[str]) -> list[Source]:
    """Return files in a folder, or below it, with their tree; the paths begin as the folder's own does."""
    begin = os.path.join(folder, "") if folder.parts else ""
    return [Source(path, path[len(begin) : len(path) - len(suffix_of(path))]) for path in paths]


def _fixed(pattern: Path) -> Path:
    """Return the folder that a pattern names before its first wildcard."""
    return Path(*itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))


def _matches(pattern: Path, out: Path, faults: dict[str, UsepError]) -> list[str]:
    """Return the sound files that a pattern names; ** stands for any number of folders."""
    if "**" not in pattern.parts:
        found = (os.fspath(Path(path)) for path in glob.iglob(str(pattern)) if _is_sound(os.path.basename(path)))
        return sorted((path for path in found if not os.path.isdir(path)), key=_order)
    fixed = _fixed(pattern)
    wanted = pattern.parts[len(fixed.parts) :]
    return [path for path in _walk(fixed, out, faults) if _fits(Path(path).parts[len(fixed.parts) :], wanted)]


def _fits(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    if not wanted or not parts:
        return not parts and all(part == "**" for part in wanted)
    if wanted[0] == "**":
        return _fits(parts, wanted[1:]) or _fits(parts[1:], wanted)
    return fnmatch.fnmatchcase(parts[0], wanted[0]) and _fits(parts[1:], wanted[1:])


def _walk(folder: Path, out: Path, faults: dict[str, UsepError]) -> list[str]:
    def lost(fault: OSError) -> None:
        where = os.fsdecode(fault.filename)
        faults[where] = BadInput(f"{io.show(where)}: cannot be listed: {fault.strerror}; ask for the right to read it")

    # os.walk does not follow links to folders, so a loop of links does no harm.
    skip = os.path.realpath(out)
    paths = []
    for place, folders, names in os.walk(folder, onerror=lost):
        folders[:] = [f for f in folders if os.path.realpath(os.path.join(place, f)) != skip and not f.startswith(".")]
        begin = "" if place == os.curdir else os.path.join(place.removeprefix(os.path.join(os.curdir, "")), "")
        paths += [begin + name for name in names if _is_sound(name)]
    return sorted(paths, key=_order)


def _order(path: str) -> str:
    """Return what puts files of a folder before those of one whose name goes on: as the parts of the paths do."""
    return path.replace(os.sep, "\0")


def _is_sound(name: str) -> bool:
    return suffix_of(name).lower() in io.AUDIO_SUFFIXES and not name.startswith(".")
