"""Tar files among the inputs of a batch: each sound in them is one input, TAR/MEMBER by name.

Its outputs lie in a folder called as the tar is, in the tree that the members' names give. A name cannot lead out of
it: `..` and what is absolute are left out of the path.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from usepcli import guard
from usepcli.audio import io, remote, tars
from usepcli.data.corpora.tar import expanded
from usepcli.engine.separation.source import Source
from usepcli.engine.shards import Shard
from usepcli.errors import InputNotFound, UsepError


def listed(text: str) -> list[str] | None:
    """Return the tars that an input stands for: one, a pattern, braces or an address; None for other inputs."""
    where = remote.address(text)
    text = where or text
    if not tars.is_tar(text) or (not where and os.path.isdir(text)):
        return None
    names = expanded(text)
    if where:
        return names
    found = []
    for name in names:
        pattern = glob.has_magic(name) and not os.path.lexists(name)
        found += sorted(glob.glob(name, recursive=True)) if pattern else [name]
    return found


def numbered(named: Sequence[str], share: Shard | None) -> dict[str, int]:
    """Return all tars that were named, each with its number, and of those that are another share's -1.

    Nothing is read. Where there are more shares than tars, or two tars of one name, whose outputs would meet, every
    share has to look at all.
    """
    named_ = sorted(dict.fromkeys(named))
    whole = share is not None and share.count <= len(named_) == len({PurePosixPath(name).name for name in named_})
    return {name: n if not whole or share is None or share.has(n) else -1 for n, name in enumerate(named_)}


def sources(names: Iterable[str], faults: dict[str, UsepError], numbers: Mapping[str, int]) -> list[Source]:
    """Return the sounds of tars; one without any, or that cannot be read, is among the faults.

    numbers: of all tars, -1 for one that is not to be read.
    """
    found: list[Source] = []
    for name in names:
        if numbers[name] < 0:
            continue
        try:
            index = tars.index(name)
        except Exception as error:
            faults[name] = guard.fault(error, name)
            continue
        members = [member for member in index.places if _is_sound(member)]
        if not members:
            faults[name] = InputNotFound(f"{io.show(name)}: no sound in this tar, by the suffixes of its members")
        folder = PurePosixPath(name).name.removesuffix(tars.SUFFIX)
        far = bool(remote.address(name))  # of which a path would take one slash
        found += [
            Source(
                Path(name) / one, _inside(folder, one), f"{name}/{one}" if far else "", (numbers[name], len(numbers))
            )
            for one in members
        ]
    return found


def _is_sound(member: str) -> bool:
    pure = PurePosixPath(member)
    return pure.suffix.lower() in io.AUDIO_SUFFIXES and not pure.name.startswith(".")


def _inside(folder: str, member: str) -> Path:
    """Return where the outputs of a member go, below the output folder, without its suffix."""
    parts = [part for part in PurePosixPath(member).parts if part not in ("..", "/")]
    return Path(folder, *parts).with_suffix("")
