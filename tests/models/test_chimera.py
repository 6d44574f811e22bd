from __future__ import annotations

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models.chimera import Chimera, clustered


def tiny(**options):
    torch.manual_seed(0)
    return Chimera(**{**Chimera.PRESETS["tiny"], **options})


def test_published_size():
    # 32.9 million in the tables. Four layers of 600 both ways, 20 numbers and two masks for each of 129 bins:
    size = 2 * 4 * 600 * (129 + 600 + 2) + 3 * 2 * 4 * 600 * (1200 + 600 + 2) + 1201 * 129 * (20 + 2)
    with torch.device("meta"):
        assert Chimera().n_params == size == 32_866_038


def test_separation_costs_no_embedding():
    # 125 frames a second and one more in two seconds; a weight of the layers and of the mask head costs two operations.
    weights = 2 * 4 * 16 * (129 + 16) + 32 * 258
    assert Chimera(hidden=16, layers=1, dropout=0.0).flops_per_second() == 2 * (251 / 2) * weights


def test_embeddings_are_of_unit_length_one_for_each_bin_and_only_while_it_learns():
    model, mix = tiny(embedding=5), torch.randn(2, 900)
    parts = model.parts(mix)
    assert parts.embeddings.shape == (*parts.spectrum.shape, 5)
    torch.testing.assert_close(parts.embeddings.norm(dim=-1), torch.ones(parts.spectrum.shape))
    with torch.no_grad():
        again = model.parts(mix)
    assert again.embeddings is None and torch.equal(again.waves, parts.waves)


def test_embeddings_stand_at_their_bins():
    """A head that answers with one number per bin puts it where the spectrum has that bin."""
    model = tiny(embedding=2)
    with torch.no_grad():
        model.embed.weight.zero_()
        angle = torch.linspace(0.1, 1.4, model.stft.bins)
        model.embed.bias.copy_(torch.stack([angle.cos(), angle.sin()], -1).mul(0.1).atanh().flatten())
    found = model.parts(torch.randn(1, 500)).embeddings[0]  # (F, L, 2)
    want = torch.stack([angle.cos(), angle.sin()], -1)[:, None].expand_as(found)
    torch.testing.assert_close(found, want)


def test_clusters_far_apart_are_found_whatever_the_order_and_weightless_bins_move_no_centre():
    axes = torch.linalg.qr(torch.randn(8, 8))[0][:3]
    owner = torch.randint(3, (2, 60))
    emb = torch.nn.functional.normalize(axes[owner] + 0.05 * torch.randn(2, 60, 8), dim=-1)
    weight = torch.rand(2, 60)
    found = clustered(emb, weight, 3)
    for b in range(2):  # one-hot, the same for the same owner and different for others
        table = torch.nn.functional.one_hot(owner[b], 3).T.float() @ found[b]
        assert (table > 0).sum() == 3 and (table.sum(0) > 0).all()
    weight[:, 30:] = 0.0
    assert torch.equal(clustered(emb, weight, 3)[:, :30], clustered(emb[:, :30], weight[:, :30], 3))
    assert clustered(torch.ones(1, 5, 1), torch.zeros(1, 5), 2).sum() == 5, "all alike: one cluster stays empty"


@torch.no_grad()
def test_by_clusters_every_bin_goes_to_one_output_once_it_has_learned():
    model, mix = tiny(separate_by="clusters", n_src=3, consistency="none"), torch.randn(2, 900)
    by_masks = tiny(n_src=3, consistency="none")
    assert torch.equal(model.train()(mix), by_masks.train()(mix))
    parts = model.eval().parts(mix)
    assert set(parts.masks.unique().tolist()) == {0.0, 1.0} and (parts.masks.sum(1) == 1).all()
    torch.testing.assert_close(parts.waves.sum(1), mix, atol=1e-5, rtol=0)
    assert not model.live


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"embedding": 1}, "model.embedding"),
        ({"dropout": 1.0}, "model.dropout"),
        ({"separate_by": "ear"}, "model.separate_by"),
        ({"separate_by": "clusters", "causal": True, "input_norm": "none"}, "set it to masks"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        tiny(**options)
