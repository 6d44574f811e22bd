"""SIGTERM ends a command with exit code 143, whatever it is at, and leaves nothing half done behind."""

from __future__ import annotations

import io as streams
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from usepcli.audio import io
from usepcli.cli.app import app
from usepcli.data.manifest import Manifest, Row
from usepcli.engine import tables
from usepcli.engine.scoring import evaluate
from usepcli.engine.scoring.jobs import SAMPLES
from usepcli.report import listen
from usepcli.weights import store

# Sends SIGTERM to itself while libsndfile works, where nothing can be raised: at call number N of a function.
_AT_CALL = """
import os, signal, sys
import soundfile
from usepcli.cli.app import main

name, number = sys.argv[1], int(sys.argv[2])

class Library:
    def __init__(self, real):
        self.real, self.calls = real, 0

    def __getattr__(self, wanted):
        found = getattr(self.real, wanted)
        if not wanted.startswith(name):
            return found
        def call(*args):
            self.calls += 1
            if self.calls == number:
                os.kill(os.getpid(), signal.SIGTERM)
                print("hit", flush=True)
            return found(*args)
        return call

soundfile._snd = Library(soundfile._snd)
sys.argv = ["usep", *sys.argv[3:]]
main()
"""


# Sends itself a signal when a module is looked for that the program is about to load.
_AT_IMPORT = """
import os, sys
from usepcli.__main__ import main

wanted, number = sys.argv[1], int(sys.argv[2])

class Finder:
    def find_spec(self, name, *rest):
        if name == wanted:
            os.kill(os.getpid(), number)
            print("went on", flush=True)

sys.meta_path.insert(0, Finder())
sys.argv = ["usep", *sys.argv[3:]]
main()
"""


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def at_call(name: str, number: int, *words: object) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-c", _AT_CALL, name, str(number), *map(str, words)]
    return subprocess.run(line, capture_output=True)


# 3 s are 3 blocks to write; the last of 15 files opened is the output, to be measured again.
@pytest.mark.parametrize(("function", "number"), [("sf_writef", 2), ("sf_writef", 3), ("sf_open", 15)])
def test_remix_stops_in_its_last_passes(tmp_path: Path, function: str, number: int) -> None:
    draw = np.random.default_rng(0)
    for name in ("a.wav", "b.wav"):
        io.write(tmp_path / name, 0.1 * draw.standard_normal(24000), 8000)
    before, out = tree(tmp_path), tmp_path / "o.wav"
    done = at_call(function, number, "remix", tmp_path / "a.wav", tmp_path / "b.wav", "-o", out, "--lufs", -23)
    assert done.stdout == b"hit\n" and b"Traceback" not in done.stderr
    assert done.returncode == 143 and tree(tmp_path) == before


def at_import(name: str, number: int, *words: object, before: str = "") -> tuple[int, str, str]:
    line = [sys.executable, "-c", before + _AT_IMPORT, name, str(number), *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130), ("SIGUSR1", 75)])
def test_a_signal_in_the_first_moment_is_answered(name: str, code: int) -> None:
    told = "Ctrl-C" if name == "SIGINT" else name
    number = getattr(signal, name)
    assert at_import("typer", number, "profiles") == (code, "", f"usep: stopped by {told}\n")


def test_what_the_caller_has_ignored_stays_ignored() -> None:
    code, out, said = at_import(
        "typer", signal.SIGHUP, "profiles", before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    )
    assert code == 0 and out.startswith("went on\n") and not said


def test_a_signal_while_a_library_is_loaded_ends_there_and_leaves_nothing(tmp_path: Path) -> None:
    io.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 8000)
    before = tree(tmp_path)
    words = ("separate", tmp_path / "a.wav", "-o", tmp_path / "out")
    assert at_import("torch", signal.SIGTERM, *words) == (143, "", "usep: stopped by SIGTERM\n")
    assert tree(tmp_path) == before


