"""Find the sources of each mixture in folders that some other program wrote.

Three layouts are known, at any depth; names such as s1, spk2, source-1 or 2 stand for a source, and files or
folders called mix..., noise... are passed over:
  per source  s1/ID.wav  s2/ID.wav         (wsj0-mix, LibriMix)
  per item    ID/s1.wav  ID/s2.wav         (what `usep prepare-data` writes)
  flat        ID_1.wav  ID_2.wav  or  ID_s1.wav  ID_s2.wav   (what `usep separate` writes)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from usepcli.audio.io import AUDIO_SUFFIXES
from usepcli.errors import BadInput, InputNotFound

LETTERED = r"(?:s|spk|speaker|src|source|est|estimate|out|output|talker)[-_]?\d+"
SOURCE = re.compile(rf"{LETTERED}|\d+", re.IGNORECASE)
LETTERED_SOURCE = re.compile(LETTERED, re.IGNORECASE)
FLAT = re.compile(rf"(?P<id>.+)[-_.](?P<source>{LETTERED}|\d+)", re.IGNORECASE)
PASSED_OVER = re.compile(r"mix(ture)?([-_].*)?|noise([-_].*)?", re.IGNORECASE)
MIX = re.compile(r"mix(ture)?", re.IGNORECASE)

Parsed = tuple[str, str] | None
Parser = Callable[[PurePosixPath], Parsed]


def find_sources(folder: Path) -> tuple[str, dict[str, dict[str, Path]]]:
    """Return the layout's name and {id: {source name: file}}, both sorted, numbers by value.

    InputNotFound without any audio file, BadInput where no layout or more than one fits.
    """
    files = _audio_files(folder)
    relative = {path: PurePosixPath(path.relative_to(folder).with_suffix("").as_posix()) for path in files}
    wanted = {path: name for path, name in relative.items() if not _passed_over(name)}
    layout, parser = _choose(folder, list(wanted.values()))
    found: dict[str, dict[str, Path]] = {}
    for path, name in wanted.items():
        parsed = parser(name)
        if parsed is None:  # _choose took only parsers that fit every name
            continue
        item, source = parsed
        if source in found.setdefault(item, {}):
            raise BadInput(f"{path}: a second file for source {source} of {item}; keep one format per folder")
        found[item][source] = path
    return layout, {
        item: dict(sorted(found[item].items(), key=lambda pair: natural(pair[0]))) for item in sorted(found)
    }


def find_mixtures(folder: Path) -> dict[str, Path]:
    """Return {id: file} for ID.wav or ID/mix.wav (sources beside it are passed over)."""
    found: dict[str, Path] = {}
    for path in _audio_files(folder):
        name = PurePosixPath(path.relative_to(folder).with_suffix("").as_posix())
        if len(name.parts) > 1 and MIX.fullmatch(name.name):
            found[str(name.parent)] = path
        elif not (len(name.parts) > 1 and (LETTERED_SOURCE.fullmatch(name.name) or _passed_over(name))):
            found[str(name)] = path
    return found


def natural(text: str) -> tuple[tuple[int, str | int], ...]:
    """Return a sort key in which s2 comes before s10."""
    return tuple((1, int(part)) if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", text))


def _audio_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        what = "is a file, a folder was expected" if folder.exists() else "no such folder"
        raise InputNotFound(f"{folder}: {what}")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file())
    if not files:
        raise InputNotFound(f"{folder}: no audio files in it")
    return files


def _passed_over(name: PurePosixPath) -> bool:
    # mix.wav beside s1.wav and mix/ID.wav beside s1/ID.wav are no sources; mix_1.wav may well be an estimate.
    if FLAT.fullmatch(name.name) and PASSED_OVER.fullmatch(name.name):
        return False
    return any(PASSED_OVER.fullmatch(part) for part in (*name.parts[:1], *name.parts[-1:]))


def _per_item(name: PurePosixPath) -> Parsed:
    return (_item(name.parent), name.name) if len(name.parts) > 1 and SOURCE.fullmatch(name.name) else None


def _per_source(name: PurePosixPath) -> Parsed:
    top, *rest = name.parts
    return (_item(PurePosixPath(*rest)), top) if rest and SOURCE.fullmatch(top) else None


def _flat(name: PurePosixPath) -> Parsed:
    match = FLAT.fullmatch(name.name)
    return (_item(name.parent / match["id"]), match["source"]) if match else None


def _item(path: PurePosixPath) -> str:
    # ID/mix_1.wav and ID/mix/s1.wav separate ID/mix.wav, whose references are called ID.
    return str(path.parent if len(path.parts) > 1 and MIX.fullmatch(path.name) else path)


def _choose(folder: Path, names: list[PurePosixPath]) -> tuple[str, Parser]:
    def fits(parser: Parser) -> bool:
        return bool(names) and all(parser(name) for name in names)

    per_source, per_item = fits(_per_source), fits(_per_item)
    if per_source and per_item:
        # 1/s1.wav is an item called 1, s1/1.wav a source called s1; 1/1.wav could be either.
        lettered_file = all(LETTERED_SOURCE.fullmatch(name.name) for name in names)
        lettered_folder = all(LETTERED_SOURCE.fullmatch(name.parts[0]) for name in names)
        if lettered_file == lettered_folder:
            raise BadInput(f"{folder}: {names[0]} can be item/source or source/item; call the sources s1, s2, ...")
        per_source = lettered_folder
    if per_source:
        return "per source", _per_source
    if per_item:
        return "per item", _per_item
    if fits(_flat):
        return "flat", _flat
    odd = next((name for name in names if not (_flat(name) or _per_item(name) or _per_source(name))), "mixed layouts")
    raise BadInput(f"{folder}: {odd}: expected s1/ID.wav, ID/s1.wav or ID_1.wav for every file")
