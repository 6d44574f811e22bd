"""Residual U-Net over magnitudes whose every layer hears what is asked for: AudioSep's separator.

    h <- conv(leaky(norm(h) + b(c)))          b: a linear layer of its own for each norm, c the whole of a query
    s(q) = iSTFT( sigmoid(u) X (v + j w) / |v + j w| )        v, w = tanh of two maps, u another, of the last layer

Kong et al., "Decoupling magnitude and phase estimation with deep ResUNet for music source separation", ISMIR 2021,
whose sizes it has; Liu et al., "Separate anything you describe", 2023, which adds the offsets by words. Magnitudes go
in as they are, each bin normed by itself. The highest bin is silent. Words enter at once, so that every query costs a
whole network.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.parts import Parts
from usepcli.dsp.stft import STFT
from usepcli.errors import ConfigError
from usepcli.models import cost
from usepcli.models.queried import Bound
from usepcli.models.worded import Worded, WordedModel

_MOMENTUM = 0.01
_POWER_FLOOR = 1e-10  # of a bin's power, below which its magnitude does not fall
_TURN_FLOOR = 1e-20  # of the squared length that a phase is read from


class Step(nn.Module):
    """A norm, an offset by the condition, a bend and a convolution: (Q, C, L, F) by (Q, E)."""

    def __init__(self, channels: int, condition: int, conv: nn.Module) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, momentum=_MOMENTUM)
        self.told = nn.Linear(condition, channels)
        self.conv = conv

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return what the convolution makes of x."""
        # In place: nobody else holds what the norm made, and planes of the outer levels are large.
        told = self.norm(x).add_(self.told(condition)[..., None, None])
        found: Tensor = self.conv(F.leaky_relu_(told, 0.01))
        return found


class Block(nn.Module):
    """Two steps of 3x3 beside what came in: (Q, C, L, F) to (Q, D, L, F)."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.first = Step(inputs, condition, nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
        self.second = Step(outputs, condition, nn.Conv2d(outputs, outputs, 3, padding=1, bias=False))
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return x with its change added."""
        changed: Tensor = self.second(self.first(x, condition), condition)
        return self.shortcut(x) + changed


class Up(nn.Module):
    """A level of the decoder: as many times the frames and bins as were put together, then a block with the encoder's.

    (Q, C, L, F) and (Q, D, s L, t F) to (Q, D, s L, t F).
    """

    def __init__(self, inputs: int, outputs: int, condition: int, step: tuple[int, int]) -> None:
        super().__init__()
        self.widen = Step(inputs, condition, nn.ConvTranspose2d(inputs, outputs, step, step, bias=False))
        self.block = Block(2 * outputs, outputs, condition)

    def forward(self, x: Tensor, level: Tensor, condition: Tensor) -> Tensor:
        """Return the level above."""
        found: Tensor = self.block(torch.cat([self.widen(x, condition), level], 1), condition)
        return found


