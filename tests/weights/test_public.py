"""The table of public checkpoints: every line is whole, and what it names is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from usepcli import registry
from usepcli.cli.app import app
from usepcli.errors import InputNotFound
from usepcli.weights import cards, public, reach

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _nothing_pulled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("USEP_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("row", public.rows(), ids=lambda row: row.name)
def test_a_line_is_whole(row: public.Row):
    assert re.fullmatch(r"[\w-]+/[\w.-]+", row.repo) and row.repo.split("/")[1] == row.name
    assert row.maker in registry.MAKERS and row.model in registry.MODELS
    assert row.licence_code == registry.maker(row.maker).CODE
    assert row.rate in (8000, 16000, 32000, 44100) and row.outputs <= 6 and 1 <= row.mbytes < 2000
    assert (row.outputs == 0) == (row.model in registry.QUERIED) == row.command().endswith(" --text-encoder FOLDER")
    assert row.task and row.training_data and row.licence_data and row.licence_weights
    # A score without data and protocol says nothing, and neither do data without a score.
    assert bool(row.metric) == (row.value is not None) == bool(row.data) == bool(row.protocol)
    for score in row.scores():
        assert "not measured by usep" in cards.score_sentence(score)


def test_names_are_unique_and_none_comes_with_usep():
    names = [row.name for row in public.rows()]
    assert len(set(names)) == len(names) > 10 and not set(names) & reach.released().keys()


def test_what_is_not_for_commercial_use_is_seen():
    def barred(name: str) -> str:
        row = public.named(name)
        assert row is not None
        words = row.words()
        return cards.barred(cards.Card(licence=words["licence"], licences={"weights": words["licence_weights"]}))

    assert "CC BY-NC" in barred("sepformer-wham") and "research only" in barred("sepformer-wsj02mix")
    assert barred("sepformer-libri2mix") == ""
    told = {row.name: row.commercial() for row in public.rows()}
    assert told["sepformer-wham"] == "no" and told["sepformer-libri2mix"] == "not barred"
    assert told["MossFormer2_SS_16K"] == "unknown"


def test_a_model_not_yet_here_is_answered_with_the_one_command():
    for ref in ("sepformer-wham", "speechbrain/sepformer-wham"):
        with pytest.raises(InputNotFound, match=r"not here yet; fetch it with: usep pull speechbrain/sepformer-wham$"):
            reach.find_model(ref)
    with pytest.raises(InputNotFound, match="unknown model 'sepformer-whom'"):
        reach.find_model("sepformer-whom")


def test_the_list():
    done = RUNNER.invoke(app, ["models", "--public", "--json"])
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    row = rows["sepformer-wham"]
    assert (row["command"], row["here"], row["rate"]) == ("usep pull speechbrain/sepformer-wham", False, 8000)
    assert row["score"].startswith("si-snri 16.3 dB on WHAM! test; protocol: mean over the set")
    done = RUNNER.invoke(app, ["models", "--public"])
    assert max(map(len, done.stdout.splitlines())) <= 120 and "usep pull REPO" in done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("alibabasglab/MossFormer2_SS_16K ")]
    assert len(lines) == 1 and "2 talkers" in lines[0] and done.stdout.count("/") >= len(rows)
