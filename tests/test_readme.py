"""The README cannot drift: its commands run, its profile is the shipped one, its tables name what is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import usepcli
from usepcli import registry
from usepcli.audio import io
from usepcli.audio.resample import wait_s
from usepcli.data.manifest import COLUMNS, POOL_COLUMNS
from usepcli.engine.scoring.listening import KEY_COLUMNS
from usepcli.engine.separation import failures, joins, ledger
from usepcli.profile.load import load_profile
from usepcli.weights import build, cards, store

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""
RATE = 8000

# The walk is the README's, the size is that of a test.
SMALL = {
    "USEP_TRAIN__EPOCHS": "1",
    "USEP_TRAIN__THREADS": "1",
    "USEP_TRAIN__LOG_EVERY": "2",
    "USEP_VALID__LIMIT": "2",
    "USEP_DATA__SEGMENT_S": "0.5",
    "USEP_DATA__EPOCH_ITEMS": "64",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}


def block(mark: str) -> str:
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```sh\n(.*?)```", README, re.S)
    assert found, f"README.md has no block marked {mark}"
    return found[1]


def buzz(draw: np.random.Generator, pitch: float, seconds: float) -> np.ndarray:
    t = np.arange(round(RATE * seconds)) / RATE
    wave = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 6))
    return (wave * (0.05 + 0.05 * np.sin(2 * np.pi * draw.uniform(1, 3) * t))).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: talkers, mixtures and a recording, and `usep` on the path."""
    root, draw = tmp_path_factory.mktemp("user"), np.random.default_rng(0)
    for talker in range(20):
        for n in range(2):
            path = root / "my_speech" / f"talker{talker}" / f"{n}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            io.write(path, buzz(draw, 100 + 10 * talker, 2.0), RATE)
    (root / "my_recordings").mkdir()
    for n in range(40):
        io.write(root / f"my_recordings/{n}.wav", buzz(draw, 100, 1.0) + buzz(draw, 150 + 5 * n, 1.0), RATE)
    io.write(root / "talk.wav", buzz(draw, 110, 2.0) + buzz(draw, 230, 2.0), RATE)
    (root / "bin").mkdir()
    (root / "bin/usep").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m usepcli "$@"\n')
    (root / "bin/usep").chmod(0o755)
    return root


def run(commands: str, place: Path) -> str:
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    source = str(Path(usepcli.__file__).parents[1])
    env = {**os.environ, **SMALL, "PATH": path, "PYTHONPATH": source, "USEP_PROFILES": str(ROOT / "profiles")}
    done = subprocess.run(["bash", "-ec", commands], cwd=place, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr[-3000:]}"
    return done.stdout


def test_walk_through_training_with_and_without_sources_and_using_the_models(place: Path) -> None:
    said = run(block("walk: with sources"), place)
    assert "si-snri" in said and (place / "runs/small_pit/curves.png").exists()
    tuned = block("walk: fine-tune").replace(" --data", " --limit 4 --data")
    assert "versus" in run(tuned.replace("usep train", "usep train --set train.max_steps=1"), place)
    run(block("walk: without sources"), place)
    assert len(list((place / "separated_mine").rglob("*_4.wav"))) == 40
    run(block("walk: use"), place)
    for name in ("apart/talk_1.wav", "apart/talk_2.wav", "softer.wav", "first.wav"):
        assert (place / name).exists(), name


def test_profile_in_the_readme_is_the_shipped_one() -> None:
    assert f"```yaml\n{(ROOT / 'profiles/small_pit.yaml').read_text()}```" in README


def test_tables_in_the_readme_name_the_columns() -> None:
    rows = dict(re.findall(r"^\| `(\w+\.csv)` \| (.*?) \|$", README, re.M))
    tables = {
        "manifest.csv": COLUMNS,
        "pool.csv": POOL_COLUMNS,
        "outputs.csv": ledger.OUTPUTS,
        "seams.csv": joins.SEAMS,
        "errors.csv": failures.ERRORS,
        "key.csv": KEY_COLUMNS,
    }
    for name, columns in tables.items():
        listed = re.sub(r" \(.*?\)|:.*", "", rows[name])
        assert listed.split(", ") == list(columns), name


def test_links_and_pictures_in_the_readme_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_python_example_in_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = re.search(r"```python\n(.*?)```", README, re.S)
    assert found
    rng = np.random.default_rng(0)
    names = {"wave": rng.standard_normal(4000).astype(np.float32) * 0.1, "rate": RATE}
    exec(compile(found[1], "README.md", "exec"), names)
    assert names["sources"].shape == (2, 4000)


def test_live_example_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build.model({"name": "convtasnet", "preset": "causal", "filters": 32, "hidden": 32, "blocks": 2})
    assert model.live and model.latency_samples / model.sample_rate == 0.002
    card = cards.Card(name="causal", model=build.config_of(model), sample_rate=RATE, n_src=2)
    store.save_model(tmp_path / "runs/causal/best.safetensors", model.state_dict(), card)
    monkeypatch.chdir(tmp_path)
    heard: list[np.ndarray] = []
    wave = np.random.default_rng(0).standard_normal(4000).astype(np.float32) * 0.1
    names = {"Separator": usepcli.Separator, "rate": RATE, "blocks": np.split(wave, 20), "play": heard.append}
    exec(compile(re.findall(r"```python\n(.*?)```", README, re.S)[1], "README.md", "exec"), names)
    assert len(heard) == 21 and np.concatenate(heard, axis=1).shape == (2, 4000)
    assert max(wait_s(rate, RATE) + wait_s(RATE, rate) for rate in (16000, 44100, 48000, 96000)) < 0.34


def names_of(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_objectives_metrics_and_profiles_in_the_readme_are_those_that_exist() -> None:
    section = README.split("## Learning from mixtures alone\n")[1].split("<!-- results -->")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| `.*$", section, re.M)]
    assert {name for line in lines for name in names_of(line[0])} == set(registry.OBJECTIVES)
    shipped = {path.stem for path in (ROOT / "profiles").glob("*.yaml")}
    for line in lines:
        tried = re.findall(r"--profile (\w+)", line[4]) or names_of(line[4])
        assert tried and set(tried) <= shipped, line[4]
        if "--profile" not in line[4]:
            assert {load_profile(name, environ={}).objective["name"] for name in tried} <= set(names_of(line[0])), line
    scores = README.split("`evaluate` knows")[1].split("\n## ")[0]
    assert all(re.search(rf"(?<![\w-]){name}(?![\w-])", scores) for name in registry.METRICS)


def test_models_in_the_readme_are_those_that_exist_and_as_large() -> None:
    section = README.split("## Models\n")[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\| `.*$", section, re.M)]
    assert {name for line in lines for name in names_of(line[0])} == set(registry.MODELS)
    assert len(lines) == len(registry.MODELS)
    for name, _, size, _, _ in lines:
        if name != "`cond_unet`":  # as published it takes a CLAP, which has to be there
            with torch.device("meta"):
                model = build.model({"name": name.strip("`")})
            assert size.removeprefix("our own, ") == f"{model.n_params / 1e6:.2f} M", name
