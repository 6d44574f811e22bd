"""The recordings that ship with the package."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

import usepcli
from usepcli.audio import io
from usepcli.data.manifest import Manifest

SAMPLES = Path(usepcli.__file__).parent / "samples"


def test_test_set_sums_to_the_integer_and_matches_its_manifest() -> None:
    manifest = Manifest.read(SAMPLES / "testset")
    assert len(manifest) == len(manifest.split("test")) == 8
    for row in manifest.rows:
        mix, *sources = (io.read(manifest.resolve(name))[0] * 32768 for name in (row.mixture, *row.sources))
        assert mix.shape == (1, row.frames) and row.sample_rate == 8000 and row.n_src == len(sources) == 2
        assert np.array_equal(mix, sum(sources))
        level = [10 * np.log10(np.mean(source**2)) for source in sources]
        assert abs(level[0] - level[1]) <= 5.1


def test_no_talker_appears_twice_and_every_clip_is_credited() -> None:
    manifest = Manifest.read(SAMPLES / "testset")
    talkers = [name for row in manifest.rows for name in row.speakers]
    assert len(set(talkers)) == len(talkers) == 16
    credits = (SAMPLES / "LICENCE.md").read_text(encoding="utf-8")
    for row in manifest.rows:
        assert row.licence == "CC-BY-4.0" and f"testset/{row.id}/" in credits
        assert all(utterance in credits for utterance in row.origin.split()[1:])
    assert "two_talkers.flac" in credits


def test_files_match_their_checksums_and_stay_small() -> None:
    record = json.loads((SAMPLES / "testset" / "prepare.json").read_text(encoding="utf-8"))
    files = {path.relative_to(SAMPLES / "testset").as_posix(): path for path in SAMPLES.glob("testset/*/*.flac")}
    assert record["root"] == "." and set(record["sha256"]) == set(files) and len(files) == 24
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == record["sha256"][name]
    assert sum(path.stat().st_size for path in SAMPLES.rglob("*") if path.is_file()) < 900_000


def test_demonstration_recording_is_eight_seconds_unclipped() -> None:
    wave, rate = io.read(SAMPLES / "two_talkers.flac")
    assert rate == 8000 and wave.shape == (1, 64000)
    assert 0.1 < np.abs(wave).max() < 0.99


def test_default_separates_the_shipped_test_set_and_keeps_the_mixture() -> None:
    from usepcli.engine.scoring import evaluate
    from usepcli.weights import store

    model, card = store.load_model("default")
    manifest = Manifest.read(SAMPLES / "testset")
    rows = evaluate.score_model(model, manifest, ["si-snri"])
    # 5.5 dB when it was released; a broken loader, resampler or assignment costs far more than a decibel.
    assert evaluate.summary(rows, ["si-snri"])[0]["mean"] > 4.5
    assert card.licence and card.credits
