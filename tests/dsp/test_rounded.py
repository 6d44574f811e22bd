"""The search in rounded products against the one in exact products."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from usepcli.dsp import assign, rounded


def snr_cost(ref_energy: Tensor, tau: float):
    """Return the cost of sums of outputs as minus their SNR in dB, with a soft limit."""

    def cost(energy: Tensor, inner: Tensor) -> Tensor:
        ref = ref_energy[..., None]
        return 10 * torch.log10(((ref - 2 * inner + energy).clamp_min(0) + tau * ref + 1e-12) / ref)

    return cost


@settings(max_examples=60)
@given(
    n_est=st.integers(1, 6),
    level=st.sampled_from([0.01, 0.3, 1.0]),
    quiet=st.sampled_from([1.0, 1e-2, 1e-4]),
    rounding=st.sampled_from([1e-6, 1e-4, 1e-2]),
    tau=st.sampled_from([0.0, 1e-3]),
    seed=st.integers(0, 10_000),
)
def test_what_rounding_cannot_have_chosen_is_what_exact_products_choose(
    n_est, level, quiet, rounding, tau, seed
) -> None:
    rng = torch.Generator().manual_seed(seed)
    e = torch.randn(40, n_est, 30, generator=rng).double()
    e[:, n_est // 2 :] *= quiet
    owner = torch.randint(2, (40, n_est), generator=rng)
    x = torch.nn.functional.one_hot(owner, 2).mT.double() @ e
    x = x + level * torch.randn(40, 2, 30, generator=rng).double()
    gram, cross, ref = e @ e.mT, x @ e.mT, x.square().sum(-1)
    norms = gram.diagonal(dim1=-2, dim2=-1).sqrt()

    def off(exact: Tensor, left: Tensor) -> Tensor:
        return (
            exact + rounding * left[..., None] * norms[:, None] * (torch.rand(exact.shape, generator=rng) - 0.5).sign()
        )

    blurred = off(gram, norms)
    blurred = (blurred + blurred.mT) / 2
    exact = assign.mixit(gram, cross, snr_cost(ref, tau))
    found, sure = rounded.mixit(blurred, off(cross, ref.sqrt()), ref, lambda rows: snr_cost(ref[rows], tau), rounding)
    assert torch.equal(found[sure], exact[sure])
    if rounding == 1e-6 and level == 0.3 and quiet == 1:
        assert sure.double().mean() > 0.8  # and it does not doubt everything


def test_rules_leave_no_doubt_where_they_leave_one_way() -> None:
    gram, cross, ref = torch.eye(2)[None].double(), torch.ones(1, 2, 2).double(), torch.full((1, 2), 3.0).double()

    def cost(rows: rounded.Rows):
        return snr_cost(ref[rows], 0.0)

    assert not rounded.mixit(gram, cross, ref, cost, 1e-6)[1].any()  # all ways cost the same
    rules = assign.Rules(torch.tensor([[True, False], [False, True]]))
    owner, sure = rounded.mixit(gram, cross, ref, cost, 1e-6, rules)
    assert owner.tolist() == [[0, 1]]
    assert sure.all()
