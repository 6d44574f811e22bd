"""Remix-cycle-consistent learning: one network separates mixtures and the shuffled sums of its own outputs.

    e = f(x),  shuffle,  y = f(x'),  shuffle back,  L = mean_b l(x[b], sum_n z[b, n])
with the gradient through both passes (Saijo & Ogawa 2022, ICASSP). From scratch its authors report no good results
(Saijo & Ogawa 2023, section 3.3): it refines a model that separates already, see `init_from`.
"""

from __future__ import annotations

from torch import Tensor

from usepcli.dsp.shuffle import Shuffle
from usepcli.losses.base import Loss
from usepcli.models.separator import SeparationModel
from usepcli.objectives.pit import Matched
from usepcli.objectives.remixing import Remixed, Remixing, self_loss


class RemixCycle(Remixing):
    """Shuffles the student's own outputs, with gradient."""

    def __init__(
        self,
        model: SeparationModel,
        loss: Loss,
        shuffle: Shuffle = "constrained",
        channel_shuffle: bool = True,
        renormalize: bool = False,
    ) -> None:
        """Say how outputs are shuffled, as in `remixit`."""
        super().__init__(model, loss, shuffle, channel_shuffle, 0, "permuted", None, renormalize, 0.0, False)

    def remix(self, mix: Tensor, refs: Tensor | None = None, raw: Tensor | None = None) -> Remixed:
        """Return the student's shuffled sources of mix (B, T) and their sums, with gradient."""
        return self._shuffled(mix, self.sources(mix, refs, mix if raw is None else raw))

    def sources(self, mix: Tensor, refs: Tensor | None, raw: Tensor) -> Tensor:
        """Return the student's outputs (B, R, T), adding up to mix (B, T)."""
        del refs, raw
        return self.strongest(self._student(mix), mix)

    def criterion(self, remixed: Remixed, est: Tensor, found: Matched) -> dict[str, Tensor]:
        """Return the loss against the mixtures."""
        del found
        return {"remix_cycle": self_loss(self.loss, remixed, est)}
