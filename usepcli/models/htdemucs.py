"""HTDemucs: music into stems by two U-Nets, over the spectrum and the waveform (Rouard, Massa & Défossez 2023).

Both read the mixture less its mean over its deviation. Between the ways down and up, a transformer lets the bins of the
last level attend to the steps of the waveform and the other way round. The spectrum's U-Net maps real and imaginary
parts of both channels to those of every source; the sources of both U-Nets are added. A bag is several networks, of
whose sources weighted means are taken.
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.audio import stems as names
from usepcli.dsp.parts import Parts
from usepcli.dsp.stft import STFT
from usepcli.errors import ConfigError
from usepcli.models.cross_transformer import CrossTransformer
from usepcli.models.hybrid_parts import Down, Up
from usepcli.models.mapped import at_least
from usepcli.models.separator import Common, reject_causal
from usepcli.models.stereo import StereoModel

_EPS = 1e-5  # beside a deviation
_TONES = 2.0  # weight of the learned vectors of bins: small numbers, which so learn faster
_SPREAD = 0.1  # deviation towards which the first weights of convolutions are brought, half way in decibels
_LONGEST_S = 600.0
_MOST_PAIRS = 2**29  # of steps that attend to each other, in all heads; 2**26 as published


class Hybrid(nn.Module):
    """One network: mixtures (B, 2, T) to sources (B, N, 2, T) and the features (B, L, F, dim) of its middle."""

    def __init__(
        self, n_src: int, n_fft: int, dims: list[int], stride: int, compress: int, branches: int, bottleneck: int,
        layers: int, heads: int, ffn: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.n_src = n_src
        self.stft = STFT(n_fft, n_fft, n_fft // 4)

        def levels(heard: int, tall: bool) -> tuple[nn.ModuleList, nn.ModuleList]:
            pairs = list(zip([heard, *dims], dims, strict=False))
            down = [Down(a, b, stride, b // compress, branches, tall) for a, b in pairs]
            outs = [heard * n_src, *dims]
            up = [Up(b, outs[k], stride, b // compress, branches, tall, not k) for k, b in enumerate(dims)]
            return nn.ModuleList(down), nn.ModuleList(up[::-1])

        self.spectrum_down, self.spectrum_up = levels(4, True)
        self.waveform_down, self.waveform_up = levels(2, False)
        self.tones = nn.Parameter(_smooth(n_fft // 2 // stride, dims[0]))
        _even(self)
        dim = bottleneck or dims[-1]
        self.inlets, self.outlets = (
            nn.ModuleList(nn.Linear(*sizes) if bottleneck else nn.Identity() for _ in range(2))
            for sizes in ((dims[-1], dim), (dim, dims[-1]))
        )
        self.cross = CrossTransformer(dim, heads, ffn * dim, layers, dropout)

    def forward(self, mix: Tensor) -> tuple[Tensor, Tensor]:
        """Return sources and features."""
        x, mean, spread = _normalised(self._analysed(mix))  # (B, 4, F, L)
        y, level, scale = _normalised(mix)
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
        est = self._synthesised(x * spread[:, None] + mean[:, None], mix.shape[-1])
        return est + y * scale[..., None] + level[..., None], core

    def _crossed(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return bins (B, C, F, L) and steps (B, C, T) after the transformer, and its features of the bins."""
        core, steps = self.cross(self.inlets[0](x.permute(0, 3, 2, 1)), self.inlets[1](y.mT))
        return self.outlets[0](core).permute(0, 3, 2, 1), self.outlets[1](steps).mT, core

    def _analysed(self, wave: Tensor) -> Tensor:
        """Return real and imaginary parts (B, 4, F, L) of waves (B, 2, T), the highest bin left out; L = ceil(T / hop).

        Frame l is centred on the middle of its hop.
        """
        hop, over = self.stft.hop, -wave.shape[-1] % self.stft.hop
        padded = _reflected(wave, 3 * hop // 2, 3 * hop // 2 + over)
        spec = self.stft(padded.flatten(0, 1))[..., :-1, 2:-2]
        parts = torch.stack([spec.real, spec.imag], 1).unflatten(0, (-1, 2))  # (B, 2, 2, F, L)
        return parts.flatten(1, 2) / self.stft.n_fft**0.5

    def _synthesised(self, parts: Tensor, length: int) -> Tensor:
        """Return waves (B, N, 2, length) of parts (B, N, 4, F, L)."""
        real, imag = (F.pad(parts, (2, 2, 0, 1)) * self.stft.n_fft**0.5).unflatten(2, (2, 2)).unbind(3)
        edge, hop = 3 * self.stft.hop // 2, self.stft.hop
        wave = self.stft.inverse(torch.complex(real, imag), 2 * edge + length + -length % hop)
        return wave[..., edge : edge + length]


class HTDemucs(StereoModel):
    """Stems of music in two channels, at any length; shorter ones than `segment_s` are filled up to it with silence.

    Not causal: all that the networks do reads the whole input.
    """

    ordered = True
    COMMON: ClassVar[Common] = {"n_src": 4, "sample_rate": 44100, "input_norm": "std"}
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
        super().__init__(hop=max(1, n_fft // 4), **common)
        if self.causal:
            reject_causal("htdemucs, which reads the whole input; use model.name: convtasnet, preset: causal")
        at_least(width=width, growth=growth, depth=depth, branches=branches)
        at_least(layers=layers, heads=heads, ffn=ffn, bag=bag)
        at_least(0, bottleneck=bottleneck)
        _check_levels(n_fft, depth, stride, width, compress)
        dims = [width * growth**k for k in range(depth)]
        _check_dim(bottleneck or dims[-1], heads, dropout)
        self.stems, self.segment_s, self.latency = _stems(stems, self.n_src), _segment(segment_s), n_fft
        _check_attention(max(self.segment_s, 2.0) * self.sample_rate / stride**depth, heads)
        self.nets = nn.ModuleList(
            Hybrid(self.n_src, n_fft, dims, stride, compress, branches, bottleneck, layers, heads, ffn, dropout)
            for _ in range(bag)
        )
        self.weights = _weights(weights, bag, self.n_src)
        self.learn_shares(bottleneck or dims[-1])

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, 2, T) of the mixture (B, 2, T)."""
        length = mix.shape[-1]
        short = 0 if self.training else max(0, round(self.segment_s * self.sample_rate) - length)
        est: Tensor | int = 0
        for net, weight in zip(self.nets, self.weights, strict=True):
            found, core = net(F.pad(mix, (0, short)))
            est = est + torch.tensor(weight, device=mix.device)[:, None, None] * found[..., :length]
        assert isinstance(est, Tensor)
        return Parts(est, weights=self.shares_of(core))

    @property
    def latency_samples(self) -> int:
        """One window, were the network causal."""
        return self.latency


def _normalised(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return x (B, ...) less its mean over its deviation, and both, (B, 1, ...)."""
    axes = tuple(range(1, x.dim()))
    mean, spread = x.mean(axes, keepdim=True), x.std(axes, keepdim=True)
    return (x - mean) / (_EPS + spread), mean, spread


def _reflected(wave: Tensor, left: int, right: int) -> Tensor:
    """Return waves (..., T) with what mirrors them before and after; a short one is filled up with zeros first."""
    lacking = max(0, max(left, right) + 1 - wave.shape[-1])
    after = min(right, lacking)
    before = lacking - after
    return F.pad(F.pad(wave, (before, after)), (left - before, right - after), mode="reflect")


def _smooth(bins: int, dim: int) -> Tensor:
    """Return first vectors (bins, dim) of bins: sums of normal numbers, so that neighbours are alike."""
    return torch.randn(bins, dim).cumsum(0) / torch.arange(1, bins + 1)[:, None].sqrt() / 10


@torch.no_grad()
def _even(net: nn.Module) -> None:
    """Bring the first weights of all convolutions nearer to one deviation."""
    for part in net.modules():
        if isinstance(part, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)):
            scale = (part.weight.std() / _SPREAD).sqrt()
            part.weight /= scale
            if part.bias is not None:
                part.bias /= scale


def _check_levels(n_fft: int, depth: int, stride: int, width: int, compress: int) -> None:
    if stride < 2 or stride % 2:
        raise ConfigError(f"model.stride: found {stride}; expected an even number of samples and bins")
    if not 1 <= compress <= width:
        raise ConfigError(f"model.compress: found {compress}; expected 1 to model.width = {width}")
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


def _segment(seconds: float) -> float:
    if seconds and not 1 <= seconds <= _LONGEST_S:
        raise ConfigError(f"model.segment_s: found {seconds}; expected 1 to {_LONGEST_S:g} seconds, or 0: any length")
    return float(seconds)


def _stems(told: tuple[str, ...], n_src: int) -> tuple[str, ...]:
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
