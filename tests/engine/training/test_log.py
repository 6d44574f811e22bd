"""Rows of train.csv: means over the steps that have a figure, and shares of references as they fall."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from usepcli.engine.training.log import TrainLog
from usepcli.engine.training.stepping import _mean_of_present
from usepcli.engine.training.train import Trainer
from usepcli.profile.load import load_profile


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "train.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_figure_that_some_steps_lack_is_the_mean_of_the_others(tmp_path: Path) -> None:
    log = TrainLog(tmp_path, 3, 4, 9, True)
    for step, snr in enumerate((2.0, math.nan, 5.0, math.nan, math.nan, math.nan), 1):
        log.add({"loss": float(step), "grad_norm": 1.0, "supervised": 0.0 if math.isnan(snr) else -3.0, "snr_db": snr})
        log.step(step, 0, 1e-3, 0)
    first, second = rows(tmp_path)
    assert (first["loss"], first["snr_db"], first["supervised"]) == ("2.0", "3.5", "-2.0")
    assert (second["loss"], second["snr_db"]) == ("5.0", "nan")


def test_the_window_of_an_earlier_version_counts_steps_alone(tmp_path: Path) -> None:
    log = TrainLog(tmp_path, 1, 4, 9, True)
    log.window = {"loss": 6.0, "snr_db": 3.0, "n": 3}
    log.step(3, 0, 1e-3, 0)
    assert (rows(tmp_path)[0]["loss"], rows(tmp_path)[0]["snr_db"]) == ("2.0", "1.0")


def test_micro_batches_without_a_figure_do_not_count() -> None:
    assert _mean_of_present([1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(_mean_of_present([math.nan]))


def test_a_share_of_references_falls_where_it_is_due(profile_file: Path, tmp_path: Path) -> None:
    # Two sums of two mixtures a step, in two micro-batches: 0.6 of a supervised one a step, 1 0 1 0 1 1 by rounding.
    sets = ["objective.name=mixit", "objective.supervised_fraction=0.3", "model.n_src=4", "train.accumulate=2"]
    run = Trainer(load_profile(str(profile_file), [*sets, "train.max_steps=6"]), tmp_path / "run")
    run.fit()
    found = rows(tmp_path / "run")
    assert [float(row["supervised"]) != 0 for row in found] == [True, False, True, False, True, True]
    assert [math.isfinite(float(row["supervised_snr_db"])) for row in found] == [True, False, True, False, True, True]
    for row in found:
        assert float(row["loss"]) == pytest.approx(float(row["mixit"]) + float(row["supervised"]), rel=1e-5)
