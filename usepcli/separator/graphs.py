"""A separator's network as a graph for another runtime: written once, compared with torch, kept, and put in its place.

    STFT -> network -> masks, inverse STFT        models on the STFT: the network alone is exchanged, on real numbers
    network                                       models on waveforms: all between the level and mixture consistency

Levels, sums, chunks and channels stay as they are. A graph has an open number of frames or samples. It is compared on
two talkers at three lengths, the longest as long as a chunk, and on silence:

    max |e - t| <= 1000 eps max |t|        e, t: the sources of the engine and of torch, eps = 2^-23 of float32

An engine of fewer digits is measured by the SDR of its sources against those of torch, and refused below 20 dB. What is
shorter or longer than what was compared goes through torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

import usepcli
from usepcli import files, guard
from usepcli.audio import sample
from usepcli.dsp.parts import Parts
from usepcli.dsp.stft import STFT
from usepcli.dsp.stft_conv import Pair
from usepcli.errors import BadInput, IOFault, MissingDependency, OutputError, UsepError
from usepcli.models import exportable
from usepcli.models.ensemble import Ensemble
from usepcli.models.mapped import MappedModel
from usepcli.models.separator import SeparationModel
from usepcli.models.spectral import SpectralModel
from usepcli.separator import engines
from usepcli.separator.engines import ENGINES, Run
from usepcli.separator.how import SPEEDS
from usepcli.weights import ensembles, onnx_writing, reach, runtimes

TOLERANCE = 1000 * 2.0**-23
LEAST_DB = 20.0
_TRACED_S, _SHORTEST_S, _BETWEEN_S, _MORE_S = 2.0, 1.0, 1.3771, 0.5  # more than a chunk: what --shifts puts before it
_SLOWEST = max(after / before for before, after in SPEEDS)  # and --speeds makes of it
_FORM = 1  # goes up when graphs of the same model are written differently

Heard = tuple[Tensor, Tensor | None]  # what a network gives, and the weights of the rest where it learned such


class Compared(NamedTuple):
    """How far an engine is from torch: the largest difference as a share of the peak, and the SDR in dB."""

    difference: float
    sdr_db: float


class _Spectral(nn.Module):
    """The network of a model on the STFT, from real and imaginary part of a spectrum."""

    def __init__(self, model: SeparationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, real: Tensor, imag: Tensor) -> tuple[Tensor, ...]:
        found: Heard = self.model.network(Pair(real, imag))  # type: ignore[operator]
        return tuple(each for each in found if each is not None)


class _Waves(nn.Module):
    """The network of any other model, from waves at its level."""

    def __init__(self, model: SeparationModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, mixture: Tensor) -> tuple[Tensor, ...]:
        found = self.model.estimate_parts(mixture)
        return tuple(each for each in (found.waves, found.weights) if each is not None)


def spectral(model: SeparationModel) -> bool:
    """Return whether the network of a model lies between an STFT and its inverse."""
    own = (SpectralModel.estimate_parts, MappedModel.estimate_parts)
    return type(model).estimate_parts in own


class Exchanged:
    """Stands in the place of a network and asks a graph, row by row; what is too short or too long goes to torch."""

    def __init__(self, model: SeparationModel, run: Run, name: str, least: int, most: int) -> None:
        """Take the shortest and the longest input in samples, and take the place of the model's network."""
        self.run, self.name, self.asked = run, name, 0
        self.model, self.spectral = model, spectral(model)
        self.place = "network" if self.spectral else "estimate_parts"
        self.own: Callable[[Tensor], Any] = getattr(model, self.place)
        self.least, self.most = ((_frames(model, each) if self.spectral else each) for each in (least, most))
        # Past nn.Module.__setattr__: it hides the method of that name until `undo`.
        object.__setattr__(model, self.place, self)

    def undo(self) -> None:
        """Give the place back to torch."""
        object.__delattr__(self.model, self.place)

    def __call__(self, heard: Tensor) -> Any:
        """Return what the network gives of a spectrum (B, F, L) or of waves (B, ..., T)."""
        if not self.least <= heard.shape[-1] <= self.most:
            return self.own(heard)
        rows = [self._row(row) for row in heard.split(1)]
        self.asked += len(rows)
        found, *more = (torch.from_numpy(np.concatenate(each)) for each in zip(*rows, strict=True))
        weights = more[0] if more else None
        return (found, weights) if self.spectral else Parts(found, weights=weights)

    def _row(self, row: Tensor) -> list[np.ndarray]:
        values = (row.real, row.imag) if self.spectral else (row,)
        return engines.asked(self.run, [each.contiguous().numpy() for each in values], self.name)


