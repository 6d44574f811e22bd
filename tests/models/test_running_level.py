from __future__ import annotations

import math

import pytest
import torch

from usepcli.models.running_level import BLOCK, RunningLevel
from usepcli.models.upit import UPIT


def slow(x, keep):
    """Frame by frame, as the formula reads."""
    out = torch.zeros_like(x)
    for at in range(x.shape[1]):
        weights = keep ** torch.arange(at, -1, -1, dtype=x.dtype)
        level = ((weights * x[:, : at + 1].square().mean(-1)).sum(-1) / weights.sum()).sqrt()
        out[:, at] = x[:, at] / level[:, None]
    return out


@pytest.mark.parametrize("frames", [1, 7, BLOCK, 2 * BLOCK + 3])
def test_equals_the_formula(frames):
    x = torch.randn(2, frames, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).abs()
    torch.testing.assert_close(RunningLevel(20)(x), slow(x, math.exp(-1 / 20)))


def test_goes_on_where_it_stopped():
    x, level = torch.rand(2, 600, 3, dtype=torch.float64), RunningLevel(50)
    parts, kept = [], None
    for part in x.split([1, 2, 300, 0, 297], 1):
        found, kept = level.step(part, kept)
        parts.append(found)
    torch.testing.assert_close(torch.cat(parts, 1), level(x))


def test_steady_frames_have_unit_level_and_silence_none():
    assert torch.equal(RunningLevel(5)(torch.zeros(1, 9, 4)), torch.zeros(1, 9, 4))
    found = RunningLevel(5)(torch.full((1, 2000, 4), 1e-3))
    torch.testing.assert_close(found, torch.ones_like(found))


@torch.no_grad()
def test_a_levelled_network_gives_the_same_at_any_loudness():
    torch.manual_seed(0)
    tiny = {**UPIT.PRESETS["tiny"], "input_norm": "none", "causal": True}
    wave = torch.randn(2, 3000)
    for levelled, same in ((True, True), (False, False)):
        model = UPIT(**tiny, levelled=levelled).eval()
        loud = model.estimate(1000 * wave) / 1000
        assert torch.allclose(loud, model.estimate(wave), rtol=0, atol=1e-4) is same
