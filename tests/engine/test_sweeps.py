"""Which runs a sweep has: grids, lists, both; names of folders; what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from usepcli.engine import sweeps
from usepcli.errors import ConfigError, UsageError
from usepcli.profile.yaml_file import parse_value


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    return str(path)


def test_a_grid_on_the_command_line():
    found = sweeps.read(["optim.lr=1e-3,3e-4", "objective.critics=[a, b],[]"])
    assert [run.sets for run in found.runs] == [
        ["optim.lr=1e-3", "objective.critics=[a, b]"], ["optim.lr=1e-3", "objective.critics=[]"],
        ["optim.lr=3e-4", "objective.critics=[a, b]"], ["optim.lr=3e-4", "objective.critics=[]"],
    ]  # fmt: skip
    assert found.keys == ["optim.lr", "objective.critics"]
    names = [run.name for run in found.runs]
    assert len(set(names)) == 4 and all("/" not in name and " " not in name for name in names)


def test_a_list_meets_all_of_a_grid(tmp_path: Path):
    text = """\
profile: small_pit
grid: {seed: [0, 1]}
runs:
  one: {objective.critics: [ctx_wave, inst_stft], train.ema: 0.99}
  two: {loss.name: "snr", model.zero_last: true}
evaluate: {split: test, metric: [si-snri]}
"""
    found = sweeps.read([written(tmp_path, text)])
    assert found.profile == "small_pit" and found.evaluate == {"split": "test", "metric": ["si-snri"]}
    assert [run.name for run in found.runs] == ["one,seed=0", "one,seed=1", "two,seed=0", "two,seed=1"]
    assert found.runs[1].sets == ["objective.critics=[ctx_wave, inst_stft]", "train.ema=0.99", "seed=1"]
    assert found.runs[2].settings == {"loss.name": "snr", "model.zero_last": "true", "seed": "0"}


@pytest.mark.parametrize("value", [True, None, 3, 1e-5, "a word", "x: y", "1", ["a", "b c", "d, e"], [], [1, [2.5]]])
def test_values_come_back_from_the_words_of_set(tmp_path: Path, value):
    assert parse_value(sweeps._text("here", value)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grids: {seed: [0]}", "grid.yaml:1: grids"),
        ("grid: {seed: 3}", "grid.yaml:1: grid.seed: found 3; expected a list"),
        ("grid: {seed: [1, 1]}", "one value stands there twice"),
        ("grid: {optim: [{lr: 1.0}]}", "expected dotted keys"),
        ("runs:\n  one: 3", "grid.yaml:2: runs.one: expected a name"),
        ("runs: {'../up': {seed: 1}}", "expected a name of letters"),
        ("grid: {seed: [0]}\nruns: {one: {seed: 1}}", "stands in the grid, too"),
        ("profile: small_pit", "neither grid nor runs"),
        ("grid: {seed: [0]}\nevaluate: {metrics: [snr]}", "did you mean 'metric'"),
        ("grid: [seed]", "expected keys and values"),
        ("grid: {seed: []}", "grid.seed: found []; expected a list"),
        ("- seed", "grid.yaml: found no keys at the top"),
        ("grid: {seed: [0]", "grid.yaml:1: found broken YAML"),
        ("runs:\n  one: {seed: 1}\n  one: {seed: 2}", "grid.yaml:3: runs.one: found the key a second time"),
        ("runs: {one: {seed: 1}, two: {seed: 1}}", "runs one and two have the same settings"),
        ("grid: {seed: [0]}\nevaluate: {limit: ten}", "evaluate.limit: found 'ten'; expected a number"),
        ("grid: {seed: [0]}\nevaluate: {metric: [1]}", "evaluate.metric: found [1]; expected a word"),
        (
            "grid: {a.b: [" + ", ".join(map(str, range(40))) + "], c: [" + ", ".join(map(str, range(40))) + "]}",
            "1600 runs",
        ),
    ],
)
def test_files_that_are_no_sweep(tmp_path: Path, text: str, said: str):
    with pytest.raises(ConfigError) as raised:
        sweeps.read([written(tmp_path, text)])
    assert said in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("words", [["seed"], ["seed=1,1"], ["seed=1", "seed=2"], ["=1"], ["grid.yaml", "seed=1"]])
def test_words_that_are_no_sweep(words: list[str]):
    with pytest.raises(UsageError, match="--sweep: "):
        sweeps.read(words)
