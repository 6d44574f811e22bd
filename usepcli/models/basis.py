"""Learned analysis and synthesis bases on short overlapping frames (Luo & Mesgarani 2019)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.errors import ConfigError, choices
from usepcli.models.precision import full_precision

Activation = Literal["relu", "linear"]
MaskActivation = Literal["sigmoid", "relu", "softmax", "linear"]
Padding = Literal["end", "both", "none"]

MASKS = ("sigmoid", "relu", "softmax", "linear")
_ACTIVATIONS = ("relu", "linear")
_PADDINGS = ("end", "both", "none")


class LearnedBasis(nn.Module):
    """Encoder conv and decoder transposed conv on overlapping frames, both without bias.

    padding `end` adds zeros until every sample lies in a frame; `both` adds one hop more at either end, as
    torchaudio does; `none` takes whole frames alone, as asteroid does: the samples after the last come out 0.
    """

    def __init__(
        self, filters: int, kernel: int, stride: int = 0, activation: Activation = "relu", padding: Padding = "end"
    ) -> None:
        """Take the number of filters, their length and their hop in samples (0: half of an even length)."""
        super().__init__()
        if not stride and (kernel < 2 or kernel % 2):
            raise ConfigError(f"model.kernel: found {kernel}; expected an even number of samples")
        if not 0 <= stride <= kernel:
            raise ConfigError(f"model.stride: found {stride}; expected at most the kernel, {kernel} samples")
        for key, found, known in (("activation", activation, _ACTIVATIONS), ("padding", padding, _PADDINGS)):
            if found not in known:
                raise ConfigError(f"model.{key}: {choices(key, found, known)}")
        self.kernel, self.hop = kernel, stride or kernel // 2
        self.rectify, self.padding = activation == "relu", padding
        self.encoder = nn.Conv1d(1, filters, kernel, self.hop, bias=False)
        self.decoder = nn.ConvTranspose1d(filters, 1, kernel, self.hop, bias=False)

    def analyse(self, mix: Tensor) -> Tensor:
        """Return weights (B, filters, L) of the mixture (B, T), in float32 under autocast too."""
        ahead = self.hop if self.padding == "both" else 0
        length = mix.shape[-1] + 2 * ahead
        missing = -(length - self.kernel) % self.hop if length > self.kernel else self.kernel - length
        if self.padding == "none" and length > self.kernel:
            missing = 0
        with full_precision(mix):
            weights: Tensor = self.encoder(F.pad(mix, (ahead, ahead + missing))[:, None])
            return torch.relu(weights) if self.rectify else weights

    def synthesise(self, weights: Tensor, length: int) -> Tensor:
        """Return waveforms (B, N, length) of the weights (B, N, filters, L)."""
        ahead = self.hop if self.padding == "both" else 0
        # A bfloat16 waveform would carry its own noise 50 dB down, so autocast stops here.
        with full_precision(weights):
            wave = self.decoder(weights.float().flatten(0, 1))[:, 0]
        if self.padding == "none":
            # Fewer samples than a hop lie after the last whole frame.
            wave = F.pad(wave, (0, self.hop))
        wave = wave[:, ahead : ahead + length]
        return wave.unflatten(0, weights.shape[:2])


def masks_of(scores: Tensor, kind: MaskActivation) -> Tensor:
    """Return masks of scores (B, N, filters, L): in (0, 1), >= 0, shares that add up to 1 over N, or the scores."""
    if kind == "softmax":
        return torch.softmax(scores, 1)
    if kind == "linear":
        return scores
    return torch.sigmoid(scores) if kind == "sigmoid" else torch.relu(scores)
