"""`--model a+b`: files, sums, what is said of each model, labels, resuming, scores, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from usepcli.audio import io
from usepcli.engine.separation.python import Separator
from usepcli.weights import build, cards, store

Usep = Callable[..., "object"]


def saved(path: Path, about: str, licence: str, seed: int, **options: object) -> None:
    torch.manual_seed(seed)
    model = build.model({"name": "conformer_mask", "preset": "tiny", "n_src": 2, **options})
    card = cards.Card(
        name=path.stem, about=about, licence=licence, model=model.config, sample_rate=model.sample_rate, n_src=2,
        cost=build.cost_of(model),
    )  # fmt: skip
    store.save_model(path, model.state_dict(), card)


@pytest.fixture
def usep(command: Callable[..., Usep], tmp_path: Path) -> Usep:
    (tmp_path / "models").mkdir()
    saved(tmp_path / "models/one.safetensors", "two talkers", "CC0", 0)
    saved(tmp_path / "models/two.safetensors", "two notes", "CC BY-NC 4.0", 1, sample_rate=16000)
    wave = 0.1 * np.random.default_rng(0).standard_normal((2, 48000 * 2))
    with io.Writer(tmp_path / "x.wav", 48000, 2, "PCM_16") as writer:
        writer.write(wave.astype(np.float32))
    run = command("separate")
    return lambda *options: run("--model", "one+two", *options)  # the last --model counts


def test_sources_add_up_and_each_model_is_told(usep: Usep) -> None:
    done = usep(
        "x.wav", "-o", "out", "--labels", "csv", "--chunk-s", "1", "--shifts", "2", "--overlap", "0.3", "--json"
    )
    assert done.code == 0, done.err
    wave, one, two = (io.read(Path(path))[0] for path in ("x.wav", "out/x_1.wav", "out/x_2.wav"))
    assert one.shape == wave.shape and np.array_equal(one.astype(np.float64) + two, wave)
    assert json.loads(done.out)["exact"] and Path("out/x_labels.csv").is_file()
    said = " ".join(done.err.split())
    assert "model one: This model was trained for: two talkers." in said
    assert "model two: This model was trained for: two notes." in said
    assert "Not for commercial use: what it learned from (CC BY-NC 4.0)." in said
    again = ["x.wav", "-o", "out", "--chunk-s", "1", "--shifts", "2", "--overlap", "0.3"]
    assert usep(*again).err.startswith("1 of 1 files are done")
    assert "made with other settings" in usep(*again, "--model", "one").err


def test_the_files_are_the_mean_of_those_of_each(usep: Usep) -> None:
    """At one rate, without sharing out what is left over: (s_1 + s_2) / 2, in the order of the first."""
    saved(Path("models/three.safetensors"), "two bells", "CC0", 2)
    names = ["one", "three", "one+three"]
    for name in names:
        assert (
            usep("x.wav", "-o", name, "-m", name, "--rest", "leave", "--channels", "mix", "--subtype", "FLOAT").code
            == 0
        )
    one, three, both = (np.stack([io.read(Path(f"{name}/x_{k}.wav"))[0] for k in (1, 2)]) for name in names)
    likely = min(np.abs((one + other) / 2 - both).max() for other in (three, three[::-1]))
    assert likely < 1e-5 < np.abs(one - both).max()


def test_python_takes_the_same_names(usep: Usep) -> None:
    assert usep("x.wav", "-o", "out").code == 0
    separator = Separator.load("one+two")
    assert (separator.rate, separator.n_src) == (16000, 2)
    wave, rate = io.read(Path("x.wav"))
    sources = separator(wave, rate).sources
    assert np.abs(sources[0] - io.read(Path("out/x_1.wav"))[0]).max() <= 2**-15
    assert str(separator.separate_file("x.wav", "out").outputs[0]) == "out/x_1.wav"  # done already, by these settings


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--model", "one+nothing"], 66, "unknown model 'nothing'"),
        (["--model", "one+one"], 2, "one is joined to itself"),
        (["--query", "a dog"], 2, "model one+two takes no queries"),
        (["--live"], 2, "model one+two: ensemble hears whole recordings"),
    ],
)
def test_what_is_refused_is_told_in_one_line(usep: Usep, options: list[str], code: int, said: str) -> None:
    done = usep("x.wav", "-o", "out", *options)
    assert done.code == code and said in done.err and done.err.count("\n") == 1
    assert not Path("out").exists()


def test_evaluate_and_remix_take_them(usep: Usep, command: Callable[..., Usep]) -> None:
    done = command("evaluate", "--metric", "si-snri", "-o", "scores")("one+two", "--limit", "2", "--json")
    assert done.code == 0, done.err
    facts = json.loads(Path("scores/evaluate.json").read_text())["model"]
    assert facts["ref"] == "one+two" and facts["path"].count(".safetensors") == 2
    mixed = command("remix", "x.wav", "--model", "one+two")("--gain", "1=-6", "-o", "y.wav")
    assert mixed.code == 0 and "model two: This model" in mixed.err
