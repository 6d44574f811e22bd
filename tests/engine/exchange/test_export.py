"""Export: the same samples in another runtime, at lengths that the trace did not see, and in silence."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import usepcli
from usepcli import registry
from usepcli.cli.app import app
from usepcli.engine.exchange import export, export_targets
from usepcli.errors import BadInput, IOFault, MissingDependency, OutputError, UsageError
from usepcli.models import exportable
from usepcli.versions import EXTRAS
from usepcli.weights import build, cards, store

RUNNER = CliRunner()
CAUSAL = {"causal": True, "norm": "cumln", "input_norm": "none", "consistency": "none", "blocks": 2, "repeats": 1}


def made(name: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build.model({"name": name, "preset": "tiny", **options}).eval()


def write(path: Path, name: str = "convtasnet", **options: object) -> Path:
    model = made(name, **options)
    card = cards.Card(name="toy", model=build.config_of(model), sample_rate=8000, n_src=2, licence="CC0-1.0")
    store.save_model(path, model.state_dict(), card)
    return path


@pytest.mark.parametrize("onnx_layers", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in registry.UNASKED), ("convtasnet", CAUSAL), ("tdcnpp", {"encoder": "stft"})],
    ids=[*registry.UNASKED, "causal", "stft"],
)
def test_the_copy_computes_the_same(name: str, options: dict, onnx_layers: bool) -> None:
    model = made(name, **options)
    copy, wave = exportable.exportable(model, onnx_layers and not exportable.recurrent(model)), torch.randn(2, 3001)
    # A quiet beginning is where a lost floor of a norm shows.
    wave[:, :1000] *= 1e-5
    with torch.no_grad():
        want = model(wave)
        # Rounding is that of the loudest terms of the sums.
        assert torch.allclose(copy(wave), want, atol=2e-6 * max(1.0, float(want.abs().max())))
        assert torch.allclose(copy(wave * 0), model(wave * 0), atol=1e-7)
    assert not any(p.requires_grad for p in copy.parameters())


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_recurrent_nodes_are_the_layers(kind: type, both: bool, first: bool, tmp_path: Path) -> None:
    for package in EXTRAS["export"]:
        pytest.importorskip(package)

    class Alone(nn.Module):
        n_src = 1

        def __init__(self) -> None:
            super().__init__()
            self.layer = kind(1, 4, num_layers=2, bidirectional=both, batch_first=first)

        def forward(self, wave: torch.Tensor) -> torch.Tensor:
            return self.layer(wave[..., None] if first else wave.mT[..., None])[0]

    torch.manual_seed(0)
    model, path = Alone().eval(), tmp_path / "r.onnx"
    export_targets.put(export_targets.TARGETS["onnx"].make(model, torch.randn(1, 20), {}, True), path)
    wave = torch.randn(1, 33)
    with torch.no_grad():
        expected = model(wave).numpy()
    assert np.abs(export_targets.TARGETS["onnx"].open(path)(wave.numpy()) - expected).max() < 1e-6


@pytest.mark.parametrize("to", export_targets.TARGETS)
def test_a_model_travels(to: str, tmp_path: Path) -> None:
    for package in EXTRAS.get(export_targets.TARGETS[to].extra, ()):
        pytest.importorskip(package)
    model = write(tmp_path / "toy.safetensors", **CAUSAL)
    out = tmp_path / f"toy{export_targets.TARGETS[to].suffix}"
    done = RUNNER.invoke(app, ["export", str(model), "--to", to, "-o", str(out), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts == json.loads((tmp_path / f"{out.name}.json").read_text())
    assert facts["length"] == "any" and facts["max_difference"] < 1e-5
    assert len({check["samples"] for check in facts["checks"]}) == 3 and facts["checks"][-1]["signal"] == "silence"
    assert facts["card"]["licence"] == "CC0-1.0" and facts["sample_rate"] == 8000
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(OutputError, match="--overwrite"):
        export.export(str(model), out, to)
    # A length that the export itself did not try.
    run, wave = export_targets.TARGETS[to].open(out), np.random.default_rng(0).normal(0, 0.1, (1, 9999))
    own = store.load_model(model)[0]
    with torch.no_grad():
        expected = own(torch.from_numpy(wave.astype(np.float32))).numpy()
    assert np.abs(run(wave.astype(np.float32)) - expected).max() < 1e-5


def test_a_name_in_a_card_cannot_lead_into_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write(tmp_path / "toy.safetensors", "tdcnpp")
    card, _ = cards.read_card(model)
    card.name = "../outside"
    store.save_model(model, store.read_weights(model), card)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert export.export(str(model), None, "torch-export", seconds=0.5)["file"] == "toy.pt2"
    assert not list(tmp_path.glob("*.pt2"))


def test_fixed_length_is_said(tmp_path: Path) -> None:
    model = write(tmp_path / "toy.safetensors", "tdcnpp")
    facts = export.export(str(model), tmp_path / "toy.pt2", "torch-export", seconds=0.5)
    assert facts["length"] == 4000 and {check["samples"] for check in facts["checks"]} == {4000}


def test_a_difference_above_the_tolerance_leaves_nothing(tmp_path: Path) -> None:
    model = write(tmp_path / "toy.safetensors", "tdcnpp")
    with pytest.raises(BadInput, match=r"differ from the model's by .*nothing was written"):
        export.export(str(model), tmp_path / "toy.pt2", "torch-export", seconds=0.5, tolerance=1e-12)
    assert [path.name for path in tmp_path.iterdir()] == ["toy.safetensors"]


def test_a_length_that_cannot_stay_open_is_fixed_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = export_targets.TARGETS["torch-export"]

    def stubborn(model, example, notes, dynamic) -> dict[str, bytes]:
        if dynamic:
            raise RuntimeError("a guard failed\nmore")
        return usual.make(model, example, notes, dynamic)

    closed = dataclasses.replace(usual, make=stubborn)
    monkeypatch.setitem(export_targets.TARGETS, "torch-export", closed)
    model = write(tmp_path / "toy.safetensors", "tdcnpp")
    done = RUNNER.invoke(app, ["export", str(model), "--to", "torch-export", "-o", str(tmp_path / "toy.pt2"), "--json"])
    assert "a guard failed" in done.stderr and "exactly 4 s" in done.stderr
    assert json.loads(done.stdout)["length"] == 32000


def test_faults_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write(tmp_path / "toy.safetensors")
    with pytest.raises(UsageError, match=r"writes \.pt2 files"):
        export.export(str(model), tmp_path / "toy.onnx", "torch-export")
    for asked in (
        {"seconds": float("inf")},
        {"seconds": float("nan")},
        {"seconds": 1e-9},
        {"block": 10**12, "live": True},
    ):
        with pytest.raises(UsageError, match="expected 0, or"):
            export.export(str(model), tmp_path / "toy.pt2", "torch-export", **asked)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for to, extra in (("onnx", "export"), ("openvino", "openvino")):
        with pytest.raises(MissingDependency, match=rf"pip install 'usepcli\[{extra}\]'"):
            export.export("no model is looked for", None, to)


@pytest.mark.parametrize("live", [False, True], ids=["whole", "live"])
@pytest.mark.parametrize("to", export_targets.TARGETS)
def test_a_disk_that_fills_up_is_no_fault_of_the_model(to: str, live: bool, tmp_path: Path) -> None:
    for package in EXTRAS.get(export_targets.TARGETS[to].extra, ()):
        pytest.importorskip(package)
    model, out = write(tmp_path / "toy.safetensors", **CAUSAL), tmp_path / f"toy{export_targets.TARGETS[to].suffix}"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        done = RUNNER.invoke(app, ["export", str(model), "--to", to, "-o", str(out), *(["--live"] if live else [])])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(done.exception, IOFault) and "writing failed: " in str(done.exception)
    assert done.stderr == "" and [path.name for path in tmp_path.iterdir()] == ["toy.safetensors"]


def test_too_little_room_is_said_before_the_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, usual = write(tmp_path / "toy.safetensors"), shutil.disk_usage(tmp_path)
    monkeypatch.setattr(export_targets, "load", lambda target: pytest.fail("this comes later"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usual._replace(free=4 * 20))
    with pytest.raises(IOFault, match=r"deep/toy\.pt2: the weights of toy\.safetensors take .* 0\.0 MiB are free"):
        export.export(str(model), tmp_path / "deep" / "toy.pt2", "torch-export")
    assert not (tmp_path / "deep").exists()


def test_packages_that_cannot_be_loaded_end_it_before_the_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    for package in EXTRAS["export"]:
        (broken / package).mkdir(parents=True)
        (broken / package / "__init__.py").write_text("raise TypeError('Descriptors cannot be created\\nlonger')\n")
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.syspath_prepend(str(broken))
    monkeypatch.setattr(export, "_answering", lambda *_: pytest.fail("this comes later"))
    model = write(tmp_path / "toy.safetensors")
    with pytest.raises(MissingDependency, match=r"^\.onnx files: onnx is installed but .*: Descriptors cannot be cre"):
        export.export(str(model), tmp_path / "toy.onnx", "onnx")
    assert not list(tmp_path.glob("*toy.onnx*"))


def test_openvino_reports_nothing_to_anybody() -> None:
    pytest.importorskip("openvino")
    code = (
        "import sys; from usepcli.weights import runtimes as x; x.openvino_precisions();"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_onnxruntime_reports_nothing_to_anybody(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    code = (
        "from pathlib import Path; from usepcli.weights import runtimes as x\n"
        "try: x.onnxruntime_session(Path('none.onnx'))\n"
        "except Exception: import sys; print('onnxruntime' in sys.modules)"
    )
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    env |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(Path(usepcli.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    # It makes a device id in the cache where it may report.
    assert done.stdout.strip() == "True" and not list(tmp_path.iterdir())
