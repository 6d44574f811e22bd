"""Exporting one step of a live model: a graph from a block and the state to sources and the new state.

The sizes of a graph are fixed, those of a stream's state are not at its beginning: a frame needs more samples than the
hop to the next. So the exported stream begins after a little silence, with the state that the model has then, and its
sources come that much later. They are compared with those of the model on the whole of silence and speech.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor, nn

from usepcli import guard
from usepcli.engine.exchange.export_targets import STATE, RunStep, Step, Target, put
from usepcli.errors import BadInput, MissingDependency, UsageError
from usepcli.models import streaming
from usepcli.models.separator import SeparationModel

_BLOCK_S = 0.01
_COMPARED_S = 2.0


class OneStep(nn.Module):
    """`step` of a live model with its state as a flat row of tensors; empty ones are made inside."""

    def __init__(self, model: SeparationModel, state: streaming.State) -> None:
        super().__init__()
        self.model, self.state = model, state

    def forward(self, block: Tensor, *kept: Tensor) -> tuple[Tensor, ...]:
        """Return the estimates (1, N, t) of a block (1, t), then the new state."""
        given, like = iter(kept), [each for _, each in streaming.named(self.state)]
        row = [next(given) if each.numel() else block.new_zeros(each.shape) for each in like]
        est, state = self.model.step(block, streaming.refilled(self.state, iter(row)))
        return est, *carried(state).values()


def carried(state: streaming.State) -> dict[str, Tensor]:
    """Return the tensors of a state that are not empty, by name."""
    return {name: each for name, each in streaming.named(state) if each.numel()}


def block_of(model: SeparationModel, block: int) -> int:
    """Return the block's samples, about 10 ms for 0; UsageError unless as many sources leave as samples enter."""
    stride = model.live_stride
    if block % stride:
        near = max(1, round(block / stride)) * stride
        raise UsageError(f"--block: found {block} samples; this model takes multiples of {stride}, such as {near}")
    return block or -(-max(1, round(_BLOCK_S * model.sample_rate)) // stride) * stride


def begun(model: SeparationModel, block: int) -> tuple[streaming.State, int]:
    """Return a state that keeps its sizes from block to block, and the samples of silence that lead to it.

    Of all such states it is the one with the fewest samples waiting.
    """
    count = model.ahead + model.latency_samples
    state = model.step(streaming.silence(model, 1, count), model.begin(1))[1]
    best, lead = state, count
    for more in range(1, model.live_stride):
        state = model.step(streaming.silence(model, 1, 1), state)[1]
        if state.mix.shape[1] < best.mix.shape[1]:
            best, lead = state, count + more
    est, after = model.step(streaming.silence(model, 1, block), best)
    sizes = [[(name, each.shape) for name, each in streaming.named(one)] for one in (best, after)]
    if est.shape[-1] != block or sizes[0] != sizes[1]:
        raise BadInput(f"a block of {block} samples changes the sizes of the model's state; it cannot be exported")
    return best, lead


def made(
    model: SeparationModel, target: Target, path: Path, notes: dict[str, str], speech: np.ndarray, block: int,
    tolerance: float,
) -> dict[str, Any]:  # fmt: skip
    """Write the graph and the state to begin with, and return what was compared; BadInput if it differs."""
    model.begin(1)  # says at once where a model is not live
    block = block_of(model, block)
    state, lead = begun(model, block)
    kept = carried(state)
    outputs = ("sources", *(f"new.{name}" for name in kept))
    example = torch.from_numpy(np.resize(speech, (1, block)))
    step = Step(model, partial(OneStep, state=state), (example, *kept.values()), ("block", *kept), outputs)
    first = {name: each.contiguous().numpy() for name, each in kept.items()}
    path.with_name(path.name + STATE).write_bytes(save(first))
    # Two blocks at the least: the second one is given the state of the first.
    count = max(2, round(_COMPARED_S * model.sample_rate) // block) * block
    waves = {"speech": np.resize(speech, count), "silence": np.zeros(count, np.float32)}
    try:
        put(target.make_step(step, notes), path)
        run = target.open_step(path)
        checks = [_check(model, run, *each, first, block, lead, path.name, tolerance) for each in waves.items()]
    except (BadInput, MissingDependency):
        raise
    except Exception as fault:  # converters raise whatever their layers do
        if guard.stops(fault):
            raise
        why = (str(fault).strip().splitlines() or [type(fault).__name__])[0][:300]
        raise BadInput(f"{path.name}: the step cannot be exported ({why}); try another --to") from fault
    return {
        "live": True, "block": block, "delay": state.mix.shape[1], "lead": lead,
        "input": f"block (1, {block}), then the state",
        "output": f"sources (1, {model.n_src}, {block}), then the new state",
        "state_file": path.name + STATE,
        "state": [
            {"input": name, "output": f"new.{name}", "shape": list(each.shape), "type": str(each.dtype)}
            for name, each in first.items()
        ],
        "max_difference": max(check["max_difference"] for check in checks), "checks": checks,
    }  # fmt: skip


def _check(
    model: SeparationModel, run: RunStep, kind: str, wave: np.ndarray, first: dict[str, np.ndarray], block: int,
    lead: int, name: str, tolerance: float,
) -> dict[str, Any]:  # fmt: skip
    """Return the largest difference of blocks in sequence from the model's forward; BadInput above the tolerance."""
    heard = np.concatenate([np.zeros(lead, np.float32), wave])
    with torch.no_grad():
        own = model(torch.from_numpy(heard[None])).numpy()
    kept, pieces = list(first.values()), []
    for at in range(0, len(wave), block):
        est, *kept = run([np.ascontiguousarray(wave[None, at : at + block]), *kept])
        pieces.append(est)
    there = np.concatenate(pieces, axis=2)
    start = lead - first["mix"].shape[1] if "mix" in first else lead
    own = own[..., start : start + there.shape[2]]
    worst = float(np.abs(there.astype(np.float64) - own).max())
    if not worst <= tolerance:
        raise BadInput(
            f"{name}: on blocks of {block} samples of {kind} the outputs differ from the model's by {worst:.2g}; at "
            f"most {tolerance:g} was expected (--tolerance); nothing was written"
        )
    return {"samples": len(wave), "signal": kind, "max_difference": worst, "peak": round(float(np.abs(own).max()), 4)}
