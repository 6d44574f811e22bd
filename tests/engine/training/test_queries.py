"""A model and an objective by query, each one file and one registry line, through everything that a run meets."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from usepcli import registry
from usepcli.audio import io
from usepcli.cli.app import app
from usepcli.data.manifest import Manifest, Pool, PoolRow, Row
from usepcli.engine.exchange import export
from usepcli.engine.scoring import evaluate, mom_scores, ordered
from usepcli.engine.training import plan, valid_split
from usepcli.engine.training.train import Trainer
from usepcli.errors import BadInput, ConfigError, UsageError
from usepcli.models.queried import QueriedModel
from usepcli.profile.load import load_profile
from usepcli.separator.how import How, Trace
from usepcli.separator.separator import Separator
from usepcli.weights import build, store

RATE = 8000
LOW, HIGH = "a low voice", "the voice that is high"
PARTS = {"model": ("queried_net", "parts.queried_net:QueriedNet"), "objective": ("answered", "parts.answered:Answered")}
COMMAND = f"""
import sys
from usepcli import registry
for kind, (name, target) in {PARTS!r}.items():
    registry.TABLES[kind][name] = target
from usepcli.cli import app
app.main()
"""
PROFILE = """\
licence: CC0
data: {{manifest: {manifest}, segment_s: 0.25}}
model: {{name: queried_net, preset: tiny}}
objective: {{name: answered}}
optim: {{lr: 1e-2, weight_decay: 0}}
train: {{epochs: 3, batch_size: 4, log_every: 1, ema: 0.9, threads: 1}}
valid: {{also: [snr], mom_pairs: 1}}
"""


@pytest.fixture(autouse=True, scope="module")
def parts(root: Path) -> Iterator[None]:
    """One line for the model, one for the objective."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root / "tests")
        for kind, (name, target) in PARTS.items():
            patch.setitem(registry.TABLES[kind], name, target)
        yield


def band(draw: np.random.Generator, low: float, high: float, frames: int = 3000) -> np.ndarray:
    """Noise between two frequencies (Hz), as int16-exact float."""
    spectrum, hertz = np.fft.rfft(draw.standard_normal(frames)), np.fft.rfftfreq(frames, 1 / RATE)
    wave = np.fft.irfft(np.where((hertz > low) & (hertz < high), spectrum, 0), frames)
    return np.rint(wave / wave.std() * 3000) / 32768


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of mixtures of a low and a high noise; every second one lists its high source first."""
    root, draw, rows = tmp_path_factory.mktemp("asked"), np.random.default_rng(0), []
    for i in range(15):
        split = "train" if i < 12 else "valid"
        for name, wave in {"low": band(draw, 100, 900), "high": band(draw, 1300, 3500)}.items():
            io.write(root / f"{name}{i}.wav", wave.astype(np.float32), RATE)
        row = Row(f"{split}-{i}", split, "", (f"low{i}.wav", f"high{i}.wav"), "", RATE, 3000, 2, queries=(LOW, HIGH))
        rows.append(turned(row) if i % 2 else row)
    Manifest(rows, root, root / "manifest.csv").write()
    return root / "manifest.csv"


def turned(row: Row) -> Row:
    return replace(row, sources=row.sources[::-1], queries=row.queries[::-1])


@pytest.fixture(scope="module")
def profile(asked: Path) -> Path:
    path = asked.with_name("by_query.yaml")
    path.write_text(PROFILE.format(manifest=asked))
    return path


@pytest.fixture(scope="module")
def trained(profile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 45 steps."""
    run = tmp_path_factory.mktemp("trained")
    Trainer(load_profile(str(profile), ["train.epochs=15", "valid.every_epochs=15"]), run).fit()
    return run


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if k not in ("seconds", "items_per_s")} for row in csv.DictReader(file)]


