"""Prompt tuning: a few recordings of single sounds teach the vectors before the words, and nothing else.

    L = - mean_b log softmax_c( s cos(A(x_b), L(v_1 ... v_n c)) ) at the class c of recording x_b

with both sides A and L of a CLAP, its scale s and learned vectors v (encoders/prompts.py). CoOp: Zhou et al. 2022; for
separation Mahmud et al. 2024, Table 13: n = 8, 16, 32 and 1, 2, 5 recordings of each class (data.shots), whose segments
overlap by chance. The network that separates stays as it was made. What is learned here goes before the words of
another training by model.prompts and objective.judge_prompts. Recordings that were held out show where the few are
learned by heart: their loss chooses the vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli import registry
from usepcli.data.batch import Batch
from usepcli.encoders.base import Judge
from usepcli.encoders.prompts import Prompted
from usepcli.encoders.templates import bare
from usepcli.errors import BadInput, ConfigError
from usepcli.losses.base import Loss
from usepcli.models.fixed import Fixed
from usepcli.models.queried import QueriedModel
from usepcli.objectives.asking import Asking
from usepcli.objectives.base import MAIN


class PromptTuning(Asking):
    """Trains the vectors before the words of a queried model's conditioner, by a CLAP's own ears."""

    domains = frozenset({"wave", "spectrum"})  # no loss of waves or spectra is taken
    own: ClassVar[Mapping[str, bool]] = {"held_loss": False, "held_right": True}

    def __init__(self, model: QueriedModel, loss: Loss, judge: str = "clap") -> None:
        """Take the judge whose ears belong to the conditioner's words; it opens the same folder.

        The loss, of waves or spectra, is not used; the classes are those of the recordings. ConfigError for a model
        without vectors to learn.
        """
        super().__init__(model, loss)
        words = getattr(model, "words", None)
        if not isinstance(words, Prompted) or not words.context.requires_grad:
            raise ConfigError(
                "model.context: no vectors to learn before the words; take model.conditioner clap with model.context "
                "8 to 32, and leave model.prompts out"
            )
        self.classes: tuple[str, ...] = ()
        self._place: dict[str, int] = {}
        ears: Judge = registry.load("judge", judge)(words.path, words.sha256)
        self.judge = Fixed(ears, ears.reference, ears.sha256)

    def knows(self, said: Callable[[], Mapping[str, str]]) -> None:
        """Take for the classes what the training recordings are asked by; ConfigError where there is but one."""
        self.classes = tuple(sorted({_plain(query) for query in said()}))
        if len(self.classes) < 2:
            raise ConfigError(
                f"data.manifest: all recordings are of one class, '{' '.join(self.classes)[:60]}'; prompts are learned "
                "from what tells several apart"
            )
        self._place = {name: k for k, name in enumerate(self.classes)}

    def settled(self) -> dict[str, Any]:
        """Return the classes, for the card of the model that holds their vectors."""
        return {"classes": list(self.classes)}

    @property
    def prompted(self) -> Prompted:
        """The conditioner whose vectors learn."""
        words = self.student.words  # type: ignore[attr-defined]
        assert isinstance(words, Prompted)
        return words

    def groups(self) -> dict[str, nn.Module]:
        """Return the vectors alone."""
        return {MAIN: self.prompted}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the cross-entropy over the classes; BadInput for a recording without one class of the list."""
        logits, own = self._heard(self.prompted, batch)
        self.step_logs = {"right": logits.detach().argmax(1).eq(own).float().mean()}
        return {"prompt": F.cross_entropy(logits, own)}

    @torch.no_grad()
    def validated(self, model: Any, batch: Batch) -> dict[str, float]:
        """Return the loss of a recording that was held out, and whether its class is the nearest."""
        logits, own = self._heard(model.words, batch)
        right = logits.argmax(1).eq(own).float().mean()
        return {"held_loss": float(F.cross_entropy(logits, own)), "held_right": float(right)}

    def _heard(self, words: Prompted, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return logits (B, classes) and the class of each recording (B,)."""
        judge = self.judge.module
        assert isinstance(judge, Judge)
        own = torch.tensor([self._class(*one) for one in zip(batch.ids, batch.queries, strict=True)])
        with torch.autocast(batch.mix.device.type, enabled=False):
            with torch.no_grad():
                heard = judge.hear(batch.mix.float(), self.student.sample_rate)
            read = words.encode(self.classes).pooled
            return judge.scale * heard @ read.T, own.to(heard.device)

    def _class(self, item: str, queries: tuple[str, ...]) -> int:
        if len(queries) != 1:
            raise BadInput(
                f"{item}: {len(queries)} queries; prompts are tuned on recordings of one sound with one query"
            )
        found = self._place.get(_plain(queries[0]))
        if found is None:
            raise BadInput(
                f"{item}: '{queries[0][:60]}' is none of the {len(self.classes)} classes of the training recordings"
            )
        return found


def _plain(name: str) -> str:
    return " ".join(bare(name).replace("_", " ").lower().split())
