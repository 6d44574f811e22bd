"""What training data have that a batch would silently set right: told once, counted, with the first of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.examples import DynamicMixtures, FixedMixtures
from usepcli.data.manifest import Manifest, Pool, PoolRow, Row
from usepcli.engine.training.look import LOOKED_AT, look
from usepcli.engine.training.parts import noise_pool
from usepcli.errors import BadInput
from usepcli.profile.load import Profile, load_profile

RATE = 8000


def write(path: Path, wave: np.ndarray, rate: int = RATE) -> None:
    io.write(path, wave.astype(np.float32), rate, overwrite=True)


def mixtures(root: Path, count: int = 4) -> Manifest:
    rows = []
    for i in range(count):
        a, b = np.random.default_rng(i).uniform(-0.1, 0.1, (2, RATE)).round(3)
        for name, wave in {"m": a + b, "a": a, "b": b}.items():
            write(root / f"{name}{i}.wav", wave)
        rows.append(Row(f"r{i}", "train", f"m{i}.wav", (f"a{i}.wav", f"b{i}.wav"), sample_rate=RATE, frames=RATE))
    return Manifest(rows, root, root / "manifest.csv")


def said(profile: Profile, data: Manifest, with_sources: bool = True, rate: int = RATE) -> list[str]:
    return look(profile, FixedMixtures(data, rate, 0.25, 0, with_sources), rate, None)


@pytest.fixture
def profile(profile_file: Path) -> Profile:
    return load_profile(str(profile_file))


def test_sound_data_get_no_word(profile: Profile, tmp_path: Path) -> None:
    assert said(profile, mixtures(tmp_path)) == []
    assert look(profile, FixedMixtures(mixtures(tmp_path), RATE, 0.25, 0, True), RATE, mixtures(tmp_path)) == []


def test_each_kind_of_silent_repair_is_one_line(profile: Profile, tmp_path: Path) -> None:
    data, wave = mixtures(tmp_path), np.random.default_rng(9).uniform(-0.1, 0.1, 2 * RATE)
    for i in (1, 3):
        write(tmp_path / f"a{i}.wav", io.read_mono(tmp_path / f"a{i}.wav")[0][: RATE // 2])
    write(tmp_path / "b2.wav", 0 * wave[:RATE])
    lines = {line.removeprefix("warning: ").split(":")[0]: line for line in said(profile, data)}
    assert "2 of 4 training mixtures looked at, the first a1.wav: 4000 samples beside" in lines["source-length"]
    assert "3 of 4 training mixtures looked at, the first m1.wav" in lines["sum"]
    assert "1 of 4 training mixtures looked at, the first b2.wav" in lines["silent-source"]
    assert set(lines) == {"source-length", "sum", "silent-source"}
    write(tmp_path / "a1.wav", wave)  # longer than its mixture
    assert any("16000 samples beside a mixture of 8000" in line for line in said(profile, data))
    assert said(profile, data, with_sources=False) == []  # who learns from mixtures alone opens no source


def test_other_rates_and_channels_are_told(profile: Profile, tmp_path: Path) -> None:
    data = mixtures(tmp_path)
    assert said(profile, data, rate=16000) == [
        "4 of 4 training recordings: 8000 Hz, resampled to the model's 16000, and holds nothing above 4000 Hz"
    ]
    wave = io.read_mono(tmp_path / "m0.wav")[0]
    write(tmp_path / "m0.wav", np.stack([wave, -wave]))  # opposite channels: their mean is silence
    lines = said(profile, data, with_sources=False)
    assert [line.split(":")[0 if line.startswith("chan") else 1].strip() for line in lines] == ["silent", "channels"]
    first = FixedMixtures(data, RATE, 0.25, 0, False, channels="first")
    assert first[0, 0].mix.any() and not first[0, 0].bad_files
    mean = FixedMixtures(data, RATE, 0.25, 0, False)
    assert mean[0, 0].bad_files[0].item == "r0" and "the mixture silent" in mean[0, 0].bad_files[0].reason


def test_items_that_are_silent_throughout_are_left_out_and_pauses_are_not(tmp_path: Path) -> None:
    data = mixtures(tmp_path)
    wave, *_ = io.read_mono(tmp_path / "m0.wav")
    paused = np.concatenate([np.zeros(7000), wave[7000:]])
    for name in ("m0", "a0", "b0"):
        write(tmp_path / f"{name}.wav", paused)
    for name in ("a1", "b1"):
        write(tmp_path / f"{name}.wav", 0 * wave)
    made = FixedMixtures(data, RATE, 0.05, 0, True, n_items=80)
    drawn = [made[0, i] for i in range(80)]
    assert {bad.item for example in drawn for bad in example.bad_files} == {"r1"}
    assert any(example.id == "r0" and not example.mix.any() for example in drawn)
    assert "all sources silent from beginning to end" in drawn[20].bad_files[0].reason


def test_a_pause_of_a_talker_is_no_fault_of_the_recording(tmp_path: Path) -> None:
    wave = np.random.default_rng(0).uniform(-0.1, 0.1, 4000)
    rows = []
    for name, sound in {"a": np.concatenate([wave, np.zeros(12000)]), "b": wave}.items():
        write(tmp_path / f"{name}.wav", sound)
        rows.append(PoolRow(name, "train", name, f"{name}.wav", RATE, len(sound)))
    made = DynamicMixtures([Pool(rows, tmp_path, tmp_path / "pool.csv")], RATE, 0.25, 0, 40)
    assert not [bad for i in range(40) for bad in made[0, i].bad_files]
    write(tmp_path / "a.wav", np.zeros(16000))
    with pytest.raises(BadInput, match=r"a\.wav: silent wherever it was cut"):
        DynamicMixtures([Pool(rows, tmp_path, tmp_path / "pool.csv")], RATE, 0.25, 0, 40)[0, 0]


def test_a_noise_that_cannot_be_read_is_left_out_by_name(tmp_path: Path) -> None:
    rows = [PoolRow(name, "train", name, f"{name}.wav", RATE, 4000) for name in "ab"]
    for row in rows:
        write(tmp_path / row.path, np.random.default_rng(0).uniform(-0.1, 0.1, 4000))
    write(tmp_path / "noise/good.wav", np.random.default_rng(1).uniform(-0.1, 0.1, 4000))
    (tmp_path / "noise/bad.wav").write_bytes(b"nothing")
    noise = noise_pool(str(tmp_path / "noise"), "train")
    pools = [Pool(rows, tmp_path, tmp_path / "pool.csv")]
    made = DynamicMixtures(pools, RATE, 0.25, 0, 30, noise=noise, noise_prob=1.0)
    bad = [bad for i in range(30) for bad in made[0, i].bad_files]
    assert {one.item for one in bad} == {str(tmp_path / "noise/bad.wav")} and made.n_files == 4


def test_a_large_set_is_looked_at_in_part_from_end_to_end(profile: Profile, tmp_path: Path) -> None:
    data = mixtures(tmp_path)
    many = [replace(data.rows[i % 3], id=f"x{i}") for i in range(5 * LOOKED_AT - 1)]
    write(tmp_path / "m3.wav", np.full(RATE, 0.5))
    many.append(data.rows[3])
    found = said(profile, replace(data, rows=[*many[::-1]]), with_sources=False)
    assert len(found) == 1 and found[0].startswith(
        f"dc: 1 of {LOOKED_AT} training mixtures looked at, the first m3.wav"
    )
