from __future__ import annotations

import pytest
import torch
from torch import nn

from usepcli.models.conformer_mask import ConformerMask
from usepcli.models.convtasnet import ConvTasNet
from usepcli.models.cost import flops_per_second
from usepcli.models.tdcnpp import TDCNpp


class Counted(nn.Module):
    sample_rate = 100

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, mix):
        return self.layer(mix[..., None])


@pytest.mark.parametrize(("layer", "per_sample"), [
    (nn.Linear(1, 7), 2 * 7), (nn.LSTM(1, 5, batch_first=True), 2 * 4 * 5 * 6),
    (nn.LSTM(1, 5, batch_first=True, bidirectional=True), 2 * 2 * 4 * 5 * 6),
])  # fmt: skip
def test_products_and_recurrences_are_counted_by_hand(layer, per_sample):
    assert flops_per_second(Counted(layer)) == 100 * per_sample


def test_published_models_cost_what_their_tables_say():
    with torch.device("meta"):
        assert ConvTasNet().flops_per_second() == pytest.approx(9.95e9, rel=0.01)
        assert TDCNpp(n_src=4).flops_per_second() == pytest.approx(14.8e9, rel=0.01)
    assert 2.2e9 < ConformerMask().flops_per_second() < 3.0e9


def test_counting_leaves_the_model_as_it_was():
    model = ConvTasNet(**ConvTasNet.PRESETS["tiny"]).train()
    first = model.flops_per_second()
    assert model.training and not any(m._forward_hooks for m in model.modules())
    # Convolutions on shifted views count like those of the library.
    with torch.device("meta"):
        assert ConvTasNet(**ConvTasNet.PRESETS["tiny"]).flops_per_second() == first
