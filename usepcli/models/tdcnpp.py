"""TDCN++: dilated residual network on a learned basis or an STFT (MixIT, Wisdom et al. 2020, supplement)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

from torch import Tensor, nn

from usepcli.dsp import masks
from usepcli.dsp.masks import RealMask, masks_of
from usepcli.dsp.parts import Parts
from usepcli.dsp.stft import STFT, Window
from usepcli.errors import ConfigError, choices
from usepcli.models.basis import LearnedBasis
from usepcli.models.dense import Pointwise
from usepcli.models.depthwise import DepthwiseConv
from usepcli.models.separator import Common, SeparationModel, reject_causal
from usepcli.models.tcn import ScalarNorm, ScaledDense, start_level, view_frames, view_samples

Encoder = Literal["learned", "stft"]


def block(width: int, hidden: int, kernel: int, index: int, dilation: int, bias: bool) -> nn.Sequential:
    """Return the residual branch of block `index`, whose last factor starts at 0.9^index."""
    return nn.Sequential(
        ScaledDense(width, hidden, bias=bias), nn.PReLU(init=0.1), ScalarNorm(),
        DepthwiseConv(hidden, kernel, dilation), nn.PReLU(init=0.1), ScalarNorm(),
        ScaledDense(hidden, width, scale=0.9**index, bias=bias),
    )  # fmt: skip


class ResidualTCN(nn.Module):
    """Residual blocks with dilations 1, 2, 4, ... per repeat, and dense skips between all repeats' inputs."""

    def __init__(self, width: int, hidden: int, kernel: int, blocks: int, repeats: int, bias: bool) -> None:
        super().__init__()
        self.per_repeat = blocks
        self.blocks = nn.ModuleList(
            block(width, hidden, kernel, i, 2 ** (i % blocks), bias) for i in range(blocks * repeats)
        )
        self.skips = nn.ModuleDict({f"{i}_{j}": ScaledDense(width, width) for j in range(repeats) for i in range(j)})

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, L) from x (B, width, L)."""
        starts: list[Tensor] = []
        for index, branch in enumerate(self.blocks):
            repeat, position = divmod(index, self.per_repeat)
            if position == 0:
                for earlier, start in enumerate(starts):
                    x = x + self.skips[f"{earlier}_{repeat}"](start)
                starts.append(x)
            x = x + branch(x)
        return x


class TDCNpp(SeparationModel):
    """Encoder, residual TCN, one sigmoid mask per output, decoder, mixture consistency.

    With `encoder: stft` the network reads the globally normalised magnitude and the masks scale the
    mixture's complex spectrum; `dense_bias` and `final_dense` are off there, as in the published baseline
    for universal separation.
    """

    COMMON: ClassVar[Common] = {"consistency": "uniform"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "stft": {
            "n_src": 4, "sample_rate": 16000, "encoder": "stft", "dense_bias": False, "final_dense": False,
        },
        "small": {"filters": 128, "width": 96, "hidden": 192, "repeats": 2, "input_norm": "std"},
        "tiny": {"filters": 32, "width": 16, "hidden": 32, "blocks": 3, "repeats": 2, "input_norm": "std"},
    }  # fmt: skip

    def __init__(
        self,
        *,
        encoder: Encoder = "learned",
        filters: int = 256,
        kernel: int = 20,
        n_fft: int = 512,
        win: int = 512,
        hop: int = 128,
        window: Window = "sqrt_hann",
        width: int = 256,
        hidden: int = 512,
        block_kernel: int = 3,
        blocks: int = 8,
        repeats: int = 4,
        dense_bias: bool = True,
        final_dense: bool = True,
        zero_last: bool = False,
        mask: RealMask = "sigmoid",
        **common: Unpack[Common],
    ) -> None:
        """Take sizes: filters and kernel (samples) for `learned`; n_fft, win and hop (samples) for `stft`.

        zero_last: all masks start equal.
        """
        learned = encoder == "learned"
        super().__init__(hop=kernel // 2 if learned else hop, **common)
        _check(encoder, block_kernel, self.causal)
        masks.check(mask, masks.REAL)
        self.encoder, self.mask = encoder, mask
        self.basis: Any = LearnedBasis(filters, kernel) if learned else STFT(n_fft, win, hop, window)
        self._span = kernel if learned else win
        rows = filters if learned else n_fft // 2 + 1
        self.level = nn.Identity() if learned else ScalarNorm(groups=1, eps=1e-8)
        self.inlet = ScaledDense(rows, width)
        self.tcn = ResidualTCN(width, hidden, block_kernel, blocks, repeats, dense_bias)
        self.final = Pointwise(width, width) if final_dense else nn.Identity()
        self.head = Pointwise(width, self.n_src * rows)
        if zero_last:
            start_level(self.head, masks.equal_score(mask, self.n_src))
        self.learn_shares(width)
        self._view = view_frames(repeats, blocks, block_kernel)

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, T) of the mixture (B, T), masks (B, N, rows, L) and its weights (B, rows, L)."""
        weights = self.basis.analyse(mix) if self.encoder == "learned" else self.basis(mix)  # (B, rows, L)
        # The masks are real, and read the magnitude of a complex spectrum.
        core = self.core(weights if self.encoder == "learned" else weights.abs())
        found, length = self.masks(core), mix.shape[-1]
        inverse = self.basis.synthesise if self.encoder == "learned" else self.basis.inverse
        return Parts(inverse(found * weights[:, None], length), found, weights, self.shares_of(core.mT))

    def transform(self, wave: Tensor) -> Tensor:
        """Return the spectra (..., F, L) of waves (..., T); ConfigError with a learned basis, which has no phase."""
        return self.basis(wave) if self.encoder == "stft" else super().transform(wave)

    def core(self, weights: Tensor) -> Tensor:
        """Return features (B, width, L) of the mixture's weights (B, rows, L)."""
        return self.final(self.tcn(self.inlet(self.level(weights))))

    def masks(self, core: Tensor) -> Tensor:
        """Return masks (B, N, rows, L) in the mask's range from features (B, width, L)."""
        return masks_of(self.head(core).float().unflatten(1, (self.n_src, -1)), self.mask)

    @property
    def latency_samples(self) -> int:
        """One frame, were the norms not global."""
        return self._span

    @property
    def receptive_field_samples(self) -> int:
        """Samples seen through the convolutions; the norms' statistics reach further."""
        return view_samples(self._view, self.latency_samples, self.hop)


def _check(encoder: str, block_kernel: int, causal: bool) -> None:
    if encoder not in ("learned", "stft"):
        raise ConfigError(f"model.encoder: {choices('encoder', encoder, ('learned', 'stft'))}")
    if block_kernel % 2 == 0:
        raise ConfigError(f"model.block_kernel: found {block_kernel}; expected an odd number of frames")
    if causal:
        reject_causal("tdcnpp, whose norms read the whole input; use model.name: convtasnet, preset: causal")
