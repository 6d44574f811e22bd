"""What goes with what is asked for in words, and what does not, as far as the command line tells."""

from __future__ import annotations

from usepcli.errors import UsageError
from usepcli.separator.words import Asked


def refuse(asked: Asked, rest: str, residual: bool, keep: str, always: bool) -> None:
    """UsageError for options that do not go with what is asked for, or with each other."""
    if residual and rest == "leave":
        raise UsageError("--residual: writes the rest that --rest leave leaves out; give one of them")
    if asked and rest == "share" and not residual:
        if len(asked.queries) == 1:
            raise UsageError(
                "--rest share: would give all the rest to the one source asked for; leave it out: a residual"
            )
        if asked.without:
            raise UsageError("--rest share: would give what --without takes out its part of the rest; leave it out")
    if asked.subtracts and rest == "leave":
        raise UsageError("--rest leave: leaves out the rest, which is what --without asks for; leave it out")
    if asked and keep:
        raise UsageError(
            "--keep, --two-stems: choose among a model's own sources; with --query ask for those that are wanted"
        )
    if always and not asked:
        raise UsageError("--always: keeps what a query is judged not to name; add --query 'a dog barking'")
