"""Which models can separate while the sound comes in, and their first block, which takes longer than all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from usepcli.engine.separation.maker import Maker
from usepcli.errors import ConfigError, UsageError, UsepError
from usepcli.weights import cards, reach

if TYPE_CHECKING:
    from usepcli.models.separator import SeparationModel
    from usepcli.separator.separator import Separator

_WARM = 3


def refuse(maker: Maker) -> None:
    """Raise UsageError, which names models that can, for a model that cannot take blocks as they come.

    Its card tells; where that is too old to say, the model is loaded.
    """
    why = "separates by query, and hears whole recordings" if not maker.card.n_src and maker.by_query else ""
    if not why:
        cost = cards.cost(maker.card)
        if cost is not None and cost.live:
            return
        if cost is None:
            hindrances = model_of(maker.separator).hindrances()
            if not hindrances:
                return
            why = "; ".join(hindrances)
    why = why or f"{maker.card.model.get('name', 'is of a kind that')} hears whole recordings, or looks ahead"
    raise UsageError(f"--live: model {maker.ref}: {why}; {_instead()}")


def _instead() -> str:
    able = []
    for name, paths in sorted(reach.known().items()):
        try:
            cost = cards.cost(cards.read_card(paths[0])[0])
        except (UsepError, ValueError, OSError):
            continue
        if cost is not None and cost.live:
            able.append(name)
    if able:
        return f"models that can: {', '.join(able)}"
    return "no model in reach can; train one: model {name: convtasnet, preset: causal}, or upit, tasnet, dprnn"


def model_of(separator: Separator) -> SeparationModel:
    """Return the model, which takes no queries."""
    return cast("SeparationModel", separator.model)


def warm(separator: Separator) -> None:
    """Let the model make what its first blocks make, before sound is waiting; UsageError where it is not live."""
    try:
        stream = separator.live(separator.rate)
    except ConfigError as fault:
        raise UsageError(f"--live: {fault}; {_instead()}") from fault
    for _ in range(_WARM):
        stream.push(np.zeros(2 * max(model_of(separator).live_stride, separator.rate // 100), np.float32))
