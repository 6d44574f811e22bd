"""ONNX files made on the spot: separators of waves and of spectra, as torch.onnx.export writes them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn


class Waves(nn.Module):
    """Gives waves (B, T) or (B, C, T) through short filters, one for each of `outputs`."""

    def __init__(self, outputs: int = 2, channels: int = 1) -> None:
        super().__init__()
        self.outputs, self.channels = outputs, channels
        self.filters = nn.Conv1d(channels, outputs * channels, 9, padding=4, groups=channels, bias=False)

    def forward(self, mix: Tensor) -> Tensor:
        if self.channels == 1:
            return self.filters(mix[:, None]).tanh()
        found = self.filters(mix).tanh()
        return found.unflatten(1, (self.channels, self.outputs)).transpose(1, 2)


class Spectra(nn.Module):
    """Gives spectra (B, 2 C, F, L) times masks of two layers that hear neighbouring bins and frames."""

    def __init__(self, outputs: int = 1, channels: int = 2) -> None:
        super().__init__()
        self.outputs = outputs
        self.first = nn.Conv2d(2 * channels, 6, 5, padding=2)
        self.last = nn.Conv2d(6, 2 * channels * outputs, 3, padding=1)

    def forward(self, spec: Tensor) -> Tensor:
        return torch.sigmoid(self.last(torch.relu(self.first(spec)))) * spec.repeat(1, self.outputs, 1, 1)


def export(net: nn.Module, example: Tensor, path: Path, said: Mapping[str, Any] | None, free: str = "") -> Path:
    """Write an ONNX file and, if anything is said, the YAML file beside it; free: letters of sides of any length."""
    dims = [{k: torch.export.Dim.DYNAMIC for k, letter in enumerate("BCT"[-example.dim() :]) if letter in free}]
    if example.dim() == 2:
        dims = [{k: torch.export.Dim.DYNAMIC for k, letter in enumerate("BT") if letter in free}]
    if example.dim() == 4:
        dims = [{0: torch.export.Dim.DYNAMIC}] if "B" in free else [{}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(net.eval(), (example,), dynamo=True, dynamic_shapes=dims, verbose=False, optimize=True)
    assert made is not None
    path.write_bytes(made.model_proto.SerializeToString())
    if said is not None:
        path.with_suffix(".yaml").write_text(yaml.safe_dump(dict(said)))
    return path
