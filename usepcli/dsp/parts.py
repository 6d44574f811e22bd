"""What a separation consists of besides waveforms, for losses and critics in other domains."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Parts(NamedTuple):
    """The estimates of a mixture and, of a model that masks, what they were made from.

    `spectrum` (B, R, L) is the mixture as the model transforms it, R bins or basis functions in L frames, at the level
    at which the network reads it; `masks` (B, N, R, L) scale it. Both are real or complex, and None where a model has
    no such thing. `weights` (B, N) share out what the estimates lack of the mixture, where they are learned.
    `embeddings` (B, R, L, D) of unit length say which bins belong together, of a model that has them, while it learns.
    """

    waves: Tensor  # (B, N, T)
    masks: Tensor | None = None
    spectrum: Tensor | None = None
    weights: Tensor | None = None
    embeddings: Tensor | None = None