def _frames(model: SeparationModel, length: int) -> int:
    return cast(STFT, model.stft).frames(length)


@dataclass(frozen=True)
class _Asked:
    """One model and the engine that is to run it: what it is called, its graph's key, and seconds of a chunk."""

    model: SeparationModel
    ref: str
    key: str
    engine: str
    chunk_s: float
    say: Callable[[str], None]

    @property
    def lengths(self) -> list[int]:
        """Samples of what is compared: the shortest first, the longest last."""
        longest = _SLOWEST * (max(self.chunk_s, _TRACED_S) + _MORE_S)
        return [round(each * self.model.sample_rate) for each in (_SHORTEST_S, _BETWEEN_S, longest)]

    def graph(self, spelled: bool) -> Path:
        """Return where the graph is kept, that with its norms spelled out or the other."""
        return reach.cache() / "graphs" / f"{self.key}{'-spelled' * spelled}.onnx"

    def record(self, spelled: bool) -> Path:
        """Return where it is kept how far this engine, in this version, is from torch at such a length."""
        version, graph = metadata.version(ENGINES[self.engine].package), self.graph(spelled)
        return graph.with_name(f"{graph.stem}.{self.engine}-{version}-{self.lengths[-1]}.json")

    def refused(self, why: str, fault: Exception | None = None) -> BadInput:
        """Return why the engine does not run the model."""
        because = f" ({runtimes.first_line(fault)})" if fault else ""
        return BadInput(f"--engine {self.engine}: {self.ref} {why}{because}; use --engine {engines.TORCH}")

    def keep(self, path: Path, data: bytes) -> None:
        """Write a file of the cache, and say so where that cannot be: the next run does the same work again."""
        try:
            files.write_bytes(path, data)
        except (IOFault, OutputError) as fault:
            self.say(f"engine {self.engine}: nothing is kept for the next run ({fault})")


def engage(
    model: SeparationModel, ref: str | Path, engine: str, chunk_s: float, say: Callable[[str], None]
) -> Compared:
    """Put a graph that `engine` runs in the place of a model's network, of all networks of an ensemble.

    ref: where the model was found, as in ensembles.find.  Return how far the sources are from those of torch, the worst
    of several.  BadInput for a model that cannot be written, or whose graph is not the same; MissingDependency.
    """
    members = ensembles.find(ref).members
    nets = list(cast(Sequence[SeparationModel], model.nets)) if isinstance(model, Ensemble) else [model]
    found = []
    for net, member in zip(nets, members, strict=True):
        facts = [_FORM, usepcli.__version__, torch.__version__, member.sha256, member.card.model]
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
        found.append(_engaged(_Asked(net, member.ref, key, engine, chunk_s, say)))
    worst = Compared(max(each.difference for each in found), min(each.sdr_db for each in found))
    say(
        f"engine {engine}: sources are {worst.sdr_db:.0f} dB from those of torch (SDR), {worst.difference:.1g} of the "
        "peak at most"
    )
    return worst


def _engaged(asked: _Asked) -> Compared:
    """Exchange one network, by a graph that was compared before, else by one that is compared now."""
    for spelled in (False, True):
        known, graph = _known(asked.record(spelled)), _read(asked.graph(spelled))
        if known and graph:
            try:
                _exchanged(asked, graph)
            except BadInput:  # cut short: it is written again
                continue
            return known
    asked.say(f"engine {asked.engine}: the network of {asked.ref} is compared with torch's, once")
    own, fault = answers(asked.model, asked.lengths), BadInput("")
    for spelled in (False, True):
        kept = _read(asked.graph(spelled))
        for there in (kept, b"") if kept else (b"",):
            try:
                graph = there or _written(asked, spelled)
                found = _settled(asked, graph, own)
            except BadInput as err:
                fault = err
                continue
            if graph != kept:
                asked.keep(asked.graph(spelled), graph)
            asked.keep(asked.record(spelled), json.dumps(found._asdict()).encode() + b"\n")
            return found
    raise fault


