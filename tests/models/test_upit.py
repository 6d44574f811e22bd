from __future__ import annotations

import pytest
import torch

from usepcli.data.batch import Batch
from usepcli.errors import ConfigError
from usepcli.losses.spectral import SpectralMSE
from usepcli.models.upit import UPIT
from usepcli.objectives.pit import PIT


# 46.3 and 92.7 million in the tables; the latter is twice the former. Three layers of 1792 one way, by hand:
# 4 * 1792 * (129 + 1792 + 2) + 2 * 4 * 1792 * (2 * 1792 + 2) + 258 * (1792 + 1).
@pytest.mark.parametrize(("preset", "size"), [("paper", 46_387_970), ("paper_st", 92_775_940), ("causal", 65_655_554)])
def test_published_size(preset, size):
    with torch.device("meta"):
        assert UPIT(**UPIT.PRESETS[preset]).n_params == size


def test_arithmetic_of_the_published_size():
    # 62.5 frames a second, and one more in two seconds; a weight of the layers and the head costs two operations.
    weights = 2 * 4 * 896 * (129 + 896) + 2 * 2 * 4 * 896 * (2 * 896 + 896) + 2 * 896 * 258
    assert UPIT().flops_per_second() == 2 * (126 / 2) * weights


def tiny(**options):
    torch.manual_seed(0)
    return UPIT(**{**UPIT.PRESETS["tiny"], **options}).eval()


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("n_src", [1, 2, 4])
@torch.no_grad()
def test_softmax_masks_add_up_to_one_in_either_stage(stages, n_src):
    found = tiny(stages=stages, n_src=n_src, mask="softmax", consistency="none").parts(torch.randn(2, 900)).masks
    torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]))


@pytest.mark.parametrize(("mask", "least", "most"), [
    ("sigmoid", 0, 1), ("relu", 0, float("inf")), ("tanh", -1, 1), ("softmax", 0, 1),
])  # fmt: skip
@torch.no_grad()
def test_masks_keep_their_range(mask, least, most):
    found = tiny(mask=mask).parts(torch.randn(1, 900)).masks
    assert found.min() >= least and found.max() <= most and found.std() > 0


@torch.no_grad()
def test_the_second_stage_moves_what_lies_in_the_wrong_stream():
    model = tiny(stages=2, n_src=3, mask="softmax")
    logits = torch.zeros(1, 1, 4, 3, 1)
    shares = torch.tensor([0.5, 0.3, 0.2])
    logits[0, 0, 0, :, 0] = shares.log()
    # Stream 0 goes on to source 1, stream 1 to source 2, stream 2 stays.
    logits[0, 0, 1, 1, 0] = logits[0, 0, 2, 1, 0] = logits[0, 0, 3, 0, 0] = 100
    want = (shares + torch.tensor([0.0, 0.5, 0.3 + 0.2])) / 2
    torch.testing.assert_close(model.gains(logits)[0, 0, :, 0], want)


@torch.no_grad()
def test_the_second_stage_hears_each_stream_by_itself():
    model, mix = tiny(stages=2, n_src=2, mask="sigmoid"), torch.randn(1, 900)
    spec = model.stft(mix)
    core = model.core(spec)
    masks = torch.sigmoid(model.heads[0](model.nets[0](torch.log(spec.abs().mT + 1e-3)))).unflatten(-1, (2, -1))
    for stream in range(2):
        alone = model.nets[1](torch.log(masks[:, :, stream] * spec.abs().mT + 1e-3))
        torch.testing.assert_close(core[:, :, 1 + stream], alone)


@pytest.mark.parametrize("n_src", [2, 3])
@pytest.mark.parametrize("mask", ["softmax", "sigmoid", "relu", "tanh", "linear"])
@torch.no_grad()
def test_a_network_that_says_nothing_yet_shares_alike(mask, n_src):
    # A sigmoid starts at its middle whatever the number of sources.
    share = 1 / 2 if mask == "sigmoid" else 1 / n_src
    found = tiny(zero_last=True, mask=mask, n_src=n_src).parts(torch.randn(1, 500)).masks
    torch.testing.assert_close(found, torch.full_like(found, share))


@pytest.mark.parametrize("target", ["am", "psm", "npsm"])
@pytest.mark.parametrize("mask", ["softmax", "sigmoid", "relu", "tanh"])
def test_every_pair_of_target_and_mask_learns(target, mask):
    model = tiny(mask=mask, stages=2 if mask == "relu" else 1, consistency="none", features="magnitude").train()
    objective = PIT(model, SpectralMSE(target))
    draw = torch.Generator().manual_seed(0)
    t = torch.arange(2000) / 8000
    pitch = torch.tensor([[300.0, 2500.0], [2900.0, 500.0]])[..., None]
    sources = torch.sin(2 * torch.pi * pitch * t) + 0.01 * torch.randn(2, 2, 2000, generator=draw)
    batch = Batch(ids=["a", "b"], mix=sources.sum(1), sources=sources)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss = objective.losses(batch)["pit"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("key", "value"), [("mask", "tanh_complex"), ("stages", 3), ("stages", 0), ("features", "power"), ("dropout", 1.0),
                       ("hop", 60)],
)  # fmt: skip
def test_wrong_settings(key, value):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        tiny(**{key: value})
