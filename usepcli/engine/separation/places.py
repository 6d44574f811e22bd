"""What folders hold: where paths lead, and which are folders, told for many files by one look at each folder.

To ask the disk about every file of a million takes minutes on a file server; a folder's listing says of all of its
names at once which are links and which are folders.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

_ONE_BY_ONE = 32  # files of a folder that are asked after before its listing is read


@dataclass
class _Folder:
    """A folder's real path, how often it was asked for, and what it holds besides files; None where it is not known."""

    real: str
    asked: int = 0
    listed: bool = False
    folders: set[str] = field(default_factory=set)
    links: set[str] | None = None


class Places:
    """Remembers of each folder what it holds."""

    def __init__(self) -> None:
        self._known: dict[str, _Folder] = {}

    def real(self, text: str) -> str:
        """Return `os.path.realpath` of a path."""
        folder, _, name = text.rpartition(os.sep)
        if name in ("", os.curdir, os.pardir):
            return os.path.realpath(text)
        held = self._look(folder, text)
        if held.links is None or name in held.links:
            return os.path.realpath(text)
        return os.path.join(held.real, name)

    def is_folder(self, text: str) -> bool:
        """Return whether a path is a folder, or leads to one."""
        folder, _, name = text.rpartition(os.sep)
        if name in ("", os.curdir, os.pardir):
            return os.path.isdir(text)
        held = self._look(folder, text)
        if held.links is None or name in held.links:
            return os.path.isdir(text)
        return name in held.folders

    def _look(self, folder: str, text: str) -> _Folder:
        where = folder or (os.sep if text.startswith(os.sep) else os.curdir)
        if (held := self._known.get(where)) is None:
            held = self._known[where] = _Folder(os.path.realpath(where))
        held.asked += 1
        if held.asked > _ONE_BY_ONE and not held.listed:
            held.listed = True
            try:
                with os.scandir(where) as entries:
                    links = set()
                    for entry in entries:
                        if entry.is_symlink():
                            links.add(entry.name)
                        elif entry.is_dir():
                            held.folders.add(entry.name)
                    held.links = links
            except (OSError, ValueError):  # one may pass through folders that one may not list
                held.links = None
        return held
