"""The contract of every registered model by query, on its tiny preset with classes of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from usepcli import registry
from usepcli.models.queried import QueriedModel
from usepcli.weights import build, cards, fitting, store

NAMES = ["dog", "rain", "violin"]
over = pytest.mark.parametrize("name", registry.QUERIED)


def made(name: str, **options: object) -> QueriedModel:
    torch.manual_seed(0)
    model = build.model({"name": name, "preset": "tiny", "classes": NAMES, **options})
    assert isinstance(model, QueriedModel)
    return model.eval()


def test_the_list_of_models_by_query_is_true() -> None:
    for name in registry.MODELS:
        assert issubclass(registry.load("model", name), QueriedModel) == (name in registry.QUERIED)


@over
@torch.no_grad()
def test_any_length_in_the_same_length_out(name: str) -> None:
    bound = made(name).bound(NAMES)
    for length in (1, 2, 63, 64, 65, 1000, 8001):
        mix = torch.randn(2, length)
        est = bound(mix)
        assert est.shape == (2, 3, length) and est.dtype == torch.float32 and est.isfinite().all()
    for level in (0.0, 1e-6, 30.0):
        assert bound(torch.full((1, 700), level)).isfinite().all()


@over
@torch.no_grad()
def test_an_item_alone_equals_the_item_in_a_batch(name: str) -> None:
    bound, mix = made(name).bound(NAMES), torch.randn(3, 1500) * torch.tensor([[0.01], [1.0], [10.0]])
    together = bound(mix)
    for item in range(3):
        off = mix.shape[1] * torch.finfo(torch.float32).eps * float(mix[item].abs().max())
        torch.testing.assert_close(together[item], bound(mix[item])[0], atol=off, rtol=0)


@over
def test_gradients_are_finite_and_reach_everything(name: str) -> None:
    model, mix = made(name).train(), torch.randn(2, 800)
    mix[1] = 0
    (model(mix, model.conditions([NAMES, NAMES[::-1]])) - mix[:, None] / 3).square().sum().backward()
    # Of a class res_unet hears the whole, and not its one token.
    unheard = {"conditioner.tokens.weight"} if name == "res_unet" else set()
    grads = {key: p.grad for key, p in model.named_parameters() if key not in unheard}
    assert all(g is not None and g.isfinite().all() for g in grads.values()), grads.keys()
    assert sum(float(g.abs().sum()) for g in grads.values() if g is not None) > 0
    assert model.n_params <= 100_000


@over
@pytest.mark.parametrize("kind", ["uniform", "magsq"])
@torch.no_grad()
def test_consistency_sums_to_the_mixture(name: str, kind: str) -> None:
    mix = torch.randn(2, 1200)
    torch.testing.assert_close(made(name, consistency=kind).bound(NAMES)(mix).sum(1), mix, atol=1e-5, rtol=0)


@over
@torch.no_grad()
def test_gain_passes_through_where_the_level_is_made_one(name: str) -> None:
    bound, mix = made(name, input_norm="std").bound(NAMES), torch.randn(2, 1200)
    for gain in (1e-3, 300.0):
        torch.testing.assert_close(bound(gain * mix) / gain, bound(mix), atol=1e-4, rtol=1e-3)


@over
@torch.no_grad()
def test_bfloat16_stays_near(name: str) -> None:
    bound, mix = made(name).bound(NAMES), torch.randn(2, 1200)
    with torch.autocast("cpu", torch.bfloat16):
        near = bound(mix)
    want = bound(mix)
    assert near.dtype == torch.float32 and (near - want).square().mean() < 1e-3 * want.square().mean()


@over
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@torch.no_grad()
def test_stored_and_loaded_it_answers_the_same(name: str, dtype: str, tmp_path: Path) -> None:
    model, mix = made(name).train(), torch.randn(2, 900)
    for _ in range(3):  # running means of norms are a part of what is stored
        model(torch.randn(4, 900), model.conditions([NAMES]))
    model.eval()
    card = cards.Card(
        name="toy", model=build.config_of(model), sample_rate=model.sample_rate, cost=build.cost_of(model)
    )
    store.save_model(tmp_path / "m.safetensors", model.state_dict(), card, dtype)
    again, read = store.load_any(tmp_path / "m.safetensors")
    assert isinstance(again, QueriedModel) and read.model["classes"] == NAMES
    cost = cards.cost(read)
    stored = sum(value.numel() for value in model.state_dict().values())
    assert cost is not None and (cost.parameters or stored) == model.n_params
    want, found = model.bound(NAMES)(mix), again.bound(NAMES)(mix)
    if dtype == "float32":
        assert torch.equal(found, want)
    else:
        assert (found - want).square().mean() < 1e-4 * want.square().mean()


@over
def test_settings_are_whole(name: str) -> None:
    settings = build.config_of(made(name))
    assert build.config_of(fitting.model(settings, made(name).state_dict(), "f")) == settings
    for preset in registry.load("model", name).PRESETS:
        with torch.device("meta"):
            model = build.model({"name": name, "preset": preset, "classes": NAMES})
        assert model.hop > 0 and model.latency_samples >= model.hop
