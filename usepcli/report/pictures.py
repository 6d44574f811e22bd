"""Waveforms and spectrograms of several tracks as one figure for print.  Needs matplotlib, the extra `plot`."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from usepcli.report.plots import save
from usepcli.versions import need

RANGE_DB = 62.0
# As on the pages: grey for the mixture, then Okabe and Ito's colours.
MIXTURE = "#59616b"
SOURCES = ("#0072b2", "#d55e00", "#008f67", "#b85a92", "#7b6fd0", "#a67c00", "#2a93c4", "#7d5a46")


def spectrograms(tracks: Sequence[tuple[str, Mapping[str, Any]]], out: str | Path) -> Path:
    """Draw (name, picture) pairs under each other, the mixture first, as PNG or SVG; return the path.

    A picture is what `listen.picture` returns; all share time, the scale of the waveforms, and a range of 62 dB below
    the loudest band. MissingDependency without matplotlib, UsageError for another suffix.
    """
    need("the spectrograms", "plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.9 * len(tracks) + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 * len(tracks), 1, sharex=True, height_ratios=[1, 2.4] * len(tracks))
    top = max(int(_bytes(picture, "spectrum").max(initial=0)) for _, picture in tracks)
    peak = max(int(np.abs(_sides(picture)).max(initial=1)) for _, picture in tracks)
    for k, (name, picture) in enumerate(tracks):
        color = SOURCES[(k - 1) % len(SOURCES)] if k else MIXTURE
        _draw_wave(axes[2 * k], name, picture, color, peak / 127)
        _draw_bands(axes[2 * k + 1], picture, color, top)
    axes[-1].set_xlabel("time (s)")
    return save(figure, out)


def _draw_wave(axis: Any, name: str, picture: Mapping[str, Any], color: str, peak: float) -> None:
    low, high = _sides(picture) / 127
    time = np.arange(len(low)) * picture["step_s"]
    axis.fill_between(time, low, high, color=color, linewidth=0.4, step="post")
    axis.set_ylim(-1.05 * peak, 1.05 * peak)
    axis.set_yticks([])
    axis.set_title(name, fontsize="small", loc="left", color=color)
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axis.tick_params(bottom=False)


def _draw_bands(axis: Any, picture: Mapping[str, Any], color: str, top: int) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    codes = _bytes(picture, "spectrum").reshape(picture["columns"], picture["rows"]).T
    end, nyquist = picture["columns"] * picture["step_s"], picture["hz"][1]
    shades = LinearSegmentedColormap.from_list("track", ["white", color, "#0b0d10"])
    least = top - RANGE_DB / -picture["floor_db"] * 255
    axis.imshow(
        codes, aspect="auto", origin="lower", extent=(0, end, 0, 1), cmap=shades, vmin=least, vmax=top,
        interpolation="bilinear",
    )  # fmt: skip
    ticks = [hertz for hertz in (250, 1000, 4000, 16000) if hertz < nyquist]
    axis.set_yticks([np.log1p(hertz / 700) / np.log1p(nyquist / 700) for hertz in ticks])
    axis.set_yticklabels([f"{hertz / 1000:g} kHz" for hertz in ticks], fontsize="x-small")


def _bytes(picture: Mapping[str, Any], key: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(picture[key]), np.uint8)


def _sides(picture: Mapping[str, Any]) -> np.ndarray:
    """Return the smallest and largest samples (2, columns) times 127."""
    return np.stack([_bytes(picture, key).view(np.int8).astype(np.float64) for key in ("low", "high")])
