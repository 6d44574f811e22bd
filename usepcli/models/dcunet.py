"""Complex U-Nets: complex masks on the STFT from complex features of bins and frames.

DCUNet (Choi et al. 2019) is convolutions alone; DCCRN (Hu et al. 2020) has LSTMs at its depth and leaves the highest
bin out. Both were made to take noise from one talker; with more outputs they separate.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError, choices
from usepcli.models.dcunet_parts import (
    Bend,
    Bound,
    ComplexConv,
    ComplexDeconv,
    ComplexRnn,
    Padding,
    WindowedFrames,
    bounded,
    check_bound,
)
from usepcli.models.mapped import at_least
from usepcli.models.separator import Common, SeparationModel, reject_causal

Slope = Literal["leaky_relu", "prelu"]

# DCUNet of 16 layers, 8 down and 8 up.
_SIXTEEN = [
    [32, 7, 5, 2, 2], [32, 7, 5, 2, 1], [64, 7, 5, 2, 2], *([64, 5, 3, 2, step] for step in (1, 2, 1, 2, 1)),
]  # fmt: skip


class DCUNet(SeparationModel):
    """STFT, complex convolutions down and up with skips, one complex mask per output, the way back."""

    COMMON: ClassVar[Common] = {"n_src": 1, "sample_rate": 16000}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "dcunet_10": {
            "layers": [[32, 7, 5, 2, 2], [64, 7, 5, 2, 2], [64, 5, 3, 2, 2], [64, 5, 3, 2, 2], [64, 5, 3, 2, 1]],
        },
        "dcunet_16": {},
        "dccrn": {
            "n_fft": 512, "win": 400, "hop": 100, "nyquist": False, "activation": "prelu", "hidden": 128,
            "layers": [[16, 5, 2, 2, 1], [32, 5, 2, 2, 1], [64, 5, 2, 2, 1], [128, 5, 2, 2, 1], [128, 5, 2, 2, 1],
                       [128, 5, 2, 2, 1]],
        },
        "small": {
            "n_src": 2, "sample_rate": 8000, "n_fft": 256, "win": 256, "hop": 64, "consistency": "uniform",
            "layers": [[16, 5, 3, 2, 1], [32, 5, 3, 2, 2], [32, 5, 3, 2, 2], [32, 5, 3, 2, 1]],
        },
        "tiny": {
            "n_src": 2, "sample_rate": 8000, "n_fft": 64, "win": 64, "hop": 16, "consistency": "uniform",
            "layers": [[8, 7, 3, 2, 1], [12, 5, 3, 2, 2], [16, 5, 3, 2, 1]],
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        n_fft: int = 1024,
        win: int = 1024,
        hop: int = 256,
        padding: Padding = "both",
        layers: list[list[int]] | None = None,
        up: list[int] | None = None,
        activation: Slope = "leaky_relu",
        bound: Bound = "tanh",
        nyquist: bool = True,
        hidden: int = 0,
        rnn_layers: int = 2,
        **common: Unpack[Common],
    ) -> None:
        """Take STFT sizes in samples, and levels; ConfigError if they do not fit.

        layers: complex features, taps over bins and frames, stride over bins and frames, for every level down (DCUNet
        of 16 if not said); up: features of those back, from the deepest on, those of the way down if not said; hidden:
        cells of LSTMs at the depth, whose output stands beside what they hear, 0 for none; nyquist: whether the highest
        bin is heard and kept.
        """
        super().__init__(hop=hop, **common)
        if self.causal:
            reject_causal("dcunet, which looks ahead; use model.name: convtasnet, preset: causal")
        rows = layers or _SIXTEEN
        _check(rows, n_fft, activation)
        check_bound(bound)
        at_least(0, hidden=hidden)
        at_least(rnn_layers=rnn_layers)
        self.basis = WindowedFrames(n_fft, win, hop, padding)
        self.bound, self.nyquist = bound, nyquist
        self.fold = math.prod(row[4] for row in rows)
        # Every level of two taps hears one frame less.
        self.least = 1 + sum(row[2] == 2 for row in rows)
        dims = [row[0] for row in rows]
        back = dims[-2::-1] if up is None else list(up)
        if len(back) != len(dims) - 1 or min([1, *back]) < 1:
            raise ConfigError(f"model.up: found {up}; expected {len(dims) - 1} numbers of features")
        heard = [dims[-1] * (2 if hidden else 1), *(a + b for a, b in zip(back, dims[-2::-1], strict=True))]
        shapes = [((row[1], row[2]), (row[3], row[4])) for row in rows]
        self.down, self.bend_down = nn.ModuleList(), nn.ModuleList()
        for before, dim, shape in zip([1, *dims], dims, shapes, strict=False):
            self.down.append(ComplexConv(before, dim, *shape))
            self.bend_down.append(Bend(dim, activation == "prelu"))
        low = n_fft // 2 // math.prod(row[3] for row in rows)
        size = dims[-1] * (low + nyquist)
        self.middle = ComplexRnn(size, hidden, rnn_layers) if hidden else nn.Identity()
        self.up = nn.ModuleList(
            ComplexDeconv(before, dim, *shape, last=k == len(back))
            for k, (before, dim, shape) in enumerate(zip(heard, [*back, self.n_src], shapes[::-1], strict=True))
        )
        self.bend_up = nn.ModuleList(Bend(dim, activation == "prelu") for dim in back)
        self.learn_shares(2 * dims[-1])

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, T) of mix (B, T), masks (B, N, F, L) and its spectrum (B, F, L)."""
        spec = self.basis.analyse(mix)
        kept = spec if self.nyquist else spec[:, :-1]
        x = torch.stack([kept.real, kept.imag], 1)  # (B, 2, F, L)
        frames = x.shape[-1]
        x = F.pad(x, (0, max(self.least - frames, -(frames - 1) % self.fold)))
        skips, sizes = [], []
        for conv, bend in zip(self.down, self.bend_down, strict=True):
            sizes.append((x.shape[2], x.shape[3]))
            x = bend(conv(x))
            skips.append(x)
        core = self.middle(x)
        last = skips.pop()
        x = core if isinstance(self.middle, nn.Identity) else _joined(core, last)
        for k, deconv in enumerate(self.up):
            x = deconv(x, sizes.pop())
            if skips:
                x = _joined(self.bend_up[k](x), skips.pop())
        found = bounded(x[..., :frames], self.bound)
        found = found if self.nyquist else F.pad(found, (0, 0, 0, 1))
        waves = self.basis.synthesise(found * spec[:, None], mix.shape[-1])
        return Parts(waves, found, spec, self.shares_of(core.permute(0, 3, 2, 1)))

    @property
    def latency_samples(self) -> int:
        """One window, were the convolutions not to look ahead."""
        return self.basis.win


def _joined(x: Tensor, y: Tensor) -> Tensor:
    """Return complex features of both: real parts of either, then imaginary ones."""
    (a, b), (c, d) = x.chunk(2, 1), y.chunk(2, 1)
    return torch.cat([a, c, b, d], 1)


def _check(rows: list[list[int]], n_fft: int, activation: str) -> None:
    if activation not in ("leaky_relu", "prelu"):
        raise ConfigError(f"model.activation: {choices('activation', activation, ('leaky_relu', 'prelu'))}")
    if not 1 <= len(rows) <= 40 or any(len(row) != 5 or min(row) < 1 for row in rows):
        raise ConfigError("model.layers: expected rows of five numbers: features, two taps, two strides, from 1 on")
    short = all(row[2] == 2 and row[4] == 1 for row in rows)
    if odd := [row for row in rows if not row[1] % 2 or not (short or row[2] % 2)]:
        raise ConfigError(
            f"model.layers: found {odd[0]}; expected odd taps, or all with two over frames at a stride of 1"
        )
    if (step := math.prod(row[3] for row in rows)) and (n_fft // 2) % step:
        raise ConfigError(f"model.n_fft: found {n_fft}; expected half of it to be a multiple of {step}, all strides")
