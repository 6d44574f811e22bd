"""TF-Locoformer: attention and convolutions over bins and over frames in turn (Saijo et al. 2024).

Every block goes along the bins of each frame, then along the frames of each bin; either way is, for sequences x,

    x <- x + F1(norm(x)),    x <- x + MHSA(norm(x)),    x <- x + F2(norm(x)),
    F(x) = deconv(a * silu(b)),    (a, b) = conv(x)

(section 3; the paper halves F1 and F2 as macaron nets do, the makers' code, whose results these are, does not). The
queries and keys of MHSA are turned by their position (RoPE, Su et al. 2021), and

    norm(x) = gamma x_g / (rms(x_g) + eps)    for every group g of the channels of one bin.

Convolutions over neighbours give the network its sense of place, so that it needs no RNN.
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.stft import Edges, Window
from usepcli.errors import ConfigError
from usepcli.models.attention import turned, turns
from usepcli.models.dense import Dense, dense
from usepcli.models.mapped import MappedModel, at_least, in_slabs
from usepcli.models.separator import Common


class GroupRms(nn.Module):
    """Divides groups of channels by their root mean square, gain per channel: (..., C) to the same, in float32."""

    def __init__(self, channels: int, groups: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.groups, self.eps = groups, eps

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised (..., C) of x (..., C)."""
        y = x.float().unflatten(-1, (self.groups, -1))
        # The gradient of a vector's norm is 0 where all of it is 0; that of a root would be infinite.
        rms = torch.linalg.vector_norm(y, dim=-1, keepdim=True) * y.shape[-1] ** -0.5
        return (y / (rms + self.eps)).flatten(-2) * self.weight


class ConvSwiGLU(nn.Module):
    """Convolution to twice `hidden` channels, one half gated by the other, transposed convolution back.

    Both are one product each. Sequences lie one after the other with kernel - 1 zeros between, which belong to the end
    of one and the beginning of the next alike: an output position j sees x[j - kernel + 1 .. j], and the transposed
    convolution brings it back to the same places.
    """

    def __init__(self, dim: int, hidden: int, kernel: int) -> None:
        """Take the channels outside and inside, and the kernel in steps."""
        super().__init__()
        self.kernel = kernel
        self.weight_in, self.bias_in = _uniform(dim * kernel, (kernel, dim, 2 * hidden), (2 * hidden,))
        self.weight_out, self.bias_out = _uniform(hidden * kernel, (hidden, kernel, dim), (dim,))

    def forward(self, x: Tensor) -> Tensor:
        """Return (S, steps, C) from x (S, steps, C)."""
        (count, steps, dim), more = x.shape, self.kernel - 1
        rows = F.pad(F.pad(x, (0, 0, 0, more)).flatten(0, 1), (0, 0, more, 0))
        size = count * (steps + more)
        near = torch.cat([rows[k : k + size] for k in range(self.kernel)], 1)  # (S (steps + more), kernel C)
        value, gate = dense(near, self.weight_in.flatten(0, 1).mT, self.bias_in).chunk(2, 1)
        spread = dense(value * F.silu(gate), self.weight_out.flatten(1).mT)
        spread = spread.view(count, steps + more, self.kernel, dim)
        # What row j gives by tap k belongs to the step j + k - more.
        y = spread[:, more:, 0]
        for k in range(1, self.kernel):
            y = y + spread[:, more - k : more - k + steps, k]
        return y + self.bias_out


def _uniform(terms: int, *shapes: tuple[int, ...]) -> list[nn.Parameter]:
    """Return parameters of these shapes, drawn within one over the root of the terms of a sum."""
    return [nn.Parameter(torch.empty(shape).uniform_(-(terms**-0.5), terms**-0.5)) for shape in shapes]


class RotaryAttention(nn.Module):
    """Multi-head self-attention along the middle axis, queries and keys turned by their position."""

    turns: Tensor

    def __init__(self, dim: int, heads: int, width: int = 0) -> None:
        """Take the channels, the number of heads, and their channels together (0: dim); those of one head are even."""
        super().__init__()
        width = width or dim
        self.heads = heads
        self.qkv = Dense(dim, 3 * width, bias=False)
        self.out = Dense(width, dim, bias=False)
        # They follow from the sizes, so checkpoints need not carry them.
        self.register_buffer("turns", turns(width // heads), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (S, steps, C) from x (S, steps, C)."""
        parts = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, S, heads, steps, D)
        q, k = turned(parts[:2], self.turns).to(parts.dtype)
        heard = F.scaled_dot_product_attention(q, k, parts[2])
        return self.out(heard.transpose(1, 2).flatten(2))


class Path(nn.Module):
    """Convolutions, attention, convolutions along the middle axis, each residual: (S, steps, C) to the same."""

    def __init__(self, dim: int, hidden: int, kernel: int, heads: int, groups: int, width: int = 0) -> None:
        super().__init__()
        self.first_norm, self.first = GroupRms(dim, groups), ConvSwiGLU(dim, hidden, kernel)
        self.norm, self.attention = GroupRms(dim, groups), RotaryAttention(dim, heads, width)
        self.last_norm, self.last = GroupRms(dim, groups), ConvSwiGLU(dim, hidden, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Return (S, steps, C) from x (S, steps, C)."""
        x = x + self.first(self.first_norm(x))
        x = x + self.attention(self.norm(x))
        return x + self.last(self.last_norm(x))


class TFLocoformer(MappedModel):
    """Spectra of the sources from attention and convolutions; the defaults are the published size M."""

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "paper_s": {"dim": 96, "hidden": 256, "layers": 4},
        "paper_l": {"layers": 9},
        "small": {
            "n_fft": 256, "win": 256, "hop": 128, "dim": 32, "hidden": 64, "layers": 4, "consistency": "uniform",
        },
        "tiny": {
            "n_fft": 64, "win": 64, "hop": 32, "dim": 16, "hidden": 16, "layers": 1, "heads": 2,
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
        dim: int = 128,
        layers: int = 6,
        heads: int = 4,
        hidden: int = 384,
        kernel: int = 4,
        groups: int = 4,
        width: int = 0,
        **common: Unpack[Common],
    ) -> None:
        """Take n_fft, win, hop in samples, kernel in bins or frames, groups of channels.

        width: channels of all heads together (0: dim). ConfigError if sizes clash.
        """
        super().__init__(n_fft=n_fft, win=win, hop=hop, window=window, edges=edges, dim=dim, **common)
        at_least(layers=layers, heads=heads, hidden=hidden, kernel=kernel, groups=groups)
        if width < 0 or width % (2 * heads):
            raise ConfigError(f"model.width: found {width}; expected 0 or a multiple of 2 model.heads, {2 * heads}")
        if (not width and dim % (2 * heads)) or dim % groups:
            raise ConfigError(
                f"model.dim: found {dim}; expected a multiple of model.groups = {groups} and of twice model.heads, "
                f"{2 * heads}"
            )
        self.across, self.along = (
            nn.ModuleList(Path(dim, hidden, kernel, heads, groups, width) for _ in range(layers)) for _ in range(2)
        )

    def body(self, x: Tensor) -> Tensor:
        """Return features (B, L, F, dim) of features (B, L, F, dim)."""
        batch, frames, bins = x.shape[:3]
        for across, along in zip(self.across, self.along, strict=True):
            x = in_slabs(across, x.flatten(0, 1)).unflatten(0, (batch, frames)).transpose(1, 2)
            x = in_slabs(along, x.flatten(0, 1)).unflatten(0, (batch, bins)).transpose(1, 2)
        return x
