"""PixIT: closed forms, a slow search over all orders, partners, and what does not count."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from usepcli.data.batch import Batch
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.thresholded import SNR
from usepcli.objectives import pixit
from usepcli.objectives.base import MAIN, Shared
from usepcli.objectives.pixit import HEAD, PixIT

RATE, HOP = 8000, 160


def meeting(talkers, length=8 * HOP, seed=0):
    """A batch of noise in which talker k of every recording speaks in frames k, k + 3, ..."""
    size = len(talkers)
    mix = torch.randn(size, length, generator=torch.Generator().manual_seed(seed))
    frames = -(-length // HOP)
    most = max(map(len, talkers))
    activity = torch.zeros(size, most, frames)
    for b, names in enumerate(talkers):
        for k in range(len(names)):
            activity[b, k, k::3] = 1.0
    return Batch(mix, None, [str(b) for b in range(size)], talkers=[*map(tuple, talkers)], activity=activity)


def test_levels_are_those_of_frames_against_the_mean_of_the_mixture():
    mix = torch.ones(1, 2 * HOP + 40) * 2.0  # energy 4; the last frame has 40 samples
    est = torch.cat([torch.full((HOP,), 2.0), torch.full((HOP,), 0.2), torch.full((40,), 20.0)])[None, None]
    want = torch.tensor([[[0.0, -20.0, 20.0]]])
    torch.testing.assert_close(pixit.levels(est, mix, RATE), want, atol=1e-3, rtol=0)
    silent = pixit.levels(torch.zeros(1, 1, 320), torch.zeros(1, 320), RATE)
    torch.testing.assert_close(silent, torch.full((1, 1, 2), -60.0))


def test_frames_of_a_rate_that_fifty_does_not_divide_hold_every_sample_once():
    wave = torch.randn(1, 1, 11025, dtype=torch.float64)
    found = 10 ** (pixit.levels(wave, wave[0], 11025) / 10) - 1e-6
    assert found.shape[-1] == 50
    edges = [math.ceil(k * 11025 / 50) for k in range(51)]
    sizes = torch.tensor([b - a for a, b in itertools.pairwise(edges)], dtype=torch.float64)
    torch.testing.assert_close((found * sizes).sum() / 11025, torch.ones((), dtype=torch.float64))


def test_cross_entropy_is_that_of_the_best_of_all_orders():
    torch.manual_seed(1)
    logits, activity = torch.randn(5, 4, 9), (torch.rand(5, 4, 9) < 0.4).float()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    every = [
        torch.stack([entropy(logits[b, [*order]], activity[b]) for b in range(5)])
        for order in itertools.permutations(range(4))
    ]
    torch.testing.assert_close(pixit.told(logits, activity).loss, torch.stack(every).amin(0))


def test_undecided_logits_cost_a_bit_and_sure_ones_nothing():
    activity = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
    torch.testing.assert_close(pixit.told(torch.zeros(1, 2, 3), activity).loss, torch.tensor([math.log(2)]))
    found = pixit.told(50 * (2 * activity.flip(1) - 1), activity)
    assert found.loss.item() < 1e-6
    assert found.right.item() == 1.0


def test_partners_share_no_talker_and_have_outputs_where_that_can_be():
    assert pixit.partners([("a",), ("a", "b"), ("c",), ("d",)], 4) == [(0, 2), (1, 3)]
    assert pixit.partners([("a", "b"), ("c", "d")], 3) == [(0, 1)]  # left over, and counts for MixIT only
    assert pixit.partners([(), ("a",), ("a",), ()], 1) == [(0, 1), (2, 3)]


def test_what_cannot_be_told_counts_for_mixit_alone(make_model):
    objective = PixIT(make_model(2), SNR())
    sums = objective._sums(meeting([("a", "b"), ("a",), ("a", "b", "c"), ("a",)]))
    # (0, 1) and (2, 3) share a; recording 2 has three talkers for two outputs.
    assert sums.counts.tolist() == [1, 0, 1, 1, 0, 0]
    torch.testing.assert_close(sums.heard[-2:], sums.mixtures.sum(1))


def test_both_terms_are_weighed_and_the_activity_of_a_sum_is_that_of_both(make_model):
    batch, model = meeting([("a",), ("b",)]), make_model(2)
    one, other = (dict(PixIT(model, SNR(), w).losses(batch)) for w in (0.25, 1.0))
    torch.testing.assert_close(one["mixit"], 0.25 * other["mixit"])
    assert other["activity"].item() == 0.0
    assert one["activity"].item() > 0.0
    sums = PixIT(model, SNR())._sums(batch)
    torch.testing.assert_close(sums.activity[2], torch.cat([sums.activity[0, :1], sums.activity[1, :1]]))


def test_each_step_moves_its_own_group(make_model):
    objective, batch = PixIT(make_model(3), SNR()), meeting([("a",), ("b",), ("c",), ("d", "e")])
    shared = Shared(graphs=True)
    for step, moved in zip(objective.steps(), (HEAD, MAIN), strict=True):
        assert step.group == moved
        terms = step.terms(batch, shared)
        parameters = list(objective.groups()[moved].parameters())
        slopes = torch.autograd.grad(sum(terms.losses.values()), parameters)
        assert all(torch.isfinite(g).all() and g.any() for g in slopes)


def test_outputs_that_are_the_talkers_cost_less_than_a_copy_in_both(make_model):
    torch.manual_seed(0)
    activity = torch.zeros(1, 2, 8)
    activity[0, 0, :4], activity[0, 1, 4:] = 1.0, 1.0
    waves = torch.randn(1, 2, 8 * HOP) * activity.repeat_interleave(HOP, -1)
    mix = waves.sum(1)
    head = pixit.ActivityHead()
    apart, alike = (
        pixit.told(head(pixit.levels(est, mix, RATE)), activity).loss for est in (waves, mix[:, None] / 2 + 0 * waves)
    )
    assert apart.item() < 0.01 < alike.item()


def test_without_turns_and_with_odd_settings_there_is_one_line(make_model):
    batch = meeting([("a",), ("b",)])
    batch.activity = None
    with pytest.raises(BadInput, match="column 'activity'"):
        PixIT(make_model(2), SNR()).losses(batch)
    with pytest.raises(ConfigError, match="even"):
        PixIT(make_model(2), SNR()).check(3)
    with pytest.raises(ConfigError, match="separation_weight"):
        PixIT(make_model(2), SNR(), separation_weight=1.5)
