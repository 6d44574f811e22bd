"""A new training method in one file: critics on waveforms, spectra and masks teach the separator beside PIT.

    critic     L_D = mean relu(1 - D(s)) + mean relu(1 + D(e))          hinge; e detached
    separator  L_G = L_PIT - weight * mean over critics of mean D(e)

The tests register it with one line, as a new objective of the package would be.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from usepcli.data.batch import Batch
from usepcli.dsp.parts import Parts
from usepcli.losses.base import Loss
from usepcli.models.separator import SeparationModel
from usepcli.objectives.base import MAIN, Objective, Shared, Step, Terms
from usepcli.objectives.pit import match, mean_snr_db

DOMAINS = ("wave", "spectrum", "mask")


class Critic(nn.Module):
    """A few strided convolutions over the last axis and the mean of what they say: (B, C, L) to (B,)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(channels, width, 8, 4, padding=4), nn.LeakyReLU(0.2),
            nn.Conv1d(width, width, 8, 4, padding=4), nn.LeakyReLU(0.2), nn.Conv1d(width, 1, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """Return one number for each item."""
        return self.body(x).mean((1, 2))


class Critics(Objective):
    """PIT with one critic for each domain, every critic in an optimiser group of its own."""

    needs = frozenset({"mix", "sources"})

    def __init__(self, model: SeparationModel, loss: Loss, weight: float = 0.1, width: int = 8) -> None:
        """Weigh the critics' part; width: channels of each critic."""
        super().__init__(model, loss)
        self.weight = weight
        with torch.no_grad():
            spectrum = model.parts(torch.zeros(1, 64)).spectrum
        assert spectrum is not None
        rows = {"wave": 1, "spectrum": spectrum.shape[1], "mask": spectrum.shape[1]}
        self.critics = nn.ModuleDict({name: Critic(self.n_src * rows[name], width) for name in DOMAINS})

    def groups(self) -> dict[str, nn.Module]:
        """Return the separator and one group for each critic."""
        return {MAIN: self.student, **self.critics}

    def steps(self) -> Sequence[Step]:
        """Every critic first, then the separator."""
        critics = (Step(name, self._critic(name)) for name in self.critics)
        return (*critics, Step(MAIN, self._separator))

    def _critic(self, name: str):
        def terms(batch: Batch, shared: Shared) -> Terms:
            fake = self.seen(name, shared.detached("parts", lambda: self.student.parts(batch.mix)))
            real = self.seen(name, self.real(batch))
            judge = self.critics[name]
            loss = torch.relu(1 - judge(real)).mean() + torch.relu(1 + judge(fake)).mean()
            return Terms({f"hinge_{name}": loss}, {"real": judge(real).mean().detach()})

        return terms

    def _separator(self, batch: Batch, shared: Shared) -> Terms:
        parts = shared.attached("parts", lambda: self.student.parts(batch.mix))
        found = match(self.loss, parts.waves, batch.sources, batch.mix)
        fooled = torch.stack([-judge(self.seen(name, parts)).mean() for name, judge in self.critics.items()]).mean()
        return Terms({"pit": found.loss.mean(), "fooled": self.weight * fooled}, {"snr_db": mean_snr_db(found)})

    def real(self, batch: Batch) -> Parts:
        """Return the references as a separation: their spectra over the mixture's are their masks."""
        assert batch.sources is not None
        mix = self.student.transform(batch.mix)
        masks = self.student.transform(batch.sources).abs() / mix.abs().clamp_min(1e-3)[:, None]
        return Parts(batch.sources, masks.clamp_max(1), mix)

    def seen(self, name: str, parts: Parts) -> Tensor:
        """Return what a critic looks at, (B, C, L)."""
        if name == "wave":
            return parts.waves
        assert parts.masks is not None and parts.spectrum is not None
        masks = parts.masks.abs() if parts.masks.is_complex() else parts.masks
        return (masks if name == "mask" else masks * parts.spectrum.abs()[:, None]).flatten(1, 2)
