"""Adversarial PIT: critics teach the separator beside PIT, or alone (Postolache et al. 2023, section 2).

    each critic    its own loss on references against estimates, detached (objectives/criticism.py)
    separator      L_sep + lambda L_PIT,   L_sep the sum over critics, unweighted; L_PIT the mean over sources
The paper scales L_PIT "such that it is of the same magnitude as L_sep" and cites a rule of gradients (Esser et al.
2021); with |g| the norm of the gradient of a term at the last layer's weights, and w = pit_weight,
    fixed        lambda = w
    magnitude    lambda = w |L_sep| / (|L_PIT| + 1e-6)         bounded by MOST, without gradient
    gradients    lambda = w |g_sep| / (|g_PIT| + 1e-6)         likewise
Each micro-batch on each rank finds its own ratio; all else adds up over them to what the whole batch gives.
Every critic is a group of its own (`optim.groups.NAME`), learns first, and is not moved by the separator's step, which
reuses the forward pass, P* and the choice of replaced sources.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from usepcli.data.batch import Batch
from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError, choices
from usepcli.losses.base import Loss
from usepcli.losses.thresholded import LogMSE
from usepcli.models.critics import Critic
from usepcli.models.separator import SeparationModel
from usepcli.objectives import criticism
from usepcli.objectives.base import MAIN, Objective, Shared, Step, Terms
from usepcli.objectives.contest import Contest
from usepcli.objectives.criticism import Domain, Sight
from usepcli.objectives.pit import match, mean_snr_db, references, refuse_more, seen, take

Gan = Literal["hinge", "least_squares"]
Balance = Literal["off", "fixed", "magnitude", "gradients"]
BALANCES = ("off", "fixed", "magnitude", "gradients")
MOST = 1e4
LOUDEST = 1e6  # of a critic's scores, which learn to pass 1 and -1: beyond, it has diverged
NAME = "adversarial_pit"
_SMALL = 1e-6


class AdversarialPIT(Objective):
    """Trains a separator against critics that learn to tell its estimates from references; silent references count."""

    needs = frozenset({"mix", "sources"})
    domains = frozenset({"wave", "spectrum"})

    def __init__(
        self,
        model: SeparationModel,
        loss: Loss,
        critics: tuple[str, ...] = ("ctx_wave", "inst_wave"),
        gan: Gan = "hinge",
        pit: Balance = "gradients",
        pit_weight: float = 1.0,
        critic_s: float = 0.0,
        critic_width: float = 1.0,
        inst_active_only: bool = False,
        residual: bool = False,
    ) -> None:
        """Name the critics (objectives/criticism.py), their loss, and how L_PIT, `loss`, is weighed against them.

        critic_s: seconds of the segments for which the critics are built, as published; 0: critics that take the mean
        over time, for any length. critic_width: of their published channels; what they cost goes by its square.
        inst_active_only: critics of single sources see none that is silent. residual: what the references leave of the
        mixture is one more.
        """
        super().__init__(model, loss)
        _check(critics, gan, pit, pit_weight, critic_s, critic_width)
        self.sights = {name: criticism.sight(name, model.n_src) for name in critics}
        _check_different(list(self.sights.values()))
        self.critics = nn.ModuleDict(
            {n: criticism.build(s, model, critic_s, critic_width) for n, s in self.sights.items()}
        )
        self.gan, self.pit, self.pit_weight = gan, pit, pit_weight
        self.critic_s, self.inst_active_only, self.residual = critic_s, inst_active_only, residual
        self._contest = {name: Contest() for name in critics}
        # The order of estimates as waves follows the loss where that is one of waves.
        self.search = loss if loss.domain == "wave" else LogMSE()

    def takes(self, segment_s: float) -> None:
        """Raise ConfigError where the critics are built for segments of another length."""
        if self.critic_s and segment_s != self.critic_s:
            raise ConfigError(
                f"objective.critic_s: critics for {self.critic_s:g} s, and data.segment_s is {segment_s:g}; set both "
                "to one length, or critic_s to 0 for critics of any length"
            )

    def holds(self, n_src: int) -> None:
        """Raise BadInput for more references than outputs."""
        refuse_more(NAME, n_src + self.residual, self.n_src)

    def groups(self) -> dict[str, nn.Module]:
        """Return the separator and one group for each critic."""
        return {MAIN: self.student, **self.critics}

    def steps(self) -> Sequence[Step]:
        """Every critic first, then the separator."""
        return (*(Step(name, self._judging(s)) for name, s in self.sights.items()), Step(MAIN, self._separating))

    def remarks(self) -> list[str]:
        """Return a warning for each critic that has won against the separator, or lost, for two epochs."""
        return [line for name, one in self._contest.items() for line in one.ended(name)]

    # The critics' steps

    def _judging(self, sight: Sight) -> Callable[[Batch, Shared], Terms]:
        def terms(batch: Batch, shared: Shared) -> Terms:
            parts = shared.detached("parts", lambda: self.student.parts(batch.mix))
            mix, real, fake = self._shown(sight, batch, shared, parts)
            told_real = self._said(sight, mix, real, real)
            told_fake = self._said(sight, mix, fake, real)
            goal = criticism.quality(fake, real) if sight.kind == "metric" else None
            counted = self._counted(sight, real)
            loss = self._critic_loss(told_real, told_fake, goal, counted)
            heard = slice(None) if counted is None else counted.flatten() > 0
            logs = self._contest[sight.name].health(sight.name, told_real.detach()[heard], told_fake.detach()[heard])
            silent = {f"silent_{sight.name}": 1 - _sounds(real).mean()}
            return Terms({f"critic_{sight.name}": loss}, logs | silent, {MAIN: _size(_outputs(parts))})

        return terms

    def _critic_loss(self, real: Tensor, fake: Tensor, goal: Tensor | None, count: Tensor | None) -> Tensor:
        if goal is not None:
            each = (real - 1).square() + (fake - goal).square()
        elif self.gan == "least_squares":
            each = (real - 1).square() + fake.square()
        else:
            each = torch.relu(1 - real) + torch.relu(1 + fake)
        return _mean(each, count)

    def _counted(self, sight: Sight, real: Tensor) -> Tensor | None:
        """Return which (B, K) of the sources seen one at a time count: where references are silent, none may."""
        return _sounds(real) if sight.kind == "inst" and self.inst_active_only else None

    def _said(self, sight: Sight, mix: Tensor, sources: Tensor, real: Tensor) -> Tensor:
        judge = self.critics[sight.name]
        assert isinstance(judge, Critic)
        said = judge(criticism.shown(sight, mix, sources, real)).float()
        return torch.where(said.abs() <= LOUDEST, said, torch.nan)

    # What they are shown

    def _refs(self, batch: Batch) -> Tensor:
        """Return references (B, N, T), silence in the slots that have none; BadInput for more than outputs."""
        ref = references(batch, self.residual)
        refuse_more(NAME, ref.shape[1], self.n_src)
        return nn.functional.pad(ref, (0, 0, 0, self.n_src - ref.shape[1]))

    def _order(self, domain: str, batch: Batch, shared: Shared, there: Domain) -> Tensor:
        """Return P*, the estimate (B, K) of each reference, found once in each domain."""
        assert there.real is not None and there.fake is not None
        real, fake = there.real, there.fake.detach()

        def find() -> Tensor:
            if domain != "wave":
                return criticism.nearest(real, fake)
            with torch.no_grad():
                parts = shared.detached("parts", lambda: self.student.parts(batch.mix))
                return match(self.search, parts.waves, self._refs(batch), batch.mix).chosen

        return shared.detached(f"order_{domain}", find)

    def _shown(self, sight: Sight, batch: Batch, shared: Shared, parts: Parts) -> tuple[Tensor, Tensor, Tensor]:
        """Return mixture (B, ...), references and estimates (B, K, ...), replaced where this critic asks for it."""
        with torch.autocast(batch.mix.device.type, enabled=False):
            there = Domain.of(sight.domain, self.student, batch.mix, self._refs(batch), parts)
            assert there.real is not None and there.fake is not None
            fake = take(there.fake, self._order(sight.domain, batch, shared, there))
            if sight.replaced:
                shape = (fake.shape[0], fake.shape[1])
                which = shared.detached(
                    f"replaced_{sight.name}", lambda: criticism.drawn(shape, sight.replaced, self.rng).to(fake.device)
                )
                fake = criticism.replaced(there.real, fake, which)
        return there.mix, there.real, fake

    # The separator's step

    def _separating(self, batch: Batch, shared: Shared) -> Terms:
        parts = shared.attached("parts", lambda: self.student.parts(batch.mix))
        leaves = _leaves(parts)
        slopes, sep, logs = None, torch.zeros((), device=batch.mix.device), {}
        by = {MAIN: _size(_outputs(leaves))}
        for name, sight in self.sights.items():
            # One at a time: the graph of one critic is gone before the next one is asked.
            fooled = self._fooling(sight, batch, shared, leaves)
            own = _slopes(fooled, leaves)
            slopes = _added(slopes, own)
            sep = sep + fooled.detach()
            logs[f"fool_{name}"] = fooled.detach()
            by[name] = _size([fooled, *own])
        views = seen(self.loss, self.student, batch.mix, self._refs(batch), leaves)
        found = match(self.loss, views.est, views.ref, views.mix)
        pit = found.loss.mean()
        logs |= {"pit": pit.detach(), "snr_db": mean_snr_db(found)}
        terms = {"adversarial": _carried(sep, parts, slopes)}
        if self.pit != "off":
            other = _slopes(pit, leaves)
            weight = self._weight(sep, slopes, pit.detach(), other, parts)
            logs["pit_weight"] = weight
            terms["pit_weighed"] = weight * _carried(pit.detach(), parts, other)
        return Terms(terms, logs, by)

    def _fooling(self, sight: Sight, batch: Batch, shared: Shared, parts: Parts) -> Tensor:
        mix, real, fake = self._shown(sight, batch, shared, parts)
        told = self._said(sight, mix, fake, real)
        aims_at_one = sight.kind == "metric" or self.gan == "least_squares"
        return _mean((told - 1).square() if aims_at_one else -told, self._counted(sight, real))

    def _weight(self, sep: Tensor, slopes: Slopes | None, pit: Tensor, other: Slopes, parts: Parts) -> Tensor:
        """Return lambda, without gradient."""
        if self.pit == "fixed" or slopes is None:
            return torch.full_like(pit, self.pit_weight)
        if self.pit == "magnitude":
            ratio = sep.abs() / (pit.abs() + _SMALL)
        else:
            last = last_weights(self.student)
            ratio = _norm_at(last, parts, slopes) / (_norm_at(last, parts, other) + _SMALL)
        return (self.pit_weight * ratio).clamp(0, MOST)


Slopes = list[Tensor]  # the gradient at each of `_outputs`


def last_weights(model: nn.Module) -> Tensor:
    """Return the last trained matrix or kernel of a separator, beside the shares of mixture consistency."""
    found = [p for n, p in model.named_parameters() if p.requires_grad and p.dim() > 1 and not n.startswith("shares.")]
    return found[-1]


def _outputs(parts: Parts) -> list[Tensor]:
    return [x for x in (parts.waves, parts.masks) if x is not None]


@torch.no_grad()
def _size(values: list[Tensor]) -> Tensor:
    """Return a number that is finite where all values are."""
    return torch.stack([value.detach().abs().float().mean() for value in values]).sum()


def _leaves(parts: Parts) -> Parts:
    """Return the same values cut off from the network, so that gradients can be had at them."""
    masks = None if parts.masks is None else parts.masks.detach().requires_grad_()
    spectrum = None if parts.spectrum is None else parts.spectrum.detach()
    return Parts(parts.waves.detach().requires_grad_(), masks, spectrum)


def _slopes(term: Tensor, leaves: Parts) -> Slopes:
    outputs = _outputs(leaves)
    found = torch.autograd.grad(term, outputs, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(outputs, found, strict=True)]


def _added(one: Slopes | None, other: Slopes) -> Slopes:
    return other if one is None else [a + b for a, b in zip(one, other, strict=True)]


def _carried(value: Tensor, parts: Parts, slopes: Slopes | None) -> Tensor:
    """Return `value` with these gradients at the network's outputs: x - x is 0, and its gradient that of x."""
    if slopes is None:
        return value
    pairs = zip(_outputs(parts), slopes, strict=True)
    x = torch.stack([(o * g.conj()).real.sum() if o.is_complex() else (o * g).sum() for o, g in pairs]).sum()
    return value + (x - x.detach())


