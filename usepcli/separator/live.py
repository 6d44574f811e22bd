"""One stream through a model that takes blocks: resample, step, resample back, nothing held longer than needed.

Letters: N sources, C channels, L or t samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from usepcli.audio.resample_live import LiveResampler
from usepcli.errors import BadInput, UsageError, choices
from usepcli.models.separator import SeparationModel
from usepcli.separator.flow import Intake
from usepcli.separator.how import How, checked_rate

# What can be decided sample by sample: "linked" and "share" weigh long windows.
CHANNELS, RESTS = ("each", "mix", "first"), ("leave", "source")
LIVE = How(channels="each", rest="leave")
_PART_S = 1.0  # of a long block that goes through the model at once


class Live:
    """Takes blocks of any length and gives back the sources as they become final, `latency_s` behind.

    The channels are separated each by itself, so that the order of the sources may differ between them; "mix" and
    "first" make one of them. What the sources lack of the input, mainly what lies above the band of a model slower
    than the input, is left out, or is one more source with rest "source": sharing it out takes windows of seconds.
    Memory does not grow.
    """

    def __init__(self, model: SeparationModel, rate: int, how: How = LIVE, device: torch.device | str = "cpu") -> None:
        if how.channels not in CHANNELS:
            raise UsageError(f"live, --channels: {choices('channel policy', how.channels, CHANNELS)}")
        if how.rest not in RESTS:
            raise UsageError(f"live, rest: {choices('treatment of the rest', how.rest, RESTS)}")
        if how.overlap or how.shifts > 1 or how.speeds > 1:
            raise UsageError("live: has no chunks to overlap or to hear again; leave overlap, shifts and speeds out")
        if how.two_stems:
            raise UsageError("live, --two-stems: whole recordings only; leave it out, and keep what is wanted")
        rate = checked_rate(rate)
        model.begin(1)  # says at once where a model is not live
        self.model, self.rate, self.inner, self.how, self.device = model, rate, model.sample_rate, how, device
        self._intake, self._taken, self._given, self._ended = Intake(), 0, 0, False
        self._held = np.zeros((0, 0), np.float32)  # input (C, t) that waits for its sources

    @property
    def latency_s(self) -> float:
        """Seconds after a sample's arrival by which its sources are given: the model's and the resamplers' wait.

        The block itself comes on top: a sample that waits for its block to be full arrives late.
        """
        both_ways = LiveResampler(self.rate, self.inner, 1).wait_s + LiveResampler(self.inner, self.rate, 1).wait_s
        return self.model.latency_samples / self.inner + both_ways

    def push(self, block: np.ndarray | Tensor) -> np.ndarray:
        """Return the sources (N, t) or (N, C, t), t >= 0, that a block (T,) or (C, T) makes final, as float32.

        BadInput for blocks that are not floating point, not finite, or change shape.
        """
        if self._ended:
            raise UsageError("live: the stream is finished; begin another one")
        wave = self.how.heard(self._intake(block))
        if not self._taken:
            self._begin(len(wave))
        self._taken += wave.shape[1]
        if self.how.rest == "source":
            self._held = np.concatenate([self._held, wave], axis=1)
        return self._joined(self._model(part) for part in self._parts(wave))

    def finish(self) -> np.ndarray:
        """Return the sources of all that still waits; BadInput if no sample came."""
        if not self._taken:
            raise BadInput("waveform without samples; expected at least one")
        self._ended = True
        # A little silence behind the end, so that the resamplers have the last sample between two others.
        pad = 0 if self.rate == self.inner else -(-2 * self.rate // self.inner)
        tail = self._down.push(np.zeros((self._channels, pad), np.float32), last=True)
        est = self._model(tail)
        with torch.inference_mode():
            last = _sources(self.model.finish(self._state))
        return self._joined([np.concatenate([est, last], axis=2)], last=True)

    def _begin(self, channels: int) -> None:
        self._channels, self._sources = channels, self.model.n_src
        self._down = LiveResampler(self.rate, self.inner, channels)
        self._up = LiveResampler(self.inner, self.rate, self._sources * channels)
        self._state = self.model.begin(channels)
        self._held = np.zeros((channels, 0), np.float32)

    def _parts(self, wave: np.ndarray) -> Iterator[np.ndarray]:
        size = max(1, round(_PART_S * self.rate))
        for at in range(0, max(wave.shape[1], 1), size):
            yield self._down.push(wave[:, at : at + size])

    def _model(self, wave: np.ndarray) -> np.ndarray:
        """Return the next estimates (N, C, t) after a block (C, L), both at the model's rate."""
        with torch.inference_mode():
            est, self._state = self.model.step(torch.from_numpy(wave).to(self.device), self._state)
            return _sources(est)

    def _joined(self, parts: Iterator[np.ndarray] | list[np.ndarray], last: bool = False) -> np.ndarray:
        """Return estimates (N, C, t) at the input's rate, in the shape of the input, no more than were taken."""
        rows = [self._up.push(part.reshape(self._sources * self._channels, -1), last) for part in parts]
        flat = np.concatenate(rows, axis=1)[:, : self._taken - self._given]
        sources = flat.reshape(self._sources, self._channels, -1)
        self._given += sources.shape[2]
        if self.how.rest == "source":
            wave, self._held = np.split(self._held, [sources.shape[2]], axis=1)
            rest = (wave - sources.sum(0, dtype=np.float64)).astype(np.float32)
            sources = np.concatenate([sources, rest[None]])
        return self._intake.shaped(sources)


def _sources(est: Tensor) -> np.ndarray:
    """Return estimates (C, N, t) of channels as rows as an array (N, C, t)."""
    return np.ascontiguousarray(est.transpose(0, 1).cpu().numpy())
