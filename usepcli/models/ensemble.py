"""Several separators as one: each hears the mixture, and the mean of what they give counts.

The outputs of every later one are brought into the order of the first: by their names where they have such, else by
the permutation with the least squared difference over all that is heard at once (dsp/overlap.py). Where the models'
rates differ, the ensemble has the highest; of what a slower one cannot hear, the others decide:

    m_k = m_{k-1} + (s_k + H_k m_{k-1} - m_{k-1}) / k        fastest first; H_k: what lies above the band of model k

so that in every band the mean is over those that hear it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from usepcli.audio.resample import resample
from usepcli.dsp.overlap import best_order, similarity
from usepcli.dsp.parts import Parts
from usepcli.errors import BadInput
from usepcli.models.separator import SeparationModel


class Ensemble(SeparationModel):
    """The mean of the estimates of several models that separate into the same sources, of (B, T) or (B, C, T).

    It shares their weights. C is the most channels that one of them hears at once; the others hear each by itself.
    """

    def __init__(self, nets: Sequence[SeparationModel], names: Sequence[tuple[str, ...]] = ()) -> None:
        """Take the models, and what the outputs of each are called, where they do not say it themselves.

        BadInput where the outputs are not the same sources.
        """
        named = [net.stems or told for net, told in zip(nets, names or [()] * len(nets), strict=True)]
        first, rate = nets[0], max(net.sample_rate for net in nets)
        super().__init__(
            hop=max(-(-net.hop * rate // net.sample_rate) for net in nets), n_src=first.n_src, sample_rate=rate
        )
        self.stems, self.channels = named[0], max(net.channels for net in nets)
        self.ordered = first.ordered or bool(self.stems)
        self.on_cpu = any(net.on_cpu for net in nets)
        self.segment_s = min((net.segment_s for net in nets if net.segment_s), default=0.0)
        for net, stems in zip(nets, named, strict=True):
            if net.n_src != self.n_src or {*stems} != {*self.stems}:
                told, other = (
                    ", ".join(one) or f"1 to {count}" for one, count in ((self.stems, self.n_src), (stems, net.n_src))
                )
                raise BadInput(f"outputs {told} and {other}; models that are joined have the same ones")
            if net.channels != self.channels and not self.stems:
                raise BadInput(
                    f"one model hears {self.channels} channels at once, one {net.channels}, and their outputs have no "
                    "names by which to find one another"
                )
        self.nets, self._places = nn.ModuleList(nets), [[one.index(name) for name in self.stems] for one in named]
        self.train(first.training)

    def apart(self, mix: Tensor, normalize: bool = True) -> tuple[Tensor, Parts]:
        """Return the mixture as (B, T) or (B, C, T), and the mean of the models' estimates, each at its own level."""
        both = mix.dim() == 3 and 1 < mix.shape[1] == self.channels and mix.shape[2] > 0
        wave = mix.float() if both else self.as_batch(mix)
        nets = [cast(SeparationModel, net) for net in self.nets]
        found = [self._heard(net, wave, normalize) for net in nets]
        found = [
            found[0],
            *(self._ordered(found[0], est, places) for est, places in zip(found[1:], self._places[1:], strict=True)),
        ]
        mean = torch.zeros_like(found[0])
        for k, one in enumerate(sorted(range(len(nets)), key=lambda one: -nets[one].sample_rate)):
            est, rate = found[one], nets[one].sample_rate
            if rate < self.sample_rate:
                est = est + mean - self._in_band(mean, rate)
            mean = mean + (est - mean) / (k + 1)
        return wave, Parts(mean)

    def _heard(self, net: SeparationModel, wave: Tensor, normalize: bool) -> Tensor:
        """Return one model's estimates (B, N, ..., T) of waves (B, ..., T) at the ensemble's rate."""
        rows = wave.flatten(0, 1) if wave.dim() == 3 and net.channels == 1 else wave
        est = _at(net(_at(rows, self.sample_rate, net.sample_rate), normalize), net.sample_rate, self.sample_rate)
        est = est[..., : wave.shape[-1]]
        return est if rows is wave else est.unflatten(0, wave.shape[:2]).transpose(1, 2)

    def _ordered(self, first: Tensor, est: Tensor, places: list[int]) -> Tensor:
        """Return estimates (B, N, ..., T) in the order of those of the first model."""
        if self.stems:
            return est[:, places]
        pairs = zip(first.detach().cpu().numpy(), est.detach().cpu().numpy(), strict=True)
        orders = [torch.from_numpy(best_order(similarity(a, b))[0]) for a, b in pairs]
        return torch.stack([one[order.to(one.device)] for one, order in zip(est, orders, strict=True)])

    def _in_band(self, wave: Tensor, rate: int) -> Tensor:
        """Return what of waves (..., T) a model at `rate` Hz hears."""
        return _at(_at(wave, self.sample_rate, rate), rate, self.sample_rate)[..., : wave.shape[-1]]

    @property
    def receptive_field_samples(self) -> int | None:
        """The longest of the models' receptive fields at this rate, None where one of them is the whole input."""
        fields = [(net.receptive_field_samples, net.sample_rate) for net in cast(list[SeparationModel], self.nets)]
        if any(field is None for field, _ in fields):
            return None
        return max(-(-(field or 0) * self.sample_rate // rate) for field, rate in fields)

    def flops_per_second(self) -> float:
        """Return the operations of all models for one second of audio."""
        return sum(net.flops_per_second() for net in cast(list[SeparationModel], self.nets))


def _at(wave: Tensor, rate_in: int, rate_out: int) -> Tensor:
    """Return waves (..., T) at another rate."""
    if rate_in == rate_out:
        return wave
    return torch.from_numpy(resample(wave.detach().cpu().numpy(), rate_in, rate_out)).to(wave.device)