def _norm_at(weights: Tensor, parts: Parts, slopes: Slopes) -> Tensor:
    """Return the norm of the gradient at the weights, given those at the outputs."""
    pairs = [(o, g) for o, g in zip(_outputs(parts), slopes, strict=True) if o.requires_grad]
    outputs, given = zip(*pairs, strict=True)
    (found,) = torch.autograd.grad(outputs, weights, given, retain_graph=True, allow_unused=True)
    return torch.zeros((), device=weights.device) if found is None else found.float().norm()


def _mean(each: Tensor, counted: Tensor | None) -> Tensor:
    """Return the mean over examples of the mean over those (B, K) that count, 0 with a gradient where none does.

    Every example weighs alike, so that micro-batches and ranks come to what the whole batch does.
    """
    if counted is None:
        return each.mean()
    return ((each.view_as(counted) * counted).sum(1) / counted.sum(1).clamp_min(1)).mean()


def _sounds(real: Tensor) -> Tensor:
    """Return (B, K) 1 where a reference (B, K, ...) sounds, else 0."""
    return (real.flatten(2).abs().amax(2) > 0).float()


def _check_different(sights: Sequence[Sight]) -> None:
    for place, one in enumerate(sights):
        if same := next((other for other in sights[:place] if other[1:] == one[1:]), None):
            raise ConfigError(
                f"objective.critics: '{same.name}' and '{one.name}' are the same; expected every critic once"
            )


def _check(
    critics: tuple[str, ...], gan: str, pit: str, pit_weight: float, critic_s: float, critic_width: float
) -> None:
    if doubled := next((name for name in critics if critics.count(name) > 1), None):
        raise ConfigError(f"objective.critics: '{doubled}' twice; expected every critic once")
    for key, found, known in (("gan", gan, ("hinge", "least_squares")), ("pit", pit, BALANCES)):
        if found not in known:
            raise ConfigError(f"objective.{key}: {choices(key, found, known)}")
    if pit_weight < 0:
        raise ConfigError(f"objective.pit_weight: found {pit_weight}; expected 0 or more")
    if critic_s < 0:
        raise ConfigError(f"objective.critic_s: found {critic_s}; expected 0 or more")
    if not 0 < critic_width <= 16:
        raise ConfigError(f"objective.critic_width: found {critic_width}; expected more than 0, at most 16")
    if not critics and pit == "off":
        raise ConfigError("objective.critics: none, and objective.pit is off; nothing is left to learn from")
