"""Writers and readers of the formats that a model is exported to: ONNX, torch.export, OpenVINO.

OpenVINO reads the ONNX graph, because its own converter reports its use to a server; so does importing it, where
the package openvino-telemetry is installed, and that package is hidden from it here. onnxruntime is told not to report.

A converter gives bytes and touches no disk: what these libraries do on a full one is between a wrong reason and the
end of the process (torch's writer fails once more in its destructor). Python writes the bytes, and a fault is a fault.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from usepcli import versions
from usepcli.errors import IOFault, MissingDependency
from usepcli.files import fault

if TYPE_CHECKING:  # whether a request can be met is answered without torch
    import torch
    from torch import nn

    from usepcli.models.separator import SeparationModel

STATE = ".state.safetensors"  # beside one step of a live model: what it begins with
Parts = dict[str, bytes]  # suffix -> content of the files of one exported model
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
    """One format: file suffix, the extra that has its packages ('': none), what makes it and what runs it."""

    suffix: str
    extra: str
    make: Callable[[SeparationModel, torch.Tensor, dict[str, str], bool], Parts]
    open: Callable[[Path], Run]
    make_step: Callable[[Step, dict[str, str]], Parts]
    open_step: Callable[[Path], RunStep]


def require(target: str) -> Target:
    """Return the target of that name; MissingDependency names the packages that it lacks."""
    found = TARGETS[target]
    if found.extra:
        versions.check(f"--to {target}", found.extra)
    return found


def load(target: Target) -> None:
    """Import what a target takes, before a long trace; MissingDependency for packages that do not fit together."""
    # Both report to their makers over the network unless these stand first; onnxruntime keeps a device id in the cache.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # None in its place makes `import openvino_telemetry` fail, and openvino falls back to sending nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    if target.extra:
        with _quiet():
            versions.need(f"{target.suffix} files", target.extra)


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
    except (ImportError, AttributeError) as err:
        raise MissingDependency(
            f"recurrent models: torch {torch.__version__} cannot trace them as loops; use 2.14, or --to onnx"
        ) from err
    with lstm(), gru():
        yield


def put(parts: Parts, path: Path) -> None:
    """Write the files of an exported model at `path`, in a hidden folder beside its place; IOFault if that fails."""
    try:
        for suffix, data in parts.items():
            path.with_suffix(suffix).write_bytes(data)
    except OSError as err:
        raise fault(path.parent.parent / path.name, err) from err


def _torch(model: SeparationModel, example: torch.Tensor, notes: dict[str, str], dynamic: bool) -> Parts:
    from usepcli.engine.exchange import exportable

    with _quiet():
        return _saved_torch(_trace(exportable.exportable(model, onnx_layers=False), example, dynamic), notes)


def _step_torch(step: Step, notes: dict[str, str]) -> Parts:
    with _quiet():
        return _saved_torch(step.traced(onnx_layers=False), notes)


def _saved_torch(program: torch.export.ExportedProgram, notes: dict[str, str]) -> Parts:
    import torch

    held = io.BytesIO()
    torch.export.save(program, held, extra_files=notes)
    return {".pt2": held.getvalue()}


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


def _onnx(model: SeparationModel, example: torch.Tensor, notes: dict[str, str], dynamic: bool) -> Parts:
    from usepcli.engine.exchange import exportable

    with _quiet():
        program = _trace(exportable.exportable(model, onnx_layers=True), example, dynamic)
        return _saved_onnx(program, (example,), ("mixture",), ("sources",), notes)


def _step_onnx(step: Step, notes: dict[str, str]) -> Parts:
    with _quiet():
        return _saved_onnx(step.traced(onnx_layers=True), step.examples, step.inputs, step.outputs, notes)


def _saved_onnx(
    program: torch.export.ExportedProgram, examples: tuple[torch.Tensor, ...], inputs: tuple[str, ...],
    outputs: tuple[str, ...], notes: dict[str, str],
) -> Parts:  # fmt: skip
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
    return {".onnx": made.model_proto.SerializeToString()}


def _open_onnx(path: Path) -> Run:
    session = _session(path)
    return lambda wave: session.run(None, {"mixture": wave})[0]


def _open_step_onnx(path: Path) -> RunStep:
    session = _session(path)
    names = [each.name for each in session.get_inputs()]
    return lambda values: session.run(None, dict(zip(names, values, strict=True)))


def _session(path: Path) -> Any:
    load(TARGETS["onnx"])
    import onnxruntime
    import torch

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def _openvino() -> Any:
    load(TARGETS["openvino"])
    import openvino

    return openvino


def _from_onnx(parts: Parts, notes: dict[str, str]) -> Parts:
    """Return OpenVINO's two files of an ONNX graph, in float32."""
    library = _openvino()
    read = library.Core().read_model(io.BytesIO(parts[".onnx"]))
    for key, value in notes.items():
        read.set_rt_info(value, [key])
    with tempfile.TemporaryDirectory() as folder:  # it writes to places with names alone
        place = Path(folder) / "made.xml"
        try:
            library.save_model(read, str(place), compress_to_fp16=False)
        except RuntimeError as err:
            if "iostream" in str(err):
                raise IOFault(f"{fault(place, err)}; TMPDIR names another folder for what is not finished") from err
            raise
        return {suffix: place.with_suffix(suffix).read_bytes() for suffix in (".xml", ".bin")}


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
        ".onnx", "export", _onnx, _open_onnx, _step_onnx, _open_step_onnx
    ),
    "torch-export": Target(".pt2", "", _torch, _open_torch, _step_torch, _open_step_torch),
    "openvino": Target(
        ".xml", "openvino",
        lambda model, example, notes, dynamic: _from_onnx(_onnx(model, example, notes, dynamic), notes),
        _open_openvino, lambda step, notes: _from_onnx(_step_onnx(step, notes), notes), _open_step_openvino,
    ),
}  # fmt: skip
