"""One input of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """An input file, the path below the output folder, without suffix, that its outputs build on, and its name.

    `name` is what messages and tables call it; empty for the path itself.
    """

    path: Path
    relative: Path
    name: str = ""
