"""Arithmetic cost of a model, counted rather than timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def flops_per_second(model: Any, seconds: int = 2) -> float:
    """Return floating-point operations (two per multiply-add) per second of audio of a SeparationModel.

    Counts matrix products, convolutions and attention on `seconds` of audio, and adds what the
    counter does not see: recurrent layers, and modules that report their own `flops(output)`.
    Normalisations, activations and transforms are left out, as is usual.
    """
    extra = [0.0]
    hooks = [m.register_forward_hook(_adder(extra)) for m in model.modules() if _unseen(m)]
    was_training = model.training
    device = next(model.parameters()).device
    wave = torch.zeros(1, seconds * model.sample_rate, device=device)
    try:
        model.eval()
        # Only the plain form of attention consists of products that the counter knows on every device.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(wave)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return (counter.get_total_flops() + extra[0]) / seconds


def _unseen(module: nn.Module) -> bool:
    return isinstance(module, nn.RNNBase) or hasattr(module, "flops")


def _adder(extra: list[float]) -> Callable[..., None]:
    def add(module: Any, _inputs: Any, output: Any) -> None:
        if isinstance(module, nn.RNNBase):
            steps = output[0].shape[:-1].numel()
            weights = sum(w.numel() for name, w in module.named_parameters() if name.startswith("weight"))
            extra[0] += 2.0 * steps * weights
        else:
            extra[0] += module.flops(output)

    return add
