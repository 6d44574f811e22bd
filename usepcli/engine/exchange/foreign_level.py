"""Level of a model whose loss does not see it: one that learned by SI-SNR may give its sources at any level.

On speech x with outputs that add up to s, the gain g = <x, s> / <s, s> brings s nearest to x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from usepcli.audio import io, resample
from usepcli.errors import BadInput
from usepcli.models.separator import SeparationModel

SECONDS = 3.0
_LIKE = 0.5  # correlation of the sum with the input, below which a gain mends nothing


@dataclass(frozen=True)
class Level:
    """Gain that brings the sum of the outputs nearest to the input, and the correlation of the two (0: silent)."""

    gain: float
    correlation: float

    @property
    def gain_db(self) -> float:
        """The size of the gain in dB; NaN where there is none."""
        return 20 * math.log10(abs(self.gain)) if self.gain else math.nan

    @property
    def like(self) -> bool:
        """True if the sum resembles the input, in either polarity, so that a gain brings it near."""
        return abs(self.correlation) > _LIKE

    @property
    def note(self) -> str:
        """Say where the outputs stand if they are more than 1 dB beside the input or another sound; else empty."""
        said = "on the speech that comes with usep the outputs add up to"
        if not self.like:
            return f"{said} something else than the input (correlation {self.correlation:.2f})"
        if self.gain > 0 and abs(self.gain_db) <= 1:
            return ""
        turned = " of the opposite sign" if self.gain < 0 else ""
        return f"{said} {-self.gain_db:+.1f} dB of the input{turned}; --fit-level puts a gain into the model"


@torch.no_grad()
def measure(model: SeparationModel) -> Level:
    """Return the level of a model's outputs on seconds of two talkers at the model's rate."""
    wave, rate = io.read_mono(Path(str(resources.files("usepcli"))) / "samples" / "two_talkers.flac")
    mix = torch.from_numpy(resample.resample(wave[: round(SECONDS * rate)], rate, model.sample_rate))
    total = model(mix)[0].sum(0)
    mix, total = mix.double(), total.double()
    across, power = float(mix @ total), float(total @ total)
    if power <= 0:
        return Level(0.0, 0.0)
    return Level(across / power, across / math.sqrt(power * float(mix @ mix)))


def fit(state: dict[str, Tensor], level: Level, where: str, gain: Sequence[str]) -> dict[str, Tensor]:
    """Return the weights with the gain in the tensors of the last, linear layer.

    BadInput where the sum is unlike the input, or no factor of the weights is one of the outputs.
    """
    if not level.like:
        raise BadInput(f"{where}: {level.note}; no gain mends that, leave --fit-level out")
    if not gain:
        raise BadInput(f"{where}: no factor in the weights of this model is one of its outputs; leave --fit-level out")
    # The last layer is linear, so that a factor in its weights and its bias, if any, is one of the outputs.
    return {**state, **{name: state[name] * level.gain for name in gain}}
