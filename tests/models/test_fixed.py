"""Frozen parts: they compute and move with their owner, and are stored nowhere."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from usepcli.models.fixed import Fixed
from usepcli.models.separator import SeparationModel
from usepcli.weights import fitting, store
from usepcli.weights.cards import Card


class Encoded(SeparationModel):
    """A gain of its own for each output, and a frozen layer that hears the mixture."""

    def __init__(self) -> None:
        super().__init__(hop=1)
        self.gain = nn.Parameter(torch.full((2, 1), 0.5))
        torch.manual_seed(3)
        self.encoder = Fixed(nn.Sequential(nn.Conv1d(1, 1, 5, padding=2), nn.Dropout(0.5)), "words", "ab" * 32)

    def estimate(self, mix: torch.Tensor) -> torch.Tensor:
        return self.gain * self.encoder(mix[:, None])


def test_a_frozen_part_is_nobodys_parameter_and_in_no_state() -> None:
    model = Encoded()
    assert [name for name, _ in model.named_parameters()] == ["gain"] == list(model.state_dict())
    assert model.n_params == 2 and "words, sha256 abababab" in repr(model)


def test_gradients_pass_through_and_training_leaves_it_alone() -> None:
    model, mix = Encoded().train(), torch.randn(2, 50, requires_grad=True)
    first = model(mix)
    assert torch.equal(model(mix), first)  # its dropout stays off
    first.square().sum().backward()
    assert mix.grad is not None and mix.grad.abs().sum() > 0 and model.gain.grad is not None
    assert all(p.grad is None and not p.requires_grad for p in model.encoder.module.parameters())


def test_it_moves_with_its_owner() -> None:
    model = Encoded().double()
    assert all(p.dtype == torch.float64 for p in model.encoder.module.parameters())


def test_a_stored_model_is_filled_around_it(tmp_path: Path) -> None:
    model, other = Encoded(), Encoded()
    with torch.no_grad():
        model.gain.fill_(2.0)
    store.save_model(tmp_path / "m.safetensors", model.state_dict(), Card())
    fitting.load_into(other, store.read_weights(tmp_path / "m.safetensors"), "m")
    mix = torch.randn(1, 40)
    assert torch.equal(other(mix), model(mix)) and (tmp_path / "m.safetensors").stat().st_size < 2000
