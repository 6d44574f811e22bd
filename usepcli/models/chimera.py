"""Chimera: one recurrent body with two heads, embeddings of the bins and masks (Wang, Le Roux & Hershey 2018).

    h = lstm(log |X|),    M = f(W h),    v_tf = u / |u|,  u = tanh(W' h)_tf
Embeddings v of unit length, D numbers for each bin, are to lie close where the same source is loudest, which the
objective `deep_clustering` asks of them; they teach the body. Separation goes by the masks M alone: no clustering is
left to be done, and what lacks a gradient computes no embedding.
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp import masks
from usepcli.dsp.masks import RealMask
from usepcli.dsp.parts import Parts
from usepcli.dsp.stft import Window
from usepcli.errors import ConfigError
from usepcli.models.recurrent import Lstm
from usepcli.models.separator import Common
from usepcli.models.spectral import LOG_FLOOR
from usepcli.models.spectral_live import LiveSpectralModel
from usepcli.models.streaming import Run, at_once


class Chimera(LiveSpectralModel):
    """Masks, and while it learns embeddings, from (B)LSTMs along the frames of the STFT; the defaults are chimera++.

    `causal` runs them forwards alone: the latency is one window.
    """

    embeds = True
    COMMON: ClassVar[Common] = {"input_norm": "std"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "small": {"hop": 128, "hidden": 128, "layers": 2, "dropout": 0.0, "consistency": "uniform"},
        "tiny": {
            "n_fft": 64, "win": 64, "hop": 32, "hidden": 16, "layers": 2, "dropout": 0.0, "embedding": 6,
            "consistency": "uniform",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        n_fft: int = 256,
        win: int = 256,
        hop: int = 64,
        window: Window = "sqrt_hann",
        hidden: int = 600,
        layers: int = 4,
        embedding: int = 20,
        bidirectional: bool = True,
        mask: RealMask = "softmax",
        dropout: float = 0.3,
        zero_last: bool = False,
        **common: Unpack[Common],
    ) -> None:
        """Take sizes (n_fft, win, hop in samples; hidden per direction; embedding D); zero_last: equal masks at first.

        ConfigError for fewer than two numbers in an embedding, or dropout that is no share below 1.
        """
        masks.check(mask, masks.REAL)
        super().__init__(n_fft=n_fft, win=win, hop=hop, window=window, mask=mask, mask_scale=1.5, **common)
        if embedding < 2:
            raise ConfigError(f"model.embedding: found {embedding}; expected 2 or more")
        if not 0 <= dropout < 1:
            raise ConfigError(f"model.dropout: found {dropout}; expected 0 or more, below 1")
        bins, both = self.stft.bins, bidirectional and not self.causal
        self.net = Lstm(bins, hidden, layers, both, dropout)
        self.head = nn.Linear(self.net.outputs, self.n_src * bins)
        if zero_last:
            nn.init.zeros_(self.head.weight)
        self.start_equal(self.head.bias.view(self.n_src, bins))
        self.embed = nn.Linear(self.net.outputs, bins * embedding)
        self.learn_shares(self.net.outputs)

    def core(self, spec: Tensor, run: Run = at_once) -> Tensor:
        """Return features (B, L, C) of the mixture's spectrum (B, F, L)."""
        return run(self.net, torch.log(spec.abs().mT + LOG_FLOOR))

    def scores(self, core: Tensor) -> Tensor:
        """Return mask logits (B, L, N, F) from features (B, L, C)."""
        return self.head(core).unflatten(-1, (self.n_src, -1))  # type: ignore[no-any-return]

    def embeddings(self, core: Tensor) -> Tensor:
        """Return embeddings (B, F, L, D) of unit length from features (B, L, C), in float32."""
        found = torch.tanh(self.embed(core).float()).unflatten(-1, (self.stft.bins, -1))  # (B, L, F, D)
        return F.normalize(found, dim=-1).transpose(1, 2)  # (B, F, L, D)

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, T) of mix (B, T), masks (B, N, F, L), spectrum and, with gradients, embeddings."""
        spec = self.stft(mix)  # (B, F, L)
        core = self.core(spec)
        gains = self.gains(self.scores(core))  # (B, L, N, F)
        waves = self.stft.inverse(self._scaled(spec, gains), mix.shape[-1])
        found = self.embeddings(core) if torch.is_grad_enabled() else None
        return Parts(waves, gains.permute(0, 2, 3, 1), spec, self.shares_of(core), found)
