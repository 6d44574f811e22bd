"""Frozen text towers in folders as Hugging Face writes them: found, opened, and known by the sha256 of what they hold.

Nothing is downloaded, and no code that lies in a folder is run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar

from usepcli.encoders.base import Conditioner
from usepcli.encoders.lists import sha256_of
from usepcli.errors import BadInput, ConfigError, InputNotFound
from usepcli.versions import need

AT_ONCE = 32  # phrases
# What changes an answer where it changes: weights, tokens, pooling, and the front end of what hears.
_PARTS = (
    "*.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
    "vocab.txt", "merges.txt", "modules.json", "1_Pooling/config.json", "preprocessor_config.json",
    "processor_config.json",
)  # fmt: skip


class Tower(Conditioner):
    """A frozen network and its tokenizer that are opened by their path and stored by path and sha256.

    A subclass says what its folder holds and implements `unpack` and `read`.
    """

    expected: ClassVar[str] = ""

    def open(self) -> None:
        """Take the folder; without `sha256`, errors as of `unpack`, and ConfigError for other widths."""
        self.parts: tuple[Any, Any] | None = None
        if not self.path:
            raise ConfigError(f"model.conditioner_path: empty; expected a folder with {self.expected}")
        self.closed = bool(self.sha256)
        if not self.closed:
            self.opened()

    def unpack(self) -> tuple[Path, Any, Any, int, int]:
        """Return the folder, tokenizer, network, and the widths of tokens and whole; errors as of `find`, `open_in`."""
        raise NotImplementedError

    def opened(self) -> tuple[Any, Any]:
        """Return tokenizer and network, read from the folder the first time; BadInput where it is another one."""
        if self.parts is None:
            folder, tokenizer, network, token_dim, pooled_dim = self.unpack()
            self.known_by(sum_of(folder))
            self.fits(str(folder), token_dim, pooled_dim)
            self.parts = tokenizer, network
        tokenizer, network = self.parts
        return tokenizer, network.to(self._place.device)


def find(path: str, what: str, expected: str, words: Sequence[Collection[str]]) -> Path:
    """Return the folder at `path` that holds settings, weights and one of the sets of files in `words`.

    InputNotFound where there is none, BadInput where it holds something else.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        raise InputNotFound(f"{folder}: no such folder; expected one with {expected} (nothing is downloaded by name)")
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    weights = any(name.endswith(".safetensors") for name in there)
    if "config.json" not in there or not weights or not any(set(names) <= there for names in words):
        raise BadInput(f"{folder}: no {what}; expected a folder with {expected}")
    return folder


def open_in(folder: Path, loader: str, kind: str, key: str, what: str, expected: str) -> tuple[Any, Any]:
    """Return tokenizer and frozen network of a folder; `kind` is the model type that it has to state, '' for any.

    MissingDependency without transformers, named by `key`; BadInput where the folder cannot be opened.
    """
    transformers = need(key, "clap")
    from transformers.utils import logging as told

    told.disable_progress_bar()  # what is opened in a moment needs no bar among the messages
    # Said, not left to chance: without it a folder with code of its own asks on the terminal whether to run it.
    how = {"local_files_only": True, "trust_remote_code": False}
    try:
        found = json.loads((folder / "config.json").read_text("utf-8")).get("model_type")
        if kind and found != kind:
            raise ValueError(f"config.json: model_type {found}, expected {kind}")
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **how)
        network = getattr(transformers, loader).from_pretrained(str(folder), use_safetensors=True, **how)
    except Exception as fault:  # its layers raise almost anything
        said = " ".join(str(fault).split())[:160] or type(fault).__name__
        raise BadInput(f"{folder}: no {what} that can be opened ({said}); expected {expected}") from fault
    return tokenizer, network.float().eval().requires_grad_(False)


def sum_of(folder: Path) -> str:
    """Return the sha256 by which a folder is known: that of all files that its answers depend on."""
    return sha256_of(path for pattern in _PARTS for path in folder.glob(pattern))
