"""The base of objectives that train a model that separates by query: every mixture is asked for its own sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.dsp.parts import Parts
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.base import Loss, Views
from usepcli.models.queried import Bound, QueriedModel
from usepcli.objectives.base import Objective
from usepcli.objectives.pit import check_spectrum, seen


class Asking(Objective):
    """Objective of a queried model; a subclass says in `needs` which words of a batch it reads."""

    needs = frozenset({"mix", "queries"})
    asks = True
    student: QueriedModel  # type: ignore[assignment]

    def __init__(self, model: QueriedModel, loss: Loss) -> None:
        """Take the model to train and the loss of a pair; ConfigError for a loss in a spectrum that it has not."""
        super().__init__(model, loss)  # type: ignore[arg-type]
        check_spectrum(model, loss)

    def knows(self, said: Callable[[], Mapping[str, str]]) -> None:
        """Raise BadInput for the first words that are not in the model's closed list; other models know all words."""
        if not self.student.settled().get("classes"):
            return
        for words, item in said().items():
            try:
                self.student.encode([words])
            except BadInput as fault:
                raise BadInput(f"item {item}: {fault}") from fault

    def answers(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the estimates (B, N, T) of all queries of a batch, and which of them were asked for (B, N).

        A mixture with fewer queries than others is asked its first one again, and that answer does not count.
        BadInput where a mixture has no query.
        """
        bare = next((name for name, asked in zip(batch.ids, batch.queries, strict=True) if not asked), None)
        if bare is not None:
            raise BadInput(f"{bare}: no query for any of its sources; see `usep prepare-data --check`")
        bound, own = self.bound(batch.queries)
        return bound(batch.mix), own

    def bound(self, asked: Sequence[Sequence[str]]) -> tuple[Bound, Tensor]:
        """Return the student asked for the words of each mixture, and which answers count (B, N), as in `answers`."""
        most = max(map(len, asked))
        filled = [[*words, *list(words[:1]) * (most - len(words))] for words in asked]
        conditions = self.student.conditions(filled)
        counts = torch.tensor([len(words) for words in asked], device=conditions[0].device)
        return Bound(self.student, conditions), torch.arange(most, device=counts.device) < counts[:, None]  # (B, N)

    def nothing(self) -> Tensor:
        """Return 0, with a gradient of 0 for every parameter: the loss of a batch that holds nothing to compare."""
        return torch.stack([part.sum() for part in self.student.parameters()]).sum() * 0.0

    def seen(self, bound: Bound, heard: Tensor, targets: Tensor, parts: Parts) -> Views:
        """Return what the loss compares for parts of the mixtures heard (B, T) and targets (B, K, T) at their level."""
        return seen(self.loss, bound, heard, targets, parts)


def check_share(key: str, value: float) -> None:
    """Raise ConfigError for a share that is not from 0 up to 1."""
    if not 0 <= value < 1:
        raise ConfigError(f"objective.{key}: found {value}; expected a share from 0 up to, but not including, 1")
