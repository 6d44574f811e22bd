"""Folders as the makers of Demucs publish their networks, and noise in two channels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

KLASS = "demucs.htdemucs.HTDemucs"


def stereo(length: int) -> Tensor:
    """Return noise (1, 2, length)."""
    noise = np.random.RandomState(length).standard_normal((1, 2, length)).astype(np.float32) / 10
    return torch.from_numpy(noise * np.array([[1.0], [0.3]], np.float32))


def thinned(length: int) -> int:
    """Return which samples of an output are stored: every so many-th."""
    return 29 if length > 1000 else 1


def head(kwargs: dict[str, Any], klass: str = KLASS, **more: str) -> dict[str, str]:
    """Return the metadata of a file."""

    def told(value: Any) -> Any:
        if isinstance(value, Fraction):
            return {"_type": "fraction", "numerator": value.numerator, "denominator": value.denominator}
        return value

    named = {key: told(value) for key, value in kwargs.items()}
    return {"klass": klass, "args": "[]", "kwargs": json.dumps(named), **more}


def lay_out(
    folder: Path, kwargs: dict[str, Any], states: Sequence[dict[str, Tensor]], weights: Any = None, **more: str
) -> Path:
    """Write networks and the bag of them."""
    folder.mkdir(exist_ok=True)
    sigs = [f"{k:08x}" for k in range(len(states))]
    lines = [f"models: {json.dumps(sigs)}".replace('"', "'")]
    if weights is not None:
        lines.append(f"weights: {json.dumps(weights)}")
    (folder / "net.yaml").write_text("\n".join(lines) + "\n")
    for sig, state in zip(sigs, states, strict=True):
        held = {name: value.contiguous() for name, value in state.items()}
        save_file(held, folder / f"{sig}.safetensors", {**head(kwargs), **more})
    return folder
