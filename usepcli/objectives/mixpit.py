"""Mixture permutation-invariant training: as many mixtures are added as there are outputs, one output for each.

    L = mean_b min_pi 1/P sum_p l(x_p, e_pi(p))
which is MixIT with assignments that are permutations (Karamatli & Kirbiz 2022). Each output learns to hold a whole
mixture; a model so trained also separates mixtures of as many sources, to a degree.
"""

from __future__ import annotations

from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.errors import ConfigError
from usepcli.losses.base import Loss
from usepcli.models.separator import SeparationModel
from usepcli.objectives.base import Objective
from usepcli.objectives.mixit import check_multiple, shares, stack
from usepcli.objectives.pit import check_spectrum, match, mean_snr_db, seen
from usepcli.objectives.sparsity import deviation


class MixPIT(Objective):
    """Trains on sums of mixtures without references, by PIT between outputs and mixtures."""

    mixes = "adding mixtures up"
    domains = frozenset({"wave", "spectrum"})

    def __init__(self, model: SeparationModel, loss: Loss, n_mix: int = 0, normalize_mom: bool = False) -> None:
        """Add n_mix mixtures, 0 for as many as the model has outputs; outputs to spare shall be silent.

        normalize_mom divides the sum and its mixtures by the deviation of the sum. ConfigError for an n_mix that
        does not fit the model.
        """
        super().__init__(model, loss)
        check_spectrum(model, loss)
        self.n_mix = n_mix or self.n_src
        self.normalize_mom = normalize_mom
        if not 2 <= self.n_mix <= self.n_src:
            raise ConfigError(
                f"objective.n_mix: found {n_mix} with model.n_src {self.n_src}; expected 0 or 2 to model.n_src, "
                "which is 2 at least"
            )

    def check(self, batch_size: int) -> None:
        """Raise ConfigError unless batch_size is a multiple of n_mix."""
        super().check(batch_size)
        check_multiple(batch_size, self.n_mix)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss in dB over the sums of a batch."""
        mixtures = stack(batch.mix, self.n_mix, "mixpit")  # (M, P, T)
        if self.normalize_mom:
            mixtures = mixtures / deviation(mixtures.sum(1))[:, None, None]
        mom = mixtures.sum(1)
        found = match(self.loss, *seen(self.loss, self.student, mom, mixtures))
        self.step_logs = {"snr_db": mean_snr_db(found)}
        return {"mixpit": (found.loss * shares(mom)).sum()}
