from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from usepcli import registry
from usepcli.models.conformer_mask import ConformerMask
from usepcli.models.convtasnet import ConvTasNet
from usepcli.models.cost import Products, flops_per_second
from usepcli.models.tdcnpp import TDCNpp


class Counted(nn.Module):
    sample_rate = 100

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, mix):
        return self.layer(mix[..., None])


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("layer", "per_sample"), [
    (nn.Linear(1, 7), 2 * 7), (nn.LSTM(1, 5, batch_first=True), 2 * 4 * 5 * 6),
    (nn.LSTM(1, 5, batch_first=True, bidirectional=True), 2 * 2 * 4 * 5 * 6),
    (nn.GRU(1, 5, batch_first=True), 2 * 3 * 5 * 6),
])  # fmt: skip
def test_products_and_recurrences_are_counted_by_hand(layer, per_sample, device):
    assert flops_per_second(Counted(layer).to(device)) == 100 * per_sample


def test_grouped_and_transposed_convolutions_are_counted_by_hand():
    with Products() as counter, torch.no_grad():
        nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False)(torch.zeros(5, 4, 9, 9))  # 4 by 4 places
    assert counter.total == 2 * 5 * (4 * 4) * 6 * (4 // 2) * 3 * 3
    with Products() as counter, torch.no_grad():
        nn.ConvTranspose1d(4, 6, 3, stride=2)(torch.zeros(5, 4, 9))
    assert counter.total == 2 * 5 * 9 * 4 * 6 * 3


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", registry.UNASKED)
def test_the_counter_counts_what_that_of_torch_counts(name, inference):
    cls = registry.load("model", name)
    model, wave = cls(**cls.PRESETS["tiny"]).eval(), torch.zeros(2, 4000)
    plain = torch.inference_mode() if inference else torch.no_grad()
    with plain, sdpa_kernel(SDPBackend.MATH):
        with Products() as ours:
            model(wave)
        with FlopCounterMode(display=False) as theirs:
            model(wave)
    assert ours.total == theirs.get_total_flops() > 0


def test_counting_loads_no_compiler():
    """It takes longer than all the rest of `usep info`."""
    line = (
        "import sys; from usepcli.models.conformer_mask import ConformerMask as M; "
        "assert M(**M.PRESETS['tiny']).flops_per_second() > 0; sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", line]).returncode == 0


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
