"""What computes a separator's network: torch, or another runtime from a graph of it (usepcli/separator/graphs.py).

Only what is known without torch stands here, so that a wrong word and a missing package are answered at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from usepcli import guard, registry, versions
from usepcli.errors import BadInput, MissingDependency, UsageError, choices
from usepcli.weights import ensembles, runtimes

if TYPE_CHECKING:
    from collections.abc import Mapping

TORCH = "torch"
Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]  # the inputs of a graph in their order to its outputs


@dataclass(frozen=True)
class Engine:
    """A runtime: its package, the extra that brings it and what writes graphs, and how a graph is opened.

    coarse: it computes in numbers of fewer digits, such as bfloat16, and is not the same as torch.
    """

    package: str
    extra: str
    open: Callable[[bytes], Run]
    coarse: str = ""


def _by_onnxruntime(graph: bytes) -> Run:
    session = runtimes.onnxruntime_session(graph)
    names = [each.name for each in session.get_inputs()]

    def run(values: Sequence[np.ndarray]) -> list[np.ndarray]:
        found: list[np.ndarray] = session.run(None, dict(zip(names, values, strict=True)))
        return found

    return run


def _by_openvino(graph: bytes, precision: str = "f32") -> Run:
    request = runtimes.openvino_compiled(graph, precision).create_infer_request()
    # Its own buffers are filled anew each time, so what it gives is copied.
    return lambda values: [np.array(each) for each in request.infer(list(values)).values()]


def _coarsely(graph: bytes) -> Run:
    if "BF16" not in (known := runtimes.openvino_precisions()):
        raise MissingDependency(
            f"--engine openvino-bf16: this processor computes in {', '.join(known)} and not in bfloat16; "
            "use --engine openvino"
        )
    return _by_openvino(graph, "bf16")


ENGINES: Mapping[str, Engine] = {
    "onnx": Engine("onnxruntime", "export", _by_onnxruntime),
    "openvino": Engine("openvino", "openvino", _by_openvino),
    "openvino-bf16": Engine("openvino", "openvino", _coarsely, "bfloat16"),
}
NAMES = (TORCH, *ENGINES)


def check(name: str, ref: str, device: str = "auto") -> None:
    """Raise unless an engine can take a model, as far as its card tells: UsageError, or MissingDependency.

    ref: as in ensembles.find.
    """
    if name == TORCH:
        return
    if name not in ENGINES:
        raise UsageError(f"--engine: {choices('engine', name, NAMES)}")
    if device not in ("auto", "cpu"):
        raise UsageError(f"--engine {name}: computes on the processor; found --device {device}; leave one of them out")
    engine = ENGINES[name]
    if versions.lacking([engine.package]):
        raise MissingDependency(
            f"--engine {name}: {engine.package} not installed; run: {versions.install(engine.extra)}"
        )
    for member in ensembles.find(ref).members:
        kind = str(member.card.model.get("name"))
        if registry.kind_of(kind) == "graph":
            raise UsageError(f"--engine {name}: {ref} is an ONNX graph, which onnxruntime runs as it is; leave it out")
        if kind in registry.QUERIED:
            raise UsageError(
                f"--engine {name}: {ref} separates what it is asked for, and every question would need a graph of its "
                "own; leave it out"
            )


def asked(run: Run, values: Sequence[np.ndarray], name: str) -> list[np.ndarray]:
    """Return what a graph gives; MemoryError where memory ends, BadInput for whatever else goes wrong there."""
    try:
        return run(values)
    except Exception as fault:  # every runtime has classes of its own, below Exception
        if guard.stops(fault) or isinstance(fault, MemoryError):
            raise
        why = runtimes.first_line(fault)
        if guard.short_of_memory(RuntimeError(str(fault))):
            raise MemoryError(why) from fault
        shapes = ", ".join(str(value.shape) for value in values)
        raise BadInput(f"--engine {name}: fails on an input of {shapes}: {why}; use --engine {TORCH}") from fault
