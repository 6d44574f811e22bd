from __future__ import annotations

import pytest
import torch
from torch import Tensor

from usepcli.errors import BadInput
from usepcli.models.stereo import StereoModel


class Sides(StereoModel):
    """Two outputs, 0.25 of the left channel of the mixture in both channels, and half of the mixture."""

    def __init__(self, **options: object) -> None:
        super().__init__(hop=1, **options)

    def estimate(self, mix: Tensor) -> Tensor:
        self.seen = mix
        return torch.stack([0.25 * mix[:, :1].expand_as(mix), 0.5 * mix], 1)


def test_two_channels_are_heard_at_once_and_come_back():
    model, mix = Sides(), torch.randn(3, 2, 50)
    est = model(mix)
    assert est.shape == (3, 2, 2, 50) and torch.equal(model.seen, mix)
    assert torch.equal(est[:, 0, 1], 0.25 * mix[:, 0]) and torch.equal(est[:, 1], 0.5 * mix)


def test_one_channel_is_given_to_both_and_comes_back_as_one():
    model, mix = Sides(), torch.randn(3, 50)
    est = model(mix)
    assert est.shape == (3, 2, 50)
    assert torch.equal(model.seen[:, 0], mix) and torch.equal(model.seen[:, 1], mix)
    torch.testing.assert_close(est[:, 0], 0.25 * mix)
    assert torch.equal(model(mix[:, None]), est) and torch.equal(model(mix[0]), est[:1])


@pytest.mark.parametrize("shape", [(1, 3, 50), (2, 50, 0), (1, 2, 0), (1, 1, 2, 50)])
def test_other_numbers_of_channels_are_refused(shape: tuple[int, ...]):
    with pytest.raises(BadInput, match=r"expected \(T,\), \(B, T\), \(B, 2, T\) or"):
        Sides()(torch.zeros(shape))


def test_both_channels_have_one_level():
    model = Sides(input_norm="mean_std")
    mix = torch.randn(2, 2, 4000) * torch.tensor([[[3.0], [0.1]], [[0.0], [1e-3]]]) + 0.5
    est = model(mix)
    # The second output is half of the mixture again, its mean included.
    torch.testing.assert_close(est[:, 1], 0.5 * mix, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.seen.flatten(1).mean(1), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(model.seen.flatten(1).std(1, correction=0), torch.ones(2))
    ratio = (model.seen[:, 0].std(-1) / model.seen[:, 1].std(-1))[0]
    torch.testing.assert_close(ratio, mix[0, 0].std() / mix[0, 1].std())
    assert model(torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])).isfinite().all()  # what one channel would cancel


@pytest.mark.parametrize("kind", ["uniform", "magsq"])
def test_channels_add_up_each_by_itself(kind: str):
    mix = torch.randn(2, 2, 60)
    found = Sides(consistency=kind)(mix)
    assert found.shape == (2, 2, 2, 60)
    torch.testing.assert_close(found.sum(1), mix, atol=1e-6, rtol=0)
