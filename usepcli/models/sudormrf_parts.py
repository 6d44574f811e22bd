"""Parts of SuDoRM-RF: its basis, the block at several resolutions, and the exchange between groups of channels."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.errors import ConfigError, choices
from usepcli.models.basis import Activation, LearnedBasis
from usepcli.models.dense import Pointwise, pointwise
from usepcli.models.precision import full_precision
from usepcli.models.tcn import GlobalNorm

Decoder = Literal["joint", "each", "shared"]
_DECODERS = ("joint", "each", "shared")

_TAPS = 5


class PooledBasis(LearnedBasis):
    """A learned basis whose frames lie around every hop-th sample, as many as a multiple of `unit`.

    Its decoder is one for all outputs (shared), one for each, or one that reads all outputs for each (joint).
    """

    def __init__(
        self, filters: int, kernel: int, stride: int, activation: Activation, n_src: int, decoder: Decoder, unit: int,
        bias: bool,
    ) -> None:  # fmt: skip
        """Take the sizes of LearnedBasis, the number of outputs, and whether convolutions have a bias."""
        if not 1 <= stride <= kernel // 2:
            raise ConfigError(f"model.stride: found {stride}; expected 1 to half the kernel, {kernel // 2} samples")
        super().__init__(filters, kernel, stride, activation, "both")
        if decoder not in _DECODERS:
            raise ConfigError(f"model.decoder: {choices('decoder', decoder, _DECODERS)}")
        self.unit, self.apart = unit, decoder == "shared"
        if bias:
            self.encoder = nn.Conv1d(1, filters, kernel, stride)
        inputs, outputs = (filters, 1) if self.apart else (n_src * filters, n_src)
        self.decoder = nn.ConvTranspose1d(
            inputs, outputs, kernel, stride, bias=bias, groups=n_src if decoder == "each" else 1
        )

    def analyse(self, mix: Tensor) -> Tensor:
        """Return weights (B, filters, L) of the mixture (B, T), L the least multiple of `unit` with T <= L hop."""
        length, before = mix.shape[-1], self.kernel // 2
        frames = -(-length // (self.hop * self.unit)) * self.unit
        return self._weights(F.pad(mix, (before, (frames - 1) * self.hop + self.kernel - length - before)))

    def synthesise(self, weights: Tensor, length: int) -> Tensor:
        """Return waveforms (B, N, length) of the weights (B, N, filters, L)."""
        with full_precision(weights):
            lead = weights.shape[:2]
            wave: Tensor = self.decoder(weights.float().flatten(0, 1) if self.apart else weights.float().flatten(1, 2))
        before = self.kernel // 2
        wave = wave[..., before : before + length]
        return wave.reshape(*lead, length) if self.apart else wave


class Filtered(nn.Sequential):
    """Depthwise filter at a stride, norm over the whole input: (B, C, L) to (B, C, L / stride)."""

    def __init__(self, channels: int, stride: int) -> None:
        conv = nn.Conv1d(channels, channels, _TAPS, stride, _TAPS // 2, groups=channels)
        super().__init__(conv, GlobalNorm(channels))


class Block(nn.Module):
    """1x1 expansion, filters at 1, 1/2, 1/4, ... of the frames, their sum at the finest, 1x1 back, residual.

    `original` slopes every channel by itself, and ends in norms and a slope beyond the residual; `each` does the former
    before the last convolution.
    """

    def __init__(self, dim: int, hidden: int, depth: int, original: bool, each: bool) -> None:
        super().__init__()
        first, last = (hidden if apart else 1 for apart in (original, each))
        self.widen = nn.Sequential(Pointwise(dim, hidden), GlobalNorm(hidden), nn.PReLU(first))
        self.filters = nn.ModuleList(Filtered(hidden, 2 if level else 1) for level in range(depth))
        self.norm = nn.Sequential(GlobalNorm(hidden), nn.PReLU(last))
        self.narrow: nn.Module = Pointwise(hidden, dim)
        self.last: nn.Module = nn.Identity()
        if original:
            self.narrow = nn.Sequential(self.narrow, GlobalNorm(dim))
            self.last = nn.Sequential(GlobalNorm(dim), nn.PReLU(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, dim, L) from x (B, dim, L), L a multiple of 2^(depth - 1)."""
        levels = [self.filters[0](self.widen(x))]
        for layer in self.filters[1:]:
            levels.append(layer(levels[-1]))
        total = levels.pop()
        while levels:
            finer = levels.pop()
            # Every value stands for two of the finer ones.
            total = (finer.unflatten(-1, (-1, 2)) + total[..., None]).flatten(-2)
        y: Tensor = self.last(self.narrow(self.norm(total)) + x)
        return y


class Talk(nn.Module):
    """Transform, average, concatenate between groups (Luo et al. 2020): (B groups, dim, L) to the same.

    h = slope(W1 x), m = slope(W2 mean of h over the groups), x + norm(slope(W3 [h, m])).
    """

    def __init__(self, dim: int, hidden: int, groups: int) -> None:
        """Take the channels of a group, those in which groups meet, and the number of groups."""
        super().__init__()
        self.groups, self.hidden = groups, hidden
        self.enter = nn.Sequential(Pointwise(dim, hidden), nn.PReLU())
        self.share = nn.Sequential(Pointwise(hidden, hidden), nn.PReLU())
        self.leave, self.bend = Pointwise(2 * hidden, dim), nn.PReLU()
        self.norm = GlobalNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B groups, dim, L) from x (B groups, dim, L)."""
        own = self.enter(x)
        mean = self.share(own.unflatten(0, (-1, self.groups)).mean(1))  # (B, hidden, L)
        # The product with [own, mean] in two: what all groups share is computed once.
        mine, ours = self.leave.weight.split(self.hidden, 1)
        common = pointwise(mean, ours, self.leave.bias)  # (B, dim, L)
        y = pointwise(own, mine).unflatten(0, (-1, self.groups)) + common[:, None]
        return x + self.norm(self.bend(y.flatten(0, 1)))
