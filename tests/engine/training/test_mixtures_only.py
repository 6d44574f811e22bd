"""Objectives that learn from mixtures never open a source: training goes on when the sources are gone."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io, tars
from usepcli.data.batch import collate
from usepcli.data.examples import FixedMixtures
from usepcli.data.manifest import Manifest
from usepcli.engine.preparing.prepare import prepare
from usepcli.engine.training.train import Trainer
from usepcli.errors import BadInput
from usepcli.profile.load import load_profile

PROFILE = """\
about: a tiny run for tests
licence: CC0
data: {{manifest: {data}, segment_s: 0.25}}
model: {{name: conformer_mask, preset: tiny, n_src: 4, sample_rate: 8000}}
objective: {{name: {objective}}}
optim: {{lr: 1e-3}}
train: {{epochs: 1, batch_size: 4, log_every: 1, threads: 1}}
valid: {{metric: momi, limit: 4}}
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared set of scenes with one to four sources each."""
    root, draw = tmp_path_factory.mktemp("scenes"), np.random.default_rng(0)
    lines = ["path,label,role,split"]
    for split in ("train", "valid", "test"):
        for kind in range(5):
            io.write(root / "in" / split / f"{kind}.wav", draw.normal(size=2400) * 0.1, 8000)
            lines.append(f"{split}/{kind}.wav,k{kind},{'background' if kind == 4 else 'foreground'},{split}")
    (root / "in" / "manifest.csv").write_text("\n".join(lines) + "\n")
    options = {"train": 12, "valid": 4, "test": 0, "seconds": 0.5}
    prepare(root / "in", root / "out", "events", options, workers=1, quiet=True)
    return root / "out"


def train(data: Path, objective: str, folder: Path) -> list[dict[str, str]]:
    folder.mkdir()
    (folder / "tiny.yaml").write_text(PROFILE.format(data=data, objective=objective))
    Trainer(load_profile(str(folder / "tiny.yaml")), folder / "run").fit()
    with open(folder / "run" / "train.csv", newline="") as file:
        return list(csv.DictReader(file))


def only_mixtures(scenes: Path, to: Path) -> Path:
    """A copy of the prepared folder whose manifest is complete and in which only the mixtures are left."""
    for path in [scenes / "manifest.csv", scenes / "prepare.json", *scenes.rglob("mix.wav")]:
        copy = to / path.relative_to(scenes)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    manifest = Manifest.read(to)
    assert all(row.sources and not manifest.resolve(row.sources[0]).exists() for row in manifest.rows)
    return to


@pytest.mark.parametrize("objective", ["mixit", "mixpit", "remixit", "self_remixing"])
def test_training_from_mixtures_alone_needs_no_source_file(scenes: Path, tmp_path: Path, objective: str):
    rows = train(only_mixtures(scenes, tmp_path / "data"), objective, tmp_path / "folder")
    assert len(rows) == 3 and all(math.isfinite(float(row["loss"])) for row in rows)
    with open(tmp_path / "folder" / "run" / "valid.csv", newline="") as file:
        assert math.isfinite(float(list(csv.DictReader(file))[-1]["momi"]))


def test_supervised_training_does_open_them(scenes: Path, tmp_path: Path):
    with pytest.raises(BadInput, match=r"unusable files in a row"):
        train(only_mixtures(scenes, tmp_path / "data"), "pit", tmp_path / "folder")


def test_supervised_training_pads_sources_that_are_absent(scenes: Path, tmp_path: Path):
    data = FixedMixtures(Manifest.read(scenes).split("train"), 8000, 0.25, 0, with_sources=True)
    batch = collate([data[(0, i)] for i in range(12)])
    assert batch.sources is not None and batch.sources.shape == (12, 4, 2000)
    counts = [row.n_src for row in data.manifest.rows]
    assert set(counts) == {1, 2, 3, 4}
    for sources, mix, count in zip(batch.sources.numpy(), batch.mix.numpy(), counts, strict=True):
        assert np.abs(sources.sum(0) - mix).max() < 1e-6 and not sources[count:].any()
    rows = train(scenes, "pit", tmp_path / "folder")
    assert len(rows) == 3 and all(math.isfinite(float(row["loss"])) for row in rows)


WORDED = """\
about: a tiny run for tests
licence: CC0
data: {{manifest: {data}, segment_s: 0.25, phrases: 2}}
model: {{name: cond_unet, preset: tiny, conditioner: labels, conditioner_path: {data}/manifest.csv}}
loss: {{name: magnitude_l1}}
objective: {{name: text_weak, cnt: 0, url: 0}}
train: {{epochs: 1, batch_size: 4, log_every: 1, threads: 1}}
valid: {{metric: momi, limit: 4}}
"""


@pytest.mark.parametrize("kept", ["stems", "no stems", "no stems, in tars"])
def test_what_is_learned_from_words_needs_no_source(tmp_path: Path, kept: str) -> None:
    draw, only = np.random.default_rng(0), tmp_path / "only"
    for name in ("dog", "rain", "siren", "car", "bell", "wind", "cat", "saw"):
        for k in range(2):
            io.write(tmp_path / "in" / name / f"{k}.wav", draw.normal(size=2400) * 0.1, 8000)
    options = {"train": 8, "valid": 4, "test": 0, "seconds": 0.5, "rate": 8000, "split_ratios": (0.5, 0.5, 0.0)}
    options |= {"sources": (2, 3), "stems": kept == "stems"}
    size = "100KB" if "tars" in kept else ""
    prepare(tmp_path / "in", tmp_path / "out", "labelled", options, workers=1, quiet=True, shards=size)
    if kept == "stems":
        only_mixtures(tmp_path / "out", only)
    else:
        shutil.copytree(tmp_path / "out", only)
        sounds = {path.name for path in only.rglob("*") if path.suffix in (".wav", ".flac")}
        assert sounds == (set() if size else {"mix.wav"})
        names = [name for tar in only.glob("shards/*.tar") for name in tars.index(str(tar)).places]
        assert {name.split(".")[1] for name in names} == ({"mix", "json"} if size else set())
    shutil.rmtree(tmp_path / "in")
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "words.yaml").write_text(WORDED.format(data=only))
    Trainer(load_profile(str(tmp_path / "words.yaml")), tmp_path / "run").fit()
    with open(tmp_path / "run" / "train.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 and all(math.isfinite(float(row[key])) for row in rows for key in ("loss", "crl"))
    with open(tmp_path / "run" / "valid.csv", newline="") as file:
        assert math.isfinite(float(list(csv.DictReader(file))[-1]["momi"]))
