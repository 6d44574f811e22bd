"""The one way from a waveform or a file to its sources; the command line only parses, names and prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from usepcli.audio import io
from usepcli.audio.resample import StreamResampler
from usepcli.dsp.overlap import Chunker
from usepcli.engine import checkpoint
from usepcli.engine import device as devices
from usepcli.engine.stitch import Seam, Stitcher
from usepcli.errors import BadInput, UsageError, WorkerDied
from usepcli.models.separator import SeparationModel

CHUNK_S, OVERLAP_S = 10.0, 1.0
_BLOCK_S = 4.0
_FLOOR_S = 1.0  # chunks are not halved below this when the device runs out of memory

Watch = Callable[[Iterable[np.ndarray], int, str], Iterable[np.ndarray]]  # blocks, their number, a name


@dataclass(frozen=True)
class Separation:
    """Sources (N, T) or (N, C, T) of a waveform (T,) or (C, T), at its rate in Hz, in its kind of array."""

    sources: Any
    rate: int

    def __len__(self) -> int:
        return len(self.sources)


class Separator:
    """A loaded model that separates waveforms, streams and files of any length, rate and number of channels.

    Long signals go through in chunks of `chunk_s` seconds that overlap and are cross-faded, each source
    followed from chunk to chunk; memory does not grow with the length. Channels are separated one by one and
    given the same source order, so that a source keeps its place in the stereo image. Where the model's rate
    is lower than the signal's, the sources hold what lies below half the model's rate.
    """

    def __init__(
        self,
        model: SeparationModel,
        card: checkpoint.Card | None = None,
        device: torch.device | str = "cpu",
        chunk_s: float = CHUNK_S,
    ) -> None:
        if not chunk_s >= _FLOOR_S:
            raise UsageError(f"--chunk-s: found {chunk_s:g}; expected at least {_FLOOR_S:g} second")
        self.model = model.eval().to(device)
        self.card = card or checkpoint.Card()
        self.device, self.chunk_s = torch.device(device), chunk_s
        self.rate, self.n_src = model.sample_rate, model.n_src
        self._fits = round(chunk_s * self.rate)  # longest chunk (samples) that the device's memory held so far

    @classmethod
    def load(
        cls, ref: str | Path = "default", device: str = "auto", threads: int = 0, chunk_s: float = CHUNK_S
    ) -> Separator:
        """Load a released model by name, a .safetensors file or a run folder; errors as in load_model."""
        devices.keep_heap()
        devices.set_threads(threads)
        where = devices.pick(device)
        model, card = checkpoint.load_model(ref)
        return cls(model, card, where, chunk_s)

    def __call__(self, wave: np.ndarray | Tensor, rate: int) -> Separation:
        """Separate a waveform (T,) or (C, T) sampled at `rate` Hz; BadInput if it is empty or not finite."""
        array = wave.detach().cpu().numpy() if isinstance(wave, Tensor) else np.asarray(wave)
        pieces = list(self.stream([array], rate))
        sources = np.concatenate(pieces, axis=-1)
        return Separation(torch.from_numpy(sources).to(wave.device) if isinstance(wave, Tensor) else sources, rate)

    def stream(self, blocks: Iterable[np.ndarray], rate: int, seams: list[Seam] | None = None) -> Iterator[np.ndarray]:
        """Yield the sources (N, C, t) of blocks (C, T), or (N, t) of blocks (T,), about one chunk behind.

        All pieces together are as long as all blocks together. `seams`, if given, receives one entry per
        join. BadInput for blocks that are empty as a whole, not floating point, not finite, or change shape.
        """
        run, ndim = None, 0
        for block in blocks:
            ndim = ndim or block.ndim
            wave = _checked(block, ndim)
            if run is None:
                run = _Run(self, rate, len(wave))
            if len(wave) != run.channels:
                raise BadInput(f"block of {len(wave)} channels after blocks of {run.channels}")
            if wave.shape[1]:
                yield from (piece[:, 0] if ndim == 1 else piece for piece in run.push(wave))
        if run is None or not run.taken:
            raise BadInput("waveform without samples; expected at least one")
        yield from (piece[:, 0] if ndim == 1 else piece for piece in run.finish())
        if seams is not None:
            seams.extend(run.seams)

    def file(self, path: Path, seams: list[Seam] | None = None, watch: Watch | None = None) -> Iterator[np.ndarray]:
        """Yield the sources (N, C, t) of a sound file; BadInput or InputNotFound if it cannot be used."""
        info = io.info(path)
        frames = round(_BLOCK_S * info.rate)
        blocks: Iterable[np.ndarray] = io.blocks(path, frames)
        if watch:
            blocks = watch(blocks, -(-info.frames // frames), io.show(path.name))
        yield from self.stream(blocks, info.rate, seams)

    def estimate(self, chunk: np.ndarray) -> np.ndarray:
        """Return the estimates (N, C, L) of one chunk (C, L) at the model's rate; silence stays silent."""
        out = np.zeros((self.n_src, *chunk.shape), np.float32)
        live = [c for c in range(len(chunk)) if chunk[c].any()]
        # Two equal channels, the usual "stereo" recording of speech, cost one pass of the model.
        twins = {c: next(d for d in live if np.array_equal(chunk[c], chunk[d])) for c in live}
        todo = sorted(set(twins.values()))
        if todo:
            est = dict(zip(todo, self._model(chunk[todo]), strict=True))
            for channel, twin in twins.items():
                out[:, channel] = est[twin]
        return out

    def _model(self, waves: np.ndarray) -> np.ndarray:
        """Return estimates (C, N, L) of waves (C, L); in smaller chunks if the device's memory is too small."""
        if waves.shape[1] <= self._fits:
            try:
                with torch.inference_mode():
                    return self.model(torch.from_numpy(waves).to(self.device)).cpu().numpy()
            except torch.OutOfMemoryError as fault:
                if waves.shape[1] <= _FLOOR_S * self.rate:
                    raise WorkerDied(
                        f"device '{self.device}': out of memory even for one second; use --device cpu"
                    ) from fault
                # The parts are made outside this handler: the failed attempt's tensors are free by then.
                self._fits = max(waves.shape[1] // 2, int(_FLOOR_S * self.rate))
        smaller = Separator(self.model, self.card, self.device, self._fits / self.rate)
        parts = list(smaller.stream([waves], self.rate))
        self._fits = min(self._fits, smaller._fits)
        return np.concatenate(parts, axis=2).swapaxes(0, 1)


class _Run:
    """One stream on its way: resample, cut, estimate, stitch, resample back."""

    def __init__(self, separator: Separator, rate: int, channels: int) -> None:
        self.separator, self.rate, self.channels = separator, rate, channels
        inner, n_src = separator.rate, separator.n_src
        chunk = round(separator.chunk_s * inner)
        overlap = round(min(OVERLAP_S, separator.chunk_s / 4) * inner)
        self._down = StreamResampler(rate, inner, channels)
        self._up = StreamResampler(inner, rate, n_src * channels)
        self._chunker = Chunker(chunk, overlap)
        self._stitcher = Stitcher(overlap, inner)
        self.taken = self._given = 0

    @property
    def seams(self) -> list[Seam]:
        return self._stitcher.seams

    def push(self, block: np.ndarray) -> Iterator[np.ndarray]:
        self.taken += block.shape[1]
        for start, chunk in self._chunker.push(self._down.push(block)):
            yield from self._back(self._stitcher.push(start, self.separator.estimate(chunk)))

    def finish(self) -> Iterator[np.ndarray]:
        # A little silence behind the end, so that the resamplers have the last sample between two others.
        pad = 0 if self.rate == self.separator.rate else -(-2 * self.rate // self.separator.rate)
        rest = self._down.push(np.zeros((self.channels, pad), np.float32), last=True)
        for start, chunk in self._chunker.push(rest, last=True):
            yield from self._back(self._stitcher.push(start, self.separator.estimate(chunk)))
        yield from self._back(self._stitcher.finish(), last=True)

    def _back(self, sources: np.ndarray, last: bool = False) -> Iterator[np.ndarray]:
        n_src, channels, length = sources.shape
        flat = self._up.push(sources.reshape(n_src * channels, length), last)
        piece = flat[:, : self.taken - self._given].reshape(n_src, channels, -1)
        self._given += piece.shape[2]
        if piece.shape[2]:
            yield piece


def _checked(block: np.ndarray, ndim: int) -> np.ndarray:
    """Return a block as (C, T) float32; BadInput where it cannot be separated."""
    if block.ndim != ndim or ndim not in (1, 2):
        raise BadInput(f"waveform of shape {block.shape}; expected (T,) or (C, T), the same in every block")
    if not np.issubdtype(block.dtype, np.floating):
        raise BadInput(f"waveform of {block.dtype}; expected floating point with full scale 1 (int16 / 32768)")
    if not np.isfinite(block).all():
        raise BadInput("waveform with NaN or infinite samples; repair it first")
    return np.ascontiguousarray(np.atleast_2d(block), np.float32)
