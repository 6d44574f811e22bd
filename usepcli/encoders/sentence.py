"""Sentence encoders: a folder as Hugging Face and sentence-transformers write it, MiniLM for instance, by its path.

tokens = H(q) (N, D)      pooled = mean of H over the words, or H of the first token, as the folder says
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from usepcli.encoders.base import Condition, Conditioner
from usepcli.encoders.lists import sha256_of
from usepcli.errors import BadInput, ConfigError, InputNotFound, MissingDependency

_FILES = "config.json, tokenizer.json (or vocab.txt) and model.safetensors"
_LONGEST = 128  # tokens of a query; what is longer is cut
_AT_ONCE = 32


class Sentence(Conditioner):
    """A frozen sentence encoder that is opened by its path and stored by path and sha256."""

    name: ClassVar[str] = "sentence"

    def __init__(
        self,
        path: str = "",
        phrases: Sequence[str] = (),
        token_dim: int = 0,
        pooled_dim: int = 0,
        sha256: str = "",
    ) -> None:
        """Take the folder; errors, where `sha256` is not given, as of `folder_of`, and ConfigError for other widths."""
        super().__init__(path, phrases, token_dim, pooled_dim, sha256)
        self.parts: tuple[Any, Any] | None = None
        if not path:
            raise ConfigError(f"model.conditioner_path: empty; expected the folder of an encoder with {_FILES}")
        if not sha256:
            self._opened()

    def _opened(self) -> tuple[Any, Any]:
        """Return tokenizer and network, read from the folder the first time."""
        if self.parts is None:
            folder = folder_of(self.path)
            self.known_by(sha256_of(_weighty(folder)))
            tokenizer, network, self.how = _load(folder)
            width = int(network.config.hidden_size)
            self.fits(str(folder), width, width)
            self.parts = tokenizer, network
        tokenizer, network = self.parts
        return tokenizer, network.to(self._place.device)

    def read(self, phrases: Sequence[str]) -> Condition:
        """Return the last hidden states of phrases, which of them are words, and what they come to together."""
        tokenizer, network = self._opened()
        most = min(_LONGEST, int(getattr(network.config, "max_position_embeddings", _LONGEST) or _LONGEST) - 2)
        found = [self._hear(tokenizer, network, list(phrases[at : at + _AT_ONCE]), most)
                 for at in range(0, len(phrases), _AT_ONCE)]  # fmt: skip
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


def folder_of(path: str) -> Path:
    """Return the folder of an encoder; InputNotFound where there is none, BadInput where it holds something else."""
    folder = Path(path).expanduser()
    if not folder.exists():
        raise InputNotFound(f"{folder}: no such folder; expected one with {_FILES} (nothing is downloaded by name)")
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    if "config.json" not in there or not there & {"tokenizer.json", "vocab.txt"} or not _weighty(folder)[1:]:
        raise BadInput(f"{folder}: no sentence encoder; expected a folder with {_FILES}")
    return folder


def _weighty(folder: Path) -> list[Path]:
    """Return the files by which an encoder is known: its settings and its weights."""
    weights = sorted(folder.glob("*.safetensors"))
    return [folder / "config.json", *weights] if (folder / "config.json").is_file() else weights


def _load(folder: Path) -> tuple[Any, Any, tuple[str, bool]]:
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as told
    except ImportError as fault:
        raise MissingDependency("model.conditioner sentence needs transformers; pip install 'usepcli[clap]'") from fault
    told.disable_progress_bar()  # what is opened in a moment needs no bar among the messages
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        network = AutoModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
        how = _pooling(folder)
    except Exception as fault:  # its layers raise almost anything
        said = " ".join(str(fault).split())[:160] or type(fault).__name__
        raise BadInput(f"{folder}: no sentence encoder that can be opened ({said}); expected {_FILES}") from fault
    return tokenizer, network.float().eval().requires_grad_(False), how


def _pooling(folder: Path) -> tuple[str, bool]:
    """Return how the folder says that a sentence is pooled, mean or first, and whether to unit norm; mean unless so."""
    own = folder / "1_Pooling" / "config.json"
    said = json.loads(own.read_text("utf-8")) if own.is_file() else {}
    modes = [key for key, value in said.items() if key.startswith("pooling_mode_") and value is True]
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first"}
    if len(modes) > 1 or not set(modes) <= set(known):
        raise ValueError(f"1_Pooling/config.json asks for {', '.join(modes)}; mean or cls was expected")
    modules = folder / "modules.json"
    kinds = [part["type"] for part in json.loads(modules.read_text("utf-8"))] if modules.is_file() else []
    return known[modes[0]] if modes else "mean", any(kind.endswith("Normalize") for kind in kinds)
