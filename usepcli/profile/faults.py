"""What is wrong with a profile, said all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from usepcli.errors import ConfigError


@dataclass(frozen=True)
class Fault:
    """One wrong value: its dotted key, where it was set, what was found and what was expected."""

    key: str
    where: str
    found: str
    expected: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.key} ({self.where})" if self.key else self.where
        return f"{place}: found {self.found}, expected {self.expected}{self.hint}"


class ProfileError(ConfigError):
    """Every fault of one profile in one report; `faults` keeps them apart."""

    def __init__(self, name: str, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        lines = [str(fault) for fault in faults]
        if len(lines) == 1:
            message = f"profile '{name}': {lines[0]}"
        else:
            message = "\n  ".join([f"profile '{name}' has {len(lines)} faults:", *lines])
        super().__init__(message)
