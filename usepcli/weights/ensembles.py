"""What models that are joined by + are, by their cards: the same outputs, the highest rate, and all their licences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from usepcli import registry
from usepcli.errors import UsageError
from usepcli.files import show
from usepcli.weights import cards, reach, readers
from usepcli.weights.cards import Card, Cost


class Member(NamedTuple):
    """One of the models: as it was named, its file, its card, and the sha256 of its weights."""

    ref: str
    path: Path
    card: Card
    sha256: str


class Joined(NamedTuple):
    """A model as it was named, which may be several: the members, and the card and sha256 of all of them."""

    members: tuple[Member, ...]
    card: Card
    sha256: str

    @property
    def path(self) -> str:
        """The file, or the files joined by +, by which the same is found again."""
        return reach.JOINT.join(str(member.path) for member in self.members)


def find(ref: str | Path) -> Joined:
    """Return what a name, a path, or several joined by +, mean; UsageError where the outputs of models differ.

    Other errors as of reach.find_model and readers.card.
    """
    members = tuple(Member(name, path, *readers.card(path)) for name, path in reach.find_models(ref))
    if len(members) == 1:
        return Joined(members, members[0].card, members[0].sha256)
    refuse(members)
    return Joined(members, joined(members), reach.JOINT.join(member.sha256 for member in members))


def refuse(members: Sequence[Member]) -> None:
    """UsageError where one model is named twice, separates by query, or has other outputs than the first."""
    first = members[0]
    for k, member in enumerate(members):
        if member.sha256 in (other.sha256 for other in members[:k]):
            raise UsageError(f"--model: {show(member.ref)} is joined to itself; leave it out once")
        if member.card.model.get("name") in registry.QUERIED:
            raise UsageError(
                f"--model: {show(member.ref)} separates what it is asked for, and only models with outputs of their "
                "own can be joined; name it alone"
            )
        if not _alike(first.card.sources, member.card.sources):
            raise UsageError(
                f"--model: {show(first.ref)} gives {_outputs(first.card)}, {show(member.ref)} {_outputs(member.card)}; "
                "models joined by + have the same outputs"
            )


def joined(members: Sequence[Member]) -> Card:
    """Return the card of the ensemble of models."""
    held, first = [member.card for member in members], members[0].card
    rate = max(card.sample_rate for card in held)
    hears = [card.hears_s for card in held if card.hears_s]
    settings: dict[str, Any] = {"name": "ensemble", "members": [dict(card.model) for card in held]}
    settings |= {"stems": list(first.sources)} if isinstance(first.sources, tuple) else {}
    settings |= {"segment_s": min(hears)} if hears else {}
    segment_s = max(card.segment_s for card in held)
    names = [card.name or member.ref for card, member in zip(held, members, strict=True)]
    return Card(
        name=reach.JOINT.join(names),
        about=_each(names, [card.about or card.training_data or "its card does not say" for card in held]),
        model=settings, sample_rate=rate, n_src=first.n_src, cost=_cost(held, rate),
        training_data=_each(names, [card.training_data or cards.UNSTATED for card in held]),
        licence=_each(names, [card.licence or cards.UNSTATED for card in held]),
        credits=_each(names, [card.credits for card in held]),
        profile={"data": {"segment_s": segment_s}} if segment_s else {},
    )  # fmt: skip


def purpose(ref: str | Path, told: Callable[[str, Card], list[str]]) -> list[str]:
    """Return the lines that `told` has for the name and the card of each model that is meant."""
    return [line for member in find(ref).members for line in told(member.ref, member.card)]


def _cost(held: Sequence[Card], rate: int) -> dict[str, Any]:
    """Return what an ensemble at `rate` Hz takes; {} where one of its models does not say."""
    told = [(cards.cost(card), card.sample_rate) for card in held]
    costs = [(cost, hz) for cost, hz in told if cost is not None and hz]
    if len(costs) < len(held):
        return {}
    fields = [-(-(cost.receptive_field_samples or 0) * rate // hz) for cost, hz in costs]
    whole = any(cost.receptive_field_samples is None for cost, _ in costs)
    flops = sum(cost.flops_per_second for cost, _ in costs)
    return Cost(False, 0, None if whole else max(fields), flops)._asdict()


def _each(names: Sequence[str], said: Sequence[str]) -> str:
    """Return what is said of each model, once where it is the same of all."""
    if len({*said}) == 1:
        return said[0]
    return "; ".join(f"{name}: {text}" for name, text in zip(names, said, strict=True) if text)


def _alike(one: int | tuple[str, ...], other: int | tuple[str, ...]) -> bool:
    if isinstance(one, int) or isinstance(other, int):
        return one == other
    return {*one} == {*other}


def _outputs(card: Card) -> str:
    return ", ".join(card.sources) if isinstance(card.sources, tuple) else cards.outputs(card.n_src)
