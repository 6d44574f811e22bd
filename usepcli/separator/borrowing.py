"""A separator around a model that goes on being somebody else's, such as one in training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from usepcli.models.queried import Model
from usepcli.separator.separator import Separator


@contextmanager
def borrowed(model: Model, device: torch.device | str) -> Iterator[Separator]:
    """Yield a Separator on `device` around a model of somebody else's; it comes back to its mode and its device."""
    was_training, home = model.training, next(iter(model.state_dict().values())).device
    try:
        yield Separator(model, device=device)
    finally:
        model.train(was_training).to(home)
