"""Choosing weights with and without references: what is scored, what is opened, what is said."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from usepcli.audio import io
from usepcli.data.manifest import Manifest
from usepcli.engine.training import valid_split
from usepcli.engine.training.train import Trainer
from usepcli.engine.training.validate import Validator
from usepcli.errors import BadInput, ConfigError
from usepcli.models.separator import SeparationModel
from usepcli.profile.faults import ProfileError
from usepcli.profile.load import load_profile
from usepcli.weights import store

MIXTURES = ("objective.name=mixit", "train.epochs=2", "model.dropout=0.0")
REMIX = ("objective.name=remixit", "train.epochs=2", "model.dropout=0.0")


class Outputs(SeparationModel):
    """A model of which nothing but the number of outputs matters."""

    def __init__(self, n_src: int) -> None:
        super().__init__(n_src=n_src, sample_rate=8000, hop=1)


def table(run: Path) -> list[dict[str, str]]:
    with open(run / "valid.csv", newline="") as file:
        return list(csv.DictReader(file))


def bare(corpus: Path) -> None:
    """Leave no source on the list nor on the disk."""
    manifest = Manifest.read(corpus)
    for row in manifest.rows:
        for source in row.sources:
            manifest.resolve(source).unlink()
    manifest.rows = [replace(row, sources=()) for row in manifest.rows]
    manifest.write()


def validator(profile_file: Path, folder: Path, *sets: str) -> Validator:
    return Validator(load_profile(str(profile_file), list(sets)), folder, torch.device("cpu"))


def test_mixtures_alone_choose_by_momi_and_say_so(
    profile_file: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare(corpus)
    Trainer(load_profile(str(profile_file), [*MIXTURES, "valid.also=[si-snr]"]), tmp_path / "run").fit()
    said = capsys.readouterr().err
    assert said.count("momi, which needs none, chooses the weights in place of si-snri") == 1
    assert "si-snr not scored" in said and "of the power" in said
    rows = table(tmp_path / "run")
    assert list(rows[0])[:5] == ["epoch", "step", "momi", "best", "seconds"]
    assert {"loudest_share", "activity_entropy", "silent_share", "skipped"} <= set(rows[0])
    assert float(rows[-1]["best"]) == max(float(row["momi"]) for row in rows)
    card = store.load_model(tmp_path / "run")[1]
    assert [(s["metric"], s["n"]) for s in card.scores] == [("momi", 1)]
    assert card.scores[0]["value"] == pytest.approx(float(rows[-1]["best"]), abs=1e-3)
    assert "momi" in said and "no source opened; chose the weights" in card.scores[0]["protocol"]


def test_listed_sources_stay_closed_where_momi_chooses(profile_file: Path, corpus: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(corpus).split("valid")
    for row in manifest.rows:
        for source in row.sources:
            manifest.resolve(source).unlink()
    check = validator(profile_file, tmp_path, *MIXTURES, "valid.metric=momi")
    assert math.isfinite(check.score(check.model.state_dict(), 1))
    assert set(check.figures) == {"momi", "loudest_share", "activity_entropy", "silent_share", "skipped"}


def test_rows_without_a_mixture_file_train_and_choose_as_their_sums(
    profile_file: Path, corpus: Path, tmp_path: Path
) -> None:
    sets = ["objective.name=pit", "train.epochs=1", "model.dropout=0.0", "valid.also=[snr]"]
    Trainer(load_profile(str(profile_file), sets), tmp_path / "files").fit()
    manifest = Manifest.read(corpus)
    for row in manifest.rows:
        manifest.resolve(row.mixture).unlink()
    manifest.rows = [replace(row, mixture="") for row in manifest.rows]
    manifest.write()
    Trainer(load_profile(str(profile_file), sets), tmp_path / "sums").fit()
    one, other = (table(tmp_path / name)[-1] for name in ("files", "sums"))
    del one["seconds"], other["seconds"]
    assert one == other and float(one["snr"]) > -60


def test_metrics_beside_are_columns_and_never_choose(profile_file: Path, tmp_path: Path) -> None:
    sets = (*MIXTURES, "valid.metric=momi", "valid.also=[si-snri, snr, momi]")
    run = tmp_path / "run"
    Trainer(load_profile(str(profile_file), list(sets)), run).fit()
    rows = table(run)
    assert [name for name in rows[0] if "snr" in name] == ["si-snri", "snr"]
    reference = validator(profile_file, tmp_path, "valid.limit=2")
    weights = store.read_weights(run / f"best/step{int(rows[-1]['step']):08d}.safetensors")
    assert reference.score(weights, 0) == pytest.approx(float(rows[-1]["si-snri"]), abs=1e-4)
    scores = store.load_model(run)[1].scores
    assert [s["metric"] for s in scores] == ["momi", "si-snri", "snr"]
    assert ["momi chose the weights" in s["protocol"] for s in scores] == [False, True, True]
    best = max(rows, key=lambda row: float(row["momi"]))
    assert scores[1]["value"] == pytest.approx(float(best["si-snri"]), abs=1e-3), "of the validation that won"


def test_lower_is_better_where_it_is(profile_file: Path, tmp_path: Path) -> None:
    check = validator(profile_file, tmp_path, "valid.metric=loudest_share")
    score = check.score(check.model.state_dict(), 1)
    assert score == -check.figures["loudest_share"] < 0
    check.record(1, 1, score, score, 0.1)
    assert float(table(tmp_path)[0]["best"]) == check.figures["loudest_share"]
    assert check.card(1, 1).scores[0]["value"] == pytest.approx(check.figures["loudest_share"], abs=1e-3)
    check.figures["loudest_share"] = 0.0  # a score like any other
    assert [score["value"] for score in check.card(1, 1).scores] == [0.0]


def test_the_teacher_is_watched_from_before_the_first_step_on(
    profile_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for epochs in (1, 2):
        sets = [*REMIX, f"train.epochs={epochs}"]
        Trainer(load_profile(str(profile_file), sets), tmp_path / "parts").fit()
    said = capsys.readouterr().err
    assert said.count("before the first step the teacher's outputs match its input") == 1
    assert "student and teacher agree to" in said
    Trainer(load_profile(str(profile_file), list(REMIX)), tmp_path / "whole").fit()
    parts, whole = table(tmp_path / "parts"), table(tmp_path / "whole")
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in parts] == [
        {k: v for k, v in row.items() if k != "seconds"} for row in whole
    ]
    assert math.isfinite(float(whole[0]["teacher_input_si_sdr"])) and whole[1]["teacher_input_si_sdr"] == ""
    assert all(math.isfinite(float(row["teacher_agreement"])) for row in whole)


def test_the_figure_of_the_start_survives_a_stop_before_the_first_validation(
    profile_file: Path, tmp_path: Path
) -> None:
    profile = load_profile(str(profile_file), [*REMIX, "train.max_steps=2", "valid.every_epochs=9"])
    first = Trainer(profile, tmp_path / "run")
    first.validator.start(0, first.objective.teacher)
    first.save()
    first.folder.release()
    again = Trainer(profile, tmp_path / "run")
    assert again.validator.at_start == first.validator.at_start and "teacher_input_si_sdr" in again.validator.at_start
    again.folder.release()


def test_looking_changes_nothing_in_what_is_learned(profile_file: Path, tmp_path: Path) -> None:
    curves = []
    for pairs in (0, 1):
        run = tmp_path / str(pairs)
        Trainer(load_profile(str(profile_file), ["train.epochs=2", f"valid.mom_pairs={pairs}"]), run).fit()
        with open(run / "train.csv", newline="") as file:
            curves.append([(row["loss"], row["grad_norm"]) for row in csv.DictReader(file)])
        assert ("momi" in table(run)[0]) == bool(pairs)
    assert curves[0] == curves[1]


def test_sums_are_the_same_for_every_seed_and_within_the_limit(profile_file: Path) -> None:
    profiles = (load_profile(str(profile_file), [f"seed={seed}", "valid.limit=2"]) for seed in (0, 7))
    splits = [valid_split.read(profile, Outputs(2)) for profile in profiles]
    assert splits[0].pairs == splits[1].pairs and sorted(splits[0].pairs[0]) == [0, 1]
    assert splits[0].single is not None and len(splits[0].single) == 2
    many = valid_split.read(load_profile(str(profile_file), ["valid.limit=0"]), Outputs(99))
    assert many.pairs == [] and many.single is not None and len(many.single) == 3, "too many outputs to deal out"


def test_a_recording_with_several_captions_is_added_to_others_alone(corpus: Path, profile_file: Path) -> None:
    manifest = Manifest.read(corpus)
    manifest.rows = [
        replace(row, id=f"{row.id}_{k}", caption=f"said {k} times") for row in manifest.rows for k in range(3)
    ]
    manifest.write()
    split = valid_split.read(load_profile(str(profile_file), ["valid.limit=0"]), Outputs(2))
    assert split.mixtures is not None
    heard = [row.mixture for row in split.mixtures.rows]
    assert len(set(heard)) == len(heard) == len(manifest.split("valid").rows) // 3


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["valid.metric=momi", "valid.mom_pairs=0"], r"momi cannot be had: found no mixture.*mom_pairs is 0"),
        (["valid.metric=momi", "valid.limit=1", "data.crops=one"], "1 mixtures and 2 outputs; expected two"),
        (["valid.metric=silent_share", "data.valid_split=none"], "split 'none'"),
        (["valid.metric=silent_share", "model.n_src=1"], "one output"),
        (["data.valid_split=none"], "objective|no row of split 'none'"),
    ],
)
def test_a_metric_that_cannot_be_had_is_an_error(
    profile_file: Path, tmp_path: Path, sets: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        validator(profile_file, tmp_path, *sets)


def test_a_metric_that_needs_sources_does_not_quietly_give_way(
    profile_file: Path, corpus: Path, tmp_path: Path
) -> None:
    bare(corpus)
    with pytest.raises(ConfigError, match=r"valid\.metric: snri compares with sources"):
        validator(profile_file, tmp_path, *MIXTURES, "valid.metric=snri")
    with pytest.raises(ConfigError, match="lists sources; name a split with some"):
        validator(profile_file, tmp_path)


def test_no_teacher_cannot_choose(profile_file: Path, tmp_path: Path) -> None:
    check = validator(profile_file, tmp_path, "valid.metric=teacher_agreement")
    with pytest.raises(ConfigError, match="the objective has no teacher"):
        check.start(0)


def test_the_latest_weights_count_as_best_where_nothing_can_be_scored(profile_file: Path, tmp_path: Path) -> None:
    check = validator(profile_file, tmp_path, *MIXTURES, "data.valid_split=none")
    assert check.metric == "" and "nothing to validate on in split 'none'" in check.start(0)[0]
    assert [check.score(check.model.state_dict(), step) for step in (1, 2)] == [1.0, 2.0]
    check.record(1, 2, 2.0, 2.0, 0.1)
    assert not (tmp_path / "valid.csv").exists() and check.best.scores[0] == (2.0, 2)
    assert check.lines(2.0, True) == ["the latest weights are kept"]


def test_a_score_that_does_not_exist_never_wins(
    profile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = validator(profile_file, tmp_path, *MIXTURES, "valid.metric=momi")
    first = check.score(check.model.state_dict(), 1)
    monkeypatch.setattr("usepcli.engine.scoring.momi.score_moms", lambda *a, **k: [{"momi": math.nan}])
    assert check.score(check.model.state_dict(), 2) == -math.inf
    assert check.best.scores == [(first, 1), (-math.inf, 2)]
    assert check.card(2, 2).scores == []


def test_no_best_model_comes_of_nothing(
    profile_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("usepcli.engine.scoring.momi.score_moms", lambda *a, **k: [{"momi": math.nan}])
    sets = [*MIXTURES, "valid.metric=momi", "train.ema=0.9"]
    trainer = Trainer(load_profile(str(profile_file), sets), tmp_path / "run")
    trainer.fit()
    assert not (tmp_path / "run" / "best.safetensors").exists() and trainer.model_file.name == "last.safetensors"
    assert trainer.average is not None
    kept = store.read_weights(trainer.model_file)
    assert all(torch.equal(kept[key], value) for key, value in trainer.average.state.items())
    said = capsys.readouterr().err
    assert said.count("nothing is chosen, there is no best model yet") == 2 and "-inf" not in said
    assert f"the latest weights are in {trainer.model_file}" in said
    assert [row["best"] for row in table(tmp_path / "run")] == ["", ""]


def test_states_without_a_score_have_no_part_in_the_mean(profile_file: Path, tmp_path: Path) -> None:
    check = validator(profile_file, tmp_path, "valid.average=5")
    card, one = check.card(1, 1), check.model.state_dict()
    other = {key: value + 1 if value.is_floating_point() else value for key, value in one.items()}
    check.best.offer(-math.inf, 1, other, card)
    check.best.offer(2.0, 2, dict(one), card)
    assert all(torch.equal(value, one[key]) for key, value in check.best.mean().items())


@pytest.mark.parametrize("sets", [(), ("objective.name=mixit", "valid.metric=momi")])
def test_a_split_that_is_silent_throughout_is_told_before_training(
    profile_file: Path, corpus: Path, tmp_path: Path, sets: tuple[str, ...]
) -> None:
    manifest = Manifest.read(corpus)
    rows = manifest.split("valid").rows
    for i, row in enumerate(rows):
        for path in (row.mixture, *row.sources):
            io.write(manifest.resolve(path), np.zeros(row.frames, np.float32), 8000, overwrite=True)
        if i == 0:  # one item that sounds is enough
            assert validator(profile_file, tmp_path, *sets, "valid.limit=0").metric
    with pytest.raises(BadInput, match=r"of all \d items of split 'valid' of .* are silent"):
        validator(profile_file, tmp_path, *sets, "valid.limit=0")


def test_a_mixture_that_cannot_be_read_ends_no_validation(profile_file: Path, corpus: Path, tmp_path: Path) -> None:
    manifest = Manifest.read(corpus)
    check = validator(profile_file, tmp_path, *MIXTURES, "valid.metric=momi", "valid.limit=3", "valid.mom_pairs=3")
    assert math.isfinite(check.score(check.model.state_dict(), 1)) and check.split.single is not None
    bad = check.split.single.rows[0]
    manifest.resolve(bad.mixture).write_bytes(b"no sound")
    assert check.score(check.model.state_dict(), 2) == -math.inf
    assert bad.mixture in check.unscored["momi"]
    assert math.isfinite(check.figures["loudest_share"])


def test_unknown_names_are_told_with_the_profile(profile_file: Path) -> None:
    with pytest.raises(ProfileError) as error:
        load_profile(str(profile_file), ["valid.metric=mommi", "valid.also=[si-sndr]"])
    text = str(error.value)
    assert "did you mean 'momi'" in text and "valid.also" in text and "did you mean 'si-snr" in text


@pytest.mark.parametrize(("pairs", "said"), [(1, "by one pair of mixtures"), (3, "by 3 pairs of mixtures"), (20, "")])
def test_few_pairs_are_told_before_they_choose(profile_file: Path, tmp_path: Path, pairs: int, said: str) -> None:
    check = validator(profile_file, tmp_path, *MIXTURES, "valid.metric=momi")
    check.split = check.split._replace(pairs=[(0, 1)] * pairs)
    told = [line for line in check.start(1) if "momi chooses by" in line]
    assert [said in line for line in told] == [True] * bool(said)
