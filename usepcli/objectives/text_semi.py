"""Mixtures with captions, and sources of some of them (Mahmud et al. 2024, section 3.4 and Table 12).

    L = supervised_weight L_URL(known) + weak_weight L_TWL(others)
with L_URL as in objectives/text_supervised.py and L_TWL as in objectives/text_weak.py. The paper's best weights on
MUSIC are 5 and 1. `supervised: s` is the share of the items whose sources are read, drawn by `supervised_seed`, class
by class (data/known.py); of all others only the mixtures are opened. Half of every batch is of either kind.
"""

from __future__ import annotations

from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.data.known import Split
from usepcli.errors import ConfigError
from usepcli.losses.base import Loss
from usepcli.models.queried import QueriedModel
from usepcli.objectives.asking import check_share
from usepcli.objectives.text_supervised import answered
from usepcli.objectives.text_weak import Input, TextWeak


class TextSemi(TextWeak):
    """Weak supervision by words beside references of some items."""

    needs = frozenset({"mix", "queries", "caption", "phrases"})

    def __init__(
        self,
        model: QueriedModel,
        loss: Loss,
        supervised: float = 0.05,
        supervised_seed: int = 0,
        supervised_weight: float = 5.0,
        weak_weight: float = 1.0,
        url: float = 10.0,
        crl: float = 5.0,
        cnt: float = 0.1,
        source_input: Input = "mixture",
        judge: str = "",
        judge_path: str = "",
        judge_prompts: str = "",
        cnt_symmetric: bool = False,
        crl_skip_incomplete: bool = True,
        absent: float = 0.0,
    ) -> None:
        """Say which share of the items has sources (0: those that list any), weigh both kinds; the rest as `text_weak`.

        absent: the share of questions for what is not there, of either kind.
        """
        super().__init__(
            model, loss, url, crl, cnt, source_input, judge, judge_path, judge_prompts, cnt_symmetric,
            crl_skip_incomplete, absent,
        )  # fmt: skip
        check_share("supervised", supervised)
        for key, value in (("supervised_weight", supervised_weight), ("weak_weight", weak_weight)):
            if not 0 < value < float("inf"):
                raise ConfigError(f"objective.{key}: found {value}; expected a weight above 0")
        if supervised_seed < 0:
            raise ConfigError(f"objective.supervised_seed: found {supervised_seed}; expected 0 or more")
        self.supervised_weight, self.weak_weight = supervised_weight, weak_weight
        self.split = Split(supervised, supervised_seed)

    def check(self, batch_size: int) -> None:
        """Raise ConfigError where half of a batch is too little."""
        least = 4 if self._adds or self.absent else 2
        if batch_size < least:
            raise ConfigError(
                f"train.batch_size: found {batch_size}, of which half is read with sources and half without; expected "
                f"{least} or more"
            )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms; errors as of `mix_and_separate` and `text_weak`."""
        known = batch.known or [batch.sources is not None] * len(batch)
        with_sources = [k for k, told in enumerate(known) if told]
        others = [k for k, told in enumerate(known) if not told]
        terms = {"supervised": self.nothing()}
        if with_sources:
            found = answered(self, batch.some(with_sources), self.absent)
            terms = {"supervised": self.supervised_weight * found.url}
        if others:
            weak = super().losses(batch.some(others))
        else:  # unusable items had others in their place
            weak = {name: self.nothing() for name in ("url", "crl", "cnt") if getattr(self, name)}
        return terms | {name: self.weak_weight * value for name, value in weak.items()}
