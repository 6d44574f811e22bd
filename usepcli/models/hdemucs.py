"""Hybrid Demucs: music into stems by two U-Nets that become one at the depth (Défossez 2021, version 3).

The spectrum's U-Net halves bins until one is left, the waveform's steps until they are as many as frames; there the two
are added, and what follows halves frames. On the way back the step where they met gives to both. The spectrum's maps
real and imaginary parts of both channels to those of every source; the sources of both U-Nets are added.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn

from usepcli.errors import ConfigError, choices
from usepcli.models.hybrid_frames import Frames, normalised
from usepcli.models.hybrid_parts import Down, Grow, Level, Shrink, Up, even, smooth
from usepcli.models.mapped import at_least
from usepcli.models.nearby import HEADS
from usepcli.models.separator import Common, reject_causal
from usepcli.models.stem_bag import StemBag, check_levels

Ways = Literal["down", "up", "both"]

_TONES = 2.0  # weight of the learned vectors of bins: small numbers, which so learn faster
_LATE = 2  # stride over frames
_DEEPEST = 20  # levels; a file may ask for any number
_MOST_PAIRS = 2**29  # of frames that attend to each other, in all heads


class Merged(nn.Module):
    """One network: mixtures (B, 2, T) to sources (B, N, 2, T) and the features (B, L, dim) of its middle.

    down and up: the levels of either way, from the outermost on. The last that is `tall` is the one of the meeting.
    """

    def __init__(self, n_src: int, n_fft: int, dims: list[int], down: list[Level], up: list[Level]) -> None:
        super().__init__()
        self.n_src = n_src
        self.frames = Frames(n_fft)
        self.met = sum(level.tall for level in down) - 1
        self.spectrum_down, self.spectrum_up = nn.ModuleList(), nn.ModuleList()
        self.waveform_down, self.waveform_up = nn.ModuleList(), nn.ModuleList()
        for k, (dim, low, high) in enumerate(zip(dims, down, up, strict=True)):
            heard, given = (dims[k - 1],) * 2 if k else (4, 4 * n_src)
            self.spectrum_down.append(Down(heard, dim, low))
            self.spectrum_up.insert(0, Up(dim, given, high, not k))
            if k > self.met:
                continue
            own, back = (dims[k - 1],) * 2 if k else (2, 2 * n_src)
            low, high = (level._replace(tall=False, margin=level.stride // 2) for level in (low, high))
            self.waveform_down.append((Down if k < self.met else Shrink)(own, dim, low))
            self.waveform_up.insert(0, (Up if k < self.met else Grow)(dim, back, high, not k))
        self.tones = nn.Parameter(smooth(n_fft // 2 // down[0].stride, dims[0]))
        even(self)

    def forward(self, mix: Tensor) -> tuple[Tensor, Tensor]:
        """Return sources and features."""
        x, mean, spread = normalised(self.frames.analyse(mix))  # (B, 4, F, L)
        y, level, scale = normalised(mix)
        xs, ys, frames, steps = [], [], [], []
        for k, down in enumerate(self.spectrum_down):
            frames.append(x.shape[-1])
            if k <= self.met:
                steps.append(y.shape[-1])
                y = self.waveform_down[k](y)
                ys.append(y)
            x = down(x, y[:, :, None]) if k == self.met else down(x)
            if not k:
                x = x + _TONES * self.tones.mT[:, :, None]
            xs.append(x)
            x = x[:, :, 0] if k == self.met else x  # one bin is left
        core = x.mT
        x, y = self._back(x, xs, ys, frames, steps)
        x, y = (part.float().unflatten(1, (self.n_src, -1)) for part in (x, y))  # (B, N, 4, F, L) and (B, N, 2, T)
        est = self.frames.synthesise(x * spread[:, None] + mean[:, None], mix.shape[-1])
        return est + y * scale[..., None] + level[..., None], core

    def _back(
        self, x: Tensor, xs: list[Tensor], ys: list[Tensor], frames: list[int], steps: list[int]
    ) -> tuple[Tensor, Tensor]:
        """Return bins and steps of the outermost levels; x says the shape of the innermost, from which nothing goes."""
        x = y = torch.zeros_like(x)
        for k, up in zip(reversed(range(len(xs))), self.spectrum_up, strict=True):
            if k == self.met:
                steps_up = self.waveform_up[0]
                assert isinstance(up, Up) and isinstance(steps_up, Grow)
                both = up.mixed(x[:, :, None] + xs[k])
                x, y = up.grow(both, frames[k]), steps_up.grow(both[:, :, 0], steps[k])
                continue
            x = up(x, xs[k], frames[k])
            if k < self.met:
                y = self.waveform_up[self.met - k](y, ys[k], steps[k])
        return x, y


class HDemucs(StemBag):
    """Stems of music in two channels, at any length."""

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "published": {"stems": ("drums", "bass", "other", "vocals"), "segment_s": 44.0},
        "small": {
            "sample_rate": 22050, "n_fft": 1024, "width": 24, "depth": 5, "norm_from": 3, "core_from": 3,
        },
        "tiny": {
            "sample_rate": 8000, "n_fft": 64, "width": 8, "depth": 3, "compress": 2, "norm_from": 1, "core_from": 1,
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        stems: tuple[str, ...] = (),
        n_fft: int = 4096,
        width: int = 48,
        growth: int = 2,
        depth: int = 6,
        stride: int = 4,
        compress: int = 4,
        branches: int = 2,
        branched: Ways = "down",
        groups: int = 4,
        norm_from: int = 4,
        core_from: int = 4,
        segment_s: float = 0.0,
        bag: int = 1,
        weights: list[list[float]] | None = None,
        **common: Unpack[Common],
    ) -> None:
        """Take the names of the outputs, sizes, seconds of a segment, and of a bag the weights (networks, outputs).

        width: features of the first level, of each next `growth` times as many; n_fft: four times a power of stride,
        which says after how many levels the two meet; compress: by how much branches have fewer; branched: on which
        way they stand; from the level norm_from on there are norms over `groups` groups of features, from core_from on
        recurrence and attention in the branches. ConfigError if sizes do not fit.
        """
        super().__init__(stems=stems, n_fft=n_fft, segment_s=segment_s, bag=bag, weights=weights, **common)
        if self.causal:
            reject_causal("hdemucs, which reads the whole input; use model.name: convtasnet, preset: causal")
        at_least(width=width, growth=growth, depth=depth, branches=branches, groups=groups)
        at_least(0, norm_from=norm_from, core_from=core_from)
        check_levels(stride, width, compress)
        if branched not in ("down", "up", "both"):
            raise ConfigError(f"model.branched: {choices('way', branched, ('down', 'up', 'both'))}")
        tall = _meeting(n_fft, stride, depth)
        dims = [width * growth**k for k in range(depth)]
        _check_dims(dims, compress, groups, norm_from, core_from)
        _check_attention(max(self.segment_s, 2.0) * self.sample_rate / (n_fft // 4))

        def level(k: int, way: str) -> Level:
            own, last = (stride if k < tall else _LATE), k == tall - 1
            count, normed = (branches if branched in (way, "both") else 0), (groups if k >= norm_from else 0)
            return Level(own, 0 if last else own // 2, k < tall, dims[k] // compress, count, normed, k >= core_from)

        down, up = ([level(k, way) for k in range(depth)] for way in ("down", "up"))
        self.fill(lambda: Merged(self.n_src, n_fft, dims, down, up), dims[-1])


def _meeting(n_fft: int, stride: int, depth: int) -> int:
    """Return the number of levels until steps are as many as frames; ConfigError where they never are."""
    if depth > _DEEPEST:
        raise ConfigError(f"model.depth: found {depth}; expected at most {_DEEPEST} levels")
    levels = next((k for k in range(1, depth + 1) if 4 * stride**k == n_fft <= 2**20), 0)
    if not levels:
        raise ConfigError(
            f"model.n_fft: found {n_fft}; expected four times a power of model.stride = {stride}, up to that of "
            f"model.depth = {depth}"
        )
    return levels


def _check_dims(dims: list[int], compress: int, groups: int, norm_from: int, core_from: int) -> None:
    if odd := [dim for dim in dims[norm_from:] if dim % groups]:
        raise ConfigError(f"model.groups: found {groups}; expected a divisor of the {odd[0]} features of a level")
    if odd := [dim for dim in dims[core_from:] if dim // compress % HEADS or dim < compress * HEADS]:
        raise ConfigError(
            f"model.compress: {compress} leaves {odd[0] // compress} features of a level's {odd[0]} in its branches; "
            f"expected a multiple of {HEADS}"
        )


def _check_attention(frames: float) -> None:
    """Refuse more than gigabytes of attention for a segment, before any of it; a file may ask for any sizes."""
    if HEADS * frames**2 > _MOST_PAIRS:
        raise ConfigError(
            f"model.segment_s: {frames:.0f} frames of a segment attend to each other; expected at most "
            f"{(_MOST_PAIRS / HEADS) ** 0.5:.0f}, by a shorter segment or a larger model.n_fft"
        )
