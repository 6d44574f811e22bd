"""Weights of a foreign network that need not be stored: drawn from the name and the shape of every tensor.

numpy promises that RandomState draws the same numbers for ever.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def tensor(name: str, shape: Sequence[int], base: float) -> Tensor:
    """Return the tensor of a name: within 0.3 of `base`, or as wide as a layer's inputs ask for if it is a matrix."""
    state = np.random.RandomState(zlib.crc32(name.encode()))
    wide = 1.7 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 and base == 0 else 0.3
    return torch.from_numpy((base + state.uniform(-wide, wide, tuple(shape))).astype(np.float32))


def wave(length: int) -> Tensor:
    """Return noise (1, length) at about the level of speech."""
    return torch.from_numpy(np.random.RandomState(length).standard_normal((1, length)).astype(np.float32) / 10)


def queries(numbers: int) -> Tensor:
    """Return two queries (2, numbers) of unit norm, as a text tower gives them."""
    found = np.random.RandomState(numbers).standard_normal((2, numbers))
    return torch.from_numpy((found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32))


def clap(folder: Path, numbers: int) -> Path:
    """Write a folder that looks like a CLAP of so many numbers, of which nobody opens more than its sizes."""
    from safetensors.torch import save_file

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "clap"}))
    sizes = {"text_model.embeddings.word_embeddings": (5, 4), "text_projection.linear2": (numbers, numbers)}
    save_file({f"{name}.weight": torch.zeros(size) for name, size in sizes.items()}, folder / "model.safetensors")
    return folder