def test_killed_and_resumed_is_the_run_in_one(profile: Path, tmp_path: Path, root: Path) -> None:
    whole = Trainer(load_profile(str(profile)), tmp_path / "whole")
    whole.fit()
    run = tmp_path / "killed"
    more = ["--set", "train.checkpoint_every_s=0.02", "-o", str(run)]
    environ = {**os.environ, "PYTHONPATH": str(root / "tests"), "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "train", "--profile", str(profile), *more], env=environ,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while not (run / "train.csv").exists() or (run / "train.csv").read_bytes().count(b"\n") < 5:
        assert process.poll() is None, "training ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    process.wait()
    resumed = Trainer(load_profile(str(profile), ["train.checkpoint_every_s=0.02"]), run)
    assert resumed.resumed and resumed.step > 0
    resumed.fit()
    assert table(run / "train.csv") == table(tmp_path / "whole" / "train.csv")
    assert table(run / "valid.csv") == table(tmp_path / "whole" / "valid.csv")
    one, other = whole.objective.state_dict(), resumed.objective.state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_it_learns_what_the_words_mean(trained: Path, asked: Path) -> None:
    """The answers stand in the order of the queries, whichever that is, and are scored as such."""
    last = table(trained / "valid.csv")[-1]
    assert {"si-snri", "snr", "momi", "loudest_share", "silent_share"} <= last.keys()
    assert float(last["si-snri"]) > 5 and float(last["momi"]) > -2
    net, card = store.load_any(trained)
    assert isinstance(net, QueriedModel) and (card.n_src, card.objective) == (0, "answered")
    manifest = Manifest.read(asked).split("valid")
    right = evaluate.score_model(net, manifest, ["si-snri"])
    swapped = replace(manifest, rows=[replace(row, queries=row.queries[::-1]) for row in manifest.rows])
    wrong = evaluate.score_model(net, swapped, ["si-snri"])
    assert np.mean([row["si-snri"] for row in right]) > 5 > -5 > np.mean([row["si-snri"] for row in wrong])
    assert evaluate.summary(right, ["si-snri"])[0]["mean"] == pytest.approx(float(last["si-snri"]), abs=1e-3)
    batched = evaluate.score_model(net, manifest, ["si-snri"], device="cpu:0")
    assert [row["si-snri"] for row in batched] == pytest.approx([row["si-snri"] for row in right], abs=1e-2)
    rows, summary, _ = mom_scores.score(net, replace(manifest, rows=manifest.rows[:2]), 1, 0)
    assert math.isfinite(rows[0]["msi"]) and {row["metric"] for row in summary} == {"momi", "msi"}
    heard = ordered.in_order(next(iter(evaluate.separated(net, manifest))))
    assert heard.ordered and heard.est.shape == heard.ref.shape


def test_the_command_line_scores_it_and_says_what_it_is(trained: Path, asked: Path, tmp_path: Path) -> None:
    out, command = tmp_path / "out", CliRunner()
    more = ["--data", str(asked), "--split", "valid", "--metric", "si-snri", "--metric", "momi", "-o", str(out), "-q"]
    done = command.invoke(app, ["evaluate", str(trained), *more])
    assert done.exit_code == 0, done.output
    record = json.loads((out / "evaluate.json").read_text())
    assert record["protocol"]["assignment"].startswith("of estimates asked for") and record["model"]["n_src"] == 0
    told = command.invoke(app, ["info", str(trained), "--json"])
    assert told.exit_code == 0 and json.loads(told.stdout)["architecture"] == "queried_net"
    io.write(tmp_path / "in.wav", np.zeros(800, np.float32), RATE)
    refused = command.invoke(app, ["separate", str(tmp_path / "in.wav"), "-m", str(trained), "-o", str(tmp_path / "s")])
    assert refused.exit_code != 0 and "separates what it is asked for" in f"{refused.exception}{refused.output}"


def test_a_stereo_recording_at_another_rate_is_asked_and_adds_up(trained: Path) -> None:
    separator = Separator.load(trained, device="cpu", chunk_s=2.0)
    assert separator.by_query and separator.n_src == 0
    rate, wave = 44100, 0.1 * np.random.default_rng(0).standard_normal((2, 5 * 44100)).astype(np.float32)
    with pytest.raises(UsageError, match=r"call ask\("):
        separator(wave, rate)
    both, trace = separator.ask([LOW, HIGH]), Trace()
    made = both(wave, rate, trace=trace)
    found = made.sources
    assert found.shape == (3, 2, wave.shape[1]) and not both.by_query
    assert made.names == (LOW, HIGH, "residual") and made.presence == ()  # a few items: not calibrated
    assert np.abs(wave - found.sum(0, dtype=np.float64)).max() < 1e-6 and trace.null.peak < 1e-6
    assert len(trace.seams) > 1 and not any(seam.swapped for seam in trace.seams)
    turned = both.ask([HIGH, LOW])(wave, rate).sources
    np.testing.assert_allclose(turned, found[[1, 0, 2]], atol=1e-5)
    one = separator.ask([HIGH])
    with pytest.raises(UsageError, match="use leave or source"):
        one(wave, rate, How(rest="share"))
    alone, beside = (one(wave, rate, How(rest=rest)).sources for rest in ("leave", ""))
    assert len(alone) == 1 and one.names(How(rest="source")) == ("1", "residual")
    assert np.abs(wave - beside.sum(0, dtype=np.float64)).max() < 1e-6
    np.testing.assert_allclose(beside[0], alone[0], atol=1e-6)
    # An answer does not hang on what else is asked, though all channels are divided by one decision.
    np.testing.assert_allclose(beside[0], found[1], atol=1e-5)


def test_a_bound_model_is_exported_for_its_queries(trained: Path, tmp_path: Path) -> None:
    facts = export.export(str(trained), tmp_path / "low.pt2", "torch-export", queries=[LOW], seconds=1.0)
    assert facts["outputs"] == 1 and facts["queries"] == [LOW] and facts["max_difference"] < 1e-4
    with pytest.raises(UsageError, match="say what"):
        export.export(str(trained), tmp_path / "all.pt2", "torch-export")
    with pytest.raises(UsageError, match="takes no queries"):
        export.export("default", tmp_path / "default.pt2", "torch-export", queries=[LOW])


def test_a_dry_run_measures_it(profile: Path) -> None:
    facts = plan.plan(load_profile(str(profile)))
    assert facts["outputs"] == "by query" and facts["training_items"] == 12 and facts["seconds_per_step"] > 0


def test_dynamic_mixtures_of_a_pool_with_queries_train_it(profile: Path, asked: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(asked)
    rows = [
        PoolRow(f"{row.id}-{k}", "train", query, path, RATE, row.frames, query=query)
        for row in manifest.split("train").rows
        for k, (path, query) in enumerate(zip(row.sources, row.queries, strict=True))
    ]
    Pool(rows, asked.parent, asked.parent / "pool.csv").write()
    sets = ["data.mixing=dynamic", f"data.pool=[{asked.parent / 'pool.csv'}]", "train.max_steps=2"]
    trainer = Trainer(load_profile(str(profile), sets), tmp_path / "dynamic")
    assert set(trainer.feed.data[0, 0].queries) == {LOW, HIGH}
    trainer.fit()
    assert len(table(tmp_path / "dynamic" / "train.csv")) == 2


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["objective.name=pit"], r"pit trains models that separate without queries"),
        (["model.name=conformer_mask", "model.n_src=2"], r"answered trains models that separate by query"),
    ],
)
def test_objective_and_model_are_of_one_kind(profile: Path, tmp_path: Path, sets: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Trainer(load_profile(str(profile), sets), tmp_path / "run")


@pytest.mark.parametrize(("split", "said"), [("train", "item train-0 has none"), ("valid", "valid-12: no queries")])
def test_rows_without_queries_are_said_before_training(
    profile: Path, asked: Path, tmp_path: Path, split: str, said: str
) -> None:
    manifest, other = Manifest.read(asked), asked.with_name("bare.csv")
    manifest.rows = [replace(row, queries=() if row.split == split else row.queries) for row in manifest.rows]
    manifest.write(other)
    with pytest.raises(ConfigError, match=said):
        Trainer(load_profile(str(profile), [f"data.manifest={other}"]), tmp_path / "run")


def test_who_needs_outputs_of_its_own_refuses_a_model_by_query(trained: Path) -> None:
    with pytest.raises(BadInput, match=r"separates what it is asked for.*ask\("):
        store.load_model(trained)
    with pytest.raises(UsageError, match="takes no queries"):
        Separator.load("default", device="cpu").ask([LOW])


def test_a_query_of_validation_that_a_model_has_no_word_for_is_told_before_a_training_begins(tmp_path: Path) -> None:
    (tmp_path / "words.vec").write_text("dog 1 0\nrain 0 1\n")
    model = build.model(
        {
            "name": "cond_unet",
            "preset": "tiny",
            "conditioner": "lexicon",
            "conditioner_path": str(tmp_path / "words.vec"),
        }
    )
    rows = [
        Row(str(k), "valid", f"{k}.wav", sources=("a.wav", "b.wav"), queries=("a dog", query))
        for k, query in enumerate(("rain", "a conga", "the rain"))
    ]
    assert valid_split._outputs(model, rows[::2], "here") == (2, 4)
    with pytest.raises(
        ConfigError, match=r"data\.valid_split: here: item 1: query 'a conga': none of its words is among"
    ):
        valid_split._outputs(model, rows, "here")
