from __future__ import annotations

import pytest
import torch

from usepcli.errors import ConfigError
from usepcli.models.chimera import Chimera


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


@pytest.mark.parametrize(
    ("options", "said"), [({"embedding": 1}, "model.embedding"), ({"dropout": 1.0}, "model.dropout")]
)
def test_settings_that_do_not_fit_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        tiny(**options)
