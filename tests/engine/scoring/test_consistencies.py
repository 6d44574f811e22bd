"""Scores with mixture consistency and without: the same outputs of a network that is asked once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from usepcli.audio import io
from usepcli.data.manifest import Manifest, Row
from usepcli.engine.scoring import consistencies, evaluate
from usepcli.engine.scoring.protocols import PROTOCOLS
from usepcli.errors import UsageError
from usepcli.models.queried import Conditions, QueriedModel
from usepcli.models.separator import SeparationModel
from usepcli.weights import build

RATE = 8000
METRICS = ["si-snr", "snr"]


class Lossy(SeparationModel):
    """Gives the even and the odd samples, each at another level, so that they do not add up to the mixture."""

    def __init__(self, longest: int = 1 << 30, **common: Any) -> None:
        super().__init__(n_src=2, sample_rate=RATE, hop=1, **common)
        self.weight = nn.Parameter(torch.ones(()))
        self.longest, self.asked = longest, 0

    def estimate(self, mix: Tensor) -> Tensor:
        if mix.shape[-1] > self.longest:
            raise torch.OutOfMemoryError("too long")
        self.asked += 1
        odd = torch.arange(mix.shape[-1]) % 2
        return torch.stack([mix * odd * 0.7, mix * (1 - odd) * 0.4], 1)


def noises(root: Path, channels: int = 1, *lengths: int) -> Manifest:
    """Items of two sources of noise and no mixture file, one for each length in samples."""
    rows = []
    for i, frames in enumerate(lengths):
        shape = (2, frames, channels) if channels > 1 else (2, frames)
        for k, wave in enumerate(np.random.default_rng(i).normal(0, 0.1, shape)):
            io.write(root / f"{i}_{k}.wav", wave.astype(np.float32).T, RATE, "FLOAT")
        rows.append(Row(f"m{i}", "test", "", (f"{i}_0.wav", f"{i}_1.wav"), "", RATE, frames, 2))
    return Manifest(rows, root, root / "manifest.csv")


def told(rows: list[dict[str, Any]], system: str = "") -> list[str]:
    """Return the rows of a system, to the last digit, without its name."""
    found = [row for row in rows if row.get("system", "") == system]
    return [repr({key: value for key, value in row.items() if key != "system"}) for row in found]


@pytest.mark.parametrize("own", ["none", "uniform", "magsq"])
@pytest.mark.parametrize("channels", [1, 2])
def test_rows_are_those_of_models_of_that_consistency(tmp_path: Path, own: str, channels: int) -> None:
    data = noises(tmp_path, channels, 3000, 2000)
    model = Lossy(consistency=own)
    rows = evaluate.score_model(model, data, METRICS, consistency=("none", "uniform", "magsq"))
    assert model.asked == 2  # once for each item, whatever is made of it
    assert told(rows) == told(evaluate.score_model(Lossy(consistency=own), data, METRICS))
    for kind in ("none", "uniform", "magsq"):
        of_kind = evaluate.score_model(Lossy(consistency=kind), data, METRICS)
        assert told(rows, f"consistency {kind}") == told(of_kind)
    assert told(rows, "consistency none") != told(rows, "consistency uniform")


def test_a_protocol_counts_the_outputs_of_each(tmp_path: Path) -> None:
    data = noises(tmp_path, 1, 3000)
    of = {"protocol": PROTOCOLS["advpit2023"], "consistency": ("none",), "unprocessed": True}
    rows = evaluate.score_model(Lossy(consistency="uniform", consistency_when="eval").train(), data, [], **of)
    assert [row.get("system") for row in rows] == [None] * 2 + ["consistency none"] * 2 + ["unprocessed"] * 2
    assert rows[0]["si-snr"] != rows[2]["si-snr"] and rows[2]["n_est"] == 2


def test_where_memory_is_short_the_pieces_are_asked_once_too(tmp_path: Path) -> None:
    data = noises(tmp_path, 1, 40_000)
    alone, both = Lossy(20_000, consistency="uniform"), Lossy(20_000, consistency="uniform")
    assert told(evaluate.score_model(alone, data, METRICS)) == told(
        rows := evaluate.score_model(both, data, METRICS, consistency=("none",))
    )
    assert both.asked == alone.asked > 1 and len(told(rows, "consistency none")) == 2


def test_weights_that_were_learned_can_be_left_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = {"name": "conformer_mask", "preset": "tiny", "n_src": 2, "sample_rate": RATE, "consistency": "learned"}
    model = build.model(settings)
    with torch.no_grad():
        model.shares.bias.copy_(torch.tensor([2.0, -1.0]))
    rows = evaluate.score_model(model, noises(tmp_path, 1, 3000), METRICS, consistency=("learned", "none", "uniform"))
    assert told(rows) == told(rows, "consistency learned")
    assert len({*told(rows), *told(rows, "consistency none"), *told(rows, "consistency uniform")}) == 6


class Halves(QueriedModel):
    """Answers each query with half of the mixture."""

    def __init__(self) -> None:
        super().__init__(sample_rate=RATE, hop=1)
        self.weight = nn.Parameter(torch.ones(()))

    def encode(self, queries: Sequence[str]) -> Conditions:
        return (torch.zeros(len(queries)),)

    def estimate(self, mix: Tensor, *conditions: Tensor) -> Tensor:
        return self.weight * mix[:, None].repeat(1, conditions[0].shape[1], 1) / 2


def test_one_answer_alone_cannot_add_up_and_the_others_are_scored(tmp_path: Path) -> None:
    data = noises(tmp_path, 1, 3000, 3000)
    one, two = data.rows
    data.rows = [
        Row("one", "test", "", one.sources[:1], "", RATE, 3000, 1, queries=("a",)),
        Row("two", "test", "", two.sources, "", RATE, 3000, 2, queries=("a", "b")),
    ]
    rows = evaluate.score_model(Halves(), data, ["snr"], consistency=("uniform", "none"))
    assert [row["reason"] for row in rows if "system" not in row] == ["", "", ""]
    uniform = [row for row in rows if row.get("system") == "consistency uniform"]
    assert "the whole mixture" in uniform[0]["reason"] and math.isnan(uniform[0]["snr"])
    assert math.isfinite(uniform[1]["snr"]) and told(rows, "consistency none") == told(rows)


@pytest.mark.parametrize(
    ("asked", "own", "found"),
    [
        (["both"], "uniform", ("none",)),
        (["both"], "none", ("uniform",)),
        (["both", "none", "magsq"], "learned", ("none", "magsq")),
        (["learned"], "learned", ("learned",)),
        ([], "uniform", ()),
    ],
)
def test_with_and_without_is_what_the_model_has_and_has_not(asked: list[str], own: str, found: tuple[str, ...]) -> None:
    assert consistencies.of_model(asked, {"consistency": own}, "toy") == found


def test_weights_that_nobody_learned_are_refused() -> None:
    with pytest.raises(UsageError, match="toy was trained with consistency uniform and learned no weights"):
        consistencies.of_model(["none", "learned"], {"consistency": "uniform"}, "toy")


def test_what_the_rows_mean_is_said() -> None:
    said = consistencies.meaning(("none",), {"consistency": "uniform", "consistency_when": "eval"})
    assert said.startswith("separated: uniform, in its training there was none; consistency none: the same outputs")
