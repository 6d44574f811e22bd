"""SNR, amplitude and magnitude spectra in one loss.

    L = L_SNR(y, e) + mean_t |y - e| / m + 1/R sum_r mean_{f,l} | |Y_r| - |E_r| | / m
for reference y and estimate e with short-time spectra Y_r, E_r of R sizes, where L_SNR is that of `snr` in dB and m
is the root mean square of the mixture: the amplitudes then mean the same at every level. Silent references
change the first part alone. Not from a paper: the loss of public training recipes for spectral models, Self-Remixing's
among them, which scale every mixture to deviation 1, take natural logarithms where they take any, and search
permutations by the whole loss.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from usepcli.dsp.stft import STFT
from usepcli.errors import ConfigError, choices
from usepcli.losses.base import SILENCE_RMS, Loss, Products
from usepcli.losses.thresholded import SNR


class MultiResolutionL1(SNR):
    """Negative SNR in dB with a soft limit, plus the mean differences of amplitudes and of magnitude spectra."""

    def __init__(
        self,
        snr_max_db: float | None = 30.0,
        zero_snr_max_db: float = 30.0,
        inactive_db: float | None = None,
        eps: float = 1e-8,
        n_fft: tuple[int, ...] = (512, 1024, 2048),
        win: tuple[int, ...] = (400, 800, 1600),
        hop: tuple[int, ...] = (160, 320, 640),
        logarithm: bool = False,
        relative: bool = True,
        select_by: Literal["snr", "full"] = "full",
        log_base: Literal["e", "10"] = "e",
    ) -> None:
        """Set the limits as in `snr`, and one STFT for each size in samples; the defaults suit 16 kHz.

        logarithm: compare log(|E| / m + eps) instead, natural or, with log_base 10, common. relative: where the mixture
        is known, m is its level, else 1. select_by: assignments are searched by the whole loss on waveforms, or by the
        SNR alone, which is faster.
        """
        super().__init__(snr_max_db, zero_snr_max_db, inactive_db, eps)
        if select_by not in ("snr", "full"):
            raise ConfigError(f"loss.select_by: {choices('search', select_by, ('snr', 'full'))}")
        if not n_fft or not len(n_fft) == len(win) == len(hop):
            raise ConfigError(
                f"loss.n_fft: found {len(n_fft)} sizes, {len(win)} of win, {len(hop)} of hop; expected as many of each"
            )
        self.stfts = [_stft(*sizes) for sizes in zip(n_fft, win, hop, strict=True)]
        if log_base not in ("e", "10"):
            raise ConfigError(f"loss.log_base: {choices('base', log_base, ('e', '10'))}")
        self.log = torch.log if log_base == "e" else torch.log10
        self.logarithm, self.relative = logarithm, relative
        self.reads_waves = select_by == "full"

    def direct(self, est: Tensor, ref: Tensor, ref_energy: Tensor, mix_energy: Tensor | None) -> Tensor:
        """Return the loss on waveforms whose energies are known already; autocast is off."""
        level = self._level(mix_energy, ref)
        shape = self._difference(self._views(est), self._views(ref), level)
        return super().direct(est, ref, ref_energy, mix_energy) + shape

    def dealt(self, est: Tensor, owner: Tensor, ref: Tensor, ref_energy: Tensor, mix_energy: Tensor | None) -> Tensor:
        """Return the loss (B, K) of the sums of est (B, N, T) that owner (B, N) gives to each of ref (B, K, T)."""
        # Spectra are of the sums themselves, of which `snr` knows the errors alone.
        return Loss.dealt(self, est, owner, ref, ref_energy, mix_energy)

    def from_products(self, p: Products) -> Tensor:
        """Return the loss by which assignments are searched, without gradient; ValueError where it lacks waveforms."""
        value = super().from_products(p)
        if not self.reads_waves:
            return value
        if p.waves is None:
            raise ValueError("a search by the whole loss needs the waveforms beside their products")
        with torch.no_grad(), torch.autocast(value.device.type, enabled=False):
            est, ref = (self._views(wave) for wave in p.waves)
            level = self._level(p.mix, p.waves[1])
            level = level[:, 0] if level.ndim else level  # (B, 1)
            # One reference at a time: spectra of all pairs together would not fit.
            rows = [self._difference(est, [view[:, k, None] for view in ref], level) for k in range(ref[0].shape[1])]
            return value + torch.stack(rows, 1)

    def reads_mix(self, ref_energy: Tensor, length: int) -> bool:
        """Say that it does where levels are relative, and as of any loss otherwise."""
        return self.relative or super().reads_mix(ref_energy, length)

    def _level(self, mix_energy: Tensor | None, ref: Tensor) -> Tensor:
        """Return the root mean square m that amplitudes are measured by."""
        kind = torch.promote_types(ref.dtype, torch.float32)
        if mix_energy is None or not self.relative:
            return ref.new_ones((), dtype=kind)
        return (mix_energy / ref.shape[-1]).sqrt().clamp_min(SILENCE_RMS).to(kind)

    def _views(self, wave: Tensor) -> list[Tensor]:
        """Return wave (..., T) in float32 or better and its magnitude spectra (..., F, L), one for each size."""
        wave = wave if wave.dtype == torch.float64 else wave.float()
        # Before pairs are formed, so that each signal is transformed once.
        return [wave, *(stft.to(wave.device)(wave).abs() for stft in self.stfts)]

    def _difference(self, est: list[Tensor], ref: list[Tensor], level: Tensor) -> Tensor:
        """Return the difference of amplitudes plus the mean one of spectra, relative to level (...), as (...)."""
        total = (ref[0] - est[0]).abs().mean(-1) / level
        spectra = [self._spectral(e, r, level) for e, r in zip(est[1:], ref[1:], strict=True)]
        return total + torch.stack(spectra).mean(0)

    def _spectral(self, est: Tensor, ref: Tensor, level: Tensor) -> Tensor:
        """Return the mean difference of magnitudes (..., F, L), relative to level (...), as (...)."""
        if not self.logarithm:
            return (ref - est).abs().mean((-2, -1)) / level
        # log(|E| / m + eps) - log(|Y| / m + eps), multiplied through by m.
        floor = (self.eps * level)[..., None, None]
        return (self.log(ref + floor) - self.log(est + floor)).abs().mean((-2, -1))


def _stft(n_fft: int, win: int, hop: int) -> STFT:
    if not (hop >= 1 and 2 * hop <= win <= n_fft and n_fft % 2 == 0):
        found = f"n_fft {n_fft}, win {win}, hop {hop}"
        raise ConfigError(f"loss.n_fft: found {found}; expected even sizes n_fft with 2 * hop <= win <= n_fft")
    return STFT(n_fft, win, hop)
