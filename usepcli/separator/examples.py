"""Clips that stand for a query: what is asked for sounds like this."""

from __future__ import annotations

import torch

from usepcli.audio import io
from usepcli.errors import BadInput
from usepcli.models.queried import Example
from usepcli.separator.words import Query, label

LONGEST_S = 60.0


def heard(query: Query) -> str | Example:
    """Return words as they are, and of a path the mean of its channels; BadInput for a clip that cannot be meant."""
    if isinstance(query, str):
        return query
    info = io.info(query)
    if info.seconds > LONGEST_S:
        raise BadInput(
            f"{io.show(query)}: lasts {info.seconds:.0f} s; expected a clip of at most {LONGEST_S:.0f} s that sounds "
            "like what is asked for"
        )
    wave = io.read(query)[0].mean(0)
    if not wave.any():
        raise BadInput(f"{io.show(query)}: is silent; expected a clip that sounds like what is asked for")
    return Example(torch.from_numpy(wave), info.rate, label(query))
