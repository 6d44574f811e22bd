"""Sentence encoders: a folder as Hugging Face and sentence-transformers write it, MiniLM for instance, by its path.

tokens = H(q) (N, D)      pooled = mean of H over the words, or H of the first token, as the folder says
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from usepcli.encoders.base import Condition
from usepcli.encoders.towers import AT_ONCE, Tower, find, open_in
from usepcli.errors import BadInput

_FILES = "config.json, tokenizer.json (or vocab.txt) and model.safetensors"
_LONGEST = 128  # tokens of a query; what is longer is cut


class Sentence(Tower):
    """A frozen sentence encoder that is opened by its path and stored by path and sha256."""

    name: ClassVar[str] = "sentence"
    expected: ClassVar[str] = _FILES
    asked_by: ClassVar[str] = "model.conditioner sentence"

    def unpack(self) -> tuple[Path, Any, Any, int, int]:
        """Return the folder with tokenizer and network, and their width twice."""
        folder = find(self.path, "sentence encoder", _FILES, [{"tokenizer.json"}, {"vocab.txt"}])
        opened = open_in(folder, "AutoModel", "", self.asked_by, "sentence encoder", _FILES)
        self.how = _pooling(folder)
        width = int(opened[1].config.hidden_size)
        return folder, *opened, width, width

    def read(self, phrases: Sequence[str]) -> Condition:
        """Return the last hidden states of phrases, which of them are words, and what they come to together."""
        tokenizer, network = self.opened()
        most = min(_LONGEST, int(getattr(network.config, "max_position_embeddings", _LONGEST) or _LONGEST) - 2)
        found = [self._hear(tokenizer, network, list(phrases[at : at + AT_ONCE]), most)
                 for at in range(0, len(phrases), AT_ONCE)]  # fmt: skip
        return self._stacked(
            [Condition(t, m, p) for part in found for t, m, p in zip(*part, strict=True)], self._place.device
        )

    def _hear(self, tokenizer: Any, network: Any, phrases: list[str], most: int) -> Condition:
        given = tokenizer(phrases, padding=True, truncation=True, max_length=most, return_tensors="pt")
        given = {key: value.to(self._place.device) for key, value in given.items()}
        with torch.no_grad():
            hidden = network(**given).last_hidden_state.float()  # (Q, N, D)
        mask = given["attention_mask"].bool()
        return Condition(hidden, mask, pooled(hidden, mask, *self.how))


def pooled(hidden: Tensor, mask: Tensor, pooling: str, unit: bool) -> Tensor:
    """Return (Q, D) of hidden states (Q, N, D): their mean over mask (Q, N), or the first one; at unit norm if so."""
    if pooling == "first":
        whole = hidden[:, 0]
    else:
        weights = mask[..., None].float()
        whole = (hidden * weights).sum(1) / weights.sum(1).clamp_min(1)
    return F.normalize(whole, dim=-1) if unit else whole


def _pooling(folder: Path) -> tuple[str, bool]:
    """Return how the folder says that a sentence is pooled, mean or first, and whether to unit norm; mean unless so."""
    try:
        return _stated(folder)
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as fault:
        raise BadInput(f"{folder}: no sentence encoder that can be opened ({fault}); expected {_FILES}") from fault


def _stated(folder: Path) -> tuple[str, bool]:
    own = folder / "1_Pooling" / "config.json"
    said = json.loads(own.read_text("utf-8")) if own.is_file() else {}
    modes = [key for key, value in said.items() if key.startswith("pooling_mode_") and value is True]
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}
    if len(modes) > 1 or not set(modes) <= set(known):
        raise ValueError(f"1_Pooling/config.json asks for {', '.join(modes)}; mean or cls was expected")
    modules = folder / "modules.json"
    kinds = [part["type"] for part in json.loads(modules.read_text("utf-8"))] if modules.is_file() else []
    return known[modes[0]] if modes else "mean", any(kind.endswith("Normalize") for kind in kinds)
