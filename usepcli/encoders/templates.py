"""What stands around the names of sounds in a prompt made of them (S003, Table 4), and prompts without it."""

from __future__ import annotations

import re

ONE, SEVERAL = "The sound of ", "The sound mixture of "
_FRAME = re.compile(r"^\s*the sounds?(?: mixture)? of\s+(?=\S)", re.IGNORECASE)


def bare(phrase: str) -> str:
    """Return a prompt without the words before its names, any other phrase as it is."""
    return _FRAME.sub("", phrase)