class ResUNet(WordedModel):
    """Complex masks for queries, no longer than 1, by a residual U-Net; the defaults are AudioSep's at 32 kHz.

    `channels` names one level each; the first `time_levels` halve frames and bins, the others bins alone.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"cond_dim": 768, "emb_dim": 512},
        "small": {"sample_rate": 16000, "n_fft": 512, "hop": 160, "channels": (16, 32, 64, 96, 96, 96)},
        "tiny": {"sample_rate": 8000, "n_fft": 64, "hop": 16, "channels": (4, 6, 8), "time_levels": 2},
    }
    WORDED: ClassVar[Worded] = {"sample_rate": 32000, "input_norm": "none"}

    def __init__(
        self,
        *,
        n_fft: int = 2048,
        hop: int = 320,
        channels: tuple[int, ...] = (32, 64, 128, 256, 384, 384),
        time_levels: int = 5,
        **worded: Unpack[Worded],
    ) -> None:
        """Take n_fft and hop in samples and the channels of each level; ConfigError if sizes clash.

        Of what the conditioner says the whole is heard alone.
        """
        super().__init__(hop=hop, **worded)
        bins = n_fft // 2
        _check(bins, channels, time_levels)
        self.stft = STFT(n_fft, n_fft, hop, edges="reflect")
        condition, first, deep = self.words.pooled_dim, channels[0], channels[-1]
        self.steps = [(2, 2) if k < time_levels else (1, 2) for k in range(len(channels))]
        self.block_frames = 2**time_levels
        self.norm = nn.BatchNorm1d(bins + 1, momentum=_MOMENTUM)
        self.inlet = nn.Conv2d(1, first, 1)
        self.encoder = nn.ModuleList(Block(*both, condition) for both in pairwise((first, *channels)))
        self.middle = Block(deep, deep, condition)
        ends = reversed([*zip(channels, (*channels[1:], deep), self.steps, strict=True)])
        self.decoder = nn.ModuleList(Up(below, width, condition, step) for width, below, step in ends)
        self.head = nn.Conv2d(first, 3, 1)
        for part in (self.inlet, self.encoder, self.middle, self.decoder, self.head):
            part.apply(_begin)

    def transform(self, wave: Tensor) -> Tensor:
        """Return the spectra (..., F, L) of waves (..., T)."""
        return self.stft(wave)

    def estimate_parts(self, mix: Tensor, *conditions: Tensor) -> Parts:
        """Return estimates (B, N, T), complex masks (B, N, F, L) and the mixture's spectrum (B, F, L)."""
        spec, whole = self.stft(mix), conditions[-1]
        # One query after the other where no gradient is wanted: ten seconds of one take more than a gigabyte.
        step = whole.shape[1] if self.training or torch.is_grad_enabled() else 1
        masks = torch.cat([self.masks(spec, some) for some in whole.split(step, 1)], 1)
        return Parts(self.stft.inverse(masks * spec[:, None], mix.shape[-1]), masks, spec)

    def masks(self, spec: Tensor, whole: Tensor) -> Tensor:
        """Return masks (B, N, F, L) of a spectrum (B, F, L) for the wholes of queries (B, N, E)."""
        power = spec.real.square() + spec.imag.square()
        gain, *turn = self.maps(power.clamp_min(_POWER_FLOOR).sqrt(), whole).float().unbind(2)
        cos, sin = (part.tanh() for part in turn)
        size = gain.sigmoid() * (cos.square() + sin.square()).clamp_min(_TURN_FLOOR).rsqrt()
        return F.pad(torch.complex(size * cos, size * sin).mT, (0, 0, 0, 1))  # (B, N, F, L)

    def maps(self, level: Tensor, whole: Tensor) -> Tensor:
        """Return three maps (B, N, 3, L, F - 1) of magnitudes (B, F, L) for the wholes of queries (B, N, E)."""
        frames, count = level.shape[-1], whole.shape[1]
        x = F.pad(self.norm(level).mT[:, None, :, :-1], (0, 0, 0, -frames % self.block_frames))  # (B, 1, L', F - 1)
        condition = whole.flatten(0, 1).to(x.dtype)
        x = self.inlet(x)[:, None].expand(-1, count, -1, -1, -1).flatten(0, 1)  # (B N, C, L', F - 1)
        levels = []
        for block, step in zip(self.encoder, self.steps, strict=True):
            x = block(x, condition)
            levels.append(x)
            x = F.avg_pool2d(x, step)
        x = self.middle(x, condition)
        for up in self.decoder:
            x = up(x, levels.pop(), condition)
        found: Tensor = self.head(x)[:, :, :frames].unflatten(0, (-1, count))
        return found

    def flops_per_second(self) -> float:
        """Return floating-point operations for one query in one second of audio, those of the words left out."""
        # Every frame costs the same: counted is what some more cost, instead of the seconds that others take.
        least = self.stft.frames(1)
        step = self.block_frames * -(-least // self.block_frames)
        two = Bound(self, self.blank(2))  # one alone may not be allowed
        few, more = (self._flops(two, frames) for frames in (step, 2 * step))
        return (more - few) / step / 2 * self.sample_rate / self.hop

    def _flops(self, bound: Bound, frames: int) -> float:
        seconds = (frames - 1) * self.hop / self.sample_rate
        return cost.flops_per_second(bound, seconds) * seconds


def _begin(layer: nn.Module) -> None:
    """Set a layer to what it starts with."""
    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _check(bins: int, channels: tuple[int, ...], time_levels: int) -> None:
    if not channels or min(channels) < 1:
        raise ConfigError(f"model.channels: found {list(channels)}; expected one number above 0 for each level")
    if bins < 1 or bins % 2 ** len(channels):
        raise ConfigError(
            f"model.n_fft: found {2 * bins}; expected a multiple of {2 ** (len(channels) + 1)}, which "
            f"{len(channels)} levels halve"
        )
    if not 0 <= time_levels <= len(channels):
        raise ConfigError(f"model.time_levels: found {time_levels}; expected 0 to {len(channels)}, all of channels")
