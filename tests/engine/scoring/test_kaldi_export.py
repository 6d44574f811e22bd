"""Estimates in the references' order, and the files that a Kaldi recogniser reads."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.manifest import Manifest, Row
from usepcli.engine.scoring import kaldi_export, ordered
from usepcli.engine.scoring.scoring import Signals
from usepcli.errors import BadInput, InputNotFound, OutputError

T, RATE = 1600, 16000
VOICES = 0.1 * np.random.default_rng(0).standard_normal((4, T))
TEXTS = {("m2", "s1"): "one  two", ("m2", "s2"): "three", ("m10", "s1"): "four"}


def item(name: str = "m2", est: np.ndarray = VOICES[:2], rate: int = 8000) -> Signals:
    return Signals(name, ("s1", "s2"), est, VOICES[:2], None, rate=rate)


def manifest(**columns: object) -> Manifest:
    given = {"split": "test_eval92", "speakers": ("440", "44a"), **columns}
    return Manifest([Row(name, **given) for name in ("m2", "m10")], Path(), Path("manifest.csv"))  # type: ignore[arg-type]


def lines(path: Path) -> list[list[str]]:
    return [line.split(" ", 1) for line in path.read_text().splitlines()]


def test_estimates_take_the_order_of_the_references() -> None:
    """Outputs: noise, source 2 louder, source 1."""
    mixed = item(est=np.stack([VOICES[3], 2 * VOICES[1] + 0.1 * VOICES[2], VOICES[0]]))
    np.testing.assert_array_equal(ordered.in_order(mixed).est, mixed.est[[2, 1]])
    with pytest.raises(BadInput, match="m2: 1 estimates for 2 references"):
        ordered.in_order(item(est=VOICES[:1]))


def test_files_are_read_in_the_order_of_the_references(tmp_path: Path) -> None:
    names = {"ref/s1/a.wav": 0, "ref/s2/a.wav": 1, "est/a_1.wav": 1, "est/a_2.wav": 0}
    for name, voice in names.items():
        io.write(tmp_path / name, VOICES[voice, : T - 100 * ("est" in name)], RATE)
    rows = [Row("a", sources=("ref/s1/a.wav", "ref/s2/a.wav"))]
    references = ordered.of_manifest(Manifest(rows, tmp_path, tmp_path / "manifest.csv"))
    (found,) = (had() for _, had in ordered.by_files(tmp_path / "est", references))
    assert (found.id, found.sources, found.rate, found.est.shape) == ("a", ("s1", "s2"), RATE, (2, T - 100))
    np.testing.assert_array_equal(found.est, found.ref)
    with pytest.raises(InputNotFound, match="no estimates for b"):
        [had() for _, had in ordered.by_files(tmp_path / "est", {"b": references["a"]})]
    io.write(tmp_path / "est/a_2.wav", VOICES[0], 8000, overwrite=True)
    with pytest.raises(BadInput, match=r"a_2.wav: 8000 Hz but"):
        [had() for _, had in ordered.by_files(tmp_path / "est", references)]


def test_waves_are_8_khz_and_not_cut_off(tmp_path: Path) -> None:
    loud = item(est=np.stack([VOICES[0], 100 * VOICES[1]]))
    kaldi_export.export([loud], tmp_path)
    quiet, rate = io.read(tmp_path / "wav8k/m2_0.wav")
    assert rate == 8000 and io.info(tmp_path / "wav8k/m2_0.wav").subtype == "PCM_16"
    np.testing.assert_allclose(quiet[0], VOICES[0], atol=2**-16)
    scaled = io.read(tmp_path / "wav8k/m2_1.wav")[0][0]
    np.testing.assert_allclose(scaled, VOICES[1] / np.abs(VOICES[1]).max(), atol=2**-14)
    kaldi_export.export([item(rate=RATE)], tmp_path / "16k")
    assert io.info(tmp_path / "16k/wav8k/m2_1.wav").frames == T // 2


def test_tables_are_those_of_a_kaldi_data_folder(tmp_path: Path) -> None:
    done = kaldi_export.export([item(), item("m10")], tmp_path, manifest(), TEXTS)
    assert done == {"folder": str(tmp_path.resolve()), "items": 2, "utterances": 4, "texts": 3}
    wave = tmp_path.resolve() / "wav8k"
    assert lines(tmp_path / "wav.scp") == [
        ["440-m10_0", f"{wave}/m10_0.wav"],
        ["440-m2_0", f"{wave}/m2_0.wav"],
        ["44a-m10_1", f"{wave}/m10_1.wav"],
        ["44a-m2_1", f"{wave}/m2_1.wav"],
    ]
    assert all(Path(place).is_file() for _, place in lines(tmp_path / "wav.scp"))
    assert lines(tmp_path / "utt2spk") == [[key, key[:3]] for key, _ in lines(tmp_path / "wav.scp")]
    assert lines(tmp_path / "spk2utt") == [["440", "440-m10_0 440-m2_0"], ["44a", "44a-m10_1 44a-m2_1"]]
    assert lines(tmp_path / "text") == [["440-m10_0", "four"], ["440-m2_0", "one two"], ["44a-m2_1", "three"]]
    assert lines(tmp_path / "utt2dur")[0] == ["440-m10_0", "0.200"]


def test_the_record_has_the_keys_of_sms_wsj(tmp_path: Path) -> None:
    kaldi_export.export([item()], tmp_path, manifest(), TEXTS)
    assert json.loads((tmp_path / "estimates.json").read_text()) == {
        "datasets": {
            "test_eval92": {
                "m2": {
                    "audio_path": {"estimate": ["wav8k/m2_0.wav", "wav8k/m2_1.wav"]},
                    "num_samples": T,
                    "num_speakers": 2,
                    "speaker_id": ["440", "44a"],
                    "kaldi_transcription": ["one  two", "three"],
                }
            }
        }
    }


def test_without_speakers_every_utterance_is_its_own(tmp_path: Path) -> None:
    kaldi_export.export([item()], tmp_path)
    assert lines(tmp_path / "utt2spk") == lines(tmp_path / "spk2utt") == [["m2_0", "m2_0"], ["m2_1", "m2_1"]]
    assert not (tmp_path / "text").exists()
    assert list(json.loads((tmp_path / "estimates.json").read_text())["datasets"]) == ["test"]


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    kaldi_export.export([item()], tmp_path, texts=TEXTS)
    with pytest.raises(OutputError, match="exists already"):
        kaldi_export.export([item()], tmp_path)
    kaldi_export.export([item()], tmp_path, overwrite=True)
    assert not (tmp_path / "text").exists()  # of the export before


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("m2", {"speakers": ("a",)}, "1 speakers for 2 sources"),
        ("m2", {"speakers": ("a b", "c")}, "'a b' cannot be a Kaldi name"),
        ("../m2", {}, "'../m2' cannot be a Kaldi name"),
    ],
)
def test_names_that_kaldi_cannot_hold_are_refused(
    tmp_path: Path, name: str, columns: dict[str, object], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        kaldi_export.export([item(name)], tmp_path, manifest(**columns))
