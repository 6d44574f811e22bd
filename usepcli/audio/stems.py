"""Names of a model's outputs, where each means one kind of source: they become names of files."""

from __future__ import annotations

import re
from collections.abc import Sequence

MOST = 100
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TAKEN = ("residual", "con", "prn", "aux", "nul")  # the rest of a separation, and what Windows takes for devices


def refusal(names: object) -> str:
    """Return why names cannot be those of stems, "" where they can: different words of small letters, digits and _."""
    if not isinstance(names, Sequence) or isinstance(names, str) or len(names) > MOST:
        return f"found {str(names)[:60]!r}; expected a list of names"
    for name in names:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.startswith("no_") or name in _TAKEN:
            return f"found {str(name)[:60]!r}; expected a name such as vocals: a letter, then letters, digits and _"
    return "" if len({*names}) == len(names) else "found one name twice; expected another for each output"
