"""Joining the estimates of successive chunks into whole sources, each source in its own place throughout."""

from __future__ import annotations

import math

import numpy as np

from usepcli.dsp import overlap as ola
from usepcli.separator.how import Seam

# Say of the memory of spectra beside the overlap. On 6 five-minute pairs of unseen talkers, pauses up to 15 s, it
# left 15 % of the seconds in the wrong order; half or twice as much say, 17 or 18 %; knowing the talkers, 11 %.
VOICE_WEIGHT = 2.0
_PAUSE = 1e-3  # 30 dB below the usual power: half the say
_SAME = 0.01  # an overlap that differs by less than this share of its energy needs no memory
_LEAD = 0.35


def confidence(lead: float) -> float:
    """Return how sure an order is, 0.5 (as good as drawn) to 1, from its lead over the second best.

    1 - exp(-lead / 0.35) / 2, set on recordings with known talkers: of 278 seams with 0.9 or more, 276 were right, of
    14 with less, 12.
    """
    return 1 - math.exp(-lead / _LEAD) / 2


class Stitcher:
    """Takes chunk estimates (N, C, L) in order of time and gives back the joined sources piece by piece.

    A new chunk is matched with what is known of each source: its waveform where the chunks overlap
    (normalised correlation), and its long-term spectrum, which decides when the overlap is silent. The best
    assignment is found by the Hungarian method. Memory: one chunk. `ordered`: the outputs of every chunk stand in
    the order of the sources already.
    """

    def __init__(self, overlap: int, rate: int, seams: list[Seam] | None = None, ordered: bool = False) -> None:
        self.overlap, self.rate, self.ordered = overlap, rate, ordered
        self.seams: list[Seam] = [] if seams is None else seams
        self._old: np.ndarray | None = None  # estimates of the last chunk
        self._old_stop = 0
        self._open: np.ndarray | None = None  # what the next chunk may still change: the last `overlap` samples
        self._voice: ola.Voice | None = None
        self._power, self._length = 0.0, 0

    def push(self, start: int, estimates: np.ndarray) -> np.ndarray:
        """Add the estimates (N, C, L) of the chunk that begins at `start`; return what is final (N, C, T)."""
        new = estimates
        heard = ola.describe(new, self.rate)
        joined = new
        if self._old is not None and self._voice is not None:
            order = self._match(start, new, heard)
            new, heard = new[order], self._voice + heard.permuted(order)
            joined = self._join(start, new)
        self._power += float(np.square(new.sum(0), dtype=np.float64).sum())
        self._length += new.shape[2]
        self._old, self._old_stop, self._voice = new, start + new.shape[2], heard
        # A chunk of L samples is final up to L - overlap: there the next chunk begins to fade in.
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
        # 0.5 at 30 dB below the usual power, 1 far above it: p / (p + p0) is the Wiener gain of speech over noise p0.
        trust = power / (power + _PAUSE * usual) if power > 0 else 0.0
        alike = ola.similarity(old, fresh)
        # Estimates that agree almost exactly are the same ones, whatever they sound like.
        # 1 - sum_i 2 <a_i, b_i> / (|a|^2 + |b|^2) = |a - b|^2 / (|a|^2 + |b|^2), over all sources in the best order.
        gap = 1 - alike[np.arange(len(alike)), ola.best_order(alike)[0]].sum()
        doubt = min(1.0, max(0.0, float(gap)) / _SAME)
        voice = ola.voice_similarity(self._voice, heard)
        order, lead = ola.best_order(trust * alike + VOICE_WEIGHT * doubt * voice)
        if self.ordered:
            order, lead = np.arange(len(new)), math.inf
        self.seams.append(
            Seam(
                position=self._old_stop - min(shared, self.overlap),
                order=tuple(int(k) for k in order),
                lead=lead,
                confidence=confidence(lead),
                quiet=power <= _PAUSE * usual,
                rate=self.rate,
            )
        )
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
