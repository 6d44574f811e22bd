"""How a query reaches a network: it sets gain and offset of channels (Perez et al. 2018, equation 2).

    h <- (1 + a(c)) h + b(c),   c = SiLU(W [w ; z]),   z = attention of w to frames of the network
with w the whole of a query beside the mean of its words. What z adds: a query hears whether, and as what, its sound is
in the recording before the frames are weighed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from usepcli.dsp.parts import Parts
from usepcli.dsp.stft import STFT
from usepcli.models.dense import Dense
from usepcli.models.queried import Conditions
from usepcli.models.worded import WordedModel


def asked(tokens: Tensor, mask: Tensor, whole: Tensor) -> Tensor:
    """Return (B, N, E + D): the wholes (B, N, E) of queries beside the mean of their tokens (B, N, K, D) in `mask`."""
    heard = mask[..., None].to(tokens)
    return torch.cat([whole, (tokens * heard).sum(-2) / heard.sum(-2).clamp_min(1)], -1)


class Film(nn.Module):
    """Gain and offset of channels by a condition, at first near one and zero."""

    def __init__(self, condition: int, channels: int) -> None:
        super().__init__()
        self.both = Dense(condition, 2 * channels)
        nn.init.normal_(self.both.weight, std=0.1 * condition**-0.5)
        nn.init.zeros_(self.both.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return (Q, C, L) from x (Q, C, L) and conditions (Q, E)."""
        gain, offset = self.both(condition)[..., None].chunk(2, 1)
        return (1 + gain) * x + offset


class Listening(nn.Module):
    """What a query is told of a recording: its words, and the deepest frames that answer to them."""

    def __init__(self, words: int, deep: int, condition: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ask, self.answer = Dense(words, deep), Dense(deep, 2 * deep)
        self.tell = Dense(words + deep, condition)

    def forward(self, whole: Tensor, deep: Tensor) -> Tensor:
        """Return conditions (B, N, E) of queries (B, N, W) from the deepest level (B, C, L)."""
        query = self.ask(whole)
        key, value = self.answer(F.layer_norm(deep.mT, deep.shape[1:2])).chunk(2, -1)
        split = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (query, key, value))
        found = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)  # (B, N, C)
        return F.silu(self.tell(torch.cat([whole, found], -1)))


class FilmedModel(WordedModel):
    """Base of networks that queries modulate: masks in (0, 1) with the mixture's phase; a subclass makes `logits`."""

    stft: STFT

    def transform(self, wave: Tensor) -> Tensor:
        """Return the spectra (..., F, L) of waves (..., T)."""
        return self.stft(wave)

    def estimate_parts(self, mix: Tensor, *conditions: Tensor) -> Parts:
        """Return estimates (B, N, T), masks (B, N, F, L) and the mixture's spectrum (B, F, L)."""
        spec = self.stft(mix)
        masks = torch.sigmoid(self.logits(spec, conditions).float())
        return Parts(self.stft.inverse(masks * spec[:, None], mix.shape[-1]), masks, spec)

    def logits(self, spec: Tensor, conditions: Conditions) -> Tensor:
        """Return mask logits (B, N, F, L) from the mixture's spectrum (B, F, L) and conditions (B, N, ...)."""
        raise NotImplementedError
