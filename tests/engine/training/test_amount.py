"""From collections as people have them to batches and steps: what is taken, what is said, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from usepcli.audio import io
from usepcli.cli.app import app
from usepcli.data.manifest import Manifest
from usepcli.engine.training import plan
from usepcli.engine.training.train import Trainer
from usepcli.errors import ConfigError
from usepcli.profile.load import load_profile
from usepcli.weights import store

TINY = "model: {name: conformer_mask, preset: tiny, n_src: 2, sample_rate: 8000}"


def recordings(folder: Path, *lengths_s: float) -> Path:
    for k, seconds in enumerate(lengths_s):
        wave = np.random.default_rng(k).standard_normal(round(8000 * seconds)).astype(np.float32)
        io.write(folder / f"r{k}.wav", wave * 0.05, 8000)
    return folder


def profile(folder: Path, train: str, data: str = "epoch_items: 2000") -> Path:
    path = folder / "mine.yaml"
    path.write_text(
        f"licence: CC0\ndata: {{manifest: {folder / 'data'}, segment_s: 0.5, {data}}}\n{TINY}\n"
        f"objective: {{name: mixit}}\ntrain: {{threads: 1, {train}}}\nvalid: {{metric: momi, mom_pairs: 2}}\n"
    )
    return path


@pytest.mark.parametrize(
    ("lengths", "batch", "said"),
    [
        ([1.0] * 10, 16, ()),  # eight recordings of two segments
        ([5.0] * 2, 16, ()),
        ([5.0], 8, ("batches of 8 in place of train.batch_size 16", "r0 is 100 % of the training data")),
        ([40.0, 1.0, 70.0], 16, ("r2 is 58 % of the training data",)),
    ],
)
def test_any_collection_trains_with_a_thousand_steps_and_a_validation(
    tmp_path: Path, lengths: list[float], batch: int, said: tuple[str, ...]
) -> None:
    recordings(tmp_path / "mine", *lengths)
    run = CliRunner().invoke
    assert run(app, ["prepare-data", str(tmp_path / "mine"), "-o", str(tmp_path / "data"), "-q"]).exit_code == 0
    path = profile(tmp_path, "batch_size: 16, epochs: 12")
    found = run(app, ["train", "-p", str(path), "--dry-run", "--json"])
    assert found.exit_code == 0, found.stderr
    facts = json.loads(found.stdout)
    assert facts["steps"] == 12 * (2000 // batch) and facts["batch"] == f"{batch} x 0.5 s"
    assert facts["training_items"] == 2000
    assert "are few" not in found.stderr and all(words in found.stderr for words in said)
    assert ("batches of" in found.stderr) == (batch != 16)
    trained = run(app, ["train", "-p", str(path), "-o", str(tmp_path / "run"), "--set", "train.max_steps=1"])
    assert trained.exit_code == 0, trained.stderr
    assert "1 steps in all are few" in trained.stderr and "raise train.max_steps (now 1)" in trained.stderr
    assert all(words in trained.stderr for words in said)
    assert store.load_model(tmp_path / "run")[1].scores[0]["metric"] == "momi"


def test_what_fills_no_batch_is_one_error_of_the_dry_run_and_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where its runs go without -o
    recordings(tmp_path / "mine", 0.4)
    CliRunner().invoke(app, ["prepare-data", str(tmp_path / "mine"), "-o", str(tmp_path / "data"), "-q"])
    path = profile(tmp_path, "batch_size: 16")
    found = [CliRunner().invoke(app, ["train", "-p", str(path), *more]) for more in (["--dry-run"], [])]
    assert [type(one.exception) for one in found] == [ConfigError, ConfigError]
    assert str(found[0].exception) == str(found[1].exception)
    said = "1 recordings with 1 segments of 0.5 s; add recordings, or lower data.segment_s to 0.26 s"
    assert said in str(found[0].exception)
    line = ["train", "-p", str(path), "--dry-run", "--set", "data.segment_s=0.26", "--set", "valid.metric=si-snri"]
    short = CliRunner().invoke(app, line)
    assert short.exit_code == 0, short.exception
    few = [*line, "--set", "data.epoch_items=1"]
    said = "an epoch, 1 items of 1 recordings with 2 segments of 0.26 s; set data.epoch_items, now 1 an epoch, to 2 or"
    assert said in str(CliRunner().invoke(app, few).exception)


def test_an_epoch_has_as_many_items_in_every_mode(corpus: Path, profile_file: Path, tmp_path: Path) -> None:
    sets = ["data.epoch_items=40", "train.max_steps=1"]
    trainer = Trainer(load_profile(str(profile_file), sets), tmp_path / "fixed")
    assert (len(trainer.feed.data), trainer.feed.steps_per_epoch) == (40, 10)
    trainer._close()


def test_a_run_of_before_goes_on_with_one_item_for_each_recording(
    profile_file: Path, corpus: Path, tmp_path: Path
) -> None:
    """Long recordings were one item each, and are so still where a run began that way."""
    manifest = Manifest.read(corpus)
    manifest.rows = [replace(row, frames=31 * 8000) if row.id == "train-000" else row for row in manifest.rows]
    manifest.write()
    run, runner = tmp_path / "run", CliRunner()
    line = ["train", "-p", str(profile_file), "-o", str(run), "--set", "data.max_bad=1", "--set"]
    assert runner.invoke(app, [*line, "train.max_steps=6", "--set", "data.crops=one"]).exit_code == 0
    record = json.loads((run / "run.json").read_text())
    assert record["profile"]["data"].pop("crops") == "one"
    record["profile"]["data"]["epoch_items"] = 99  # nothing read it then
    (run / "run.json").write_text(json.dumps(record))
    for steps in (12, 18):  # the first time by the old record, the second by one of today
        found = runner.invoke(app, [*line, f"train.max_steps={steps}"])
        assert found.exit_code == 0 and "going on from step" in found.stderr, found.stderr
        assert json.loads((run / "run.json").read_text())["profile"]["data"]["crops"] == "one"
    assert [row.split(",")[1] for row in (run / "train.csv").read_text().splitlines()[1::6]] == ["0", "1", "2"]
    refused = runner.invoke(app, [*line, "train.max_steps=19", "--set", "data.epoch_items=99"])
    assert isinstance(refused.exception, ConfigError) and "data.epoch_items: 0 then, 99 now" in str(refused.exception)


def test_few_steps_say_what_to_raise(profile_file: Path, tmp_path: Path) -> None:
    trainer = Trainer(load_profile(str(profile_file)), tmp_path / "run")
    assert trainer.feed.notes == [
        "warning: 18 steps in all are few, little is learned in fewer than 1000: raise train.epochs (now 3) or "
        "data.epoch_items (now 24 an epoch)"
    ]
    trainer._close()
    with pytest.raises(ConfigError, match=r"train\.batch_size: 25 is more than the 24 mixtures of an epoch"):
        Trainer(load_profile(str(profile_file), ["train.batch_size=25"]), tmp_path / "a")
    with pytest.raises(ConfigError, match=r"train\.batch_size: 3 is not a multiple of 2"):
        Trainer(load_profile(str(profile_file), ["train.batch_size=3", "train.accumulate=2"]), tmp_path / "b")


@pytest.mark.parametrize("name", ["pit", "fixed"])
def test_a_dry_run_keeps_the_output_of_the_residual(profile_file: Path, name: str) -> None:
    found = plan.plan(
        load_profile(str(profile_file), [f"objective.name={name}", "objective.residual=true", "model.n_src=3"])
    )
    assert found["outputs"] == 3 and found["seconds_per_step"] >= 0
