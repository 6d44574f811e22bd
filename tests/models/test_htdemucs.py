from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from usepcli.errors import ConfigError
from usepcli.models import hybrid_parts
from usepcli.models.cross_transformer import Attending, places, waves
from usepcli.models.htdemucs import HTDemucs
from usepcli.models.hybrid_parts import Branches


def tiny(**options: object) -> HTDemucs:
    torch.manual_seed(0)
    return HTDemucs(**{**HTDemucs.PRESETS["tiny"], **options}).eval()


def test_published_size():
    with torch.device("meta"):
        model = HTDemucs(**HTDemucs.PRESETS["published"])
        assert model.n_params == 41_984_456
        assert model.stems == ("drums", "bass", "other", "vocals") and model.segment_s == 7.8
        assert HTDemucs(n_src=6, bottleneck=0).n_params < 30_000_000
        assert 200_000 < HTDemucs(**HTDemucs.PRESETS["small"]).n_params < 2_000_000


@torch.no_grad()
def test_short_input_is_filled_up_to_the_segment():
    model, free = tiny(segment_s=1.0, input_norm="none"), tiny(input_norm="none")
    mix = torch.randn(1, 2, 3000)
    torch.testing.assert_close(model(mix), free(F.pad(mix, (0, 5000)))[..., :3000])
    assert not torch.allclose(model(mix), free(mix), atol=1e-4)
    long = torch.randn(1, 2, 9000)
    assert torch.equal(model(long), free(long))
    assert torch.equal(model.train()(mix), free.train()(mix))


@torch.no_grad()
def test_a_bag_takes_each_source_from_its_networks():
    weights = [[1.0, 0.0, 3.0, 0.0], [0.0, 2.0, 1.0, 1.0]]
    bag, mix = tiny(bag=2, weights=weights), torch.randn(2, 2, 900)
    alone = []
    for net in bag.nets:
        one = tiny()
        one.nets[0].load_state_dict(net.state_dict())
        alone.append(one(mix))
    first, second = alone
    want = [first[:, 0], second[:, 1], 0.75 * first[:, 2] + 0.25 * second[:, 2], second[:, 3]]
    torch.testing.assert_close(bag(mix), torch.stack(want, 1), atol=1e-5, rtol=1e-5)
    assert tiny(bag=2).weights == [[0.5] * 4] * 2


@torch.no_grad()
def test_channels_are_not_alike():
    """What is heard on the left moves what is given on the right: one decision for both."""
    model, mix = tiny(), torch.randn(1, 2, 2000)
    other = mix.clone()
    other[:, 0] = torch.randn(2000)
    assert (model(mix) - model(other))[:, :, 1].abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("crossed", [False, True])
def test_a_layer_by_its_equation(crossed: bool):
    torch.manual_seed(0)
    layer, x, y = Attending(8, 2, 16, crossed, 0.0).eval(), torch.randn(2, 5, 8), torch.randn(2, 7, 8)
    for gain in (layer.heard, layer.thought):
        gain.normal_()
    own = layer.first(x)
    known = layer.other(y) if crossed else own
    q, (k, v) = layer.query(own), layer.known(known).chunk(2, -1)
    heads = [torch.softmax(q[..., h] @ k[..., h].mT / 2, -1) @ v[..., h] for h in (slice(0, 4), slice(4, 8))]
    want = x + layer.heard * layer.out(torch.cat(heads, -1))
    want = want + layer.thought * layer.narrow(F.gelu(layer.wide(layer.second(want))))
    want = (want - want.mean((1, 2), keepdim=True)) / (want.var((1, 2), correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x, y), want, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_bins_are_filtered_by_themselves_and_in_slabs(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(0)
    layers, x = Branches(4, 2, 2), torch.randn(2, 4, 7, 11)
    want = torch.stack([layers(x[:, :, k]) for k in range(7)], 2)
    for numbers in (1, 100, 10**6):
        monkeypatch.setattr(hybrid_parts, "_SLAB", numbers)
        torch.testing.assert_close(layers(x), want, atol=1e-5, rtol=0)


def test_positions_by_hand():
    found = places(3, 2, 8, torch.device("cpu"))
    assert found.shape == (3, 2, 8)
    torch.testing.assert_close(found[2, 1, :2], torch.tensor([2.0]).sin().new_tensor([0.9092974, -0.4161468]))
    torch.testing.assert_close(found[2, 1, 4:6], torch.tensor([0.8414710, 0.5403023]))
    steps = waves(4, 8, torch.device("cpu"))
    torch.testing.assert_close(steps[3, 0], torch.tensor(3.0).cos())
    torch.testing.assert_close(steps[3, 7], torch.tensor(3e-4).sin())


@pytest.mark.parametrize(
    ("key", "value"),
    [("stems", ("a", "b")), ("stems", ("a", "b", "c", "../d")), ("stems", ("a", "a", "b", "c")),
     ("stems", ("a", "b", "c", "residual")), ("n_fft", 250), ("n_fft", 16), ("stride", 3), ("compress", 9),
     ("bottleneck", 10), ("dropout", 1.0), ("segment_s", 0.5), ("bag", 0), ("layers", 0), ("width", 0),
     ("weights", [[1.0, 1.0]]), ("weights", [[0.0, 1.0, 1.0, 1.0]]), ("weights", [[-1.0, 1.0, 1.0, 1.0]])],
)  # fmt: skip
def test_wrong_settings(key: str, value: object):
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        tiny(**{key: value})


def test_it_is_not_causal():
    with pytest.raises(ConfigError, match=r"model\.causal.*convtasnet"):
        tiny(causal=True, input_norm="none")


def test_no_segment_takes_gigabytes_of_attention():
    assert tiny(segment_s=10.0).segment_s == 10
    with pytest.raises(ConfigError, match=r"model\.depth: 100000 bins of a segment .* 2 heads; expected at most 16384"):
        tiny(segment_s=100.0)
