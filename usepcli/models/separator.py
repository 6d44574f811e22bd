"""Base class of all separators: shapes, levels and mixture consistency around one `estimate`."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self, TypedDict, Unpack

import torch
from torch import Tensor, nn

from usepcli.audio.rates import HIGHEST_RATE
from usepcli.dsp.consistency import KINDS, Consistency, project
from usepcli.dsp.parts import Parts
from usepcli.errors import BadInput, ConfigError, choices
from usepcli.models import cost
from usepcli.models.dense import Dense
from usepcli.models.streaming import Streaming

InputNorm = Literal["none", "std", "sample_std", "mean_std"]
When = Literal["always", "eval"]

_NORMS = ("none", "std", "sample_std", "mean_std")
_WHEN = ("always", "eval")


class Common(TypedDict, total=False):
    """The arguments of every model: outputs, rate in Hz, what it may look at, levels, and mixture consistency.

    What they are without a word stands in COMMON of the class, or of the nearest base that says it.
    """

    n_src: int
    sample_rate: int
    causal: bool
    input_norm: InputNorm
    consistency: Consistency
    consistency_when: When


class SeparationModel(Streaming, nn.Module):
    """Maps a mixture (T,), (B, T) or (B, 1, T) to estimates (B, N, T) of the same length, any T >= 1.

    A subclass implements `estimate` and lists named settings in PRESETS. In evaluation mode the
    output is a pure function of the input, finite for silent and for constant input. A model that is `live`
    takes blocks as well (`Streaming`).
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    COMMON: ClassVar[Common] = {
        "n_src": 2, "sample_rate": 8000, "causal": False, "input_norm": "none", "consistency": "none",
        "consistency_when": "always",
    }  # fmt: skip
    # True where output k means the same source at all times, so that nobody needs to look for a permutation.
    ordered: bool = False
    # True where `parts` holds embeddings of the bins while it learns.
    embeds: ClassVar[bool] = False
    # Channels that it hears at once; one of more hears one channel as well (models/stereo.py).
    channels: int = 1
    # True where it runs on the processor alone, whatever devices there are.
    on_cpu: bool = False
    # What its outputs are called; empty where they are numbered.
    stems: tuple[str, ...] = ()
    # Seconds that it is made to hear at once; 0 where it has no say.
    segment_s: float = 0.0

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

    def __init__(self, *, hop: int, **common: Unpack[Common]) -> None:
        """Store the common settings (hop in samples); ConfigError with the dotted key where they clash."""
        super().__init__()
        if unknown := common.keys() - Common.__annotations__.keys():
            raise TypeError(f"{type(self).__name__} has no argument {', '.join(sorted(unknown))}")
        told: dict[str, Any] = {}
        for base in reversed(type(self).__mro__):
            told |= vars(base).get("COMMON", {})
        told |= common
        self.hop = hop
        self.n_src: int = told["n_src"]
        self.sample_rate: int = told["sample_rate"]
        self.causal: bool = told["causal"]
        self.input_norm: InputNorm = told["input_norm"]
        self.consistency: Consistency = told["consistency"]
        self.consistency_when: When = told["consistency_when"]
        self._check()

    def _check(self) -> None:
        if self.n_src < 1:
            raise ConfigError(f"model.n_src: found {self.n_src}; expected at least one output")
        if not 1 <= self.sample_rate <= HIGHEST_RATE:
            raise ConfigError(
                f"model.sample_rate: found {self.sample_rate}; expected a rate from 1 to {HIGHEST_RATE} Hz"
            )
        for key, found, known in (
            ("input_norm", self.input_norm, _NORMS),
            ("consistency", self.consistency, KINDS),
            ("consistency_when", self.consistency_when, _WHEN),
        ):
            if found not in known:
                raise ConfigError(f"model.{key}: {choices(key, found, known)}")
        if self.consistency == "learned" and self.consistency_when == "eval":
            raise ConfigError(
                "model.consistency_when: eval, and the weights of model.consistency 'learned' are learned in training; "
                "set it to always"
            )
        if self.causal and self.input_norm != "none":
            reject_causal(f"model.input_norm '{self.input_norm}', which reads the whole input; set it to none")
        if self.causal and self.consistency in ("magsq", "learned"):
            reject_causal(
                f"model.consistency '{self.consistency}', which reads the whole input; set it to uniform or none"
            )

    def estimate(self, mix: Tensor) -> Tensor:
        """Return estimates (B, N, T) of the level-normalised mixture (B, T); subclasses implement this or the next."""
        return self.estimate_parts(mix).waves

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return the estimates with masks and spectrum, where the model has them."""
        if type(self).estimate is SeparationModel.estimate:
            raise NotImplementedError
        return Parts(self.estimate(mix))

    def forward(self, mix: Tensor, normalize: bool = True) -> Tensor:
        """Return float32 estimates (B, N, T) at the level of the mixture; BadInput if not of such a shape.

        normalize false takes the mixture as it is, for one that stands at the level of `input_level` already.
        """
        return self.parts(mix, normalize).waves

    def parts(self, mix: Tensor, normalize: bool = True) -> Parts:
        """Return what `forward` returns as `waves`, and the masks and the spectrum that it was made from."""
        wave, found = self.apart(mix, normalize)
        return found._replace(waves=self.consistent(found.waves, wave, found.weights))

    def apart(self, mix: Tensor, normalize: bool = True) -> tuple[Tensor, Parts]:
        """Return the mixture as (B, T), and what `parts` returns before mixture consistency."""
        wave = self.as_batch(mix)
        if self.input_norm == "none" or not normalize:
            found = self.estimate_parts(wave)
            est = found.waves.float()
        else:
            mean, scale = self.input_level(wave)
            found = self.estimate_parts((wave - mean) / scale)
            # Each output takes its share of the mean: estimates that sum to the normalised mixture
            # sum to the mixture again.
            est = found.waves.float() * scale[:, None] + mean[:, None] / self.n_src
        return wave, found._replace(waves=est)

    def consistent(self, est: Tensor, mix: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return est (B, N, T) after mixture consistency with mix (B, T), where and when the settings ask for it."""
        if self.consistency == "none" or (self.consistency_when == "eval" and self.training):
            return est
        return project(est, mix, self.consistency, weights)

    def as_batch(self, mix: Tensor) -> Tensor:
        """Return a mixture of one channel as (B, T) float32; BadInput if it has another shape."""
        wave = mix[None] if mix.dim() == 1 else mix
        if wave.dim() == 3 and wave.shape[1] == 1:
            wave = wave[:, 0]
        if wave.dim() != 2 or wave.shape[-1] < 1:
            more = f", (B, {self.channels}, T)" * (self.channels > 1)
            raise BadInput(f"mixture of shape {tuple(mix.shape)}; expected (T,), (B, T){more} or (B, 1, T) with T >= 1")
        return wave.float()

    def transform(self, wave: Tensor) -> Tensor:
        """Return the spectra (..., F, L) of waves (..., T) as the masks see them; ConfigError for a model without."""
        raise ConfigError(
            f"loss.name: a loss in the spectrum, and {type(self).__name__} has none; take a model on the STFT "
            "(conformer_mask, upit, tdcnpp with encoder: stft) or a loss on waveforms"
        )

    def learn_shares(self, width: int) -> None:
        """Make the layer behind consistency 'learned', which starts uniform; a subclass calls this once built."""
        if self.consistency == "learned":
            self.shares = Dense(width, self.n_src)
            nn.init.zeros_(self.shares.weight)
            nn.init.zeros_(self.shares.bias)

    def shares_of(self, core: Tensor) -> Tensor | None:
        """Return softmax weights (B, N) of features (B, ..., width), averaged in between; None unless learned.

        (Wisdom et al. 2019: the residual is shared out by weights that the network predicts.)
        """
        if self.consistency != "learned":
            return None
        return torch.softmax(self.shares(core.float().flatten(1, -2).mean(1)), -1)

    def input_level(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the scale (B, 1) by which wave (B, T) is normalised, (wave - mean) / scale."""
        if self.input_norm == "none":
            return torch.zeros_like(wave[:, :1]), torch.ones_like(wave[:, :1])
        # Divided by T - 1 as torch.std does, where a network from elsewhere is used to it.
        correction = 1 if self.input_norm == "sample_std" and wave.shape[-1] > 1 else 0
        var, mean = torch.var_mean(wave, -1, correction=correction, keepdim=True)
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
        return cost.flops_per_second(self, self.segment_s or 2)


def reject_causal(why: str) -> None:
    """Raise the ConfigError of a causal model that would look ahead: `why` continues "does not go with"."""
    raise ConfigError(f"model.causal: true does not go with {why}")
