"""U-Net over STFT frames that shares the mixture out by a softmax over the sources (Postolache et al. 2023, section 3).

The magnitude |M| (256 bins as channels, one column for each frame) passes an encoder of residual blocks, each followed
by a convolution of stride 2, a bottleneck with self-attention, and a mirrored decoder that interpolates, convolves and
takes the encoder's output of the same level beside it; R = softmax over the sources, S_k = M R_k.

The paper gives the channels, the strides and 46.9 M parameters, but not what a residual block consists of. Many
structures have that count; this one, with 46,900,736, is our choice: group norm, SiLU and a convolution over 7 frames,
twice, beside a 1x1 convolution; attention of 8 heads without a projection at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.stft import Window
from usepcli.errors import ConfigError, choices
from usepcli.models.dense import Dense, Pointwise
from usepcli.models.separator import Common, reject_causal
from usepcli.models.spectral import LOG_FLOOR, Mask, SpectralModel

Features = Literal["magnitude", "log_magnitude"]


class Residual(nn.Module):
    """Twice group norm, SiLU and a convolution over frames, beside a 1x1 convolution: (B, C, L) to (B, D, L).

    What else may come between a norm and its SiLU is given to `forward`, one function for each of both.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(groups, inputs), nn.SiLU(), nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2),
            nn.GroupNorm(groups, outputs), nn.SiLU(), nn.Conv1d(outputs, outputs, kernel, padding=kernel // 2),
        )  # fmt: skip
        self.past = Pointwise(inputs, outputs)

    def forward(self, x: Tensor, between: Sequence[Callable[[Tensor], Tensor]] = ()) -> Tensor:
        """Return (B, D, L) from x (B, C, L)."""
        y, told = x, iter(between)
        for layer in self.body:
            y = layer(y)
            if between and isinstance(layer, nn.GroupNorm):
                y = next(told)(y)
        found: Tensor = self.past(x) + y
        return found


