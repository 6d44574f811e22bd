"""Separators that estimate one mask per output on the STFT of the mixture."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from usepcli.dsp import masks
from usepcli.dsp.masks import Mask as Mask
from usepcli.dsp.parts import Parts
from usepcli.dsp.stft import STFT, Edges, Window
from usepcli.errors import ConfigError, choices
from usepcli.models.separator import Common, SeparationModel

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
        edges: Edges = "zeros",
        **common: Unpack[Common],
    ) -> None:
        """Take STFT sizes in samples, the kind of mask (dsp/masks.py), and the reach of a complex one's two parts."""
        super().__init__(hop=hop, **common)
        masks.check(mask)
        if mask_scale * self.n_src <= 1:
            raise ConfigError(f"model.mask_scale: found {mask_scale}; expected more than 1 / n_src")
        self.stft = STFT(n_fft, win, hop, window, edges)
        self.mask, self.mask_scale = mask, mask_scale

    @property
    def mask_values(self) -> int:
        """Real numbers per bin of one mask: 1 for a real mask, 2 for a complex one."""
        return masks.values(self.mask)

    def core(self, spec: Tensor) -> Tensor:
        """Return features (B, L, ..., C) of the mixture's spectrum (B, F, L), from which `scores` makes masks."""
        raise NotImplementedError

    def scores(self, core: Tensor) -> Tensor:
        """Return mask logits (B, L, N, F) or, for complex masks, (B, L, N, F, 2), from what `core` returned."""
        raise NotImplementedError

    def masks(self, spec: Tensor) -> Tensor:
        """Return mask logits (B, L, N, F[, 2]) from the mixture's spectrum (B, F, L)."""
        return self.scores(self.core(spec))

    def network(self, spec: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what is learned, all that lies between the STFT and the masks: `masks`, and the weights of a rest."""
        if self.consistency != "learned":
            return self.masks(spec), None
        core = self.core(spec)
        return self.scores(core), self.shares_of(core)

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, T) of the mixture (B, T), their masks (B, N, F, L) and its spectrum (B, F, L)."""
        spec = self.stft(mix)  # (B, F, L)
        logits, weights = self.network(spec)
        gains = self.gains(logits)
        waves = self.stft.inverse(self._scaled(spec, gains), mix.shape[-1])
        return Parts(waves, gains.permute(0, 2, 3, 1), spec, weights)

    def transform(self, wave: Tensor) -> Tensor:
        """Return the spectra (..., F, L) of waves (..., T)."""
        return self.stft(wave)

    def gains(self, logits: Tensor) -> Tensor:
        """Return the masks (B, L, N, F) of logits (B, L, N, F[, 2]), in float32."""
        return masks.masks_of(logits.float(), self.mask, self.mask_scale, axis=2)

    def masked(self, spec: Tensor, logits: Tensor) -> Tensor:
        """Return each output's part (B, N, F, L) of the spectrum (B, F, L), from mask logits."""
        return self._scaled(spec, self.gains(logits))

    def _scaled(self, spec: Tensor, gains: Tensor) -> Tensor:
        return (gains * spec.mT[:, :, None]).permute(0, 2, 3, 1)

    @torch.no_grad()
    def start_equal(self, bias: Tensor) -> None:
        """Set mask biases (..., F, 2), or (..., F[, 1]) if real, so that every mask starts near 1/n_src.

        The tanh of a complex mask starts in its steep part with the mixture's own phase, whatever mixture
        consistency does afterwards.
        """
        bias.zero_()
        real = bias[..., 0] if self.mask_values == 2 else bias
        real.fill_(masks.equal_score(self.mask, self.n_src, self.mask_scale))

    @property
    def latency_samples(self) -> int:
        """One window: every frame that covers sample t ends before t + win."""
        return self.stft.win


def relu_or_silu(name: str) -> nn.Module:
    """Return the activation of that name; ConfigError if it is neither relu nor silu."""
    if name not in ("relu", "silu"):
        raise ConfigError(f"model.activation: {choices('activation', name, ('relu', 'silu'))}")
    return nn.ReLU() if name == "relu" else nn.SiLU()
