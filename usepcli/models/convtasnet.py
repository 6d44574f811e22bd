"""Conv-TasNet: masks from dilated convolutions on a learned basis (Luo & Mesgarani 2019)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple, Unpack

import torch
from torch import Tensor, nn

from usepcli.dsp import masks
from usepcli.dsp.masks import RealMask, masks_of
from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError, choices
from usepcli.models.basis import Activation, LearnedBasis, Padding
from usepcli.models.dense import Pointwise
from usepcli.models.depthwise import DepthwiseConv
from usepcli.models.separator import Common, SeparationModel, reject_causal
from usepcli.models.streaming import Run, Walk, at_once, silence
from usepcli.models.tcn import ChannelNorm, CumulativeNorm, GlobalNorm, start_level, view_frames, view_samples

Norm = Literal["gln", "cumln", "channel"]
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "gln": GlobalNorm, "cumln": CumulativeNorm, "channel": ChannelNorm,
}  # fmt: skip


class Kept(NamedTuple):
    """What is kept of B streams between two blocks."""

    waiting: Tensor  # (B, p): samples from the start of the next frame on
    tail: Tensor  # (B, N, kernel - hop): what the last frames give to these
    net: tuple[Any, ...]  # of norms and filters, in the order of their running


class Block(nn.Module):
    """1x1 expansion, PReLU, norm, depthwise, PReLU, norm, then 1x1 to the residual and the skip path."""

    def __init__(
        self, bottleneck: int, hidden: int, skip: int, kernel: int, dilation: int, norm: Norm, causal: bool
    ) -> None:
        super().__init__()
        layer = NORMS[norm]
        self.body = nn.Sequential(
            Pointwise(bottleneck, hidden), nn.PReLU(), layer(hidden),
            DepthwiseConv(hidden, kernel, dilation, causal), nn.PReLU(), layer(hidden),
        )  # fmt: skip
        # The residual and the skip convolution read the same input: one product serves both.
        self.out = Pointwise(hidden, bottleneck + skip)
        self.split = (bottleneck, skip)

    def forward(self, x: Tensor, run: Run = at_once) -> tuple[Tensor, Tensor]:
        """Return the next input (B, bottleneck, L) and the skip output (B, skip, L)."""
        residual, skip = self.out(run(self.body, x)).split(self.split, 1)
        return x + residual, skip


class ConvTasNet(SeparationModel):
    """Encoder, stacked dilated convolutions with skip connections, one mask per output, decoder.

    `causal` needs the cumulative norm or that of every frame by itself: the global one reads the whole input.
    Without skip channels the masks come from the last residual, as in the paper's first version.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "causal": {"norm": "cumln", "causal": True},
        "small": {
            "filters": 256, "bottleneck": 96, "hidden": 192, "skip": 96, "blocks": 7, "repeats": 2,
            "input_norm": "std", "consistency": "uniform",
        },
        "tiny": {
            "filters": 32, "bottleneck": 16, "hidden": 32, "skip": 16, "blocks": 3, "repeats": 2,
            "input_norm": "std", "consistency": "uniform",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        filters: int = 512,
        kernel: int = 16,
        stride: int = 0,
        padding: Padding = "end",
        activation: Activation = "relu",
        bottleneck: int = 128,
        hidden: int = 512,
        skip: int = 128,
        block_kernel: int = 3,
        blocks: int = 8,
        repeats: int = 3,
        norm: Norm = "gln",
        mask: RealMask = "sigmoid",
        zero_last: bool = False,
        **common: Unpack[Common],
    ) -> None:
        """Take sizes (kernel and stride in samples, block_kernel in frames); zero_last: all masks start equal.

        stride 0 is half the kernel; activation is the encoder's. ConfigError if sizes do not fit.
        """
        super().__init__(hop=stride or kernel // 2, **common)
        _check(norm, mask, block_kernel, self.causal)
        self.basis = LearnedBasis(filters, kernel, stride, activation, padding)
        self.inlet = nn.Sequential(NORMS[norm](filters), Pointwise(filters, bottleneck))
        self.blocks = nn.ModuleList(
            Block(bottleneck, hidden, skip, block_kernel, 2**i, norm, self.causal)
            for _ in range(repeats)
            for i in range(blocks)
        )
        last = Pointwise(skip or bottleneck, self.n_src * filters)
        if zero_last:
            start_level(last, masks.equal_score(mask, self.n_src))
        self.head = nn.Sequential(nn.PReLU(), last)
        self.mask, self.skips = mask, skip > 0
        self.learn_shares(skip or bottleneck)
        self._view = view_frames(repeats, blocks, block_kernel)

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, T) of mix (B, T), masks (B, N, filters, L) and weights (B, filters, L)."""
        weights = self.basis.analyse(mix)  # (B, filters, L)
        found, core = self._masks(weights, at_once)
        return Parts(
            self.basis.synthesise(found * weights[:, None], mix.shape[-1]), found, weights, self.shares_of(core.mT)
        )

    def _masks(self, weights: Tensor, run: Run) -> tuple[Tensor, Tensor]:
        """Return the masks (B, N, filters, L) of weights (B, filters, L), and the features (B, C, L) behind them."""
        x, skips = run(self.inlet, weights), torch.zeros((), device=weights.device)
        for block in self.blocks:
            x, skip = block(x, run)
            skips = skips + skip
        core = skips if self.skips else x
        return masks_of(self.head(core).unflatten(1, (self.n_src, -1)), self.mask), core

    def hindrances(self) -> list[str]:
        """Return what keeps the model from taking blocks, each with what to set."""
        return super().hindrances() + self.basis.hindrances()

    def open(self, batch: int) -> Kept:
        """Return what is kept before the first block of `batch` streams."""
        tail = silence(self, batch, self.n_src, self.basis.kernel - self.hop)
        return Kept(silence(self, batch, 0), tail, ())

    def advance(self, block: Tensor, kept: Kept) -> tuple[Tensor, Kept]:
        """Return the estimates (B, N, L hop) that a block (B, t) settles, L >= 0, and what is kept then."""
        weights, waiting = self.basis.hear(block, kept.waiting)
        if not weights.shape[-1]:
            return kept.tail[..., :0], kept._replace(waiting=waiting)
        walk = Walk(kept.net)
        est, tail = self.basis.speak(self._masks(weights, walk)[0] * weights[:, None], kept.tail)
        return est, Kept(waiting, tail, walk.kept)

    def close(self, kept: Kept, heard: int, rest: int) -> Tensor:
        """Return the last `rest` estimates (B, N, rest) of a signal of `heard` samples."""
        est, kept = self.advance(silence(self, len(kept.tail), self.basis.missing(heard)), kept)
        return self.basis.ended(est, kept.tail, rest)

    @property
    def latency_samples(self) -> int:
        """One basis function: the last frame that reaches sample t ends before t + kernel."""
        return self.basis.kernel

    @property
    def receptive_field_samples(self) -> int:
        """Samples seen through the convolutions; the norms' statistics reach further."""
        return view_samples(self._view, self.basis.kernel, self.hop)


def _check(norm: str, mask: str, block_kernel: int, causal: bool) -> None:
    for key, found, known in (("norm", norm, NORMS), ("mask", mask, masks.REAL)):
        if found not in known:
            raise ConfigError(f"model.{key}: {choices(key, found, known)}")
    if block_kernel % 2 == 0:
        raise ConfigError(f"model.block_kernel: found {block_kernel}; expected an odd number of frames")
    if causal and norm == "gln":
        reject_causal("model.norm 'gln', which reads the whole input; set model.norm: cumln or channel")
