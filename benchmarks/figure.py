"""Draw the README's picture: spectrograms of the sample recording and of the sources that a model finds in it.

python benchmarks/figure.py benchmarks/figures/two_talkers.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from usepcli import Separator
from usepcli.audio import io

SAMPLE = Path(__file__).resolve().parents[1] / "usepcli" / "samples" / "two_talkers.flac"


def decibels(wave: np.ndarray, n_fft: int = 256, hop: int = 64) -> np.ndarray:
    """Return the level (F, L) in dB of a wave (T,)."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, n_fft)[::hop] * np.hanning(n_fft)
    return 20 * np.log10(np.abs(np.fft.rfft(frames)).T + 1e-3)


def main() -> None:
    """Separate, draw, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="default")
    given = parser.parse_args()
    wave, rate = io.read_mono(SAMPLE)
    sources = Separator.load(given.model)(wave, rate).sources
    signals = {"the recording": wave, "source 1": sources[0], "source 2": sources[1]}
    figure = Figure(figsize=(9, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    top = decibels(wave).max()
    for axis, (name, signal) in zip(figure.subplots(3, 1, sharex=True), signals.items(), strict=True):
        axis.imshow(
            decibels(np.asarray(signal)), origin="lower", aspect="auto", cmap="magma", vmin=top - 65, vmax=top,
            extent=(0, len(wave) / rate, 0, rate / 2000),
        )  # fmt: skip
        axis.set_ylabel("kHz")
        axis.text(0.1, rate / 2000 * 0.88, name, color="white", fontsize=11, va="center")
    axis.set_xlabel("seconds")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(given.out, dpi=100)


if __name__ == "__main__":
    main()
