"""Models of stems in two channels that are one network, or a bag of several whose sources are averaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.audio import stems as names
from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError
from usepcli.models.mapped import at_least
from usepcli.models.separator import Common
from usepcli.models.stereo import StereoModel

_LONGEST_S = 600.0
_MOST = 1000  # networks, or outputs; a file may ask for any number


class StemBag(StereoModel):
    """Weighted means of the sources of networks, each of which maps mixtures (B, 2, T) to sources and features.

    Not causal: all that such networks do reads the whole input. A subclass calls `fill`.
    """

    ordered = True
    # Whether input shorter than segment_s is filled up to it with silence.
    filled: ClassVar[bool] = False
    COMMON: ClassVar[Common] = {"n_src": 4, "sample_rate": 44100, "input_norm": "std"}

    nets: nn.ModuleList

    def __init__(
        self,
        *,
        stems: tuple[str, ...],
        n_fft: int,
        segment_s: float,
        bag: int,
        weights: list[list[float]] | None,
        **common: Unpack[Common],
    ) -> None:
        """Take the names of the outputs, seconds of a segment, and of a bag the weights (networks, outputs)."""
        super().__init__(hop=max(1, n_fft // 4), **common)
        at_least(bag=bag)
        if max(bag, self.n_src) > _MOST:
            raise ConfigError(
                f"model.bag, model.n_src: found {bag} and {self.n_src}; expected at most {_MOST} of either"
            )
        self.stems, self.segment_s, self.latency = stems_of(stems, self.n_src), segment_of(segment_s), n_fft
        self.weights = _weights(weights, bag, self.n_src)

    def fill(self, net: Callable[[], nn.Module], dim: int) -> None:
        """Make the networks of the bag, whose features have the size dim."""
        self.nets = nn.ModuleList(net() for _ in self.weights)
        self.learn_shares(dim)

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, 2, T) of the mixture (B, 2, T)."""
        length = mix.shape[-1]
        least = round(self.segment_s * self.sample_rate) if self.filled and not self.training else 0
        est: Tensor | int = 0
        for net, weight in zip(self.nets, self.weights, strict=True):
            found, core = net(F.pad(mix, (0, max(0, least - length))))
            est = est + torch.tensor(weight, device=mix.device)[:, None, None] * found[..., :length]
        assert isinstance(est, Tensor)
        return Parts(est, weights=self.shares_of(core))

    @property
    def latency_samples(self) -> int:
        """One window, were the network causal."""
        return self.latency


def check_levels(stride: int, width: int, compress: int) -> None:
    """Raise ConfigError for a stride without a middle, or branches wider than what they stand in."""
    if stride < 2 or stride % 2:
        raise ConfigError(f"model.stride: found {stride}; expected an even number of samples and bins")
    if not 1 <= compress <= width:
        raise ConfigError(f"model.compress: found {compress}; expected 1 to model.width = {width}")


def segment_of(seconds: float) -> float:
    """Return the seconds of a segment, 0 for any; ConfigError for a length that no network is made for."""
    if seconds and not 1 <= seconds <= _LONGEST_S:
        raise ConfigError(f"model.segment_s: found {seconds}; expected 1 to {_LONGEST_S:g} seconds, or 0: any length")
    return float(seconds)


def stems_of(told: tuple[str, ...], n_src: int) -> tuple[str, ...]:
    """Return the names of the outputs, () for none; ConfigError unless they are names and one for each output."""
    if why := names.refusal(told):
        raise ConfigError(f"model.stems: {why}")
    if told and len(told) != n_src:
        raise ConfigError(f"model.stems: found {len(told)} names; expected {n_src}, one for each output, or none")
    return tuple(told)


def _weights(told: list[list[float]] | None, bag: int, n_src: int) -> list[list[float]]:
    """Return weights (bag, N) that add up to 1 over the networks; equal ones where none are told."""
    if told is None:
        return [[1 / bag] * n_src] * bag
    rows = [tuple(row) for row in told]
    if len(rows) != bag or {len(row) for row in rows} != {n_src}:
        raise ConfigError(f"model.weights: expected {bag} lists of {n_src} numbers, one for each network of the bag")
    sums = [sum(column) for column in zip(*rows, strict=True)]
    if min(min(row) for row in rows) < 0 or not all(0 < total < float("inf") for total in sums):
        raise ConfigError("model.weights: expected numbers from 0 on, not all 0 for any output")
    return [[part / total for part, total in zip(row, sums, strict=True)] for row in rows]
