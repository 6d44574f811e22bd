"""A picture of a terminal session: what a script of commands types and what it is told.

    python benchmarks/terminal.py docs/tour.sh docs/tour.svg

The script runs in a new folder with both streams in one; longer lines than the terminal's are broken at words. Lines
that begin with "$ " are commands.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import textwrap
from html import escape
from pathlib import Path
from typing import Any

COLUMNS, SIZE, LINE, MARGIN = 108, 13, 18, 16
PAPER, INK, TYPED, FAINT = "#10151c", "#d5dde6", "#8ad4ff", "#e0b465"
AS_THEY_ARE: dict[str, Any] = {"drop_whitespace": False, "replace_whitespace": False, "break_on_hyphens": False}


def recorded(script: Path) -> list[tuple[str, str]]:
    """Return a session's lines with their colours, none longer than the terminal; CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        env = {**os.environ, "COLUMNS": str(COLUMNS), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        done = subprocess.run(
            ["bash", str(script.resolve())], cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=True,
        )  # fmt: skip
    home = str(Path(__file__).resolve().parents[1])
    lines = [line.rsplit("\r", 1)[-1].rstrip().replace(home, "usep") for line in done.stdout.strip().split("\n")]
    return [(ink(line), part) for line in lines for part in textwrap.wrap(line, COLUMNS, **AS_THEY_ARE) or [""]]


def ink(line: str) -> str:
    """Return the colour of a line: of commands, of what is said of the work, of results."""
    return TYPED if line.startswith("$ ") else FAINT if line.startswith("usep: ") else INK


def drawn(lines: list[tuple[str, str]]) -> str:
    """Return the session as SVG."""
    width, height = round(COLUMNS * SIZE * 0.602) + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN + 14
    text = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>',
        *(f'<circle cx="{MARGIN + 16 * k}" cy="14" r="5" fill="#3a4654"/>' for k in range(3)),
        f'<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{SIZE}" xml:space="preserve">',
    ]
    for k, (colour, line) in enumerate(lines):
        y = MARGIN + 14 + (k + 1) * LINE - 5
        text.append(f'<text x="{MARGIN}" y="{y}" fill="{colour}" style="white-space:pre">{escape(line)}</text>')
    return "\n".join([*text, "</g>", "</svg>", ""])


def main() -> None:
    """Run the script and write its picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    lines = recorded(given.script)
    given.out.write_text(drawn(lines), encoding="utf-8")
    print(f"{given.out}: {len(lines)} lines")


if __name__ == "__main__":
    main()
