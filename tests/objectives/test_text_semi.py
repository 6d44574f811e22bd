"""Sources of some mixtures beside captions of the others: the terms, and that no other stem is ever opened."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from usepcli.audio import io
from usepcli.data.batch import Batch
from usepcli.data.known import Split, known
from usepcli.data.manifest import Manifest, Phrase, Row
from usepcli.engine.training.train import Trainer
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.magnitude import MagnitudeL1
from usepcli.models.queried import QueriedModel
from usepcli.objectives.text_semi import TextSemi
from usepcli.objectives.text_supervised import MixAndSeparate
from usepcli.objectives.text_weak import TextWeak
from usepcli.profile.load import load_profile

PROFILE = """\
licence: CC0
data: {{manifest: {manifest}, segment_s: 0, max_bad: 0.0}}
model: {{name: cond_unet, preset: tiny, classes: [{classes}]}}
loss: {{name: magnitude_l1}}
objective: {{name: text_semi, supervised: 0.25, cnt: 0}}
train: {{epochs: 1, batch_size: 4, log_every: 1, threads: 1}}
valid: {{metric: momi, mom_pairs: 1}}
"""
CLASSES = [f"class {k}" for k in range(8)]


def mixed() -> Batch:
    sources = torch.randn(5, 2, 800, generator=torch.Generator().manual_seed(0))
    mix, told = sources.sum(1), [True, False, False, True, False]
    sources[[1, 2, 4]] = 0.0
    queries = [("a 0.5", "b 1"), (), (), ("c 1", "a 0.25"), ()]
    phrases = [tuple(Phrase(f"{name} 0.25") for name in own) for own in ("ab", "cd", "ef", "ac", "gh")]
    return Batch(
        mix, sources, [*"vwxyz"], queries=queries, caption=["m 0.5"] * 5, phrases=phrases, known=told
    )  # fmt: skip


def test_known_mixtures_are_compared_with_their_sources_and_the_others_with_themselves(
    constant: type[QueriedModel],
) -> None:
    given, model, loss = mixed(), constant(), MagnitudeL1(weighted=False)
    made = TextSemi(model, loss, supervised_weight=3.0, weak_weight=2.0, url=1.0, crl=4.0, cnt=0.0)
    made.rng.manual_seed(0)
    found = made.losses(given)
    told, others = given.some([0, 3]), given.some([1, 2, 4])
    assert (
        others.sources is None
        and others.ids == ["w", "x", "z"]
        and told.queries == [given.queries[0], given.queries[3]]
    )
    supervised = MixAndSeparate(model, loss).losses(told)["mix_and_separate"]
    torch.testing.assert_close(found["supervised"], 3 * supervised)
    weak = TextWeak(model, loss, url=1.0, crl=4.0, cnt=0.0)
    weak.rng.manual_seed(0)
    wanted = weak.losses(others)
    assert {"supervised", *wanted} == found.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], 2 * value)
    assert made.step_logs["paired"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("which", [[0, 3], [1, 2]])
def test_a_batch_of_one_kind_has_nothing_to_say_of_the_other(which: list[int], constant: type[QueriedModel]) -> None:
    made = TextSemi(constant(), MagnitudeL1(), cnt=0.0)
    found = made.losses(mixed().some(which))
    assert {name: bool(value.detach()) for name, value in found.items()} == {
        "supervised": which == [0, 3], "url": which == [1, 2], "crl": which == [1, 2]
    }  # fmt: skip
    sum(found.values()).backward()
    assert math.isfinite(float(made.student.weight.grad))


@pytest.fixture
def scenes(tmp_path: Path) -> Manifest:
    """Twelve mixtures of two classes each for training, with all their stems."""
    draw, rows = np.random.default_rng(0), []
    for k in range(14):
        waves = 0.1 * draw.standard_normal((2, 1600)).astype(np.float32)
        names = (CLASSES[2 * k % 8], CLASSES[(2 * k + 1) % 8])
        for name, wave in zip("ab", waves, strict=True):
            io.write(tmp_path / f"{k}{name}.wav", wave, 8000)
        io.write(tmp_path / f"{k}.wav", waves.sum(0), 8000)
        rows.append(
            Row(
                f"{k}", "train" if k < 12 else "valid", f"{k}.wav", (f"{k}a.wav", f"{k}b.wav"), "", 8000, 1600, 2,
                label=";".join(names), queries=names, caption=names[0], phrases=(Phrase(names[0]), Phrase(names[1])),
            )
        )  # fmt: skip
    table = Manifest(rows, tmp_path, tmp_path / "manifest.csv")
    table.write()
    (tmp_path / "semi.yaml").write_text(PROFILE.format(manifest=tmp_path, classes=", ".join(CLASSES)))
    return table


def test_stems_of_the_other_items_are_never_opened(scenes: Manifest, tmp_path: Path) -> None:
    train = scenes.split("train")
    told = known(train, Split(0.25, 0))
    assert told.sum() == 3
    for row, keep in zip(train.rows, told, strict=True):
        for stem in row.sources if not keep else ():
            (tmp_path / stem).unlink()
    run = Trainer(load_profile(str(tmp_path / "semi.yaml")), tmp_path / "run")
    run.fit()
    assert run.step == 2 * 9 // 4 and not run.feed.bad and not (tmp_path / "run" / "bad_files.csv").exists()
    with open(tmp_path / "run" / "train.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(float(row[name]) > 0 for row in rows for name in ("supervised", "crl"))
    assert any(float(row["url"]) > 0 for row in rows)


def test_rows_say_themselves_which_sources_are_known(scenes: Manifest, tmp_path: Path) -> None:
    rows = [replace(row, sources=(), queries=()) if int(row.id) % 2 else row for row in scenes.rows]
    rows = [replace(row, caption="", phrases=()) if row.sources and row.split == "train" else row for row in rows]
    replace(scenes, rows=rows).write()
    profile = load_profile(str(tmp_path / "semi.yaml"), ["objective.supervised=0", "data.valid_split=train"])
    with pytest.raises(ConfigError, match="queries"):  # validation asks all of them
        Trainer(profile, tmp_path / "run")
    with pytest.raises(ConfigError, match="caption and item 0 has none"):
        Trainer(load_profile(str(tmp_path / "semi.yaml"), ["objective.supervised=0.25"]), tmp_path / "run")


def test_words_that_are_in_no_closed_list_are_told_before_the_first_step(scenes: Manifest, tmp_path: Path) -> None:
    for options, told in (
        (["objective.supervised=0.25", f"model.classes=[{', '.join(CLASSES[:-1])}]"], r"item 3: query 'class 7': none"),
        (["objective.name=weak_sup", "objective.classifier=0", f"objective.classes={tmp_path / 'few.txt'}"],
         r"0: query 'class 1', which is none of the 1 classes"),
    ):  # fmt: skip
        (tmp_path / "few.txt").write_text(CLASSES[0])
        with pytest.raises(BadInput, match=told):
            Trainer(load_profile(str(tmp_path / "semi.yaml"), options), tmp_path / "run")
        assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"supervised": 1.0}, "objective.supervised"),
        ({"supervised_weight": 0.0}, "objective.supervised_weight"),
        ({"weak_weight": math.inf}, "objective.weak_weight"),
        ({"supervised_seed": -1}, "objective.supervised_seed"),
    ],
)
def test_settings_that_mean_nothing(options: dict[str, Any], told: str, constant: type[QueriedModel]) -> None:
    with pytest.raises(ConfigError, match=told):
        TextSemi(constant(), MagnitudeL1(), cnt=0.0, **options)


def test_half_of_a_batch_is_enough_for_its_kind(constant: type[QueriedModel]) -> None:
    made = TextSemi(constant(), MagnitudeL1(), cnt=0.0)
    made.check(4)
    with pytest.raises(ConfigError, match="expected 4 or more"):
        made.check(3)
    TextSemi(constant(), MagnitudeL1(), url=0.0, cnt=0.0).check(2)
