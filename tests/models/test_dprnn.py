from __future__ import annotations

import pytest
import torch
from torch import nn

from usepcli.errors import ConfigError
from usepcli.models.basis import AveragedBasis
from usepcli.models.dprnn import DPRNN, Path


# 2.6 million in the paper; asteroid 0.7.0 counts the same for DPRNNTasNet(2, bn_chan=64). The gated one is that of its
# authors' code, 7.5 million in the paper; the paths of DPTNet have 12 * 232 128, in the place of those of DPRNN.
@pytest.mark.parametrize(
    ("preset", "size"),
    [
        ("paper", 2_608_065),
        ("paper_16", 2_609_857),
        ("gated", 7_558_913),
        ("dptnet", 2_810_817),
    ],
)
def test_published_size(preset, size):
    with torch.device("meta"):
        assert DPRNN(**DPRNN.PRESETS[preset]).n_params == size
        assert 100_000 < DPRNN(**DPRNN.PRESETS["small"]).n_params < 1_000_000


def test_arithmetic_of_the_published_size():
    # 8 kHz, hop 8: 1000 frames a second, each in two chunks of 100; 6 blocks of two paths. Within the chunks and
    # across them a step costs 2 * (2 * 4 * 128 * (64 + 128) + 256 * 64) operations.
    recurrent = 6 * 2 * 2 * 1000 * 2 * (2 * 4 * 128 * (64 + 128) + 256 * 64)
    got = DPRNN(**DPRNN.PRESETS["paper_16"]).flops_per_second()
    assert recurrent < got < 1.2 * recurrent


def tiny(**options):
    torch.manual_seed(0)
    return DPRNN(**{**DPRNN.PRESETS["tiny"], **options}).eval()


@pytest.mark.parametrize(("chunk", "hop", "times"), [(12, 6, 2), (12, 4, 3), (9, 9, 1), (10, 1, 10)])
@pytest.mark.parametrize("frames", [1, 5, 12, 41])
def test_chunks_put_together_are_the_frames_again(chunk, hop, times, frames):
    model, x = tiny(chunk=chunk, chunk_hop=hop), torch.randn(2, 3, frames)
    chunks = model._cut(x)
    assert chunks.shape[-1] == chunk
    torch.testing.assert_close(model._join(chunks, frames), times * x)


def test_chunks_lie_in_the_order_of_time():
    chunks = tiny(chunk=4)._cut(torch.arange(1.0, 7.0).expand(1, 1, 6))
    assert chunks[0, 0].tolist() == [[0, 0, 0, 0], [0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("rnn", ["lstm", "gru", "rnn"])
def test_a_path_runs_along_its_last_axis_alone(rnn):
    path, x = Path(4, 3, 1, rnn, "channel", True), torch.randn(2, 4, 5, 6)
    got = path(x)
    for row in range(5):
        y = path.out(path.rnn(x[:, :, row].mT)[0]).mT
        torch.testing.assert_close(got[:, :, row], x[:, :, row] + path.norm(y))


@torch.no_grad()
def test_latency_of_the_causal_model_is_one_chunk_and_is_used():
    model = tiny(causal=True, norm="channel", input_norm="none", consistency="none", chunk=12, kernel=8)
    assert model.latency_samples == 11 * 4 + 8
    mix = torch.randn(1, 4 * 12 * 8)
    furthest = 0
    for start in range(150, 250):
        other = mix.clone()
        other[:, start:] += 3
        moved = int((model(mix) - model(other)).abs().amax(1)[0].gt(1e-6).nonzero()[0])
        furthest = max(furthest, start - moved)
    # Output t may see input up to t + latency - 1.
    assert model.latency_samples - 3 * model.hop < furthest < model.latency_samples


def test_forwards_alone_halves_the_rnn_across_and_forgets_the_later_chunks():
    both, forward = tiny(), tiny(bidirectional=False)
    assert all(path.rnn.bidirectional for path in [*both.within, *both.across, *forward.within])
    assert not any(path.rnn.bidirectional for path in forward.across)
    assert isinstance(forward.across[0].norm, nn.GroupNorm) and not forward.causal


@pytest.mark.parametrize(
    ("key", "value"),
    [("norm", "cumln"), ("mask", "exp"), ("rnn", "qrnn"), ("chunk", 1), ("chunk_hop", 13), ("kernel", 7),
     ("stride", 9), ("padding", "start"), ("activation", "elu")],
)  # fmt: skip
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        tiny(**{key: value})


def test_causal_refuses_the_global_norm():
    with pytest.raises(ConfigError, match=r"model\.causal.*channel"):
        tiny(causal=True, input_norm="none")


@torch.no_grad()
def test_features_are_averaged_into_samples():
    basis, x = AveragedBasis(16, 4, 2), torch.randn(1, 16, 3)
    want = torch.zeros(2 * 2 + 4)
    for frame in range(3):
        want[2 * frame : 2 * frame + 4] += x[0, :, frame].view(4, 4).mean(1)
    torch.testing.assert_close(basis.synthesise(x[:, None], 8)[0, 0], want)


@torch.no_grad()
def test_a_closed_gate_leaves_what_the_last_layer_makes_of_the_input():
    path, x = tiny(path="gated", norm="none").across[0], torch.randn(1, 16, 3, 5)
    nn.init.zeros_(path.gate_out.weight)
    nn.init.zeros_(path.gate_out.bias)
    alone = torch.nn.functional.linear(x.movedim(1, -1), path.out.weight[:, 16:], path.out.bias).movedim(-1, 1)
    torch.testing.assert_close(path(x), x + alone)


@torch.no_grad()
def test_attention_is_that_of_torch():
    path, x = tiny(path="dptnet", heads=4, norm="none").within[0], torch.randn(1, 16, 3, 5)
    torchs = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    torchs.load_state_dict({
        "in_proj_weight": path.inlet.weight, "in_proj_bias": path.inlet.bias,
        "out_proj.weight": path.outlet.weight, "out_proj.bias": path.outlet.bias,
    })  # fmt: skip
    rows = x[0].permute(1, 2, 0)  # (rows, steps, C)
    y = path.first(rows + torchs(rows, rows, rows, need_weights=False)[0])
    y = path.second(y + path.out(torch.relu(path.rnn(y)[0])))
    torch.testing.assert_close(path(x)[0], x[0] + y.permute(2, 0, 1))


@pytest.mark.parametrize(("key", "options"), [
    ("path", {"path": "lstm"}), ("output", {"output": "masks"}), ("dim", {"output": "direct"}),
    ("filters", {"output": "direct", "dim": 24}), ("heads", {"path": "dptnet", "heads": 5}),
    ("causal", {"path": "dptnet", "causal": True, "norm": "channel", "input_norm": "none"}),
])  # fmt: skip
def test_paths_that_do_not_fit(key, options):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        tiny(**options)
