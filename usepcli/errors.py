"""Errors that a user can act on, and the exit code that each one carries."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsepError(Exception):
    """A fault explained in one line: where, what was found, what was expected, what to do next."""

    code = 1


class Unforeseen(UsepError):
    """One item failed in a way that nobody foresaw, in this program or below it: most likely a bug."""


class UsageError(UsepError):
    """The command line asks for something that does not fit together."""

    code = 2


class Diverged(UsepError):
    """Training met too many non-finite steps in a row."""

    code = 3


class PartialFailure(UsepError):
    """Some inputs failed; the rest is done."""

    code = 4


class BadInput(UsepError):
    """Data or a checkpoint is unreadable or unfit."""

    code = 65


class InputNotFound(UsepError):
    """A named input does not exist."""

    code = 66


class MissingDependency(UsepError):
    """A package or a device that the request needs is absent."""

    code = 69


class WorkerDied(UsepError):
    """A data worker or a rank ended on its own."""

    code = 70


class OutputError(UsepError):
    """An output exists already, cannot be made, or is locked by another run."""

    code = 73


class IOFault(UsepError):
    """Reading or writing failed below us, a full disk for example."""

    code = 74


class Stopped(UsepError):
    """A signal asked for a stop; the state is saved and the same command goes on from it."""

    code = 75


class ConfigError(UsepError):
    """A profile, `--set` or `USEP_*` value is wrong."""

    code = 78


LONGEST_NAME = 120  # letters of a name that a message repeats


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return `" (did you mean 'x'?)"` for the option nearest to name, or an empty string."""
    if len(name) > LONGEST_NAME:
        return ""
    lowered = {option.lower(): option for option in options}
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.5)
    return f" (did you mean '{lowered[near[0]]}'?)" if near else ""


def choices(what: str, name: str, options: Iterable[str]) -> str:
    """Return one line that names the unknown `what`, its nearest neighbour and every choice."""
    known = sorted(options)
    if len(name) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME - 3]}..."
    return f"unknown {what} '{name}'{did_you_mean(name, known)}; choose from: {', '.join(known)}"
