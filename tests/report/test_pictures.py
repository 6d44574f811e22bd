"""Figures for print: every track is there, PNG and SVG, and equal input gives equal files."""

import re
from pathlib import Path

import numpy as np
import pytest

from usepcli.errors import UsageError
from usepcli.report import listen, scatter

pytest.importorskip("matplotlib")


def _tracks() -> list[tuple[str, dict[str, object]]]:
    wave = np.sin(np.arange(8000) * 0.3)
    return [(name, listen.picture(gain * wave, 8000)) for name, gain in (("Mixture", 1.0), ("Source $1", 0.5))]


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_both_formats_and_twice_the_same(tmp_path: Path, suffix: str, begins: bytes):
    from usepcli.report.pictures import spectrograms

    one, two = (spectrograms(_tracks(), tmp_path / f"{k}{suffix}").read_bytes() for k in "ab")
    # matplotlib names the clip paths of an SVG by their addresses.
    one, two = (re.sub(rb"p[0-9a-f]{10}", b"", text) for text in (one, two))
    assert one.startswith(begins) and one == two
    if suffix == ".svg":
        assert b"Mixture" in one and b"Source" in one and one.count(b"<image") == 2


def test_levels_are_drawn_on_one_scale(tmp_path: Path):
    from matplotlib.image import imread

    from usepcli.report.pictures import spectrograms

    loud, soft = _tracks()
    image = imread(spectrograms([loud, soft], tmp_path / "x.png"))[:-50, 200:, :3].max(-1)  # no labels
    first, second = image[: len(image) // 2], image[len(image) // 2 :]
    # White, colour, black: the louder track is darker, frames and all.
    assert (first < 0.2).sum() > 2 * (second < 0.2).sum()


def test_other_suffixes_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        scatter.scatter([1, 2], [1, 2], tmp_path / "x.jpg", x_label="x", y_label="y")
