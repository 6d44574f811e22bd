"""TIGER: complex masks from one small block that runs over bands and over frames, again and again (Xu et al. 2025).

The bands widen with the frequency. x <- block(slope(a (first + x) + b)) with the same block each time, whose two paths
are x <- x + norm(attention(multi-scale filters(x))), along the bands and then along the frames.
"""

from __future__ import annotations

from itertools import accumulate, groupby, pairwise
from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn

from usepcli.dsp.stft import Edges, Window
from usepcli.errors import ConfigError, choices
from usepcli.models.band_path import BandLinear
from usepcli.models.separator import Common, reject_causal
from usepcli.models.spectral import SpectralModel
from usepcli.models.tiger_parts import InterleavedPath

Widths = Literal["speech", "sound"]
# Widths in Hz and how many bands have them, from 0 Hz on; one more band takes the rest.
_BANDS: dict[str, tuple[tuple[int, int], ...]] = {
    "speech": ((25, 40), (100, 10), (250, 8), (500, 8)),
    "sound": ((50, 20), (100, 10), (250, 8), (500, 8), (1000, 8), (2000, 2)),
}

# Resolutions; the coarsest has 2^(1 - depth) of the frames.
DEEPEST = 12


def band_widths(bins: int, sample_rate: int, table: Widths = "speech") -> list[int]:
    """Return the numbers of STFT bins of the bands, which add up to `bins`; ConfigError for an unknown table."""
    if table not in _BANDS:
        raise ConfigError(f"model.widths: {choices('widths', table, _BANDS)}")
    widths: list[int] = []
    for hz, count in _BANDS[table]:
        width = max(1, 2 * hz * bins // sample_rate)
        for _ in range(count):
            left = bins - sum(widths)
            if left:
                widths.append(min(width, left))
    left = bins - sum(widths)
    return widths + [left] * (left > 0)


class Split(nn.Module):
    """Bands of one width: (B, bands width, L) complex to (B, L, bands, dim), each normalised over all frames."""

    def __init__(self, bands: int, width: int, dim: int) -> None:
        super().__init__()
        self.bands = bands
        self.norm = nn.GroupNorm(bands, bands * 2 * width, torch.finfo(torch.float32).eps)
        self.inlet = BandLinear(bands, 2 * width, dim)

    def forward(self, spec: Tensor) -> Tensor:
        """Return features (B, L, bands, dim)."""
        parts = torch.stack([part.unflatten(1, (self.bands, -1)) for part in (spec.real, spec.imag)], 2)
        parts = parts.flatten(1, 3)  # (B, bands 2 width, L)
        x: Tensor = self.inlet(self.norm(parts).unflatten(1, (self.bands, -1)).permute(0, 3, 1, 2))
        return x


class Join(nn.Module):
    """Bands of one width: features (B, L, bands, dim) to the values and gates of their masks (B, L, N, bins, 2, 2).

    The channels are divided into N groups, one for every N-th of the numbers, which are ordered (value or gate, real or
    imaginary, output, bin): of two outputs, one group is the values of both and one the gates.
    """

    def __init__(self, bands: int, width: int, dim: int, n_src: int) -> None:
        super().__init__()
        self.n_src = n_src
        self.slope = nn.Parameter(torch.full((bands,), 0.25))
        self.outlet = BandLinear(bands * n_src, dim // n_src, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, N, bins, 2, 2): real and imaginary part, of each its value and gate."""
        x = x.clamp_min(0) + self.slope[:, None] * x.clamp_max(0)
        grouped = x.unflatten(-1, (self.n_src, -1)).flatten(2, 3)  # (B, L, bands N, dim / N)
        numbers = self.outlet(grouped).unflatten(2, (-1, self.n_src)).flatten(3)  # (B, L, bands, 4 N width)
        numbers = numbers.unflatten(-1, (2, 2, self.n_src, -1))
        return numbers.permute(0, 1, 5, 2, 6, 4, 3).flatten(3, 4)


class TIGER(SpectralModel):
    """Band split, one block of two paths run `blocks` times, complex masks that add up to 1 over the outputs.

    Not causal: all norms and both attentions read the whole input.
    """

    COMMON: ClassVar[Common] = {"sample_rate": 16000}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "paper_small": {"blocks": 4},
        "small": {
            "sample_rate": 8000, "n_fft": 256, "win": 256, "hop": 128, "window": "sqrt_hann", "dim": 64, "hidden": 128,
            "blocks": 4, "depth": 4, "dropout": 0.0, "input_norm": "std",
        },
        "tiny": {
            "sample_rate": 8000, "n_fft": 64, "win": 64, "hop": 32, "window": "sqrt_hann", "dim": 16, "hidden": 32,
            "blocks": 2, "depth": 3, "heads": 2, "dropout": 0.0, "input_norm": "std",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        n_fft: int = 640,
        win: int = 640,
        hop: int = 160,
        window: Window = "hann",
        edges: Edges = "zeros",
        dim: int = 128,
        hidden: int = 256,
        blocks: int = 8,
        depth: int = 5,
        heads: int = 4,
        key: int = 4,
        dropout: float = 0.1,
        widths: Widths = "speech",
        **common: Unpack[Common],
    ) -> None:
        """Take sizes: n_fft, win, hop in samples, depth in resolutions, key of one head; blocks: runs of the one block.

        widths names the table of bands, fine below 4 kHz or up to 20 kHz; ConfigError if sizes do not fit.
        """
        super().__init__(
            n_fft=n_fft, win=win, hop=hop, window=window, edges=edges, mask="tanh_complex", mask_scale=2.0, **common
        )  # fmt: skip
        _check(dim, heads, key, depth, blocks, dropout, self.n_src, self.causal)
        found = band_widths(self.stft.bins, self.sample_rate, widths)
        runs = [(len(list(same)), width) for width, same in groupby(found)]
        self.bins, self.bands = [count * width for count, width in runs], [count for count, _ in runs]
        self.splits = nn.ModuleList(Split(count, width, dim) for count, width in runs)
        self.across = InterleavedPath(dim, hidden, depth, heads, key, dropout)
        self.along = InterleavedPath(dim, hidden, depth, heads, key, dropout)
        self.gain, self.shift = nn.Parameter(torch.empty(dim).uniform_(-1, 1)), nn.Parameter(torch.zeros(dim))
        self.bend, self.blocks = nn.PReLU(), blocks
        self.joins = nn.ModuleList(Join(count, width, dim, self.n_src) for count, width in runs)
        self.learn_shares(dim)

    def core(self, spec: Tensor) -> Tensor:
        """Return features (B, L, bands, dim) of the mixture's spectrum (B, F, L)."""
        ends = list(accumulate(self.bins, initial=0))
        first = torch.cat([split(spec[:, a:b]) for split, (a, b) in zip(self.splits, pairwise(ends), strict=True)], 2)
        x = self._block(first)
        for _ in range(self.blocks - 1):
            x = self._block(self.bend((first + x) * self.gain + self.shift))
        return x

    def _block(self, x: Tensor) -> Tensor:
        x = self.across(x)
        y: Tensor = self.along(x.transpose(1, 2)).transpose(1, 2)
        return y

    def scores(self, core: Tensor) -> Tensor:
        """Return values and gates (B, L, N, F, 2, 2) of the masks from features (B, L, bands, dim)."""
        pieces = core.split(self.bands, 2)
        return torch.cat([join(piece) for join, piece in zip(self.joins, pieces, strict=True)], 3)

    def gains(self, logits: Tensor) -> Tensor:
        """Return complex masks (B, L, N, F) that add up to 1 over the outputs, from values and gates."""
        value, gate = logits.float().unbind(-1)
        parts = value * torch.sigmoid(gate)  # (B, L, N, F, 2)
        parts = parts - parts.mean(2, keepdim=True)
        return torch.view_as_complex(parts.contiguous()) + 1 / self.n_src


def _check(dim: int, heads: int, key: int, depth: int, blocks: int, dropout: float, n_src: int, causal: bool) -> None:
    if heads < 1 or dim < 1 or dim % heads or dim % n_src:
        raise ConfigError(
            f"model.dim: found {dim}; expected a multiple of model.heads = {heads} and of model.n_src = {n_src}"
        )
    if not 3 <= depth <= DEEPEST:
        raise ConfigError(f"model.depth: found {depth}; expected 3 to {DEEPEST} resolutions")
    for name, found in (("key", key), ("blocks", blocks)):
        if found < 1:
            raise ConfigError(f"model.{name}: found {found}; expected at least 1")
    if not 0 <= dropout < 1:
        raise ConfigError(f"model.dropout: found {dropout}; expected at least 0 and less than 1")
    if causal:
        reject_causal("tiger, which reads the whole input; use model.name: convtasnet, preset: causal")
