"""The files that a model may be in, by their suffix: usep's own .safetensors, and .onnx with a YAML file beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from usepcli.weights import cards, onnx_files

if TYPE_CHECKING:
    from torch import Tensor


def header(path: Path) -> cards.Header:
    """Return what a model file says of itself; BadInput where it is none."""
    return onnx_files.header(path) if path.suffix == onnx_files.SUFFIX else cards.read_header(path)


def card(path: Path) -> tuple[cards.Card, str]:
    """Return the card and the sha256 of the weights; errors as of `header`."""
    found = header(path)
    return found.card, found.sha256


def whole(path: Path, found: cards.Header) -> bool:
    """Return whether the numbers in a file are those that its header names."""
    return path.suffix == onnx_files.SUFFIX or cards.digest(path.read_bytes()) == found.sha256


def graph(path: Path) -> dict[str, Tensor]:
    """Return the bytes of an ONNX file as the weights of the network that runs it."""
    import numpy as np
    import torch

    return {"graph": torch.from_numpy(np.frombuffer(path.read_bytes(), np.uint8).copy())}
