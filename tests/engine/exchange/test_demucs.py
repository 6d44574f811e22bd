"""Demucs' own files in, and out comes what its own class made: benchmarks/demucs.py stored it."""

from __future__ import annotations

import json
import runpy
import sys
import types
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from usepcli.engine.exchange import foreign, foreign_source, hub_pull
from usepcli.errors import BadInput, UsageError, UsepError
from usepcli.weights import store

HERE = Path(__file__).parent
MAKE = runpy.run_path(str(HERE / "models_of_demucs.py"))
DATA = np.load(HERE / "demucs.npz")
TOLD: dict[str, Any] = json.loads(str(DATA["told"]))
tensor, lay_out, head, stereo = (
    runpy.run_path(str(HERE / "drawn.py"))["tensor"],
    *map(MAKE.get, ("lay_out", "head", "stereo")),
)


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    return {name: tensor(f"{seed}:{name}", shape, base) for name, (shape, base) in TOLD["layout"].items()}


def imported(folder: Path, **options: Any) -> Any:
    foreign.import_checkpoint(folder, folder.parent / "own.safetensors", **options)
    return store.load_model(folder.parent / "own.safetensors")


@torch.no_grad()
def test_output_is_the_makers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = lay_out(tmp_path / "theirs", TOLD["kwargs"], [state()])
    done = hub_pull.pull(str(folder), name="own", say=lambda line: None)
    model, card = store.load_model("own")
    model.input_norm = "none"  # that of the maker stands outside of the network
    assert len(TOLD["lengths"]) == 5
    for length in TOLD["lengths"]:
        want, got = DATA[f"est_{length}"], model(stereo(length))[0].numpy()
        assert got.shape == want.shape == (4, 2, length) and np.abs(want).max() > 0.03
        assert np.abs(got - want).max() < 1e-6
    assert card.sources == ("drums", "bass", "other", "vocals") and card.licences["code"] == "MIT"
    assert "00000000.safetensors" in card.origin and list(done["files"]) == ["00000000.safetensors"]


@torch.no_grad()
def test_a_bag_is_the_makers_weighted_mean(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "theirs", TOLD["kwargs"], [state(0), state(1)], TOLD["weights"])
    model, card = imported(folder)
    model.input_norm = "none"
    assert np.abs(model(stereo(160))[0].numpy() - DATA["bag"]).max() < 1e-6
    assert card.model["bag"] == 2 and "bag of 2" in card.about


