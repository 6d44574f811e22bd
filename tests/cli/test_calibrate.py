"""`usep calibrate` of a model with outputs of its own, and what `usep separate --sources auto` makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from usepcli.audio import io
from usepcli.weights import build, cards, store

RATE = 8000


@pytest.fixture
def usep(command: Callable[..., Any]) -> Callable[..., Any]:
    return lambda name, *given: command(name)(*given)


def scenes(folder: Path, counts: list[int]) -> None:
    """Write a manifest of noises, so many sources an item."""
    draw, lines = np.random.default_rng(0), ["id,split,mixture,sources,sample_rate,frames,n_src"]
    for n, count in enumerate(counts):
        sources = 0.05 * draw.standard_normal((count, RATE // 2)).astype(np.float32)
        names = [f"{n}_s{k}.wav" for k in range(count)]
        for name, wave in zip([f"{n}.wav", *names], [sources.sum(0), *sources], strict=True):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            io.write(folder / name, wave, RATE, subtype="FLOAT")
        lines.append(f"{n},valid,{n}.wav,{';'.join(names)},{RATE},{RATE // 2},{count}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")


def model(path: Path, n_src: int) -> Path:
    torch.manual_seed(0)
    net = build.model({"name": "conformer_mask", "preset": "tiny", "n_src": n_src, "mask": "sigmoid"})
    with torch.no_grad():  # every output is a band of its own, of the first the widest, and a trace of the others
        net.head.weight.zero_()
        bins = len(net.head.bias) // n_src
        own = torch.arange(bins)[None] // (bins // 8)
        own = torch.stack([own < 6, own == 6, own > 6] if n_src == 3 else [own < 6, own >= 6][:n_src])
        net.head.bias.copy_(torch.where(own, 3.0, -3.0).flatten())
    card = cards.Card(name="m", model=net.config, sample_rate=RATE, n_src=n_src, objective="pit")
    store.save_model(path, net.state_dict(), card)
    return path


def test_calibrate_keeps_a_limit_by_which_separate_leaves_outputs_out(usep: Callable[..., Any]) -> None:
    model(Path("m.safetensors"), 3)
    scenes(Path("data"), [1])
    done = usep("calibrate", "m.safetensors", "--data", "data", "-o", "n.safetensors", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    # Of three outputs two are narrow, and in none lies what is its own 30 dB below the mixture.
    assert found["items"] == 1 and found["usual"] == 0.0 and found["right"] == 1.0 and found["own_db"] < 30
    card = cards.read_card(Path("n.safetensors"))[0]
    assert cards.silent_db(card) == found["own_db"]
    assert '"own_db"' in usep("info", "n.safetensors", "--json").out
    for name, files in (("m", 3), ("n", 1)):
        answer = usep("separate", "data/0.wav", "-m", f"{name}.safetensors", "--sources", "auto", "-o", name)
        assert answer.code == 0 and len(list(Path(name).glob("*.wav"))) == files, answer.err


def test_what_cannot_be_calibrated_is_said(usep: Callable[..., Any]) -> None:
    model(Path("one.safetensors"), 1)
    model(Path("two.safetensors"), 2)
    scenes(Path("data"), [2, 2])
    answer = usep("calibrate", "one.safetensors", "--data", "data")
    assert answer.code == 2 and "has one output" in answer.err
    answer = usep("calibrate", "two.safetensors", "--data", "data")
    assert answer.code == 65 and "as many sources as the model has outputs" in answer.err
    Path("data/manifest.csv").write_text(f"id,split,mixture,sample_rate,frames\n0,valid,0.wav,{RATE},{RATE // 2}\n")
    answer = usep("calibrate", "two.safetensors", "--data", "data")
    assert answer.code == 65 and "no sources are listed" in answer.err
    assert not cards.read_card(Path("two.safetensors"))[0].silence
