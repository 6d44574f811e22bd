"""The base of objectives that train a model that separates by query: every mixture is asked for its own sources."""

from __future__ import annotations

import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.errors import BadInput
from usepcli.losses.base import Loss
from usepcli.models.queried import QueriedModel
from usepcli.objectives.base import Objective


class Asking(Objective):
    """Objective of a queried model; a subclass says in `needs` which words of a batch it reads."""

    needs = frozenset({"mix", "queries"})
    asks = True
    student: QueriedModel  # type: ignore[assignment]

    def __init__(self, model: QueriedModel, loss: Loss) -> None:
        """Take the model to train and the loss of a pair of waveforms."""
        super().__init__(model, loss)  # type: ignore[arg-type]

    def answers(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the estimates (B, N, T) of all queries of a batch, and which of them were asked for (B, N).

        A mixture with fewer queries than others is asked its first one again, and that answer does not count.
        BadInput where a mixture has no query.
        """
        bare = next((name for name, asked in zip(batch.ids, batch.queries, strict=True) if not asked), None)
        if bare is not None:
            raise BadInput(f"{bare}: no query for any of its sources; see `usep prepare-data --check`")
        most = max(map(len, batch.queries))
        filled = [[*asked, *asked[:1] * (most - len(asked))] for asked in batch.queries]
        counts = torch.tensor([len(asked) for asked in batch.queries], device=batch.mix.device)
        own = torch.arange(most, device=batch.mix.device) < counts[:, None]  # (B, N)
        return self.student(batch.mix, self.student.conditions(filled)), own
