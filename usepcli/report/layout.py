"""Text for a screen: tables and facts within 100 columns, or within a narrower terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest

WIDEST, NARROWEST = 100, 80
_GAP = 2
_HANGING = 32  # a longer first cell may stand alone on its line
_COLUMN = 10  # a column is not made narrower than this, nor is a word broken


def width() -> int:
    """Return the columns that lines may have: those of the terminal or of $COLUMNS, but 80 to 100."""
    return max(NARROWEST, min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns))


def table(
    rows: Sequence[Sequence[str]], right: Sequence[bool] = (), *, wrap: Sequence[int] = (), cut: Sequence[int] = ()
) -> list[str]:
    """Return the lines of a table without rules, the first row its head; right: which columns are set to the right.

    Where it is too wide, the columns `wrap` go on below, and those of `cut` end in `...`, the widest first; a first
    cell that is long stands on a line of its own then. All others, paths for instance, stay whole.
    """
    if not rows:
        return []
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    least = list(widths)
    for k in (*wrap, *cut):
        words = (len(word) for cell in columns[k] for word in cell.split()) if k in wrap else ()
        least[k] = min(widths[k], max([_COLUMN, *words]))
    alone = bool(cut) and _total(least) > width() and widths[0] > _HANGING
    if alone:
        widths[0] = least[0] = max([0, *(len(row[0]) for row in rows if len(row[0]) <= _HANGING)])
    while _total(widths) > width():
        wide = [k for k in range(len(widths)) if widths[k] > least[k]]
        if not wide:
            break
        widths[max(wide, key=widths.__getitem__)] -= 1
    found: list[str] = []
    for row in rows:
        cells = [_cut(cell, widths[k]) if k in cut else cell for k, cell in enumerate(row)]
        if alone and len(cells[0]) > widths[0]:
            found.append(cells[0])
            cells[0] = ""
        found += _lines(cells, widths, right or [False] * len(widths), wrap)
    return found


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _GAP * (len(widths) - 1)


def _lines(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool], wrap: Sequence[int]) -> Iterable[str]:
    parts = [_wrap(cell, widths[k]) if k in wrap else [cell] for k, cell in enumerate(cells)]
    for line in zip_longest(*parts, fillvalue=""):
        set_out = [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, widths, right, strict=True)]
        yield (" " * _GAP).join(set_out).rstrip()


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 3].rstrip(" ,;") + "..."


def _wrap(text: str, size: int) -> list[str]:
    if len(text) <= size:
        return [text]
    return textwrap.wrap(text, size, break_long_words=False, break_on_hyphens=False) or [""]


def facts(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return aligned lines of name and value; a long value goes on below its beginning."""
    indent = max((len(key) for key, _ in pairs), default=0) + _GAP
    found = []
    for key, value in pairs:
        first, *rest = _wrap(value, max(_COLUMN, width() - indent))
        found += [f"{key:<{indent}}{first}".rstrip(), *(" " * indent + line for line in rest)]
    return found
