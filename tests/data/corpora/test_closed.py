"""Test mixtures of known talkers beside those of unknown ones: who speaks, in which recordings, and what is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.corpora.speakers import Speakers
from usepcli.data.manifest import Manifest, Pool
from usepcli.engine.preparing.check import check
from usepcli.engine.preparing.prepare import prepare
from usepcli.errors import BadInput, ConfigError

SMALL: dict[str, Any] = {"rate": 2000, "seconds": 0.3, "min_s": 0.1, "train": 12, "valid": 2, "test": 4}
RATIOS = (0.5, 0.25, 0.25)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draw = tmp_path_factory.mktemp("speech"), np.random.default_rng(1)
    for talker in range(8):
        for utterance in range(5):
            wave = draw.normal(size=int(draw.integers(800, 1500))) * 0.1
            io.write(root / f"t{talker}" / f"u{utterance}.wav", wave.clip(-1, 1), 2000)
    return root


def made(speech: Path, out: Path, **more: Any) -> tuple[list[Any], list[Any]]:
    prepare(speech, out, "speakers", {**SMALL, "split_ratios": RATIOS, **more}, workers=1, quiet=True)
    return list(Manifest.read(out).rows), list(Pool.read(out / "pool.csv").rows)


def test_known_talkers_are_tested_in_recordings_that_no_training_hears(speech: Path, tmp_path: Path) -> None:
    rows, pool = made(speech, tmp_path / "a", closed=6)
    trained = {row.speaker for row in pool if row.split == "train"}
    test = [row for row in rows if row.split == "test"]
    assert [row.condition for row in test] == ["open"] * 4 + ["closed"] * 6
    assert {row.condition for row in rows if row.split != "test"} == {""}
    for row in test:
        assert set(row.speakers) <= trained if row.condition == "closed" else not set(row.speakers) & trained
    # The sources themselves: each closed one is a stretch of a held-out recording, and of none of the training.
    waves = {row.path: np.rint(io.read_mono(tmp_path / "a" / row.path)[0] * 32768) for row in pool}
    held, heard = ({row.path for row in pool if row.split == name} for name in ("closed", "train"))
    assert held and not held & heard and len(held) == len(trained)  # a tenth of five, one at least
    for row in (row for row in test if row.condition == "closed"):
        for name in row.sources:
            source = io.read_mono(tmp_path / "a" / name)[0]
            assert like(source, waves, held) > 0.99 > 0.5 > like(source, waves, heard)


def like(source: np.ndarray, waves: dict[str, np.ndarray], names: set[str]) -> float:
    """Return the highest cosine of a source and a stretch of one of these recordings."""
    best = 0.0
    for name in names:
        wave = waves[name]
        cross = np.abs(np.correlate(wave, source, "full"))
        energy = np.convolve(np.square(wave), np.ones(len(source)), "full")
        best = max(best, float((cross / np.sqrt(np.maximum(energy, energy.max() / 2) * np.sum(source**2))).max()))
    return best


def test_it_goes_by_the_seed_and_is_audited_as_meant(speech: Path, tmp_path: Path) -> None:
    def scanned(seed: int) -> list[Any]:
        return Speakers(closed=3, min_s=0.1, split_ratios=RATIOS, seed=seed).scan(speech)

    assert scanned(0) == scanned(0) != scanned(1)
    made(speech, tmp_path / "a", closed=3)
    assert check(tmp_path / "a", tmp_path / "audit", workers=1).errors == 0


def test_without_it_a_set_is_what_it_was(speech: Path, tmp_path: Path) -> None:
    rows, pool = made(speech, tmp_path / "a")
    assert {row.condition for row in rows} == {""} and {row.split for row in pool} == {"train", "valid", "test"}
    assert "condition" not in (tmp_path / "a" / "manifest.csv").read_text().splitlines()[0]
    assert "closed" not in json.loads((tmp_path / "a" / "prepare.json").read_text())["settings"]
    closed, _ = made(speech, tmp_path / "b", closed=2)
    others = [row for row in closed if row.split in ("valid", "test") and row.condition != "closed"]
    assert [row.id for row in others] == [row.id for row in rows if row.split in ("valid", "test")]
    for row in others:  # the open condition is the test split of before, to the bit
        assert (tmp_path / "b" / row.mixture).read_bytes() == (tmp_path / "a" / row.mixture).read_bytes()


def test_what_cannot_be_held_out_is_told(tmp_path: Path) -> None:
    for talker in range(4):
        io.write(tmp_path / f"t{talker}.wav", np.full(800, 0.1), 2000)
    with pytest.raises(BadInput, match="no training talker has a name and two recordings"):
        Speakers(closed=1, min_s=0.1).scan(tmp_path)
    (tmp_path / "manifest.csv").write_text("path,speaker,split\nt0.wav,a,train\nt1.wav,b,closed\n")
    with pytest.raises(BadInput, match="has a split 'closed'"):
        Speakers(closed=1, min_s=0.1).scan(tmp_path)
    with pytest.raises(ConfigError, match="--closed -1"):
        Speakers(closed=-1)
