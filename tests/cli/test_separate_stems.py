"""`usep separate` with a model of two channels and named stems."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from usepcli.audio import io
from usepcli.weights import build, cards, store

STEMS = ["drums", "bass", "other", "vocals"]
Usep = Callable[..., Any]


@pytest.fixture
def usep(command: Callable[..., Usep], tmp_path: Path) -> Usep:
    torch.manual_seed(0)
    model = build.model({"name": "htdemucs", "preset": "tiny", "stems": STEMS, "segment_s": 1.0})
    card = cards.Card(name="song", model=model.config, sample_rate=8000, n_src=4, cost=build.cost_of(model))
    store.save_model(tmp_path / "song.safetensors", model.state_dict(), card)
    return command("separate", "--model", "song.safetensors")


def song(path: str, channels: int, seconds: float = 2.5) -> np.ndarray:
    wave = 0.1 * np.random.default_rng(0).standard_normal((channels, round(8000 * seconds)))
    with io.Writer(Path(path), 8000, channels, "PCM_16") as writer:
        writer.write(wave.astype(np.float32))
    return io.read(Path(path))[0]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_files_bear_the_names_of_the_stems(usep: Usep, channels: int) -> None:
    wave = song("x.wav", channels)
    done = usep("x.wav", "-o", "out")
    assert done.code == 0, done.err
    assert sorted(path.name for path in Path("out").glob("*.wav")) == sorted(f"x_{stem}.wav" for stem in STEMS)
    total = sum(io.read(Path(f"out/x_{stem}.wav"))[0].astype(np.float64) for stem in STEMS)
    assert total.shape == wave.shape and np.abs(total - wave).max() < 2**-15
    with open("out/outputs.csv", newline="") as file:
        assert [row["source"] for row in csv.DictReader(file)] == STEMS
    assert "add up to the input exactly" in done.err
    assert usep("x.wav", "-o", "out").err.startswith("1 of 1 files are done")


def test_two_stems(usep: Usep) -> None:
    wave = song("x.wav", 2)
    assert usep("x.wav", "-o", "four").code == 0
    assert usep("x.wav", "-o", "two", "--two-stems", "vocals").code == 0
    assert sorted(path.name for path in Path("two").glob("*.wav")) == ["x_no_vocals.wav", "x_vocals.wav"]
    one, others = (io.read(Path(f"two/x_{name}.wav"))[0] for name in ("vocals", "no_vocals"))
    assert np.abs(one - io.read(Path("four/x_vocals.wav"))[0]).max() <= 2**-15
    assert np.abs(one + others - wave).max() < 2**-15
    assert "made with other settings" in usep("x.wav", "-o", "two").err


def test_some_stems_by_name(usep: Usep) -> None:
    song("x.wav", 2)
    assert usep("x.wav", "-o", "out", "--keep", "bass,vocals").code == 0
    assert sorted(path.name for path in Path("out").glob("*.wav")) == ["x_bass.wav", "x_vocals.wav"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--two-stems", "voice"], "--two-stems: unknown source 'voice'"),
        (["--keep", "1"], "--keep 1: found '1'; expected names of sources: drums, bass, other, vocals"),
        (["--query", "vocals"], "takes no queries"),
        (["--live"], "hears whole recordings"),
        (["--live", "--two-stems", "vocals"], "--two-stems: takes whole recordings"),
    ],
)
def test_wrong_words_are_told_before_the_work(usep: Usep, options: list[str], said: str) -> None:
    song("x.wav", 2)
    done = usep("x.wav", "-o", "out", *options)
    assert done.code in (2, 78) and said in done.err and not Path("out").exists()


@pytest.mark.parametrize("stem", ["../x", "a/b", "A", "", "residual", "no_bass", "x" * 80, 3])
def test_a_card_cannot_name_files_elsewhere(stem: object) -> None:
    card = cards.Card(name="x", model={"name": "htdemucs", "stems": ["drums", "bass", "other", stem]}, n_src=4)
    with pytest.raises(ValueError, match=r"model\.stems: found"):
        cards.Card.from_json(card.to_json())


def test_remix_by_the_names_of_the_stems(usep: Usep, command: Callable[..., Usep]) -> None:
    wave, remix = song("x.wav", 2), command("remix", "--model", "song.safetensors")
    assert remix("x.wav", "-o", "same.wav", "--gain", "vocals=0").code == 0
    assert np.abs(io.read(Path("same.wav"))[0] - wave).max() < 2**-14
    assert remix("x.wav", "-o", "less.wav", "--mute", "bass").code == 0
    assert np.abs(io.read(Path("less.wav"))[0] - wave).max() > 1e-3
    assert "vocals" in remix("x.wav", "-o", "no.wav", "--mute", "voice").err and not Path("no.wav").exists()


def test_outputs_that_training_gave_a_kind_bear_its_name(command: Callable[..., Usep], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build.model({"name": "conformer_mask", "preset": "tiny", "n_src": 2})
    told = {"name": "fixed", "kinds": ["Running water"], "residual": True}
    card = cards.Card(name="water", model=model.config, sample_rate=8000, n_src=2, objective="fixed")
    card.profile = {"objective": told}
    store.save_model(tmp_path / "water.safetensors", model.state_dict(), card)
    song("x.wav", 1)
    done = command("separate", "--model", "water.safetensors")("x.wav", "-o", "out", "--keep", "running_water")
    assert done.code == 0, done.err
    assert [path.name for path in Path("out").glob("*.wav")] == ["x_running_water.wav"]


@pytest.mark.parametrize(
    ("objective", "told", "names"),
    [
        ("fixed", {"kinds": [], "residual": True}, ("source", "noise")),
        ("fixed", {"kinds": ["drums", "voice"], "residual": False}, ("drums", "voice")),
        ("fixed", {"kinds": [], "residual": False}, ()),  # by the order of the data, which has no words
        ("fixed", {"kinds": ["drums"], "residual": False}, ()),  # and another output that nobody named
        ("fixed", {"kinds": ["noise"], "residual": True}, ()),  # one name twice
        ("fixed", {"kinds": ["9 volts", "CON"]}, ()),  # no names of files
        ("fixed", {"kinds": 3, "residual": "yes"}, ()),
        ("pit", {"kinds": ["drums", "voice"]}, ()),
    ],
)
def test_names_of_kinds(objective: str, told: dict[str, Any], names: tuple[str, ...]) -> None:
    card = cards.Card(n_src=2, objective=objective, profile={"objective": told})
    assert cards.kinds(card) == names and card.sources == (names or 2)
