"""What all losses share: values in dB from waveforms or from inner products, and silent references.

An inactive reference (silent, or as good as silent) has no signal-to-noise ratio. Where the mixture m
is known, its pair costs
    L0(e, m) = 10 log10( ||e||^2 + tau0 ||m||^2 + eps ),    tau0 = 10^(-zero_snr_max_db / 10),
which rewards a quiet output and stops rewarding it zero_snr_max_db below the mixture (Wisdom et al.
2021, the FUSS data set, equation 2).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from torch import Tensor

from usepcli.dsp import assign, ratios
from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError

# Root mean square below which a reference counts as digital silence.
SILENCE_RMS = 1e-8


class Products(NamedTuple):
    """Energies and inner products of pairs, broadcastable to one shape, over `length` samples.

    waves holds the estimates (B, N, T) and the references (B, K, T), for a loss that searches by more than products.
    """

    ref: Tensor
    est: Tensor
    cross: Tensor
    mix: Tensor | None
    length: int
    waves: tuple[Tensor, Tensor] | None = None


Transform = Callable[[Tensor], Tensor]  # waves (..., T) at the model's level to spectra (..., F, L)


class Views(NamedTuple):
    """What a loss compares, as signals: waveforms, or all bins of spectra in a row."""

    est: Tensor  # (B, N, R)
    ref: Tensor  # (B, K, R)
    mix: Tensor  # (B, R)


class Loss:
    """A loss in dB for pairs of waveforms, estimate first; lower is better, nothing is reduced.

    `reads_waves` says that a search needs waveforms, not inner products alone. A loss whose `domain` is the spectrum
    compares what its `views` make of masks and references; pairs, search and reduction are the same for all.
    """

    domain: ClassVar[Literal["wave", "spectrum"]] = "wave"
    reads_waves: bool = False
    # Whether a pair's loss is the mean of those of its frames, so that an assignment can be searched frame by frame.
    additive: ClassVar[bool] = False
    tau: float = 0.0

    def __init__(self, zero_snr_max_db: float, inactive_db: float | None, eps: float) -> None:
        """Keep the settings of inactive references and the floor eps of every energy (a sum of squares)."""
        if eps <= 0:
            raise ConfigError(f"loss.eps: found {eps}; expected a positive energy, such as 1e-8")
        self.tau_zero = tau("loss.zero_snr_max_db", zero_snr_max_db)
        self.inactive_db = inactive_db
        self.eps = eps

    def __call__(self, est: Tensor, ref: Tensor, mix: Tensor | None = None) -> Tensor:
        """Return the loss of est against ref, (..., T) each, broadcasting, as (...) in dB.

        With mix (..., T), inactive references cost L0 instead. Computed in float32 or better under
        autocast too.
        """
        with torch.autocast(est.device.type, enabled=False):
            ref_energy = ratios.energy(ref)
            mix_energy = None if mix is None else ratios.energy(mix)
            return self.direct(est, ref, ref_energy, mix_energy)

    def views(self, parts: Parts, ref: Tensor, mix: Tensor, transform: Transform) -> Views:
        """Return what is compared for estimates with their parts, ref (B, K, T) and mix (B, T): here the waveforms.

        transform is the model's own, at whose level ref stands.
        """
        del transform
        return Views(parts.waves, ref, mix)

    def direct(self, est: Tensor, ref: Tensor, ref_energy: Tensor, mix_energy: Tensor | None) -> Tensor:
        """Return the loss on waveforms whose energies are known already; autocast is off."""
        if mix_energy is None:
            return self._active_direct(est, ref, ref_energy)
        active = self.active(ref_energy, mix_energy, ref.shape[-1])
        if bool(active.all()):
            return self._active_direct(est, ref, ref_energy)
        quiet = self._log(ratios.energy(est) + self.tau_zero * mix_energy)
        # Whatever the unused branch computes for a silent reference, it stays finite: eps > 0.
        return torch.where(active, self._active_direct(est, ref, ref_energy), quiet)

    def dealt(self, est: Tensor, owner: Tensor, ref: Tensor, ref_energy: Tensor, mix_energy: Tensor | None) -> Tensor:
        """Return the loss (B, K) of the sums of est (B, N, T) that owner (B, N) gives to each of ref (B, K, T)."""
        return self.direct(assign.remix(est, owner, ref.shape[1]), ref, ref_energy, mix_energy)

    def pairwise(self, est: Tensor, ref: Tensor, mix: Tensor | None = None) -> Tensor:
        """Return the loss of every pair of est (B, N, T) and ref (B, K, T) as (B, K, N) float64.

        Only inner products are formed, without gradient; mix is (B, T).
        """
        return self.from_products(products(est, ref, mix))

    def from_products(self, p: Products) -> Tensor:
        """Return the loss of pairs given by their inner products, without gradient."""
        loss = self._active_products(p)
        if p.mix is None:
            return loss
        active = self.active(p.ref, p.mix, p.length)
        if bool(active.all()):
            return loss
        return torch.where(active, loss, self._log(p.est + self.tau_zero * p.mix))

    def unlimited(self) -> Self:
        """Return the same loss without its soft limits, for a search that tells good estimates from better ones."""
        view = copy.copy(self)
        view.tau = view.tau_zero = 0.0
        return view

    def active(self, ref_energy: Tensor, mix_energy: Tensor | None, length: int) -> Tensor:
        """Say where a reference counts as sounding, from its energy and the mixture's over length samples."""
        active = ref_energy > SILENCE_RMS**2 * length
        if self.inactive_db is not None and mix_energy is not None:
            active = active & (ref_energy > 10 ** (self.inactive_db / 10) * (mix_energy + self.eps))
        return active

    def reads_mix(self, ref_energy: Tensor, length: int) -> bool:
        """Say whether the loss of any reference of these energies depends on the energy of the mixture."""
        return self.inactive_db is not None or not bool(self.active(ref_energy, None, length).all())

    def _log(self, energy: Tensor) -> Tensor:
        return 10 * torch.log10(energy + self.eps)

    def _active_direct(self, est: Tensor, ref: Tensor, ref_energy: Tensor) -> Tensor:
        raise NotImplementedError

    def _active_products(self, p: Products) -> Tensor:
        raise NotImplementedError


def products(est: Tensor, ref: Tensor, mix: Tensor | None = None) -> Products:
    """Return the float64 products of all pairs of est (B, N, T) and ref (B, K, T), each fit for (B, K, N)."""
    signals = [ref, est] if mix is None else [ref, est, mix[:, None]]
    with torch.autocast(est.device.type, enabled=False):
        energies, (cross,) = ratios.inner(signals, [(0, 1)])
    mix_energy = None if mix is None else energies[2][:, :, None]
    return Products(energies[0][:, :, None], energies[1][:, None, :], cross, mix_energy, ref.shape[-1], (est, ref))


def tau(key: str, snr_max_db: float | None) -> float:
    """Return 10^(-snr_max_db / 10), the soft threshold, 0 for None; ConfigError for `key` if not finite."""
    if snr_max_db is None:
        return 0.0
    if not math.isfinite(snr_max_db):
        raise ConfigError(f"{key}: found {snr_max_db}; expected decibels, such as 30")
    return float(10 ** (-snr_max_db / 10))
