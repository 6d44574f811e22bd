"""A small model of sounds and words in one space: it judges, it conditions, and alone it separates nothing.

    hear(x) = A(mel(x)) / |.|      read(q) = T(c(q)) / |.|      p(q | x) = softmax_q(s cos(hear(x), read(q)))

A: convolutions of a log-mel spectrum (depthwise and pointwise, Howard et al. 2017), or the frozen tower of a judge by
path and two layers; T: two layers on what a conditioner, learned or by path, makes of a phrase: the whole, and the mean
of its tokens. s < `most_scale`: a judge that is surer than it is right teaches nothing. Trained by the objective
`contrastive`; its best weights are then `objective.judge: audio_text` and `model.conditioner: audio_text`, by the path
of the run.

As a model by query it answers with the mixture itself at the gain sigma(s cos): louder, the more the words fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli import registry
from usepcli.dsp.logmel import OffsetMel, Resample
from usepcli.encoders.base import Conditioner, Judge
from usepcli.errors import ConfigError
from usepcli.models.fixed import Fixed
from usepcli.models.queried import Conditions, QueriedModel
from usepcli.models.worded import Kind, Norm, When, opened

_LOW_HZ, _HIGH = 60.0, 0.95  # ends of the bank, the upper one of half the rate
_OFFSET = 1e-3


class Ears(nn.Module):
    """(B, T) to (B, dim): convolutions over a log-mel spectrum, then mean and maximum over time."""

    def __init__(self, rate: int, hop: int, bands: int, widths: Sequence[int], dim: int) -> None:
        """Take rate in Hz, hop in samples, and the channels of the layers, every other of which halves time and mel."""
        super().__init__()
        window = 5 * hop // 2
        self.mel = OffsetMel(
            rate, window, hop, 1 << (window - 1).bit_length(), bands, _LOW_HZ, _HIGH * rate / 2, _OFFSET
        )
        self.least = window + hop * (1 << (len(widths) + 1) // 2)  # samples, so that every layer has something to see
        layers: list[nn.Module] = [nn.BatchNorm2d(1)]
        for k, (before, width) in enumerate(zip([1, *widths[:-1]], widths, strict=True)):
            stride = 2 - k % 2
            layers += [nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False)] if k else []
            layers += [nn.Conv2d(before, width, 1, bias=False) if k else nn.Conv2d(1, width, 3, 2, 1, bias=False)]
            layers += [nn.BatchNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(2 * widths[-1], dim)

    def forward(self, waves: Tensor) -> Tensor:
        """Return (B, dim) of waves (B, T), silence after those that are too short."""
        mel = self.mel(F.pad(waves, (0, max(0, self.least - waves.shape[-1]))))  # (B, L, bands)
        found = self.layers(mel[:, None]).mean(3)  # (B, width, L')
        out: Tensor = self.out(torch.cat([found.mean(2), found.amax(2)], 1))
        return out


class AudioText(QueriedModel):
    """Hears waveforms and reads phrases; the towers are learned, or frozen ones by path, which are stored nowhere.

    tower: '' for ears of its own, or a judge whose frozen tower hears, by tower_path. sha256 of either path is what a
    stored model knows it by; a profile leaves them empty.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {},
        "tiny": {
            "conditioner": "labels", "cond_dim": 8, "emb_dim": 8, "dim": 8, "widths": (4, 6, 8), "bands": 16,
            "sample_rate": 8000, "hop": 80,
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        conditioner: str = "spelling",
        conditioner_path: str = "",
        conditioner_sha256: str = "",
        classes: tuple[str, ...] = (),
        cond_dim: int = 0,
        emb_dim: int = 0,
        tower: str = "",
        tower_path: str = "",
        tower_sha256: str = "",
        dim: int = 128,
        widths: tuple[int, ...] = (24, 48, 64, 96, 128, 160),
        bands: int = 64,
        most_scale: float = 20.0,
        sample_rate: int = 16000,
        hop: int = 160,
        input_norm: Norm = "none",
        consistency: Kind = "none",
        consistency_when: When = "always",
    ) -> None:
        """Take towers, the width of the space, and the scale that cosines never reach; ConfigError as named."""
        super().__init__(
            sample_rate=sample_rate, hop=hop, input_norm=input_norm, consistency=consistency,
            consistency_when=consistency_when,
        )  # fmt: skip
        if consistency == "learned":
            raise ConfigError("model.consistency: learned, for which audio_text has no layer; take magsq or uniform")
        _check(dim, widths, bands, hop, most_scale)
        words = registry.load("conditioner", conditioner)(
            conditioner_path, classes, cond_dim, emb_dim, conditioner_sha256
        )
        kept = words.learns or words.stored
        self.conditioner: nn.Module = words if kept else Fixed(words, words.reference, words.sha256)
        self.tower = _tower(tower, tower_path, tower_sha256)
        self.ears: nn.Module = Ears(sample_rate, hop, bands, widths, dim)
        if self.tower is not None:
            with torch.no_grad():
                width = self._features(torch.zeros(1, 1)).shape[-1]
            self.ears = _two(width, dim)
        self.text = _two(words.pooled_dim + words.token_dim, dim)
        self.dim, self.most_scale, self.rate = dim, most_scale, sample_rate
        self.surety = nn.Parameter(torch.zeros(()))
        self._resamplers: dict[int, Resample] = {}

    @property
    def words(self) -> Conditioner:
        """The part that turns phrases into vectors."""
        return opened(self.conditioner)

    @property
    def scale(self) -> Tensor:
        """By which cosines become logits: below most_scale, whatever is learned, and half of it before."""
        return self.most_scale * torch.sigmoid(self.surety)

    def settled(self) -> dict[str, Any]:
        """Return the settings that making the model has found: list and widths of the conditioner, and what is frozen.

        A frozen part is known by its sha256.
        """
        found = self.words.settled()
        return {
            "classes": list(found["phrases"]), "cond_dim": found["token_dim"], "emb_dim": found["pooled_dim"],
            "conditioner_sha256": found["sha256"], "tower_sha256": self.tower.sha256 if self.tower else "",
        }  # fmt: skip

    def hear(self, waves: Tensor, rate: int = 0) -> Tensor:
        """Return (B, E), unit norm, of waves (B, T) at `rate` Hz (0: its own); differentiable to them."""
        given = rate or self.rate
        if self.input_norm != "none":
            waves = waves / waves.std(-1, correction=0, keepdim=True).clamp_min(1e-8)
        if self.tower is not None:
            return F.normalize(self.ears(self._features(waves, given)).float(), dim=-1)
        if given != self.rate:
            if given not in self._resamplers:
                self._resamplers[given] = Resample(given, self.rate)
            waves = self._resamplers[given].to(waves.device)(waves)
        return F.normalize(self.ears(waves).float(), dim=-1)

    def _features(self, waves: Tensor, rate: int = 0) -> Tensor:
        judge = self.tower.module if self.tower else None
        assert isinstance(judge, Judge)
        return judge.features(waves, rate)

    def read(self, phrases: Sequence[str]) -> Tensor:
        """Return (Q, E), unit norm, of phrases; BadInput as of the conditioner."""
        tokens, mask, whole = (part.to(self.surety.device) for part in self.words.encode(phrases))
        mean = (tokens * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return F.normalize(self.text(torch.cat([whole, mean], 1)).float(), dim=-1)

    def encode(self, queries: Sequence[str]) -> Conditions:
        """Return the vectors (Q, E) of queries."""
        return (self.read(queries),)

    def blank(self, count: int) -> Conditions:
        """Return conditions (1, count, E) of nothing, to count arithmetic and memory with."""
        return (torch.zeros(1, count, self.dim, device=self.surety.device),)

    def estimate(self, mix: Tensor, *conditions: Tensor) -> Tensor:
        """Return the mixture (B, T) at one gain for each of its queries, (B, N, T)."""
        fits = torch.einsum("be,bne->bn", self.hear(mix), conditions[0].float())
        return torch.sigmoid(self.scale * fits)[..., None] * mix[:, None]


def _two(width: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))


def _tower(name: str, path: str, sha256: str) -> Fixed | None:
    """Return the frozen judge that hears, None where none is named; ConfigError for a path without one."""
    if not name:
        if path:
            raise ConfigError("model.tower: empty, and model.tower_path is not; name the judge that lies there")
        return None
    if not path:
        raise ConfigError(f"model.tower_path: empty, and model.tower {name} lies in a folder; name it")
    kind = registry.load("judge", name)
    made: Judge = kind(path, sha256) if sha256 else kind(path)
    return Fixed(made, made.reference, made.sha256)


def _check(dim: int, widths: Sequence[int], bands: int, hop: int, most_scale: float) -> None:
    for key, found, least in (("dim", dim, 1), ("bands", bands, 8), ("hop", hop, 2)):
        if found < least:
            raise ConfigError(f"model.{key}: found {found}; expected {least} or more")
    if not widths or min(widths) < 1:
        raise ConfigError(f"model.widths: found {list(widths)}; expected channels of one layer or more, each above 0")
    if not 0 < most_scale < math.inf:
        raise ConfigError(f"model.most_scale: found {most_scale}; expected a number above 0")
