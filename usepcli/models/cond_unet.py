"""Conditional U-Net: one mask for each query from log magnitudes and the words (Mahmud et al. 2024, section 3, app. C).

    s(q) = iSTFT( g(log(1 + |X|), c(q)) |X| exp(j arg X) )        g in (0, 1)

X is the mixture's spectrum and c(q) = (tokens, pooled) the condition of a query. The tokens enter by attention, the
pooled vector weighs the feature maps of the last level. An encoder of stride-2 convolutions and a mirrored decoder;
the published network, which `paper` is, has 87.7 M parameters without the mask head. (Its Table 5 prints 81.4 M, which
is the count without self-attention; the other nine rows of the table come out.)

Where the words enter decides what a further query costs. As published they enter the encoder's innermost levels, so
everything from there on runs once for each query. `late_levels: n` has them enter the n outermost levels of the
decoder instead, which have `late_res_convs` in their residual blocks: all before runs once for all queries.
`bottleneck_concat` sets the pooled vector beside the innermost level's channels, as CoSep does (Gao & Grauman 2019:
with `sa_blocks`, `ca_blocks` and `res_convs` 0 and `condition_head: none`); with these three at 0 and the head alone
the words come last, as in Sound of Pixels (Zhao et al. 2018).

Level: the paper takes magnitudes as they come; `input_norm: none` does, `std` makes the level of every mixture one.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Unpack

import torch
from torch import Tensor, nn

from usepcli.dsp.parts import Parts
from usepcli.dsp.stft import STFT
from usepcli.errors import BadInput, ConfigError, choices
from usepcli.models.cond_blocks import Words
from usepcli.models.dense import Dense
from usepcli.models.mask_levels import MaskLevels, Sizes, check_counts, repeated, widths
from usepcli.models.queried import Conditions
from usepcli.models.refine import Refine
from usepcli.models.worded import Worded, WordedModel

Head = Literal["inner", "none"]

_TOGETHER = 4  # queries whose own part runs at once where no gradient is wanted; memory is bounded by it


class CondUNet(MaskLevels, WordedModel):
    """Masks in (0, 1) for queries, with the mixture's phase; the defaults are the published network at 11025 Hz.

    ngf: channels of the first level, doubled to eight times as many. The words are heard in the levels after
    `head_levels`, or in the `late_levels` outermost of the decoder. Of an even number of bins plus one, the highest
    gets the mask of its neighbour, and so does the last of such a number of frames.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "paper": {"mask_padding": False, "cond_dim": 768, "emb_dim": 512},
        "small": {
            "ngf": 16, "levels": 6, "head_levels": 4, "heads": 4, "out_channels": 16, "late_levels": 1,
            "log_freq": 256, "input_norm": "std",
        },
        "tiny": {
            "ngf": 4, "levels": 3, "head_levels": 2, "heads": 2, "out_channels": 8, "n_fft": 128, "hop": 32,
            "sample_rate": 8000, "input_norm": "std",
        },
    }  # fmt: skip
    WORDED: ClassVar[Worded] = {"sample_rate": 11025, "input_norm": "none"}

    def __init__(
        self,
        *,
        refine: bool = False,
        ngf: int = 64,
        levels: int = 7,
        head_levels: int = 4,
        late_levels: int = 0,
        late_res_convs: int = 0,
        res_convs: int = 1,
        sa_blocks: int = 1,
        ca_blocks: int = 1,
        heads: int = 8,
        mlp_ratio: int = 2,
        out_channels: int = 32,
        condition_head: Head = "inner",
        bottleneck_concat: bool = False,
        mask_padding: bool = True,
        n_fft: int = 1024,
        hop: int = 256,
        log_freq: int = 0,
        **worded: Unpack[Worded],
    ) -> None:
        """Take n_fft and hop in samples; ConfigError as named.

        refine: conditions are adapted to the mixture (models/refine.py).
        """
        super().__init__(hop=hop, mask_padding=mask_padding, **worded)
        counts = {
            "ngf": (ngf, 1), "levels": (levels, 2), "res_convs": (res_convs, 0),
            "late_res_convs": (late_res_convs, 0), "sa_blocks": (sa_blocks, 0),
            "ca_blocks": (ca_blocks, 0), "heads": (heads, 1), "mlp_ratio": (mlp_ratio, 1),
            "out_channels": (out_channels, 1), "log_freq": (log_freq, 0),
        }  # fmt: skip
        check_counts(counts, head_levels=head_levels, late_levels=late_levels)
        attends = ca_blocks > 0 and (late_levels > 0 or head_levels < levels)
        _check(condition_head, attends or bottleneck_concat)
        self.stft = STFT(n_fft, n_fft, hop)
        sizes = Sizes(
            widths(ngf, levels), head_levels, out_channels, res_convs, sa_blocks, heads, mlp_ratio, ca_blocks,
            self.words.token_dim, late_levels, late_res_convs, self.words.pooled_dim if bottleneck_concat else 0,
        )  # fmt: skip
        self.lay(sizes, self.stft.bins, log_freq)
        self.weigh = Dense(self.words.pooled_dim, out_channels) if condition_head == "inner" else None
        self.scale, self.bias = nn.Parameter(torch.ones(out_channels)), nn.Parameter(torch.zeros(1))
        stages = [*self.encoder, *self.decoder]
        before: Any = stages[self.first - 1].conv if self.first else None  # the last stage that no word reaches
        channels = before.out_channels if self.first else 1
        self.refine = Refine(channels, self.words.token_dim, self.words.pooled_dim) if refine else None

    def listen(self, wave: Tensor, rate: int) -> Conditions:
        """Return the conditions (1, ...) of a clip (T,) at `rate` Hz, by a conditioner that hears; BadInput else."""
        if self.weigh is None:
            raise BadInput("model.condition_head none: an example reaches nothing of this model; ask in words")
        return super().listen(wave, rate)

    def transform(self, wave: Tensor) -> Tensor:
        """Return the spectra (..., F, L) of waves (..., T)."""
        return self.stft(wave)

    def estimate_parts(self, mix: Tensor, *conditions: Tensor) -> Parts:
        """Return estimates (B, N, T), masks (B, N, F, L) and the mixture's spectrum (B, F, L)."""
        spec = self.stft(mix)
        masks = torch.sigmoid(self.logits(torch.log1p(spec.abs()), *conditions).float())
        return Parts(self.stft.inverse(masks * spec[:, None], mix.shape[-1]), masks, spec)

    def logits(self, level: Tensor, tokens: Tensor, mask: Tensor, pooled: Tensor) -> Tensor:
        """Return mask logits (B, N, F, L) from log(1 + magnitude) (B, F, L) and conditions (B, N, ...)."""
        count = pooled.shape[1]
        # The stages that no word reaches run once for all queries.
        x, skips = self.run(self.plane(level), [], range(self.first), None)
        if self.refine is not None:
            tokens, pooled = self.refine(x, tokens, pooled)
        step = count if self.training or torch.is_grad_enabled() else _TOGETHER
        found = []
        for at in range(0, count, step):
            own = slice(at, at + step)
            words = Words(
                tokens[:, own].flatten(0, 1),
                mask[:, own].flatten(0, 1) if self.mask_padding else None,
                pooled[:, own].flatten(0, 1),
            )
            found.append(self._asked(x, skips, words, len(pooled)))
        return self.bins_of(torch.cat(found, 1), *level.shape[1:])

    def _asked(self, x: Tensor, skips: list[Tensor], words: Words, batch: int) -> Tensor:
        """Return mask logits (B, N, F', L') of N queries for each of B mixtures."""
        count = len(words.pooled) // batch
        stages = range(self.first, 2 * len(self.encoder))
        if stages:
            # The stage that hears first joins its skip before it hears: both are repeated here.
            x, _ = self.run(repeated(x, count), skips, stages, words)
        features = x.unflatten(0, (batch, -1))  # (B, N or 1, C, F', L')
        weights = (
            torch.ones_like(words.pooled[:, :1]) if self.weigh is None else torch.sigmoid(self.weigh(words.pooled))
        )
        scaled = (weights * self.scale).unflatten(0, (batch, -1))  # (B, N, C)
        if features.shape[1] == 1:
            return torch.einsum("bnc,bcfl->bnfl", scaled, features[:, 0]) + self.bias
        return torch.einsum("bnc,bncfl->bnfl", scaled, features) + self.bias


def _check(condition_head: str, hears: bool) -> None:
    if condition_head not in ("inner", "none"):
        raise ConfigError(f"model.condition_head: {choices('head', condition_head, ('inner', 'none'))}")
    if condition_head == "none" and not hears:
        raise ConfigError(
            "model.condition_head: none, and no level attends to the words or has them beside its channels "
            "(model.bottleneck_concat); the queries reach nothing"
        )
