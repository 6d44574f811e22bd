"""`usep train --sweep`: many runs, one table, shares, what fails and what goes on."""

from __future__ import annotations

import csv
import importlib.util
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from usepcli.cli.app import app
from usepcli.engine.training import launch, status
from usepcli.errors import ConfigError, InputNotFound, PartialFailure, Stopped, UsageError
from usepcli.profile.load import load_profile


def train(*words: Any):
    return CliRunner().invoke(app, ["train", *map(str, words)])


@pytest.fixture
def grid(tmp_path: Path, profile_file: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(
        f"profile: {profile_file}\ngrid: {{seed: [0, 1]}}\nevaluate: {{split: valid, metric: [si-snri, snr]}}\n"
    )
    return path


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_runs_are_trained_scored_and_told_in_one_table(grid: Path, tmp_path: Path) -> None:
    out = tmp_path / "sweep"
    words = ["--sweep", grid, "-o", out, "--set", "train.max_steps=2"]
    first = train(*words, "--shard", "2/2")
    assert first.exit_code == 0, first.exception
    assert not (out / "sweep.csv").exists() and [p.name for p in out.iterdir()] == ["seed=1"]
    # The other share is missing: what is there is told, and the same command without --merge does the rest.
    lacking = train(*words, "--merge")
    assert isinstance(lacking.exception, PartialFailure) and "1 of 2 runs are not done, e.g. seed=0" in str(
        lacking.exception
    )
    before = (out / "seed=1" / "run.json").read_bytes()
    whole = train(*words)
    assert whole.exit_code == 0, whole.exception
    rows = table(out / "sweep.csv")
    assert [(row["run"], row["seed"], row["state"]) for row in rows] == [
        ("seed=0", "0", "finished"),
        ("seed=1", "1", "finished"),
    ]
    for row in rows:
        assert float(row["si-snri_low"]) < float(row["si-snri"]) < float(row["si-snri_high"]) and row["snr_n"] == "6"
    assert rows[0]["si-snri"] != rows[1]["si-snri"] and "seed=0" in whole.stdout
    if importlib.util.find_spec("matplotlib"):
        assert all(name in (out / "sweep_scores.svg").read_text() for name in (">seed=0<", ">seed=1<", "si-snri (dB)"))
    assert (out / "seed=1" / "run.json").read_bytes() == before
    # Other scores are made anew, also of runs that are done; of what cannot be scored the row says so.
    grid.write_text(grid.read_text().replace("[si-snri, snr]", "[snri]"))
    assert isinstance(train(*words, "--merge").exception, PartialFailure)
    assert {row["reason"] for row in table(out / "sweep.csv")} == {"trained, but not scored as asked"}
    assert train(*words).exit_code == 0 and float(table(out / "sweep.csv")[0]["snri"])
    grid.write_text(grid.read_text().replace("split: valid", "split: elsewhere"))
    assert isinstance(train(*words).exception, PartialFailure)


SCORE = {"metric": "si-snri", "mean": 1.0, "ci95_low": 0.0, "ci95_high": 2.0, "n": 6}


def failing(code: int, calls: list[str], told: int = 0):
    """Return a launcher whose first run ends with a code, having written it, and whose others finish.

    told: a signal that each has passed on.
    """
    number = told

    def launched(ranks: int, line: list[str], folder: Path, quiet: bool, told: list[int]) -> int:
        told += [number] if number else []
        folder.mkdir(parents=True, exist_ok=True)
        calls.append(folder.name)
        mine = code if len(calls) == 1 else 0
        status.end(folder, mine, "diverged here" if mine else "")
        (folder / "run.json").write_text("{}")
        return mine

    return launched


def test_a_run_that_fails_stops_no_other_and_a_signal_stops_all(grid: Path, tmp_path: Path, monkeypatch) -> None:
    out, calls = tmp_path / "sweep", list[str]()
    monkeypatch.setattr("usepcli.engine.training.sweep._evaluate", lambda *_: None)
    monkeypatch.setattr("usepcli.engine.training.sweep._scores", lambda *_: [SCORE])
    monkeypatch.setattr(launch, "launch", failing(3, calls))
    found = train("--sweep", grid, "-o", out)
    assert isinstance(found.exception, PartialFailure) and calls == ["seed=0", "seed=1"]
    rows = table(out / "sweep.csv")
    assert [row["state"] for row in rows] == ["failed", "finished"] and rows[0]["reason"] == "diverged here"
    # A share says so of its own runs: the job that it is has failed.
    monkeypatch.setattr(launch, "launch", failing(3, calls := list[str]()))
    share = train("--sweep", grid, "-o", tmp_path / "shared", "--shard", "1/2")
    assert isinstance(share.exception, PartialFailure) and "1 of 1 runs are not done, e.g. seed=0" in str(
        share.exception
    )
    assert train("--sweep", grid, "-o", tmp_path / "shared", "--shard", "2/2").exit_code == 0
    # A signal in a run's last moment ends that with 0, and no other begins.
    monkeypatch.setattr(launch, "launch", failing(0, calls := list[str](), told=signal.SIGUSR1))
    last = train("--sweep", grid, "-o", tmp_path / "last")
    assert isinstance(last.exception, Stopped) and calls == ["seed=0"]
    monkeypatch.setattr(launch, "launch", failing(75, calls := list[str]()))
    stopped = train("--sweep", grid, "-o", tmp_path / "other")
    assert isinstance(stopped.exception, Stopped) and calls == ["seed=0"]
    assert "0 of 2 runs are done; run the same command to go on" in str(stopped.exception)


def test_several_ranks_end_with_the_name_of_the_one_that_was_killed_first(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(launch, "TELL_S", 0.1)
    monkeypatch.setattr(launch, "KILL_S", 0.2)
    dies_or_stays = 'if [ "$RANK" = 1 ]; then kill -9 $$; fi; trap "" TERM; exec sleep 60'
    assert launch.launch(2, ["sh", "-c", dies_or_stays], tmp_path) == 70
    assert "rank 1 was killed (SIGKILL)" in capsys.readouterr().err


def test_settings_are_looked_at_before_the_first_run(profile_file: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(launch, "launch", lambda *_, **__: pytest.fail("began"))
    out = tmp_path / "sweep"
    unknown = train("--profile", profile_file, "--sweep", "optim.rate=1,2", "-o", out)
    assert isinstance(unknown.exception, ConfigError) and "optim.rate" in str(unknown.exception)
    unbuilt = train("--profile", profile_file, "--sweep", "optim.lr=0.001,1e38", "-o", out)
    assert isinstance(unbuilt.exception, ConfigError)
    assert str(unbuilt.exception).startswith("--sweep: run optim.lr=1e38: optim.lr: found 1e+38")
    named = tmp_path / "named.yaml"
    named.write_text("runs:\n  plain: {seed: 0}\n  quick: {optim.lr: fast}\n")
    bad = train("--profile", profile_file, "--sweep", named, "-o", out)
    assert isinstance(bad.exception, ConfigError) and str(bad.exception).startswith("--sweep: run quick: profile 'tiny")
    for asked, error, said in (
        ("{metric: [si-snrj]}", ConfigError, "evaluate: unknown metric 'si-snrj'"),
        ("{protocol: advpit}", ConfigError, "evaluate: unknown protocol"),
        ("{data: /no/set}", InputNotFound, "evaluate.data: /no/set"),
    ):
        named.write_text(f"grid: {{seed: [0]}}\nevaluate: {asked}\n")
        found = train("--profile", profile_file, "--sweep", named, "-o", out)
        assert isinstance(found.exception, error) and said in str(found.exception)
    for words in (["--dry-run"], ["--print-config"], ["--shard", "1/2", "--merge"]):
        found = train("--profile", profile_file, "--sweep", "seed=0,1", "-o", out, *words)
        assert isinstance(found.exception, UsageError)
    for words in (["--shard", "1/2"], ["--merge"]):
        assert isinstance(train("--profile", profile_file, *words).exception, UsageError)
    assert isinstance(train("--sweep", "seed=0,1").exception, UsageError)
    assert not out.exists()


def test_more_steps_are_trained_though_the_run_was_done(grid: Path, tmp_path: Path, monkeypatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(launch, "launch", lambda ranks, line, folder, **_: begun.append(folder.name) or 0)
    monkeypatch.setattr("usepcli.engine.training.sweep._evaluate", lambda *_: None)
    profile = load_profile(str(grid.parent / "tiny_run.yaml"), ["seed=0"])
    run = tmp_path / "sweep" / "seed=0"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"profile": profile.as_dict()}))
    status.end(run, 0, "")
    train("--sweep", grid, "-o", run.parent)
    assert begun == ["seed=1"]
    train("--sweep", grid, "-o", run.parent, "--set", "train.max_steps=5")
    assert begun == ["seed=1", "seed=0", "seed=1"]


def test_a_run_that_scores_itself_has_the_scores_that_chose_its_weights(grid: Path, tmp_path: Path) -> None:
    """What trained no separator has none that could be scored: its row is its own best validation."""
    grid.write_text(grid.read_text().split("evaluate")[0])
    for seed in (0, 1):
        run = tmp_path / "sweep" / f"seed={seed}"
        run.mkdir(parents=True)
        (run / "run.json").write_text(json.dumps({"profile": {"objective": {"name": "prompt_tuning"}}}))
        status.end(run, 0, "")
        columns = "epoch,step,held_loss,best,seconds,held_right,skipped,chosen\n"
        rows = f"1,5,2.5,2.5,0.1,0.25,0,5\n2,10,{1 + seed},{1 + seed},0.1,0.75,0,10\n3,15,3,1,0.1,0.5,0,10\n"
        (run / "valid.csv").write_text(columns + rows)
    done = train("--sweep", grid, "-o", tmp_path / "sweep", "--merge")
    assert done.exit_code == 0, done.exception
    rows = table(tmp_path / "sweep" / "sweep.csv")
    assert [(row["held_loss"], row["held_right"], row["reason"]) for row in rows] == [
        ("1", "0.75", ""),
        ("2", "0.75", ""),
    ]
