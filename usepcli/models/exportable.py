"""A model in the form that other runtimes take: the same numbers from operations that they know.

Some parts do not travel: complex tensors (the STFT), a gradient of our own (the depthwise filter), recurrent layers,
which a tracer unrolls to one copy per frame, and norms over a whole recording, whose single-pass sums in other runtimes
cost four digits. They are replaced on a copy of the model.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from usepcli.dsp.stft import STFT
from usepcli.dsp.stft_conv import ConvSTFT
from usepcli.models.basis import LearnedBasis
from usepcli.models.depthwise import DepthwiseConv
from usepcli.models.separator import SeparationModel
from usepcli.models.tcn import CumulativeNorm, ScalarNorm, Sums

# Rows of torch's gates (LSTM: input, forget, cell, output; GRU: reset, update, new) in ONNX's order.
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}

_OPS = torch.library.Library("usep", "FRAGMENT")
# Operators that exist while a graph is traced, so that a recurrent layer stays one node in it.
_OPS.define("recurrent(Tensor x, Tensor w, Tensor r, Tensor b, str kind, int hidden) -> Tensor")
_OPS.define(
    "recurrent_on(Tensor x, Tensor w, Tensor r, Tensor b, Tensor h, Tensor c, str kind, int hidden)"
    " -> (Tensor, Tensor, Tensor)"
)


@torch.library.register_fake("usep::recurrent", lib=_OPS)
def _shape(x: Tensor, w: Tensor, r: Tensor, b: Tensor, kind: str, hidden: int) -> Tensor:
    return x.new_empty(x.shape[0], w.shape[0], x.shape[1], hidden)


class Waveform(nn.Module):
    """A model as a function of its mixture alone, (1, T) to (1, N, T)."""

    def __init__(self, model: SeparationModel) -> None:
        """Take the model as it is."""
        super().__init__()
        self.model = model

    def forward(self, mixture: Tensor) -> Tensor:
        """Return the model's sources."""
        return self.model(mixture)  # type: ignore[no-any-return]


@torch.library.register_fake("usep::recurrent_on", lib=_OPS)
def _shapes(
    x: Tensor, w: Tensor, r: Tensor, b: Tensor, h: Tensor, c: Tensor, kind: str, hidden: int
) -> tuple[Tensor, Tensor, Tensor]:
    return _shape(x, w, r, b, kind, hidden), torch.empty_like(h), torch.empty_like(c)


class OnnxRecurrent(nn.Module):
    """An LSTM or GRU whose layers are ONNX nodes: (B, L, C) or (L, B, C) to the same with its outputs, and its state.

    The state is torch's: (layers * directions, B, hidden), for an LSTM two of them; None where none was given.
    """

    def __init__(self, like: nn.LSTM | nn.GRU) -> None:
        """Take weights and settings from `like`, in ONNX's layout: (directions, gates * hidden, ...)."""
        super().__init__()
        self.kind, self.hidden, self.batch_first = like.mode, like.hidden_size, like.batch_first
        self.layers = like.num_layers
        ways = ("", "_reverse") if like.bidirectional else ("",)
        for layer in range(like.num_layers):
            for short, long in (("w", "weight_ih"), ("r", "weight_hh")):
                rows = [self._sorted(getattr(like, f"{long}_l{layer}{way}")) for way in ways]
                self.register_buffer(f"{short}{layer}", torch.stack(rows))
            self.register_buffer(f"b{layer}", torch.stack([self._biases(like, f"l{layer}{way}") for way in ways]))

    def _sorted(self, rows: Tensor) -> Tensor:
        gates = rows.detach().unflatten(0, (-1, self.hidden))
        return gates[list(_GATES[self.kind])].flatten(0, 1)

    def _biases(self, like: nn.LSTM | nn.GRU, where: str) -> Tensor:
        if not like.bias:
            return torch.zeros(2 * len(_GATES[self.kind]) * self.hidden)
        return torch.cat([self._sorted(getattr(like, f"bias_{side}_{where}")) for side in ("ih", "hh")])

    def forward(self, x: Tensor, past: Any = None) -> tuple[Tensor, Any]:
        """Return what the layer returns; its last state only where it was given one to go on from."""
        y, ends = x.transpose(0, 1) if self.batch_first else x, []
        for layer in range(self.layers):
            parts = [getattr(self, f"{short}{layer}") for short in "wrb"]
            if past is None:
                y = torch.ops.usep.recurrent(y, *parts, self.kind, self.hidden)  # (L, directions, B, hidden)
            else:
                ways = len(parts[0])
                h, c = (each[layer * ways : (layer + 1) * ways] for each in self._pair(past))
                y, *end = torch.ops.usep.recurrent_on(y, *parts, h, c, self.kind, self.hidden)
                ends.append(end)
            y = y.transpose(1, 2).flatten(2)
        y = y.transpose(0, 1) if self.batch_first else y
        if past is None:
            return y, None
        h, c = (torch.cat(each) for each in zip(*ends, strict=True))
        return y, ((h, c) if self.kind == "LSTM" else h)

    def _pair(self, past: Any) -> tuple[Tensor, Tensor]:
        # A GRU has no cell; the operator is given its state twice.
        return past if self.kind == "LSTM" else (past, past)


