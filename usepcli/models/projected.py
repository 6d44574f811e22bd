"""A separator whose outputs are made to add up in other ways than its own: the network is asked once for each input.

Mixture consistency is a step behind the network (dsp/consistency.py), so that what it does, on its own, is seen from
the same outputs with it and without.
"""

from __future__ import annotations

import hashlib

from torch import Tensor

from usepcli.dsp.consistency import Consistency, project
from usepcli.models.separator import Parts, SeparationModel


class Projected(SeparationModel):
    """A model under the mixture consistency `kind`, None for its own; it shares the model's weights and its mode."""

    def __init__(self, net: SeparationModel) -> None:
        """Take the model; what its network says of an input is kept as long as this lives."""
        super().__init__(
            hop=net.hop, n_src=net.n_src, sample_rate=net.sample_rate, causal=net.causal, input_norm=net.input_norm,
            consistency=net.consistency, consistency_when=net.consistency_when,
        )  # fmt: skip
        self.net, self.training = net, net.training
        self.kind: Consistency | None = None
        self._said: dict[bytes, tuple[Tensor, Parts]] = {}

    def parts(self, mix: Tensor, normalize: bool = True) -> Parts:
        """Return what the model's own `parts` returns, its waves under this consistency."""
        heard = hashlib.sha256(mix.contiguous().cpu().numpy().tobytes())
        heard.update(f"{tuple(mix.shape)} {normalize}".encode())
        if (found := self._said.get(heard.digest())) is None:
            found = self._said[heard.digest()] = self.net.apart(mix, normalize)
        wave, apart = found
        if self.kind is None:
            return apart._replace(waves=self.net.consistent(apart.waves, wave, apart.weights))
        return apart._replace(waves=project(apart.waves, wave, self.kind, apart.weights))

    @property
    def receptive_field_samples(self) -> int | None:
        """Receptive field of the model."""
        return self.net.receptive_field_samples


class ProjectedInOrder(Projected):
    """The same for a model whose outputs have an order."""

    ordered = True
