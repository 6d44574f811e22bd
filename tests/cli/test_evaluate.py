"""`usep evaluate` from the command line: exit codes, files, what stands on which stream."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import usepcli
from usepcli.weights import build, cards, reach, store

TESTSET = Path(usepcli.__file__).parent / "samples" / "testset"
SUMMARY = ["metric", "mean", "median", "ci95_low", "ci95_high", "n", "missing"]
Usep = Callable[..., Any]


@pytest.fixture
def usep(command: Callable[..., Usep]) -> Usep:
    """Run `usep evaluate ...` in an empty folder."""
    return command("evaluate")


def train_nothing(folder: Path, manifest: Path | str = TESTSET, when: int = 0) -> Path:
    """Save an untrained tiny model as the outcome of a run on `manifest`."""
    torch.manual_seed(0)
    model = build.model({"name": "conformer_mask", "preset": "tiny", "n_src": 2, "sample_rate": 8000})
    card = cards.Card(
        name=folder.name, model=model.config, sample_rate=8000, n_src=2, objective="pit", steps=7,
        profile={"data": {"manifest": str(manifest), "test_split": "test"}},
    )  # fmt: skip
    folder.mkdir(parents=True)
    store.save_model(folder / "best.safetensors", model.state_dict(), card)
    os.utime(folder / "best.safetensors", (when, when))
    return folder


def header(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return next(csv.reader(file))


def test_bare_evaluate_scores_the_latest_run_on_its_own_test_split(usep: Usep) -> None:
    train_nothing(Path("runs/old"), when=100)
    train_nothing(Path("runs/deeper/new"), when=200)
    answer = usep("--metric", "si-snri", "--limit", 2)
    assert answer.code == 0
    assert answer.out.splitlines()[0].split() == SUMMARY
    assert len(answer.out.splitlines()) == 2 and "runs/deeper/new" not in answer.out
    assert "model: runs/deeper/new" in answer.err and str(TESTSET) in answer.err and "split test" in answer.err
    out = Path("runs/deeper/new/eval_test")
    assert header(out / "items.csv") == ["id", "source", "n_src", "si-snri", "reason"]
    assert header(out / "summary.csv") == [
        "metric",
        "mean",
        "median",
        "ci95_low",
        "ci95_high",
        "n",
        "missing",
    ]
    assert (out / "items.csv").read_text().count("\n") == 1 + 2 * 2


def test_runs_folder_comes_from_the_environment(usep: Usep, monkeypatch: pytest.MonkeyPatch) -> None:
    train_nothing(Path("elsewhere/one"))
    monkeypatch.setenv("USEP_RUNS", "elsewhere")
    assert "model: elsewhere/one" in usep("--limit", 1).err


def test_json_is_one_object_and_nothing_else(usep: Usep) -> None:
    run = train_nothing(Path("runs/one"))
    answer = usep(run, "--limit", 1, "--json", "-q", "-o", "scores")
    found = json.loads(answer.out)
    assert answer.err == "" and found["items"] == 1 and found["rows"] == 2 and found["out"] == "scores"
    assert found["model"]["steps"] == 7 and len(found["model"]["sha256"]) == 64
    assert found["summary"][0]["metric"] == "si-snri" and found["summary"][0]["ci95_low"] is None
    record = json.loads(Path("scores/evaluate.json").read_text())
    assert {key: value for key, value in found.items() if key != "out"} == record


def test_results_are_not_overwritten_unasked(usep: Usep) -> None:
    run = train_nothing(Path("runs/one"))
    assert usep(run, "--limit", 1).code == 0
    before = (run / "eval_test" / "items.csv").read_bytes()
    again = usep(run, "--limit", 2)
    assert again.code == 73 and "--overwrite" in again.err
    assert (run / "eval_test" / "items.csv").read_bytes() == before
    assert usep(run, "--limit", 2, "--overwrite").code == 0
    assert (run / "eval_test" / "items.csv").read_bytes() != before


def test_the_same_command_again_shows_what_is_there(usep: Usep) -> None:
    run = train_nothing(Path("runs/one"))
    first = usep(run, "--limit", 2)
    before = {path.name: path.stat().st_mtime_ns for path in (run / "eval_test").iterdir()}
    again = usep(run, "--limit", 2, "--workers", 1)
    assert again.code == 0 and again.out == first.out and "holds these results already" in again.err
    assert {path.name: path.stat().st_mtime_ns for path in (run / "eval_test").iterdir()} == before
    assert json.loads(usep(run, "--limit", 2, "--json").out)["items"] == 2
    other = usep(run, "--limit", 2, "--metric", "snr")
    assert other.code == 73 and 'metric was [], now ["snr"]' in other.err and "-o" in other.err


def test_changed_files_are_other_data(usep: Usep) -> None:
    shutil.copytree(TESTSET, "set")
    run = train_nothing(Path("runs/one"), "set")
    assert usep(run, "--limit", 2).code == 0
    first = sorted(Path("set").glob("*/mix.flac"))[0]
    shutil.copy(sorted(Path("set").glob("*/mix.flac"))[1], first)
    changed = usep(run, "--limit", 2)
    assert changed.code == 73 and "files have changed" in changed.err and "--overwrite" in changed.err


def test_an_item_that_stands_twice_is_told_and_not_scored_twice(usep: Usep) -> None:
    shutil.copytree(TESTSET, "set")
    lines = Path("set/manifest.csv").read_text().splitlines(keepends=True)
    Path("set/again.csv").write_text("".join([*lines[:3], lines[1]]))
    found = usep(train_nothing(Path("runs/one")), "--data", "set/again.csv")
    assert found.code == 65 and f"are called '{lines[1].split(',')[0]}', which would count twice" in found.err


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_killed_run_goes_on_to_the_tables_of_an_undisturbed_one(usep: Usep) -> None:
    line = ["default", "--data", TESTSET, "--limit", 4, "--unprocessed", "--metric", "si-snri", "--metric", "momi"]
    assert usep(*line, "-o", "whole").code == 0
    kill = (
        "import os, sys\nfrom usepcli.engine.scoring import evaluate\nreal, scored = evaluate.score_signals, []\n"
        "def score(*arguments):\n scored.append(1)\n if len(scored) == 6: os.kill(os.getpid(), 9)\n"
        " return real(*arguments)\nevaluate.score_signals = score\nfrom usepcli.cli.app import main\nmain()"
    )
    words = [sys.executable, "-c", kill, "evaluate", *map(str, line), "-o", "killed"]
    assert subprocess.run(words, capture_output=True, timeout=300).returncode == -9
    assert [path.name for path in Path("killed").iterdir() if path.name != ".lock"] == ["items.partial.jsonl"]
    noted = Path("killed/items.partial.jsonl").read_bytes()
    other = usep(*line, "--channels", "mix", "-o", "killed")
    assert other.code == 73 and 'channels was "each", now "mix"' in other.err
    with open("killed/items.partial.jsonl", "ab") as file:
        file.write(noted[-40:-20])  # torn
    again = usep(*line, "-o", "killed")
    assert again.code == 0 and "2 items were scored before" in again.err
    assert contents("killed") == contents("whole")


def test_shares_and_a_merge_give_the_tables_of_one_run(usep: Usep) -> None:
    for item in sorted(TESTSET.iterdir())[:5]:
        if item.is_dir():
            shutil.copytree(item, f"ref/{item.name}", ignore=shutil.ignore_patterns("mix*"))
    shutil.copytree("ref", "est")
    sorted(Path("est").rglob("s2.flac"))[0].write_bytes(b"no sound")
    line = ["--estimates", "est", "--references", "ref", "--metric", "snr"]
    assert usep(*line, "-o", "whole").code == 4
    for share in ("2/3", "3/3"):
        assert usep(*line, "-o", "parts", "--shard", share).code == 0
    early = usep(*line, "-o", "parts", "--merge")
    assert early.code == 65 and "not done: shard 1 of 3" in early.err
    first = usep(*line, "-o", "parts", "--shard", "1/3")
    assert first.code == 4 and "1 of" in first.err and "shard 1 of 3 done: " in first.err
    assert not Path("parts/items.csv").exists()
    other = usep(*line, "--limit", 3, "-o", "parts", "--shard", "1/3")
    assert other.code == 73 and "limit was 0, now 3" in other.err
    merged = usep(*line, "-o", "parts", "--merge")
    assert merged.code == 4 and contents("parts") == contents("whole")
    found = json.loads(usep(*line, "-o", "more", "--shard", "9/9", "--json", "-q").out)
    assert found["done"] == 0 and found["missing"] == found["items"]
    assert usep(*line, "-o", "more", "--merge").code == 65 and not Path("more").exists()


def test_two_sets_of_one_model_go_into_two_folders(usep: Usep) -> None:
    run = train_nothing(Path("runs/one"))
    for name in ("near", "far"):
        shutil.copytree(TESTSET, name)
        assert usep(run, "--data", name, "--limit", 1).code == 0
    assert usep(run, "--data", TESTSET, "--limit", 1).code == 0  # its own
    assert {path.name for path in run.iterdir() if path.is_dir()} == {"eval_near_test", "eval_far_test", "eval_test"}


def test_failed_items_are_told_again(usep: Usep) -> None:
    for k in (1, 2):
        for item in sorted(TESTSET.iterdir())[:2]:
            Path(f"est/{item.name}").mkdir(exist_ok=True, parents=True)
            shutil.copy(item / f"s{k}.flac", f"est/{item.name}/s{k}.flac")
    shutil.copytree("est", "ref")
    next(Path("est").rglob("s2.flac")).write_bytes(b"no sound")
    line = ("--estimates", "est", "--references", "ref", "-o", "scores")
    for _ in range(2):
        answer = usep(*line)
        assert answer.code == 4 and "1 of 2 items have no scores" in answer.err
    assert "holds these results already" in answer.err


def test_a_comparison_that_cannot_be_made_loses_no_scores(usep: Usep) -> None:
    run = train_nothing(Path("runs/one"))
    assert usep(run, "--limit", 2, "--metric", "snr", "-o", "earlier").code == 0
    line = (run, "--limit", 2, "--metric", "si-snr", "--versus", "earlier", "-o", "scores")
    answer = usep(*line)
    assert answer.code == 65 and "no score in common" in answer.err and "si-snr" in answer.out
    assert Path("scores/items.csv").is_file() and Path("scores/summary.csv").is_file()
    assert usep(*line).code == 65  # tried again


def test_without_runs_the_default_model_meets_the_shipped_test_set(usep: Usep, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = train_nothing(Path("pretrained")) / "best.safetensors"
    stand_in = stand_in.rename(stand_in.with_name("default.safetensors")).resolve()
    monkeypatch.setattr("usepcli.engine.scoring.jobs._released_default", lambda: True)
    monkeypatch.setattr(reach, "released", lambda: {"default": stand_in})
    answer = usep("--metric", "si-snri", "--limit", 1)
    assert answer.code == 0 and "model: default" in answer.err
    assert f"data: {TESTSET / 'manifest.csv'}, split test, 8 items" in answer.err
    assert header(Path("evaluation/items.csv")) == ["id", "source", "n_src", "si-snri", "reason"]


def test_default_model_scores_the_shipped_test_set(usep: Usep) -> None:
    if "default" not in reach.released():
        pytest.skip("no released model called default in usepcli/pretrained yet")
    answer = usep("--metric", "si-snri", "--json")
    assert answer.code == 0 and "model: default" in answer.err
    found = json.loads(answer.out)
    assert (found["data"]["manifest"], found["data"]["split"]) == (str(TESTSET / "manifest.csv"), "test")
    assert (found["data"]["corpus"], found["data"]["sample_rate"]) == ("speakers", 16000)
    assert found["summary"][0]["mean"] > 3 and Path("evaluation/items.csv").is_file()


def test_nothing_to_score_is_said_plainly(usep: Usep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usepcli.engine.scoring.jobs._released_default", lambda: False)
    answer = usep("--metric", "si-snri")
    assert answer.code == 66 and "no trained run" in answer.err and answer.out == ""


def test_separated_files_of_anybody(usep: Usep) -> None:
    for item in sorted(TESTSET.iterdir())[:2]:
        if item.is_dir():
            for k, name in ((1, "s2"), (2, "s1")):
                Path("est").mkdir(exist_ok=True)
                shutil.copy(item / f"{name}.flac", f"est/{item.name}_{k}.flac")
    line = ("--estimates", "est", "--references", TESTSET, "--metric", "si-snr", "-o", "scores")
    bare = usep(*line)
    assert bare.code == 4 and "6 of 8 items have no scores" in bare.err and "no estimate" in bare.err
    answer = usep(*line, "--skip-missing", "--overwrite")
    assert answer.code == 0 and "flat, 2 items" in answer.err and "12 of 16 rows: no estimate" in answer.err
    with open("scores/summary.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["mean"]) > 100 and row["n"] == "4" and row["missing"] == "12"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--metric", "si-snrri"], 2, "did you mean 'si-snri'"),
        (["--estimates", "."], 2, "both --estimates DIR and --references DIR"),
        (["--estimates", ".", "--references", ".", "--metric", "sdri"], 2, "give --mixtures"),
        (["default", "--estimates", ".", "--references", "."], 2, "leave MODEL"),
        (["nowhere/model.safetensors"], 66, "nowhere/model.safetensors"),
        (["runs/one", "--data", "nowhere"], 66, "nowhere"),
        (["runs/one", "--split", "tset"], 65, "did you mean 'test'"),
        (["runs/lost"], 66, "give a test set with --data"),
        (["runs/bare"], 2, "--data"),
        (["runs/one", "--device", "abacus"], 69, "abacus"),
    ],
)
def test_faults_are_one_line_with_their_code(usep: Usep, arguments: list[str], code: int, said: str) -> None:
    train_nothing(Path("runs/one"))
    train_nothing(Path("runs/lost"), manifest="moved/away")
    train_nothing(Path("runs/bare"), manifest="")
    answer = usep(*arguments)
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err and "Traceback" not in answer.err
    assert sum(line.startswith("usep: error: ") for line in answer.err.splitlines()) == 1
