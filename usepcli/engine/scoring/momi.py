"""Score a model on sums of two held-out mixtures: MoMi, which opens no source, and MSi where sources are listed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from usepcli.audio import io
from usepcli.audio.resample import resample
from usepcli.data.manifest import Manifest, Row
from usepcli.data.sampling import rng
from usepcli.errors import BadInput
from usepcli.metrics import momi
from usepcli.models.separator import SeparationModel
from usepcli.separator.separator import borrowed

# Audio in one batch on a GPU; on a CPU a batch saves nothing.
BATCH_S = 60.0

T = TypeVar("T", bound=Sized)


def mom_pairs(n_items: int, n_pairs: int, seed: int) -> list[tuple[int, int]]:
    """Return at most n_pairs pairs of different items, 2i and 2i + 1 of a seeded permutation; no item comes twice."""
    order = [int(i) for i in rng(seed, 0x303).permutation(n_items)]
    return [(order[i], order[i + 1]) for i in range(0, n_items - 1, 2)][: max(n_pairs, 0)]


def score_moms(
    model: SeparationModel,
    manifest: Manifest,
    pairs: Sequence[tuple[int, int]],
    *,
    device: str | torch.device = "cpu",
    seconds: float = 0,
    sources: bool = True,
) -> list[dict[str, Any]]:
    """Return one row per pair of items: id, momi and msi in dB; msi is nan where no sources are listed or opened.

    The longer mixture of a pair is cut to the shorter, and both to `seconds` (0: whole).  sources false opens none.
    BadInput for a model with more outputs than the search can deal out.
    """
    if model.n_src > momi.MAX_OUTPUTS:
        raise BadInput(f"momi: a model with {model.n_src} outputs; expected at most {momi.MAX_OUTPUTS}")
    moms = (_Mom(manifest, [manifest.rows[i] for i in pair], model.sample_rate, seconds) for pair in pairs)
    rows = []
    for batch in batches(moms, model.sample_rate, device):
        mixtures = np.stack([mom.mixtures for mom in batch])  # (B, 2, T)
        found = separate(model, torch.from_numpy(mixtures.sum(1)), device)
        for mom, mix, est in zip(batch, mixtures, found.double().numpy(), strict=True):
            known = mom.sources() if sources else None
            msi = float("nan") if known is None else momi.msi(est, known, mix.sum(0, dtype=np.float64))
            rows.append({"id": mom.id, "momi": momi.momi(est, mix), "msi": msi})
    return rows


class _Mom:
    """Two mixtures of one length; their sources are read when asked for."""

    def __init__(self, manifest: Manifest, rows: Sequence[Row], rate: int, seconds: float) -> None:
        self.manifest, self.rows, self.rate, self.seconds = manifest, rows, rate, seconds
        self.id = "+".join(row.id for row in rows)
        waves = [read_mixture(manifest, row, rate, seconds) for row in rows]
        length = min(map(len, waves))
        self.mixtures = np.stack([wave[:length] for wave in waves])  # (2, T)

    def __len__(self) -> int:
        return int(self.mixtures.shape[-1])

    def sources(self) -> np.ndarray | None:
        """Return the sources (K, T) of both mixtures, None where a row lists none."""
        if not all(row.sources for row in self.rows):
            return None
        paths = [path for row in self.rows for path in row.sources]
        waves = [read(self.manifest, path, self.rate, self.seconds)[: len(self)] for path in paths]
        return np.stack([np.pad(wave, (0, len(self) - len(wave))) for wave in waves])


def read_mixture(manifest: Manifest, row: Row, rate: int, seconds: float = 0) -> np.ndarray:
    """Return a row's mixture (T,) at `rate` Hz, its first `seconds` (0: all); the sum of the sources without a file."""
    if row.mixture:
        return read(manifest, row.mixture, rate, seconds)
    waves = [read(manifest, path, rate, seconds) for path in row.sources]
    length = max(map(len, waves), default=0)
    if not length:
        raise BadInput(f"{manifest.path}: item {row.id} has neither a mixture nor sources")
    return np.stack([np.pad(wave, (0, length - len(wave))) for wave in waves]).sum(0, dtype=np.float32)


def read(manifest: Manifest, name: str, rate: int, seconds: float) -> np.ndarray:
    """Return one file of a manifest as float32 (T,) at `rate` Hz, its first `seconds` (0: all); BadInput if empty."""
    path = manifest.resolve(name)
    wave, own = io.read_mono(path, 0, round(seconds * io.info(path).rate) if seconds else -1)
    if not wave.size:
        raise BadInput(f"{path}: empty; replace or remove the file")
    return resample(wave, own, rate)


def batches(items: Iterable[T], rate: int, device: str | torch.device) -> Iterator[list[T]]:
    """Yield neighbours of one length together: BATCH_S of audio on a GPU, one by one on a CPU; nothing is padded."""
    on_cpu = torch.device(device).type == "cpu"
    for length, same in itertools.groupby(items, key=len):
        size = 1 if on_cpu else max(1, int(BATCH_S * rate / length))
        while batch := list(itertools.islice(same, size)):
            yield batch


def separate(model: SeparationModel, mix: Tensor, device: str | torch.device) -> Tensor:
    """Return the estimates (B, N, T) of mix (B, T) on the CPU; the model comes back to its mode and its device."""
    with borrowed(model, device) as separator:
        return torch.from_numpy(separator.rows(mix.numpy()))
