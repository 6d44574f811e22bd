"""What `--channels linked` and `--rest share` are worth: stereo scenes and wideband mixtures of two talkers.

Scenes are drawn from the test talkers of a speech folder with a manifest.csv (path, label, split): panned by level,
with delays and levels between the channels, in simulated rooms (needs pyroomacoustics), and, in one channel at 16 kHz,
twice the rate of the model. SI-SDRi is the mean over sources and channels in the better order, against the channels
themselves; the interval is 1.96 standard errors over scenes.

    python benchmarks/image.py SPEECH -o image.csv --scenes 12 --seed 7
"""

from __future__ import annotations

import argparse
import csv
import itertools
from pathlib import Path

import numpy as np

from usepcli import How, Separator
from usepcli.audio import io
from usepcli.audio.resample import resample

SECONDS = 8
COLUMNS = ["scene", "rate", "setting", "si_sdri_db", "interval_db", "worst_db", "scenes"]


class Talkers:
    """Utterances of the test talkers, joined up to a length, each at -26 dB of full scale."""

    def __init__(self, folder: Path) -> None:
        with open(folder / "manifest.csv", newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
        self.files: dict[str, list[Path]] = {}
        for row in rows:
            self.files.setdefault(row["label"], []).append(folder / row["path"])

    def pair(self, draw: np.random.Generator, rate: int) -> np.ndarray:
        """Return two different talkers (2, T), levels within 5 dB."""
        names = draw.choice(sorted(self.files), 2, replace=False)
        gains = 10 ** (np.array([draw.uniform(-5, 5), 0.0]) / 20)
        return np.stack([gain * self._speech(name, draw, rate) for name, gain in zip(names, gains, strict=True)])

    def _speech(self, name: str, draw: np.random.Generator, rate: int) -> np.ndarray:
        held: list[np.ndarray] = []
        while sum(map(len, held)) < SECONDS * rate:
            wave, own = io.read_mono(self.files[name][draw.integers(len(self.files[name]))])
            wave = resample(wave.astype(np.float64), own, rate)
            held.append(0.05 * wave / np.sqrt(np.mean(wave**2) + 1e-12))
        return np.concatenate(held)[: SECONDS * rate]


def panned(talkers: np.ndarray, draw: np.random.Generator, rate: int) -> np.ndarray:
    """Return sources (2, 2, T) with a level of its own in either channel."""
    angle = draw.uniform(0.1, 0.9, 2) * np.pi / 2
    return talkers[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)[:, :, None]


def delayed(talkers: np.ndarray, draw: np.random.Generator, rate: int) -> np.ndarray:
    """Return sources (2, 2, T) up to 0.6 ms and 5 dB apart between the channels."""
    late = draw.uniform(-0.6e-3, 0.6e-3, 2)
    size = talkers.shape[1] + 64
    spectrum, hertz = np.fft.rfft(talkers, size), np.fft.rfftfreq(size, 1 / rate)
    out = []
    for side in (1, -1):
        turn = np.exp(-1j * np.pi * hertz * side * late[:, None]) * 10 ** (side * late[:, None] * 4e3 / 20)
        out.append(np.fft.irfft(spectrum * turn, size)[:, : talkers.shape[1]])
    return np.stack(out, 1)


def rooms(talkers: np.ndarray, draw: np.random.Generator, rate: int) -> np.ndarray:
    """Return sources (2, 2, T) as two microphones 15 to 50 cm apart hear them, reverberation 0.2 to 0.5 s."""
    import pyroomacoustics as pra

    size = draw.uniform([4, 3, 2.5], [8, 6, 3.5])
    absorption, order = pra.inverse_sabine(draw.uniform(0.2, 0.5), size)
    room = pra.ShoeBox(size, fs=rate, materials=pra.Material(absorption), max_order=min(order, 12))
    middle, angle, apart = size / 2, draw.uniform(0, np.pi), draw.uniform(0.15, 0.5) / 2
    side = apart * np.array([np.cos(angle), np.sin(angle), 0])
    room.add_microphone_array(np.stack([middle + side, middle - side], 1))
    for wave in talkers:
        place, far = draw.uniform(0, 2 * np.pi), draw.uniform(0.8, 1.3)
        room.add_source(middle + far * np.array([np.cos(place), np.sin(place), 0]), signal=wave)
    return room.simulate(return_premix=True)[:, :, : talkers.shape[1]]


def alone(talkers: np.ndarray, draw: np.random.Generator, rate: int) -> np.ndarray:
    """Return sources (2, 1, T) as they are."""
    return talkers[:, None]


def si_sdr(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Return the SI-SDR of (T,) signals in dB."""
    estimate, reference = estimate - estimate.mean(), reference - reference.mean()
    target = (estimate @ reference) / (reference @ reference + 1e-12) * reference
    return float(10 * np.log10((target @ target + 1e-12) / (np.sum((estimate - target) ** 2) + 1e-12)))


def gain(estimates: np.ndarray, sources: np.ndarray) -> float:
    """Return the mean SI-SDRi (dB) of estimates (N, C, T) in the better order."""
    mixture = sources.sum(0)
    found = [
        np.mean([
            si_sdr(estimates[k, c], source[c]) - si_sdr(mixture[c], source[c])
            for k, source in zip(order, sources, strict=True) for c in range(len(mixture))
        ])
        for order in itertools.permutations(range(len(sources)))
    ]  # fmt: skip
    return float(max(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("speech", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("image.csv"))
    parser.add_argument("--model", default="default")
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    talkers, separator = Talkers(asked.speech), Separator.load(asked.model, "cpu")
    stereo = {"linked": How("linked"), "each": How("each")}
    band = {"share": How(rest="share"), "leave": How(rest="leave")}
    low, high = separator.rate, 2 * separator.rate
    cases = [(panned, low, stereo), (delayed, low, stereo), (rooms, low, stereo), (alone, high, band)]
    rows = []
    for scene, rate, settings in cases:
        draw, scores = np.random.default_rng(asked.seed), {name: list[float]() for name in settings}
        for _ in range(asked.scenes if scene is not alone else 3 * asked.scenes):
            sources = scene(talkers.pair(draw, rate), draw, rate)
            mixture = sources.sum(0).astype(np.float32)
            for name, how in settings.items():
                scores[name].append(gain(separator(mixture, rate, how).sources, sources))
        first, second = (np.array(values) for values in scores.values())
        for name, values in [*scores.items(), (" minus ".join(settings), list(first - second))]:
            half = 1.96 * np.std(values, ddof=1) / len(values) ** 0.5
            told = [scene.__name__, rate, name, *(round(float(x), 2) for x in (np.mean(values), half, min(values)))]
            rows.append(dict(zip(COLUMNS, [*told, len(values)], strict=True)))
            print(rows[-1], flush=True)
    with open(asked.out, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)


if __name__ == "__main__":
    main()
