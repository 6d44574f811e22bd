"""Conformer over STFT frames that is asked: words set the gain and offset of what its last layers hear.

    x <- layer((1 + a_k(c)) x + b_k(c))        c = SiLU(W [w ; z]),   z = attention of w to the frames that all share
    s(q) = iSTFT( sigmoid(head(x)) |X| exp(j arg X) )
with w a query, its whole beside the mean of its words (models/filmed.py). All layers but the `late_layers` last run
once for all queries.

Its parts have the names and the sizes of `conformer_mask`, and every a and b begins near zero: with `init_from` and
`init_parts: [inlet, keys, layers]` it begins as a network that separates, and learns which of the sounds is meant.
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import torch
from torch import Tensor, nn

from usepcli.dsp.stft import STFT
from usepcli.errors import ConfigError
from usepcli.models.attention import RelativeKeys
from usepcli.models.conformer_mask import Activation, ConformerLayer, check_sizes
from usepcli.models.dense import Dense
from usepcli.models.filmed import Film, FilmedModel, Listening, asked
from usepcli.models.mask_levels import repeated
from usepcli.models.queried import Conditions
from usepcli.models.spectral import LOG_FLOOR, relu_or_silu
from usepcli.models.worded import Worded


class FilmConformer(FilmedModel):
    """Masks in (0, 1) for queries, with the mixture's phase, by attention over all frames."""

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {},
        "tiny": {
            "sample_rate": 8000, "n_fft": 64, "hop": 32, "dim": 32, "layers": 2, "late_layers": 1, "heads": 2,
            "ffn": 64, "kernel": 7, "condition": 16, "max_offset": 200,
        },
    }  # fmt: skip

    def __init__(
        self,
        *,
        n_fft: int = 512,
        hop: int = 256,
        dim: int = 128,
        layers: int = 6,
        late_layers: int = 3,
        heads: int = 4,
        ffn: int = 256,
        kernel: int = 31,
        activation: Activation = "silu",
        max_offset: int = 250,
        dropout: float = 0.0,
        condition: int = 128,
        **worded: Unpack[Worded],
    ) -> None:
        """Take n_fft and hop in samples, kernel and max_offset in frames; ConfigError if sizes clash.

        late_layers: those, of all, that hear the query; condition: the width of what they hear.
        """
        super().__init__(hop=hop, **worded)
        check_sizes(dim, heads, kernel, max_offset)
        if not 1 <= late_layers <= layers:
            raise ConfigError(f"model.late_layers: found {late_layers}; expected 1 to {layers}, all of model.layers")
        if condition < 1:
            raise ConfigError(f"model.condition: found {condition}; expected 1 or more")
        self.stft = STFT(n_fft, n_fft, hop, "sqrt_hann")
        self.inlet = nn.Sequential(
            Dense(self.stft.bins, dim), nn.LayerNorm(dim), nn.Dropout(dropout), relu_or_silu(activation)
        )
        self.keys = RelativeKeys(max_offset, dim // heads)
        self.layers = nn.ModuleList(
            ConformerLayer(dim, heads, ffn, kernel, activation, "full", dropout, False, 0) for _ in range(layers)
        )
        self.first = layers - late_layers
        self.listening = Listening(self.words.pooled_dim + self.words.token_dim, dim, condition, heads)
        self.films = nn.ModuleList(Film(condition, dim) for _ in range(late_layers + 1))
        self.head = Dense(dim, self.stft.bins)

    def logits(self, spec: Tensor, conditions: Conditions) -> Tensor:
        """Return mask logits (B, N, F, L) from the mixture's spectrum (B, F, L) and conditions (B, N, ...)."""
        x = self.inlet(torch.log(spec.abs().mT + LOG_FLOOR))
        keys = self.keys(x.shape[1])
        for layer in self.layers[: self.first]:
            x = layer(x, keys)
        told = self.listening(asked(*conditions), x.mT)  # (B, N, E)
        count, told = told.shape[1], told.flatten(0, 1)
        x = repeated(x, count)
        for film, layer in zip(self.films, self.layers[self.first :], strict=False):
            x = layer(film(x.mT, told).mT, keys)
        return self.head(self.films[-1](x.mT, told).mT).mT.unflatten(0, (-1, count))  # type: ignore[no-any-return]
