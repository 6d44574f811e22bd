"""Separators that hear two channels at once, and what one of one channel is to them.

    (B, 2, T) -> (B, N, 2, T)      (B, T) -> (x, x) -> (B, N, 2, T) -> mean -> (B, N, T)

So trainings, scores and exports, which know one channel, take such a model as any other; `usep separate` gives it both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from usepcli.dsp.parts import Parts
from usepcli.models.separator import SeparationModel


class StereoModel(SeparationModel):
    """Maps a mixture of two channels to sources of two; a subclass's `estimate` is given (B, 2, T), always."""

    channels: int = 2

    def apart(self, mix: Tensor, normalize: bool = True) -> tuple[Tensor, Parts]:
        """Return the mixture as (B, T) or (B, 2, T), and the estimates of it before mixture consistency.

        Both channels are normalised by one mean and one scale; BadInput as of any model.
        """
        both = mix.dim() == 3 and 1 < mix.shape[1] == self.channels and mix.shape[2] > 0
        wave = mix.float() if both else self.as_batch(mix)
        heard = wave if both else wave[:, None].expand(-1, self.channels, -1)
        if self.input_norm == "none" or not normalize:
            found = self.estimate_parts(heard)
            est = found.waves.float()
        else:
            mean, scale = (level[..., None] for level in self.input_level(heard.flatten(1)))  # (B, 1, 1) each
            found = self.estimate_parts((heard - mean) / scale)
            est = found.waves.float() * scale[..., None] + mean[..., None] / self.n_src
        return wave, found._replace(waves=est if both else est.mean(2))

    def consistent(self, est: Tensor, mix: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return est (B, N, T) or (B, N, 2, T) after mixture consistency with mix, channel by channel."""
        if mix.dim() == 2:
            return super().consistent(est, mix, weights)
        sides = zip(est.unbind(2), mix.unbind(1), strict=True)
        return torch.stack([super(StereoModel, self).consistent(*side, weights) for side in sides], 2)
