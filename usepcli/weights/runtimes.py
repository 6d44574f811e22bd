"""Runtimes beside torch that open a graph: loaded so that they report to nobody, and told how many threads they have.

onnxruntime keeps a device id in the cache where it may report its use; importing openvino reports it, where the
package openvino-telemetry is installed. Both are told not to before they are imported.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from usepcli import versions

_COLOUR = re.compile("\x1b\\[[0-9;]*m")


def unreporting() -> None:
    """Make the runtimes report to nobody; this comes before any of them is imported."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # None in its place makes `import openvino_telemetry` fail, and openvino falls back to sending nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep from the terminal what exporters print of their steps, and of packages that nothing here uses."""
    log = logging.getLogger("torch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def load(what: str, extra: str, *modules: str) -> Any:
    """Return the first module of an extra, imported as all others are; MissingDependency where one cannot be."""
    unreporting()
    with quiet():
        return versions.need(what, extra, *modules)


def onnxruntime_session(model: bytes | Path) -> Any:
    """Return onnxruntime's session of an ONNX graph, on the processor, with as many threads as torch has.

    Threads that wait sleep where those of OpenMP are told to: spinning they take the time of a core with other work.
    """
    runtime = load("an ONNX graph", "export", "onnxruntime")
    import torch

    settings = runtime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.log_severity_level = 4
    if os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    return runtime.InferenceSession(source, settings, providers=["CPUExecutionProvider"])


def openvino_compiled(model: bytes | Path, precision: str = "f32") -> Any:
    """Return OpenVINO's form of an ONNX graph or an .xml file, on the processor, with as many threads as torch has.

    precision: f32 or bf16; without a word processors that have bfloat16 would compute in it.
    """
    runtime = load("OpenVINO", "openvino", "openvino")
    import torch

    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    core = runtime.Core()
    source = core.read_model(io.BytesIO(model)) if isinstance(model, bytes) else str(model)
    return core.compile_model(source, "CPU", settings)


def openvino_precisions() -> list[str]:
    """Return the kinds of numbers that this processor computes in under OpenVINO, such as FP32 and BF16."""
    runtime = load("OpenVINO", "openvino", "openvino")
    return [str(kind) for kind in runtime.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")]


def first_line(fault: BaseException) -> str:
    """Return the first line that tells something, of what was at the bottom of a fault, without colours.

    OpenVINO begins with a place in its own source, torch's exporter with advice to whoever mends the exporter.
    """
    while fault.__cause__ is not None and str(fault.__cause__).strip():
        fault = fault.__cause__
    lines = [line.strip() for line in _COLOUR.sub("", str(fault)).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith("Exception from")] or lines
    return telling[0][:200] if telling else type(fault).__name__
