"""Oracles: masks made from the references themselves, bounds for whatever masks the same spectrum.

With S_k the spectrum of source k, M that of the mixture, and the sum over all sources, what the references leave of the
mixture included (its noise) where that sounds:
    irm    |S_k| / sum_j |S_j|                    ratio (the upper bound of Postolache et al. 2023)
    ibm    1 where |S_k| is the largest, else 0   binary
    iam    |S_k| / |M|                            amplitude; no bound, as it stands
    psm    Re(S_k / M)                            phase-sensitive; no bound, as it stands (also called ipsm)
    npsm   max(0, psm)                            the same without negative values
    wfm    |S_k|^2 / sum_j |S_j|^2                Wiener-like
(Erdogan et al. 2015; Kolbaek et al. 2017, section III). Where nothing sounds a mask has nothing to scale.
Others call wfm a ratio mask, too: the oracles of sigsep (SiSEC) have exponent 1, irm, and 2, wfm; the ratio masks of
nussl, msa and psa, are iam and psm within a range.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from usepcli.errors import UsageError, choices

if TYPE_CHECKING:
    from torch import Tensor

MASKS = ("irm", "ibm", "iam", "psm", "npsm", "wfm")
ALIASES = {"ipsm": "psm", "inpsm": "npsm"}
USUAL, STFT_DEFAULT = "irm", "512/128"
# Files of 16 bits leave this much and less of a mixture: rounding, which is no source.
RESIDUAL_DB = -60.0
LONGEST = 2**20


class Oracle(NamedTuple):
    """A mask, and the window and hop in samples of its STFT (Hann)."""

    mask: str
    window: int
    hop: int

    def __str__(self) -> str:
        return f"{self.mask} {self.window}/{self.hop}"

    def estimates(self, ref: Tensor, mix: Tensor) -> Tensor:
        """Return the estimates of references (K, ..., T) from a mixture (..., T)."""
        import torch

        from usepcli.dsp import ratios
        from usepcli.dsp.stft import STFT

        stft = STFT(self.window, self.window, self.hop)
        rest = mix - ref.sum(0)
        sounds = ratios.energy(rest) > 10 ** (RESIDUAL_DB / 10) * ratios.energy(mix)
        whole = stft(torch.cat([ref, (rest * sounds[..., None])[None]]))  # (K + 1, ..., F, L)
        mixture = stft(mix)
        return stft.inverse(_mask(self.mask, whole, mixture)[:-1] * mixture, mix.shape[-1])


def find(mask: str, stft: str) -> Oracle:
    """Return the oracle of that name on an STFT 'WINDOW/HOP' in samples; UsageError for one that there is not."""
    name = ALIASES.get(mask, mask)
    if name not in MASKS:
        raise UsageError(f"--oracle: {choices('mask', mask, (*MASKS, *ALIASES))}")
    return Oracle(name, *sizes(stft))


def sizes(stft: str) -> tuple[int, int]:
    """Return window and hop of 'WINDOW/HOP' in samples; UsageError for sizes that no STFT has."""
    found = re.fullmatch(r"(\d+)/(\d+)", stft)
    if not found:
        raise UsageError(f"--stft: found '{stft}'; expected WINDOW/HOP in samples, such as {STFT_DEFAULT}")
    window, hop = int(found[1]), int(found[2])
    if window % 2 or not 2 <= 2 * hop <= window <= LONGEST:
        raise UsageError(
            f"--stft: found {stft}; expected an even window of up to {LONGEST} samples, and a hop of at most its half"
        )
    return window, hop


def _mask(name: str, whole: Tensor, mixture: Tensor) -> Tensor:
    """Return masks (K, ..., F, L) of spectra (K, ..., F, L) in that of their sum (..., F, L)."""
    size = whole.abs()
    if name == "ibm":
        return (size == size.amax(0)).double() * (size.amax(0) > 0)
    if name in ("irm", "wfm"):
        power = size if name == "irm" else size.square()
        return _over(power, power.sum(0))
    if name == "iam":
        return _over(size, mixture.abs())
    phase = _over((whole * mixture.conj()).real, mixture.abs().square())
    return phase.clamp_min(0) if name == "npsm" else phase


def _over(above: Tensor, below: Tensor) -> Tensor:
    import torch

    return torch.where(below > 0, above / torch.where(below > 0, below, 1.0), 0.0)
