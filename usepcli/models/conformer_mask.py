"""Conformer mask estimator on the STFT (Chen et al. 2021; Saijo & Ogawa 2023)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.stft import Window
from usepcli.errors import ConfigError, choices
from usepcli.models.attention import RelativeAttention, RelativeKeys
from usepcli.models.dense import Dense
from usepcli.models.separator import Common
from usepcli.models.spectral import LOG_FLOOR, Mask, SpectralModel, relu_or_silu

Activation = Literal["relu", "silu"]
Pointwise = Literal["scalar", "full"]
Features = Literal["magnitude", "log_magnitude"]


class FeedForward(nn.Sequential):
    """Layer norm, expansion, activation, projection: (B, L, dim) to (B, L, dim)."""

    def __init__(self, dim: int, hidden: int, activation: Activation, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(dim), Dense(dim, hidden), relu_or_silu(activation), nn.Dropout(dropout),
            Dense(hidden, dim), nn.Dropout(dropout),
        )  # fmt: skip


class ScalarPointwise(nn.Module):
    """A 1x1 convolution on one channel: `outputs` scaled and shifted copies of the input, side by side."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs).uniform_(-1, 1))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., outputs * C) from x (..., C)."""
        if len(self.weight) == 1:
            return x * self.weight + self.bias
        return (x[..., None, :] * self.weight[:, None] + self.bias[:, None]).flatten(-2)


