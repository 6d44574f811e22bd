"""Several models as one: means, orders, rates, channels, and what does not go together."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from usepcli.errors import BadInput
from usepcli.models.ensemble import Ensemble
from usepcli.models.separator import SeparationModel
from usepcli.models.stereo import StereoModel
from usepcli.separator.separator import How, Separator


class Shares(SeparationModel):
    """Gives to output k a part of the mixture: the lower band, the rest, each times a gain."""

    def __init__(self, rate: int = 8000, edge_hz: float = 1000.0, gain: float = 1.0, turned: bool = False) -> None:
        super().__init__(hop=1, sample_rate=rate)
        self.edge_hz, self.gain, self.turned = edge_hz, gain, turned

    def estimate(self, mix: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(mix)
        low = torch.fft.rfftfreq(mix.shape[-1], 1 / self.sample_rate) < self.edge_hz
        parts = [torch.fft.irfft(spectrum * part, mix.shape[-1]) for part in (low, ~low)]
        return self.gain * torch.stack(parts[::-1] if self.turned else parts, 1)


class Named(StereoModel):
    """Gives a half, a quarter and a quarter of both channels under names."""

    ordered = True

    def __init__(self, stems: tuple[str, ...], parts: tuple[float, ...]) -> None:
        super().__init__(hop=1, n_src=len(stems))
        self.stems, self.of = stems, parts

    def estimate(self, mix: Tensor) -> Tensor:
        return mix[:, None] * torch.tensor(self.of)[:, None, None]


class NamedMono(SeparationModel):
    """The same of one channel."""

    ordered = True

    def __init__(self, stems: tuple[str, ...], parts: tuple[float, ...]) -> None:
        super().__init__(hop=1, n_src=len(stems))
        self.stems, self.of = stems, parts

    def estimate(self, mix: Tensor) -> Tensor:
        return mix[:, None] * torch.tensor(self.of)[:, None]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).float()


def test_the_mean_is_that_of_outputs_in_the_order_of_the_first() -> None:
    nets = [Shares(), Shares(gain=0.5, turned=True), Shares(gain=0.3)]
    mix = noise(2, 4000)
    found, first = Ensemble(nets)(mix), nets[0](mix)
    assert torch.allclose(found, first * (1 + 0.5 + 0.3) / 3, atol=1e-5)
    assert torch.allclose(Ensemble(nets[1:])(mix), first.flip(1) * (0.5 + 0.3) / 2, atol=1e-5)


def test_each_item_of_a_batch_has_an_order_of_its_own() -> None:
    class Moody(Shares):
        def estimate(self, mix: Tensor) -> Tensor:
            est = super().estimate(mix)
            return torch.stack([one.flip(0) if one[0, 0] > 0 else one for one in est])

    mix = noise(6, 3000)
    assert torch.allclose(Ensemble([Shares(), Moody()])(mix), Shares()(mix), atol=1e-5)


def test_names_decide_where_there_are_some() -> None:
    nets = [Named(("vocals", "other"), (0.25, 0.75)), Named(("other", "vocals"), (0.5, 0.5))]
    both, mix = Ensemble(nets), noise(1, 2, 500)
    assert both.stems == ("vocals", "other") and both.ordered and both.channels == 2
    assert torch.allclose(both(mix), torch.stack([0.375 * mix, 0.625 * mix], 1), atol=1e-6)
    mixed = Ensemble([nets[0], NamedMono(("other", "vocals"), (0.5, 0.5))])
    assert torch.allclose(mixed(mix), both(mix), atol=1e-6)
    assert torch.allclose(mixed(mix[:, 0]), both(mix[:, 0]), atol=1e-6)


def test_what_a_slower_model_cannot_hear_the_faster_decides() -> None:
    """The fast model gives all above 1 kHz to the second source, the slow one, at half of it, all above 2 kHz.

    Below 1 kHz they agree, between 1 and 2 kHz each source gets a half, and above 4 kHz the fast one alone counts.
    """
    fast, slow = Shares(16000), Shares(8000, 2000.0)
    tones = torch.sin(2 * torch.pi * torch.tensor([[500], [1500], [3000], [6000]]) * torch.arange(16000) / 16000)
    first = torch.tensor([[1.0], [0.5], [0.0], [0.0]])
    expected = torch.stack([(first * tones).sum(0), ((1 - first) * tones).sum(0)])
    for nets in ([fast, slow], [slow, fast]):
        found = Ensemble(nets)(tones.sum(0))[0]
        assert torch.allclose(found[:, 4000:-4000], expected[:, 4000:-4000], atol=2e-3)


@pytest.mark.parametrize("length", [1, 2, 7, 1001])
def test_any_length(length: int) -> None:
    found = Ensemble([Shares(8000), Shares(11025), Shares(16000)])(noise(2, length))
    assert found.shape == (2, 2, length) and found.isfinite().all()


@pytest.mark.parametrize("how", [How(), How(shifts=2), How(rest="leave"), How(overlap=0.5, rest="source")])
def test_chunks_follow_the_sources_as_of_one_model(how: How) -> None:
    """One of the models exchanges its outputs from call to call, which shows nowhere."""

    class Wild(Shares):
        def estimate(self, mix: Tensor) -> Tensor:
            self.turned = not self.turned
            return super().estimate(mix)

    wave = 0.1 * noise(8000 * 5).numpy()
    wild = Separator(Ensemble([Shares(), Wild()]), chunk_s=1.0)(wave, 8000, how).sources
    calm = Separator(Ensemble([Shares(), Shares()]), chunk_s=1.0)(wave, 8000, how).sources
    assert np.abs(wild - calm).max() < 1e-5
    assert how.rest == "leave" or np.abs(wild.sum(0) - wave).max() < 1e-6


def test_what_does_not_go_together() -> None:
    with pytest.raises(BadInput, match="outputs vocals, other and 1 to 2; models that are joined have the same ones"):
        Ensemble([Named(("vocals", "other"), (0.5, 0.5)), Shares()])
    wide = Named(("a", "b"), (0.5, 0.5))
    wide.stems = ()
    with pytest.raises(BadInput, match="their outputs have no names"):
        Ensemble([wide, Shares()])