def _read(path: Path) -> bytes:
    """Return a file of the cache, b"" where there is none."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _known(record: Path) -> Compared | None:
    """Return what a comparison found before, None where there was none."""
    try:
        told = files.read_json(record)
        return Compared(float(told["difference"]), float(told["sdr_db"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _exchanged(asked: _Asked, graph: bytes) -> Exchanged:
    """Put a graph in the place of the network; BadInput where the runtime does not take it."""
    lengths = asked.lengths
    try:
        run = ENGINES[asked.engine].open(graph)
    except Exception as fault:  # every runtime has classes of its own, below Exception
        if isinstance(fault, MissingDependency) or guard.stops(fault) or guard.short_of_memory(fault):
            raise
        raise asked.refused("makes a graph that it does not open", fault) from fault
    return Exchanged(asked.model, run, asked.engine, lengths[0], lengths[-1])


def _settled(asked: _Asked, graph: bytes, own: Sequence[Tensor]) -> Compared:
    """Exchange the network and compare it; BadInput, with torch in its place again, where it is not the same."""
    exchanged = _exchanged(asked, graph)
    try:
        found = _measured(asked, own)
        if not exchanged.asked:
            raise asked.refused("has no network in one piece")
        if not ENGINES[asked.engine].coarse and not found.difference <= TOLERANCE:
            raise asked.refused(f"differs from torch by {found.difference:.2g} of the peak, more than {TOLERANCE:.2g}")
        if not found.sdr_db >= LEAST_DB:
            raise asked.refused(f"is {found.sdr_db:.1f} dB from torch, less than {LEAST_DB:g}")
    except BaseException:
        exchanged.undo()
        raise
    return found


def _measured(asked: _Asked, own: Sequence[Tensor]) -> Compared:
    try:
        return compared(own, answers(asked.model, asked.lengths))
    except Exception as fault:  # a graph that holds for the traced length gives other shapes, which torch stumbles over
        if isinstance(fault, UsepError) or guard.stops(fault) or guard.short_of_memory(fault):
            raise
        raise asked.refused("has a graph that does not hold for other lengths", fault) from fault


def _written(asked: _Asked, spelled: bool) -> bytes:
    """Return the ONNX file of a model's network; BadInput where it cannot be written with an open length."""
    what = f"--engine {asked.engine} writes the network of {asked.ref} as a graph, once"
    runtimes.load(what, ENGINES[asked.engine].extra, "onnx", "onnxscript")
    made = exportable.exportable(asked.model, onnx_layers=True, spelled=spelled)
    length, names = round(_TRACED_S * made.sample_rate), ["mixture"]
    shape, graph = [1, made.channels, length][:: 1 if made.channels > 1 else 2], cast(nn.Module, _Waves(made))
    if spectral(asked.model):
        shape, names = [1, cast(STFT, asked.model.stft).bins, _frames(asked.model, length)], ["real", "imag"]
        graph = _Spectral(made)
    inputs = tuple(torch.ones(shape) for _ in names)
    last_open = tuple({each.dim() - 1: torch.export.Dim.DYNAMIC} for each in inputs)
    try:
        with runtimes.quiet(), torch.no_grad():
            program = torch.export.export(graph.eval(), inputs, dynamic_shapes=last_open, strict=False)
            given = ("found", "shares")[: len(program.graph_signature.user_outputs)]
            return onnx_writing.written(program, inputs, tuple(names), given, {})
    except Exception as fault:  # tracers and converters raise whatever their layers do
        if guard.stops(fault) or guard.short_of_memory(fault):
            raise
        raise asked.refused("cannot be written as a graph of open length", fault) from fault


@torch.inference_mode()
def answers(model: SeparationModel, lengths: Sequence[int]) -> list[Tensor]:
    """Return a model's sources of two talkers, (1, N, ..., T) at each length, and at the first of silence."""
    speech = sample.two_talkers(model.sample_rate)
    found = []
    for length in lengths:
        cuts = [sample.cut(speech, length, side * length // 2) for side in range(model.channels)]
        found.append(model(torch.from_numpy(np.stack(cuts, 1))))  # of (1, C, T)
    return [*found, model(torch.zeros(1, model.channels, lengths[0]))]


def compared(own: Sequence[Tensor], other: Sequence[Tensor]) -> Compared:
    """Return how far answers are from those of torch: the last are of silence, those before as long as a chunk."""
    peak = max(float(each.abs().max()) for each in own)
    gaps = [one.double() - two.double() for one, two in zip(own, other, strict=True)]
    worst = max(float(gap.abs().max().nan_to_num(math.inf)) for gap in gaps)
    power = float(gaps[-2].square().sum().nan_to_num(math.inf))
    level = float(own[-2].double().square().sum())
    ratio = math.inf if power == 0 else level / power
    return Compared(worst / peak if peak > 0 else math.inf, 10 * math.log10(ratio) if ratio > 0 else -math.inf)
