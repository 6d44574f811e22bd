"""Recordings separated by queries: the files, their names, the tables, and what is refused."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from usepcli import Separator, registry
from usepcli.audio import io
from usepcli.cli.app import app
from usepcli.errors import BadInput, InputNotFound, OutputError, UsageError, UsepError
from usepcli.separator.how import How, Trace
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


@pytest.fixture
def judging(model: Path, recording: Path, tmp_path: Path) -> Path:
    """The same model, calibrated such that in the recording the dog is there and the rain is not."""
    trace = Trace()
    wave, rate = io.read(recording)
    Separator.load(model, "cpu").ask([DOG, RAIN])(wave, rate, trace=trace)
    assert trace.evidence is not None
    dog, rain = trace.evidence.loudest(9.0)[:, 0]
    weight = 8 / (dog - rain)  # odds of e^4 and e^-4
    net, card = store.load_any(model)
    presence = {"weights": {"level": weight}, "bias": -weight * (dog + rain) / 2, "window_s": 9.0}
    store.save_model(tmp_path / "judging.safetensors", net.state_dict(), replace(card, presence=presence))
    return tmp_path / "judging.safetensors"


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


def test_what_is_judged_absent_is_a_silent_file_and_stays_in_the_residual(
    tmp_path: Path, judging: Path, recording: Path
):  # fmt: skip
    out = tmp_path / "o"
    done = usep(*ask(recording, judging, DOG, RAIN), "-o", out, "--report")
    assert done.exit_code == 0 and "'rain' is judged absent (presence 0.02): its file is silent" in done.stderr
    assert re.search(r"a dog barking +0.98 +present", done.stdout) and re.search(r"rain +0.02 +absent", done.stdout)
    waves = {name: io.read(out / f"in_{name}.wav")[0] for name in ("a_dog_barking", "rain", "residual")}
    assert not waves["rain"].any() and np.array_equal(sum(waves.values()), io.read(recording)[0])
    assert [(row["presence"], row["silenced"]) for row in rows(out)] == [
        ("0.9820", "false"), ("0.0180", "true"), ("", "")
    ]  # fmt: skip
    assert "presence 0.02" in next(out.glob("*.html")).read_text()
    again = usep(*ask(recording, judging, DOG, RAIN), "-o", out, "--json")
    told = json.loads(again.stdout)["sources"]
    assert [one.get("presence") for one in told] == [0.982, 0.018, None] and told[1]["silenced"]
    # What the dog's file holds is the same, whatever else is asked or silenced.
    assert usep(*ask(recording, judging, DOG, RAIN), "-o", tmp_path / "p", "--always").exit_code == 0
    assert io.read(tmp_path / "p" / "in_rain.wav")[0].any() and rows(tmp_path / "p")[1]["silenced"] == "false"
    np.testing.assert_allclose(io.read(tmp_path / "p" / "in_a_dog_barking.wav")[0], waves["a_dog_barking"], atol=1e-4)
    # All that is asked is absent, and a file is silent altogether.
    assert usep(*ask(recording, judging, RAIN), "-o", tmp_path / "q").exit_code == 0
    assert np.array_equal(io.read(tmp_path / "q" / "in_residual.wav")[0], io.read(recording)[0])
    io.write(tmp_path / "none.wav", np.zeros((1, 9000), np.float32), 8000)
    nothing = usep(*ask(tmp_path / "none.wav", judging, DOG), "-o", tmp_path / "r")
    assert nothing.exit_code == 0 and rows(tmp_path / "r")[0]["presence"] == "0.0000"


def test_a_model_that_was_not_calibrated_gives_no_number(tmp_path: Path, model: Path, recording: Path):
    done = usep(*ask(recording, model, DOG), "-o", tmp_path / "o")
    assert "not calibrated" in done.stdout and done.stderr.count("the model is not calibrated") == 1
    assert [(row["presence"], row["silenced"]) for row in rows(tmp_path / "o")] == [("", "false"), ("", "")]


def test_what_is_to_be_taken_out(tmp_path: Path, model: Path, judging: Path, recording: Path):
    whole = io.read(recording)[0]
    line = ["separate", recording, "--without", RAIN, "--without", "wind"]
    assert usep(*line, "--model", model, "-o", tmp_path / "o").exit_code == 0
    names = ["in_rain.wav", "in_wind.wav", "in_without_rain_and_wind.wav"]
    assert [row["output"] for row in rows(tmp_path / "o")] == names
    parts = [io.read(tmp_path / "o" / name)[0] for name in names]
    assert np.array_equal(sum(parts), whole) and all(part.any() for part in parts)
    # Nothing to be taken out: the input itself.
    assert usep(*line[:4], "--model", judging, "-o", tmp_path / "p").exit_code == 0
    assert np.array_equal(io.read(tmp_path / "p" / "in_without_rain.wav")[0], whole)
    # Beside a query, the residual lacks it.
    assert usep(*ask(recording, model, DOG), "--without", RAIN, "-o", tmp_path / "q").exit_code == 0
    assert [row["source"] for row in rows(tmp_path / "q")] == ["a_dog_barking", "rain", "residual"]
    assert np.array_equal(sum(io.read(path)[0] for path in (tmp_path / "q").glob("in_*.wav")), whole)


def test_a_caption_is_asked_for_its_phrases(tmp_path: Path, model: Path, recording: Path):
    line = ["separate", recording, "--model", model, "--caption", "A dog barks while rain falls"]
    done = usep(*line, "-o", tmp_path / "o")
    assert "--caption: asks for A dog barks; Rain falls" in done.stderr
    assert [row["query"] for row in rows(tmp_path / "o")] == ["A dog barks", "Rain falls", ""]
    assert usep(*line, "--query", "a dog  barks", "-o", tmp_path / "p").exit_code == 0
    assert [row["query"] for row in rows(tmp_path / "p")] == ["a dog  barks", "Rain falls", ""]


def test_a_clip_stands_for_a_query_where_the_model_hears(
    tmp_path: Path, model: Path, recording: Path, monkeypatch: pytest.MonkeyPatch
):  # fmt: skip
    line = ["separate", recording, "--model", model, "-o", tmp_path / "o", "--like"]
    (tmp_path / "not.wav").write_text("no sound")
    io.write(tmp_path / "silent.wav", np.zeros((1, 8000), np.float32), 8000)
    io.write(tmp_path / "long.wav", np.full((1, 8000 * 61), 0.1, np.float32), 8000)
    for clip, kind, said in (
        (recording, BadInput, "knows words alone"), (tmp_path / "none.wav", InputNotFound, "no such file"),
        (tmp_path / "not.wav", BadInput, "not.wav"), (tmp_path / "silent.wav", BadInput, "is silent"),
        (tmp_path / "long.wav", BadInput, "lasts 61 s"),
    ):  # fmt: skip
        assert refused(usep(*line, clip), kind, said) and not (tmp_path / "o").exists()
    # A model that hears: a clip's level says which of its words is meant.
    net = registry.load("model", "queried_net")
    words = {True: DOG, False: RAIN}
    monkeypatch.setattr(net, "listen", lambda self, wave, rate: self.encode([words[bool(wave.std() > 0.1)]]))
    io.write(tmp_path / "bark.wav", np.random.default_rng(0).uniform(-0.5, 0.5, (2, 4000)), 16000)
    assert usep(*line, tmp_path / "bark.wav", "--query", RAIN).exit_code == 0
    assert [(row["source"], row["query"]) for row in rows(tmp_path / "o")] == [
        ("rain", RAIN), ("like_bark", "like bark"), ("residual", "")
    ]  # fmt: skip
    assert usep(*ask(recording, model, DOG, RAIN), "-o", tmp_path / "p").exit_code == 0
    heard, said = io.read(tmp_path / "o" / "in_like_bark.wav")[0], io.read(tmp_path / "p" / "in_a_dog_barking.wav")[0]
    np.testing.assert_allclose(heard, said, atol=1e-4)
    again = usep(*line, tmp_path / "bark.wav", "--query", RAIN)
    assert again.exit_code == 0 and "1 of 1 files are done" in again.stderr


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
        (["A  Dog", "a dog"], "'a dog' is asked twice"),
        (["rain", "The sound of rain"], "'The sound of rain' is asked twice"),
        (["a" * 5000], "5000 letters"),
        (["a" * 1001], "1001 letters"),
        ([f"sound {k}" for k in range(1000)], "found 1000 queries; expected at most 100"),
    ],
)  # fmt: skip
def test_queries_that_are_none(tmp_path: Path, model: Path, recording: Path, queries: list[str], said: str):
    found = usep(*ask(recording, model, *queries), "-o", tmp_path / "o")
    assert refused(found, UsageError, said) and not (tmp_path / "o").exists()


def test_without_a_model_what_is_asked_for_comes_from_the_one_for_words(tmp_path: Path, recording: Path):
    done = usep("separate", recording, "--query", DOG, "-Q", RAIN, "-o", tmp_path / "o", "--always")
    assert done.exit_code == 0 and "model words_small: " in done.stderr
    found = [io.read(tmp_path / "o" / f"in_{name}.wav")[0] for name in ("a_dog_barking", "rain", "residual")]
    assert np.abs(np.sum(found, 0) - io.read(recording)[0]).max() < 3 / 32768  # three roundings to 16 bits
    assert found[0].any() and not np.array_equal(found[0], found[1])
    done = usep("remix", recording, "--gain", f"{DOG}=-12", "-o", tmp_path / "calm.wav", "--dry-run")
    assert done.exit_code == 0 and "so the model 'words_small' separates it first" in " ".join(done.stderr.split())
    done = usep("remix", recording, "--gain", "1=-12", "-o", tmp_path / "calm.wav", "--dry-run")
    assert done.exit_code == 0 and "so the model 'default' separates it first" in " ".join(done.stderr.split())
    done = usep("separate", recording, "--live", "-o", tmp_path / "live", "--dry-run")
    assert done.exit_code == 0 and "in_2.wav" in done.stdout


DEFAULT = ("--model", "default")


def test_what_does_not_go_with_queries(tmp_path: Path, model: Path, recording: Path):
    for line, said in {
        (*DEFAULT, "--query", RAIN): "takes no queries",
        ("--model", model, "--query", RAIN, "--rest", "share"): "--rest share",
        ("--model", model, "--query", RAIN, "--keep", "1"): "--keep",
        ("--model", model, "--query", RAIN, "--residual", "--rest", "leave"): "--residual",
        (*DEFAULT, "--without", RAIN): "takes no queries",
        (*DEFAULT, "--caption", "a dog barks"): "takes no queries",
        ("--model", model, "--caption", " "): "--caption: query 1 is empty",
        ("--model", model, "--without", ""): "is an empty text",
        ("--model", model, "--always"): "--always",
        ("--model", model, "--query", RAIN, "--without", "Rain"): "to be taken out",
        ("--model", model, "--query", DOG, "--without", RAIN, "--rest", "share"): "--rest share",
        ("--model", model, "--without", RAIN, "--rest", "leave"): "--rest leave",
    }.items():
        found = usep("separate", recording, *line, "-o", tmp_path / "o")
        assert refused(found, UsageError, said) and not (tmp_path / "o").exists()


def test_a_remix_by_words(tmp_path: Path, model: Path, judging: Path, recording: Path):
    """x + (g - 1) s for each sound s that is named, by what separate writes for it; the residual has a name, too."""
    whole, out = io.read(recording)[0], tmp_path / "new.wav"
    line = ["remix", recording, "--model", model, "--subtype", "FLOAT", "-o", out, "--overwrite"]
    assert usep(*ask(recording, model, DOG, RAIN), "--subtype", "FLOAT", "-o", tmp_path / "o").exit_code == 0
    dog, rain, rest = (io.read(tmp_path / "o" / f"in_{name}.wav")[0] for name in ("a_dog_barking", "rain", "residual"))
    assert usep(*line, "--gain", f"{DOG}=-20", "--mute", RAIN).exit_code == 0
    np.testing.assert_allclose(io.read(out)[0], whole - 0.9 * dog - rain, atol=1e-6)
    assert usep(*line, "--gain", "residual=-20", "--pan", f"{DOG}=1", "--mute", RAIN).exit_code == 0
    wanted = whole - 0.9 * rest - rain
    wanted[0] -= dog[0]
    np.testing.assert_allclose(io.read(out)[0], wanted, atol=1e-6)
    # What is judged absent stays as it is.
    line[3] = judging
    done = usep(*line, "--gain", f"{DOG}=-20", "--mute", RAIN)
    assert done.exit_code == 0 and "'rain' is judged absent and stays as it is" in done.stderr
    np.testing.assert_allclose(io.read(out)[0], whole - 0.9 * dog, atol=1e-6)
    assert usep(*line, "--gain", f"{DOG}=-20", "--mute", RAIN, "--always").exit_code == 0
    np.testing.assert_allclose(io.read(out)[0], whole - 0.9 * dog - rain, atol=1e-6)


def test_remixes_by_words_that_are_refused(tmp_path: Path, model: Path, recording: Path):
    stem = ["remix", recording, "-o", tmp_path / "new.wav"]
    for line, said in {
        ("--model", model): "was asked for nothing",
        ("--model", model, "--gain", "1=-6"): "no source has number 1",
        ("--model", model, "--mute", "residual"): "residual is what the named sounds leave",
        ("--model", model, "--gain", "Rain=-6", "--mute", "rain"): "'rain' is asked twice",
        ("--model", model, "--gain", "\u200b=-6"): "is empty",
        ("--model", model, "--gain", f"{'a' * 5000}=-6"): "5000 letters",
        ("--always", "--gain", "in=-6"): "--always",
        ("--model", "default", "--gain", "rain=-6"): "no such source",
    }.items():
        found = usep(*stem, *line)
        assert refused(found, UsageError, said), line
        assert not (tmp_path / "new.wav").exists()


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
