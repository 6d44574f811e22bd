"""Score a model on sums of two held-out mixtures: MoMi, which opens no source, and MSi where sources are listed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from usepcli import guard
from usepcli.data.items import Reader, fitted
from usepcli.data.manifest import Manifest, Row
from usepcli.data.sampling import rng
from usepcli.engine.journal import Part
from usepcli.engine.scoring.asking import asked, queries_of
from usepcli.errors import BadInput, ConfigError, MissingDependency, UsageError
from usepcli.metrics import momi
from usepcli.models.queried import Model
from usepcli.separator.borrowing import borrowed

# Audio in one batch on a GPU; on a CPU a batch saves nothing.
BATCH_S = 60.0
# What no other pair would do better.
_ENDS = (UsageError, ConfigError, MissingDependency)


class Asked(Sized, Protocol):
    """Something as long as its samples, with the queries that a model that is asked gets."""

    queries: tuple[str, ...]


T = TypeVar("T", bound=Asked)


def mom_pairs(n_items: int, n_pairs: int, seed: int) -> list[tuple[int, int]]:
    """Return at most n_pairs pairs of different items, 2i and 2i + 1 of a seeded permutation; no item comes twice."""
    order = [int(i) for i in rng(seed, 0x303).permutation(n_items)]
    return [(order[i], order[i + 1]) for i in range(0, n_items - 1, 2)][: max(n_pairs, 0)]


def score_moms(
    model: Model,
    manifest: Manifest,
    pairs: Sequence[tuple[int, int]],
    *,
    device: str | torch.device = "cpu",
    seconds: float = 0,
    sources: bool = True,
    channels: str = "mix",
    part: Part | None = None,
) -> list[dict[str, Any]]:
    """Return one row per pair of items: id, momi and msi in dB; msi is nan where no sources are listed or opened.

    channels: of every file, one of items.CHANNELS; several are separated and scored one by one, and the row holds their
    means and their number.  The longer mixture of a pair is cut to the shorter, and both to `seconds` (0: whole).
    sources false opens none.  part: where rows go as they come, and what of them is there.  A pair that cannot be read
    comes last, without numbers and with a reason.  BadInput for a model with more outputs than the search can deal out,
    and where no pair can be read.
    """
    if model.n_src > momi.MAX_OUTPUTS:
        raise BadInput(f"momi: a model with {model.n_src} outputs; expected at most {momi.MAX_OUTPUTS}")
    reader = Reader(manifest, model.sample_rate, seconds, channels=channels)
    part = part or Part()
    left = [(n, [manifest.rows[i] for i in pairs[n]]) for n in part.left(len(pairs))]
    for batch in batches(_readable(reader, model, left, part), model.sample_rate, device):
        several = {mom.channels for mom in batch}
        if several == {1}:
            mixtures = np.stack([mom.mixtures[:, 0] for mom in batch])  # (B, 2, T)
            found = separate(model, torch.from_numpy(mixtures.sum(1)), device, batch[0].queries).double().numpy()
            for mom, est in zip(batch, found, strict=True):
                part.add(mom.number, _row(mom, est[:, None], model.ordered, sources))
            continue
        for mom in batch:
            sums = torch.from_numpy(mom.mixtures.sum(0))  # (C, T)
            found = separate(model, sums, device, mom.queries).double().numpy().swapaxes(0, 1)  # (N, C, T)
            part.add(mom.number, _row(mom, found, model.ordered, sources))
    rows = in_order(part)
    if part.complete and rows and all("reason" in row for row in rows):
        raise BadInput(f"{manifest.path}: no sum of two mixtures can be made; the first, {rows[0]['reason']}")
    return rows


def in_order(part: Part) -> list[dict[str, Any]]:
    """Return the rows that are there, those of pairs that could not be read last."""
    return sorted(part.values(), key=lambda row: "reason" in row)


def _row(mom: _Mom, est: np.ndarray, ordered: bool, sources: bool) -> dict[str, Any]:
    """Return the row of a sum from its estimates (N, C, T): means over the channels that have a value."""
    known = mom.sources() if sources else None  # (K, C, T)
    found: dict[str, list[float]] = {"momi": [], "msi": []}
    for c in range(mom.channels):
        mix = mom.mixtures[:, c]
        found["momi"].append(momi.momi(est[:, c], mix, mom.owner))
        if known is not None:
            found["msi"].append(momi.msi(est[:, c], known[:, c], mix.sum(0, dtype=np.float64), ordered))
    values = {name: [value for value in of if not math.isnan(value)] for name, of in found.items()}
    means = {name: math.fsum(of) / len(of) if of else math.nan for name, of in values.items()}
    return {"id": mom.id, **means, **({"channels": mom.channels} if mom.channels > 1 else {})}


def _readable(reader: Reader, model: Model, pairs: Sequence[tuple[int, Sequence[Row]]], part: Part) -> Iterator[_Mom]:
    """Yield the numbered pairs that can be read, and put a row for each of the others into `part`."""
    for number, rows in pairs:
        name = "+".join(row.id for row in rows)
        try:
            yield _Mom(reader, model, rows, number)
        except Exception as error:
            why = guard.reason(error, name, _ENDS)
            part.add(number, {"id": name, "momi": math.nan, "msi": math.nan, "reason": why})


class Heard:
    """A mixture (T,) or (C, T) and what a model that is asked is asked for in it."""

    def __init__(self, reader: Reader, model: Model, row: Row) -> None:
        self.wave, self.queries = reader.whole(row).mix, queries_of(model, row)

    def __len__(self) -> int:
        return int(self.wave.shape[-1])


def heard(reader: Reader, model: Model, rows: Iterable[Row]) -> Iterator[Heard]:
    """Yield the mixtures of rows; one that cannot be read is left out."""
    for row in rows:
        try:
            yield Heard(reader, model, row)
        except Exception as error:
            guard.fault(error, row.id, _ENDS)


class _Mom:
    """Two mixtures of one length; their sources are read when asked for.

    A model that is asked is asked for the sources of both, and `owner` says which mixture each of them belongs to.
    """

    def __init__(self, reader: Reader, model: Model, rows: Sequence[Row], number: int) -> None:
        self.reader, self.rows, self.number = reader, rows, number
        self.id = "+".join(row.id for row in rows)
        heard = [Heard(reader, model, row) for row in rows]
        self.queries = tuple(query for one in heard for query in one.queries)
        n_out = len(self.queries) or model.n_src
        if n_out > momi.MAX_OUTPUTS:
            raise BadInput(f"momi: a model with {n_out} outputs; expected at most {momi.MAX_OUTPUTS}")
        self.owner = [p for p, one in enumerate(heard) for _ in one.queries] or None
        waves = [np.atleast_2d(one.wave) for one in heard]
        self.channels = len(waves[0])
        if len(waves[1]) != self.channels:
            raise BadInput(
                f"{self.id}: {len(waves[0])} and {len(waves[1])} channels; expected as many in both: choose --channels "
                "first or mix"
            )
        self.mixtures = fitted(waves, min(map(len, heard)))  # (2, C, T)

    def __len__(self) -> int:
        return int(self.mixtures.shape[-1])

    def sources(self) -> np.ndarray | None:
        """Return the sources (K, C, T) of both mixtures, None where a row lists none; BadInput for other channels."""
        if not all(row.sources for row in self.rows):
            return None
        found = np.concatenate([self.reader.sources(row, len(self)) for row in self.rows])
        found = found[:, None] if found.ndim == 2 else found
        if found.shape[1] != self.channels:
            raise BadInput(f"{self.id}: mixtures of {self.channels} channels, sources of {found.shape[1]}")
        return found


def batches(items: Iterable[T], rate: int, device: str | torch.device) -> Iterator[list[T]]:
    """Yield neighbours of one length and the same queries together: BATCH_S of audio on a GPU, one by one on a CPU.

    Nothing is padded.
    """
    on_cpu = torch.device(device).type == "cpu"
    for (length, _), same in itertools.groupby(items, key=lambda item: (len(item), item.queries)):
        size = 1 if on_cpu else max(1, int(BATCH_S * rate / length))
        while batch := list(itertools.islice(same, size)):
            yield batch


def separate(model: Model, mix: Tensor, device: str | torch.device, queries: tuple[str, ...] = ()) -> Tensor:
    """Return the estimates (B, N, T) of mix (B, T) on the CPU; the model comes back to its mode and its device."""
    with borrowed(model, device) as separator:
        return torch.from_numpy(asked(separator, queries).rows(mix.numpy()))
