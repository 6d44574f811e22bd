"""Where the sources come from that are moved between mixtures: a model's outputs, or a manifest's references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from usepcli import device as devices
from usepcli.data import lazy
from usepcli.data.batch import Batch
from usepcli.data.manifest import Manifest
from usepcli.dsp.consistency import strongest
from usepcli.errors import BadInput, UsageError
from usepcli.models.separator import SeparationModel
from usepcli.separator.separator import Separator
from usepcli.weights import store

# Audio that a GPU is given at once; on a CPU a batch saves nothing.
BATCH_S = 60.0
_FLOOR = 1e-8


class Sources:
    """Gives the sources (B, R, T) of a batch of mixtures (B, T), which add up to the mixtures at `level`.

    `rate` in Hz, `n_src` is R, `even`: mixtures are brought to one level before.
    """

    rate: int
    n_src: int
    even: bool
    with_sources: bool

    def __call__(self, batch: Batch) -> Tensor:
        """Return the sources (B, R, T); subclasses implement this."""
        raise NotImplementedError


class Separated(Sources):
    """The strongest outputs of a model, adding up to the mixture: what a teacher gives in training."""

    with_sources = False

    def __init__(self, model: SeparationModel, n_remix: int, normalize: bool, device: torch.device | str) -> None:
        self.n_src = n_remix or model.n_src
        if not 1 < self.n_src <= model.n_src:
            raise UsageError(
                f"--n-remix: found {n_remix} for a model with {model.n_src} outputs; expected 0 (all of them) or "
                f"2 to {model.n_src}"
            )
        self.model, self._separator = model, Separator(model, device=device)
        self.rate, self.device, self.normalize = model.sample_rate, torch.device(device), normalize
        self.even = normalize and model.input_norm != "none"

    @classmethod
    def load(cls, path: Path, n_remix: int, normalize: bool, device: str, threads: int) -> Separated:
        """Load the model stored at `path`; errors as in load_model."""
        devices.keep_heap()
        devices.set_threads(threads)
        return cls(store.load_model(path)[0], n_remix, normalize, devices.pick(device))

    def __call__(self, batch: Batch) -> Tensor:
        """Return the outputs (B, R, T) on the CPU; as for Separator.rows."""
        mix = batch.mix
        if self.normalize:
            mean, scale = self.model.input_level(mix)
            mix = (mix - mean) / scale
        size = 1 if self.device.type == "cpu" else max(1, int(BATCH_S * self.rate / mix.shape[-1]))
        # A mixture that stands at the model's level is taken as it is.
        parts = [self._separator.rows(part.numpy(), normalize=not self.normalize) for part in mix.split(size)]
        return strongest(torch.from_numpy(np.concatenate(parts)), mix, self.n_src)


class Listed(Sources):
    """The references of a manifest, with `residual` what they leave of the mixture; silence where one has fewer."""

    with_sources = True

    def __init__(self, manifest: Manifest, normalize: bool, residual: bool) -> None:
        counts = lazy.counts(manifest.rows, "sources")
        if not counts.all():
            bare = manifest.rows[int(np.argmin(counts))].id
            raise BadInput(f"{manifest.path}: item {bare} lists no sources; name a --model that finds them")
        rates = set(manifest.rates.tolist())
        if len(rates) > 1 or not min(rates):
            raise BadInput(
                f"{manifest.path}: sample rates {', '.join(map(str, sorted(rates)))} Hz; expected one for the whole set"
            )
        self.rate, self.even, self.residual = rates.pop(), normalize, residual
        self.n_src = int(counts.max()) + residual
        if self.n_src < 2:
            raise BadInput(f"{manifest.path}: one source in each mixture; expected two or more to shuffle")
        self.residual_power = self.mixture_power = 0.0

    def __call__(self, batch: Batch) -> Tensor:
        """Return the references (B, R, T), at one level of their mixtures where asked for."""
        mix, refs = batch.mix, batch.sources
        assert refs is not None
        if self.residual:
            rest = mix - refs.sum(1)
            self.residual_power += float(rest.double().square().sum())
            self.mixture_power += float(mix.double().square().sum())
            refs = torch.cat([refs, rest[:, None]], 1)
        refs = F.pad(refs, (0, 0, 0, self.n_src - refs.shape[1]))
        if not self.even:
            return refs
        scale = mix.square().mean(-1).sqrt().clamp_min(_FLOOR)
        return refs / scale[:, None, None]
