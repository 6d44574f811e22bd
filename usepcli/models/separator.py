"""Base class of all separators: shapes, levels and mixture consistency around one `estimate`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from usepcli.dsp.consistency import KINDS, Consistency, project
from usepcli.errors import BadInput, ConfigError, choices
from usepcli.models import cost

InputNorm = Literal["none", "std", "mean_std"]
When = Literal["always", "eval"]

_NORMS = ("none", "std", "mean_std")
_WHEN = ("always", "eval")


class SeparationModel(nn.Module):
    """Maps a mixture (T,), (B, T) or (B, 1, T) to estimates (B, N, T) of the same length, any T >= 1.

    A subclass implements `estimate` and lists named settings in PRESETS. In evaluation mode the
    output is a pure function of the input, finite for silent and for constant input.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    # True where output k means the same source at all times, so that nobody needs to look for a permutation.
    ordered: ClassVar[bool] = False

    _made_with: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Remember the settings, so that `again` can make a model of the same shape."""
        made = super().__new__(cls)
        # Past nn.Module.__setattr__, which is not ready before __init__.
        object.__setattr__(made, "_made_with", (args, kwargs))
        return made

    def again(self) -> Self:
        """Return a model with the same settings and fresh weights."""
        args, kwargs = self._made_with
        return type(self)(*args, **kwargs)

    def __init__(
        self,
        *,
        n_src: int,
        sample_rate: int,
        hop: int,
        causal: bool = False,
        input_norm: InputNorm = "none",
        consistency: Consistency = "none",
        consistency_when: When = "always",
    ) -> None:
        """Store the common settings (hop in samples); ConfigError with the dotted key where they clash."""
        super().__init__()
        self.n_src, self.sample_rate, self.hop, self.causal = n_src, sample_rate, hop, causal
        self.input_norm, self.consistency, self.consistency_when = input_norm, consistency, consistency_when
        self._check()

    def _check(self) -> None:
        if self.n_src < 1:
            raise ConfigError(f"model.n_src: found {self.n_src}; expected at least one output")
        if self.sample_rate < 1:
            raise ConfigError(f"model.sample_rate: found {self.sample_rate}; expected a rate in Hz")
        for key, found, known in (
            ("input_norm", self.input_norm, _NORMS),
            ("consistency", self.consistency, KINDS),
            ("consistency_when", self.consistency_when, _WHEN),
        ):
            if found not in known:
                raise ConfigError(f"model.{key}: {choices(key, found, known)}")
        if self.causal and self.input_norm != "none":
            reject_causal(f"model.input_norm '{self.input_norm}', which reads the whole input; set it to none")
        if self.causal and self.consistency == "magsq":
            reject_causal("model.consistency 'magsq', which reads whole estimates; set it to uniform or none")

    def estimate(self, mix: Tensor) -> Tensor:
        """Return estimates (B, N, T) of the level-normalised mixture (B, T); subclasses implement this."""
        raise NotImplementedError

    def forward(self, mix: Tensor, normalize: bool = True) -> Tensor:
        """Return float32 estimates (B, N, T) at the level of the mixture; BadInput if not of such a shape.

        normalize false takes the mixture as it is, for one that stands at the level of `input_level` already.
        """
        wave = _as_batch(mix)
        if self.input_norm == "none" or not normalize:
            est = self.estimate(wave).float()
        else:
            mean, scale = self.input_level(wave)
            est = self.estimate((wave - mean) / scale).float()
            # Each output takes its share of the mean: estimates that sum to the normalised mixture
            # sum to the mixture again.
            est = est * scale[:, None] + mean[:, None] / self.n_src
        if self.consistency == "none" or (self.consistency_when == "eval" and self.training):
            return est
        return project(est, wave, self.consistency)

    def input_level(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the scale (B, 1) by which wave (B, T) is normalised, (wave - mean) / scale."""
        if self.input_norm == "none":
            return torch.zeros_like(wave[:, :1]), torch.ones_like(wave[:, :1])
        var, mean = torch.var_mean(wave, -1, correction=0, keepdim=True)
        # The floors keep constant input (std 0) and silence finite; both scale with the gain of real signals.
        scale = torch.maximum(var, 1e-6 * mean.square()).clamp_min(1e-16).sqrt()
        return (mean if self.input_norm == "mean_std" else torch.zeros_like(mean)), scale

    @property
    def latency_samples(self) -> int:
        """Algorithmic latency: if causal, output sample t depends on input before t + latency alone."""
        return self.hop

    @property
    def receptive_field_samples(self) -> int | None:
        """Number of input samples that one output sample can depend on; None means the whole input."""
        return None

    @property
    def n_params(self) -> int:
        """Number of trainable parameters."""
        return sum(p.numel() for p in self.parameters())

    def flops_per_second(self) -> float:
        """Return floating-point operations (two per multiply-add) for one second of audio."""
        return cost.flops_per_second(self)


def reject_causal(why: str) -> None:
    """Raise the ConfigError of a causal model that would look ahead: `why` continues "does not go with"."""
    raise ConfigError(f"model.causal: true does not go with {why}")


def _as_batch(mix: Tensor) -> Tensor:
    """Return the mixture as (B, T) float32."""
    wave = mix[None] if mix.dim() == 1 else mix
    if wave.dim() == 3 and wave.shape[1] == 1:
        wave = wave[:, 0]
    if wave.dim() != 2 or wave.shape[-1] < 1:
        raise BadInput(f"mixture of shape {tuple(mix.shape)}; expected (T,), (B, T) or (B, 1, T) with T >= 1")
    return wave.float()
