"""An objective of a model by query: estimate k against source k, whose query it answers; no permutation.

L = mean over all (b, k) that were asked for of l(e_bk, s_bk)
"""

from __future__ import annotations

from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.objectives.asking import Asking


class Answered(Asking):
    """Trains with references in the order of their queries."""

    needs = frozenset({"mix", "sources", "queries"})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss in dB."""
        est, own = self.answers(batch)
        loss = self.loss(est, batch.sources, batch.mix[:, None])  # (B, N)
        return {"answered": loss[own].mean()}
