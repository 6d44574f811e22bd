"""TF-GridNet: LSTMs over bins and over frames, and attention of whole frames to each other (Wang et al. 2023).

Every block takes features x (L, F, C) through (section III of the TASLP paper, in the form of its second code)

    x <- x + deconv(BLSTM(unfold(LN(x))))    along the bins of each frame,
    x <- x + deconv(BLSTM(unfold(LN(x))))    along the frames of each bin,
    x <- x + A(x),    A(x) = LN(prelu(W [softmax(Q K^t / sqrt(F E)) V]_heads)),

where unfold gives `kernel` neighbours in steps of `stride` to the LSTM, and deconv, its adjoint, adds up what they get
back. A row of Q and K is one head's view of a whole frame, LN(prelu(W x)) with E numbers for each of F bins.
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.stft import Edges, Window
from usepcli.errors import ConfigError
from usepcli.models.dense import Dense, dense
from usepcli.models.mapped import MappedModel, at_least, in_slabs
from usepcli.models.precision import full_precision
from usepcli.models.separator import Common

# Sequences that an LSTM takes in step where nobody asks for gradients, and frames that ask at once.
_ABREAST = 16
_ASKING = 512


class Path(nn.Module):
    """Layer norm, LSTM both ways over neighbourhoods, their overlapping sum, residual: (S, steps, C) to the same.

    steps is kernel plus a multiple of stride.
    """

    def __init__(self, dim: int, hidden: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.norm = nn.LayerNorm(dim)
        self.lstm = nn.LSTM(kernel * dim, hidden, batch_first=True, bidirectional=True)
        bound = (2 * hidden) ** -0.5
        self.weight = nn.Parameter(torch.empty(2 * hidden, kernel, dim).uniform_(-bound, bound))
        # Neighbourhoods that do not overlap have a bias for each of their places.
        places = kernel if stride == kernel else 1
        self.bias = nn.Parameter(torch.empty(places, dim).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Return (S, steps, C) from x (S, steps, C)."""
        y, steps = self.norm(x), x.shape[1]
        count = (steps - self.kernel) // self.stride + 1
        starts = [slice(k, k + (count - 1) * self.stride + 1, self.stride) for k in range(self.kernel)]
        y = self._recur(torch.cat([y[:, at] for at in starts], -1))  # (S, count, 2 hidden)
        spread = dense(y, self.weight.flatten(1).mT).unflatten(-1, (self.kernel, -1))  # (S, count, kernel, C)
        if self.stride == self.kernel:
            return x + (spread + self.bias).flatten(1, 2)
        x = x + self.bias
        for k, at in enumerate(starts):
            x[:, at] += spread[:, :, k]
        return x

    def _recur(self, y: Tensor) -> Tensor:
        if y.is_cuda:
            return self.lstm(y)[0]  # type: ignore[no-any-return]
        # CPU kernels for bfloat16 LSTMs do not exist for every size, so autocast stops here.
        with full_precision(y):
            return self.lstm(y.float())[0]  # type: ignore[no-any-return]


class FrameViews(nn.Module):
    """One vector of `size` numbers a bin for every head and frame, normalised as a whole: (B, L, F, C) to (B, H, L, D).

    D is bins times size.
    """

    def __init__(self, dim: int, heads: int, bins: int, size: int) -> None:
        super().__init__()
        self.point = Dense(dim, heads * size)
        self.slope = nn.Parameter(torch.full((heads,), 0.25))
        self.weight = nn.Parameter(torch.ones(heads, bins, size))
        self.bias = nn.Parameter(torch.zeros(heads, bins, size))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, H, L, D) from x (B, L, F, C)."""
        y = self.point(x).unflatten(-1, (len(self.slope), -1)).permute(0, 3, 1, 2, 4).flatten(3)  # (B, H, L, D)
        y = F.prelu(y, self.slope.to(y.dtype))
        y = F.layer_norm(y, y.shape[-1:])
        return y * self.weight.flatten(1)[:, None] + self.bias.flatten(1)[:, None]


class FrameAttention(nn.Module):
    """Every frame asks all others, all bins at once: (B, L, F, C) to the same, without residual."""

    def __init__(self, dim: int, heads: int, bins: int, keys: int) -> None:
        """Take the channels, heads, bins, and the numbers that each bin gives to a query or a key."""
        super().__init__()
        self.queries, self.keys = FrameViews(dim, heads, bins, keys), FrameViews(dim, heads, bins, keys)
        self.values = FrameViews(dim, heads, bins, dim // heads)
        self.out = nn.Sequential(Dense(dim, dim), nn.PReLU(), nn.LayerNorm((bins, dim)))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, F, C) from x (B, L, F, C)."""
        asked, k, v = self.queries(x), self.keys(x), self.values(x)
        k, v = k.to(asked.dtype), v.to(asked.dtype)
        # Scores take the square of the frames; without gradients some rows at a time do.
        rows = asked.split(asked.shape[2] if torch.is_grad_enabled() else _ASKING, 2)
        heard = torch.cat([F.scaled_dot_product_attention(q, k, v) for q in rows], 2)  # (B, H, L, F C / H)
        heard = heard.unflatten(-1, (x.shape[2], -1)).permute(0, 2, 3, 1, 4).flatten(3)
        return self.out(heard)  # type: ignore[no-any-return]