def test_a_second_ctrl_c_ends_at_once():
    code = (
        "import os, signal\n"
        "from usepcli.engine.separation.ending import Ending\n"
        "with Ending():\n"
        "    try: os.kill(os.getpid(), signal.SIGINT)\n"
        "    except KeyboardInterrupt: print('cleaning', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still cleaning', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('never', flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 130 and done.stdout == "cleaning\nstill cleaning\n"
    assert done.stderr == "usep: stopped by Ctrl-C\n"


def test_shuffling_stops_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, rows = tmp_path / "data", []
    for i in range(4):
        for k in (1, 2):
            io.write(data / f"{i}_{k}.wav", 0.1 * np.random.default_rng(10 * i + k).standard_normal(8000), 8000)
        rows.append(Row(f"m{i}", "train", "", (f"{i}_1.wav", f"{i}_2.wav"), sample_rate=8000, frames=8000, n_src=2))
    Manifest(rows, data, data / Manifest.FILE).write()
    words = ("remix", "--shuffle", data, "--batch", 2, "--no-residual", "-o", tmp_path / "out")
    done = at_call("sf_writef", 4, *words)  # in the second pseudo-mixture
    assert done.stdout == b"hit\n" and done.returncode == 143 and b"Traceback" not in done.stderr
    assert not list((tmp_path / "out").rglob(".*.tmp"))
    assert not (tmp_path / "out" / "manifest.csv").exists()
    assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 0
    assert len(Manifest.read(tmp_path / "out").rows) == 4


def test_a_page_stops_while_it_is_written(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Sink(streams.BytesIO):
        asked = False

        def write(self, data: object) -> int:
            if not Sink.asked:
                Sink.asked = True
                terminate()
            return super().write(data)  # type: ignore[arg-type]

    io.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 8000)
    words = ["separate", str(tmp_path / "a.wav"), "-m", str(model_file), "-o", str(tmp_path / "out"), "--report"]
    with monkeypatch.context() as patch:
        patch.setattr(listen._io, "BytesIO", Sink)  # libsndfile calls `write`, in the thread of a track
        assert CliRunner().invoke(app, words).exit_code == 143
    assert tree(tmp_path / "out") == ["a_1.wav", "a_2.wav", "outputs.csv"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert (tmp_path / "out/report.html").is_file()


def test_export_leaves_no_folder(model_file: Path, tmp_path: Path, until: Callable[..., Any], patience_s: int) -> None:
    out = tmp_path / "out"
    out.mkdir()
    words = ["export", str(model_file), "--to", "torch-export", "-o", str(out / "toy.pt2")]
    run = subprocess.Popen([sys.executable, "-m", "usepcli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: list(out.iterdir()) or run.poll() is not None, "the export began")
    assert [path.name[:13] for path in out.iterdir()] == [".toy.pt2.tmp."]
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=patience_s)
    assert run.returncode == 143 and not list(out.iterdir()), said


@pytest.fixture
def layout(model_file: Path, tmp_path: Path) -> Path:
    """A model in a folder of the Hub's layout."""
    assert CliRunner().invoke(app, ["push", str(model_file), str(tmp_path / "hub")]).exit_code == 0
    return tmp_path / "hub"


def terminate(*_: object) -> None:
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        pytest.fail("nothing waits for the signal")
    os.kill(os.getpid(), signal.SIGTERM)


def ended(words: list[object], folder: Path) -> None:
    before = tree(folder)
    result: Result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 143, result.output
    assert tree(folder) == before


def test_pull_leaves_no_folder(layout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir(exist_ok=True)
    monkeypatch.setattr(store, "load_any", terminate)
    ended(["pull", layout, "-o", tmp_path / "models", "--name", "fresh"], tmp_path)


def test_push_leaves_no_file(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub").mkdir()
    monkeypatch.setattr(os, "fsync", terminate)
    ended(["push", model_file, tmp_path / "hub"], tmp_path)


def test_evaluate_leaves_no_folder(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words: list[object] = ["evaluate", model_file, "--data", SAMPLES, "--limit", 1, "-o", tmp_path / "scores"]
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "score_signals", terminate)
        ended(words, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", terminate)  # while it is noted what is scored to be
        ended(words, tmp_path)
    assert CliRunner().invoke(app, [str(word) for word in words]).exit_code == 0


def test_evaluate_goes_on_where_tables_are_missing(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate", str(model_file), "--data", str(SAMPLES), "--limit", "1", "-o", str(tmp_path / "scores")]
    real, written = tables.write_csv, []

    def second(path: Path, *rest: Any) -> None:
        written.append(path)
        if len(written) == 2:
            terminate()
        real(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_csv", second)
        assert CliRunner().invoke(app, words).exit_code == 143
    assert tree(tmp_path / "scores") == ["evaluate.partial.json", "items.csv", "items.partial.jsonl"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert tree(tmp_path / "scores") == ["evaluate.json", "items.csv", "summary.csv"]


def test_import_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from torchaudio.models import ConvTasNet

    small = {"enc_kernel_size": 4, "enc_num_feats": 6, "msk_kernel_size": 3, "msk_num_feats": 4}
    model = ConvTasNet(2, **small, msk_num_hidden_feats=5, msk_num_layers=2, msk_num_stacks=1)
    torch.save(model.state_dict(), tmp_path / "theirs.pt")
    monkeypatch.setattr(os, "fsync", terminate)
    stated = ["--sample-rate", 8000, "--mask", "relu", "--blocks", 2]
    ended(["import", tmp_path / "theirs.pt", "-o", tmp_path / "ours.safetensors", *stated], tmp_path)
