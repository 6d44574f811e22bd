"""How papers score universal sound separation: what one of their numbers means, as a frozen set of conventions.

A perfect quiet estimate scores 40 or 80 dB, a silent one 0 or -80 dB, and a model that leaves sources out gains
or loses several dB of MSi, all by convention.  So every score names its protocol, and scores of different
protocols are never compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from usepcli.errors import UsageError, choices
from usepcli.metrics.fuss import si_snr_fuss_db

FloatArray = np.ndarray[Any, np.dtype[np.float64]]

# An estimate is quiet, and an output counts as none, 20 dB and more below the weakest sounding reference.
QUIET = 0.01
OWN = "usep"


@dataclass(frozen=True)
class Protocol:
    """The conventions of one paper's scores: SI-SNR and its epsilon, quiet estimates, averaging, and its names."""

    name: str
    paper: str
    measure: Literal["cosine", "projection"]
    eps: float
    zero_mean: bool
    drop_quiet: bool
    average: Literal["pairs", "mixtures"]
    level: str
    also_called: tuple[tuple[str, str], ...] = ()
    remark: str = ""

    def si_snr(self, est: FloatArray, ref: FloatArray) -> FloatArray:
        """Return the SI-SNR in dB of estimates (..., T) against references (..., T)."""
        if self.measure == "cosine":
            return np.asarray(si_snr_fuss_db(est, ref, zero_mean=self.zero_mean))
        return si_snr_projection_db(est, ref, self.eps)

    def lines(self) -> dict[str, str]:
        """Return the conventions in words, for the screen and for evaluate.json."""
        formula = {
            "cosine": "10 log10((r^2 + eps) / (1 - r^2 + eps)) with r = <s, e> / (|s| |e|)",
            "projection": "10 log10((|a s|^2 + eps) / (|a s - e|^2 + eps)) with a = (<s, e> + eps) / (|s|^2 + eps)",
        }
        quiet = "20 dB and more below the weakest sounding reference"
        average = {
            "pairs": "over all pairs of a source and its estimate; mixtures of many sources weigh more",
            "mixtures": "over the sources of a mixture, then over mixtures",
        }
        found = {
            "paper": self.paper,
            "si-snr": f"{formula[self.measure]}, eps {self.eps:g}, "
            f"{'means removed' if self.zero_mean else 'means kept'}, in dB",
            "mixture": "the sum of the references, to separate and to compare with",
            "pairing": "the assignment with the largest summed SI-SNR; further outputs ignored; references for which "
            "no output is left have no score and count as missing",
            "silent references": "rms at most 1e-8: left out",
            "quiet estimates": f"{quiet}: {'left out' if self.drop_quiet else 'count like any other'}",
            "mean": average[self.average],
            "level": self.level,
            "1S": "SI-SNR of mixtures of one sounding source",
            "kSi": "SI-SNR improvement of mixtures of k sources; MSi: of two and more",
            "TRF": "SI-SNR of one source and improvements of more, all mixtures together",
            "counts": f"outputs that are not {quiet}, against sounding references: "
            "fewer is under-, as many equal, more over-separation",
            **{alias: f"another name of {score}" for alias, score in self.also_called},
        }
        return {**found, "remark": self.remark} if self.remark else found


def si_snr_projection_db(est: FloatArray, ref: FloatArray, eps: float) -> FloatArray:
    """Return the SI-SNR in dB (..., T) -> (...) with an absolute eps in every term, in float64.

    It depends on the level of the signals: with eps = 1e-5 a perfect estimate of energy 0.098, which is ten seconds at
    16 kHz and -62 dBFS, scores 39.9 dB (Postolache et al. 2023, section 3 and the bound in table 3).
    """
    s, e = np.broadcast_arrays(np.asarray(ref, np.float64), np.asarray(est, np.float64))
    gain = (np.einsum("...t,...t->...", s, e) + eps) / (np.einsum("...t,...t->...", s, s) + eps)
    target = gain[..., None] * s
    noise = target - e
    above = np.einsum("...t,...t->...", target, target) + eps
    below = np.einsum("...t,...t->...", noise, noise) + eps
    return np.asarray(10.0 * np.log10(above / below))


_BLIND = "any: the measure does not see it"
_FUSS = Protocol(
    "fuss-google",
    "Wisdom et al. 2021, What's all the FUSS about free universal sound separation data",
    "cosine",
    1e-8,
    zero_mean=False,
    drop_quiet=True,
    average="pairs",
    level=_BLIND,
    also_called=(("SS", "1S"),),
)
_ALL = (
    replace(
        _FUSS,
        name="mixit2020",
        paper="Wisdom et al. 2020, Unsupervised sound separation using mixture invariant training",
        remark="the paper says SI-SNR, MSi and SS and no more; the rest is that of fuss-google, by the same group",
    ),
    _FUSS,
    Protocol(
        "saijo2023",
        "Saijo and Ogawa 2023, Remixing-based unsupervised source separation from scratch",
        "cosine",
        1e-8,
        zero_mean=True,
        drop_quiet=False,
        average="mixtures",
        level=_BLIND,
    ),
    Protocol(
        "advpit2023",
        "Postolache et al. 2023, Adversarial permutation invariant training for universal sound separation",
        "projection",
        1e-5,
        zero_mean=False,
        drop_quiet=False,
        average="mixtures",
        level="as the files have it; eps makes scores of quiet files low",
        also_called=(("SI-SNR_S", "1S"), ("SI-SNR_I", "MSi")),
        remark="the paper averages 'across sources' and leaves open whether per mixture first; here it does",
    ),
)
PROTOCOLS = {protocol.name: protocol for protocol in _ALL}


def find(name: str) -> Protocol:
    """Return the protocol called `name`; UsageError with suggestions if unknown."""
    if name not in PROTOCOLS:
        raise UsageError(choices("protocol", name, PROTOCOLS))
    return PROTOCOLS[name]
