"""Outputs with a meaning of their own: every decoder learns one kind of source, and nobody looks for an order.

    L = mean_b 1/N sum_n l(s_n, e_n)
The plain way to train several decoders behind one encoder. It works where the kinds differ, speech and its noise,
drums and voice: output n is told what to hold. It fails where they do not. Of two talkers either may be the first, and
whatever the network says of a mixture, half of the examples contradict it: mean squares are least at half of the sum
from either output, and in decibels that is a point where learning may end. Such sources need `pit`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from usepcli.data.batch import Batch
from usepcli.dsp import ratios
from usepcli.errors import BadInput, ConfigError, choices
from usepcli.losses.base import Loss
from usepcli.models.separator import SeparationModel
from usepcli.objectives.base import Objective
from usepcli.objectives.pit import check_spectrum, references, refuse_more, seen, snr_db

NAME = "fixed"


class FixedOrder(Objective):
    """Trains output n on source n of the manifest, or on all sources of kind n."""

    needs = frozenset({"mix", "sources"})
    domains = frozenset({"wave", "spectrum"})

    def __init__(
        self,
        model: SeparationModel,
        loss: Loss,
        kinds: tuple[str, ...] = (),
        zero_refs: Literal["match", "ignore"] = "match",
        residual: bool = False,
    ) -> None:
        """Name the kind of each output by the words that the data have for its sources; () goes by their order.

        Sources of one kind are added up; of a single kind are all, whatever words they have, if any. residual: the
        output after those is what the references leave of the mixture, its noise. zero_refs: what is silent counts with
        the zero-reference loss, or not at all.
        """
        super().__init__(model, loss)
        check_spectrum(model, loss)
        if zero_refs not in ("match", "ignore"):
            raise ConfigError(f"objective.zero_refs: {choices('zero_refs', zero_refs, ('match', 'ignore'))}")
        if len(set(kinds)) < len(kinds) or "" in kinds:
            raise ConfigError(f"objective.kinds: found {', '.join(kinds)}; expected different words for every output")
        if len(kinds) + residual > model.n_src:
            raise ConfigError(
                f"objective.kinds: {len(kinds) + residual} kinds for {model.n_src} outputs, the residual counted; set "
                f"model.n_src to {len(kinds) + residual}"
            )
        self.kinds, self.zero_refs, self.residual = tuple(kinds), zero_refs, residual
        if len(kinds) > 1:
            self.needs = FixedOrder.needs | {"queries"}

    def holds(self, n_src: int) -> None:
        """Raise BadInput for more references than outputs; of sources known by their kind there may be any number."""
        if not self.kinds:
            refuse_more(NAME, n_src + self.residual, self.n_src)

    def knows(self, said: Callable[[], Mapping[str, str]]) -> None:
        """Raise BadInput for the first source of a kind that belongs to no output."""
        if len(self.kinds) > 1:
            for words, item in said().items():
                self._output(words, item)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss in dB; BadInput without references, or with more of them than outputs."""
        ref = references(batch, self.residual)  # (B, K, T)
        if self.kinds:
            ref = self._of_kinds(ref, batch)
        refuse_more(NAME, ref.shape[1], self.n_src)
        ref = F.pad(ref, (0, 0, 0, self.n_src - ref.shape[1]))  # (B, N, T)
        est, ref, mix = seen(self.loss, self.student, batch.mix, ref)
        value = self.loss(est, ref, mix[:, None])  # (B, N)
        energy = ratios.energy(ref)
        active = self.loss.active(energy, ratios.energy(mix)[:, None], ref.shape[-1])
        found = snr_db(energy, ratios.residual_energy(est.detach(), ref))
        self.step_logs = {"snr_db": found[active].mean()}
        counted = active if self.zero_refs == "ignore" else torch.ones_like(active)
        return {NAME: ((value * counted).sum(-1) / counted.sum(-1).clamp_min(1)).mean()}

    def _of_kinds(self, ref: Tensor, batch: Batch) -> Tensor:
        """Return the sum (B, kinds[ + 1], T) of the references of each kind, and the residual behind them."""
        if len(self.kinds) == 1:
            talkers = ref.shape[1] - self.residual
            return torch.cat([ref[:, :talkers].sum(1, keepdim=True), ref[:, talkers:]], 1)
        found = ref.new_zeros(ref.shape[0], len(self.kinds) + self.residual, ref.shape[-1])
        for b, (item, queries) in enumerate(zip(batch.ids, batch.queries, strict=True)):
            for k, words in enumerate(queries):
                found[b, self._output(words, item)] += ref[b, k]
        if self.residual:
            found[:, -1] = ref[:, -1]
        return found

    def _output(self, words: str, item: str) -> int:
        """Return the output that holds sources of a kind; BadInput for one that belongs to none."""
        if words not in self.kinds:
            raise BadInput(
                f"item {item}: a source '{words}'; objective.kinds has {', '.join(self.kinds)}: name it there"
            )
        return self.kinds.index(words)
