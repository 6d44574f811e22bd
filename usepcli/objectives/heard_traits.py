"""Which source of a mixture has which trait (encoders/traits.py), measured on the references.

    10 log10 ||s||^2                           louder: the highest, quieter: the lowest
    H / (H + P)                                harmonic: the highest, percussive: the lowest
    seconds until 5 % of the energy has passed      first: the least, last: the most

with H = ||med_t |S| ||^2, P = ||med_f |S| ||^2, S the STFT of a source (512 samples, hop 128) and medians over 17
frames of a bin, med_t, and over 17 bins of a frame, med_f: partials are lines along time, strokes are lines along
frequency (Fitzgerald 2010). A trait that does not tell a source from all others by the margin below is nobody's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from usepcli.encoders.traits import PAIRS
from usepcli.losses.base import SILENCE_RMS

MARGINS = {"louder": 1.0, "harmonic": 0.05, "first": 0.1}  # decibels, of 1, seconds
_N_FFT, _HOP, _MEDIAN = 512, 128, 17
_PASSED = 0.05  # of the energy


@torch.no_grad()
def traits_of(sources: Tensor, rate: int, known: tuple[str, ...]) -> list[list[list[str]]]:
    """Return the traits of `known` by which each of the sources (B, K, T) stands out from the others of its mixture.

    A silent source has none, nor has the only one that sounds.
    """
    sounding = sources.square().mean(-1).sqrt() > SILENCE_RMS  # (B, K)
    found: list[list[list[str]]] = [[[] for _ in range(sources.shape[1])] for _ in range(sources.shape[0])]
    measures = {"louder": level_db, "harmonic": harmonicity, "first": lambda waves: -onset_s(waves, rate)}
    for high, low in PAIRS:
        if high not in known and low not in known:
            continue
        value = measures[high](sources)
        for trait, sign in ((high, 1.0), (low, -1.0)):
            ranked = (sign * value).masked_fill(~sounding, -torch.inf)
            if trait not in known or sources.shape[1] < 2:
                continue
            best, place = ranked.topk(2, dim=-1)  # (B, 2)
            clear = best[:, 1].isfinite() & (best[:, 0] - best[:, 1] >= MARGINS[high])
            for item in clear.nonzero()[:, 0].tolist():
                found[item][int(place[item, 0])].append(trait)
    return found


def level_db(waves: Tensor) -> Tensor:
    """Return the energy of waves (..., T) in decibels, (...)."""
    return 10 * torch.log10(waves.square().sum(-1).clamp_min(1e-20))


def harmonicity(waves: Tensor) -> Tensor:
    """Return how much of waves (..., T) are partials rather than strokes, (...) from 0 to 1, 0.5 for silence."""
    flat = F.pad(waves.reshape(-1, waves.shape[-1]), (0, max(0, _N_FFT - waves.shape[-1])))
    window = torch.hann_window(_N_FFT, device=waves.device)
    spec = torch.stft(flat, _N_FFT, _HOP, window=window, return_complex=True).abs()  # (R, F, L)
    along_time = _median(spec).square().sum((1, 2))
    along_bins = _median(spec.mT).square().sum((1, 2))
    floor = 1e-20
    return ((along_time + floor) / (along_time + along_bins + 2 * floor)).reshape(waves.shape[:-1])


def onset_s(waves: Tensor, rate: int) -> Tensor:
    """Return after how many seconds waves (..., T) have given a twentieth of their energy, (...)."""
    passed = waves.double().square().cumsum(-1)
    return (passed < _PASSED * passed[..., -1:]).sum(-1) / rate


def _median(spec: Tensor) -> Tensor:
    """Return the running medians of spectra (R, F, L) over frames, of the same shape."""
    half = _MEDIAN // 2
    around = F.pad(spec, (half, half), mode="replicate").unfold(-1, _MEDIAN, 1)  # (R, F, L, 17)
    return around.median(-1).values
