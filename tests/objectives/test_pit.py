"""PIT against the naive formulation, its invariance, silent references and precision."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from usepcli import registry
from usepcli.data.batch import Batch
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.scale_invariant import SISNR
from usepcli.losses.thresholded import SNR
from usepcli.objectives.pit import PIT, match, mean_snr_db, references, take


def signals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def naive(loss, est: Tensor, ref: Tensor, mix: Tensor) -> Tensor:
    """All pairs on waveforms, all permutations, minimum: (B,)."""
    table = loss(est[:, None], ref[:, :, None], mix[:, None, None])  # (B, K, N)
    rows = torch.arange(ref.shape[1])
    picks = [table[:, rows, list(p)].mean(-1) for p in itertools.permutations(range(est.shape[1]), len(rows))]
    return torch.stack(picks).min(0).values


@settings(max_examples=25)
@given(n=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_value_and_gradient_are_those_of_the_naive_form(n: int, seed: int) -> None:
    ref, mix = signals(3, n, 200, seed=seed).double(), signals(3, 200, seed=seed + 1).double()
    for loss in (SNR(), SISNR()):
        est = signals(3, n, 200, seed=seed + 2).double().requires_grad_()
        plain = est.detach().clone().requires_grad_()
        ours, theirs = match(loss, est, ref, mix).loss, naive(loss, plain, ref, mix)
        torch.testing.assert_close(ours, theirs)
        ours.sum().backward()
        theirs.sum().backward()
        torch.testing.assert_close(est.grad, plain.grad, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("zero_refs", ["match", "ignore"])
def test_order_of_references_and_of_outputs_does_not_matter(zero_refs: str) -> None:
    ref, est, mix = signals(2, 4, 300), signals(2, 4, 300, seed=1), signals(2, 300, seed=2)
    ref[0, 2] = 0
    first = match(SNR(), est, ref, mix, zero_refs).loss
    for order in ([3, 1, 0, 2], [1, 0, 3, 2]):
        torch.testing.assert_close(match(SNR(), est, ref[:, order], mix, zero_refs).loss, first)
        torch.testing.assert_close(match(SNR(), est[:, order], ref, mix, zero_refs).loss, first)


@pytest.mark.parametrize("snr", [40.0, 60.0])
@pytest.mark.parametrize("loss", [SNR(snr_max_db=None), SISNR()], ids=["snr", "si_snr"])
def test_precision_and_choice_hold_at_high_snr(loss, snr: float) -> None:
    # Two nearly equal references: 50 dB apart, so that the search needs more than float32 products.
    base = signals(2, 1, 32_000)
    ref = torch.cat([base, base + 10 ** (-50 / 20) * signals(2, 1, 32_000, seed=1)], 1)
    est = ref.flip(1) + 10 ** (-snr / 20) * signals(2, 2, 32_000, seed=2)
    found = match(loss, est, ref, ref.sum(1))
    assert found.loss.dtype == torch.float32
    truth = naive(loss, est.double(), ref.double(), ref.sum(1).double())
    torch.testing.assert_close(found.loss.double(), truth, rtol=0, atol=1e-3)
    if snr == 60.0:
        assert found.chosen.tolist() == [[1, 0], [1, 0]]


def test_left_over_outputs_are_matched_with_silence_or_ignored() -> None:
    ref = signals(1, 2, 500)
    est = torch.cat([signals(1, 1, 500, seed=3), ref.flip(1)], 1).requires_grad_()
    ignored = match(SNR(), est, ref, ref.sum(1), "ignore")
    assert ignored.chosen.tolist() == [[2, 1]]
    assert float(ignored.loss.detach()) == pytest.approx(-30, abs=1e-3)
    ignored.loss.sum().backward()
    assert not est.grad[0, 0].any()
    est.grad = None
    matched = match(SNR(), est, ref, ref.sum(1), "match")
    assert matched.chosen.tolist() == [[2, 1, 0]]
    assert matched.active.tolist() == [[True, True, False]]
    matched.loss.sum().backward()
    # The gradient of the zero-reference loss shrinks the output.
    assert float((est.grad[0, 0] * est.detach()[0, 0]).sum()) > 0


def test_zero_weight_scales_the_silent_slots_only() -> None:
    ref, est = signals(2, 2, 300), signals(2, 2, 300, seed=1)
    est[:, 0] += 3 * ref[:, 0]
    ref[:, 1] = 0
    one, none, half = (match(SNR(), est, ref, ref.sum(1), "match", w) for w in (1.0, 0.0, 0.5))
    assert torch.equal(one.chosen, half.chosen)
    quiet = one.pair_db[:, 1]
    torch.testing.assert_close(half.loss, one.loss - 0.25 * quiet)
    torch.testing.assert_close(none.loss, 0.5 * none.pair_db[:, 0])


def test_search_takes_no_tensor_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    direct = SNR.direct

    def spy(self, est, ref, *energies):
        sizes.append(max(est.numel(), ref.numel()))
        return direct(self, est, ref, *energies)

    monkeypatch.setattr(SNR, "direct", spy)
    match(SNR(), signals(2, 6, 100), signals(2, 6, 100), signals(2, 100))
    assert sizes == [2 * 6 * 100]


def test_non_finite_estimates_give_a_non_finite_loss_and_no_crash() -> None:
    est = signals(2, 5, 100)
    est[0, 3, 7] = float("nan")
    loss = match(SNR(), est, signals(2, 5, 100, seed=1), signals(2, 100)).loss
    assert torch.isnan(loss[0]) and torch.isfinite(loss[1])


def test_log_counts_sounding_references_only(make_model, make_batch) -> None:
    batch = make_batch()
    objective = PIT(make_model(3), SNR())
    with torch.no_grad():
        for weight in objective.student.parameters():
            weight.zero_()
    objective.losses(batch)
    assert float(objective.step_logs["snr_db"]) == pytest.approx(0, abs=1e-6)


def test_the_log_is_the_snr_whatever_the_loss(make_model) -> None:
    ref = signals(2, 3, 400)
    est = (0.9 * ref).flip(1)
    ref[:, 2] = 0
    est[:, 0] = 0
    for name in registry.LOSSES:
        found = match(registry.load("loss", name)(), est, ref, ref.sum(1))
        assert found.active.tolist() == [[True, True, False]] * 2
        assert float(mean_snr_db(found)) == pytest.approx(20, abs=1e-4), name
    assert torch.isnan(mean_snr_db(match(SNR(), est, 0 * ref, ref.sum(1))))
    assert float(mean_snr_db(match(SNR(), ref, ref, ref.sum(1)))) == pytest.approx(120)


def test_faults_name_the_setting(make_model, make_batch) -> None:
    objective = PIT(make_model(2), SNR())
    with pytest.raises(BadInput, match=r"3 references for 2 outputs; set model\.n_src to 3"):
        objective.losses(make_batch(n_ref=3))
    with pytest.raises(BadInput, match="no references"):
        objective.losses(Batch(signals(2, 10), None, ["a", "b"]))
    with pytest.raises(ConfigError, match=r"objective\.zero_weight"):
        PIT(make_model(2), SNR(), zero_weight=-1.0)


def test_the_residual_is_what_the_references_leave(make_batch) -> None:
    batch = make_batch(n_ref=2)
    noise = torch.randn(batch.mix.shape, generator=torch.Generator().manual_seed(9))
    noisy = Batch(batch.mix + noise, batch.sources, batch.ids)
    both = references(noisy, residual=True)
    torch.testing.assert_close(both[:, 2], noise, atol=1e-5, rtol=1e-5)
    assert references(noisy, residual=False).shape[1] == 2


def test_what_rounding_to_16_bits_leaves_is_no_source(make_batch) -> None:
    batch = make_batch(n_ref=2)
    whole = 0.1 * batch.sources.sum(1)
    rounded = (whole * 32768).round() / 32768
    filed = Batch(rounded, 0.1 * batch.sources, batch.ids)
    assert (rounded != whole).any()
    assert not references(filed, residual=True)[:, 2].any()
    # 50 dB below the mixture is noise.
    noisy = Batch(whole * (1 + 10 ** (-50 / 20)), 0.1 * batch.sources, batch.ids)
    assert references(noisy, residual=True)[:, 2].any(-1).all()


def test_an_unthresholded_search_chooses_without_limits_and_pays_with_them(make_model) -> None:
    limited, free = SNR(snr_max_db=0.0), SNR(snr_max_db=None)
    ref, noise = signals(40, 3, 50), signals(40, 3, 50, seed=1)
    # Output 1 is nearly reference 0 and holds half of reference 1 as well, and so on: the limit hides who is closest.
    est = ref.roll(1, 1) + 0.9 * ref + noise * torch.tensor([0.1, 0.5, 1.0])[:, None]
    found = match(limited, est, ref, ref.sum(1), search=limited.unlimited())
    assert torch.equal(found.chosen, match(free, est, ref, ref.sum(1)).chosen)
    assert not torch.equal(found.chosen, match(limited, est, ref, ref.sum(1)).chosen)
    pairs = limited(take(est, found.chosen), ref, ref.sum(1)[:, None])
    torch.testing.assert_close(found.loss, pairs.mean(-1), atol=1e-4, rtol=1e-4)
    with pytest.raises(ConfigError, match="perm_loss"):
        PIT(make_model(2), limited, perm_loss="best")  # type: ignore[arg-type]
