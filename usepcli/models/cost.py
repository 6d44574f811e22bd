"""Arithmetic cost of a model, counted rather than timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
_FIRST = (_ATEN.mm.default, _ATEN.bmm.default)
_SECOND = (_ATEN.addmm.default, _ATEN.baddbmm.default)


def flops_per_second(model: Any, seconds: float = 2) -> float:
    """Return floating-point operations (two per multiply-add) per second of audio of a SeparationModel.

    Counts matrix products, convolutions and attention on `seconds` of audio, and adds what does not run as such
    everywhere: recurrent layers, and modules that report their own `flops(output)`.
    Normalisations, activations and transforms are left out, as is usual.
    """
    counter = Products()
    hooks = [hook for module in model.modules() for hook in _watched(module, counter)]
    was_training = model.training
    device = next(model.parameters()).device
    wave = torch.zeros(1, round(seconds * model.sample_rate), device=device)
    try:
        model.eval()
        # Only the plain form of attention consists of products on every device.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            model(wave)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return counter.total / seconds


class Products(TorchDispatchMode):
    """Counts in `total` the operations of the matrix products and convolutions that run in its `with` block.

    The figures are those of torch.utils.flop_counter, whose mode loads torch's compiler for over a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0
        self.inside = 0  # recurrent layers at work, whose products are counted at once

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # True, the default, loads the compiler to keep it away from this mode; nothing is compiled here.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if not self.inside:
            # In inference mode products come as parts of larger operators.
            with self:
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        out = func(*args, **(kwargs or {}))
        if not self.inside:
            self.total += _flops(func, args, out)
        return out


def _flops(func: Any, args: tuple[Any, ...], out: Any) -> float:
    """Return the operations of one operator; 0 for what is neither product nor convolution."""
    if func in _FIRST:
        return 2.0 * out.numel() * args[0].shape[-1]
    if func in _SECOND:
        return 2.0 * out.numel() * args[1].shape[-1]
    if func is _ATEN.convolution.default:
        x, weight, transposed = args[0], args[1], args[6]
        # Every filter of (C_out, C_in / groups, taps), or (C_in, C_out / groups, taps), stands at every place.
        places: Tensor = x if transposed else out
        return 2.0 * places.shape[0] * places.shape[2:].numel() * weight.numel()
    return 0.0


def _watched(module: nn.Module, counter: Products) -> list[Any]:
    """Return the hooks that let a recurrent layer, or a module with `flops`, add its own figure."""
    if isinstance(module, nn.RNNBase):
        return [module.register_forward_pre_hook(_enter(counter)), module.register_forward_hook(_leave(counter))]
    return [module.register_forward_hook(_add(counter))] if hasattr(module, "flops") else []


def _enter(counter: Products) -> Callable[..., None]:
    def enter(module: Any, _inputs: Any) -> None:
        counter.inside += 1

    return enter


def _leave(counter: Products) -> Callable[..., None]:
    def leave(module: Any, _inputs: Any, output: Any) -> None:
        counter.inside -= 1
        steps = output[0].shape[:-1].numel()
        weights = sum(w.numel() for name, w in module.named_parameters() if name.startswith("weight"))
        counter.total += 2.0 * steps * weights

    return leave


def _add(counter: Products) -> Callable[..., None]:
    def add(module: Any, _inputs: Any, output: Any) -> None:
        counter.total += module.flops(output)

    return add
