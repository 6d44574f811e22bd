"""Writers and readers of the formats that a model is exported to: ONNX, torch.export, OpenVINO.

OpenVINO reads the ONNX file, because its own converter reports its use to a server; so does importing it, where
the package openvino-telemetry is installed, and that package is hidden from it here. onnxruntime is told not to report.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usepcli.errors import MissingDependency

if TYPE_CHECKING:  # whether a request can be met is answered without torch
    import torch
    from torch import nn

    from usepcli.models.separator import SeparationModel

STATE = ".state.safetensors"  # beside one step of a live model: what it begins with
Run = Callable[[np.ndarray], np.ndarray]
RunStep = Callable[[list[np.ndarray]], list[np.ndarray]]


@dataclass(frozen=True)
class Step:
    """A graph of fixed sizes with several inputs and outputs: what makes it from a model, examples, and the names."""

    model: SeparationModel
    graph: Callable[[SeparationModel], nn.Module]
    examples: tuple[torch.Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def traced(self, onnx_layers: bool) -> torch.export.ExportedProgram:
        """Return the graph, traced on the model in the form that other runtimes take."""
        import torch

        from usepcli.engine.exchange import exportable

        made = self.graph(exportable.exportable(self.model, onnx_layers))
        with torch.no_grad():
            return torch.export.export(made.eval(), self.examples, strict=False)


@dataclass(frozen=True)
class Target:
    """One format: file suffix, the packages that it takes, the extra that has them, what writes and what runs it."""

    suffix: str
    packages: tuple[str, ...]
    extra: str
    write: Callable[[SeparationModel, torch.Tensor, Path, dict[str, str], bool], None]
    open: Callable[[Path], Run]
    write_step: Callable[[Step, Path, dict[str, str]], None]
    open_step: Callable[[Path], RunStep]


def require(target: str) -> Target:
    """Return the target of that name; MissingDependency names the packages that it lacks."""
    found = TARGETS[target]
    lacking = [name for name in found.packages if importlib.util.find_spec(name) is None]
    if lacking:
        raise MissingDependency(
            f"--to {target}: {', '.join(lacking)} not installed; run: pip install 'usepcli[{found.extra}]'"
        )
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    # Exporters print their steps and warn of packages that nothing here uses.
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _trace(model: SeparationModel, example: torch.Tensor, dynamic: bool) -> torch.export.ExportedProgram:
    import torch

    from usepcli.engine.exchange import exportable

    shapes = ({1: torch.export.Dim.DYNAMIC},) if dynamic else None
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if exportable.recurrent(model):
            stack.enter_context(_loops())
        return torch.export.export(exportable.Waveform(model).eval(), (example,), dynamic_shapes=shapes, strict=False)


@contextmanager
def _loops() -> Iterator[None]:
    """Trace recurrent layers as loops, so that their number of steps stays open."""
    import torch

    try:
        from torch.export import _patches

        lstm, gru = _patches.register_lstm_while_loop_decomposition, _patches.register_gru_while_loop_decomposition
    except (ImportError, AttributeError) as fault:
        raise MissingDependency(
            f"recurrent models: torch {torch.__version__} cannot trace them as loops; use 2.14, or --to onnx"
        ) from fault
    with lstm(), gru():
        yield


def _write_torch(
    model: SeparationModel, example: torch.Tensor, path: Path, notes: dict[str, str], dynamic: bool
) -> None:
    import torch

    from usepcli.engine.exchange import exportable

    with _quiet():
        program = _trace(exportable.exportable(model, onnx_layers=False), example, dynamic)
        torch.export.save(program, path, extra_files=notes)


def _write_step_torch(step: Step, path: Path, notes: dict[str, str]) -> None:
    import torch

    with _quiet():
        torch.export.save(step.traced(onnx_layers=False), path, extra_files=notes)


def _open_step_torch(path: Path) -> RunStep:
    import torch

    with _quiet():
        module = torch.export.load(path).module()

    def run(values: list[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return [each.numpy() for each in module(*map(torch.from_numpy, values))]

    return run


def _open_torch(path: Path) -> Run:
    import torch

    with _quiet():
        module = torch.export.load(path).module()

    def run(wave: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(wave)).numpy()

    return run


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


def _write_onnx(
    model: SeparationModel, example: torch.Tensor, path: Path, notes: dict[str, str], dynamic: bool
) -> None:
    from usepcli.engine.exchange import exportable

    with _quiet():
        program = _trace(exportable.exportable(model, onnx_layers=True), example, dynamic)
        _save_onnx(program, (example,), ("mixture",), ("sources",), path, notes)


def _write_step_onnx(step: Step, path: Path, notes: dict[str, str]) -> None:
    with _quiet():
        _save_onnx(step.traced(onnx_layers=True), step.examples, step.inputs, step.outputs, path, notes)


def _save_onnx(
    program: torch.export.ExportedProgram, examples: tuple[torch.Tensor, ...], inputs: tuple[str, ...],
    outputs: tuple[str, ...], path: Path, notes: dict[str, str],
) -> None:  # fmt: skip
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
    made.save(str(path), external_data=False)


def _open_onnx(path: Path) -> Run:
    session = _session(path)
    return lambda wave: session.run(None, {"mixture": wave})[0]


def _open_step_onnx(path: Path) -> RunStep:
    session = _session(path)
    names = [each.name for each in session.get_inputs()]
    return lambda values: session.run(None, dict(zip(names, values, strict=True)))


def _session(path: Path) -> Any:
    # onnxruntime reports to its maker over the network, and keeps a device id in the cache, unless this stands first.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime
    import torch

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def _openvino() -> Any:
    # None in its place makes `import openvino_telemetry` fail, and openvino falls back to sending nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _write_openvino(
    model: SeparationModel, example: torch.Tensor, path: Path, notes: dict[str, str], dynamic: bool
) -> None:
    between = path.with_suffix(".onnx")
    _write_onnx(model, example, between, notes, dynamic)
    _from_onnx(between, path, notes)


def _write_step_openvino(step: Step, path: Path, notes: dict[str, str]) -> None:
    between = path.with_suffix(".onnx")
    _write_step_onnx(step, between, notes)
    _from_onnx(between, path, notes)


def _from_onnx(between: Path, path: Path, notes: dict[str, str]) -> None:
    library = _openvino()
    read = library.Core().read_model(str(between))
    for key, value in notes.items():
        read.set_rt_info(value, [key])
    library.save_model(read, str(path), compress_to_fp16=False)
    between.unlink()


def _open_openvino(path: Path) -> Run:
    compiled = _compiled(path)
    return lambda wave: np.array(compiled(wave)[0])


def _open_step_openvino(path: Path) -> RunStep:
    compiled = _compiled(path)
    return lambda values: [np.array(each) for each in compiled(values).values()]


def _compiled(path: Path) -> Any:
    import torch

    # Processors with bfloat16 would compute in it by default.
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    return _openvino().Core().compile_model(str(path), "CPU", exact)


TARGETS = {
    "onnx": Target(
        ".onnx", ("onnx", "onnxscript", "onnxruntime"), "export", _write_onnx, _open_onnx, _write_step_onnx,
        _open_step_onnx,
    ),
    "torch-export": Target(".pt2", (), "", _write_torch, _open_torch, _write_step_torch, _open_step_torch),
    "openvino": Target(
        ".xml", ("onnx", "onnxscript", "openvino"), "openvino", _write_openvino, _open_openvino, _write_step_openvino,
        _open_step_openvino,
    ),
}  # fmt: skip
