from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import io
from usepcli.data.audit import Item, Result, audit_item

RATE = 8000


def wave(seed: int = 0, frames: int = 4000, peak: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-peak, peak, frames).astype(np.float32)


def audit(root: Path, sources: tuple[str, ...] = (), frames: int = 4000) -> Result:
    return audit_item(Item("x", "train", "a.wav", RATE, frames, root, sources))


def kinds(result: Result) -> dict[str, str]:
    return {finding.kind: finding.level for finding in result.findings}


def test_a_good_file_has_no_findings(tmp_path: Path):
    io.write(tmp_path / "a.wav", wave(), RATE)
    result = audit(tmp_path)
    assert result.findings == [] and set(result.digests) == {"a.wav"} and result.rates == {"a.wav": RATE}


CASES = {
    "missing": (lambda path: None, "error"),
    "empty": (lambda path: path.write_bytes(b""), "error"),
    "unreadable": (lambda path: path.write_bytes(b"no sound at all"), "error"),
    "rate": (lambda path: io.write(path, wave(), 16000), "error"),
    "length": (lambda path: io.write(path, wave(frames=3999), RATE), "error"),
    "not-finite": (lambda path: sf.write(path, np.full(4000, np.nan), RATE, "FLOAT"), "error"),
    "silent": (lambda path: io.write(path, np.zeros(4000), RATE), "error"),
    "channels": (lambda path: io.write(path, np.stack([wave(), wave(1)]), RATE), "warning"),
    "dc": (lambda path: io.write(path, wave() + 0.1, RATE), "warning"),
    "clipping": (lambda path: io.write(path, np.clip(wave(peak=3), -1, 1), RATE), "warning"),
}


@pytest.mark.parametrize("kind", CASES)
def test_each_fault_alone(tmp_path: Path, kind: str):
    make, level = CASES[kind]
    make(tmp_path / "a.wav")
    assert kinds(audit(tmp_path)) == {kind: level}


def test_header_without_samples(tmp_path: Path):
    sf.write(tmp_path / "a.wav", np.zeros(0), RATE)
    assert kinds(audit(tmp_path)) == {"empty": "error"}


def test_truncated_wav_and_flac(tmp_path: Path):
    io.write(tmp_path / "a.wav", wave(), RATE)
    os.truncate(tmp_path / "a.wav", 5000)
    assert kinds(audit(tmp_path)) == {"truncated": "error"}
    io.write(tmp_path / "b.flac", wave(), RATE)
    os.truncate(tmp_path / "b.flac", (tmp_path / "b.flac").stat().st_size // 2)
    (tmp_path / "b.flac").rename(tmp_path / "a.wav")
    assert set(kinds(audit(tmp_path))) <= {"truncated", "unreadable"} and kinds(audit(tmp_path))


def test_single_peaks_at_full_scale_are_no_clipping(tmp_path: Path):
    codes = (wave() * 32768).astype(np.int16)
    codes[::100] = 32767
    io.write(tmp_path / "a.wav", codes, RATE)
    assert audit(tmp_path).findings == []


def mixture(root: Path, error_db: float | None) -> Result:
    codes = [(wave(seed) * 32768).astype(np.int16) for seed in (1, 2)]
    total = (codes[0] + codes[1]).astype(np.float64)
    if error_db is not None:
        rest = np.random.default_rng(5).normal(size=4000)
        total += rest * np.sqrt(np.mean(total**2) / np.mean(rest**2)) * 10 ** (-error_db / 20)
    for name, codes_of in {"a": total, "s1": codes[0], "s2": codes[1]}.items():
        io.write(root / f"{name}.wav", np.rint(codes_of).astype(np.int16), RATE)
    return audit(root, ("s1.wav", "s2.wav"))


@pytest.mark.parametrize(("error_db", "level"), [(None, ""), (60, ""), (30, "warning"), (10, "error")])
def test_sources_that_do_not_add_up(tmp_path: Path, error_db: float | None, level: str):
    result = mixture(tmp_path, error_db)
    assert kinds(result) == ({"sum": level} if level else {})
    assert result.sum_snr_db == pytest.approx(np.inf if error_db is None else error_db, abs=0.5)


def test_silent_and_short_sources_are_warnings_long_ones_errors(tmp_path: Path):
    io.write(tmp_path / "a.wav", wave(), RATE)
    io.write(tmp_path / "s1.wav", wave()[:3990], RATE)
    io.write(tmp_path / "s2.wav", np.zeros(4000), RATE)
    result = audit(tmp_path, ("s1.wav", "s2.wav"))
    assert kinds(result) == {"silent-source": "warning", "source-length": "warning", "sum": "warning"}
    assert "s2.wav" not in result.digests
    io.write(tmp_path / "s2.wav", np.zeros(4001), RATE, overwrite=True)
    assert kinds(audit(tmp_path, ("s1.wav", "s2.wav")))["source-length"] in ("error", "warning")
    levels = [f.level for f in audit(tmp_path, ("s1.wav", "s2.wav")).findings if f.kind == "source-length"]
    assert levels == ["warning", "error"]


def test_a_mixture_without_a_file_is_the_sum_of_its_sources(tmp_path: Path):
    def summed(*sources: str, frames: int = 4000) -> Result:
        return audit_item(Item("x", "train", "", RATE, frames, tmp_path, sources))

    io.write(tmp_path / "s1.wav", wave(1), RATE)
    io.write(tmp_path / "s2.wav", wave(2)[:3000], RATE)
    io.write(tmp_path / "s3.wav", -wave(1), RATE)
    assert kinds(summed("s1.wav", "s2.wav")) == {}
    assert kinds(summed("s2.wav")) == {"length": "warning"}
    assert kinds(summed("s1.wav", "s3.wav")) == {"silent": "error"}
    assert kinds(summed()) == {"missing": "error"}


def test_queries_are_one_for_each_source(tmp_path: Path):
    def asked(*queries: str) -> Result:
        io.write(tmp_path / "s1.wav", wave(1), RATE, overwrite=True)
        io.write(tmp_path / "s2.wav", wave(2), RATE, overwrite=True)
        return audit_item(Item("x", "train", "", RATE, 4000, tmp_path, ("s1.wav", "s2.wav"), queries=queries))

    assert kinds(asked()) == kinds(asked("a dog", "rain")) == {}
    assert kinds(asked("a dog")) == kinds(asked("a dog", "rain", "rain on a roof")) == {"queries": "error"}
    assert kinds(asked("a dog", "")) == {"queries": "error"}
    assert kinds(asked("rain", "rain")) == {"same-query": "warning"}


def test_channels_that_cancel_are_told_from_silence(tmp_path: Path):
    io.write(tmp_path / "a.wav", np.stack([wave(), -wave()]), RATE)
    (found,) = [one for one in audit(tmp_path).findings if one.kind == "silent"]
    assert found.detail == "the mean of its 2 channels is silent: they cancel each other, each alone sounds"
    (tmp_path / "a.wav").unlink()
    io.write(tmp_path / "a.wav", np.zeros((2, 4000), np.float32), RATE)
    (found,) = [one for one in audit(tmp_path).findings if one.kind == "silent"]
    assert found.detail == "silent: nothing above -80 dBFS"
