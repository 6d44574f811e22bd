"""Mixtures with the names of the classes in them, a separator for each class and a frozen classifier behind it
(Pishdadian, Wichern and Le Roux 2020).

    L = mixture (l(sum_{c in P} g(X, c), X) + l(sum_{c in A} g(X, c), 0)) + classifier L_CLS
with P the classes that a mixture X has, A others of a closed list, g the network's answer to a class and l the loss:
what is there adds up to the mixture, what is not to silence. L_CLS is the cross-entropy of the classifier over the
whole list for each answer to a class of P. The classifier is a judge that reads the classes' phrases.

The classes of a mixture are its queries, which no source has to stand behind; the list is the model's own, or that of a
file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.encoders.labels import known, plain
from usepcli.encoders.lists import phrases_of
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.base import Loss
from usepcli.models.queried import QueriedModel
from usepcli.objectives.asking import Asking
from usepcli.objectives.text_terms import judge_of, judged


class WeakSup(Asking):
    """Trains a queried model on mixtures and their classes; it never reads a source."""

    needs = frozenset({"mix", "queries"})
    domains = frozenset({"wave", "spectrum"})

    def __init__(
        self,
        model: QueriedModel,
        loss: Loss,
        mixture: float = 10.0,
        classifier: float = 0.1,
        judge: str = "",
        judge_path: str = "",
        judge_prompts: str = "",
        classes: str = "",
        absent_classes: int = 4,
    ) -> None:
        """Weigh both terms; a judge by name, and where it lies, is needed for `classifier` above 0 alone.

        classes: a text file with a phrase in every line, or a manifest ('': the model's own list). absent_classes: how
        many others each mixture is asked for in a step, 0 for all. ConfigError for what does not fit.
        """
        super().__init__(model, loss)
        for key, value in (("mixture", mixture), ("classifier", classifier)):
            if not 0 <= value < float("inf"):
                raise ConfigError(f"objective.{key}: found {value}; expected a weight of 0 or more")
        if not (mixture or classifier):
            raise ConfigError("objective.mixture: 0, and so is classifier; nothing is left to learn from")
        if absent_classes < 0:
            raise ConfigError(f"objective.absent_classes: found {absent_classes}; expected 0 for all, or more")
        self.mixture, self.classifier, self.absent_classes = mixture, classifier, absent_classes
        own = phrases_of(classes) if classes else model.classes
        self.classes = {plain(phrase): phrase for phrase in own}
        if not self.classes:
            raise ConfigError(
                "objective.classes: empty, and the model has no closed list of its own; name a file with a class in "
                "every line, or the manifest of the training"
            )
        self.judge = judge_of(judge, judge_path, "classifier", judge_prompts) if classifier else None

    def knows(self, said: Callable[[], Mapping[str, str]]) -> None:
        """Raise BadInput for the first query that is no class of the list, or none that the model knows."""
        for words, item in said().items():
            self._present(item, (words,))
        super().knows(lambda: dict.fromkeys(self.classes.values(), "objective.classes"))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms; BadInput for a mixture without a class, or with one that is not in the list."""
        there = [self._present(name, own) for name, own in zip(batch.ids, batch.queries, strict=True)]
        asked = [[*own, *self._others(own)] for own in there]
        bound, own = self.bound([[self.classes[name] for name in names] for names in asked])
        parts = bound.parts(batch.mix)
        counts = torch.tensor([len(names) for names in there], device=own.device)
        present = torch.arange(own.shape[1], device=own.device) < counts[:, None]  # (B, N)
        terms = {}
        if self.mixture:
            silence = torch.zeros_like(batch.mix)
            view = self.seen(bound, batch.mix, torch.stack([batch.mix, silence], 1), parts)
            sums = torch.stack([present, own & ~present], 1).to(view.est)  # (B, 2, N)
            terms["mixture"] = self.mixture * self.loss(sums @ view.est, view.ref, view.mix[:, None]).sum(1).mean()
        if self.judge is not None:
            heard, rate = parts.waves[present], self.student.sample_rate
            words = [self.classes[name] for names in there for name in names]
            term, self.step_logs["judged_right"] = judged(self.judge, heard, rate, words, list(self.classes.values()))
            terms["classifier"] = self.classifier * term
        return terms

    def _present(self, item: str, queries: tuple[str, ...]) -> list[str]:
        if not queries:
            raise BadInput(f"{item}: no query for any class in it; see `usep prepare-data --check`")
        found = {known(query, self.classes): query for query in queries}
        if "" in found:
            raise BadInput(f"{item}: query '{found['']}', which is none of the {len(self.classes)} classes of the list")
        return [*found]

    def _others(self, own: list[str]) -> list[str]:
        """Return classes of the list that a mixture with classes `own` has not, drawn anew each time."""
        others = [name for name in self.classes if name not in own]
        if not self.absent_classes:
            return others
        order = torch.randperm(len(others), generator=self.rng).tolist()
        return [others[k] for k in order[: self.absent_classes]]
