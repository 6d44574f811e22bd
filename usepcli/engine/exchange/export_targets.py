"""Writers and readers of the formats that a model is exported to: ONNX, torch.export, OpenVINO.

OpenVINO reads the ONNX graph, because its own converter reports its use to a server.

A converter gives bytes and touches no disk: what these libraries do on a full one is between a wrong reason and the
end of the process (torch's writer fails once more in its destructor). Python writes the bytes, and a fault is a fault.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from usepcli import versions
from usepcli.errors import IOFault, MissingDependency
from usepcli.files import fault
from usepcli.weights import onnx_writing, runtimes

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

        from usepcli.models import exportable

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
    if target.extra:
        runtimes.load(f"{target.suffix} files", target.extra)


def _trace(model: SeparationModel, example: torch.Tensor, dynamic: bool) -> torch.export.ExportedProgram:
    import torch

    from usepcli.models import exportable

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
    from usepcli.models import exportable

    with runtimes.quiet():
        return _saved_torch(_trace(exportable.exportable(model, onnx_layers=False), example, dynamic), notes)


def _step_torch(step: Step, notes: dict[str, str]) -> Parts:
    with runtimes.quiet():
        return _saved_torch(step.traced(onnx_layers=False), notes)


def _saved_torch(program: torch.export.ExportedProgram, notes: dict[str, str]) -> Parts:
    import torch

    held = io.BytesIO()
    torch.export.save(program, held, extra_files=notes)
    return {".pt2": held.getvalue()}


def _open_step_torch(path: Path) -> RunStep:
    import torch

    with runtimes.quiet():
        module = torch.export.load(path).module()

    def run(values: list[np.ndarray]) -> list[np.ndarray]:
        with torch.no_grad():
            return [each.numpy() for each in module(*map(torch.from_numpy, values))]

    return run


def _open_torch(path: Path) -> Run:
    import torch

    with runtimes.quiet():
        module = torch.export.load(path).module()

    def run(wave: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(wave)).numpy()

    return run


def _onnx(model: SeparationModel, example: torch.Tensor, notes: dict[str, str], dynamic: bool) -> Parts:
    from usepcli.models import exportable

    with runtimes.quiet():
        program = _trace(exportable.exportable(model, onnx_layers=True), example, dynamic)
        return {".onnx": onnx_writing.written(program, (example,), ("mixture",), ("sources",), notes)}


def _step_onnx(step: Step, notes: dict[str, str]) -> Parts:
    with runtimes.quiet():
        traced = step.traced(onnx_layers=True)
        return {".onnx": onnx_writing.written(traced, step.examples, step.inputs, step.outputs, notes)}


def _open_onnx(path: Path) -> Run:
    session = runtimes.onnxruntime_session(path)
    return lambda wave: session.run(None, {"mixture": wave})[0]


def _open_step_onnx(path: Path) -> RunStep:
    session = runtimes.onnxruntime_session(path)
    names = [each.name for each in session.get_inputs()]
    return lambda values: session.run(None, dict(zip(names, values, strict=True)))


def _from_onnx(parts: Parts, notes: dict[str, str]) -> Parts:
    """Return OpenVINO's two files of an ONNX graph, in float32."""
    library = runtimes.load(".xml files", "openvino", "openvino")
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
    compiled = runtimes.openvino_compiled(path)
    return lambda wave: np.array(compiled(wave)[0])


def _open_step_openvino(path: Path) -> RunStep:
    compiled = runtimes.openvino_compiled(path)
    return lambda values: [np.array(each) for each in compiled(values).values()]


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