class Block(nn.Module):
    """LSTMs over bins, over frames, then attention, each residual: (B, L, F, C) to the same."""

    def __init__(
        self, dim: int, hidden: int, kernel: int, stride: int, heads: int, bins: int, keys: int, margins: bool
    ) -> None:
        super().__init__()
        self.across, self.along = (Path(dim, hidden, kernel, stride) for _ in range(2))
        self.attention = FrameAttention(dim, heads, bins, keys)
        self.kernel, self.stride, self.margins = kernel, stride, margins

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, F, C) from x (B, L, F, C)."""
        frames, bins = x.shape[1:3]
        before = self.kernel - self.stride if self.margins else 0
        y = F.pad(x, (0, 0, before, self._after(bins), before, self._after(frames)))
        batch, long, wide = y.shape[:3]
        y = in_slabs(self.across, y.flatten(0, 1), _ABREAST).unflatten(0, (batch, long)).transpose(1, 2)
        y = in_slabs(self.along, y.flatten(0, 1), _ABREAST).unflatten(0, (batch, wide)).transpose(1, 2)
        y = y[:, before : before + frames, before : before + bins]
        return y + self.attention(y)

    def _after(self, steps: int) -> int:
        """Return the zeros behind `steps`, as many as before them and more until neighbourhoods cover all."""
        if not self.margins:
            return max(self.kernel - steps, (self.kernel - steps) % self.stride)
        before = self.kernel - self.stride
        return before + (self.kernel - 2 * before - steps) % self.stride


class TFGridNet(MappedModel):
    """Spectra of the sources from LSTMs and attention; the defaults are the published size on WSJ0-2mix.

    `small` has the size with which its authors compare training without references (Saijo & Ogawa 2023).
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "small": {
            "n_fft": 512, "win": 400, "hop": 160, "dim": 48, "layers": 4, "kernel": 4, "stride": 4, "hidden": 96,
            "keys": 1, "consistency": "uniform",
        },
        "tiny": {
            "n_fft": 64, "win": 64, "hop": 32, "dim": 8, "layers": 1, "hidden": 8, "heads": 2, "keys": 1,
            "consistency": "uniform",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        n_fft: int = 128,
        win: int = 128,
        hop: int = 64,
        window: Window = "hann",
        edges: Edges = "zeros",
        dim: int = 64,
        layers: int = 6,
        hidden: int = 256,
        kernel: int = 4,
        stride: int = 1,
        heads: int = 4,
        keys: int = 4,
        margins: bool = True,
        **common: Unpack[Common],
    ) -> None:
        """Take n_fft, win, hop in samples, kernel and stride in bins or frames, keys per bin; or ConfigError.

        margins: zeros before the first step and behind the last, so that all lie in equally many neighbourhoods; the
        first version of the makers' code has them behind alone, as few as fill the last one.
        """
        super().__init__(n_fft=n_fft, win=win, hop=hop, window=window, edges=edges, dim=dim, **common)
        at_least(layers=layers, hidden=hidden, stride=stride, heads=heads, keys=keys)
        if kernel < stride:
            raise ConfigError(f"model.kernel: found {kernel}; expected at least model.stride = {stride}")
        if dim % heads:
            raise ConfigError(f"model.dim: found {dim}; expected a multiple of model.heads = {heads}")
        bins = self.stft.bins
        self.blocks = nn.Sequential(
            *(Block(dim, hidden, kernel, stride, heads, bins, keys, margins) for _ in range(layers))
        )

    def body(self, x: Tensor) -> Tensor:
        """Return features (B, L, F, dim) of features (B, L, F, dim)."""
        return self.blocks(x)  # type: ignore[no-any-return]
