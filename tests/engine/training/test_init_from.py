"""Fine-tuning: the model follows the weights that a training begins with; what does not fit is named by its keys."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from usepcli.cli.app import app
from usepcli.engine.training.run import settings
from usepcli.engine.training.train import Trainer
from usepcli.errors import BadInput, ConfigError, InputNotFound
from usepcli.profile.load import load_profile
from usepcli.weights import cards, reach, store


@pytest.fixture
def begun(profile_file: Path, tmp_path: Path) -> Path:
    """A run of one step, of a network of other size than its profile's."""
    sets = ["model.layers=1", "model.ffn=24", "train.max_steps=1"]
    Trainer(load_profile(str(profile_file), sets), tmp_path / "begun").fit()
    return tmp_path / "begun"


def test_a_training_takes_over_the_model_of_the_weights_it_begins_with(
    begun: Path, profile_file: Path, tmp_path: Path
) -> None:
    line = ["train", "-p", str(profile_file), "--init-from", str(begun)]
    shown = CliRunner().invoke(app, [*line, "--print-config"])
    assert "layers: 1 " in shown.stdout and "# --init-from" in shown.stdout
    trainer = Trainer(settings(str(profile_file), str(begun), ["model.dropout=0.2"]), tmp_path / "more")
    weights = store.read_weights(begun / "best.safetensors")
    assert all(torch.equal(weights[k], v) for k, v in trainer.student.state_dict().items())
    trainer._close()
    done = CliRunner().invoke(app, [*line, "-o", str(tmp_path / "tuned"), "--set", "train.max_steps=2"])
    assert done.exit_code == 0 and "carries its licence" not in done.stderr  # CC0, as the profile's own
    model, card = store.load_model(tmp_path / "tuned")
    assert card.model["layers"] == 1 and card.profile["init_from"] == str(begun)
    assert any(not torch.equal(weights[k], v) for k, v in model.state_dict().items())
    again = CliRunner().invoke(app, [*line, "-o", str(tmp_path / "tuned"), "--set", "train.max_steps=3"])
    assert again.exit_code == 0 and "going on from step 2" in again.stderr


def test_what_does_not_fit_is_told_by_the_keys_that_differ(begun: Path, profile_file: Path, tmp_path: Path) -> None:
    for profile in (
        load_profile(str(profile_file), [f"init_from={begun}"]),
        settings(str(profile_file), str(begun), ["model.layers=2", "model.ffn=48"]),
    ):
        with pytest.raises(
            BadInput, match=r"do not fit.*model\.layers: 1 there, 2 here; model\.ffn: 24 there"
        ) as error:
            Trainer(profile, tmp_path / "run")
        assert f"--init-from {begun} takes over its model" in str(error.value)
    with pytest.raises(BadInput, match=r"weights for 8000 Hz.*model\.sample_rate: 8000 there, 16000 here"):
        Trainer(settings(str(profile_file), str(begun), ["model.sample_rate=16000"]), tmp_path / "run")
    with pytest.raises(InputNotFound, match=r"--init-from: unknown model 'defalt' \(did you mean 'default'"):
        settings(str(profile_file), "defalt")


def test_the_model_that_comes_with_usep_is_at_hand(profile_file: Path) -> None:
    profile, theirs = settings(str(profile_file), "default"), cards.read_card(reach.released()["default"])[0].model
    assert theirs.items() <= profile.model.items() and profile.init_from == "default"
    assert profile.origin["model.dim"] == "--init-from" and profile.data.segment_s == 0.25


def test_parts_of_a_model_are_taken_and_all_else_begins_anew(begun: Path, profile_file: Path, tmp_path: Path) -> None:
    theirs = store.read_weights(begun / "best.safetensors")
    part = next(iter(theirs)).split(".")[0]
    sets = [f"init_from={begun}", f"init_parts=[{part}]", "seed=7", "model.layers=2", "train.max_steps=1"]
    profile = load_profile(str(profile_file), sets)
    trainer = Trainer(profile, tmp_path / "run")
    own = trainer.student.state_dict()
    trainer._close()
    inside = {key for key in own if key.startswith(f"{part}.")}
    assert inside and all(torch.equal(own[key], theirs[key]) for key in inside)
    assert any(key in theirs and not torch.equal(own[key], theirs[key]) for key in own.keys() - inside)
    line = ["train", "-p", str(profile_file), "-o", str(tmp_path / "tuned")]
    done = CliRunner().invoke(app, line + [word for one in sets for word in ("--set", one)])
    assert done.exit_code == 0
    assert f"{len(inside)} of the model's {len(own)} tensors come from {begun} ({part})" in " ".join(
        done.stderr.split()
    )


def test_a_part_that_one_side_lacks_or_that_does_not_fit_is_named(
    begun: Path, profile_file: Path, tmp_path: Path
) -> None:
    def begin(*sets: str) -> None:
        Trainer(load_profile(str(profile_file), [*sets]), tmp_path / "run")

    with pytest.raises(BadInput, match=r"init_parts: \S+: 'encodr' is no part of the model, which has \w+, "):
        begin(f"init_from={begun}", "init_parts=[encodr]")
    parts = sorted({key.split(".")[0] for key in store.read_weights(begun / "best.safetensors")})
    with pytest.raises(BadInput, match=r"init_parts: .* do not fit.*model\.ffn: 24 there"):
        begin(f"init_from={begun}", f"init_parts=[{','.join(parts)}]")
    with pytest.raises(ConfigError, match=r"init_parts: found stem, of no model; set init_from"):
        begin("init_parts=[stem]")
