"""A traced graph as an ONNX file in memory; recurrent layers, which a tracer keeps whole, become ONNX's own nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def written(
    program: torch.export.ExportedProgram, examples: tuple[torch.Tensor, ...], inputs: tuple[str, ...],
    outputs: tuple[str, ...], notes: Mapping[str, str],
) -> bytes:  # fmt: skip
    """Return the ONNX file of a graph of usepcli.models.exportable, with the names of its tensors and notes in it."""
    import torch

    # The exporter's optimiser takes "+ 1e-8" for "+ 0" and drops it: silence would become NaN.
    made = torch.onnx.export(
        program, examples, dynamo=True, optimize=False, verbose=False, input_names=inputs, output_names=outputs,
        custom_translation_table={
            torch.ops.usep.recurrent.default: _recurrent_node,
            torch.ops.usep.recurrent_on.default: _recurrent_on_node,
        },
    )  # fmt: skip
    if made is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    made.model.metadata_props.update(notes)
    return bytes(made.model_proto.SerializeToString())


def _recurrent_node(x: Any, w: Any, r: Any, b: Any, kind: str, hidden: int) -> Any:
    from onnxscript import opset18 as op

    both = "bidirectional" if w.shape[0] == 2 else "forward"
    if kind == "GRU":
        # linear_before_reset is the form that torch computes.
        return op.GRU(x, w, r, b, direction=both, hidden_size=hidden, linear_before_reset=1)[0]
    return op.LSTM(x, w, r, b, direction=both, hidden_size=hidden)[0]


def _recurrent_on_node(x: Any, w: Any, r: Any, b: Any, h: Any, c: Any, kind: str, hidden: int) -> Any:
    from onnxscript import opset18 as op

    both = "bidirectional" if w.shape[0] == 2 else "forward"
    if kind == "GRU":
        y, h = op.GRU(x, w, r, b, None, h, direction=both, hidden_size=hidden, linear_before_reset=1)
        return y, h, op.Identity(h)
    return op.LSTM(x, w, r, b, None, h, c, direction=both, hidden_size=hidden)
