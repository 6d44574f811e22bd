"""HTDemucs: music into stems by two U-Nets, over the spectrum and the waveform (Rouard, Massa & Défossez 2023).

Both read the mixture less its mean over its deviation. Between the ways down and up, a transformer lets the bins of the
last level attend to the steps of the waveform and the other way round. The spectrum's U-Net maps real and imaginary
parts of both channels to those of every source; the sources of both U-Nets are added.
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

from torch import Tensor, nn

from usepcli.errors import ConfigError
from usepcli.models.cross_transformer import CrossTransformer
from usepcli.models.dense import Dense
from usepcli.models.hybrid_frames import Frames, normalised
from usepcli.models.hybrid_parts import Down, Level, Up, even, smooth
from usepcli.models.mapped import at_least
from usepcli.models.separator import Common, reject_causal
from usepcli.models.stem_bag import StemBag, check_levels

_TONES = 2.0  # weight of the learned vectors of bins: small numbers, which so learn faster
_MOST_PAIRS = 2**29  # of steps that attend to each other, in all heads; 2**26 as published


class Hybrid(nn.Module):
    """One network: mixtures (B, 2, T) to sources (B, N, 2, T) and the features (B, L, F, dim) of its middle."""

    def __init__(
        self, n_src: int, n_fft: int, dims: list[int], stride: int, compress: int, branches: int, bottleneck: int,
        layers: int, heads: int, ffn: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_src = n_src
        self.frames = Frames(n_fft)

        def levels(heard: int, tall: bool) -> tuple[nn.ModuleList, nn.ModuleList]:
            pairs = list(zip([heard, *dims], dims, strict=False))
            made = [Level(stride, stride // 2, tall, dim // compress, branches) for dim in dims]
            down = [Down(*pair, level) for pair, level in zip(pairs, made, strict=True)]
            outs = [heard * n_src, *dims]
            up = [Up(dim, outs[k], made[k], not k) for k, dim in enumerate(dims)]
            return nn.ModuleList(down), nn.ModuleList(up[::-1])

        self.spectrum_down, self.spectrum_up = levels(4, True)
        self.waveform_down, self.waveform_up = levels(2, False)
        self.tones = nn.Parameter(smooth(n_fft // 2 // stride, dims[0]))
        even(self)
        dim = bottleneck or dims[-1]
        self.inlets, self.outlets = (
            nn.ModuleList(Dense(*sizes) if bottleneck else nn.Identity() for _ in range(2))
            for sizes in ((dims[-1], dim), (dim, dims[-1]))
        )
        self.cross = CrossTransformer(dim, heads, ffn * dim, layers, dropout)

    def forward(self, mix: Tensor) -> tuple[Tensor, Tensor]:
        """Return sources and features."""
        x, mean, spread = normalised(self.frames.analyse(mix))  # (B, 4, F, L)
        y, level, scale = normalised(mix)
        xs, ys, lengths = [], [], []
        for k, (down_x, down_y) in enumerate(zip(self.spectrum_down, self.waveform_down, strict=True)):
            lengths.append(y.shape[-1])
            x, y = down_x(x), down_y(y)
            if not k:
                x = x + _TONES * self.tones.mT[:, :, None]
            xs.append(x)
            ys.append(y)
        x, y, core = self._crossed(x, y)
        for up_x, up_y in zip(self.spectrum_up, self.waveform_up, strict=True):
            x, y = up_x(x, xs.pop(), x.shape[-1]), up_y(y, ys.pop(), lengths.pop())
        x, y = (part.float().unflatten(1, (self.n_src, -1)) for part in (x, y))  # (B, N, 4, F, L) and (B, N, 2, T)
        est = self.frames.synthesise(x * spread[:, None] + mean[:, None], mix.shape[-1])
        return est + y * scale[..., None] + level[..., None], core

    def _crossed(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return bins (B, C, F, L) and steps (B, C, T) after the transformer, and its features of the bins."""
        core, steps = self.cross(self.inlets[0](x.permute(0, 3, 2, 1)), self.inlets[1](y.mT))
        return self.outlets[0](core).permute(0, 3, 2, 1), self.outlets[1](steps).mT, core


