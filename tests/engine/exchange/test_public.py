"""Public checkpoints: the layout of their makers in, and out comes what the makers' own classes made.

The stored outputs, and how they were made: benchmarks/public_vectors.py.
"""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from usepcli import registry
from usepcli.engine.exchange import foreign, foreign_source, hub_pull
from usepcli.engine.exchange.foreign_parts import Stated
from usepcli.errors import BadInput, UsageError
from usepcli.models.queried import Bound, QueriedModel
from usepcli.weights import store

STORED = Path(__file__).parent / "public"
NAMES = sorted(path.stem for path in STORED.glob("*.npz"))
LARGEST = 1e-5
UNUSED = re.compile(r"decoder_block\d+(?:\.bn2\.|->beta2\.)")  # AudioSep's
_DRAWN = runpy.run_path(str(Path(__file__).with_name("drawn.py")))
tensor, wave = _DRAWN["tensor"], _DRAWN["wave"]


def told(name: str) -> dict[str, Any]:
    held: dict[str, Any] = json.loads(str(np.load(STORED / f"{name}.npz")["told"]))
    return held


def states(facts: dict[str, Any]) -> dict[str, dict[str, torch.Tensor]]:
    """Return the tensors of every file; buffers, which nothing may read, are zeros."""
    same = facts.get("same", {})
    return {
        file: {
            facts["prefix"] + name: torch.zeros(shape)
            if base is None
            else tensor(f"{file}:{same.get(name, name)}", shape, base)
            for name, (shape, base) in names.items()
        }
        for file, names in facts["layout"].items()
    }


def lay_out(facts: dict[str, Any], held: dict[str, dict[str, torch.Tensor]], folder: Path) -> Path:
    for name, text in facts["texts"].items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name, state in held.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".safetensors"):
            save_file(state, folder / name)
        else:
            torch.save({facts["wrap"]: state, **facts.get("more", {})} if facts["wrap"] else state, folder / name)
    return folder


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_output_is_the_makers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    facts = told(name)
    folder = lay_out(facts, states(facts), tmp_path / "theirs")
    asked = facts.get("asked", 0)
    text = str(_DRAWN["clap"](tmp_path / "clap", asked)) if asked else ""
    done = hub_pull.pull(
        str(folder), name="own", sample_rate=facts.get("rate", 0), text_encoder=text, say=lambda line: None
    )
    model, card = store.load_any("own")
    if isinstance(model, QueriedModel):
        words = _DRAWN["queries"](asked)
        model = Bound(model, (words[None, :, None], torch.ones(1, len(words), 1, dtype=torch.bool), words[None]))
    data = np.load(STORED / f"{name}.npz")
    assert len(facts["lengths"]) == 5 and any(length % 2 for length in facts["lengths"])
    for length in facts["lengths"]:
        want, whole = data[f"est_{length}"], model(wave(length)).numpy()
        got = whole[..., ::3]  # as many are stored
        assert whole.shape[-1] == length and got.shape == want.shape and np.abs(want).max() > 1e-3
        assert np.abs(got - want).max() < LARGEST * max(1.0, np.abs(want).max())
    assert card.licences["code"] == registry.maker(foreign.maker_of(foreign_source.on_disk(folder))).CODE != ""
    assert set(done["files"]) == set(facts["layout"])


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_has_to_find_its_place(name: str, tmp_path: Path):
    facts = told(name)
    whole = states(facts)
    file = max(whole, key=lambda each: len(whole[each]))
    # One that is no buffer and that its maker uses, from the middle of the network.
    learned = [key for key, (_, base) in facts["layout"][file].items() if base is not None and not UNUSED.search(key)]
    lost = facts["prefix"] + learned[len(learned) // 2]
    without = {key: value for key, value in whole[file].items() if key != lost}
    for changed in (without, {**whole[file], facts["prefix"] + "extra.weight": torch.ones(3)}):
        folder = lay_out(facts, {**whole, file: changed}, tmp_path / f"changed{len(changed)}")
        with pytest.raises(BadInput) as caught:
            text = str(_DRAWN["clap"](folder / "clap", facts["asked"])) if "asked" in facts else ""
            stated = Stated(sample_rate=facts.get("rate", 0), text=text)
            foreign.import_model(folder, tmp_path / "own.safetensors", stated=stated)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "own.safetensors").exists()


def test_sepreformer_takes_the_last_epoch_and_compares_stages(tmp_path: Path):
    facts = told("sepreformer")
    folder = lay_out(facts, states(facts), tmp_path / "theirs")
    early = folder / "log" / "scratch_weights" / "epoch.0009.pth"
    torch.save({"model_state_dict": {"a": torch.ones(1)}}, early)
    found = foreign.read(folder)
    assert found.model["stages"] == 2 and found.model["sample_rate"] == 8000 and found.origin == "SepReformer"
    config = folder / "configs.yaml"
    config.write_text(config.read_text().replace("&stages 2", "&stages 3"))
    with pytest.raises(BadInput, match=r"weights of 2 stages, but configs\.yaml speaks of 3"):
        foreign.read(folder)
    with pytest.raises(UsageError, match="leave --mask and --blocks out"):
        foreign.read(folder, stated=Stated(mask="relu"))


