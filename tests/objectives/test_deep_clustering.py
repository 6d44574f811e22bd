"""Losses of embeddings: closed forms, the slow comparison of all pairs, and what does not change them."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize, one_hot

from usepcli.data.batch import Batch
from usepcli.errors import ConfigError
from usepcli.losses.spectral import SpectralMSE
from usepcli.losses.thresholded import SNR
from usepcli.models.chimera import Chimera
from usepcli.models.upit import UPIT
from usepcli.objectives import deep_clustering as dc
from usepcli.objectives.deep_clustering import DeepClustering
from usepcli.objectives.pit import PIT


def drawn(bins=40, dim=6, kinds=3, size=2):
    emb = normalize(torch.randn(size, bins, dim), dim=-1)
    owner = one_hot(torch.randint(kinds, (size, bins)), kinds).float()
    weight = torch.rand(size, bins)
    return emb, owner, weight / weight.sum(1, keepdim=True)


def all_pairs(emb, owner, weight):
    pairs = emb @ emb.mT - owner @ owner.mT  # (B, M, M)
    return (weight[:, :, None] * weight[:, None] * pairs.square()).sum((1, 2))


def test_classic_from_small_matrices_is_that_of_all_pairs():
    emb, owner, weight = drawn()
    found = dc.classic(emb, owner, weight)
    torch.testing.assert_close(found, all_pairs(emb, owner, weight).double(), atol=1e-6, rtol=1e-5)


def test_whitened_is_the_distance_of_two_projections():
    """With orthonormal bases A of V and B of Y, weighted, K - tr((V'V)^-1 V'Y (Y'Y)^-1 Y'V) = K - |A'B|^2."""
    emb, owner, weight = drawn()
    root = weight.double().sqrt()[..., None]
    first, _ = torch.linalg.qr(root * emb.double())
    second, _ = torch.linalg.qr(root * owner.double())
    want = 3 - (first.mT @ second).square().sum((1, 2))
    torch.testing.assert_close(dc.whitened(emb, owner, weight), want, atol=1e-3, rtol=0)


@pytest.mark.parametrize("loss", [dc.classic, dc.whitened])
def test_nothing_is_left_where_every_source_has_a_direction_of_its_own(loss):
    _, owner, weight = drawn()
    axes = torch.linalg.qr(torch.randn(6, 6))[0][:3]
    assert loss(owner @ axes, owner, weight).abs().max() < 1e-4


def test_embeddings_all_alike_tell_nothing_apart():
    _, owner, weight = drawn()
    alike = torch.zeros(2, 40, 6)
    alike[..., 0] = 1.0
    share = (weight[..., None] * owner).sum(1).double()  # (B, K)
    torch.testing.assert_close(dc.classic(alike, owner, weight), 1 - share.square().sum(1), atol=1e-6, rtol=0)
    torch.testing.assert_close(dc.whitened(alike, owner, weight), torch.full((2,), 2.0).double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("loss", [dc.classic, dc.whitened])
def test_order_of_sources_turns_of_the_space_and_weightless_bins_change_nothing(loss):
    emb, owner, weight = drawn()
    weight[:, :5] = 0.0
    want = loss(emb, owner, weight)
    turn = torch.linalg.qr(torch.randn(6, 6))[0]
    emb[:, :5], owner[:, :5] = 0.3, one_hot(torch.zeros(5, dtype=torch.long), 3).float()
    torch.testing.assert_close(loss(emb @ turn, owner.flip(-1), weight), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("loss", [dc.classic, dc.whitened])
def test_a_source_that_is_loudest_nowhere_costs_nothing(loss):
    emb, owner, weight = drawn()
    more = torch.cat([owner, torch.zeros(2, 40, 1)], -1)
    torch.testing.assert_close(loss(emb, more, weight), loss(emb, owner, weight))


def test_bins_count_by_magnitude_or_where_they_are_loud():
    level = torch.tensor([[[1.0, 0.011, 0.009, 0.0]]])
    torch.testing.assert_close(dc.weights(level, "magnitude"), level[0] / 1.02)
    torch.testing.assert_close(dc.weights(level, "loud"), torch.tensor([[0.5, 0.5, 0.0, 0.0]]))
    assert dc.weights(torch.zeros(1, 3, 2), "loud").eq(0).all()


def test_the_loudest_owns_a_bin():
    spec = torch.tensor([[[[3.0, -4.0]], [[-2.0, 5.0]]]])  # (1, 2, 1, 2)
    assert dc.owners(spec).tolist() == [[[1, 0], [0, 1]]]


def batch_of(size=3, length=2000):
    sources = torch.randn(size, 2, length)
    return Batch(sources.sum(1), sources, [str(k) for k in range(size)])


def tiny(**options):
    torch.manual_seed(0)
    return Chimera(**{**Chimera.PRESETS["tiny"], **options})


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_terms_are_the_two_losses_by_their_shares(share):
    batch, model = batch_of(), tiny()
    found = DeepClustering(model, SpectralMSE(), clusters="classic", cluster_weight=share).losses(batch)
    parts = model.parts(batch.mix)
    weight = parts.spectrum.abs().flatten(1)
    loud = model.transform(batch.sources).abs().flatten(2).argmax(1)
    want = all_pairs(parts.embeddings.flatten(1, 2), one_hot(loud, 2).float(), weight / weight.sum(1, keepdim=True))
    torch.testing.assert_close(found["clusters"], share * want.mean(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["pit"], (1 - share) * PIT(model, SpectralMSE()).losses(batch)["pit"])


@pytest.mark.parametrize("clusters", ["whitened", "classic"])
@pytest.mark.parametrize("bins", ["magnitude", "loud"])
def test_silent_mixtures_and_sources_have_finite_losses_and_gradients(clusters, bins):
    batch = batch_of()
    batch.sources[0], batch.sources[1, 1] = 0.0, 0.0
    batch.mix = batch.sources.sum(1)
    objective = DeepClustering(tiny().train(), SpectralMSE(), clusters=clusters, bins=bins)
    sum(objective.losses(batch).values()).backward()
    assert all(p.grad.isfinite().all() for p in objective.student.parameters())
    assert objective.step_logs["clusters"].isfinite()


def test_embeddings_learn_which_bins_belong_together():
    time = torch.arange(800) / 8000
    waves = torch.stack([torch.sin(2 * torch.pi * f * time) * (1 + torch.sin(2 * torch.pi * g * time))
                         for f, g in ((500.0, 7.0), (1900.0, 5.0))])[None]  # fmt: skip
    batch = Batch(waves.sum(1), waves, ["a"])
    objective = DeepClustering(tiny().train(), SpectralMSE(), cluster_weight=0.9)
    optimizer, told = torch.optim.Adam(objective.student.parameters(), 2e-2), []
    for _ in range(25):
        optimizer.zero_grad()
        sum(objective.losses(batch).values()).backward()
        optimizer.step()
        told.append((float(objective.step_logs["clusters"]), float(objective.step_logs["snr_db"])))
    assert told[-1][0] < 0.5 * told[0][0] and told[-1][1] > told[0][1] + 3


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (UPIT, {}, "UPIT has no embeddings; take model.name: chimera"),
        (Chimera, {"clusters": "black"}, "objective.clusters"),
        (Chimera, {"bins": "quiet"}, "objective.bins"),
        (Chimera, {"cluster_weight": 1.5}, "objective.cluster_weight: found 1.5"),
    ],
)
def test_settings_that_do_not_fit_are_refused(model, options, said):
    with pytest.raises(ConfigError, match=said):
        DeepClustering(model(**model.PRESETS["tiny"]), SNR(), **options)