class ConvModule(nn.Module):
    """Gated pointwise, depthwise convolution over frames, group norm, activation, pointwise."""

    def __init__(
        self, dim: int, kernel: int, activation: Activation, conv: Pointwise, dropout: float, causal: bool
    ) -> None:
        super().__init__()
        scalar = conv == "scalar"
        self.norm = nn.LayerNorm(dim)
        self.gate = ScalarPointwise(2) if scalar else Dense(dim, 2 * dim)
        self.depth = nn.Conv1d(dim, dim, kernel, padding=0 if causal else kernel // 2, groups=dim)
        self.group = nn.GroupNorm(8, dim)
        self.act = relu_or_silu(activation)
        self.point = ScalarPointwise(1) if scalar else Dense(dim, dim)
        self.drop = nn.Dropout(dropout)
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, dim) from x (B, L, dim)."""
        y = F.glu(self.gate(self.norm(x)), -1).mT  # (B, dim, L)
        if self.causal:
            y = self.depth(F.pad(y, (self.depth.kernel_size[0] - 1, 0))).mT
            # Statistics of one frame at a time: those of the whole input would look ahead.
            y = self.group(y.flatten(0, 1)).view_as(y)
        else:
            y = self.group(self.depth(y)).mT
        return self.drop(self.point(self.act(y)))


class ConformerLayer(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward, each residual; then layer norm."""

    def __init__(
        self, dim: int, heads: int, ffn: int, kernel: int, activation: Activation, conv: Pointwise,
        dropout: float, causal: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.first = FeedForward(dim, ffn, activation, dropout)
        self.norm = nn.LayerNorm(dim)
        self.attention = RelativeAttention(dim, heads, dropout, causal)
        self.drop = nn.Dropout(dropout)
        self.conv = ConvModule(dim, kernel, activation, conv, dropout, causal)
        self.second = FeedForward(dim, ffn, activation, dropout)
        self.last = nn.LayerNorm(dim)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Return (B, L, dim) from x (B, L, dim) and the relative keys (2L - 1, dim / heads)."""
        x = x + 0.5 * self.first(x)
        x = x + self.drop(self.attention(self.norm(x), keys))
        x = x + self.conv(x)
        x = x + 0.5 * self.second(x)
        return self.last(x)


_MOST_FRAMES = 1000  # in a second; the paper has 100


class ConformerMask(SpectralModel):
    """Masks from a Conformer over STFT frames; the defaults are the published separator.

    One table of relative keys serves all layers. `conv: scalar` gates with two numbers per layer as
    published, `conv: full` with complete 1x1 convolutions, which suits small models better.
    """

    COMMON: ClassVar[Common] = {"n_src": 3, "input_norm": "mean_std"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "small": {
            "n_src": 2, "sample_rate": 8000, "n_fft": 256, "win": 256, "hop": 64, "window": "sqrt_hann",
            "dim": 128, "layers": 6, "ffn": 512, "kernel": 31, "activation": "silu", "conv": "full",
            "mask": "tanh_complex", "dropout": 0.0, "input_norm": "std", "consistency": "uniform",
        },
        "tiny": {
            "n_src": 2, "sample_rate": 8000, "n_fft": 64, "win": 64, "hop": 32, "window": "sqrt_hann",
            "dim": 32, "layers": 2, "heads": 2, "ffn": 64, "kernel": 7, "activation": "silu", "conv": "full",
            "mask": "tanh_complex", "dropout": 0.0, "max_offset": 200, "input_norm": "std",
            "consistency": "uniform",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        n_fft: int = 512,
        win: int = 400,
        hop: int = 160,
        window: Window = "hann",
        dim: int = 256,
        layers: int = 16,
        heads: int = 4,
        ffn: int = 1024,
        kernel: int = 33,
        activation: Activation = "relu",
        conv: Pointwise = "scalar",
        mask: Mask = "sigmoid",
        mask_scale: float = 1.5,
        features: Features = "log_magnitude",
        max_offset: int = 1000,
        zero_last: bool = False,
        dropout: float = 0.1,
        **common: Unpack[Common],
    ) -> None:
        """Take n_fft, win, hop in samples, kernel and max_offset in frames; ConfigError if sizes clash."""
        super().__init__(n_fft=n_fft, win=win, hop=hop, window=window, mask=mask, mask_scale=mask_scale, **common)
        _check(dim, heads, kernel, conv, features, max_offset)
        if self.sample_rate > _MOST_FRAMES * hop:
            raise ConfigError(
                f"model.hop: found {hop}; expected at least {-(-self.sample_rate // _MOST_FRAMES)} samples at "
                f"{self.sample_rate} Hz: attention takes the square of the frames"
            )
        self.features = features
        self.inlet = nn.Sequential(
            Dense(self.stft.bins, dim), nn.LayerNorm(dim), nn.Dropout(dropout), relu_or_silu(activation)
        )
        self.keys = RelativeKeys(max_offset, dim // heads)
        self.layers = nn.ModuleList(
            ConformerLayer(dim, heads, ffn, kernel, activation, conv, dropout, self.causal) for _ in range(layers)
        )
        self.head = Dense(dim, self.n_src * self.stft.bins * self.mask_values)
        if zero_last:
            nn.init.zeros_(self.head.weight)
        if zero_last or mask == "tanh_complex":
            self.start_equal(self.head.bias.view(self.n_src, self.stft.bins, -1))
        self.learn_shares(dim)

    def core(self, spec: Tensor) -> Tensor:
        """Return features (B, L, dim) of the mixture's spectrum (B, F, L)."""
        level = spec.abs().mT
        x = self.inlet(level if self.features == "magnitude" else torch.log(level + LOG_FLOOR))
        keys = self.keys(x.shape[1])
        for layer in self.layers:
            x = layer(x, keys)
        return x

    def scores(self, core: Tensor) -> Tensor:
        """Return mask logits (B, L, N, F[, 2]) from features (B, L, dim)."""
        parts = (self.n_src, self.stft.bins, 2) if self.mask_values == 2 else (self.n_src, self.stft.bins)
        return self.head(core).unflatten(-1, parts)


def _check(dim: int, heads: int, kernel: int, conv: str, features: str, max_offset: int) -> None:
    if dim % heads or dim % 8:
        raise ConfigError(f"model.dim: found {dim}; expected a multiple of 8 and of model.heads = {heads}")
    if kernel % 2 == 0:
        raise ConfigError(f"model.kernel: found {kernel}; expected an odd number of frames")
    if max_offset < 1:
        raise ConfigError(f"model.max_offset: found {max_offset}; expected at least one frame")
    for key, found, known in (
        ("conv", conv, ("scalar", "full")),
        ("features", features, ("magnitude", "log_magnitude")),
    ):
        if found not in known:
            raise ConfigError(f"model.{key}: {choices(key, found, known)}")