class SelfAttention(nn.Module):
    """Every frame asks all others, in several heads: (B, C, L) to (B, C, L).

    normed: what asks and what is asked is at level one. What comes from residual blocks is not, and grows in training:
    attention to it ends as a choice of one frame, and its gradient in numbers that are none.
    """

    def __init__(self, dim: int, heads: int, normed: bool = False) -> None:
        super().__init__()
        self.heads, self.normed = heads, normed
        self.queries, self.keys, self.values = (Dense(dim, dim) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Return x with what its frames learned from each other added."""
        frames = x.mT
        asked = F.layer_norm(frames, frames.shape[-1:]) if self.normed else frames
        found = self.queries(asked), self.keys(asked), self.values(frames)
        parts = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in found)
        heard = F.scaled_dot_product_attention(*parts)  # (B, heads, L, C / heads)
        return x + heard.transpose(1, 2).flatten(2).mT


def middle(dim: int, heads: int, kernel: int, groups: int, normed: bool) -> nn.Sequential:
    """Return the bottleneck: attention between two residual blocks; normed as of SelfAttention."""
    ends = (Residual(dim, dim, kernel, groups) for _ in range(2))
    return nn.Sequential(next(ends), SelfAttention(dim, heads, normed), next(ends))


class Encoder(nn.Module):
    """Residual blocks, each followed by a convolution that leaves every second frame."""

    def __init__(self, inputs: int, channels: tuple[int, ...], kernel: int, groups: int) -> None:
        super().__init__()
        widths = (inputs, *channels[1:], channels[-1])
        self.blocks = nn.ModuleList(Residual(i, o, kernel, groups) for i, o in zip(widths, channels, strict=False))
        self.down = nn.ModuleList(nn.Conv1d(i, o, 3, 2, padding=1) for i, o in zip(channels, widths[1:], strict=True))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the deepest level and the output of each block, the first first."""
        levels = []
        for block, down in zip(self.blocks, self.down, strict=True):
            x = block(x)
            levels.append(x)
            x = down(x)
        return x, levels


class Decoder(nn.Module):
    """The encoder's mirror image: interpolation to the length of its level, a convolution, the level beside it."""

    def __init__(self, channels: tuple[int, ...], kernel: int, groups: int) -> None:
        super().__init__()
        out = channels[::-1]
        self.up = nn.ModuleList(nn.Conv1d(i, o, 3, padding=1) for i, o in zip((channels[-1], *out), out, strict=False))
        self.blocks = nn.ModuleList(Residual(2 * o, o, kernel, groups) for o in out)

    def forward(self, x: Tensor, levels: list[Tensor]) -> Tensor:
        """Return (B, C, L) of the first level."""
        return self.run(x, levels, range(len(levels)))

    def run(self, x: Tensor, levels: list[Tensor], which: range) -> Tensor:
        """Return (B, C, L) of the last of some stages."""
        for k in which:
            x = self.blocks[k](torch.cat([self.raised(x, levels, k), levels[-1 - k]], 1))
        return x

    def raised(self, x: Tensor, levels: list[Tensor], k: int) -> Tensor:
        """Return x at the length of stage k, its own half of what the block hears."""
        y: Tensor = self.up[k](F.interpolate(x, size=levels[-1 - k].shape[-1], mode="linear"))
        return y


class UNetMask(SpectralModel):
    """Masks from a U-Net over STFT frames; the defaults are the universal separator of adversarial PIT.

    The network has n_fft / 2 bins; the highest gets the mask of its neighbour. `channels` names one level each. Mixture
    consistency belongs to evaluation alone, as published; the level of the input, of which the paper says nothing, is
    made one.
    """

    COMMON: ClassVar[Common] = {
        "n_src": 4, "sample_rate": 16000, "input_norm": "std", "consistency": "uniform", "consistency_when": "eval",
    }  # fmt: skip
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "small": {"channels": (96, 128, 160, 160), "kernel": 5},
        "tiny": {
            "sample_rate": 8000, "n_fft": 64, "win": 64, "hop": 32, "channels": (16, 24), "kernel": 3, "heads": 2,
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        n_fft: int = 512,
        win: int = 512,
        hop: int = 128,
        window: Window = "hann",
        channels: tuple[int, ...] = (256, 512, 512, 512),
        kernel: int = 7,
        heads: int = 8,
        groups: int = 8,
        mask: Mask = "softmax",
        mask_scale: float = 1.5,
        features: Features = "magnitude",
        attention_norm: bool = False,
        **common: Unpack[Common],
    ) -> None:
        """Take n_fft, win, hop in samples, kernel in frames, channels of each level; ConfigError if sizes clash.

        attention_norm: attention asks at level one (SelfAttention), which no released model does.
        """
        super().__init__(n_fft=n_fft, win=win, hop=hop, window=window, mask=mask, mask_scale=mask_scale, **common)
        if self.causal:
            reject_causal("unet_mask, which reads the whole input; use model.name: convtasnet, preset: causal")
        bins = n_fft // 2
        check_sizes(bins, channels, kernel, heads, groups)
        if features not in ("magnitude", "log_magnitude"):
            raise ConfigError(f"model.features: {choices('features', features, ('magnitude', 'log_magnitude'))}")
        self.features = features
        self.inlet = Pointwise(bins, channels[0])
        self.encoder = Encoder(channels[0], channels, kernel, groups)
        deep = channels[-1]
        self.middle = middle(deep, heads, kernel, groups, attention_norm)
        self.decoder = Decoder(channels, kernel, groups)
        self.head = Pointwise(channels[0], self.n_src * bins * self.mask_values)
        if mask == "tanh_complex":
            assert self.head.bias is not None
            self.start_equal(self.head.bias.detach().view(self.n_src, bins, -1))
        self.learn_shares(channels[0])

    def core(self, spec: Tensor) -> Tensor:
        """Return features (B, L, C) of the mixture's spectrum (B, F, L)."""
        level = spec[:, :-1].abs()
        x = self.inlet(level if self.features == "magnitude" else torch.log(level + LOG_FLOOR))
        deep, levels = self.encoder(x)
        return self.decoder(self.middle(deep), levels).mT

    def scores(self, core: Tensor) -> Tensor:
        """Return mask logits (B, L, N, F[, 2]) from features (B, L, C)."""
        bins = self.stft.bins - 1
        found = self.head(core.mT).mT  # (B, L, N bins [2])
        parts = (self.n_src, bins, 2) if self.mask_values == 2 else (self.n_src, bins)
        found = found.unflatten(-1, parts)
        return torch.cat([found, found[:, :, :, -1:]], 3)


def check_sizes(bins: int, channels: tuple[int, ...], kernel: int, heads: int, groups: int) -> None:
    """Raise ConfigError, by the key at fault, for sizes of which no such U-Net can be made."""
    if groups < 1:
        raise ConfigError(f"model.groups: found {groups}; expected at least 1")
    if not channels or any(width < 1 or width % groups for width in channels):
        raise ConfigError(f"model.channels: found {list(channels)}; expected multiples of model.groups = {groups}")
    if heads < 1 or channels[-1] % heads:
        raise ConfigError(
            f"model.heads: found {heads}; expected a divisor of the last of model.channels, {channels[-1]}"
        )
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError(f"model.kernel: found {kernel}; expected an odd number of frames")
    if bins < 2:
        raise ConfigError(f"model.n_fft: found {2 * bins}; expected at least 4")
