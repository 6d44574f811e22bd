"""The optimiser steps of one batch: zero, differentiate every micro-batch, average over ranks, clip, move, each group.

An objective says which groups move, in which order, by which terms. Every step runs over all micro-batches before the
next one begins, one after the other, so that the activations of a single micro-batch are held at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from usepcli.data.batch import Batch
from usepcli.engine.training.distributed import Ranks
from usepcli.engine.training.optimisers import plain
from usepcli.engine.training.schedule import Schedule
from usepcli.errors import ConfigError, choices
from usepcli.objectives.base import MAIN, Objective, Shared, Step, Terms
from usepcli.objectives.supervised import Place

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Losses in dB have gradients far above 1: the usual first scale of 65 536 would overflow for several steps.
FIRST_SCALE = 256.0
HIGHEST_RATE = 1e30


class Group(NamedTuple):
    """One optimiser with what a profile says of it."""

    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    lr_share: float  # of the schedule's rate
    lr: float  # its own rate where it does not follow the schedule, else 0
    clip_norm: float

    def rate(self, schedule: Schedule, step: int) -> float:
        """Return the rate of optimiser step `step`, counted from 1."""
        return schedule.ramp(step) * self.lr if self.lr else schedule.at(step) * self.lr_share


def groups(profile: Any, modules: Mapping[str, nn.Module]) -> dict[str, Group]:
    """Build one optimiser for each group of an objective; ConfigError for settings of a group that it has not."""
    named = profile.optim.groups
    for name in named:
        if name not in modules or name == MAIN:
            known = [known for known in modules if known != MAIN]
            raise ConfigError(
                f"optim.groups.{name}: {choices('group', name, known)}"
                if known
                else f"optim.groups.{name}: objective {profile.objective['name']} has no group beside the separator's"
            )
    return {name: _group(profile, name, named.get(name), module) for name, module in modules.items()}


def _group(profile: Any, name: str, own: Any, module: nn.Module) -> Group:
    o = profile.optim

    def of(key: str) -> Any:
        value = None if own is None else getattr(own, key)
        return getattr(o, key) if value is None else value

    parameters = [p for p in module.parameters() if p.requires_grad]
    lr = of("lr") * (1.0 if own is None or own.lr is not None else own.lr_factor)
    if lr > HIGHEST_RATE:  # what Adam makes of it has to be a number of 32 bits
        raise ConfigError(f"optim.{'' if own is None else f'groups.{name}.'}lr: found {lr:g}; expected 1e30 at most")
    kind, betas, decay = of("name"), of("betas"), of("weight_decay")
    made: torch.optim.Optimizer
    if kind == "sgd":
        made = plain(torch.optim.SGD)(parameters, lr, momentum=betas[0], weight_decay=decay)
    else:
        build = plain(torch.optim.AdamW if kind == "adamw" else torch.optim.Adam)
        made = build(parameters, lr, (betas[0], betas[1]), of("eps"), decay)
    clip = profile.train.clip_norm if own is None or own.clip_norm is None else own.clip_norm
    constant = own is not None and own.schedule == "constant"
    return Group(made, parameters, lr / o.lr, lr if constant else 0.0, clip or float("inf"))


class Stepper:
    """Owns the optimisers of an objective and takes the steps of one batch."""

    def __init__(
        self, profile: Any, objective: Objective, schedule: Schedule, ranks: Ranks, device: torch.device
    ) -> None:
        self.objective, self.schedule, self.ranks, self.device = objective, schedule, ranks, device
        self.precision = PRECISIONS.get(profile.train.precision)
        self.groups = groups(profile, objective.groups())
        fp16 = self.precision is torch.float16
        self.scaler = torch.amp.GradScaler(device.type, init_scale=FIRST_SCALE, enabled=fp16)

    def take(self, micro: Sequence[Batch], step: int) -> tuple[str, dict[str, float]]:
        """Take the steps of a batch given in micro-batches; return the group that was not finite, '', and the figures.

        The first step that is not finite moves nothing and ends the batch.
        """
        first, parts = self.ranks.rank * len(micro), self.ranks.world * len(micro)
        places = [Place(step, first + i, parts) for i in range(len(micro))]
        held = [
            (batch.to(self.device), Shared(len(micro) == 1, place)) for batch, place in zip(micro, places, strict=True)
        ]
        figures: dict[str, float] = {}
        broken, seen = "", set[str]()
        for one in self.objective.steps():
            finite, by = self._step(one, held, step, figures, seen)
            if not finite:
                broken = self._culprit(by) or one.group
                break
        # Once a batch: the scale belongs to all groups, and each has said by now whether it overflowed.
        self.scaler.update()
        return broken, self.ranks.means(figures, self.device)

    def _culprit(self, by: Mapping[str, list[Tensor]]) -> str:
        """Return the first group of all ranks whose part in another's step is not finite, '' where none is."""
        names = [name for name, parts in by.items() if not all(bool(torch.isfinite(part)) for part in parts)]
        return next(iter(self.ranks.gathered(names, self.device)), "")

    def _step(
        self, one: Step, held: list[tuple[Batch, Shared]], step: int, figures: dict[str, float], seen: set[str]
    ) -> tuple[bool, dict[str, list[Tensor]]]:
        """Take one step; return whether all was finite, and what other groups have had a hand in."""
        group = self.groups[one.group]
        group.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        found: dict[str, float] = {}
        logged: dict[str, list[float]] = {}
        by: dict[str, list[Tensor]] = {}
        for batch, shared in held:
            with torch.autocast(self.device.type, self.precision, enabled=self.precision is not None):
                terms = one.terms(batch, shared)
            total = total + self._differentiate(terms, group, len(held), found)
            for name, value in terms.logs.items():
                logged.setdefault(name, []).append(float(value))
            for name, part in terms.by.items():
                by.setdefault(name, []).append(part)
        found |= {name: _mean_of_present(values) for name, values in logged.items()}
        finite, norm, total = self._apply(group, total, step)
        tail = "" if one.group == MAIN else f"_{one.group}"
        found |= {f"loss{tail}": float(total), f"grad_norm{tail}": float(norm)}
        for name, value in found.items():
            # A figure belongs to its step: where two log the same name, the later one says whose it is.
            figures[f"{name}_{one.group}" if name in seen else name] = value
        seen.update(found)
        return finite, by

    def _differentiate(self, terms: Terms, group: Group, count: int, found: dict[str, float]) -> Tensor:
        """Add the gradient of one of `count` micro-batches to the group; return its share of the loss."""
        loss = torch.stack([value.float() for value in terms.losses.values()]).sum() / count
        # For this group alone: what a step passes through of other networks is neither computed nor left behind.
        self.scaler.scale(loss).backward(inputs=group.parameters)
        for name, value in terms.losses.items():
            found[name] = found.get(name, 0.0) + float(value.detach()) / count
        return loss.detach()

    def _apply(self, group: Group, total: Tensor, step: int) -> tuple[bool, Tensor, Tensor]:
        """Step the group with the gradients that it holds, unless anything is not finite; also norm and mean loss."""
        self.ranks.average_gradients(group.parameters)
        # After the exchange: the scaler of each rank notes what overflowed on any, and all scales stay the same.
        self.scaler.unscale_(group.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(group.parameters, group.clip_norm)
        total = self.ranks.mean(total)
        # The norm alone decides: one bad gradient makes it non-finite, on every rank, and clipping would spread it.
        finite = bool(torch.isfinite(norm)) and bool(torch.isfinite(total))
        if finite:
            for slot in group.optimizer.param_groups:
                slot["lr"] = group.rate(self.schedule, step)
            self.scaler.step(group.optimizer)
        return finite, norm, total

    def state(self) -> dict[str, Any]:
        """Return what resuming needs."""
        return {
            "optimizers": {name: group.optimizer.state_dict() for name, group in self.groups.items()},
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned; ValueError or LookupError where another optimiser or other weights did."""
        for name, group in self.groups.items():
            _load_moments(name, group, state["optimizers"][name])
        if state["scaler"]:  # empty where the run had another precision until now
            self.scaler.load_state_dict(state["scaler"])


def _load_moments(name: str, group: Group, saved: Mapping[str, Any]) -> None:
    """Give an optimiser its moments; rates, decays and the like stay those of the profile.

    torch itself takes moments of any shape and of any optimiser, and fails at the next step.
    """
    adam = isinstance(group.optimizer, torch.optim.Adam)  # AdamW is one
    needed = {"step", "exp_avg", "exp_avg_sq"} if adam else set()
    known = needed or {"momentum_buffer"}
    for index, held in saved["state"].items():
        if not needed <= set(held) <= known:
            raise ValueError(f"the optimiser of '{name}' holds {', '.join(sorted(held))}, not {', '.join(known)}")
        like = group.parameters[index]
        for key, value in held.items():
            if key == "step" or value is None:
                continue
            if value.shape != like.shape:
                raise ValueError(f"the optimiser of '{name}' holds {tuple(value.shape)} for {tuple(like.shape)}")
    own = group.optimizer.state_dict()["param_groups"]
    group.optimizer.load_state_dict({"state": saved["state"], "param_groups": own})


def _mean_of_present(values: Sequence[float]) -> float:
    """Return the mean of the figures that micro-batches have, nan where none has one."""
    present = [value for value in values if math.isfinite(value)]
    return sum(value / len(present) for value in present) if present else math.nan
