"""Model files and resume files: whole, damaged, killed while being written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as to_safetensors

from usepcli import files, registry
from usepcli.errors import BadInput, InputNotFound, IOFault
from usepcli.weights import build, cards, fitting, reach, store
from usepcli.weights.store import Card

TINY = {"name": "conformer_mask", "preset": "tiny", "n_src": 2}


def saved(path: Path, dtype: str = "float32") -> torch.nn.Module:
    torch.manual_seed(0)
    model = build.model(TINY).eval()
    store.save_model(path, model.state_dict(), Card(name="t", model=model.config, licence="CC0"), dtype)
    return model


def test_model_file_gives_the_same_outputs_and_card(tmp_path: Path) -> None:
    model = saved(tmp_path / "m.safetensors")
    loaded, card = store.load_model(tmp_path / "m.safetensors")
    wave = torch.randn(1, 1000)
    assert torch.equal(loaded(wave), model(wave))
    assert card.licence == "CC0" and card.model["dim"] == model.config["dim"]
    assert not loaded.training


def test_a_model_with_single_numbers_among_its_weights(tmp_path: Path) -> None:
    model = build.model({"name": "tdcnpp", "preset": "tiny"})
    assert any(value.dim() == 0 for value in model.state_dict().values())
    store.save_model(tmp_path / "m.safetensors", model.state_dict(), Card(model=build.config_of(model)))
    loaded = store.read_weights(tmp_path / "m.safetensors")
    assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())


def test_half_precision_file_is_half_as_large_and_nearly_equal(tmp_path: Path) -> None:
    model = saved(tmp_path / "full.safetensors")
    saved(tmp_path / "half.safetensors", "float16")
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    loaded, _ = store.load_model(tmp_path / "half.safetensors")
    wave = torch.randn(1, 4000)
    error = (loaded(wave) - model(wave)).square().sum() / model(wave).square().sum()
    assert 0 < error < 1e-4


def test_a_packed_file_is_a_quarter_as_large_and_nearly_equal(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build.model({**TINY, "preset": "small", "n_src": 2}).eval()
    card = Card(name="t", model=model.config, licence="CC0")
    for dtype in ("float32", "int8"):
        store.save_model(tmp_path / f"{dtype}.safetensors", model.state_dict(), card, dtype)
    full, packed = (tmp_path / f"{dtype}.safetensors" for dtype in ("float32", "int8"))
    assert packed.stat().st_size < 0.3 * full.stat().st_size
    assert cards.read_header(packed).n_numbers == cards.read_header(full).n_numbers
    loaded, _ = store.load_model(packed)
    wave = torch.randn(1, 4000)
    error = (loaded(wave) - model(wave)).square().sum() / model(wave).square().sum()
    assert 0 < error < 1e-3
    with pytest.raises(BadInput, match="sha256"):
        raw = bytearray(packed.read_bytes())
        raw[-10] ^= 1
        packed.write_bytes(raw)
        store.load_model(packed)


def test_a_flipped_bit_and_a_cut_file_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    saved(path)
    raw = bytearray(path.read_bytes())
    raw[-10] ^= 1
    path.write_bytes(raw)
    with pytest.raises(BadInput, match="sha256"):
        store.load_model(path)
    path.write_bytes(raw[:500])
    with pytest.raises(BadInput, match="not a readable model file"):
        store.load_model(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{x", "card cannot be read"), ("[]", "found a list"), ('{"model": []}', "model is a list, expected dict"),
        ('{"licence": ["a"]}', "licence is a list"), ('{"scores": [1]}', "a score is no object"),
        ('{"steps": true}', "steps is a bool"),
    ],
)  # fmt: skip
def test_a_card_that_is_none(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(to_safetensors({"a": torch.zeros(1)}, {"usep": text}))
    with pytest.raises(BadInput, match=said):
        cards.read_card(tmp_path / "m.safetensors")


def test_a_card_cannot_drive_a_terminal_or_lie_about_the_rate(tmp_path: Path) -> None:
    model = build.model(TINY)
    for rate, outputs, said in ((44100, 0, "44100 Hz"), (0, 5, "5 outputs")):
        card = Card(name="t", model=build.config_of(model), sample_rate=rate, n_src=outputs)
        store.save_model(tmp_path / "m.safetensors", model.state_dict(), card)
        with pytest.raises(BadInput, match=f"card says {said}"):
            store.load_model(tmp_path / "m.safetensors")
    assert Card.from_json(Card(name="a\x1b[2Jb", credits="c\nd").to_json()).name == "a[2Jb"
    assert Card.from_json('{"profile": {"data": {"segment_s": "x"}}}').segment_s == 0


def test_unknown_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="no such model file"):
        store.load_model(tmp_path / "none.safetensors")
    with pytest.raises(InputNotFound, match=r"no best\.safetensors"):
        store.load_model(tmp_path)
    with pytest.raises(InputNotFound, match="is no run folder"):
        store.load_model(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputNotFound, match="let the run validate once"):
        store.load_model(tmp_path)
    with pytest.raises(InputNotFound, match="defalt"):
        store.load_model("defalt")


def test_tensors_that_do_not_fit_are_named() -> None:
    model = build.model(TINY)
    state = model.state_dict()
    state["head.bias"] = torch.zeros(3)
    with pytest.raises(BadInput, match=r"here: 1 tensors do not fit the model, the first: head\.bias \(3,\)"):
        fitting.load_into(model, state, "here")


def test_full_disk_is_74_and_leaves_no_debris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_bytes(tmp_path / "f", b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IOFault, match="No space left"):
        files.write_bytes(tmp_path / "f", b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["f"] and (tmp_path / "f").read_bytes() == b"old"


# The numbers of a released model never change under its name; its card may.
RELEASED = {
    "denoise": "38a07a894c99d853723fd845ea8249dfd55d71d0122f7b5c74d7acd9ffc4a4a1",
    "words_small": "a836173320d1d794bec05a29ee1e58fe57c9a56465a67a7e0418d2c190583e14",
    "universal": "8b387329794d240d968e8371e476ae46c54a186cef877f8dcbc2ba4fff98ea99",
    "default": "faf44b58c7bbe35a29c8d120d4ed5764696e7add9ff2ebfcf35bd003d5586888",
    "live": "cb4008537cc96619c439426f81e4734bff3caff60d855c43532bb87ec7d21fab",
    "live_5ms": "f812438d692b7d641575194354aa40cc870afc57fe2536447decf1eea9790580",
    "speech_unsupervised": "c2f1f4e69221ed129bd4821797b2f0b253b6582425f2ab528536fea097113838",
}


def test_released_models_keep_their_weights_and_say_what_they_take() -> None:
    assert set(reach.released()) == set(RELEASED)
    for name, path in reach.released().items():
        header, (model, card) = cards.read_header(path), store.load_any(name)
        assert header.sha256 == cards.digest(path.read_bytes()) == RELEASED[name]
        assert header.n_params == model.n_params
        assert cards.cost(card) == cards.Cost(**build.cost_of(model))


@pytest.mark.parametrize("name", sorted(registry.UNASKED))
def test_a_model_stores_its_parameters_and_nothing_else_or_says_so(name: str) -> None:
    """So that the size of a model can be read off its header, where a stored buffer would count as parameters."""
    for preset in registry.load("model", name).PRESETS:
        if "paper" not in preset:
            model = build.model({"name": name, "preset": preset})
            stored = sum(value.numel() for value in model.state_dict().values())
            assert stored == model.n_params or build.cost_of(model)["parameters"] == model.n_params, preset


def test_another_card_leaves_the_numbers_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    model = saved(path)
    raw, header = path.read_bytes(), cards.read_header(path)
    card = cards.read_header(path).card
    card.cost, card.about = build.cost_of(model), "ä" * 1001  # any length
    path.write_bytes(cards.with_card(raw, card))
    again, (loaded, read) = cards.read_header(path), store.load_model(path)
    assert (again.sha256, again.shapes) == (header.sha256, header.shapes) and read == card
    wave = torch.randn(1, 1000)
    assert torch.equal(loaded(wave), model(wave))
    assert int.from_bytes(path.read_bytes()[:8], "little") % 8 == 0


@pytest.mark.parametrize(
    "cost",
    [{"causal": True}, {"causal": 1, "latency_samples": 1, "flops_per_second": 1.0},
     {"causal": True, "latency_samples": -1, "flops_per_second": 1.0},
     {"causal": True, "latency_samples": 1, "receptive_field_samples": "8", "flops_per_second": 1.0},
     {"causal": True, "latency_samples": 1, "flops_per_second": "1"}],
)  # fmt: skip
def test_a_card_with_a_cost_that_cannot_be_is_refused(cost: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="cost: found"):
        Card.from_json(Card(cost=cost).to_json())
    whole = {"causal": True, "latency_samples": 1, "receptive_field_samples": None, "flops_per_second": 1e9}
    assert cards.cost(Card.from_json(Card(cost=whole).to_json())) == cards.Cost(True, 1, None, 1e9)
    assert cards.cost(Card()) is None


def test_released_models_load_and_state_their_licence() -> None:
    for name, path in reach.released().items():
        model, card = store.load_any(name)
        assert card.licence and card.training_data and card.profile and card.sample_rate == model.sample_rate
        for score in card.scores:
            low, high = score["ci95"]
            assert low < score["value"] < high or low == score["value"] == high  # all items alike
            assert score["n"] > 1
            assert score["metric"] and score["data"] and score["protocol"]
        assert card.scores
        assert path.stat().st_size <= (12e6 if card.tried else 8e6)  # with its words, which take 2.7 MB


def test_running_means_are_no_parameters(tmp_path: Path) -> None:
    model = build.model({"name": "uncond_unet", "preset": "tiny"})
    card = cards.Card(name="means", model=build.config_of(model), sample_rate=8000, cost=build.cost_of(model))
    store.save_model(tmp_path / "means.safetensors", model.state_dict(), card)
    header = cards.read_header(tmp_path / "means.safetensors")
    assert header.n_params == model.n_params < header.n_numbers


def test_a_model_by_query_has_an_output_for_each() -> None:
    assert [cards.outputs(count) for count in (0, 2)] == ["an output for each query", "2 outputs"]
