"""Masks from recurrent layers on magnitudes, the networks of utterance-level PIT (Kolbaek et al. 2017, section IV).

    M_n = f(W lstm(|X|))_n       f: softmax over the sources, sigmoid, ReLU or tanh
The loss `spectral_mse` trains them towards the amplitude (am), what of it lies in the mixture's phase (psm), or the
positive part of that (npsm). The stacked network (uPIT-BLSTM-ST) answers with the mean of two stages. Its published
size is twice that of one stage, so the second reads one stream of the first at a time and takes it apart again: of
stream k, output j is what belongs to source (k + j) mod N, so that 0 stays and the others go where they should be:
    M'_n = sum_k M_k f(W' lstm'(M_k |X|))_(n - k) mod N,      masks (M + M') / 2
How streams are read there is our own choice; this is equal in size, the same for every order of the streams, and masks
that add up to one do so again.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn

from usepcli.dsp import masks
from usepcli.dsp.masks import RealMask, masks_of
from usepcli.dsp.stft import Window
from usepcli.errors import ConfigError, choices
from usepcli.models.dense import Dense
from usepcli.models.recurrent import Lstm
from usepcli.models.running_level import MEMORY_S, RunningLevel
from usepcli.models.separator import Common
from usepcli.models.spectral import LOG_FLOOR
from usepcli.models.spectral_live import LiveSpectralModel
from usepcli.models.streaming import Run, at_once

Features = Literal["magnitude", "log_magnitude"]


class UPIT(LiveSpectralModel):
    """Masks from LSTMs along the frames of the STFT, in one stage or two; the defaults are uPIT-BLSTM.

    `causal` runs them forwards alone: the latency is one window.
    """

    COMMON: ClassVar[Common] = {"input_norm": "std"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "paper_st": {"stages": 2},
        "causal": {"hidden": 1792, "causal": True, "input_norm": "none"},
        "small": {"hidden": 128, "layers": 2, "dropout": 0.0, "features": "log_magnitude", "consistency": "uniform"},
        "tiny": {
            "n_fft": 64, "win": 64, "hop": 32, "hidden": 16, "layers": 2, "dropout": 0.0,
            "features": "log_magnitude", "consistency": "uniform",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        n_fft: int = 256,
        win: int = 256,
        hop: int = 128,
        window: Window = "hann",
        hidden: int = 896,
        layers: int = 3,
        bidirectional: bool = True,
        stages: int = 1,
        mask: RealMask = "relu",
        features: Features = "magnitude",
        dropout: float = 0.5,
        zero_last: bool = False,
        levelled: bool = False,
        **common: Unpack[Common],
    ) -> None:
        """Take sizes (n_fft, win, hop in samples; hidden per direction); zero_last: all masks start equal.

        levelled: magnitudes are heard at the level of the last seconds, so that a causal net knows any loudness.
        """
        masks.check(mask, masks.REAL)
        super().__init__(n_fft=n_fft, win=win, hop=hop, window=window, mask=mask, mask_scale=1.5, **common)
        _check(stages, features, dropout)
        bins, both = self.stft.bins, bidirectional and not self.causal
        self.features = features
        self.level = RunningLevel(MEMORY_S * self.sample_rate / hop) if levelled else None
        nets = [Lstm(bins, hidden, layers, both, dropout) for _ in range(stages)]
        heads = [Dense(net.outputs, self.n_src * bins) for net in nets]
        for head in heads:
            if zero_last:
                nn.init.zeros_(head.weight)
            self.start_equal(head.bias.view(self.n_src, bins))
        self.nets, self.heads = nn.ModuleList(nets), nn.ModuleList(heads)
        self.learn_shares(nets[0].outputs)

    def core(self, spec: Tensor, run: Run = at_once) -> Tensor:
        """Return features (B, L, C) of the mixture's spectrum (B, F, L), for two stages (B, L, 1 + N, C)."""
        heard = spec.abs().mT  # (B, L, F)
        if self.level is not None:
            heard = run(self.level, heard)
        first = run(self.nets[0], self._read(heard))  # (B, L, C)
        if len(self.nets) == 1:
            return first
        streams = self._told(0, first) * heard[:, :, None]  # (B, L, N, F)
        second = run(self.nets[1], self._read(streams).transpose(1, 2).flatten(0, 1))  # (B N, L, C)
        second = second.unflatten(0, (-1, self.n_src)).transpose(1, 2)
        return torch.cat([first[:, :, None], second], 2)

    def scores(self, core: Tensor) -> Tensor:
        """Return mask logits (B, L, N, F) from features; for two stages (B, L, 1 + N, N, F)."""
        if len(self.nets) == 1:
            return self._logits(0, core)
        return torch.cat([self._logits(0, core[:, :, :1]), self._logits(1, core[:, :, 1:])], 2)

    def gains(self, logits: Tensor) -> Tensor:
        """Return the masks (B, L, N, F) of what `scores` returns, in float32."""
        found = masks_of(logits.float(), self.mask, axis=-2)
        if len(self.nets) == 1:
            return found
        first, again = found[:, :, 0], found[:, :, 1:]  # (B, L, N, F), (B, L, N, N, F)
        moved = [(first[:, :, k, None] * again[:, :, k]).roll(k, 2) for k in range(self.n_src)]
        return (first + torch.stack(moved).sum(0)) / 2

    def _read(self, level: Tensor) -> Tensor:
        """Return what a network reads of magnitudes, which masks may have made negative."""
        return level if self.features == "magnitude" else torch.log(level.abs() + LOG_FLOOR)

    def _logits(self, stage: int, x: Tensor) -> Tensor:
        """Return mask logits (..., N, F) of a stage from its features (..., C)."""
        return self.heads[stage](x).unflatten(-1, (self.n_src, -1))  # type: ignore[no-any-return]

    def _told(self, stage: int, x: Tensor) -> Tensor:
        """Return the masks (..., N, F) of a stage from its features (..., C)."""
        return masks_of(self._logits(stage, x).float(), self.mask, axis=-2)


def _check(stages: int, features: str, dropout: float) -> None:
    if stages not in (1, 2):
        raise ConfigError(f"model.stages: found {stages}; expected 1 or 2")
    if features not in ("magnitude", "log_magnitude"):
        raise ConfigError(f"model.features: {choices('features', features, ('magnitude', 'log_magnitude'))}")
    if not 0 <= dropout < 1:
        raise ConfigError(f"model.dropout: found {dropout}; expected 0 or more, below 1")
