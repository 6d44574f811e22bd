"""From a network's scores to masks: one place, so that every model and every oracle means the same by a name."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from usepcli.errors import ConfigError, choices

RealMask = Literal["sigmoid", "relu", "softmax", "tanh", "linear"]
Mask = Literal["sigmoid", "relu", "softmax", "tanh", "linear", "tanh_complex"]

REAL = ("sigmoid", "relu", "softmax", "tanh", "linear")
KINDS = (*REAL, "tanh_complex")


def check(kind: str, known: tuple[str, ...] = KINDS) -> None:
    """Raise ConfigError unless `kind` is one of the known masks."""
    if kind not in known:
        raise ConfigError(f"model.mask: {choices('mask', kind, known)}")


def values(kind: str) -> int:
    """Return the real numbers per bin of one mask: 1, or 2 for a complex one."""
    return 2 if kind == "tanh_complex" else 1


def masks_of(scores: Tensor, kind: str, scale: float = 1.0, axis: int = 1) -> Tensor:
    """Return the masks of scores, in their shape but for a last axis of 2 that a complex mask turns into one number.

    sigmoid in (0, 1); relu >= 0; softmax: shares that add up to 1 over the sources, which lie on `axis`; tanh in
    (-1, 1); linear: the scores; tanh_complex: real and imaginary part within +-scale.
    """
    if kind == "softmax":
        return torch.softmax(scores, axis)
    if kind == "linear":
        return scores
    if kind == "tanh":
        return torch.tanh(scores)
    if kind == "tanh_complex":
        return torch.view_as_complex(torch.tanh(scores).contiguous()) * scale
    return torch.sigmoid(scores) if kind == "sigmoid" else torch.relu(scores)


def equal_score(kind: str, n_src: int, scale: float = 1.0) -> float:
    """Return the score, of the real part, with which every mask of n_src starts near 1 / n_src.

    The sigmoid starts at its middle, where it is steepest, whatever n_src: mixture consistency moves all alike.
    """
    share = 1 / n_src
    starts = {"relu": share, "linear": share, "tanh": math.atanh(min(share, 0.99))}
    if kind == "tanh_complex":
        return math.atanh(share / scale)
    return starts.get(kind, 0.0)
