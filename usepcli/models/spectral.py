"""Separators that estimate one mask per output on the STFT of the mixture."""

from __future__ import annotations

import math
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from usepcli.dsp.stft import STFT, Window
from usepcli.errors import ConfigError, choices
from usepcli.models.separator import Common, SeparationModel

Mask = Literal["sigmoid", "tanh_complex"]

# Floor of the log magnitude of a mixture at unit level: about 60 dB below its mean.
LOG_FLOOR = 1e-3


class SpectralModel(SeparationModel):
    """STFT, a subclass's `masks`, inverse STFT with the masks applied to the mixture's spectrum."""

    def __init__(
        self,
        *,
        n_fft: int,
        win: int,
        hop: int,
        window: Window,
        mask: Mask,
        mask_scale: float,
        **common: Unpack[Common],
    ) -> None:
        """Take STFT sizes in samples; mask 'sigmoid' is real in (0, 1), 'tanh_complex' has both parts within
        +-mask_scale; `common` goes to SeparationModel."""
        super().__init__(hop=hop, **common)
        if mask not in ("sigmoid", "tanh_complex"):
            raise ConfigError(f"model.mask: {choices('mask', mask, ('sigmoid', 'tanh_complex'))}")
        if mask_scale * self.n_src <= 1:
            raise ConfigError(f"model.mask_scale: found {mask_scale}; expected more than 1 / n_src")
        self.stft = STFT(n_fft, win, hop, window)
        self.mask, self.mask_scale = mask, mask_scale

    @property
    def mask_values(self) -> int:
        """Real numbers per bin of one mask: 1 for a real mask, 2 for a complex one."""
        return 2 if self.mask == "tanh_complex" else 1

    def masks(self, spec: Tensor) -> Tensor:
        """Return mask logits (B, L, N, F) or, for complex masks, (B, L, N, F, 2), from spec (B, F, L)."""
        raise NotImplementedError

    def estimate(self, mix: Tensor) -> Tensor:
        """Return estimates (B, N, T) of the mixture (B, T)."""
        spec = self.stft(mix)  # (B, F, L)
        return self.stft.inverse(self.masked(spec, self.masks(spec)), mix.shape[-1])

    def masked(self, spec: Tensor, logits: Tensor) -> Tensor:
        """Return each output's part (B, N, F, L) of the spectrum (B, F, L), from mask logits."""
        logits, frames = logits.float(), spec.mT[:, :, None]  # (B, L, 1, F)
        if self.mask == "tanh_complex":
            gains = torch.view_as_complex(torch.tanh(logits).contiguous()) * self.mask_scale
        else:
            gains = torch.sigmoid(logits)
        return (gains * frames).permute(0, 2, 3, 1)

    @torch.no_grad()
    def start_equal(self, bias: Tensor) -> None:
        """Set mask biases (..., F, 2), or (..., F) if real, so that every mask starts near 1/n_src.

        The middle of the sigmoid serves real masks; the tanh of a complex mask starts in its steep
        part with the mixture's own phase, whatever mixture consistency does afterwards.
        """
        bias.zero_()
        if self.mask == "tanh_complex":
            bias[..., 0] = math.atanh(1 / (self.n_src * self.mask_scale))

    @property
    def latency_samples(self) -> int:
        """One window: every frame that covers sample t ends before t + win."""
        return self.stft.win


def relu_or_silu(name: str) -> nn.Module:
    """Return the activation of that name; ConfigError if it is neither relu nor silu."""
    if name not in ("relu", "silu"):
        raise ConfigError(f"model.activation: {choices('activation', name, ('relu', 'silu'))}")
    return nn.ReLU() if name == "relu" else nn.SiLU()
