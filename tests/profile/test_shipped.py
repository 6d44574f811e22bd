"""Every profile that ships can be loaded and bound, fits together, and says which published numbers it is to reach."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from usepcli.profile.load import load_profile, profiles_available, render_config

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "profiles").rglob("*.y*ml"))
LEDGER = ROOT / "usepcli" / "published" / "published.csv"


def published() -> dict[str, list[dict[str, str]]]:
    """Return the rows of the ledger by profile."""
    found: dict[str, list[dict[str, str]]] = {}
    with open(LEDGER, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["profile"]:
                found.setdefault(row["profile"], []).append(row)
    return found


def test_profiles_ship_and_are_found_by_name():
    assert FILES
    assert {path.stem for path in FILES} <= {name for name, _, _ in profiles_available({})}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_profile_binds_and_says_what_it_is(path: Path):
    profile = load_profile(str(path), environ={})
    assert 10 < len(profile.about) <= 100 and "\n" not in profile.about
    assert render_config(profile).count("\n") > 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_model_objective_and_batch_fit_together(path: Path):
    import torch

    from usepcli.engine.training import parts
    from usepcli.weights import build

    profile = load_profile(str(path), environ={})
    with torch.device("meta"):  # shapes alone: the largest models cost nothing
        model = build.model(profile.model)
        objective = parts.objective(profile, model)
    assert profile.train.batch_size % profile.train.accumulate == 0
    objective.check(profile.train.batch_size // profile.train.accumulate)


@pytest.mark.parametrize("name", sorted(published()))
def test_header_tells_the_published_numbers_and_where_they_stand(name: str):
    path = ROOT / "profiles" / f"{name}.yaml"
    comment = " ".join(line.removeprefix("#").strip() for line in path.read_text().splitlines() if line.startswith("#"))
    assert f"--compare {name}" in comment
    for row in published()[name]:
        assert f"({row['paper']}, {row['where'].lower()})" in comment
        assert f" {row['value']}" in comment, row


FIRST_STAGE = re.compile(r"(?:init_from|teacher_model): (runs/(\w+))")
SECOND = [path for path in FILES if FIRST_STAGE.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", SECOND, ids=lambda path: path.stem)
def test_second_stages_say_how_to_train_the_first(path: Path):
    text = path.read_text(encoding="utf-8")
    found = FIRST_STAGE.search(text)
    assert found
    folder, name = found.groups()
    lines = re.findall(r"^#   usep train --profile (\w+)(.*)$", text, re.M)
    assert len(lines) == 2 and lines[1][0] == path.stem
    assert lines[0][0] in {file.stem for file in FILES}
    assert f"-o {folder}" in lines[0][1] if lines[0][0] != name else "-o" not in lines[0][1]
