"""Averages of weights: the moving average during training, and the mean of the best validated states."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from usepcli.engine.training import choice
from usepcli.errors import BadInput
from usepcli.weights import cards, fitting, store


def part_file(folder: Path, group: str) -> Path:
    """Return where a run keeps the weights of a further group beside its best model."""
    return folder / f"best_{group}.safetensors"


class MovingAverage:
    """Exponential moving average of a module's state: a <- d a + (1 - d) w, in float32, buffers copied."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in module.state_dict().items()}
        self.steps = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the module's present weights; early steps use a shorter memory, so the start is forgotten."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        names = {name for name, _ in module.named_parameters()}
        for key, value in module.state_dict().items():
            if key in names:
                self.state[key].lerp_(value, 1 - decay)
            else:
                self.state[key].copy_(value)

    def load(self, saved: Mapping[str, Any], where: str) -> None:
        """Take over an average that was saved as {"state", "steps"}; BadInput where it is of other weights."""
        fitting.compare(self.state, saved["state"], where)
        self.state = {key: saved["state"][key].to(value) for key, value in self.state.items()}
        self.steps = saved["steps"]


class BestStates:
    """The k best validated states of a run, as files in `best/`, and their mean.

    `scores` holds them as (score, step), the one to use first. Where a score is a mean over items, `items` holds these
    by step, and `choice` ranks the states that they cannot tell from the best. A file stands as long as one of the two
    saved states of the run names it, so that a run can go on from either.
    """

    def __init__(self, folder: Path, keep: int, average: int) -> None:
        self.folder, self.keep, self.average = folder / "best", keep, average
        self.scores: list[choice.Scored] = []
        self.items: dict[int, choice.Items] = {}
        self.top: choice.Scored = (-math.inf, -1)  # the best score of all, whether its state is kept or not
        self._saved: list[set[Path]] = []  # the files that the states which this process saved last name

    def path(self, step: int) -> Path:
        """Return the file of one state."""
        return self.folder / f"step{step:08d}.safetensors"

    def offer(
        self, score: float, step: int, state: dict[str, Tensor], card: cards.Card, items: choice.Items | None = None
    ) -> bool:
        """Keep the state if it is among the best, forget the one that fell out; True if it was kept."""
        if step in {s for _, s in self.scores}:
            return False
        self.items[step] = dict(items or {})
        self.top = max(self.top, (score, step))
        ranked = choice.ranked([*self.scores, (score, step)], self.items, self.top)[: self.keep]
        wanted = {self.top[1], *(s for _, s in ranked)}
        self.items = {s: held for s, held in self.items.items() if s in wanted}
        if (score, step) not in ranked:
            return False
        store.save_model(self.path(step), state, card)
        self.scores = ranked
        return True

    def saved(self) -> None:
        """Take note that a state of the run with these scores is on the disk; remove files that no state names."""
        self._saved = [*self._saved[-1:], {self.path(step) for _, step in self.scores}]
        if len(self._saved) == 2:  # what an earlier process saved may still be the one before
            for path in set(self.folder.glob("step*.safetensors")) - (self._saved[0] | self._saved[1]):
                path.unlink(missing_ok=True)

    def state(self) -> dict[str, Any]:
        """Return what resuming needs."""
        return {
            "best_states": [list(pair) for pair in self.scores],
            "best_items": {step: dict(held) for step, held in self.items.items()},
            "best_top": list(self.top),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; a state of an earlier version knows the scores alone."""
        self.scores = [(score, step) for score, step in state["best_states"]]
        self.items = dict(state.get("best_items", {}))
        self.top = max([tuple(state["best_top"])] if "best_top" in state else self.scores, default=self.top)

    def lost(self) -> list[str]:
        """Forget states whose files are gone or damaged, and return what is to be said of each."""
        faults = {}
        for _, step in self.scores:
            try:
                store.read_weights(self.path(step))
            except BadInput as fault:
                faults[step] = str(fault)
        self.scores = [scored for scored in self.scores if scored[1] not in faults]
        return [f"warning: {fault}; this state of the best is left out" for fault in faults.values()]

    def mean(self) -> dict[str, Tensor]:
        """Return the mean of the best `average` states in float64, cast back; one without a score has no part in it."""
        chosen = [step for score, step in self.scores[: self.average] if math.isfinite(score)]
        states = [store.read_weights(self.path(step)) for step in chosen]
        return mean_state(states)


def mean_state(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the arithmetic mean of state dicts; integer entries are taken from the first."""
    out = {}
    for key, first in states[0].items():
        if not first.is_floating_point():
            out[key] = first
            continue
        total = torch.stack([state[key].double() for state in states]).mean(0)
        out[key] = total.to(first.dtype)
    return out
