"""usep models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from usepcli.cli.app import app
from usepcli.report import layout
from usepcli.weights import cards, reach, store

RUNNER = CliRunner()


@pytest.fixture(autouse=True)
def _one_model(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The file lies in ./models too, hidden by the name that ships.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "models")
    monkeypatch.setattr(reach, "released", lambda: {"toy": model_file})


def test_table():
    done = RUNNER.invoke(app, ["models"])
    head, line = done.stdout.splitlines()
    assert head.split() == ["name", "Hz", "outputs", "MB", "score", "licence", "about"]
    assert line.split()[:3] == ["toy", "8000", "2"] and " CC0-1.0 " in line and " si-snri 7.5 dB " in line
    assert "not separate music" in done.stderr and RUNNER.invoke(app, ["models", "-q"]).stderr == ""


LONG = {
    "about": "takes apart " + "what sounds at once " * 30,
    "licence": "CC-BY-4.0, " * 20,
    "training_data": "x " * 300,
}
ODD_SCORES: list[dict[str, object]] = [
    {}, {"metric": "si-snri"}, {"value": 3}, {"metric": "pesq", "value": "2.1", "ci95": [1], "data": 7, "n": None},
    {"metric": "si-snri", "value": 7.5, "ci95": "no", "protocol": ["a", "b"]},
]  # fmt: skip


@pytest.mark.parametrize("columns", ["80", "100", "300", "20", ""])
def test_nothing_is_wider_than_the_screen(
    columns: str, model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    card, _ = cards.read_card(model_file)
    for key, value in LONG.items():
        setattr(card, key, value)
    card.scores = ODD_SCORES
    names = [f"m{k:03d}" for k in range(40)] + ["long_" * 12 + "name", "[bold]50% name"]
    for name in names:
        (tmp_path / "models" / f"{name}.safetensors").write_bytes(cards.with_card(model_file.read_bytes(), card))
    monkeypatch.setenv("USEP_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("COLUMNS", columns)
    most = {"80": 80, "20": layout.NARROWEST}.get(columns, layout.WIDEST)
    done = RUNNER.invoke(app, ["models"])
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and max(map(len, lines)) <= most
    begun = [line for line in lines if line[0] != " "]
    assert all(any(line.startswith(name) for line in begun) for name in names)
    assert len(begun) == 1 + 1 + len(names) and len(lines) - len(begun) == 1  # the long name stands alone
    for words in (["info", str(tmp_path / "models" / f"{names[-1]}.safetensors")], ["doctor"], ["profiles"]):
        shown = RUNNER.invoke(app, words)
        assert shown.exit_code == 0
        # A path is one word, which is not broken.
        assert all(len(line) <= most or " " not in line.split(maxsplit=1)[1] for line in shown.stdout.splitlines())


def test_scores_are_told_in_sentences(model_file: Path, tmp_path: Path):
    card, _ = cards.read_card(model_file)
    whole = {
        "metric": "si-snri",
        "value": 7.45,
        "ci95": [6.83, 8.07],
        "n": 400,
        "data": "two talkers",
        "protocol": "mean",
    }
    card.scores = [whole, *ODD_SCORES]
    path = tmp_path / "odd.safetensors"
    path.write_bytes(cards.with_card(model_file.read_bytes(), card))
    text = " ".join(RUNNER.invoke(app, ["info", str(path)]).stdout.split())
    assert "scores si-snri 7.45 dB (95 % interval 6.83 to 8.07) on two talkers; protocol: mean; n = 400 scores" in text
    assert "a score without metric or value on data that its card does not name" in text
    assert "pesq 2.1 on 7" in text and "This model was trained for: toys." not in text
    assert json.loads(RUNNER.invoke(app, ["info", str(path), "--json"]).stdout)["scores"] == card.scores
    assert RUNNER.invoke(app, ["push", str(path), str(tmp_path / "hub")]).exit_code == 0
    assert "si-snri | 7.45 | 6.83 to 8.07" in (tmp_path / "hub" / "README.md").read_text()


def test_what_a_model_is_for_is_its_cards_word():
    assert cards.trained_for(cards.Card(about="two talkers.")).startswith("This model was trained for: two talkers. ")
    assert "learned from, toys" in cards.trained_for(cards.Card(training_data="toys."))
    assert "does not say" in cards.trained_for(cards.Card())
    assert cards.trained_for(cards.Card(about="x", objective="prompt_tuning")).startswith("This separates nothing: ")


def test_models_of_folders_and_what_they_hide(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "cache" / "usep" / "models"
    folder.mkdir(parents=True)
    shutil.copy(model_file, folder / "mine.safetensors")
    shutil.copy(model_file, folder / "toy.safetensors")
    (folder / "other.safetensors").write_bytes(b"nonsense")
    done = RUNNER.invoke(app, ["models", "--json"])
    assert done.exit_code == 0
    assert {row["name"]: row["path"] for row in json.loads(done.stdout)} == {
        "toy": str(model_file), "mine": str(folder / "mine.safetensors"),
    }  # fmt: skip
    assert f"{folder / 'toy.safetensors'} is hidden by {model_file}" in done.stderr
    assert "left out" in done.stderr and "other.safetensors" in done.stderr
    facts = json.loads(RUNNER.invoke(app, ["info", "toy", "--json"]).stdout)
    assert (facts["file"], facts["hides"]) == (str(model_file), [str(folder / "toy.safetensors")])


def test_json(model_file: Path):
    (found,) = json.loads(RUNNER.invoke(app, ["models", "--json"]).stdout)
    assert found["parameters"] == store.load_model(model_file)[0].n_params
    assert found["scores"][0]["protocol"] == "mean over sources"
    assert found["path"] == str(model_file)


def test_none_released(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reach, "released", dict)
    done = RUNNER.invoke(app, ["models", "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])
    assert RUNNER.invoke(app, ["models"]).exit_code == 0
