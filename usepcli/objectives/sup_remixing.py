"""The supervised counterparts of RemixIT and Self-Remixing: references are shuffled in place of a teacher's outputs.

The lines "Sup." of Saijo & Ogawa 2023, tables 1 and 2. Absent sources are zero references; where the shuffle puts
only such together, the pseudo-mixture is silent, is not separated and counts as separated into silence.
"""

from __future__ import annotations

from torch import Tensor

from usepcli.dsp.shuffle import Shuffle
from usepcli.errors import BadInput
from usepcli.losses.base import Loss
from usepcli.models.separator import SeparationModel
from usepcli.objectives.pit import Matched
from usepcli.objectives.remixing import Remixed, Remixing, Roles, mean_sounding, restored_sum, self_loss


class _Known(Remixing):
    """Remixing with the references of a batch."""

    def __init__(
        self,
        model: SeparationModel,
        loss: Loss,
        shuffle: Shuffle = "constrained",
        channel_shuffle: bool = True,
        roles: Roles = "permuted",
        shuffled: list[int] | None = None,
        renormalize: bool = False,
        residual: bool = True,
    ) -> None:
        """Say how references are shuffled, as in `remixit`; residual: what they leave of the mixture is one more."""
        super().__init__(model, loss, shuffle, channel_shuffle, 0, roles, shuffled, renormalize, 0.0, residual)
        self.needs = frozenset({"mix", "sources"})

    def sources(self, mix: Tensor, refs: Tensor | None, raw: Tensor) -> Tensor:
        """Return the references (B, R, T), padded with silence."""
        del mix, raw
        if refs is None:
            raise BadInput("the batch has no references; use a manifest that lists sources")
        return refs


class SupRemixIT(_Known):
    """The student learns references from their shuffled sums."""

    def criterion(self, remixed: Remixed, est: Tensor, found: Matched) -> dict[str, Tensor]:
        """Return the loss against the shuffled references (equation 3), over sounding pseudo-mixtures."""
        del est
        return {"sup_remixit": mean_sounding(found.loss, remixed.pseudo)}


class SupSelfRemixing(_Known):
    """The student's estimates, shuffled back, shall add up to the mixtures of the references."""

    def criterion(self, remixed: Remixed, est: Tensor, found: Matched) -> dict[str, Tensor]:
        """Return the loss against the mixtures (equation 5), without what is in no reference."""
        del found
        whole = remixed._replace(mix=restored_sum(remixed, remixed.sources))
        return {"sup_self_remixing": self_loss(self.loss, whole, est)}
