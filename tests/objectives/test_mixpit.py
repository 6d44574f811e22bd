"""MixPIT: permutations of whole mixtures."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from usepcli.data.batch import Batch
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.thresholded import SNR
from usepcli.models.separator import SeparationModel
from usepcli.objectives.mixpit import MixPIT


class Fixed(SeparationModel):
    """Returns the estimates that it was made with."""

    def __init__(self, est: torch.Tensor) -> None:
        super().__init__(n_src=est.shape[1], sample_rate=8000, hop=1)
        self.est = nn.Parameter(est)

    def estimate(self, mix: torch.Tensor) -> torch.Tensor:
        return self.est


def test_loss_is_the_best_permutation_of_the_mixtures(make_model, make_batch) -> None:
    batch = make_batch(size=6)
    objective = MixPIT(make_model(3), SNR())
    terms = objective.losses(batch)
    mixtures = torch.stack([batch.mix[:2], batch.mix[2:4], batch.mix[4:]], 1)
    est = objective.student(mixtures.sum(1))
    orders = [SNR()(est[:, list(p)], mixtures).mean(-1) for p in itertools.permutations(range(3))]
    assert set(terms) == {"mixpit"}
    torch.testing.assert_close(terms["mixpit"], torch.stack(orders).min(0).values.mean())


def test_perfect_outputs_reach_the_limit_and_a_known_error_its_snr(make_batch) -> None:
    batch = make_batch(size=4)
    mixtures = torch.stack([batch.mix[:2], batch.mix[2:]], 1)
    found = MixPIT(Fixed(mixtures.flip(1)), SNR())
    assert float(found.losses(batch)["mixpit"].detach()) == pytest.approx(-30, abs=1e-3)
    found = MixPIT(Fixed(0.9 * mixtures), SNR(snr_max_db=10.0))
    with torch.autocast("cpu", torch.bfloat16):
        found.losses(batch)
    assert float(found.step_logs["snr_db"]) == pytest.approx(20, abs=1e-3)


def test_outputs_to_spare_shall_be_silent(make_batch) -> None:
    batch = make_batch(size=4)
    est = torch.cat([batch.mix[2:, None], torch.zeros(2, 1, 400), batch.mix[:2, None]], 1)
    objective = MixPIT(Fixed(est), SNR(), n_mix=2)
    floor = 10 * torch.log10(1e-3 * (batch.mix[:2] + batch.mix[2:]).square().sum(-1))
    expected = float((-60 + floor).mean()) / 3
    assert float(objective.losses(batch)["mixpit"].detach()) == pytest.approx(expected, abs=1e-3)
    assert float(objective.step_logs["snr_db"]) == pytest.approx(120, abs=1e-3)


def test_the_sum_is_normalised_on_request(make_model, make_batch) -> None:
    batch = make_batch()
    objective = MixPIT(make_model(2), SNR(), normalize_mom=True)
    seen = []
    objective.student.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    objective.losses(batch)
    torch.testing.assert_close(seen[0].std(-1), torch.ones(2))


def test_silent_sums_teach_nothing(make_model, make_batch) -> None:
    batch = make_batch(size=4)
    objective = MixPIT(make_model(2), SNR(), normalize_mom=True)
    alone = objective.losses(Batch(batch.mix[[0, 2]], None, ["0", "2"]))["mixpit"]
    batch.mix[[1, 3]] = 0
    torch.testing.assert_close(objective.losses(batch)["mixpit"], alone)


def test_faults_name_the_setting(make_model, make_batch) -> None:
    for n_src, n_mix in ((1, 0), (3, 4), (3, 1)):
        with pytest.raises(ConfigError, match=rf"objective\.n_mix: found {n_mix} with model\.n_src {n_src}"):
            MixPIT(make_model(n_src), SNR(), n_mix=n_mix)
    with pytest.raises(ConfigError, match=r"batch_size: found 4; expected a multiple of objective\.n_mix 3"):
        MixPIT(make_model(3), SNR()).check(4)
    with pytest.raises(BadInput, match="objective mixpit: a batch of 2 mixtures; expected at least 3"):
        MixPIT(make_model(3), SNR()).losses(make_batch(size=2))
