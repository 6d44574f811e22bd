"""Separators that map the mixture's complex spectrum to those of its sources, without masks (TF-GridNet's shell).

    X = STFT(x),  H = gLN(Conv2d(Re X, Im X)),  H' = body(H),  (Re S_k, Im S_k) = ConvTranspose2d(H'),  s_k = iSTFT(S_k)

with 3 x 3 convolutions over frames and bins (Wang et al. 2023, section III). A mapping has no scale of its own, so such
models read the mixture at unit level (`input_norm: std`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from usepcli.dsp.parts import Parts
from usepcli.dsp.stft import STFT, Edges, Window
from usepcli.errors import ConfigError
from usepcli.models.precision import full_precision
from usepcli.models.separator import Common, SeparationModel, reject_causal

# Steps that are at work at once where nobody asks for gradients: enough for whole products, few enough for caches.
_STEPS = 2**13


class MappedModel(SeparationModel):
    """STFT, a subclass's `body` between two convolutions, inverse STFT; reads the whole input."""

    COMMON: ClassVar[Common] = {"input_norm": "std"}

    def __init__(
        self, *, n_fft: int, win: int, hop: int, window: Window, edges: Edges, dim: int, **common: Unpack[Common]
    ) -> None:
        """Take STFT sizes in samples and the features of every bin; ConfigError if sizes clash."""
        super().__init__(hop=hop, **common)
        if self.causal:
            reject_causal("a model that reads the whole input; use model.name: convtasnet, preset: causal")
        at_least(dim=dim)
        self.stft = STFT(n_fft, win, hop, window, edges)
        self.inlet = nn.Sequential(nn.Conv2d(2, dim, 3, padding=1), nn.GroupNorm(1, dim, eps=1e-5))
        self.outlet = nn.ConvTranspose2d(dim, 2 * self.n_src, 3, padding=1)
        self.learn_shares(dim)

    def body(self, x: Tensor) -> Tensor:
        """Return features (B, L, F, dim) of features (B, L, F, dim)."""
        raise NotImplementedError

    def network(self, spec: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what is learned, the sources' spectra (B, N, 2, L, F) of one (B, F, L), and the weights of a rest."""
        heard = torch.stack([spec.real.mT, spec.imag.mT], 1)  # (B, 2, L, F)
        # Spectra in bfloat16 would carry their noise into every sample, so autocast stops at either end.
        with full_precision(heard):
            x = self.inlet(heard).movedim(1, -1)
        x = self.body(x)  # (B, L, F, dim)
        with full_precision(heard):
            found = self.outlet(x.float().movedim(-1, 1)).unflatten(1, (self.n_src, 2))
        return found, self.shares_of(x)

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, T) of the mixture (B, T)."""
        found, weights = self.network(self.stft(mix))
        waves = self.stft.inverse(torch.complex(found[:, :, 0], found[:, :, 1]).mT, mix.shape[-1])
        return Parts(waves, weights=weights)

    @property
    def latency_samples(self) -> int:
        """One window, were the network causal."""
        return self.stft.win


def in_slabs(net: Callable[[Tensor], Tensor], x: Tensor, least: int = 1) -> Tensor:
    """Return net(x) for sequences x (S, steps, C) that know nothing of each other.

    Without gradients a few, `least` or more, go through at a time: what lies between the layers stays small, and in the
    caches.
    """
    if torch.is_grad_enabled():
        return net(x)
    return torch.cat([net(slab) for slab in x.split(max(least, _STEPS // x.shape[1]))])


def at_least(least: int = 1, **sizes: int) -> None:
    """Raise ConfigError, with its key, for a size below `least`."""
    for key, found in sizes.items():
        if found < least:
            raise ConfigError(f"model.{key}: found {found}; expected at least {least}")
