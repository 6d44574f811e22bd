"""Which sound files usep wrote itself, as the tables beside them tell: no recordings, though they look like some.

The outputs of `usep separate` stand in the outputs.csv of their output folder, those of a share in outputs-I-of-N.csv,
and those that a run is placing, or was when it was killed, in a hidden note. An output lies in the folder of its table
or below it, so it is enough to look at the folder of a file and at those above. The sound of a report page lies in a
folder that is named after the page.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from usepcli.audio.checks import PathLike, show
from usepcli.files import read_json

PAGE_MARK = b'<meta name="generator" content="usep">'  # in the head of every page of ours
MEDIA = "_media"  # what the folder of a page's sound ends in
_TABLE = re.compile(r"outputs(-\d+-of-\d+)?\.csv")
_NOTE = re.compile(r"\.usep(-\d+-of-\d+)?\.pending")
_OURS = {"file", "output", "source", "settings", "file_sha256"}  # columns that tell our table from another outputs.csv


def noted(path: PathLike) -> list[str]:
    """Return the outputs that a note names, none where it is empty; OSError, or ValueError for what is no note."""
    if not os.path.getsize(path):
        return []
    names = read_json(Path(os.fsdecode(path)), "surrogateescape")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("no list of names")
    return names


class Written:
    """Remembers what the tables of each folder name; `unread` says which of them could not be read.

    Ask it after all files were listed: a run that goes on beside this one names its outputs before it places them.
    """

    def __init__(self, real: Callable[[str], str] = os.path.realpath) -> None:
        """real: tells where a path leads."""
        self.unread: list[str] = []
        self._real = real
        self._folders: dict[str, dict[str, str]] = {}
        self._naming: dict[str, list[tuple[str, str, dict[str, str]]]] = {}
        self._pages: dict[str, bool] = {}

    def by(self, path: PathLike) -> str:
        """Return the table or the page that a file was written for, '' for a file that none names."""
        text = os.fsdecode(path)
        # Under its own name and under the one that links lead to; the folder, too, may be a link.
        for place in dict.fromkeys((os.path.abspath(text), self._real(text))):
            where, _, name = place.rpartition(os.sep)
            for folder, rest, named in self._naming_above(where):
                if found := named.get(rest + name):
                    return os.path.join(folder, found)
            if page := self._page(where or os.sep):
                return page
        return ""

    def _naming_above(self, where: str) -> list[tuple[str, str, dict[str, str]]]:
        """Return the folders, of one and of those above it, whose tables name anything, and what leads down from each.

        They are the same for all files of a folder.
        """
        if (found := self._naming.get(where)) is None:
            above = [(folder, rest, self._named(folder)) for folder, rest in _above(os.path.join(where, "") or os.sep)]
            found = self._naming[where] = [one for one in above if one[2]]
        return found

    def _named(self, folder: str) -> dict[str, str]:
        """Return the outputs, relative to the folder, that its tables name, each with its table."""
        if folder not in self._folders:
            try:
                names = sorted(os.listdir(folder))
            except NotADirectoryError:  # a tar file, of which a member is asked for
                names = []
            except OSError:  # one may pass through folders that one may not list
                names = ["outputs.csv"]
            # Notes first: an output leaves its note for a table, never the other way.
            found = [name for name in names if _NOTE.fullmatch(name)] + [n for n in names if _TABLE.fullmatch(n)]
            self._folders[folder] = {
                os.path.normpath(output): name for name in found for output in self._outputs(os.path.join(folder, name))
            }
        return self._folders[folder]

    def _outputs(self, path: str) -> list[str]:
        try:
            if path.endswith(".pending"):
                return noted(path)
            with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
                reader = csv.DictReader(file)
                if not set(reader.fieldnames or ()) >= _OURS:
                    return []  # another program's
                return [row["output"] for row in reader if row["output"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, csv.Error) as fault:
            self.unread.append(f"{show(path)}: cannot be read ({getattr(fault, 'strerror', None) or fault})")
            return []

    def _page(self, folder: str) -> str:
        """Return the page whose sound a folder holds, '' for other folders."""
        if not folder.endswith(MEDIA):
            return ""
        page = folder.removesuffix(MEDIA) + ".html"
        if page not in self._pages:
            try:
                with open(page, "rb") as file:
                    self._pages[page] = PAGE_MARK in file.read(4096)
            except OSError:
                self._pages[page] = False
        return page if self._pages[page] else ""


def _above(path: str) -> Iterator[tuple[str, str]]:
    """Yield every folder above an absolute path, and the path relative to it."""
    end = len(path)
    while (end := path.rfind(os.sep, 0, end)) >= 0:
        yield path[:end] or os.sep, path[end + 1 :]
