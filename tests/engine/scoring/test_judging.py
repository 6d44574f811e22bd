"""How good a judge is, on a judge of tones of which every answer is known."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from usepcli import registry
from usepcli.audio import io
from usepcli.data.manifest import Manifest, Row
from usepcli.encoders.base import Judge
from usepcli.engine.scoring import judging, run
from usepcli.errors import BadInput, PartialFailure, UsageError
from usepcli.profile.schema import JUDGED

RATE = 8000
TONES = {"low": 300, "middle": 1000, "high": 3000}


class Tones(Judge):
    """Hears how much of each tone is in a wave; `path` holds a file with what it takes each phrase for."""

    name, rate, dim, scale = "tones", RATE, 3, 2.0
    opened: list[str] = []  # noqa: RUF012 - counted by the tests

    def __init__(self, path: str = "", sha256: str = "") -> None:
        super().__init__()
        self.taken = json.loads((Path(path) / "taken.json").read_text())
        self.known_by(path, "0" * 64, sha256)
        self.opened.append(path)

    def hear(self, waves: Tensor, rate: int = 0) -> Tensor:
        power = torch.fft.rfft(waves).abs()
        place = [round(hertz * waves.shape[-1] / (rate or RATE)) for hertz in TONES.values()]
        return torch.nn.functional.normalize(power[:, place], dim=-1)

    def read(self, phrases: Sequence[str]) -> Tensor:
        return torch.eye(3)[[list(TONES).index(self.taken.get(phrase, phrase)) for phrase in phrases]]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(registry.JUDGES, "tones", f"{__name__}:Tones")
    monkeypatch.setattr(registry, "load", lambda kind, name, load=registry.load: Tones if name == "tones" else
                        load(kind, name))  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Tones.opened.clear()
    judge(tmp_path / "right")


def judge(folder: Path, **taken: str) -> Path:
    folder.mkdir()
    (folder / "taken.json").write_text(json.dumps(taken))
    return folder


def manifest(root: Path, *asked: tuple[str, ...], channels: int = 1) -> Path:
    """Write one mixture for each tuple of tones; '' is silence, asked for as 'low'."""
    rows = []
    for i, queries in enumerate(asked):
        for k, query in enumerate(queries):
            time = np.arange(4000) / RATE
            wave = 0.2 * np.sin(2 * np.pi * TONES[query] * time) if query else 0 * time
            io.write(root / f"{i}_{k}.wav", np.stack([wave] * channels).astype(np.float32), RATE, "FLOAT")
        sources = tuple(f"{i}_{k}.wav" for k in range(len(queries)))
        named = tuple(query or "low" for query in queries)
        rows.append(Row(f"m{i}", "test", "", sources, "", RATE, 4000, len(queries), queries=named))
    Manifest(rows, root, root / "manifest.csv").write()
    return root / "manifest.csv"


def judged(path: str, **options: Any) -> tuple[list[dict[str, str]], dict[str, Any]]:
    done = run.evaluate(judge="tones", judge_path=Path(path), quiet=True, **options)
    with open(done.out / "items.csv", newline="") as file:
        return list(csv.DictReader(file)), {row["metric"]: row for row in done.record["summary"]}


def test_every_measure_is_told() -> None:
    assert list(judging.MEANT) == list(JUDGED)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_judge_that_is_right(tmp_path: Path, channels: int) -> None:
    rows, means = judged("right", data=manifest(tmp_path, ("low", "high"), ("middle", "low"), channels=channels))
    for name in ("own-phrase", "above-mixture", "above-others", "top-1", "top-5"):
        assert (means[name]["mean"], means[name]["n"], means[name]["missing"]) == (100, 4, 0)
    expected = {"cos-own": 1, "cos-mixture": math.sqrt(0.5), "cos-others": 0}
    assert {name: means[name]["mean"] for name in expected} == pytest.approx(expected, abs=1e-4)
    assert means["nats"]["mean"] == pytest.approx(math.log(math.exp(2) + 2) - 2, abs=1e-4)
    assert [row["nearest"] for row in rows] == [row["query"] for row in rows] == ["low", "high", "middle", "low"]


def test_a_judge_that_confuses_two_phrases(tmp_path: Path) -> None:
    judge(tmp_path / "wrong", low="high", high="low")
    rows, means = judged("wrong", data=manifest(tmp_path, ("low", "high"), ("low", "middle")))
    # The first item is wrong throughout, and of the second the low tone is taken for one that is not there.
    assert [float(row["own-phrase"]) for row in rows] == [0, 0, 0, 100]
    assert [float(row["top-1"]) for row in rows] == [0, 0, 0, 100] and means["top-5"]["mean"] == 100
    assert [row["nearest"] for row in rows] == ["high", "low", "high", "middle"]
    assert [float(row["above-others"]) for row in rows] == [0, 0, 0, 100]


def test_what_cannot_be_asked_is_counted_with_its_reason(tmp_path: Path) -> None:
    place = manifest(tmp_path, ("low",), ("low", "low"), ("high", ""), ("middle", "low"))
    table = Manifest.read(place)
    lost = Row("m9", "test", "", ("9_0.wav",), "", RATE, 4000, 1, queries=("low",))
    none = Row("m8", "test", "", ("0_0.wav",), "", RATE, 4000, 1)
    Manifest([*table.rows, lost, none], tmp_path, place).write()
    with pytest.raises(PartialFailure, match="2 of 6 items have no scores"):
        judged("right", data=place)
    with open(tmp_path / f"judge_tones_{tmp_path.name}" / "items.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    reasons = [row["reason"] for row in rows]
    alone = "no other phrase in its mixture"
    assert reasons[:7] == [alone, alone, alone, alone, "silent source", "", ""]
    assert reasons[7].startswith("not scored: ") and reasons[8] == "not scored: no queries"
    assert all(row["above-mixture"] == "nan" for row in rows[:5])
    assert [row["top-1"] != "nan" for row in rows] == [True] * 4 + [False] + [True] * 2 + [False] * 2


def test_the_same_command_opens_no_judge_again_and_another_judge_is_another_result(tmp_path: Path) -> None:
    place = manifest(tmp_path, ("low", "high"))
    judge(tmp_path / "wrong", low="high", high="low")
    judged("right", data=place, out=tmp_path / "a")
    judged("right", data=place, out=tmp_path / "a")
    assert Tones.opened == ["right"]
    done = run.evaluate(judge="tones", judge_path=Path("wrong"), data=place, out=tmp_path / "b", quiet=True,
                        versus=[tmp_path / "a"])  # fmt: skip
    told = {row["metric"]: row["difference"] for row in done.record["versus"]["rows"]}
    assert told["own-phrase"] == -100 and told["top-5"] == 0
    assert done.record["judge"] | {"path": ""} == {
        "name": "tones", "path": "", "phrases": 2, "sha256": "0" * 64, "scale": 2.0, "rate": RATE,
    }  # fmt: skip


def test_shares_of_the_work_come_to_the_same(tmp_path: Path) -> None:
    place = manifest(tmp_path, ("low", "high"), ("middle", "high"), ("low", "middle"))
    whole, _ = judged("right", data=place, out=tmp_path / "whole")
    for share in ("1/2", "2/2"):
        run.evaluate(judge="tones", judge_path=Path("right"), data=place, out=tmp_path / "shared", shard=share)
    assert judged("right", data=place, out=tmp_path / "shared", merge=True)[0] == whole


def test_no_words_is_one_line(tmp_path: Path) -> None:
    place = manifest(tmp_path, ("low", "high"))
    rows = [row.__class__(**{**row.__dict__, "queries": ()}) for row in Manifest.read(place).rows]
    Manifest(rows, tmp_path, place).write()
    with pytest.raises(BadInput, match="no item of split test has queries"):
        judged("right", data=place)
    assert not (tmp_path / f"judge_tones_{tmp_path.name}").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"judge": "tonse"}, "unknown judge 'tonse'.*did you mean 'tones'"), ({"judge_path": Path("right")}, "--judge"),
        ({"judge": "tones"}, "--judge-path DIR"),
        ({"judge": "tones", "judge_path": Path("right"), "metric": ["snr"]}, "leave --metric away"),
        ({"judge": "tones", "judge_path": Path("right"), "model": "default"}, "leave MODEL away"),
        ({"judge": "tones", "judge_path": Path("right")}, "name a manifest with queries, --data"),
    ],
)  # fmt: skip
def test_wrong_usage(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run.evaluate(**options)


def test_the_command_shows_the_measures_and_writes_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                        capsys: Callable[..., Any]) -> None:  # fmt: skip
    from usepcli.cli.app import main

    manifest(tmp_path, ("low", "high"))
    monkeypatch.setattr("sys.argv", ["usep", "evaluate", "--judge", "tones", "--judge-path", "right", "--data", ".",
                                     "-o", "found"])  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    assert not stop.value.code and out.splitlines()[1].split()[:2] == ["own-phrase", "100.00"]
    assert "judge: tones (right)" in err and "2 phrases" in err
    assert {path.name for path in (tmp_path / "found").iterdir()} >= {"items.csv", "summary.csv", "evaluate.json"}
