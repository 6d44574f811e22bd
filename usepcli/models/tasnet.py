"""TasNet: masks from LSTMs on a gated basis of short segments (Luo & Mesgarani 2018).

Segments of 5 ms follow each other without overlap. Each is heard at the length of one, and gets its own length back:
    w = ReLU(U x / |x|) * sigmoid(V x / |x|),     s_n = B (M_n w) |x|
with masks M = softmax over the sources of a linear map of LSTMs on the normalised w. What the second layer gives is
added to what every second layer after it gives. With another norm than that of single frames, these are heard as they
are.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple, Unpack

import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp import masks
from usepcli.dsp.masks import RealMask, masks_of
from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError, choices
from usepcli.models.basis import GatedBasis, Padding
from usepcli.models.dense import Dense
from usepcli.models.recurrent import Lstm
from usepcli.models.separator import Common, SeparationModel, reject_causal
from usepcli.models.streaming import Run, Walk, at_once, silence
from usepcli.models.tcn import CumulativeNorm, GlobalNorm

Norm = Literal["frame", "gln", "cumln"]
_NORMS = {"frame": nn.LayerNorm, "gln": GlobalNorm, "cumln": CumulativeNorm}


class Kept(NamedTuple):
    """What is kept of B streams between two blocks."""

    waiting: Tensor  # (B, p): samples from the start of the next segment on
    tail: Tensor  # (B, N, kernel - hop): what the last segments give to these
    net: tuple[Any, ...]  # of the LSTMs, in the order of their running


class TasNet(SeparationModel):
    """Gated encoder, LSTMs along the segments, one mask per output, linear decoder; the defaults are TasNet-BLSTM.

    `causal` runs the LSTMs forwards alone: the latency is one segment.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "causal": {"hidden": 1000, "causal": True},
        "small": {"filters": 128, "hidden": 96, "layers": 2, "input_norm": "std", "consistency": "uniform"},
        "tiny": {
            "filters": 24, "kernel": 8, "hidden": 16, "layers": 4, "input_norm": "std", "consistency": "uniform",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        filters: int = 500,
        kernel: int = 40,
        stride: int = 0,
        hidden: int = 500,
        layers: int = 4,
        bidirectional: bool = True,
        mask: RealMask = "softmax",
        norm: Norm = "frame",
        skips: bool = True,
        padding: Padding = "end",
        dropout: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        """Take sizes: kernel and stride in samples (0: no overlap), hidden per direction; dropout between layers.

        norm: of single frames, of the whole input, or of all frames so far; skips: whether second layers are added up.
        """
        super().__init__(hop=stride or kernel, **common)
        masks.check(mask, masks.REAL)
        if not 0 <= dropout < 1:
            raise ConfigError(f"model.dropout: found {dropout}; expected 0 or more, below 1")
        if layers < 1:
            raise ConfigError(f"model.layers: found {layers}; expected at least one")
        if norm not in _NORMS:
            raise ConfigError(f"model.norm: {choices('norm', norm, _NORMS)}")
        if self.causal and norm == "gln":
            reject_causal("model.norm 'gln', which reads the whole input; set model.norm: cumln or frame")
        self.mask, self.framed, self.skips = mask, norm == "frame", skips
        self.basis = GatedBasis(filters, kernel, stride or kernel, padding, levelled=self.framed)
        self.norm = _NORMS[norm](filters)
        both = bidirectional and not self.causal
        width = hidden * (2 if both else 1)
        self.layers = nn.ModuleList(Lstm(width if i else filters, hidden, 1, both) for i in range(layers))
        self.drop = nn.Dropout(dropout)
        self.head = Dense(width, self.n_src * filters)
        self.learn_shares(width)

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, T) of mix (B, T), masks (B, N, filters, L) and weights (B, filters, L)."""
        weights = self.basis.analyse(mix)  # (B, filters, L)
        found, core = self._masks(weights, at_once)
        waves = self.basis.synthesise(found * weights[:, None], mix.shape[-1])
        return Parts(waves, found, weights, self.shares_of(core))

    def _masks(self, weights: Tensor, run: Run) -> tuple[Tensor, Tensor]:
        """Return the masks (B, N, filters, L) of weights (B, filters, L), and the features (B, L, C) behind them."""
        if self.framed:
            # The norm of a segment's weights knows nothing of its level, which is on them here already.
            x = self.norm(F.normalize(weights, dim=1).mT * weights.shape[1] ** 0.5)
        else:
            x = run(self.norm, weights).mT
        skip: Tensor | None = None
        for number, layer in enumerate(self.layers):
            x = run(layer, self.drop(x) if number else x)
            if number % 2 and self.skips:
                x = skip = x if skip is None else x + skip
        scores = self.head(x).unflatten(-1, (self.n_src, -1)).permute(0, 2, 3, 1)
        return masks_of(scores, self.mask), x

    def open(self, batch: int) -> Kept:
        """Return what is kept before the first block of `batch` streams."""
        return Kept(silence(self, batch, 0), silence(self, batch, self.n_src, self.basis.kernel - self.hop), ())

    def advance(self, block: Tensor, kept: Kept) -> tuple[Tensor, Kept]:
        """Return the estimates (B, N, L hop) that a block (B, t) settles, L >= 0, and what is kept then."""
        weights, waiting = self.basis.hear(block, kept.waiting)
        if not weights.shape[-1]:
            return silence(self, len(weights), self.n_src, 0), kept._replace(waiting=waiting)
        walk = Walk(kept.net)
        est, tail = self.basis.speak(self._masks(weights, walk)[0] * weights[:, None], kept.tail)
        return est, Kept(waiting, tail, walk.kept)

    def close(self, kept: Kept, heard: int, rest: int) -> Tensor:
        """Return the last `rest` estimates (B, N, rest) of a signal of `heard` samples."""
        est, kept = self.advance(silence(self, len(kept.tail), self.basis.missing(heard)), kept)
        return self.basis.ended(est, kept.tail, rest)

    @property
    def latency_samples(self) -> int:
        """One segment."""
        return self.basis.kernel
