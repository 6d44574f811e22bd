"""Conformer mask estimator on the STFT (Chen et al. 2021; Saijo & Ogawa 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.stft import Window
from usepcli.errors import ConfigError, choices
from usepcli.models.attention import Heard, RelativeAttention, RelativeKeys
from usepcli.models.dense import Dense
from usepcli.models.depthwise import along
from usepcli.models.running_level import MEMORY_S, RunningLevel
from usepcli.models.separator import Common
from usepcli.models.spectral import LOG_FLOOR, Mask, relu_or_silu
from usepcli.models.spectral_live import LiveSpectralModel
from usepcli.models.streaming import Run, at_once

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
        self.depth = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.group = nn.GroupNorm(8, dim)
        self.act = relu_or_silu(activation)
        self.point = ScalarPointwise(1) if scalar else Dense(dim, dim)
        self.drop = nn.Dropout(dropout)
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, dim) from x (B, L, dim)."""
        if self.causal:
            return self.step(x)[0]
        half = self.depth.kernel_size[0] // 2
        return self._finished(self.group(self._filtered(self._gated(x), half).mT).mT)

    def step(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the same for the next frames x (B, L, dim), causal, and the frames (B, kernel - 1, dim) kept."""
        y = self._gated(x)
        past = y.new_zeros(len(y), self.depth.kernel_size[0] - 1, y.shape[2]) if past is None else past
        whole = torch.cat([past, y], 1)
        y = self._filtered(whole, 0)
        # Statistics of one frame at a time: those of the whole input would look ahead.
        y = self.group(y.flatten(0, 1)).view_as(y)
        return self._finished(y), whole[:, x.shape[1] :]

    def _gated(self, x: Tensor) -> Tensor:
        """Return (B, L, dim) from x (B, L, dim)."""
        return F.glu(self.gate(self.norm(x)), -1)

    def _filtered(self, x: Tensor, both: int) -> Tensor:
        """Return x (B, L, dim) filtered over frames, `both` zeros at either end."""
        return along(x, self.depth.weight[:, 0], self.depth.bias, both, both)

    def _finished(self, x: Tensor) -> Tensor:
        """Return (B, L, dim) from x (B, L, dim)."""
        return self.drop(self.point(self.act(x)))  # type: ignore[no-any-return]


class Kept(NamedTuple):
    """What a layer keeps of the frames before."""

    heard: Heard
    filtered: Tensor  # (B, kernel - 1, dim)


class ConformerLayer(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward, each residual; then layer norm."""

    def __init__(
        self, dim: int, heads: int, ffn: int, kernel: int, activation: Activation, conv: Pointwise,
        dropout: float, causal: bool, look_back: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.first = FeedForward(dim, ffn, activation, dropout)
        self.norm = nn.LayerNorm(dim)
        self.attention = RelativeAttention(dim, heads, dropout, causal, look_back)
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

    def step(self, x: Tensor, keys: Tensor, past: Kept | None = None) -> tuple[Tensor, Kept]:
        """Return the same for the next frames x (B, L, dim), causal, and what is kept of them."""
        x = x + 0.5 * self.first(x)
        y, heard = self.attention.step(self.norm(x), keys, past and past.heard)
        y, filtered = self.conv.step(x := x + self.drop(y), past and past.filtered)
        x = x + y
        x = x + 0.5 * self.second(x)
        return self.last(x), Kept(heard, filtered)


@dataclass(frozen=True)
class _Told:
    """A layer that is told where frames lie, as something to be run along the frames."""

    layer: ConformerLayer
    keys: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return self.layer(x, self.keys)  # type: ignore[no-any-return]

    def step(self, x: Tensor, past: Kept | None) -> tuple[Tensor, Kept]:
        return self.layer.step(x, self.keys, past)


_MOST_FRAMES = 1000  # in a second; the paper has 100


class ConformerMask(LiveSpectralModel):
    """Masks from a Conformer over STFT frames; the defaults are the published separator.

    One table of relative keys serves all layers. `conv: scalar` gates with two numbers per layer as
    published, `conv: full` with complete 1x1 convolutions, which suits small models better. With `causal: true` and
    some frames to `look_back` at it takes blocks; each layer looks back by so many.
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
        levelled: bool = False,
        look_back: int = 0,
        dropout: float = 0.1,
        **common: Unpack[Common],
    ) -> None:
        """Take n_fft, win, hop in samples, kernel, max_offset, look_back in frames; ConfigError if sizes clash.

        look_back: how far back attention goes, 0 for all that there is.
        levelled: magnitudes are heard at the level of the last seconds, so that a causal net knows any loudness.
        """
        super().__init__(n_fft=n_fft, win=win, hop=hop, window=window, mask=mask, mask_scale=mask_scale, **common)
        check_sizes(dim, heads, kernel, max_offset)
        _check(conv, features, look_back)
        if self.sample_rate > _MOST_FRAMES * hop:
            raise ConfigError(
                f"model.hop: found {hop}; expected at least {-(-self.sample_rate // _MOST_FRAMES)} samples at "
                f"{self.sample_rate} Hz: attention takes the square of the frames"
            )
        self.features, self.look_back = features, look_back
        self.level = RunningLevel(MEMORY_S * self.sample_rate / hop) if levelled else None
        # The level in a frame of a wave of variance one, sqrt(sum w^2), which `input_norm: std` would give.
        self.unit = math.sqrt(win * (1 / 2 if window == "sqrt_hann" else 3 / 8))
        self.inlet = nn.Sequential(
            Dense(self.stft.bins, dim), nn.LayerNorm(dim), nn.Dropout(dropout), relu_or_silu(activation)
        )
        self.keys = RelativeKeys(max_offset, dim // heads)
        self.layers = nn.ModuleList(
            ConformerLayer(dim, heads, ffn, kernel, activation, conv, dropout, self.causal, look_back)
            for _ in range(layers)
        )
        self.head = Dense(dim, self.n_src * self.stft.bins * self.mask_values)
        if zero_last:
            nn.init.zeros_(self.head.weight)
        if zero_last or mask == "tanh_complex":
            self.start_equal(self.head.bias.view(self.n_src, self.stft.bins, -1))
        self.learn_shares(dim)

    def hindrances(self) -> list[str]:
        """Return what keeps the model from taking blocks: without a number to look back by it keeps all frames."""
        found = super().hindrances()
        return found if self.look_back else [*found, "model.look_back 0 hears all frames again (train with a number)"]

    def core(self, spec: Tensor, run: Run = at_once) -> Tensor:
        """Return features (B, L, dim) of the mixture's spectrum (B, F, L)."""
        heard = spec.abs().mT
        if self.level is not None:
            heard = run(self.level, heard) * self.unit
        x = self.inlet(heard if self.features == "magnitude" else torch.log(heard + LOG_FLOOR))
        keys = self.keys(x.shape[1], 0 if run is at_once else self.look_back)
        for layer in self.layers:
            x = run(_Told(layer, keys), x)  # type: ignore[arg-type]
        return x

    def scores(self, core: Tensor) -> Tensor:
        """Return mask logits (B, L, N, F[, 2]) from features (B, L, dim)."""
        parts = (self.n_src, self.stft.bins, 2) if self.mask_values == 2 else (self.n_src, self.stft.bins)
        return self.head(core).unflatten(-1, parts)


def check_sizes(dim: int, heads: int, kernel: int, max_offset: int) -> None:
    """Raise ConfigError, by the key at fault, for sizes of which no Conformer can be made."""
    if heads < 1 or dim < 1 or dim % heads or dim % 8:
        raise ConfigError(f"model.dim: found {dim}; expected a multiple of 8 and of model.heads = {heads}")
    if kernel < 1 or kernel % 2 == 0:
        raise ConfigError(f"model.kernel: found {kernel}; expected an odd number of frames")
    if max_offset < 1:
        raise ConfigError(f"model.max_offset: found {max_offset}; expected at least one frame")


def _check(conv: str, features: str, look_back: int) -> None:
    if look_back < 0:
        raise ConfigError(f"model.look_back: found {look_back}; expected a number of frames, or 0 for all")
    for key, found, known in (
        ("conv", conv, ("scalar", "full")),
        ("features", features, ("magnitude", "log_magnitude")),
    ):
        if found not in known:
            raise ConfigError(f"model.{key}: {choices(key, found, known)}")
