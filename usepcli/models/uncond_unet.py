"""The conditional U-Net without its words: as many masks as outputs, for trainings that ask for nothing.

    e_n = iSTFT( m_n |X| exp(j arg X) ),   m = sigmoid or softmax over n of a 1x1 convolution of the last level
The stages are those of models/cond_unet.py, up to attention to words, so that what PIT, MixIT or MixPIT reach stands
beside what words reach on one network (Mahmud et al. 2024, Tables 8 and 10).
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn

from usepcli.dsp.parts import Parts
from usepcli.dsp.stft import STFT
from usepcli.errors import ConfigError, choices
from usepcli.models.mask_levels import MaskLevels, Sizes, check_counts, widths
from usepcli.models.separator import Common, SeparationModel, reject_causal

Mask = Literal["sigmoid", "softmax"]


class UncondUNet(MaskLevels, SeparationModel):
    """A mask for each output, with the mixture's phase; the defaults are the published sizes at 11025 Hz."""

    COMMON: ClassVar[Common] = {"n_src": 2, "sample_rate": 11025}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {},
        "small": {
            "ngf": 16, "levels": 6, "head_levels": 4, "heads": 4, "out_channels": 16, "log_freq": 256,
            "input_norm": "std",
        },
        "tiny": {
            "ngf": 4, "levels": 3, "head_levels": 2, "heads": 2, "out_channels": 8, "n_fft": 128, "hop": 32,
            "sample_rate": 8000, "input_norm": "std",
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        ngf: int = 64,
        levels: int = 7,
        head_levels: int = 4,
        res_convs: int = 1,
        sa_blocks: int = 1,
        heads: int = 8,
        mlp_ratio: int = 2,
        out_channels: int = 32,
        mask: Mask = "sigmoid",
        n_fft: int = 1024,
        hop: int = 256,
        log_freq: int = 0,
        **common: Unpack[Common],
    ) -> None:
        """Take sizes as `cond_unet` does, n_fft and hop in samples, and the kind of mask; ConfigError as named."""
        super().__init__(hop=hop, **common)
        if self.causal:
            reject_causal("uncond_unet, which reads the whole input; use model.name: convtasnet, preset: causal")
        if mask not in ("sigmoid", "softmax"):
            raise ConfigError(f"model.mask: {choices('mask', mask, ('sigmoid', 'softmax'))}")
        counts = {
            "ngf": (ngf, 1), "levels": (levels, 2), "res_convs": (res_convs, 0), "sa_blocks": (sa_blocks, 0),
            "heads": (heads, 1), "mlp_ratio": (mlp_ratio, 1), "out_channels": (out_channels, 1),
            "log_freq": (log_freq, 0),
        }  # fmt: skip
        check_counts(counts, head_levels=head_levels)
        self.mask = mask
        self.stft = STFT(n_fft, n_fft, hop)
        channels = widths(ngf, levels)
        self.lay(
            Sizes(channels, head_levels, out_channels, res_convs, sa_blocks, heads, mlp_ratio), self.stft.bins, log_freq
        )
        self.heads = nn.Conv2d(out_channels, self.n_src, 1)
        self.learn_shares(channels[-1])

    def transform(self, wave: Tensor) -> Tensor:
        """Return the spectra (..., F, L) of waves (..., T)."""
        return self.stft(wave)

    def estimate_parts(self, mix: Tensor) -> Parts:
        """Return estimates (B, N, T), masks (B, N, F, L) and the mixture's spectrum (B, F, L)."""
        spec = self.stft(mix)
        level, stages = torch.log1p(spec.abs()), len(self.encoder)
        deep, skips = self.run(self.plane(level), [], range(stages), None)
        last, _ = self.run(deep, skips, range(stages, 2 * stages), None)
        scores = self.bins_of(self.heads(last), *level.shape[1:]).float()
        masks = torch.sigmoid(scores) if self.mask == "sigmoid" else torch.softmax(scores, 1)
        waves = self.stft.inverse(masks * spec[:, None], mix.shape[-1])
        return Parts(waves, masks, spec, self.shares_of(deep.movedim(1, -1)))
