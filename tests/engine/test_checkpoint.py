"""Model files and resume files: whole, damaged, killed while being written."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as to_safetensors

from usepcli.engine import build, checkpoint
from usepcli.engine.checkpoint import Card
from usepcli.errors import BadInput, InputNotFound, IOFault

TINY = {"name": "conformer_mask", "preset": "tiny", "n_src": 2}


def saved(path: Path, dtype: str = "float32") -> torch.nn.Module:
    torch.manual_seed(0)
    model = build.model(TINY).eval()
    checkpoint.save_model(path, model.state_dict(), Card(name="t", model=model.config, licence="CC0"), dtype)
    return model


def test_model_file_gives_the_same_outputs_and_card(tmp_path: Path) -> None:
    model = saved(tmp_path / "m.safetensors")
    loaded, card = checkpoint.load_model(tmp_path / "m.safetensors")
    wave = torch.randn(1, 1000)
    assert torch.equal(loaded(wave), model(wave))
    assert card.licence == "CC0" and card.model["dim"] == model.config["dim"]
    assert not loaded.training


def test_a_model_with_single_numbers_among_its_weights(tmp_path: Path) -> None:
    model = build.model({"name": "tdcnpp", "preset": "tiny"})
    assert any(value.dim() == 0 for value in model.state_dict().values())
    checkpoint.save_model(tmp_path / "m.safetensors", model.state_dict(), Card(model=build.config_of(model)))
    loaded = checkpoint.read_weights(tmp_path / "m.safetensors")
    assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())


def test_half_precision_file_is_half_as_large_and_nearly_equal(tmp_path: Path) -> None:
    model = saved(tmp_path / "full.safetensors")
    saved(tmp_path / "half.safetensors", "float16")
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded, _ = checkpoint.load_model(tmp_path / "half.safetensors")
    wave = torch.randn(1, 4000)
    error = (loaded(wave) - model(wave)).square().sum() / model(wave).square().sum()
    assert 0 < error < 1e-4


def test_a_flipped_bit_and_a_cut_file_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    saved(path)
    raw = bytearray(path.read_bytes())
    raw[-10] ^= 1
    path.write_bytes(raw)
    with pytest.raises(BadInput, match="sha256"):
        checkpoint.load_model(path)
    path.write_bytes(raw[:500])
    with pytest.raises(BadInput, match="not a readable model file"):
        checkpoint.load_model(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{x", "card cannot be read"), ("[]", "found a list"), ('{"model": []}', "model is a list, expected dict"),
        ('{"licence": ["a"]}', "licence is a list"), ('{"scores": [1]}', "a score is no object"),
        ('{"steps": true}', "steps is a bool"),
    ],
)  # fmt: skip
def test_a_card_that_is_none(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(to_safetensors({"a": torch.zeros(1)}, {"usep": text}))
    with pytest.raises(BadInput, match=said):
        checkpoint.read_card(tmp_path / "m.safetensors")


def test_a_card_cannot_drive_a_terminal_or_lie_about_the_rate(tmp_path: Path) -> None:
    model = build.model(TINY)
    for rate, outputs, said in ((44100, 0, "44100 Hz"), (0, 5, "5 outputs")):
        card = Card(name="t", model=build.config_of(model), sample_rate=rate, n_src=outputs)
        checkpoint.save_model(tmp_path / "m.safetensors", model.state_dict(), card)
        with pytest.raises(BadInput, match=f"card says {said}"):
            checkpoint.load_model(tmp_path / "m.safetensors")
    assert Card.from_json(Card(name="a\x1b[2Jb", credits="c\nd").to_json()).name == "a[2Jb"
    assert Card.from_json('{"profile": {"data": {"segment_s": "x"}}}').segment_s == 0


def test_unknown_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="no such model file"):
        checkpoint.load_model(tmp_path / "none.safetensors")
    with pytest.raises(InputNotFound, match=r"no best\.safetensors"):
        checkpoint.load_model(tmp_path)
    with pytest.raises(InputNotFound, match="is no run folder"):
        checkpoint.load_model(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputNotFound, match="let the run validate once"):
        checkpoint.load_model(tmp_path)
    with pytest.raises(InputNotFound, match="defalt"):
        checkpoint.load_model("defalt")


def test_tensors_that_do_not_fit_are_named() -> None:
    model = build.model(TINY)
    state = model.state_dict()
    state["head.bias"] = torch.zeros(3)
    with pytest.raises(BadInput, match=r"here: 1 tensors do not fit the model, the first: head\.bias \(3,\)"):
        checkpoint.load_into(model, state, "here")


def test_state_keeps_the_previous_one(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.save_state(tmp_path / "last.ckpt", {"step": step, "t": torch.ones(2)})
    assert checkpoint.load_state(tmp_path / "last.ckpt")["step"] == 2
    assert checkpoint.load_state(tmp_path / "prev.ckpt")["step"] == 1
    (tmp_path / "last.ckpt").write_bytes(b"short")
    state, warning = checkpoint.load_last(tmp_path)
    assert state is not None and state["step"] == 1 and "last.ckpt" in warning


SAVER = """
import sys, torch
from pathlib import Path
from usepcli.engine.checkpoint import save_state
step = 0
while True:
    step += 1
    save_state(Path(sys.argv[1]) / "last.ckpt", {"step": step, "t": torch.full((400_000,), float(step))})
"""


def test_kill_9_during_the_save_leaves_a_readable_state(tmp_path: Path, until: Callable[..., Any]) -> None:
    draw = random.Random(0)
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path)]) as child:
            try:
                until(lambda: (tmp_path / "prev.ckpt").exists() or child.poll() is not None, "a second save")
                time.sleep(draw.uniform(0, 0.3))  # any moment of a save will do
            finally:
                child.kill()
        assert child.returncode == -signal.SIGKILL
        state, _ = checkpoint.load_last(tmp_path)
        assert state is not None and (state["t"] == state["step"]).all()
        (tmp_path / "prev.ckpt").unlink()


def test_full_disk_is_74_and_leaves_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.atomic_write(tmp_path / "f", b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IOFault, match="No space left"):
        checkpoint.atomic_write(tmp_path / "f", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["f"] and (tmp_path / "f").read_bytes() == b"old"


def test_released_models_load_and_state_their_licence() -> None:
    for name, path in checkpoint.released().items():
        model, card = checkpoint.load_model(name)
        assert card.licence and card.training_data and card.profile and card.sample_rate == model.sample_rate
        for score in card.scores:
            low, high = score["ci95"]
            assert low < score["value"] < high and score["n"] > 1
            assert score["metric"] and score["data"] and score["protocol"]
        assert card.scores
        assert path.stat().st_size <= 8e6
