"""Joining the estimates of successive chunks into whole sources, each source in its own place throughout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from usepcli.dsp import overlap as ola

VOICE_WEIGHT = 1.0
_PAUSE = 1e-3  # 30 dB below the usual power: half the say


@dataclass(frozen=True)
class Seam:
    """One join: where (samples at the model's rate), the order chosen, and its lead over the second best order.

    The lead is about 2 for a clear match of two sources and near 0 for a guess; `order[i]` is the output of
    the new chunk that continues source i.
    """

    position: int
    order: tuple[int, ...]
    lead: float

    @property
    def swapped(self) -> bool:
        """True if the chunk's own order was changed."""
        return self.order != tuple(range(len(self.order)))


class Stitcher:
    """Takes chunk estimates (N, C, L) in order of time and gives back the joined sources piece by piece.

    A new chunk is matched with what is known of each source: its waveform where the chunks overlap
    (normalised correlation), and its long-term spectrum, which decides when the overlap is silent. The best
    assignment is found by the Hungarian method. Memory: one chunk.
    """

    def __init__(self, overlap: int, rate: int) -> None:
        self.overlap, self.rate = overlap, rate
        self.seams: list[Seam] = []
        self._old: np.ndarray | None = None  # estimates of the last chunk
        self._old_stop = 0
        self._open: np.ndarray | None = None  # what the next chunk may still change: the last `overlap` samples
        self._voice: ola.Voice | None = None
        self._power, self._length = 0.0, 0

    def push(self, start: int, estimates: np.ndarray) -> np.ndarray:
        """Add the estimates (N, C, L) of the chunk that begins at `start`; return what is final (N, C, T)."""
        new = link_channels(estimates, self.rate)
        heard = ola.describe(new, self.rate)
        joined = new
        if self._old is not None and self._voice is not None:
            order = self._match(start, new, heard)
            new, heard = new[order], self._voice + heard.permuted(order)
            joined = self._join(start, new)
        self._power += float(np.square(new.sum(0), dtype=np.float64).sum())
        self._length += new.shape[2]
        self._old, self._old_stop, self._voice = new, start + new.shape[2], heard
        ready = max(0, joined.shape[2] - self.overlap)
        self._open = joined[:, :, ready:]
        return joined[:, :, :ready]

    def finish(self) -> np.ndarray:
        """Return the rest (N, C, T) after the last chunk."""
        assert self._open is not None
        return self._open

    def _match(self, start: int, new: np.ndarray, heard: ola.Voice) -> np.ndarray:
        assert self._old is not None and self._voice is not None
        shared = self._old_stop - start
        old, fresh = self._old[:, :, -shared:], new[:, :, :shared]
        # In a pause the overlap holds noise, which the model shares out at random: it may not vote.
        power = float(np.square(old.sum(0), dtype=np.float64).mean())
        usual = self._power / max(self._length, 1)
        trust = power / (power + _PAUSE * usual) if power > 0 else 0.0
        score = trust * ola.similarity(old, fresh) + VOICE_WEIGHT * ola.voice_similarity(self._voice, heard)
        order, lead = ola.best_order(score)
        self.seams.append(Seam(start, tuple(int(k) for k in order), lead))
        return order

    def _join(self, start: int, new: np.ndarray) -> np.ndarray:
        assert self._open is not None
        shared = self._old_stop - start
        faded = ola.cross_fade(self._open, new[:, :, shared - self._open.shape[2] : shared])
        return np.concatenate([faded, new[:, :, shared:]], axis=2)


def link_channels(estimates: np.ndarray, rate: int) -> np.ndarray:
    """Give every channel of estimates (N, C, L) the source order of the loudest one.

    Channels are separated one by one, so a model may return them in different orders; they are compared by
    the course of their band levels over time, which a delay between microphones does not disturb.
    """
    n_src, channels = estimates.shape[:2]
    if n_src == 1 or channels == 1:
        return estimates
    bands = [np.sqrt(ola.band_power(estimates[:, c : c + 1], rate)) for c in range(channels)]
    guide = int(np.argmax([b.sum() for b in bands]))
    linked = estimates.copy()
    for channel in range(channels):
        if channel != guide:
            order, _ = ola.best_order(ola.similarity(bands[guide], bands[channel]))
            linked[:, channel] = estimates[order, channel]
    return linked
