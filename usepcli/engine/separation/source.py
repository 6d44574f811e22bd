"""One input of a batch."""

from __future__ import annotations

import os
from pathlib import Path


class Source:
    """An input file, the path below the output folder, without suffix, that its outputs build on, and its name.

    `name` is what messages and tables call it; empty for the path itself. `tar`, of a member: the number of its tar,
    and how many tars were named. Paths are kept as text: of a million files a share looks at its own.
    """

    __slots__ = ("name", "tar", "text", "under")

    def __init__(
        self,
        path: str | os.PathLike[str],
        relative: str | os.PathLike[str],
        name: str = "",
        tar: tuple[int, int] | None = None,
    ) -> None:
        """Take the paths as `Path` would write them."""
        self.text, self.under, self.name, self.tar = os.fspath(path), os.fspath(relative), name, tar

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and self._facts == other._facts

    def __hash__(self) -> int:
        return hash(self._facts)

    def __repr__(self) -> str:
        return f"Source{self._facts}"

    @property
    def _facts(self) -> tuple[str, str, str]:
        return self.text, self.under, self.name

    @property
    def path(self) -> Path:
        """Where the file is."""
        return Path(self.text)

    @property
    def relative(self) -> Path:
        """The path that outputs build on, below the output folder."""
        return Path(self.under)

    @property
    def suffix(self) -> str:
        """The ending of the file's name, with its dot, '' for none."""
        return suffix_of(self.text)


def suffix_of(text: str) -> str:
    """Return what `Path.suffix` gives for a path."""
    name = text.rpartition(os.sep)[2]
    at = name.rfind(".")
    return name[at:] if 0 < at < len(name) - 1 else ""
