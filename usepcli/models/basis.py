"""Learned analysis and synthesis bases on short overlapping frames (Luo & Mesgarani 2019)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp import framing
from usepcli.errors import ConfigError, choices
from usepcli.models.precision import full_precision

Activation = Literal["relu", "linear", "gelu"]
Padding = Literal["end", "both", "none"]

_ACTIVATIONS = ("relu", "linear", "gelu")
_PADDINGS = ("end", "both", "none")
_SILENT = 1e-12  # energy of a frame, far below one step of 16 bits in any of its samples


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
        self.activation, self.padding = activation, padding
        self.encoder = nn.Conv1d(1, filters, kernel, self.hop, bias=False)
        self.decoder = nn.ConvTranspose1d(filters, 1, kernel, self.hop, bias=False)

    @property
    def reach(self) -> int:
        """Samples that one frame gives to."""
        return self.kernel

    def analyse(self, mix: Tensor) -> Tensor:
        """Return weights (B, filters, L) of the mixture (B, T), in float32 under autocast too."""
        ahead = self.hop if self.padding == "both" else 0
        missing = self.missing(mix.shape[-1] + 2 * ahead)
        return self._weights(F.pad(mix, (ahead, ahead + missing)))

    def missing(self, length: int) -> int:
        """Return the zeros that follow `length` samples, so that those to be heard lie in whole frames."""
        if length <= self.kernel:
            return self.kernel - length
        return 0 if self.padding == "none" else -(length - self.kernel) % self.hop

    def _weights(self, wave: Tensor) -> Tensor:
        with full_precision(wave):
            weights: Tensor = self.encoder(wave[:, None])
            if self.activation == "linear":
                return weights
            return torch.relu(weights) if self.activation == "relu" else F.gelu(weights)

    def hear(self, block: Tensor, waiting: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights (B, filters, L), L >= 0, that a block (B, t) completes, and the samples that wait."""
        covered, waiting = framing.cut(waiting, block, self.kernel, self.hop)
        if not covered.shape[-1]:
            return covered.new_zeros(len(covered), self.encoder.out_channels, 0), waiting
        return self._weights(covered), waiting

    def speak(self, weights: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Return waveforms (B, N, L hop) of the next weights (B, N, filters, L), L >= 1, and what follows them.

        `tail` (B, N, kernel - hop) is what the weights before gave to the same samples.
        """
        wave = self._waves(weights).unflatten(0, weights.shape[:2])
        return framing.settle(wave, tail, weights.shape[-1] * self.hop)

    def synthesise(self, weights: Tensor, length: int) -> Tensor:
        """Return waveforms (B, N, length) of the weights (B, N, filters, L)."""
        ahead = self.hop if self.padding == "both" else 0
        wave = self._waves(weights)
        if self.padding == "none":
            # Fewer samples than a hop lie after the last whole frame.
            wave = F.pad(wave, (0, self.hop))
        wave = wave[:, ahead : ahead + length]
        return wave.unflatten(0, weights.shape[:2])

    def ended(self, est: Tensor, tail: Tensor, rest: int) -> Tensor:
        """Return the last `rest` samples (B, N, rest): the settled ones, the tail, and zeros that no frame reaches."""
        whole = torch.cat([est, tail], -1)[..., :rest]
        return F.pad(whole, (0, rest - whole.shape[-1]))

    def hindrances(self) -> list[str]:
        """Return what keeps a model with this basis from taking blocks."""
        return ["model.padding 'both' puts a frame before the signal (train with end)"] * (self.padding == "both")

    def _waves(self, weights: Tensor) -> Tensor:
        # A bfloat16 waveform would carry its own noise 50 dB down, so autocast stops here.
        with full_precision(weights):
            return self.decoder(weights.float().flatten(0, 1))[:, 0]


class GatedBasis(LearnedBasis):
    """Analysis of every frame at the length of one, ReLU(U x / |x|) * sigmoid(V x / |x|), times its length |x|.

    (Luo & Mesgarani 2018, equations 4 and 5.) The decoder is linear, so what it makes of masked weights has the level
    of the frame. Not `levelled`, frames are heard as they are: ReLU(U x) * sigmoid(V x), as asteroid has it.
    """

    def __init__(self, filters: int, kernel: int, stride: int, padding: Padding = "end", levelled: bool = True) -> None:
        """Take the number of filters, their length and their hop in samples."""
        super().__init__(filters, kernel, stride, "relu", padding)
        self.gate = nn.Conv1d(1, filters, kernel, self.hop, bias=False)
        self.levelled = levelled

    def _weights(self, wave: Tensor) -> Tensor:
        with full_precision(wave):
            x = wave[:, None]
            if not self.levelled:
                return torch.relu(self.encoder(x)) * torch.sigmoid(self.gate(x))
            energy = F.avg_pool1d(x.square(), self.kernel, self.hop) * self.kernel
            length = (energy + _SILENT).sqrt()  # (B, 1, L)
            values: Tensor = torch.relu(self.encoder(x) / length) * torch.sigmoid(self.gate(x) / length)
            return values * length


class AveragedBasis(LearnedBasis):
    """Learned analysis; synthesis by averages of `kernel` neighbouring features each, without weights.

    (Nachmani, Adi & Wolf 2020.) A frame has filters / kernel samples, at least as many as its kernel.
    """

    def __init__(
        self, filters: int, kernel: int, stride: int = 0, activation: Activation = "relu", padding: Padding = "end"
    ) -> None:
        """Take the number of filters, their length and their hop in samples (0: half of an even length)."""
        super().__init__(filters, kernel, stride, activation, padding)
        if filters % kernel or filters < kernel * kernel:
            raise ConfigError(
                f"model.filters: found {filters}; expected a multiple of model.kernel = {kernel}, {kernel**2} or more, "
                "for model.output: direct"
            )
        self.decoder = Averages(kernel, self.hop)  # type: ignore[assignment]

    @property
    def reach(self) -> int:
        """Samples that one frame gives to."""
        return self.encoder.out_channels // self.kernel


class Averages(nn.Module):
    """Means of `pool` neighbouring features as the samples of frames, `hop` apart: (B, filters, L) to (B, 1, T)."""

    def __init__(self, pool: int, hop: int) -> None:
        super().__init__()
        self.pool, self.hop = pool, hop

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum (B, 1, T) of the overlapping frames."""
        frames = x.unflatten(1, (-1, self.pool)).mean(2)  # (B, size, L)
        return framing.added(frames.mT[:, None], self.hop)
