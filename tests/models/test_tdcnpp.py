from __future__ import annotations

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models.tdcnpp import ResidualTCN, TDCNpp


@pytest.mark.parametrize(("options", "count"), [
    ({"n_src": 2}, 9_147_143), ({"n_src": 4}, 9_278_727), ({"n_src": 4, "kernel": 40}, 9_288_967),
    ({"n_src": 8}, 9_541_895), (TDCNpp.PRESETS["stft"], 9_179_405), (TDCNpp.PRESETS["small"], 667_810),
])  # fmt: skip
def test_published_sizes(options, count):
    with torch.device("meta"):
        assert TDCNpp(**options).n_params == count


def test_views_of_the_published_models():
    with torch.device("meta"):
        learned, stft = TDCNpp(), TDCNpp(**TDCNpp.PRESETS["stft"])
    assert learned.receptive_field_samples / 8000 == pytest.approx(2.55, abs=0.01)
    assert stft.receptive_field_samples / 16000 == pytest.approx(16.4, abs=0.05)
    assert (learned.hop, learned.latency_samples, stft.hop, stft.latency_samples) == (10, 20, 128, 512)


def test_every_repeat_reads_the_inputs_of_all_earlier_ones():
    tcn = ResidualTCN(4, 6, 3, 2, 4, True)
    assert sorted(tcn.skips) == ["0_1", "0_2", "0_3", "1_2", "1_3", "2_3"]
    assert [b[-1].scale.item() for b in tcn.blocks] == pytest.approx([0.9**i for i in range(8)])
    assert [b[3].dilation for b in tcn.blocks] == [1, 2] * 4
    # With silent branches only the skips remain: x1 = (1+a)x0, x2 = x1 + a x0 + a x1, ...
    x = torch.rand(1, 4, 5)
    with torch.no_grad():
        for branch in tcn.blocks:
            branch[-1].scale.zero_()
        for skip in tcn.skips.values():
            skip.weight.copy_(torch.eye(4)[..., None])
            skip.bias.zero_()
            skip.scale.fill_(0.5)
        starts = [x]
        for _ in range(3):
            starts.append(starts[-1] + 0.5 * sum(starts))
        torch.testing.assert_close(tcn(x), starts[-1])


def test_stft_masks_see_no_level():
    torch.manual_seed(0)
    options = {
        **TDCNpp.PRESETS["tiny"],
        "encoder": "stft",
        "n_fft": 64,
        "win": 64,
        "hop": 16,
        "input_norm": "none",
    }
    model, mix = TDCNpp(**options).eval(), torch.randn(1, 1000)
    torch.testing.assert_close(model(1e-3 * mix) * 1e3, model(mix), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("key", "value"), [("encoder", "mel"), ("block_kernel", 2), ("causal", True)])
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        TDCNpp(**{**TDCNpp.PRESETS["tiny"], "input_norm": "none", key: value})


@pytest.mark.parametrize("encoder", ["learned", "stft"])
def test_zero_last_starts_with_equal_shares_and_learns(encoder):
    options = {**TDCNpp.PRESETS["tiny"], "encoder": encoder, "n_fft": 64, "win": 64, "hop": 16, "n_src": 3}
    model, mix = TDCNpp(**options, zero_last=True), torch.randn(2, 500)
    assert model.n_params == TDCNpp(**options).n_params
    est = model(mix)
    torch.testing.assert_close(est, mix[:, None].expand_as(est) / 3)
    (est[:, 0] - mix).square().sum().backward()
    assert model.head.weight.grad.any()
