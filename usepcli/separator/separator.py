"""The one way from a waveform or a file to its sources; the command line only parses, names and prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor

from usepcli import device as devices
from usepcli import guard
from usepcli.audio import io
from usepcli.errors import BadInput, UsageError, WorkerDied
from usepcli.models.queried import Bound, Example, Model, QueriedModel
from usepcli.models.separator import SeparationModel
from usepcli.separator import engines, words
from usepcli.separator.examples import heard
from usepcli.separator.flow import Flow, Intake, Rows, shifted, sped
from usepcli.separator.how import (
    FLOOR_S,
    OVERLAP_S,
    USUAL,
    How,
    Null,
    Seam,
    Trace,
    check_chunk,
    checked_rate,
    default_chunk_s,
    names_of,
    place_of,
)
from usepcli.separator.live import LIVE, Live
from usepcli.separator.presence import EVEN
from usepcli.weights import cards, store

__all__ = ["How", "Live", "Null", "Seam", "Separation", "Separator", "Trace", "Watch"]

_BLOCK_S = 4.0
_RELEASE_S = 120.0  # of sound, after which the holes in the heap go back to the system
_ROWS = 8  # channels of a file that go through the model at once; 16 take half as long again for each
_BATCH_S = 60.0  # audio that `batch` sends through the model at once
_WAIT_S = 0.2  # what resampling both ways and the weights of the rest hold back

Wave = np.ndarray | Tensor  # (T,) or (C, T)
Watch = Callable[[Iterable[np.ndarray], int, str], Iterable[np.ndarray]]  # blocks, their number, a name


@dataclass(frozen=True)
class Separation:
    """Sources (N, T) or (N, C, T) of a waveform (T,) or (C, T), at its rate in Hz, in its kind of array.

    `names` are what the sources are called: the queries of a model that was asked, else "1", "2", ..., and "residual"
    where the rest is one more source, the last. `presence` says for each query how likely the sound is there at all,
    0.5 being even odds; () for other models and for one that was not calibrated. What was judged absent (below 0.5) is
    silent, and in the residual, unless the model was asked with `always`.
    """

    sources: Any
    rate: int
    names: tuple[str, ...] = ()
    presence: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.sources)


class Separator:
    """A loaded model that separates waveforms, streams and files of any length, rate and number of channels.

    Long signals go through in chunks of `chunk_s` seconds that overlap and are cross-faded, each source
    followed from chunk to chunk; memory does not grow with the length. What happens to channels, and to what
    the model leaves over or cannot hear (above half its rate), is said by `How`; by default a source keeps its
    place in the stereo image and the sources add up to the input.
    """

    ref = ""  # where `load` found the model
    engine = engines.TORCH  # what computes the network
    always = False  # whether what is judged absent sounds nevertheless
    _asked: tuple[words.Query, ...] = ()

    def __init__(
        self,
        model: Model,
        card: cards.Card | None = None,
        device: torch.device | str = "cpu",
        chunk_s: float = 0.0,
    ) -> None:
        card = card or cards.Card()
        field_s = (model.receptive_field_samples or 0) / model.sample_rate
        chunk_s = chunk_s or model.segment_s or default_chunk_s(card.segment_s, field_s)
        check_chunk(chunk_s)
        self.model = model.eval().to(device)
        self.card = card
        self.device, self.chunk_s = torch.device(device), chunk_s
        self.rate, self.n_src = model.sample_rate, model.n_src
        self._chunk = round(chunk_s * self.rate)
        # Samples that go through at once: what the model is made for, or what the device's memory has said it holds.
        self._fits: float = self._chunk if model.segment_s else math.inf

    @classmethod
    def load(
        cls, ref: str | Path = "default", device: str = "auto", threads: int = 0, chunk_s: float = 0.0,
        engine: str = engines.TORCH, say: Callable[[str], None] = lambda line: None,
    ) -> Self:  # fmt: skip
        """Load a released model by name, a .safetensors file or a run folder; errors as in load_model, engines.check.

        engine: what computes the network, one of engines.NAMES; `say` is told how far its sources are from torch's.
        """
        engines.check(engine, str(ref), device)
        devices.keep_heap()
        devices.set_threads(threads)
        model, card = store.load_any(ref)
        where = devices.pick("cpu" if device == "auto" and (model.on_cpu or engine != engines.TORCH) else device)
        found = cls(model, card, where, chunk_s)
        found.ref, found.engine = str(ref), engine
        if engine != engines.TORCH:
            from usepcli.separator import graphs

            graphs.engage(cast(SeparationModel, model), ref, engine, found.chunk_s, say)
        return found

    @property
    def by_query(self) -> bool:
        """True for a model that does not know yet what it is asked for: `ask` comes before anything else."""
        return isinstance(self.model, QueriedModel)

    @property
    def queries(self) -> tuple[str, ...]:
        """What the model was asked for, () for one that takes no queries or was asked for nothing yet."""
        return self.model.queries if isinstance(self.model, Bound) else ()

    def ask(self, queries: Sequence[words.Query], always: bool = False) -> Self:
        """Return the separator of these queries, one source for each in their order, with the same weights in memory.

        A query is words, or the path of a clip that sounds like what is meant, for a model that hears such.  What no
        query names is one more source, the residual, unless `How.rest` says other; of one query it cannot be shared
        out.  An answer is the same whatever else is asked.  always: what is judged absent is not silenced.
        UsageError for a model that takes no queries, and for none, an empty one, or one that is asked twice.
        """
        if isinstance(queries, (str, Path)) or not queries:
            raise UsageError(f"queries: found {queries!r}; expected a list of words such as ['a dog barks', 'rain']")
        told = iter(words.checked([query for query in queries if not isinstance(query, Path)], "ask"))
        meant = [next(told) if not isinstance(query, Path) else query for query in queries]
        asked = self.bound(list(map(heard, meant)))
        asked.always, asked._asked = always, tuple(meant)
        return asked

    def bound(self, queries: Sequence[str | Example]) -> Self:
        """Return the separator of queries as they stand in a data set, one of which may come twice; else as `ask`."""
        net = self.model.net if isinstance(self.model, Bound) else self.model
        if not isinstance(net, QueriedModel):
            raise UsageError("this model takes no queries: its outputs are what it was trained for")
        found = type(self)(net.bound(queries), self.card, self.device, self.chunk_s)
        found._fits, found.ref = self._fits, self.ref
        return found

    @property
    def asked(self) -> tuple[words.Query, ...]:
        """What `ask` was given, in its order: words as text and clips as paths."""
        return self._asked

    def presence(self, trace: Trace) -> tuple[float, ...]:
        """Return how likely it is that each query is there, after a stream has ended; () where nothing can tell."""
        calibration = cards.calibration(self.card)
        if trace.evidence is None or calibration is None:
            return ()
        return trace.evidence.presence(calibration)

    def absent(self, trace: Trace) -> tuple[int, ...]:
        """Return the places of the queries that are judged absent after a stream has ended, whatever `always` says."""
        return tuple(k for k, odds in enumerate(self.presence(trace)) if odds < EVEN)

    def names(self, how: How = USUAL) -> tuple[str, ...]:
        """Return the names of what a stream yields: "1", "2", ..., and "residual" where it is a source.

        UsageError for a model that was not asked yet.
        """
        return names_of(self.sources, self._settled(how))

    @property
    def sources(self) -> int | tuple[str, ...]:
        """What the model calls its outputs, or their number."""
        return self._answering().stems or cards.kinds(self.card) or self.n_src

    def _settled(self, how: How) -> How:
        if not isinstance(how, How):
            raise UsageError(f"how: found {how!r}; expected How(channels=..., rest=...)")
        if how.two_stems and self.queries:
            raise UsageError("--two-stems: of sources that are asked for by name; with --query ask for that one alone")
        return how.settled(bool(self.queries))

    def channels_out(self, channels_in: int, how: How = USUAL) -> int:
        """Return the number of channels of every source of an input with `channels_in` channels."""
        return 1 if how.one_channel else channels_in

    @property
    def latency_s(self) -> float:
        """Seconds from a sample's arrival in a stream to the arrival of its sources: one chunk and a little.

        For live use, load with a short chunk (`chunk_s=1`), the model then hears less around every sample; or use a
        model that `live` takes.
        """
        return self.chunk_s + _WAIT_S

    @property
    def fits_s(self) -> float:
        """Seconds of one wave that go through at once: infinite, what the model is made for, or what memory held."""
        return self._fits / self.rate

    def __call__(self, wave: Wave, rate: int, how: How = USUAL, trace: Trace | None = None) -> Separation:
        """Separate a waveform (T,) or (C, T) sampled at `rate` Hz; BadInput if it is empty or not finite."""
        return self._whole(wave, rate, how, self.rows, trace)

    def batch(self, waves: Sequence[Wave], rate: int, how: How = USUAL) -> list[Separation]:
        """Separate waveforms of any lengths, chunks of equal length going through the model together.

        The results are those of one call each, within the rounding of the model (1e-6 of the peak).
        """
        if isinstance(waves, (str, bytes)) or not isinstance(waves, Iterable):
            raise BadInput(f"waves of type {type(waves).__name__}; expected a list of arrays or tensors")
        asked: list[np.ndarray] = []

        def note(rows: np.ndarray) -> np.ndarray:
            # What the model is asked does not depend on what it answers, so all questions can be put first.
            asked.append(rows)
            return np.zeros((len(rows), self.n_src, *rows.shape[1:]), np.float32)

        for wave in waves:
            self._whole(wave, rate, how, note)
        answers = iter(self._answers(asked))
        return [self._whole(wave, rate, how, lambda rows: next(answers)) for wave in waves]

    def _answers(self, asked: list[np.ndarray]) -> list[np.ndarray]:
        """Return the estimates (R, N, L) of each of the rows (R, L), rows of equal length in one batch."""
        found: list[np.ndarray] = [np.zeros(0)] * len(asked)
        for shape in sorted({rows.shape[1:] for rows in asked}):
            same = [k for k, rows in enumerate(asked) if rows.shape[1:] == shape]
            step = max(1, int(_BATCH_S * self.rate // math.prod(shape)))
            rows = np.concatenate([asked[k] for k in same])
            parts = np.concatenate([self.rows(rows[at : at + step]) for at in range(0, len(rows), step)])
            ends = np.cumsum([len(asked[k]) for k in same])
            for k, part in zip(same, np.split(parts, ends[:-1]), strict=True):
                found[k] = part
        return found

    def _whole(self, wave: Wave, rate: int, how: How, rows: Rows, trace: Trace | None = None) -> Separation:
        rate = checked_rate(rate)
        if not isinstance(wave, (np.ndarray, Tensor)) or not wave.ndim:
            raise BadInput(f"waveform of type {type(wave).__name__}; expected an array or a tensor, (T,) or (C, T)")
        size, length = max(1, round(_BLOCK_S * rate)), wave.shape[-1]
        blocks = [wave[..., at : at + size] for at in range(0, max(length, 1), size)]
        trace, how = trace or Trace(), self._settled(how)
        pieces = list(self._stream(blocks, rate, how, trace, rows))
        sources = np.concatenate([np.asarray(piece) for piece in pieces], axis=-1)
        if gone := [] if self.always or how.rest == "share" else list(self.absent(trace)):
            self._silence(sources, gone, wave, how)
        names = (*self.queries, *names_of(self.n_src, how)[self.n_src :]) if self.queries else self.names(how)
        out = torch.from_numpy(sources).to(wave.device) if isinstance(wave, Tensor) else sources
        return Separation(out, rate, names, self.presence(trace))

    def _silence(self, sources: np.ndarray, gone: list[int], wave: Wave, how: How) -> None:
        """Silence what is judged absent, which then is in the residual."""
        sources[gone] = 0
        if how.rest == "source":
            intake = Intake()
            heard = intake.shaped(how.heard(intake(wave))[None])[0]
            sources[-1] = heard - sources[:-1].sum(0, dtype=np.float64)

    def stream(
        self,
        blocks: Iterable[Wave],
        rate: int,
        how: How = USUAL,
        trace: Trace | None = None,
        absent: Collection[int] = (),
    ) -> Iterator[np.ndarray]:
        """Yield the sources (N, C, t) of blocks (C, T), or (N, t) of blocks (T,), `latency_s` behind.

        All pieces together are as long as all blocks together. `trace`, if given, fills while the stream runs; of a
        model that was asked, `absent(trace)` then tells which queries are not there; `absent` here silences such.
        BadInput for blocks that are empty as a whole, not floating point, not finite, or change shape.
        """
        yield from self._stream(blocks, rate, how, trace or Trace(), self.rows, absent)

    def live(self, rate: int, how: How = LIVE) -> Live:
        """Return a stream at `rate` Hz through a model that takes blocks as they come, milliseconds behind.

        The numbers are those of the model on the whole recording, without chunks and seams. ConfigError where the
        model is not live, UsageError where `how` needs long windows.
        """
        return Live(self._answering(), rate, self._settled(how), self.device)

    def _stream(
        self, blocks: Iterable[Wave], rate: int, how: How, trace: Trace, rows: Rows, absent: Collection[int] = ()
    ) -> Iterator[np.ndarray]:
        run, intake = self._flow(checked_rate(rate), self._settled(how), trace, rows, absent), Intake()
        if isinstance(blocks, (str, bytes)) or not isinstance(blocks, Iterable):
            raise BadInput(f"blocks of type {type(blocks).__name__}; expected arrays or tensors, one after the other")
        released = 0
        for block in blocks:
            if run.taken - released > _RELEASE_S * rate:
                released = run.taken
                devices.release_heap()
            wave = intake(block)
            if wave.shape[1]:
                yield from map(intake.shaped, run.push(wave))
        if not run.taken:
            raise BadInput("waveform without samples; expected at least one")
        yield from map(intake.shaped, run.finish())

    def _flow(self, rate: int, how: How, trace: Trace, rows: Rows, absent: Collection[int]) -> Flow:
        overlap = round(min(OVERLAP_S, self.chunk_s / 4) * self.rate)
        if how.overlap:
            overlap = max(1, min(round(how.overlap * self._chunk), self._chunk // 2))
        model = self._answering()
        rows = shifted(sped(rows, how.speeds, model.ordered), how.shifts, self.rate, model.ordered)
        if isinstance(model, Bound) and self.n_src == 1 and how.rest == "share":
            raise UsageError("rest: 'share' would give all others to the one source asked for; use leave or source")
        gone = absent if self.queries else None
        whole = self._chunk, overlap, rate, how, trace, model.ordered, gone, model.channels
        return Flow(rows, self.n_src, self.rate, *whole, place_of(how, self.sources))

    def _answering(self) -> SeparationModel:
        if isinstance(self.model, QueriedModel):
            raise UsageError("this model separates what it is asked for: call ask(['a dog barks', 'rain']) first")
        return self.model

    def file(
        self,
        path: Path,
        how: How = USUAL,
        trace: Trace | None = None,
        watch: Watch | None = None,
        absent: Collection[int] = (),
    ) -> Iterator[np.ndarray]:
        """Yield the sources (N, C, t) of a sound file; BadInput or InputNotFound if it cannot be used.

        absent: the queries whose answers are silenced; whether one is absent is known when the whole was heard.
        `watch` is asked for the blocks; where what it gives has a method `part`, that is told how many channels of how
        many have been through the model, each time that the model answers.
        """
        info = io.info(path, how.track)
        try:
            checked_rate(info.rate)
        except BadInput as fault:
            raise BadInput(f"{io.show(path)}: {fault}") from fault
        frames = round(_BLOCK_S * info.rate)
        blocks: Iterable[np.ndarray] = io.blocks(path, frames, track=how.track)
        if watch:
            blocks = watch(blocks, -(-info.frames // frames), io.show(path.name))
        rows = partial(self._in_parts, part=getattr(blocks, "part", None))
        yield from self._stream(blocks, info.rate, how, trace or Trace(), rows, absent)

    def _in_parts(self, waves: np.ndarray, part: Callable[[int, int], None] | None) -> np.ndarray:
        """Return `rows` of many channels, a few at a time: so memory is bounded, and somebody sees it go on."""
        found = []
        for at in range(0, len(waves), _ROWS):
            found.append(self.rows(waves[at : at + _ROWS]))
            if part:
                part(min(at + _ROWS, len(waves)), len(waves))
        return found[0] if len(found) == 1 else np.concatenate(found)

    def rows(self, waves: np.ndarray, normalize: bool = True) -> np.ndarray:
        """Return the model's own estimates (R, N, L) of whole waves (R, L) at its rate, without `How` or chunks.

        Of a model of C channels, those (R, N, C, L) of waves (R, C, L), too. Where the device's memory is too small,
        fewer waves go through at once, then chunks that halve (`fits_s`); WorkerDied if not even a second fits.
        `normalize` false: the waves stand at the model's level already.
        """
        if waves.shape[-1] <= self._fits:
            try:
                with torch.inference_mode():
                    return self._answering()(torch.from_numpy(waves).to(self.device), normalize).cpu().numpy()
            except (RuntimeError, MemoryError) as fault:
                if not guard.short_of_memory(fault):
                    raise
                if len(waves) == 1 and waves.shape[-1] <= FLOOR_S * self.rate:
                    raise WorkerDied(
                        f"device '{self.device}': out of memory even for one second; "
                        f"{'make room' if self.device.type == 'cpu' else 'use --device cpu'}, or take a smaller model"
                    ) from fault
            # The parts are made outside the handler: the failed attempt's tensors are free by then.
            if len(waves) == 1:
                self._fits = max(min(waves.shape[-1], self._chunk) // 2, int(FLOOR_S * self.rate))
        if len(waves) > 1:
            half = len(waves) // 2
            return np.concatenate([self.rows(part, normalize) for part in (waves[:half], waves[half:])])
        smaller = Separator(self.model, self.card, self.device, self._fits / self.rate)
        # The model's own words, in pieces: the caller sees to the rest.
        ask = partial(smaller.rows, normalize=normalize)
        pieces = list(smaller._stream([waves[0]], self.rate, How(rest="leave"), Trace(), ask))
        self._fits = min(self._fits, smaller._fits)
        return np.concatenate(pieces, axis=-1)[None]  # (1, N, L) or (1, N, C, L)
