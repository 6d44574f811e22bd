"""Recordings separated by queries: the files, their names, the tables, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from usepcli import Separator, registry
from usepcli.audio import io
from usepcli.cli.app import app
from usepcli.errors import OutputError, UsageError, UsepError
from usepcli.separator.how import How
from usepcli.weights import build, store
from usepcli.weights.cards import Card

DOG, RAIN = "a dog barking", "rain"


@pytest.fixture(autouse=True, scope="module")
def parts(root: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root / "tests")
        patch.setitem(registry.TABLES["model"], "queried_net", "parts.queried_net:QueriedNet")
        yield


@pytest.fixture(scope="module")
def model(parts: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model by query at 8 kHz."""
    torch.manual_seed(0)
    net = build.model({"name": "queried_net", "preset": "tiny"})
    path = tmp_path_factory.mktemp("model") / "asked.safetensors"
    store.save_model(path, net.state_dict(), Card("asked", model=build.config_of(net), sample_rate=8000))
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A second and a bit in stereo at 11025 Hz, in 16 bits."""
    wave = np.random.default_rng(0).integers(-9000, 9000, (2, 12345)) / 32768
    io.write(tmp_path / "in.wav", wave.astype(np.float32), 11025)
    return tmp_path / "in.wav"


def usep(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(found: Result, kind: type[UsepError], said: str) -> bool:
    """Whether a command ended in an error of this class (and its exit code) that says this."""
    return type(found.exception) in (kind, *kind.__subclasses__()) and said in str(found.exception)


def ask(recording: Path, model: Path, *queries: str) -> list[object]:
    return ["separate", recording, "--model", model, *(word for query in queries for word in ("--query", query))]


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "outputs.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_file_for_each_query_and_the_residual_add_up(tmp_path: Path, model: Path, recording: Path):
    out = tmp_path / "o"
    done = usep(*ask(recording, model, DOG, RAIN), "-o", out, "--labels", "csv", "--report", "--json")
    assert done.exit_code == 0, done.output
    names = ["in_a_dog_barking.wav", "in_rain.wav", "in_residual.wav"]
    assert sorted(path.name for path in out.glob("*.wav")) == names
    whole, rate = io.read(recording)
    parts = [io.read(out / name) for name in names]
    assert all(other == rate and wave.shape == whole.shape for wave, other in parts)
    assert np.array_equal(sum(wave for wave, _ in parts), whole)
    assert [(row["source"], row["query"]) for row in rows(out)] == [
        ("a_dog_barking", DOG), ("rain", RAIN), ("residual", "")
    ]  # fmt: skip
    assert [one.get("query") for one in json.loads(done.stdout.splitlines()[0])["sources"]] == [DOG, RAIN, None]
    assert DOG in (out / "in_labels.csv").read_text() and DOG in next(out.glob("*.html")).read_text()
    # One query alone leaves all others to the residual.
    assert usep(*ask(recording, model, DOG), "-o", tmp_path / "one").exit_code == 0
    both = [io.read(tmp_path / "one" / f"in_{name}.wav")[0] for name in ("a_dog_barking", "residual")]
    assert np.array_equal(sum(both), whole)


def test_the_same_command_again_does_only_what_is_missing(tmp_path: Path, model: Path, recording: Path):
    out = tmp_path / "o"
    line = [*ask(recording, model, DOG, RAIN), "-o", out]
    assert usep(*line).exit_code == 0
    before = (out / "in_rain.wav").stat().st_mtime_ns
    again = usep(*line)
    assert again.exit_code == 0 and "1 of 1 files are done" in again.stderr
    assert (out / "in_rain.wav").stat().st_mtime_ns == before
    other = usep(*ask(recording, model, "wind", RAIN), "-o", out)
    assert refused(other, OutputError, "made with other settings") and len(rows(out)) == 3
    assert usep(*ask(recording, model, "wind"), "-o", out, "--rest", "leave").exit_code == 0
    (out / "in_rain.wav").unlink()
    assert usep(*line).exit_code == 0 and (out / "in_rain.wav").exists()


def test_one_table_holds_outputs_with_and_without_queries(tmp_path: Path, model: Path, recording: Path):
    out = tmp_path / "o"
    for line in (["separate", recording], ask(recording, model, DOG), ["separate", recording, "--name", "{i}_{stem}"]):
        assert usep(*line, "-o", out).exit_code == 0
    assert [row["query"] for row in rows(out)] == ["", "", DOG, "", "", ""]


def test_shares_come_together(tmp_path: Path, model: Path, recording: Path):
    line = [*ask(recording, model, DOG), "-o", tmp_path / "o"]
    assert all(usep(*line, "--shard", f"{k}/2").exit_code == 0 for k in (1, 2))
    assert usep(*line, "--merge").exit_code == 0
    assert [row["query"] for row in rows(tmp_path / "o")] == [DOG, ""]


@pytest.mark.parametrize(
    ("queries", "said"),
    [
        ([], "was asked for nothing"),
        ([""], "is an empty text"),
        (["rain", " \u3000"], "query 2 is empty"),
        (["\u200b"], "query 1 is empty"),
        (["rain\nwind"], r"holds the character '\n'"),
        (["\x1b[2J"], r"holds the character '\x1b'"),
        (["rain", " rain "], "'rain' is asked twice"),
        (["a" * 1001], "1001 letters"),
        ([f"sound {k}" for k in range(1000)], "found 1000 queries; expected at most 100"),
    ],
)  # fmt: skip
def test_queries_that_are_none(tmp_path: Path, model: Path, recording: Path, queries: list[str], said: str):
    found = usep(*ask(recording, model, *queries), "-o", tmp_path / "o")
    assert refused(found, UsageError, said) and not (tmp_path / "o").exists()


def test_what_does_not_go_with_queries(tmp_path: Path, model: Path, recording: Path):
    for line, said in {
        ("--query", RAIN): "takes no queries",
        ("--model", model, "--query", RAIN, "--rest", "share"): "--rest share",
        ("--model", model, "--query", RAIN, "--keep", "1"): "--keep",
        ("--model", model, "--query", RAIN, "--residual", "--rest", "leave"): "--residual",
    }.items():
        found = usep("separate", recording, *line, "-o", tmp_path / "o")
        assert refused(found, UsageError, said) and not (tmp_path / "o").exists()


def test_many_queries_at_once_are_those_alone(model: Path):
    words = [f"sound {k}" for k in range(20)]
    separator = Separator.load(model, "cpu")
    heard = []
    separator.model.hear.register_forward_hook(lambda *_: heard.append(1))
    wave = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    together = separator.ask(words)(wave, 8000, How(rest="leave")).sources
    assert len(heard) == 3  # 8, 8 and 4
    for k in (0, 7, 8, 19):
        alone = separator.ask([words[k]])(wave, 8000, How(rest="leave")).sources[0]
        assert np.abs(alone - together[k]).max() <= 1e-5 * np.abs(alone).max()


def test_from_python(tmp_path: Path, model: Path, recording: Path):
    asked = Separator.load(model, "cpu").ask([DOG, RAIN])
    assert asked.queries == (DOG, RAIN)
    made = asked.separate_file(recording, tmp_path / "o", How(rest="source"))
    assert [track.label for track in made.tracks] == [DOG, RAIN, "residual"]
    assert asked.ask([RAIN]).separate_file(recording, tmp_path / "p", How(rest="source")).settings != made.settings
    with pytest.raises(UsageError, match="asked for nothing"):
        Separator.load(model, "cpu").separate_file(recording, tmp_path / "q")
