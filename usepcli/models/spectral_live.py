"""Spectral models that take blocks: the STFT of the newest frames, and masks from layers that look back alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from usepcli.dsp import framing
from usepcli.models.spectral import SpectralModel
from usepcli.models.streaming import Run, Walk, at_once, silence


class Kept(NamedTuple):
    """What is kept of B streams between two blocks."""

    waiting: Tensor  # (B, p): samples from the start of the next frame on
    tail: Tensor  # (B, N + 1, win - hop): what the last frames give to these, and the sum of their squared windows
    net: tuple[Any, ...]  # of the layers, in the order of their running


class LiveSpectralModel(SpectralModel):
    """A SpectralModel whose `core` can be run block by block."""

    def core(self, spec: Tensor, run: Run = at_once) -> Tensor:
        """Return features as SpectralModel does; layers along the frames go through `run`."""
        raise NotImplementedError

    @property
    def ahead(self) -> int:
        """Samples before the first one at which the first window begins."""
        return self.stft.ahead

    def open(self, batch: int) -> Kept:
        """Return what is kept before the first block of `batch` streams."""
        tail = silence(self, batch, self.n_src + 1, self.stft.win - self.hop)
        return Kept(silence(self, batch, self.ahead), tail, ())

    def advance(self, block: Tensor, kept: Kept) -> tuple[Tensor, Kept]:
        """Return the estimates (B, N, L hop) that a block (B, t) settles, L >= 0, and what is kept then."""
        spec, waiting = self.stft.hear(block, kept.waiting)
        if not spec.shape[-1]:
            return kept.tail[:, :-1, :0], kept._replace(waiting=waiting)
        walk = Walk(kept.net)
        est, tail = self.stft.speak(self.masked(spec, self.scores(self.core(spec, walk))), kept.tail)
        return est, Kept(waiting, tail, walk.kept)

    def close(self, kept: Kept, heard: int, rest: int) -> Tensor:
        """Return the last `rest` estimates (B, N, rest) of a signal of `heard` samples."""
        missing = self.stft.missing(heard, kept.waiting.shape[-1])
        est, kept = self.advance(silence(self, len(kept.tail), missing), kept)
        return torch.cat([est, framing.over_windows(kept.tail)], -1)[..., :rest]