@torch.no_grad()
@pytest.mark.parametrize("half", [False, True])
def test_their_torch_package_and_a_single_file(half: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package names a class, which is not made, and a fraction, which is read as text."""
    held = {name: value.half() if half else value for name, value in state().items()}
    kwargs = {**TOLD["kwargs"], "use_train_segment": True, "segment": Fraction(39, 5), "lost_option": 3}
    module = types.ModuleType("demucs.htdemucs")
    module.HTDemucs = type("HTDemucs", (), {"__module__": "demucs.htdemucs"})  # type: ignore[attr-defined]
    with monkeypatch.context() as there:
        there.setitem(sys.modules, "demucs", types.ModuleType("demucs"))
        there.setitem(sys.modules, "demucs.htdemucs", module)
        package = {"klass": module.HTDemucs, "args": (), "kwargs": kwargs, "state": held, "training_args": {"a": [1]}}
        torch.save(package, tmp_path / "01234567-89abcdef.th")
    save_file(held, tmp_path / "x.safetensors", head(kwargs))
    found = [foreign.read(tmp_path / name) for name in ("01234567-89abcdef.th", "x.safetensors")]
    assert found[0].model == found[1].model and found[0].model["segment_s"] == 7.8
    for name, value in found[0].state.items():
        assert torch.equal(value, found[1].state[name]) and value.dtype == torch.float32
    assert (tmp_path / "net.yaml").write_text("models: ['01234567']\n")
    (tmp_path / "x.safetensors").unlink()
    assert foreign.read(tmp_path).model == found[0].model


def test_a_package_that_holds_more_is_not_opened(tmp_path: Path) -> None:
    torch.save({"klass": Path, "args": (), "kwargs": {}, "state": {}}, tmp_path / "01234567.th")
    with pytest.raises(BadInput, match=r"holds the Python object pathlib\.Path.*save its state dict"):
        foreign.read(tmp_path / "01234567.th")


HALF = {"_type": "fraction", "numerator": 1, "denominator": 2}


def changed(**kwargs: Any) -> dict[str, Any]:
    return {**TOLD["kwargs"], **kwargs}


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        (changed(t_emb="cape"), "t_emb is 'cape'"), (changed(audio_channels=1), "audio_channels is '1'"),
        (changed(dconv_mode=1), "dconv_mode is '1'"), (changed(kernel_size=4), "kernel_size is '4'.*8 alone"),
        (changed(multi_freqs=[0.2]), "multi_freqs"), (changed(norm_starts=1), "norm_starts"),
        (changed(channels="48"), "channels is '48'"), (changed(channels=10**12), "channels is"),
        (changed(sources="vocals"), "sources is 'vocals'"), (changed(sources=["../x"] * 4), "stems"),
        (changed(use_train_segment=True, segment={**HALF, "denominator": 0}), "segment is"),
        (changed(use_train_segment=True, segment=1e400), "segment is"), (changed(depth=3), "tensors|n_fft"),
        (changed(t_layers=10**6), "more parts or larger"), (changed(channels=8), "do not fit|more parts"),
    ],
)  # fmt: skip
def test_settings_without_a_counterpart_are_named(kwargs: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "theirs", kwargs, [state()])
    with pytest.raises(BadInput, match=said) as caught:
        imported(folder)
    assert "\n" not in str(caught.value) and not (tmp_path / "own.safetensors").exists()


@pytest.mark.parametrize(
    ("bag", "said"),
    [
        ("models: []", "models is"), ("models: ['99999999']", "no file of network 99999999"),
        ("models: ['00000000']\nweights: [1, 1]", "weights is"),
        ("models: ['00000000']\nweights: [[a, 1, 1, 1]]", "weights is 'a'"),
        ("models: ['00000000']\nweights: [[1, 1]]", r"model\.weights"),
        ("models: ['00000000']\nweights: [[0, 1, 1, 1]]", r"model\.weights"),
        ("models: ['00000000', '00000001']", "width is 8, in 00000000.safetensors 4"),
    ],
)  # fmt: skip
def test_bags_that_are_none(bag: str, said: str, tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "theirs", TOLD["kwargs"], [state()])
    save_file(state(1), folder / "00000001.safetensors", head(changed(channels=8)))
    (folder / "net.yaml").write_text(bag)
    with pytest.raises(BadInput, match=said):
        imported(folder)


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        (head(TOLD["kwargs"], "demucs.demucs.Demucs"), "a network of demucs.demucs.Demucs; usep has"),
        ({"klass": MAKE["KLASS"]}, "lacks the constructor's arguments"),
        (head(TOLD["kwargs"], args="{"), "lacks the constructor's arguments"),
        (head(TOLD["kwargs"], args='[["a"], 2]'), "2 arguments without names"),
        (head(TOLD["kwargs"], structure="{}"), "DiffQ"),
    ],
)
def test_files_of_other_networks(meta: dict[str, str], said: str, tmp_path: Path) -> None:
    save_file(state(), tmp_path / "x.safetensors", meta)
    with pytest.raises(BadInput, match=said):
        foreign.read(tmp_path / "x.safetensors")


@pytest.mark.parametrize("lost", ["crosstransformer.layers.1.norm2.weight", "tdecoder.0.dconv.layers.1.6.scale"])
def test_every_tensor_has_to_find_its_place(lost: str, tmp_path: Path) -> None:
    whole = state()
    without = {name: value for name, value in whole.items() if name != lost}
    for k, held in enumerate((without, {**whole, "extra.weight": torch.ones(3)}, {**whole, lost: torch.ones(5)})):
        with pytest.raises(BadInput, match=r"do not fit|belong to no part"):
            imported(lay_out(tmp_path / f"{k}", TOLD["kwargs"], [held]))


def test_options_that_the_files_answer_are_refused(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "theirs", TOLD["kwargs"], [state()])
    for options in ({"mask": "relu"}, {"sample_rate": 16000}):
        with pytest.raises(UsageError):
            imported(folder, **options)
    with pytest.raises(UsepError, match="fit-level"):
        imported(folder, fit_level=True)


def test_other_folders_are_not_taken_for_bags(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("models: []\n")
    save_file(state(), tmp_path / "model.safetensors")
    assert not foreign.maker_of(foreign_source.on_disk(tmp_path))


@torch.no_grad()
def test_version_3_is_the_makers(tmp_path: Path) -> None:
    data = np.load(HERE / "hdemucs.npz")
    told = json.loads(str(data["told"]))
    held = {name: tensor(f"0:{name}", shape, base) for name, (shape, base) in told["layout"].items()}
    folder = lay_out(tmp_path / "theirs", told["kwargs"], [held], klass="demucs.hdemucs.HDemucs")
    model, card = imported(folder)
    model.input_norm = "none"
    assert len(told["lengths"]) == 5 and max(told["lengths"]) > 200 * model.hop
    for length in told["lengths"]:
        want, whole = data[f"est_{length}"], model(stereo(length))[0].numpy()
        assert whole.shape == (4, 2, length) and np.abs(want).max() > 0.03
        assert np.abs(whole[..., :: MAKE["thinned"](length)] - want).max() < 1e-6
    assert card.model["name"] == "hdemucs" and card.model["segment_s"] == 3.0 and "HDemucs" in card.about
    assert card.sources == ("drums", "bass", "other", "vocals")
    # The bag's word on pieces goes above the network's.
    (folder / "net.yaml").write_text("models: ['00000000']\nsegment: 4\n")
    assert foreign.read(folder).model["segment_s"] == 4.0
    (tmp_path / "own.safetensors").unlink()
    for number, changes in enumerate(({"dconv_lstm": 2}, {"hybrid_old": True}, {"nfft": 128}, {"dconv_mode": 4})):
        with pytest.raises(BadInput):
            kwargs = {**told["kwargs"], **changes}
            imported(lay_out(tmp_path / f"changed{number}", kwargs, [held], klass="demucs.hdemucs.HDemucs"))
    for number, lost in enumerate(("encoder.1.dconv.layers.0.4.key.bias", "tencoder.1.conv.weight")):
        with pytest.raises(BadInput, match=r"do not fit|query, key and content"):
            without = {name: value for name, value in held.items() if name != lost}
            imported(lay_out(tmp_path / f"lost{number}", told["kwargs"], [without], klass="demucs.hdemucs.HDemucs"))


def test_a_bag_of_two_kinds_is_refused(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "theirs", TOLD["kwargs"], [state()])
    told = json.loads(str(np.load(HERE / "hdemucs.npz")["told"]))
    held = {name: tensor(f"0:{name}", shape, base) for name, (shape, base) in told["layout"].items()}
    save_file(held, folder / "00000001.safetensors", head(told["kwargs"], "demucs.hdemucs.HDemucs"))
    (folder / "net.yaml").write_text("models: ['00000000', '00000001']\n")
    with pytest.raises(BadInput, match=r"00000001\.safetensors: name is hdemucs, in 00000000\.safetensors htdemucs"):
        imported(folder)


def test_stored_outputs_are_small() -> None:
    assert (HERE / "demucs.npz").stat().st_size + (HERE / "hdemucs.npz").stat().st_size < 60_000
