"""What is wrong with a profile, said all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from usepcli.errors import LONGEST_NAME, ConfigError

MOST_SHOWN = 20  # faults of one profile


@dataclass(frozen=True)
class Fault:
    """One wrong value: its dotted key, where it was set, what was found and what was expected."""

    key: str
    where: str
    found: str
    expected: str
    hint: str = ""

    def __str__(self) -> str:
        key = self.key if len(self.key) <= LONGEST_NAME else f"{self.key[: LONGEST_NAME - 3]}..."
        place = f"{key} ({self.where})" if key else self.where
        return f"{place}: found {self.found}, expected {self.expected}{self.hint}"


class ProfileError(ConfigError):
    """Every fault of one profile in one report; `faults` keeps them apart."""

    def __init__(self, name: str, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        lines = [str(fault) for fault in faults[:MOST_SHOWN]]
        if more := len(faults) - len(lines):
            lines.append(f"and {more} more")
        if len(lines) == 1:
            message = f"profile '{name}': {lines[0]}"
        else:
            message = "\n  ".join([f"profile '{name}' has {len(faults)} faults:", *lines])
        super().__init__(message)
