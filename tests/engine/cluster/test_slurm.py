"""Slurm's job files: what stands in them, and what the shell in them does, with a Slurm that writes down its words."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from usepcli.cli.app import app
from usepcli.engine.cluster.job import job_file, option, seconds
from usepcli.errors import UsageError, UsepError

ROOT = Path(__file__).resolve().parents[3]
TRAIN = ["train", "--profile", "small_pit"]
# srun runs what follows its options; the stand-in for usep does what the test wrote down for this start.
_SRUN = """#!/bin/bash
printf '%s\\n' "srun $*" >> "$LOG"
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""
_USEP = """#!/bin/bash
printf '<%s>' "$0" "$@" | sed "s,$PWD/bin/,," >> "$LOG"; echo >> "$LOG"
. ./start
"""
_SCONTROL = """#!/bin/bash
[ "$1" = show ] && { printf 'n1\\nn2\\n'; exit; }
echo "scontrol $*" >> "$LOG"
"""


def run(place: Path, text: str, start: str, **environment: str) -> tuple[int, list[str]]:
    """Run a job file in which usep and torchrun are what `start` says; return its exit code and what was called."""
    tools = {"srun": _SRUN, "usep": _USEP, "torchrun": _USEP, "scontrol": _SCONTROL}
    for folder in ("bin", "runs/small_pit"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    for name, body in tools.items():
        (place / "bin" / name).write_text(body)
        (place / "bin" / name).chmod(0o755)
    (place / "job.sh").write_text(text)
    (place / "start").write_text(start)
    log = place / "log"
    log.unlink(missing_ok=True)
    path = f"{place / 'bin'}:{os.environ['PATH']}"
    slurm = {"SLURM_JOB_ID": "70000", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NNODES": "2", "SLURM_NODEID": "0"}
    env = {**os.environ, "PATH": path, "LOG": str(log), **slurm, **environment}
    done = subprocess.run(["bash", "job.sh"], cwd=place, env=env, capture_output=True, text=True)
    return done.returncode, log.read_text().splitlines()


SAVES = (
    "mkdir -p runs/small_pit; date +%N > runs/small_pit/new; mv runs/small_pit/new runs/small_pit/last.ckpt; exit 75"
)


def test_a_job_that_saved_is_requeued_and_one_that_got_nothing_done_is_not(tmp_path: Path) -> None:
    text = job_file("slurm", TRAIN)
    again = "scontrol requeue 70000"
    calls = [
        "srun --ntasks=1 usep train --profile small_pit --out runs/small_pit",
        "<usep><train><--profile><small_pit><--out><runs/small_pit>",
    ]
    assert run(tmp_path, text, "exit 75") == (75, calls)  # nothing saved at all
    assert run(tmp_path, text, SAVES) == (75, [*calls, again])
    assert run(tmp_path, text, SAVES) == (75, [*calls, again])
    assert run(tmp_path, text, "exit 75") == (75, calls)
    for code in (0, 1, 65, 70, 74, 143):
        assert run(tmp_path, text, SAVES.replace("75", str(code))) == (code, calls)


def test_ranks_on_one_machine_are_started_by_usep_itself(tmp_path: Path) -> None:
    _, calls = run(tmp_path, job_file("slurm", TRAIN, gpus=2, cpus_per_task=3), "exit 0")
    assert calls[0].startswith("srun --ntasks=1 --cpus-per-task=6 usep train ") and calls[1].endswith("<--ranks><2>")


def test_what_came_of_several_ranks_stands_in_their_folder(tmp_path: Path) -> None:
    text = job_file("slurm", TRAIN, nodes=2, gpus=4, cpus_per_task=3)
    told = 'printf \'{\\n  "state": "x",\\n  "code": %s,\\n  "at": 1\\n}\\n\' > runs/small_pit/status.json; exit 1'
    saves = SAVES.removesuffix("exit 75")
    code, calls = run(tmp_path, text, saves + told % 75)
    torchrun = "<torchrun><--nnodes=2><--node-rank=0><--nproc-per-node=4><--max-restarts=0><--master-addr=n1>"
    torchrun += "<--master-port=30000><-m><usepcli><train><--profile><small_pit><--out><runs/small_pit>"
    assert (code, calls[1:]) == (75, [torchrun, "scontrol requeue 70000"])
    assert calls[0].startswith("srun --ntasks-per-node=1 --kill-on-bad-exit=1 --cpus-per-task=12 bash -c trap '' USR1;")
    assert "#SBATCH --cpus-per-task=12" in text and "#SBATCH --gpus-per-node=4" in text
    assert run(tmp_path, text, saves + "exit 1") == (1, calls[:2])  # what an earlier job said is not this one's
    assert run(tmp_path, text, saves + told % 65) == (65, calls[:2])
    assert run(tmp_path, text, saves + told % "null") == (1, calls[:2])


def test_shares_of_an_array_and_what_takes_them_together(tmp_path: Path) -> None:
    words = ["separate", "it's here/", "-o", "my out"]
    text = job_file("slurm", words, array="1-8%2", chdir="/a b", setup=["source 'v 1/activate'"])
    lines = text.splitlines()
    assert "#SBATCH --array=1-8%2" in lines and "#SBATCH --output=%x-%A_%a.out" in lines
    merge = next(line for line in lines if line.startswith("#   sbatch"))[1:].replace("${id%%;*}", "12")
    asked = subprocess.run(
        ["bash", "-c", f"sbatch() {{ printf '%s\\n' \"$@\"; }}\n{merge}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert asked[:2] == ["--dependency=afterany:12", "--wrap"]
    assert asked[2] == """cd '/a b' && source 'v 1/activate' && srun usep separate 'it'"'"'s here/' -o 'my out'"""
    work = job_file("slurm", words, array="1-8")
    wrote = "mkdir -p 'my out'; touch 'my out/{}'; exit 75"
    assert run(tmp_path, work, wrote.format("a.wav"))[1] == [
        "srun --ntasks=1 usep separate it's here/ -o my out --shard slurm",
        "<usep><separate><it's here/><-o><my out><--shard><slurm>",
        "scontrol requeue 70000",
    ]
    assert len(run(tmp_path, work, wrote.format(".b.wav.1.tmp"))[1]) == 2  # half a file is nothing


def test_a_sweep_gives_every_combination_its_folder(tmp_path: Path) -> None:
    sweep = ["optim.lr=1e-3,3e-4", "optim.betas=[0.5,0.9],[0.9,0.99]", "seed=0,1"]
    text = job_file("slurm", [*TRAIN, "-o", "r x"], sweep=sweep)
    assert "#SBATCH --array=0-7\n" in text
    seen = set()
    for task in range(8):
        _, calls = run(tmp_path, text, "exit 0", SLURM_ARRAY_TASK_ID=str(task))
        words = calls[1].strip("<>").split("><")
        seen.add((*(word for word in words if "=" in word and not word.startswith("r x")), option(words, "--out")))
    expected = {
        (f"optim.lr={lr}", f"optim.betas={betas}", f"seed={seed}")
        for lr in ("1e-3", "3e-4")
        for betas in ("[0.5,0.9]", "[0.9,0.99]")
        for seed in "01"
    }
    assert {each[:3] for each in seen} == expected and len({each[3] for each in seen}) == 8
    assert all(each[3].startswith("r x/optim.lr=") for each in seen)


def test_the_runs_of_a_training_with_a_sweep_are_shared_among_the_jobs_of_an_array(tmp_path: Path) -> None:
    words = ["train", "--sweep", "grid.yaml", "-o", "runs/x"]
    text = job_file("slurm", words, array="1-3", gpus=2)
    (merge,) = (line for line in text.splitlines() if line.startswith("#   sbatch"))
    assert merge.endswith("--wrap 'srun usep train --sweep grid.yaml -o runs/x --merge'")
    told = "<usep><train><--sweep><grid.yaml><-o><runs/x><--ranks><2><--shard><slurm>"
    begins = "mkdir -p runs/x/a; date +%N > runs/x/a/status.json; exit 75"  # as every start writes it
    code, calls = run(tmp_path, text, begins)
    assert code == 75 and calls[1:] == [told]
    for wrote in ("a/last.ckpt", "b/last.ckpt", "a/sweep_scores/results.partial.jsonl"):
        saves = f"mkdir -p runs/x/a/sweep_scores runs/x/b; date +%N > runs/x/{wrote}; exit 75"
        assert run(tmp_path, text, saves)[1][1:] == [told, "scontrol requeue 70000"]
    # Where it does not say where it writes, it is told, by the name that it would choose itself.
    for sweep, folder in (
        (["grid.yaml"], "runs/grid"),
        (["seed=0,1", "--sweep", "optim.lr=1"], "runs/small_pit_sweep"),
    ):
        unsaid = job_file("slurm", [*TRAIN, "--sweep", *sweep], array="1-3")
        assert option(run(tmp_path, unsaid, "exit 0")[1][0].split(), "--out") == folder


@pytest.mark.parametrize(
    ("time", "wanted"),
    [("90", 5400), ("1:30", 90), ("4:00:00", 14400), ("2-12", 216000), ("1-0:30", 88200), ("1-1:1:1", 90061)],
)
def test_times_are_read_as_slurm_reads_them(time: str, wanted: int) -> None:
    assert seconds(time) == wanted


WRONG: list[tuple[list[str], dict[str, Any], str]] = [
    (TRAIN, {"time": "4h"}, "--time: found '4h'"),
    (TRAIN, {"time": "1", "signal_s": 60}, "--signal-s"),
    (TRAIN, {"array": "1-4"}, "one training has nothing to share"),
    ([*TRAIN, "--sweep", "a.yaml"], {"nodes": 2}, "goes on within one machine"),
    ([*TRAIN, "--sweep", "a.yaml"], {"sweep": ["seed=0,1"]}, "name it once"),
    ([*TRAIN, "--sweep", "a.yaml", "--shard=1/2"], {"array": "1-4"}, "leave --shard out"),
    ([*TRAIN, "--sweep", "a.yaml", "--merge"], {"array": "1-4"}, "leave --merge out"),
    (TRAIN, {"partition": "a b"}, "--partition: found 'a b'"),
    (TRAIN, {"mem": "much"}, "--mem: found 'much'"),
    (TRAIN, {"setup": ["a\nb"]}, "line break"),
    (TRAIN, {"directive": ["a100"]}, "--directive: found 'a100'"),
    (TRAIN, {"sweep": ["seed=1,1"]}, "one value twice"),
    (TRAIN, {"sweep": ["seed=,1"]}, "--sweep: found"),
    (TRAIN, {"sweep": ["seed=" + ",".join(map(str, range(1001)))]}, "1001 runs"),
    (["separate", "a", "-o", "b"], {"nodes": 2}, "one process"),
    (["separate", "a", "-o", "b"], {"sweep": ["seed=1"]}, "array of trainings"),
    (["separate", "a", "-o", "b", "--shard", "1/2"], {"array": "1-2"}, "leave --shard out"),
    (["separate", "a", "-o", "b"], {"array": "1,5"}, "--array: found '1,5'"),
]


@pytest.mark.parametrize(("words", "asked", "said"), WRONG)
def test_what_does_not_fit_is_told(words: list[str], asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as told:
        job_file("slurm", words, **asked)
    assert said in str(told.value)


def test_the_command_prints_the_file_and_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USEP_RUNS", "/secret/place")
    line = ["cluster", "slurm", "--time", "2:00:00", "--gpus", "2", "--directive=--constraint=a100", "--", *TRAIN]
    done = CliRunner().invoke(app, line)
    assert done.exit_code == 0 and done.stdout == job_file(
        "slurm", TRAIN, time="2:00:00", gpus=2, directive=["--constraint=a100"]
    )
    assert "secret" not in done.stdout and "#SBATCH --constraint=a100\n" in done.stdout
    wrong = CliRunner().invoke(app, ["cluster", "slurm", "--", *TRAIN, "--nosuch"])
    assert wrong.exit_code == 2 and "No such option: --nosuch" in wrong.output


def test_a_wrong_setting_is_told_before_the_job_waits(capsys: pytest.CaptureFixture[str]) -> None:
    call = typer.main.get_command(app)
    sweep = ["--sweep", "optim.lr=1e-3,fast"]
    for words, said in (
        (["--", "train", "--profile", "small_pt"], "small_pit"),
        (["--", *TRAIN, "--set", "train.epoch=3"], "did you mean 'epochs'"),
        ([*sweep, "--", *TRAIN], "optim.lr"),
        (["--array", "1-2", "--", *TRAIN, *sweep], "optim.lr"),
        (["--array", "1-2", "--", "train", "--sweep", "nosuch.yaml"], "nosuch.yaml"),
        (["--array", "1-2", "--", "train", "--sweep", "seed=0,1"], "no profile"),
    ):
        with pytest.raises(UsepError, match=said):
            call.main(["cluster", "slurm", *words], standalone_mode=False)
        assert not capsys.readouterr().out
        call.main(["cluster", "slurm", "--setup", "export A=1", *words], standalone_mode=False)
        out, err = capsys.readouterr()
        assert out.startswith("#!/bin/bash") and "usep: warning: " in err and said in err


def _partition() -> str:
    """Return a partition of a Slurm that runs here, '' for none."""
    if not shutil.which("sinfo"):
        return ""
    found = subprocess.run(["sinfo", "-h", "-t", "idle,mix", "-o", "%R"], capture_output=True, text=True)
    return (found.stdout.split() or [""])[0]


@pytest.mark.slow
def test_a_real_slurm_warns_requeues_and_finishes(tmp_path: Path) -> None:
    partition = _partition()
    if not partition:
        pytest.skip("no Slurm with a free node here")
    line = [sys.executable, str(ROOT / "benchmarks/slurm_trial.py"), str(tmp_path), "--low", partition, "--times", "1"]
    done = subprocess.run([*line, "--case", "warned"], capture_output=True, text=True)
    assert "1 of 1 as promised" in done.stdout, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_job_files_have_no_faults_of_the_shell(tmp_path: Path) -> None:
    files = [
        job_file("slurm", TRAIN, chdir="/a b", setup=["source v/bin/activate"]),
        job_file("slurm", TRAIN, nodes=2, ranks_per_node=2, sweep=["seed=0,1"]),
        job_file("slurm", TRAIN, ranks_per_node=2),
        job_file("slurm", ["separate", "it's/", "-o", "o"], array="1-3"),
        job_file("slurm", ["models"]),
    ]
    for text in files:
        done = subprocess.run(["shellcheck", "-"], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
