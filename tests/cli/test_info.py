"""usep info."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from usepcli.cli.app import app
from usepcli.errors import BadInput, InputNotFound
from usepcli.weights import build, cards, store

RUNNER = CliRunner()


def _json(path: Path) -> dict:
    done = RUNNER.invoke(app, ["info", str(path), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_model_file(model_file: Path):
    facts = _json(model_file)
    model, card = store.load_model(model_file)
    assert facts["architecture"] == "conformer_mask"
    assert facts["parameters"] == model.n_params
    assert facts["gflop_per_second"] == round(model.flops_per_second() / 1e9, 4) > 0
    assert (facts["sample_rate"], facts["outputs"], facts["objective"]) == (8000, 2, "pit")
    assert (facts["training_data"], facts["licence"], facts["credits"]) == ("toys", "CC0-1.0", "nobody")
    assert facts["scores"] == card.scores
    assert facts["latency_ms"] is None and facts["causal"] is False and facts["live"] is False
    assert len(facts["sha256"]) == 64


def test_a_live_model_and_its_latency(tmp_path: Path):
    settings = {"causal": True, "norm": "cumln", "input_norm": "none"}
    model = build.model({"name": "convtasnet", "preset": "tiny", **settings})
    card = cards.Card(name="live", model=build.config_of(model), sample_rate=8000, n_src=2)
    store.save_model(tmp_path / "live.safetensors", model.state_dict(), card)
    facts = _json(tmp_path / "live.safetensors")
    assert facts["live"] is True and facts["latency_ms"] == 2.0


def test_a_card_that_says_what_the_model_takes_is_believed_and_gives_the_same(model_file: Path, tmp_path: Path):
    model, card = store.load_model(model_file)
    card.cost = build.cost_of(model)
    told = tmp_path / "told.safetensors"
    told.write_bytes(cards.with_card(model_file.read_bytes(), card))
    measured, read = _json(model_file), _json(told)
    assert {key for key in measured if measured[key] != read[key]} == {"file", "file_bytes"}
    card.cost["flops_per_second"] = 5e9
    told.write_bytes(cards.with_card(told.read_bytes(), card))
    assert _json(told)["gflop_per_second"] == 5


def test_damaged_weights_are_noticed(model_file: Path):
    raw = bytearray(model_file.read_bytes())
    raw[-10] ^= 1
    model_file.write_bytes(raw)
    raised = RUNNER.invoke(app, ["info", str(model_file)]).exception
    assert isinstance(raised, BadInput) and "do not match their sha256" in str(raised)


def test_text_has_one_line_per_fact(model_file: Path):
    lines = RUNNER.invoke(app, ["info", str(model_file)]).stdout.splitlines()
    keys = [line.split()[0] for line in lines if line[0] != " "]
    assert len(set(keys)) == len(keys)
    assert "settings.dim" in keys
    score = next(line for line in lines if line.startswith("scores"))
    assert "si-snri 7.5 dB on toy test; protocol: mean over sources" in score


def test_long_lists_are_cut_in_text_and_whole_in_json(tmp_path: Path):
    words = [f"word{k}" for k in range(1000)]
    model = build.model({"name": "cond_unet", "preset": "tiny", "ngf": 2, "conditioner": "labels", "classes": words})
    config = build.config_of(model)
    card = cards.Card(name="m", model=config, sample_rate=8000, n_src=0)
    store.save_model(tmp_path / "m.safetensors", model.state_dict(), card)
    shown = " ".join(RUNNER.invoke(app, ["info", str(tmp_path / "m.safetensors")]).stdout.split())
    assert "word599 and 400 more, which --json lists" in shown and "word600" not in shown
    assert _json(tmp_path / "m.safetensors")["settings"]["classes"] == words


def test_what_a_model_by_query_was_asked_for_stands_the_best_first(tmp_path: Path):
    model = build.model({"name": "cond_unet", "preset": "tiny", "conditioner": "labels", "classes": ["dog", "rain"]})
    phrases = {"rain": [-0.5, 3], "dog": [4.25, 12]}
    card = cards.Card(name="m", model=build.config_of(model), sample_rate=8000)
    card.tried = {"metric": "si-snri", "data": "toy test", "phrases": phrases}
    store.save_model(tmp_path / "m.safetensors", model.state_dict(), card)
    shown = " ".join(RUNNER.invoke(app, ["info", str(tmp_path / "m.safetensors")]).stdout.split())
    assert "tried 2 phrases on toy test, si-snri (items): dog 4.2 (12), rain -0.5 (3)" in shown
    assert _json(tmp_path / "m.safetensors")["tried"]["phrases"] == phrases
    for wrong in ({"phrases": {"dog": 4}}, {"phrases": {"dog": [True, 1]}}, {"data": "toy"}):
        with pytest.raises(ValueError, match=r"tried: found .*; expected metric, data, phrases"):
            cards.Card.from_json(cards.Card(tried=wrong).to_json())


def test_run_before_its_first_validation(run_folder: Path):
    facts = _json(run_folder)
    assert (facts["step"], facts["epoch"], facts["skipped"]) == (40, 2, 1)
    assert (facts["architecture"], facts["objective"]) == ("conformer_mask", "mixit")
    assert facts["training_data"] == "data/two, data/more"
    assert _json(run_folder / "last.ckpt")["step"] == 40


def test_training_data_names_each_folder_once(run_folder: Path):
    record = run_folder / "run.json"
    held = json.loads(record.read_text())
    held["profile"]["data"] = {"manifest": "data/two", "pool": ["data/two/", "data/more", "data/two"]}
    record.write_text(json.dumps(held))
    assert _json(run_folder)["training_data"] == "data/two, data/more"


def test_run_with_a_best_model(run_folder: Path, model_file: Path):
    shutil.copy(model_file, run_folder / "best.safetensors")
    facts = _json(run_folder)
    assert (facts["step"], facts["name"], facts["objective"]) == (40, "toy", "pit")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda p: None, InputNotFound),
        (lambda p: p.mkdir(), InputNotFound),
        (lambda p: p.write_bytes(b"nonsense"), BadInput),
        (lambda p: p.write_bytes(b""), BadInput),
    ],
)
def test_what_is_no_model(make, error: type[Exception], tmp_path: Path):
    for name in ("x.safetensors", "x.ckpt"):
        path = tmp_path / name
        make(path)
        raised = RUNNER.invoke(app, ["info", str(path)]).exception
        assert isinstance(raised, error) and name in str(raised)


def test_broken_run_record(run_folder: Path):
    (run_folder / "run.json").write_text("{}")
    assert isinstance(RUNNER.invoke(app, ["info", str(run_folder)]).exception, BadInput)


def test_a_name_is_the_model_also_beside_a_folder_called_alike(
    model_file: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("USEP_MODELS", str(model_file.parent))
    monkeypatch.chdir(tmp_path)
    for name in ("toy", "default"):
        (tmp_path / name).mkdir(exist_ok=True)
    assert Path(_json(Path("toy"))["file"]).samefile(model_file)
    assert _json(Path("default"))["name"] == "default"
    shutil.copy(run_folder / "last.ckpt", tmp_path / "default")
    shutil.copy(run_folder / "last.ckpt", tmp_path / "toy")
    assert _json(Path("default"))["name"] == "default" and _json(Path("toy"))["run"] == "toy"
