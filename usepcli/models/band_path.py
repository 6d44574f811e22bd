"""Dual-path recurrent separator over bands and frames, without attention.

A small relative of band-split RNN (Luo & Yu 2023) and TF-GridNet (Wang et al. 2023): every layer
runs an LSTM across the bands of one frame, then an LSTM across the frames of one band.
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn

from usepcli.dsp.stft import Window
from usepcli.errors import ConfigError
from usepcli.models.dense import Dense
from usepcli.models.recurrent import recur
from usepcli.models.separator import Common
from usepcli.models.spectral import LOG_FLOOR, Mask
from usepcli.models.spectral_live import LiveSpectralModel
from usepcli.models.streaming import Run, at_once


class BandLinear(nn.Module):
    """One linear map per band: (B, L, bands, inputs) to (B, L, bands, outputs)."""

    def __init__(self, bands: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(bands, inputs, outputs) * inputs**-0.5)
        self.bias = nn.Parameter(torch.zeros(bands, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, L, bands, outputs) from x (B, L, bands, inputs)."""
        lead = x.shape[:2]
        y = torch.bmm(x.flatten(0, 1).transpose(0, 1), self.weight)  # (bands, B L, outputs)
        return (y + self.bias[:, None]).transpose(0, 1).unflatten(0, lead)

    def extra_repr(self) -> str:
        """Sizes for the printed model."""
        return "bands={}, inputs={}, outputs={}".format(*self.weight.shape)


Cell = tuple[Tensor, Tensor]  # of an LSTM, (1, S, hidden) each


class Path(nn.Module):
    """Layer norm, LSTM along the middle axis, projection, residual: (S, steps, dim) to the same."""

    def __init__(self, dim: int, hidden: int, both_ways: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.lstm = nn.LSTM(dim, hidden, batch_first=True, bidirectional=both_ways)
        self.out = Dense(hidden * (2 if both_ways else 1), dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + projection of the LSTM over the middle axis of x (S, steps, dim)."""
        return self.step(x)[0]

    def step(self, x: Tensor, past: Cell | None = None) -> tuple[Tensor, Cell]:
        """Return the same for the next steps x (S, steps, dim), and the cell after them."""
        y, cell = recur(self.lstm, self.norm(x), past)
        return x + self.out(y), cell


class BandPath(LiveSpectralModel):
    """Masks from LSTMs that run over bands and over frames in turn.

    `causal` uses a forward LSTM over frames; the one over bands stays within its frame.
    """

    COMMON: ClassVar[Common] = {"input_norm": "std", "consistency": "uniform"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {},
        "tiny": {"n_fft": 64, "win": 64, "hop": 32, "bands": 8, "dim": 16, "hidden": 16, "layers": 1},
    }

    def __init__(
        self,
        *,
        n_fft: int = 256,
        win: int = 256,
        hop: int = 128,
        window: Window = "sqrt_hann",
        bands: int = 32,
        dim: int = 48,
        hidden: int = 64,
        layers: int = 4,
        mask: Mask = "tanh_complex",
        mask_scale: float = 1.5,
        zero_last: bool = False,
        **common: Unpack[Common],
    ) -> None:
        """Take sizes (n_fft, win, hop in samples); ConfigError unless bands divides n_fft / 2."""
        super().__init__(n_fft=n_fft, win=win, hop=hop, window=window, mask=mask, mask_scale=mask_scale, **common)
        if bands < 1 or (n_fft // 2) % bands:
            raise ConfigError(f"model.bands: found {bands}; expected a divisor of n_fft / 2 = {n_fft // 2}")
        self.bands, self.width = bands, n_fft // 2 // bands
        self.inlet = BandLinear(bands, 3 * self.width, dim)
        self.norm = nn.LayerNorm(dim)
        self.across = nn.ModuleList(Path(dim, hidden, True) for _ in range(layers))
        self.along = nn.ModuleList(Path(dim, hidden, not self.causal) for _ in range(layers))
        self.head = BandLinear(bands, dim, self.n_src * self.width * self.mask_values)
        if zero_last:
            nn.init.zeros_(self.head.weight)
        self.start_equal(self.head.bias.view(bands, self.n_src, self.width, -1))
        self.learn_shares(dim)

    def core(self, spec: Tensor, run: Run = at_once) -> Tensor:
        """Return features (B, L, bands, dim) of the mixture's spectrum (B, F, L)."""
        x = self.norm(self.inlet(self._features(spec)))  # (B, L, bands, dim)
        batch, frames = x.shape[:2]
        for across, along in zip(self.across, self.along, strict=True):
            x = across(x.flatten(0, 1)).unflatten(0, (batch, frames)).transpose(1, 2)
            x = run(along, x.flatten(0, 1)).unflatten(0, (batch, self.bands)).transpose(1, 2)
        return x

    def scores(self, core: Tensor) -> Tensor:
        """Return mask logits (B, L, N, F[, 2]) from features (B, L, bands, dim)."""
        parts = (self.n_src, self.width, self.mask_values)
        logits = self.head(core).unflatten(-1, parts).transpose(2, 3).flatten(3, 4)  # (B, L, N, F - 1, 1 or 2)
        # The bin at half the sample rate belongs to no band and takes the mask of its neighbour.
        logits = torch.cat([logits, logits[..., -1:, :]], -2)
        return logits if self.mask_values == 2 else logits[..., 0]

    def _features(self, spec: Tensor) -> Tensor:
        """Return log magnitude, real and imaginary part per band, (B, L, bands, 3 * width)."""
        x = spec[:, :-1].mT
        parts = torch.stack([torch.log(x.abs() + LOG_FLOOR), x.real, x.imag], -1)  # (B, L, F - 1, 3)
        return parts.unflatten(2, (self.bands, self.width)).flatten(3)
