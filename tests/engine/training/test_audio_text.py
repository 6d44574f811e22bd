"""A model of sounds and words through an ordinary training: validated by what it tells apart, resumed, and a judge."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.manifest import Manifest, Row
from usepcli.engine.scoring.run import evaluate
from usepcli.engine.training.run import train
from usepcli.engine.training.train import Trainer
from usepcli.errors import ConfigError
from usepcli.models.audio_text_opened import AudioTextJudge
from usepcli.profile.load import load_profile

RATE = 8000
TONES = {"a low hum": 250, "some hiss": 1000, "a whistle": 2500}
SETS = [
    "model.preset=tiny", "model.conditioner=spelling", "optim.lr=0.01", "train.batch_size=4", "train.ema=0",
    "train.log_every=1", "train.threads=1", "schedule.warmup_steps=0", "schedule.name=constant",
]  # fmt: skip


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, draw, rows, names = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0), [], list(TONES)
    for i in range(15):
        queries = tuple(names[(i + k) % 3] for k in range(2))
        for k, query in enumerate(queries):
            wave = 0.1 * np.sin(2 * np.pi * TONES[query] * np.arange(3000) / RATE + draw.uniform(0, 6))
            io.write(root / f"{i}_{k}.wav", wave.astype(np.float32), RATE)
        sources = tuple(f"{i}_{k}.wav" for k in range(2))
        rows.append(Row(f"m{i}", "train" if i < 12 else "valid", "", sources, "", RATE, 3000, 2, queries=queries))
    Manifest(rows, root, root / "manifest.csv").write()
    return root / "manifest.csv"


def test_it_learns_and_its_best_weights_judge(sounds: Path, tmp_path: Path) -> None:
    sets = [f"data.manifest={sounds}", *SETS]
    done = train("small_clap", tmp_path / "run", sets=[*sets, "train.epochs=10", "valid.every_epochs=5"])
    with open(tmp_path / "run" / "valid.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["15", "30"]
    assert set(rows[0]) >= {"nats", "best", "own-phrase", "above-mixture", "top-1", "top-5", "chosen"}
    assert not set(rows[0]) & {"momi", "loudest_share"}
    assert float(rows[-1]["best"]) == min(float(row["nats"]) for row in rows) == pytest.approx(done["nats"], abs=1e-3)
    assert float(rows[-1]["best"]) < np.log(3) and float(rows[-1]["own-phrase"]) > 50
    judged = evaluate(
        judge="audio_text", judge_path=tmp_path / "run", data=sounds, split="valid", out=tmp_path / "judged", quiet=True
    )
    found = {row["metric"]: row["mean"] for row in judged.record["summary"]}
    assert found["nats"] == pytest.approx(float(rows[-1]["best"]), abs=1e-4)
    # An open vocabulary: another phrase with a known word is read, too.
    assert AudioTextJudge(str(tmp_path / "run")).read(["whistle of a kettle"]).shape == (1, 8)


def test_scores_of_separators_are_refused_and_the_other_way_round(sounds: Path, tmp_path: Path) -> None:
    sets = [f"data.manifest={sounds}", *SETS]
    with pytest.raises(ConfigError, match=r"valid\.metric: si-snri, and the model separates nothing"):
        Trainer(load_profile("small_clap", [*sets, "valid.metric=si-snri"]), tmp_path / "a").fit()
    with pytest.raises(ConfigError, match=r"valid\.also: snri, and the model separates nothing"):
        Trainer(load_profile("small_clap", [*sets, "valid.also=[snri]"]), tmp_path / "b").fit()
    words = [f"data.manifest={sounds}", f"model.conditioner_path={sounds}", "model.preset=tiny"]
    with pytest.raises(ConfigError, match=r"valid\.metric: top-1, and the model separates, it is no judge"):
        Trainer(load_profile("small_words_labels", [*words, "valid.metric=top-1"]), tmp_path / "c").fit()
    assert not (tmp_path / "a" / "last.ckpt").exists()
