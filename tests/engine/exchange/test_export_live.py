"""One step in another runtime: blocks in sequence, the state handed from one to the next, against the model's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

from usepcli.cli.app import app
from usepcli.engine.exchange import export, export_live, export_targets
from usepcli.errors import BadInput, ConfigError, OutputError, UsageError
from usepcli.models import exportable, streaming
from usepcli.versions import EXTRAS
from usepcli.weights import build, cards, store

RUNNER = CliRunner()
CAUSAL = {"causal": True, "input_norm": "none"}
SMALL = {
    "convtasnet": {**CAUSAL, "norm": "cumln", "blocks": 2, "repeats": 1},
    "conformer_mask": {**CAUSAL, "look_back": 20, "levelled": True, "mask": "sigmoid"},
    "band_path": {**CAUSAL, "n_fft": 64, "win": 40, "hop": 16},
    "dprnn": {**CAUSAL, "norm": "channel", "rnn": "gru", "repeats": 1, "layers": 2},
}
CASES = [("convtasnet", to) for to in export_targets.TARGETS]
CASES += [("conformer_mask", to) for to in export_targets.TARGETS]
CASES += [("band_path", "onnx"), ("band_path", "torch-export"), ("dprnn", "onnx")]


def made(name: str, **options: object):
    torch.manual_seed(0)
    return build.model({"name": name, "preset": "tiny", **options}).eval()


def write(path: Path, name: str, **options: object) -> Path:
    model = made(name, **options)
    card = cards.Card(name="toy", model=build.config_of(model), sample_rate=8000, n_src=2, licence="CC0-1.0")
    store.save_model(path, model.state_dict(), card)
    return path


@pytest.mark.parametrize(("name", "to"), CASES)
def test_a_stream_goes_on_in_another_runtime(name: str, to: str, tmp_path: Path) -> None:
    for package in EXTRAS.get(export_targets.TARGETS[to].extra, ()):
        pytest.importorskip(package)
    model = write(tmp_path / "toy.safetensors", name, **SMALL[name])
    out = tmp_path / f"toy{export_targets.TARGETS[to].suffix}"
    done = RUNNER.invoke(app, ["export", str(model), "--to", to, "--live", "-o", str(out), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts == json.loads((tmp_path / f"{out.name}.json").read_text())
    assert facts["live"] and facts["max_difference"] < 1e-5
    assert [check["signal"] for check in facts["checks"]] == ["speech", "silence"]
    # What a user does, with nothing but the three files, on a signal that the export did not try.
    first = load_file(tmp_path / facts["state_file"])
    state = [first[each["input"]] for each in facts["state"]]
    assert [(list(each.shape), str(each.dtype)) for each in state] == [(e["shape"], e["type"]) for e in facts["state"]]
    assert {each["input"]: each["shape"] for each in facts["state"]}["heard"] == []
    run, block, pieces = export_targets.TARGETS[to].open_step(out), facts["block"], []
    wave = np.random.default_rng(0).normal(0, 0.1, (1, 20 * block)).astype(np.float32)
    for part in np.split(wave, 20, axis=1):
        sources, *state = run([part, *state])
        assert sources.shape == (1, 2, block)
        pieces.append(sources)
    there = np.concatenate(pieces, axis=2)[..., facts["delay"] :]
    own = store.load_model(model)[0]
    with torch.no_grad():
        heard = torch.cat([torch.zeros(1, facts["lead"]), torch.from_numpy(wave)], 1)
        expected = own(heard)[..., facts["lead"] :].numpy()[..., : there.shape[2]]
    assert np.abs(there - expected).max() < 1e-5 * np.abs(expected).max() + 1e-6
    with pytest.raises(OutputError, match="--overwrite"):
        export.export(str(model), out, to, live=True)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_the_graph_is_the_step(name: str) -> None:
    model = made(name, **SMALL[name])
    block = export_live.block_of(model, 3 * model.live_stride)
    state, lead = export_live.begun(model, block)
    graph = export_live.OneStep(exportable.exportable(model, onnx_layers=False), state)
    assert state.mix.shape[1] < model.latency_samples and lead >= state.mix.shape[1] and not state.lead.numel()
    kept = list(export_live.carried(state).values())
    for _ in range(3):
        wave = torch.randn(1, block)
        est, state = model.step(wave, state)
        there, *kept = graph(wave, *kept)
        assert torch.allclose(there, est, atol=2e-6)
        # The number of samples heard travels too.
        assert [each.shape for each in kept] == [each.shape for each in export_live.carried(state).values()]
    assert int(dict(zip(export_live.carried(state), kept, strict=True))["heard"]) == lead + 3 * block


def test_a_block_must_be_whole_strides(tmp_path: Path) -> None:
    model = write(tmp_path / "toy.safetensors", "convtasnet", **SMALL["convtasnet"])
    with pytest.raises(UsageError, match=r"--block: found 90 samples; this model takes multiples of 8, such as 88"):
        export.export(str(model), tmp_path / "toy.pt2", "torch-export", live=True, block=90)
    assert [path.name for path in tmp_path.iterdir()] == ["toy.safetensors"]
    assert export_live.block_of(made("convtasnet", **SMALL["convtasnet"]), 0) == 80


def test_a_block_of_seconds_is_compared_twice_over(tmp_path: Path) -> None:
    model = write(tmp_path / "toy.safetensors", "convtasnet", **{**SMALL["convtasnet"], "norm": "channel"})
    facts = export.export(str(model), tmp_path / "toy.pt2", "torch-export", live=True, block=160_000)
    assert facts["block"] == 160_000 and facts["checks"][0]["samples"] == 320_000


def test_what_does_not_go_together(tmp_path: Path) -> None:
    model = write(tmp_path / "toy.safetensors", "convtasnet")
    with pytest.raises(ConfigError, match=r"no live separation: model\.causal is false"):
        export.export(str(model), tmp_path / "toy.pt2", "torch-export", live=True)
    for options in ({"live": True, "seconds": 1.0}, {"block": 80}):
        with pytest.raises(UsageError, match="--seconds"):
            export.export(str(model), tmp_path / "toy.pt2", "torch-export", **options)


def test_a_difference_above_the_tolerance_leaves_nothing(tmp_path: Path) -> None:
    model = write(tmp_path / "toy.safetensors", "band_path", **SMALL["band_path"])
    with pytest.raises(BadInput, match=r"differ from the model's by .*nothing was written"):
        export.export(str(model), tmp_path / "toy.pt2", "torch-export", live=True, tolerance=1e-12)
    assert [path.name for path in tmp_path.iterdir()] == ["toy.safetensors"]


def test_a_model_whose_state_changes_its_size_is_refused() -> None:
    class Grows(type(made("convtasnet", **SMALL["convtasnet"]))):
        def advance(self, block, kept):
            est, kept = super().advance(block, kept)
            return est, kept._replace(waiting=torch.nn.functional.pad(kept.waiting, (1, 0)))

    with pytest.raises(BadInput, match="changes the sizes"):
        export_live.begun(Grows(**{**Grows.PRESETS["tiny"], **SMALL["convtasnet"]}).eval(), 80)
    assert isinstance(made("convtasnet", **SMALL["convtasnet"]).begin(1), streaming.State)
