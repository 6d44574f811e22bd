"""Chimera: one recurrent body with two heads, embeddings of the bins and masks (Wang, Le Roux & Hershey 2018).

    h = lstm(log |X|),    M = f(W h),    v_tf = u / |u|,  u = tanh(W' h)_tf
Embeddings v of unit length, D numbers for each bin, are to lie close where the same source is loudest, which the
objective `deep_clustering` asks of them; they teach the body. Separation goes by the masks M, as in chimera++, and
computes no embedding; or, once learned, by masks of 0 and 1 from spherical k-means of the embeddings, each bin counted
by its magnitude, as deep clustering began (Hershey et al. 2016).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp import masks
from usepcli.dsp.masks import RealMask
from usepcli.dsp.parts import Parts
from usepcli.dsp.stft import Window
from usepcli.errors import ConfigError, choices
from usepcli.models.dense import Dense
from usepcli.models.recurrent import Lstm
from usepcli.models.separator import Common, reject_causal
from usepcli.models.spectral import LOG_FLOOR
from usepcli.models.spectral_live import LiveSpectralModel
from usepcli.models.streaming import Run, at_once

By = Literal["masks", "clusters"]
ROUNDS = 20  # of k-means


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
        separate_by: By = "masks",
        zero_last: bool = False,
        **common: Unpack[Common],
    ) -> None:
        """Take sizes (n_fft, win, hop in samples; hidden per direction; embedding D); zero_last: equal masks at first.

        separate_by clusters: in evaluation by k-means, which needs the whole signal. ConfigError for fewer than two
        numbers in an embedding, or dropout that is no share below 1.
        """
        masks.check(mask, masks.REAL)
        super().__init__(n_fft=n_fft, win=win, hop=hop, window=window, mask=mask, mask_scale=1.5, **common)
        if embedding < 2:
            raise ConfigError(f"model.embedding: found {embedding}; expected 2 or more")
        if not 0 <= dropout < 1:
            raise ConfigError(f"model.dropout: found {dropout}; expected 0 or more, below 1")
        if separate_by not in ("masks", "clusters"):
            raise ConfigError(f"model.separate_by: {choices('way', separate_by, ('masks', 'clusters'))}")
        if self.causal and separate_by == "clusters":
            reject_causal("model.separate_by 'clusters', which reads the whole input; set it to masks")
        self.separate_by = separate_by
        bins, both = self.stft.bins, bidirectional and not self.causal
        self.net = Lstm(bins, hidden, layers, both, dropout)
        self.head = Dense(self.net.outputs, self.n_src * bins)
        if zero_last:
            nn.init.zeros_(self.head.weight)
        self.start_equal(self.head.bias.view(self.n_src, bins))
        self.embed = Dense(self.net.outputs, bins * embedding)
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
        clusters = self.separate_by == "clusters" and not self.training
        found = self.embeddings(core) if clusters or torch.is_grad_enabled() else None
        if clusters:
            assert found is not None
            owner = clustered(found.detach().flatten(1, 2), spec.abs().flatten(1), self.n_src)  # (B, M, N)
            gains = owner.unflatten(1, spec.shape[1:]).permute(0, 2, 3, 1)  # (B, L, N, F)
        waves = self.stft.inverse(self._scaled(spec, gains), mix.shape[-1])
        return Parts(waves, gains.permute(0, 2, 3, 1), spec, self.shares_of(core), found)

    def hindrances(self) -> list[str]:
        """Return what keeps the model from taking blocks, each with what to set."""
        more = (
            ["model.separate_by 'clusters' reads the whole input (use masks)"] if self.separate_by == "clusters" else []
        )
        return super().hindrances() + more


def clustered(emb: Tensor, weight: Tensor, count: int) -> Tensor:
    """Return which of `count` clusters each embedding (B, M, D) of unit length belongs to, one-hot (B, M, count).

    Weighted by weight (B, M). The first centre is the embedding of most weight, every next one that which is farthest
    from those there are, by weight times distance: no chance has a hand in it.
    """
    rows = torch.arange(len(emb), device=emb.device)
    centres = emb[rows, weight.argmax(1)][:, None]  # (B, 1, D)
    while centres.shape[1] < count:
        far = weight * (1 - (emb @ centres.mT).amax(-1))
        centres = torch.cat([centres, emb[rows, far.argmax(1)][:, None]], 1)
    for _ in range(ROUNDS):
        owner = F.one_hot((emb @ centres.mT).argmax(-1), count).to(emb.dtype)  # (B, M, count)
        moved = F.normalize((weight[..., None] * owner).mT @ emb, dim=-1)
        # A cluster that lost its last member stays where it was.
        centres = torch.where(owner.sum(1)[..., None] > 0, moved, centres)
    return owner
