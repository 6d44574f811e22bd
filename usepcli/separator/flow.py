"""One stream on its way: resample, cut, estimate, stitch, resample back, and account for every sample.

Letters: N sources, R rows that go through the model, C channels, L or t samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator

import numpy as np
from torch import Tensor

from usepcli.audio.resample import StreamResampler, resample
from usepcli.dsp import image, rest
from usepcli.dsp.overlap import Chunker, best_order, similarity
from usepcli.errors import BadInput
from usepcli.separator.how import SPEEDS, How, Trace, two_of
from usepcli.separator.presence import Evidence
from usepcli.separator.stitch import Stitcher, link_channels

# Waves (R, L) to estimates (R, N, L), at the model's rate; of a model of C channels also (R, C, L) to (R, N, C, L).
Rows = Callable[[np.ndarray], np.ndarray]

_PART_S = 1.0  # of sources that are brought back to the input's rate at once: most of a stream's memory is there
_SHIFT_S = 0.5
_MANY_CHANNELS = 64  # with fewer samples than that, a waveform was given as (T, C)
_TAME = 2.0**20  # peaks from 1 / this up to this go to the model as they are


class Intake:
    """Takes the blocks (T,) or (C, T) of one stream, arrays or tensors, as arrays (C, T) of float32."""

    def __init__(self) -> None:
        self.ndim = self.channels = 0

    def __call__(self, block: np.ndarray | Tensor) -> np.ndarray:
        """Return a block as (C, T); BadInput where it cannot be separated or does not go with those before."""
        try:
            array = block.detach().cpu().numpy() if isinstance(block, Tensor) else np.asarray(block)
        except (ValueError, TypeError) as err:  # rows of different lengths; a tensor that NumPy does not know
            raise BadInput(f"waveform that is no array ({err}); expected (T,) or (C, T) of floating point") from err
        self.ndim = self.ndim or array.ndim
        wave = _checked(array, self.ndim)
        self.channels = self.channels or len(wave)
        if len(wave) != self.channels:
            raise BadInput(f"block of {len(wave)} channels after blocks of {self.channels}")
        return wave

    def shaped(self, sources: np.ndarray) -> np.ndarray:
        """Return sources (N, C, t) as (N, t) where the blocks were (T,)."""
        return sources[:, 0] if self.ndim == 1 else sources


def _checked(block: np.ndarray, ndim: int) -> np.ndarray:
    """Return a block as (C, T) float32; BadInput where it cannot be separated."""
    if block.ndim != ndim or ndim not in (1, 2):
        raise BadInput(f"waveform of shape {block.shape}; expected (T,) or (C, T), the same in every block")
    if not block.shape[0] and ndim == 2:
        raise BadInput(f"waveform of shape {block.shape}; expected at least one channel")
    if ndim == 2 and block.shape[0] > max(block.shape[1], _MANY_CHANNELS):
        raise BadInput("waveform of {} channels with {} samples; expected (C, T), pass wave.T".format(*block.shape))
    if not np.issubdtype(block.dtype, np.floating):
        raise BadInput(f"waveform of {block.dtype}; expected floating point with full scale 1 (int16 / 32768)")
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite
        wave = np.ascontiguousarray(np.atleast_2d(block), np.float32)
    if not np.isfinite(wave).all():
        raise BadInput("waveform with NaN or infinite samples; repair it first")
    return wave


def shifted(rows: Rows, shifts: int, rate: int, ordered: bool = False) -> Rows:
    """Return rows that are asked `shifts` times, each time later by another part of half a second, and averaged.

    What depends on where the model's frames fall differs between the answers and shrinks in their mean.
    """
    delays = [round(k * _SHIFT_S * rate / shifts) | 1 for k in range(1, shifts)]  # odd: between the frames of any model

    def answers(waves: np.ndarray) -> Iterator[np.ndarray]:
        for late in delays:
            yield rows(np.pad(waves, (*((0, 0),) * (waves.ndim - 1), (late, 0))))[..., late:]

    return _averaged(rows, answers, ordered) if delays else rows


def sped(rows: Rows, speeds: int, ordered: bool = False) -> Rows:
    """Return rows that are asked at `speeds` speeds, the true one among them, and averaged at the true one.

    A model that takes voices for one another does so less where they are higher or lower, and the mean has less of it.
    """

    def answers(waves: np.ndarray) -> Iterator[np.ndarray]:
        for before, after in SPEEDS[1:speeds]:
            yield resample(rows(resample(waves, before, after)), after, before)[..., : waves.shape[-1]]

    return _averaged(rows, answers, ordered) if speeds > 1 else rows


def _averaged(rows: Rows, more: Callable[[np.ndarray], Iterator[np.ndarray]], ordered: bool) -> Rows:
    """Return rows that give the mean of their own answer and of more, each in the order of the first.

    ordered: the model keeps an order of its own.
    """

    def average(waves: np.ndarray) -> np.ndarray:
        total, count = rows(waves).copy(), 1
        for found in more(waves):
            for one, other in zip(total, found, strict=True):
                one += other if ordered else other[best_order(similarity(one / count, other))[0]]
            count += 1
        return total / np.float32(count)

    return average


def estimate(
    chunk: np.ndarray, n_src: int, rate: int, how: How, rows: Rows, ordered: bool = False, asked: bool = False,
    together: int = 1,
) -> np.ndarray:  # fmt: skip
    """Return the estimates (N, C, L) of one chunk (C, L) at the model's rate; silence stays silent.

    With rest "share" they add up to the chunk.  ordered: every row's estimates come in the order of the sources.
    asked: they answer queries, and but for "share" none depends on what else is asked.  together: channels that the
    model hears at once; so many, linked, are its own affair.
    """
    peak = float(np.abs(chunk).max(initial=0.0))
    if peak == 0:
        return np.zeros((n_src, *chunk.shape), np.float32)
    # Squares of extreme levels leave the range of float32; a power of two changes no digit.
    scale = 1.0 if 1 / _TAME <= peak <= _TAME else 2.0 ** -np.floor(np.log2(peak))
    wave = chunk if scale == 1 else (chunk * np.float64(scale)).astype(np.float32)
    if how.channels == "linked" and 1 < len(wave) == together:
        found = rows(wave[None])[0]
        found = rest.share(found, wave, rate) if how.rest == "share" else found
    elif how.channels == "linked" and len(wave) > 1:
        found = _linked(wave, n_src, rate, how, rows, asked and how.rest != "share")
    else:
        found = _each(wave, n_src, rate, rows, ordered)
        found = rest.share(found, wave, rate) if how.rest == "share" else found
    return found if scale == 1 else (found / np.float64(scale)).astype(np.float32)


def _linked(wave: np.ndarray, n_src: int, rate: int, how: How, rows: Rows, apart: bool) -> np.ndarray:
    """Return the estimates (N, C, L) of a chunk whose channels are all divided by one decision.

    apart: one decision for each source, between it and all the rest.
    """
    guide = image.guide(wave, rate)  # (L,)
    sources = rows(guide[None]).swapaxes(0, 1)  # (N, 1, L)
    if apart:
        return np.stack([image.apart(source[0], guide, wave, rate) for source in sources])
    if how.rest == "share":
        return image.spread(rest.share(sources, guide[None], rate)[:, 0], guide, wave, rate)
    # What the model leaves out of the guide is left out of the channels: it takes its part like a source.
    whole = np.concatenate([sources[:, 0], guide[None] - sources.sum(0)])
    return image.spread(whole, guide, wave, rate)[:n_src]


def _each(wave: np.ndarray, n_src: int, rate: int, rows: Rows, ordered: bool) -> np.ndarray:
    """Return the estimates (N, C, L) of channels separated one by one, in one source order."""
    out = np.zeros((n_src, *wave.shape), np.float32)
    live = [c for c in range(len(wave)) if wave[c].any()]
    # Two equal channels, the usual "stereo" recording of speech, cost one pass of the model.
    twins = {c: next(d for d in live if np.array_equal(wave[c], wave[d])) for c in live}
    todo = sorted(set(twins.values()))
    found = dict(zip(todo, rows(wave[todo]), strict=True))
    for channel, twin in twins.items():
        out[:, channel] = found[twin]
    return out if ordered else link_channels(out, rate)


class Flow:
    """Takes blocks (C, t) at `rate` and gives back sources (N, C', t), in constant memory.

    What is given out adds up to what was taken, as far as `how.rest` says; `trace` keeps the account.
    """

    def __init__(
        self,
        rows: Rows,
        n_src: int,
        inner: int,
        chunk: int,
        overlap: int,
        rate: int,
        how: How,
        trace: Trace,
        ordered: bool = False,
        absent: Collection[int] | None = None,
        together: int = 1,
        alone: int | None = None,
    ) -> None:
        """Take what to ask, in chunks of samples at the rate `inner`, and what is noted.

        absent: of a model that was asked, the answers that are silenced; None for a model that was not.  together: as
        in `estimate`.  alone: the one source that is not added up with the others, None where none is.
        """
        self.together, self.alone = together, alone
        self.absent = absent
        if absent is not None:
            trace.evidence = Evidence(n_src, inner)
        self.rows, self.n_src, self.inner, self.rate, self.how, self.trace = rows, n_src, inner, rate, how, trace
        self.ordered = ordered
        self._chunker, self._stitcher = Chunker(chunk, overlap), Stitcher(overlap, inner, trace.seams, ordered)
        self._weights = rest.Weights(n_src, inner, rate, high=rate > inner) if how.rest == "share" else None
        self.channels = self.taken = self._given = 0
        self._held: list[np.ndarray] = []  # input that waits for its sources
        self._late: list[np.ndarray] = []  # sources that wait for their weights

    def push(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """Take a block (C, t), t >= 1; yield the sources that are final."""
        wave = self.how.heard(block)
        if not self.taken:
            self.channels = len(wave)
            self._down = StreamResampler(self.rate, self.inner, self.channels)
            self._up = StreamResampler(self.inner, self.rate, self.n_src * self.channels)
        self.taken += wave.shape[1]
        self._held.append(wave)
        for start, chunk in self._chunker.push(self._down.push(wave)):
            yield from self._back(self._stitcher.push(start, self._estimate(start, chunk)))

    def finish(self) -> Iterator[np.ndarray]:
        """Yield all the rest."""
        # A little silence behind the end, so that the resamplers have the last sample between two others.
        pad = 0 if self.rate == self.inner else -(-2 * self.rate // self.inner)
        tail = self._down.push(np.zeros((self.channels, pad), np.float32), last=True)
        for start, chunk in self._chunker.push(tail, last=True):
            yield from self._back(self._stitcher.push(start, self._estimate(start, chunk)))
        yield from self._back(self._stitcher.finish(), last=True)

    def _estimate(self, start: int, chunk: np.ndarray) -> np.ndarray:
        asked = self.absent is not None
        found = estimate(chunk, self.n_src, self.inner, self.how, self.rows, self.ordered, asked, self.together)
        if self.trace.evidence is not None:
            self.trace.evidence.push(start, chunk, found)
        if self.absent:
            found[list(self.absent)] = 0
        return found

    def _back(self, sources: np.ndarray, last: bool = False) -> Iterator[np.ndarray]:
        """Bring the next sources (N, C, t) at the model's rate back to the input's rate and complete them."""
        size = max(1, round(_PART_S * self.inner))
        ends = range(size, sources.shape[2], size)
        for begin, end in itertools.pairwise((0, *ends, sources.shape[2])):
            yield from self._part_back(sources[:, :, begin:end], last and end == sources.shape[2])

    def _part_back(self, sources: np.ndarray, last: bool) -> Iterator[np.ndarray]:
        flat = self._up.push(sources.reshape(self.n_src * self.channels, -1), last)
        self._late.append(flat.reshape(self.n_src, self.channels, -1))
        waiting = self._late[0] if len(self._late) == 1 else np.concatenate(self._late, axis=2)
        count = min(waiting.shape[2], self.taken - self._given)
        if self._weights is not None:
            self._weights.hear(sources, last)
            known = self._weights.ready()
            count = count if known is None else min(count, known)
        self._late = [waiting[:, :, count:]]
        if count:
            self._given += count
            yield self._complete(waiting[:, :, :count])

    def _complete(self, sources: np.ndarray) -> np.ndarray:
        """Return sources (N, C, t) with what the input has beyond them put where `how.rest` says."""
        wave = self._take(sources.shape[2])
        if self.how.rest != "leave":
            gap = wave - sources.sum(0, dtype=np.float64)
            if self._weights is not None:
                sources = sources + self._weights.take(sources.shape[2])[:, None] * gap
            else:
                sources = np.concatenate([sources, gap[None]])
            sources = sources.astype(np.float32)
        self.trace.null.add(wave, sources)
        return sources if self.alone is None else two_of(sources, self.alone, self.n_src)

    def _take(self, count: int) -> np.ndarray:
        """Remove and return the first `count` samples (C, count) of the held input."""
        whole = self._held[0] if len(self._held) == 1 else np.concatenate(self._held, axis=1)
        self._held = [whole[:, count:]]
        return whole[:, :count]
