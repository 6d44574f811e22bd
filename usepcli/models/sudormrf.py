"""SuDoRM-RF: masks on a learned basis from blocks that look at halved and halved again resolutions.

The original (Tzinis, Wang & Smaragdis 2020), the improved one of "++" and that with group communication (Tzinis, Wang,
Jiang & Smaragdis 2022). A block widens its input, filters it at `depth` resolutions, adds each, every value repeated,
to the next finer one, and narrows the sum.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp import masks
from usepcli.dsp.masks import RealMask, masks_of
from usepcli.dsp.parts import Parts
from usepcli.errors import ConfigError, choices
from usepcli.models.basis import Activation
from usepcli.models.dense import Pointwise, pointwise
from usepcli.models.separator import Common, SeparationModel, reject_causal
from usepcli.models.sudormrf_parts import Block, Decoder, PooledBasis, Talk
from usepcli.models.tcn import GlobalNorm

Variant = Literal["improved", "original"]
Slopes = Literal["one", "each"]

# Resolutions; the signal is filled up to a multiple of 2^depth frames.
DEEPEST = 12


class SuDoRMRF(SeparationModel):
    """Encoder, blocks at several resolutions, one mask per output, decoder.

    `variant` original ends every block in a norm and makes the masks by one filter per output along the basis; improved
    adds blocks to a residual and makes the masks by a 1x1 convolution. `groups` above 1 divides the channels into
    groups that share one small block and exchange their mean before it. Not causal: the norms read the whole input.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "paper_36": {"filters": 2048, "dim": 512, "blocks": 36},
        "paper_groups": {"groups": 16, "blocks": 8},
        "paper_original": {
            "variant": "original", "activation": "relu", "decoder": "each", "dim": 128, "depth": 4, "mask": "softmax",
        },
        "small": {
            "filters": 256, "dim": 96, "hidden": 192, "blocks": 8, "depth": 4,
            "input_norm": "std", "consistency": "uniform",
        },
        "tiny": {
            "filters": 24, "kernel": 9, "stride": 4, "dim": 16, "hidden": 32, "blocks": 2, "depth": 3,
            "input_norm": "std", "consistency": "uniform",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        variant: Variant = "improved",
        filters: int = 512,
        kernel: int = 21,
        stride: int = 10,
        activation: Activation = "linear",
        dim: int = 256,
        hidden: int = 512,
        blocks: int = 16,
        depth: int = 5,
        groups: int = 1,
        mask: RealMask = "relu",
        decoder: Decoder = "joint",
        slopes: Slopes | None = None,
        unit: int = 0,
        **common: Unpack[Common],
    ) -> None:
        """Take sizes: kernel and stride in samples, depth in resolutions; ConfigError if they do not fit.

        decoder: one for all outputs (shared), one for each, or a joint one that reads the masked bases of all; slopes:
        one for all channels before a block's last convolution, or one for each; unit: frames are filled up to a
        multiple of it. Of these two, None and 0 are what the variant's authors do.
        """
        super().__init__(hop=stride, **common)
        masks.check(mask, masks.REAL)
        _check(variant, filters, dim, hidden, groups, depth, self.causal)
        self.mask, self.groups = mask, groups
        original = variant == "original"
        # Zeros count in the norms: the original fills up to the coarsest frame, the improved one to two of these.
        unit = unit or 2 ** (depth - 1 if original else depth)
        if unit < 1 or unit % 2 ** (depth - 1):
            raise ConfigError(f"model.unit: found {unit}; expected a multiple of {2 ** (depth - 1)} frames, or 0")
        if slopes not in (None, "one", "each"):
            raise ConfigError(f"model.slopes: {choices('kind', str(slopes), ('one', 'each'))}")
        each = original if slopes is None else slopes == "each"
        self.basis = PooledBasis(filters, kernel, stride, activation, self.n_src, decoder, unit, bias=original)
        self.inlet = nn.Sequential(GlobalNorm(filters), Pointwise(filters, dim))
        self.blocks = nn.ModuleList()
        for _ in range(blocks):
            if groups > 1:
                self.blocks.append(Talk(dim // groups, 3 * dim // groups, groups))
            self.blocks.append(Block(dim // groups, hidden // groups, depth, original, each))
        self.head = FilterHead(dim, filters, self.n_src) if original else PointHead(dim, filters, self.n_src)
        self.learn_shares(dim)

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, T) of mix (B, T), masks (B, N, filters, L) and weights (B, filters, L)."""
        weights = self.basis.analyse(mix)  # (B, filters, L)
        x = self.inlet(weights)
        x = x.unflatten(1, (self.groups, -1)).flatten(0, 1)  # (B groups, dim / groups, L)
        for block in self.blocks:
            x = block(x)
        x = x.unflatten(0, (-1, self.groups)).flatten(1, 2)  # (B, dim, L)
        found = masks_of(self.head(x), self.mask)
        waves = self.basis.synthesise(found * weights[:, None], mix.shape[-1])
        return Parts(waves, found, weights, self.shares_of(x.mT))

    @property
    def latency_samples(self) -> int:
        """One basis function, were the norms not to read the whole input."""
        return self.basis.kernel


class PointHead(nn.Sequential):
    """PReLU and a 1x1 convolution: (B, dim, L) to scores (B, N, filters, L)."""

    def __init__(self, dim: int, filters: int, n_src: int) -> None:
        super().__init__(nn.PReLU(), Pointwise(dim, n_src * filters), nn.Unflatten(1, (n_src, filters)))


class FilterHead(nn.Module):
    """1x1 convolution to the size of the basis, then one filter per output along it: (B, dim, L) to (B, N, filters, L).

    A filter as long as the basis is a product with the matrix of its shifted copies.
    """

    def __init__(self, dim: int, filters: int, n_src: int) -> None:
        super().__init__()
        self.widen = Pointwise(dim, filters)
        bound = (filters + 1) ** -0.5
        self.weight = nn.Parameter(torch.empty(n_src, filters + 1).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n_src).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (B, N, filters, L): sum over k of weight[n, k] x[c + k - filters / 2]."""
        x = self.widen(x)  # (B, filters, L)
        size = x.shape[1]
        # Row c of the matrix begins filters / 2 - c taps into the filter, which zeros surround.
        shifted = F.pad(self.weight, (size // 2 - 1, size // 2 - 1)).unfold(1, size, 1).flip(1)  # (N, filters, filters)
        scores = pointwise(x, shifted.flatten(0, 1)[..., None]).unflatten(1, (-1, size))
        return scores + self.bias[:, None, None]


def _check(variant: str, filters: int, dim: int, hidden: int, groups: int, depth: int, causal: bool) -> None:
    if variant not in ("improved", "original"):
        raise ConfigError(f"model.variant: {choices('variant', variant, ('improved', 'original'))}")
    if variant == "original" and filters % 2:
        raise ConfigError(f"model.filters: found {filters}; expected an even number for variant original")
    if groups < 1 or dim % groups or hidden % groups:
        raise ConfigError(
            f"model.groups: found {groups}; expected a divisor of model.dim = {dim} and model.hidden = {hidden}"
        )
    if not 1 <= depth <= DEEPEST:
        raise ConfigError(f"model.depth: found {depth}; expected 1 to {DEEPEST} resolutions")
    if causal:
        reject_causal("sudormrf, whose norms read the whole input; use model.name: convtasnet, preset: causal")
