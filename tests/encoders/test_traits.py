"""Traits in brackets beside the words of any conditioner."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from usepcli.encoders.traits import TRAITS, Traited, query, trait_of
from usepcli.errors import BadInput, ConfigError
from usepcli.models.cond_unet import CondUNet
from usepcli.weights import build, cards, fitting, store

NAMES = ["dog", "rain"]


def made(**options: object) -> CondUNet:
    torch.manual_seed(0)
    model = build.model({"name": "cond_unet", "preset": "tiny", "classes": NAMES, **options})
    assert isinstance(model, CondUNet)
    return model.eval()


def test_a_trait_stands_in_brackets() -> None:
    assert [trait_of(query(trait)) for trait in TRAITS] == list(TRAITS)
    assert trait_of(" [ Louder ] ") == "louder" and trait_of("louder") is None and trait_of("a [dog] barks") is None


def test_words_mean_what_they_did_and_traits_are_learned_vectors() -> None:
    words = made(traits=["louder", "quieter"]).words
    assert isinstance(words, Traited)
    tokens, mask, pooled = words.encode(["[quieter]", "rain", "[louder]", "dog", "[Quieter]"])
    plain = words.inner.encode(["rain", "dog"])
    assert torch.equal(pooled[[1, 3]], plain.pooled) and torch.equal(tokens[[1, 3]], plain.tokens) and mask.all()
    assert torch.equal(pooled[0], words.whole.weight[1]) and torch.equal(tokens[2, 0], words.token.weight[0])
    assert torch.equal(pooled[0], pooled[4])
    only = words.encode(["[louder]"])
    assert torch.equal(only.pooled[0], pooled[2]) and only.tokens.shape[1] == words.length
    pooled.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in (words.whole.weight, words.inner.pooled.weight))


def test_shorter_conditions_are_followed_by_nothing(encoder_makers, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    inner = encoder_makers.sentence(tmp_path)
    words = Traited(inner, torch.nn.Identity(), ["first"])
    found = words.encode(["[first]", "a dog barks"])
    assert found.mask.sum(1).tolist() == [1, 5] and not found.tokens[0, 1:].any()
    assert torch.equal(found.pooled[1], inner.encode(["a dog barks"]).pooled[0])


def test_other_traits_are_told_from_those_that_are_known() -> None:
    words = made(traits=["louder"]).words
    with pytest.raises(BadInput, match=r"'\[loudest\]': unknown trait 'loudest' \(did you mean 'louder'\?\)"):
        words.encode(["[loudest]"])
    with pytest.raises(ConfigError, match=r"model\.traits: unknown trait 'loud'"):
        made(traits=["loud"])
    with pytest.raises(ConfigError, match="expected each once"):
        made(traits=["louder", "louder"])
    with pytest.raises(BadInput, match="none of the 2 classes"):
        made().words.encode(["[louder]"])


@pytest.mark.parametrize("late", [{}, {"late_levels": 1}, {"head_levels": 0}, {"ca_blocks": 0}])
def test_refined_conditions_begin_as_they_are_and_follow_the_mixture(late: dict[str, int]) -> None:
    """At first nothing changes; then each mixture changes its own conditions, whatever stands beside it."""
    plain, model = made(**late), made(**late, refine=True)
    state = plain.state_dict()
    model.load_state_dict(state | {k: v for k, v in model.state_dict().items() if k.startswith("refine")})
    mix = torch.randn(2, 900, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [0.1]])
    mix[1, 300:] = 0
    assert torch.equal(model.bound(NAMES)(mix), plain.bound(NAMES)(mix))
    assert model.refine is not None
    torch.nn.init.normal_(model.refine.change.weight, std=0.5)
    found = model.bound(NAMES)(mix)
    assert not torch.allclose(found, plain.bound(NAMES)(mix), atol=1e-3)
    torch.testing.assert_close(model.bound(NAMES)(mix[1:])[0], found[1], atol=1e-5, rtol=1e-4)
    features = torch.tensor([[[1.0]], [[-1.0]]]).expand(2, model.refine.hear.in_features - 64, 1)
    tokens, pooled = torch.zeros(2, 1, 1, 64), torch.zeros(2, 1, 64)
    one, other = (part.squeeze() for part in model.refine(features, tokens, pooled)[1])
    assert not torch.allclose(one, other)


def test_stored_with_traits_and_refinement_it_answers_the_same(tmp_path: Path) -> None:
    model = made(traits=["first", "harmonic"], refine=True)
    card = cards.Card(name="toy", model=build.config_of(model), sample_rate=model.sample_rate)
    store.save_model(tmp_path / "m.safetensors", model.state_dict(), card)
    again, _ = store.load_any(tmp_path / "m.safetensors")
    mix, asked = torch.randn(1, 700), ["dog", "[harmonic]"]
    with torch.no_grad():
        assert torch.equal(again.bound(asked)(mix), model.bound(asked)(mix))  # type: ignore[union-attr]
    assert build.config_of(fitting.model(build.config_of(model), model.state_dict(), "f")) == build.config_of(model)
