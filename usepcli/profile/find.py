"""Where profiles live: ./profiles, $USEP_PROFILES, then those that come with usep. Cheap enough for TAB."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from usepcli.errors import ConfigError, did_you_mean

NAME = re.compile(r"[a-z0-9_]+")
SUFFIXES = (".yaml", ".yml")


def home(path: str) -> str:
    """Return a path of a name or a variable with ~ written out where no shell has done it."""
    return os.path.expanduser(path)


def shipped_folder() -> Path:
    """Return the folder of the profiles that come with usep: in the wheel, or beside the source tree."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "profiles"
    return inside if inside.is_dir() else package.parent / "profiles"


def folders(environ: Mapping[str, str] | None = None) -> list[Path]:
    """Return the existing profile folders in order of search, each once."""
    environ = os.environ if environ is None else environ
    listed = [Path(home(item)) for item in environ.get("USEP_PROFILES", "").split(os.pathsep) if item]
    unique: dict[str, Path] = {}
    for folder in [Path("profiles"), *listed, shipped_folder()]:
        if folder.is_dir():
            unique.setdefault(os.path.realpath(folder), folder)
    return list(unique.values())


def paths(environ: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Return profile name -> file for every profile in reach; the first folder wins."""
    found: dict[str, Path] = {}
    for folder in folders(environ):
        for path in sorted(folder.iterdir()):
            if path.suffix in SUFFIXES and NAME.fullmatch(path.stem):
                found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def named(name: str, environ: Mapping[str, str] | None = None, beside: Path | None = None) -> Iterator[Path]:
    """Yield the files that a profile name may mean, nearest first; the folder `beside` is searched first."""
    for folder in ([beside] if beside else []) + folders(environ):
        for suffix in SUFFIXES:
            path = folder / (name + suffix)
            if path.is_file():
                yield path


def find(ref: str, environ: Mapping[str, str] | None = None) -> Path:
    """Return the file of a profile name or of a path ending in .yaml; ConfigError if the name is unknown."""
    if ref.endswith(SUFFIXES):
        return Path(home(ref))
    path = next(named(ref, environ), None) if NAME.fullmatch(ref) else None
    if path is None:
        known = paths(environ)
        near = did_you_mean(ref, known) if known else ", and no profile is in reach"
        raise ConfigError(f"unknown profile '{ref}'{near}; `usep profiles` lists all, a path ends in .yaml")
    return path


def label(path: Path) -> str:
    """Return the path as messages show it: relative to the working folder when it lies inside."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