def asteroid(model_name: str, **args: object) -> dict[str, object]:
    return {"model_name": model_name, "model_args": {"sample_rate": 8000, **args}, "state_dict": {"a": torch.ones(1)}}


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (asteroid("SuDORMRFNet", n_src=2, kernel_size=16), "kernel_size 16 and upsampling_depth 4 cut frames apart"),
        (asteroid("SuDORMRFImprovedNet", n_src=2, stride=5), "stride is 5; usep has half the kernel alone, 10"),
        (asteroid("LSTMTasNet", n_src=2, mask_act="softmax"), "mask_act is 'softmax'"),
        (asteroid("LSTMTasNet", n_src=2, encoder_activation="relu"), "encoder_activation is relu"),
        (asteroid("DCUNet", architecture="mini", fix_length_mode="trim"), "fix_length_mode is 'trim'"),
        (asteroid("DCUNet", architecture="DCUNet-11"), "architecture is 'DCUNet-11'"),
        (asteroid("DCCRNet", architecture="mini", n_freqs=100), "n_freqs is 100; expected (256|half)"),
        (asteroid("DCCRNet", architecture="mini", mask_bound="relu"), "mask_bound is 'relu'"),
    ],
)
def test_settings_of_asteroid_without_a_counterpart_are_named(held: dict[str, object], said: str, tmp_path: Path):
    torch.save(held, tmp_path / "model.pth")
    with pytest.raises(BadInput, match=said) as caught:
        foreign.read(tmp_path / "model.pth")
    assert "\n" not in str(caught.value)


@torch.no_grad()
def test_an_original_of_one_size_has_a_step_that_changes_nothing(tmp_path: Path):
    """Where the channels of the blocks are as many as the filters, asteroid leaves out the step before the masks."""
    facts = told("asteroid_sudormrf")
    held = states(facts)["pytorch_model.bin"]
    eye, none = torch.eye(8)[..., None], torch.zeros(8)
    for name, tensor in list(held.items()):
        if tensor.shape[:1] == (6,):
            held[name] = torch.cat([tensor, tensor[:2]])
        if tensor.dim() > 1 and tensor.shape[1] == 6:
            held[name] = torch.cat([tensor, tensor[:, :2]], 1)
    args = {**facts["more"]["model_args"], "bn_chan": 8}
    found = []
    for more in ({}, {"masker.reshape_before_masks.weight": eye, "masker.reshape_before_masks.bias": none}):
        state = {k: v for k, v in held.items() if "reshape" not in k} | more
        torch.save({"model_name": "SuDORMRFNet", "model_args": args, "state_dict": state}, tmp_path / "model.pth")
        found.append(foreign.read(tmp_path / "model.pth"))
    assert found[0].model == found[1].model and found[0].model["dim"] == found[0].model["filters"]
    assert found[0].state.keys() == found[1].state.keys()
    assert all(torch.equal(value, found[1].state[name]) for name, value in found[0].state.items())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state, config: config.update(num_sources=2), "num_sources is 2; expected 3, one for each of its netw"),
        (lambda state, config: state.update(voice=torch.ones(1)), "no network: voice; networks without tensors: none"),
        (
            lambda state, config: [state.pop(key) for key in list(state) if key.startswith("effect.")],
            "tensors of no network: none; networks without tensors: effect; expected dialog, effect, music alone",
        ),
    ],
)
def test_tiger_dnr_has_three_networks(change: Callable[..., Any], said: str, tmp_path: Path):
    facts = told("tiger_dnr")
    held, config = states(facts), json.loads(facts["texts"]["config.json"])
    change(held["model.safetensors"], config)
    facts["texts"]["config.json"] = json.dumps(config)
    with pytest.raises(BadInput, match=said) as caught:
        foreign.read(lay_out(facts, held, tmp_path / "theirs"))
    assert "\n" not in str(caught.value)


def test_tiger_dnr_names_its_stems(tmp_path: Path):
    facts = told("tiger_dnr")
    config = json.loads(facts["texts"]["config.json"])
    del config["sample_rate"]  # its class has one without a word
    facts["texts"]["config.json"] = json.dumps(config)
    found = foreign.read(lay_out(facts, states(facts), tmp_path / "theirs"))
    assert found.origin == "TIGER-DnR" and found.model["sample_rate"] == 44100
    assert found.model["stems"] == ["dialog", "effect", "music"] and found.model["takes"] == [2, 1, 0]


def test_stored_outputs_are_small():
    assert NAMES and sum(path.stat().st_size for path in STORED.iterdir()) <= 220 * 1024
