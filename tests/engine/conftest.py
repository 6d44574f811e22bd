"""A tiny corpus of two-voice mixtures and a profile that trains on it in a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.manifest import Manifest, Row

RATE = 8000


def voice(draw: np.random.Generator, low: float, seconds: float) -> np.ndarray:
    """A buzz around `low` Hz that comes and goes, as int16-exact float."""
    t = np.arange(round(RATE * seconds)) / RATE
    pitch = low * (1 + 0.02 * np.sin(2 * np.pi * draw.uniform(2, 5) * t))
    wave = sum(np.sin(2 * np.pi * np.cumsum(pitch * k) / RATE) / k for k in range(1, 6))
    wave = wave * (np.sin(2 * np.pi * draw.uniform(0.5, 2) * t + draw.uniform(0, 6)) > -0.5)
    return np.round(wave * 3000) / 32768


def write_corpus(root: Path, counts: dict[str, int], seconds: float = 0.5) -> Path:
    """Write mixtures with sources below `root` and return the manifest."""
    draw, rows = np.random.default_rng(0), []
    for split, count in counts.items():
        for i in range(count):
            low, high = (
                voice(draw, draw.uniform(90, 140), seconds),
                voice(draw, draw.uniform(200, 300), seconds),
            )
            folder = root / split / f"{i:03d}"
            folder.mkdir(parents=True)
            for name, wave in {"mix": low + high, "s1": low, "s2": high}.items():
                io.write(folder / f"{name}.wav", wave.astype(np.float32), RATE)
            at = f"{split}/{i:03d}"
            sources = (f"{at}/s1.wav", f"{at}/s2.wav")
            row = Row(
                id=f"{split}-{i:03d}",
                split=split,
                mixture=f"{at}/mix.wav",
                sources=sources,
                sample_rate=RATE,
                frames=low.size,
                n_src=2,
                speakers=("low", "high"),
                licence="CC0",
            )
            rows.append(row)
    manifest = Manifest(rows, root, root / "manifest.csv")
    manifest.write(root / "manifest.csv")
    return root / "manifest.csv"


PROFILE = """\
about: a tiny run for tests
licence: CC0
data: {{manifest: {manifest}, segment_s: 0.25}}
model: {{name: conformer_mask, preset: tiny, n_src: 2, sample_rate: 8000, dropout: 0.1}}
optim: {{lr: 1e-3}}
schedule: {{name: warmup_hold_decay, warmup_steps: 4, hold_epochs: 1, decay: 0.9}}
train: {{epochs: 3, batch_size: 4, log_every: 1, ema: 0.9, threads: 1, checkpoint_every_s: 0.02}}
valid: {{limit: 2}}
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The manifest of a fresh tiny corpus."""
    return write_corpus(tmp_path / "data", {"train": 24, "valid": 3})


@pytest.fixture
def profile_file(tmp_path: Path, corpus: Path) -> Path:
    """A profile on the tiny corpus."""
    path = tmp_path / "tiny_run.yaml"
    path.write_text(PROFILE.format(manifest=corpus))
    return path
