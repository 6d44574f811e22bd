"""Stems by as many TIGERs: each network divides the mixture into all stems, and one of its masks is kept (TIGER-DnR).

stem k = inverse STFT of (mask takes[k] of network k) (spectrum), each network's masks adding up to 1
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn

from usepcli.dsp.stft import Edges, Window
from usepcli.errors import ConfigError
from usepcli.models.separator import Common
from usepcli.models.spectral import SpectralModel
from usepcli.models.stem_bag import segment_of, stems_of
from usepcli.models.tiger import TIGER, Widths


class TigerStems(SpectralModel):
    """One TIGER for each output on the same spectrum; the outputs are ordered and do not add up to the mixture.

    Not causal, as TIGER is.
    """

    ordered = True
    COMMON: ClassVar[Common] = {"n_src": 3, "sample_rate": 44100}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"stems": ("dialog", "effect", "music"), "takes": (2, 1, 0)},
        "small": {
            "sample_rate": 8000, "n_fft": 256, "win": 256, "hop": 128, "window": "sqrt_hann", "dim": 48, "hidden": 96,
            "blocks": 4, "depth": 4, "dropout": 0.0, "widths": "speech", "segment_s": 0.0, "input_norm": "std",
        },
        "tiny": {
            "n_src": 2, "sample_rate": 8000, "n_fft": 64, "win": 64, "hop": 32, "window": "sqrt_hann", "dim": 16,
            "hidden": 32, "blocks": 2, "depth": 3, "heads": 2, "dropout": 0.0, "widths": "speech", "segment_s": 0.0,
            "input_norm": "std",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        stems: tuple[str, ...] = (),
        takes: tuple[int, ...] = (),
        segment_s: float = 12.0,
        n_fft: int = 2048,
        win: int = 2048,
        hop: int = 512,
        window: Window = "hann",
        edges: Edges = "zeros",
        dim: int = 132,
        hidden: int = 256,
        blocks: int = 8,
        depth: int = 5,
        heads: int = 4,
        key: int = 4,
        dropout: float = 0.1,
        widths: Widths = "sound",
        **common: Unpack[Common],
    ) -> None:
        """Take names of the outputs, the mask of each network that is one (empty: k of network k), and sizes of TIGER.

        segment_s: seconds that a recording is heard at a time; ConfigError if sizes or names do not fit.
        """
        super().__init__(
            n_fft=n_fft, win=win, hop=hop, window=window, edges=edges, mask="tanh_complex", mask_scale=2.0, **common
        )  # fmt: skip
        self.stems, self.segment_s = stems_of(stems, self.n_src), segment_of(segment_s)
        # No list of n_src numbers is made before the networks are: a file may claim any number of outputs.
        if takes and (len(takes) != self.n_src or sorted(takes) != list(range(len(takes)))):
            raise ConfigError(f"model.takes: found {list(takes)}; expected 0 to {self.n_src - 1}, each once, or none")
        self.takes = takes or range(self.n_src)
        self.nets = nn.ModuleList(
            TIGER(
                n_fft=n_fft, win=win, hop=hop, window=window, edges=edges, dim=dim, hidden=hidden, blocks=blocks,
                depth=depth, heads=heads, key=key, dropout=dropout, widths=widths, n_src=self.n_src,
                sample_rate=self.sample_rate, causal=self.causal,
            )
            for _ in range(self.n_src)
        )  # fmt: skip
        self.learn_shares(dim)

    def core(self, spec: Tensor) -> Tensor:
        """Return features (B, L, N, bands, dim) of the mixture's spectrum (B, F, L), by networks."""
        return torch.stack([net.core(spec) for net in self._tigers()], 2)

    def scores(self, core: Tensor) -> Tensor:
        """Return real and imaginary part (B, L, N, F, 2) of the masks that are kept, from features by networks."""
        kept = [
            net.gains(net.scores(x))[:, :, take]
            for net, x, take in zip(self._tigers(), core.unbind(2), self.takes, strict=True)
        ]
        return torch.view_as_real(torch.stack(kept, 2))

    def gains(self, logits: Tensor) -> Tensor:
        """Return complex masks (B, L, N, F) from their two parts."""
        return torch.view_as_complex(logits.contiguous())

    def _tigers(self) -> list[TIGER]:
        return [net for net in self.nets if isinstance(net, TIGER)]
