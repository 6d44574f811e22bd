"""A model that is made of another by hand: what widen.py, look_back.py and deepen.py write."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from usepcli.weights import build, store
from usepcli.weights.cards import Card


def save(out: Path, state: dict[str, Tensor], card: Card) -> None:
    """Write weights by the settings of `card.model`, without the scores of the model that they were; say where."""
    model = build.model(card.model)
    model.load_state_dict(state)
    card.cost, card.scores = build.cost_of(model), []
    store.save_model(out, state, card)
    print(out)
