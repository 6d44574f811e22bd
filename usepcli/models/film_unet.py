"""U-Net over STFT frames that is asked: words set the gain and offset of its outer decoder's channels.

    h <- (1 + a_k(c)) * norm(h) + b_k(c)       c = SiLU(W [w ; z]),   z = attention of w to the deepest frames
    s(q) = iSTFT( sigmoid(head(SiLU(h))) |X| exp(j arg X) )
with w a query, its whole beside the mean of its words (models/filmed.py), and h what a norm of those levels is given;
so does a U-Net that separates what it is told of Meseguer-Brocal & Peeters (2019).

All stages but the `late_levels` outermost of the decoder run once for all queries; a query costs these and the head.
Its stages have the names and the sizes of `unet_mask` (models/unet_mask.py), and every a and b begins near zero: with
`init_from` and `init_parts: [inlet, encoder, middle, decoder]` it begins as a network that separates, and learns which
of the sounds is meant.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.stft import STFT
from usepcli.errors import ConfigError
from usepcli.models.dense import Pointwise
from usepcli.models.filmed import Film, FilmedModel, Listening, asked
from usepcli.models.mask_levels import repeated
from usepcli.models.queried import Conditions
from usepcli.models.spectral import LOG_FLOOR
from usepcli.models.unet_mask import Decoder, Encoder, check_sizes, middle
from usepcli.models.worded import Worded


class FilmUNet(FilmedModel):
    """Masks in (0, 1) for queries, with the mixture's phase, by a fast network over frames.

    The network has n_fft / 2 bins; the highest gets the mask of its neighbour. `channels` names one level each.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"channels": (96, 128, 160, 160), "kernel": 5, "condition": 128, "late_levels": 1},
        "tiny": {
            "sample_rate": 8000, "n_fft": 64, "hop": 32, "channels": (16, 24), "kernel": 3, "heads": 2, "condition": 16,
            "late_levels": 1,
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        n_fft: int = 512,
        hop: int = 128,
        channels: tuple[int, ...] = (256, 512, 512, 512),
        kernel: int = 7,
        heads: int = 8,
        groups: int = 8,
        late_levels: int = 2,
        condition: int = 256,
        **worded: Unpack[Worded],
    ) -> None:
        """Take n_fft and hop in samples, kernel in frames, channels of each level; ConfigError if sizes clash.

        late_levels: of the decoder, that hear the query; condition: the width of what they hear.
        """
        super().__init__(hop=hop, **worded)
        bins = n_fft // 2
        check_sizes(bins, channels, kernel, heads, groups)
        if not 0 <= late_levels <= len(channels):
            raise ConfigError(f"model.late_levels: found {late_levels}; expected 0 to {len(channels)}, all of channels")
        if condition < 1:
            raise ConfigError(f"model.condition: found {condition}; expected 1 or more")
        self.stft = STFT(n_fft, n_fft, hop)
        deep, self.late = channels[-1], late_levels
        self.inlet = Pointwise(bins, channels[0])
        self.encoder = Encoder(channels[0], channels, kernel, groups)
        self.middle = middle(deep, heads, kernel, groups, normed=True)
        self.decoder = Decoder(channels, kernel, groups)
        self.listening = Listening(self.words.pooled_dim + self.words.token_dim, deep, condition, heads)
        # Two norms of each late block, the first of what comes up beside the encoder's level; then the last norm.
        heard = [width for k in reversed(range(late_levels)) for width in (2 * channels[k], channels[k])]
        self.films = nn.ModuleList(Film(condition, width) for width in (*heard, channels[0]))
        self.norm = nn.GroupNorm(groups, channels[0])
        self.head = Pointwise(channels[0], bins)

    def logits(self, spec: Tensor, conditions: Conditions) -> Tensor:
        """Return mask logits (B, N, F, L) from the mixture's spectrum (B, F, L) and conditions (B, N, ...)."""
        deep, levels = self.encoder(self.inlet(torch.log(spec[:, :-1].abs() + LOG_FLOOR)))
        deep = self.middle(deep)
        told = self.listening(asked(*conditions), deep)  # (B, N, E)
        count, first = told.shape[1], len(levels) - self.late
        x = self.decoder.run(deep, levels, range(first))
        between = [partial(film, condition=told.flatten(0, 1)) for film in self.films]
        for k in range(first, len(levels)):
            x = self.decoder.raised(x, levels, k)
            if k == first:
                x = repeated(x, count)
            both = torch.cat([x, repeated(levels[-1 - k], count)], 1)
            x = self.decoder.blocks[k](both, between[2 * (k - first) :][:2])
        x = self.norm(x) if self.late else repeated(self.norm(x), count)
        found = self.head(F.silu(between[-1](x))).unflatten(0, (-1, count))  # (B, N, F - 1, L)
        return torch.cat([found, found[:, :, -1:]], 2)