class HTDemucs(StemBag):
    """Stems of music in two channels, at any length; shorter ones than `segment_s` are filled up to it with silence."""

    filled = True
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "published": {"stems": ("drums", "bass", "other", "vocals"), "segment_s": 7.8},
        "small": {
            "sample_rate": 22050, "n_fft": 2048, "width": 24, "depth": 3, "bottleneck": 0, "layers": 3, "heads": 4,
        },
        "tiny": {
            "sample_rate": 8000, "n_fft": 256, "width": 8, "depth": 2, "compress": 4, "bottleneck": 0, "layers": 2,
            "heads": 2, "ffn": 2,
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        stems: tuple[str, ...] = (),
        n_fft: int = 4096,
        width: int = 48,
        growth: int = 2,
        depth: int = 4,
        stride: int = 4,
        compress: int = 8,
        branches: int = 2,
        bottleneck: int = 512,
        layers: int = 5,
        heads: int = 8,
        ffn: int = 4,
        dropout: float = 0.0,
        segment_s: float = 0.0,
        bag: int = 1,
        weights: list[list[float]] | None = None,
        **common: Unpack[Common],
    ) -> None:
        """Take the names of the outputs, sizes, seconds of a segment, and of a bag the weights (networks, outputs).

        width: features of the first level, of each next `growth` times as many; compress: by how much branches have
        fewer; bottleneck: features in the transformer, 0 for those of the last level; ffn: how many times as many its
        feed-forwards have. ConfigError if sizes do not fit.
        """
        super().__init__(stems=stems, n_fft=n_fft, segment_s=segment_s, bag=bag, weights=weights, **common)
        if self.causal:
            reject_causal("htdemucs, which reads the whole input; use model.name: convtasnet, preset: causal")
        at_least(width=width, growth=growth, depth=depth, branches=branches)
        at_least(layers=layers, heads=heads, ffn=ffn)
        at_least(0, bottleneck=bottleneck)
        check_levels(stride, width, compress)
        _check_window(n_fft, depth, stride)
        dims = [width * growth**k for k in range(depth)]
        dim = bottleneck or dims[-1]
        _check_dim(dim, heads, dropout)
        _check_attention(max(self.segment_s, 2.0) * self.sample_rate / stride**depth, heads)
        sizes = n_fft, dims, stride, compress, branches, bottleneck, layers, heads, ffn, dropout
        self.fill(lambda: Hybrid(self.n_src, *sizes), dim)


def _check_window(n_fft: int, depth: int, stride: int) -> None:
    step = 2 * stride ** min(depth, 20)
    if not step <= n_fft <= 2**20 or n_fft % step or n_fft % 8:
        raise ConfigError(
            f"model.n_fft: found {n_fft}; expected a multiple of 8 and of {step}: model.stride to the power of "
            "model.depth, twice"
        )


def _check_dim(dim: int, heads: int, dropout: float) -> None:
    if dim % heads or dim % 4 or dim < 8:
        raise ConfigError(
            f"model.bottleneck: {dim} features in the transformer; expected a multiple of model.heads = {heads} and of "
            "4, from 8 on"
        )
    if not 0 <= dropout < 1:
        raise ConfigError(f"model.dropout: found {dropout}; expected at least 0 and less than 1")


def _check_attention(steps: float, heads: int) -> None:
    """Refuse more than gigabytes of attention for a segment, before any of it; a file may ask for any sizes."""
    if heads * (2 * steps) ** 2 > _MOST_PAIRS:
        raise ConfigError(
            f"model.depth: {2 * steps:.0f} bins of a segment attend to each other in {heads} heads; expected at most "
            f"{(_MOST_PAIRS / heads) ** 0.5:.0f}, by more levels, a larger model.stride or a shorter model.segment_s"
        )