class _FilterConv(DepthwiseConv):
    """The depthwise filter as one library convolution everywhere."""

    def _shifts(self, x: Tensor) -> bool:
        return False


class _TwoPassNorm(nn.GroupNorm):
    """Group norm by its definition: the mean first, then the mean square of what is left, each over time first."""

    def forward(self, x: Tensor) -> Tensor:
        return _group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class _TwoPassScalarNorm(ScalarNorm):
    """The same for one gain and one bias."""

    def forward(self, x: Tensor) -> Tensor:
        return _group_norm(x, self.groups or x.shape[1], self.weight, self.bias, self.eps)


def _group_norm(x: Tensor, groups: int, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise x (B, C, ...) in groups of channels over all that follows, if any; gain and bias (C,) or (1,)."""
    flat = x.flatten(2) if x.dim() > 2 else x[..., None]
    parts = flat.unflatten(1, (groups, -1))  # (B, G, C / G, L)
    left = parts - parts.mean(-1, keepdim=True).mean(2, keepdim=True)
    power = left.square().mean(-1, keepdim=True).mean(2, keepdim=True)
    found = (left / (power + eps).sqrt()).flatten(1, 2) * gain[:, None] + bias[:, None]
    return found if x.dim() == 3 else found.reshape(x.shape)


class _WideCumulativeNorm(CumulativeNorm):
    """The running norm with every sum in float64, as the original has them, written so that exporters keep it."""

    def step(self, x: Tensor, past: Sums | None = None) -> tuple[Tensor, Sums]:
        wide = x.double()
        frames = torch.ones_like(wide[0, 0]).cumsum(-1)  # (L,)
        total, power = wide.sum(1).cumsum(-1), wide.square().sum(1).cumsum(-1)  # (B, L)
        if past is not None:
            frames, total, power = frames + past.frames, total + past.total[:, None], power + past.power[:, None]
        mean = total / (x.shape[1] * frames)
        scale = 1 / ((power / (x.shape[1] * frames) - mean.square()).clamp_min(0) + 1e-8).sqrt()
        wide = (wide - mean[:, None]) * scale[:, None]
        y = wide.float() * self.weight[:, None] + self.bias[:, None]
        return y, Sums(frames[-1], total[:, -1], power[:, -1])


# The class of a part decides how it computes, its weights stay: an instance is moved to the class beside it.
_SAME_WEIGHTS: tuple[tuple[type, type], ...] = (
    (ScalarNorm, _TwoPassScalarNorm), (CumulativeNorm, _WideCumulativeNorm), (nn.GroupNorm, _TwoPassNorm),
)  # fmt: skip


def recurrent(model: nn.Module) -> bool:
    """Return whether a model holds LSTMs or GRUs."""
    return any(isinstance(part, (nn.LSTM, nn.GRU)) for part in model.modules())


def exportable(model: SeparationModel, onnx_layers: bool, spelled: bool = True) -> SeparationModel:
    """Return a copy of the model in eval mode with the parts replaced that do not travel.

    onnx_layers: recurrent layers become nodes that only an ONNX exporter can translate, and with `spelled` norms are
    spelled out; else they stay one node, which is quicker and, on a chunk of some seconds, mostly as exact.
    """
    made = copy.deepcopy(model).eval().requires_grad_(False)
    for part in list(made.modules()):
        if isinstance(part, DepthwiseConv):
            part.__class__ = _FilterConv
        if isinstance(part, LearnedBasis):
            # One sample more than any cut to length leaves: otherwise the trace ties the length to the hop.
            part.decoder = nn.Sequential(part.decoder, nn.ConstantPad1d((0, 1), 0.0))  # type: ignore[assignment]
        if onnx_layers and spelled:
            part.__class__ = next((new for old, new in _SAME_WEIGHTS if isinstance(part, old)), part.__class__)
        for name, child in list(part.named_children()):
            if isinstance(child, STFT):
                setattr(part, name, ConvSTFT(child))
            elif onnx_layers and isinstance(child, (nn.LSTM, nn.GRU)):
                setattr(part, name, OnnxRecurrent(child))
    return made
