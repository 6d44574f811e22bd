"""A separator of anybody's as an ONNX file, with a YAML file beside it that says what it hears and gives.

The graph goes into the model file as it is; weights/onnx_files.py has the keys of the YAML file.
"""

from __future__ import annotations

from usepcli.engine.exchange.foreign_parts import Found, Stated
from usepcli.engine.exchange.foreign_source import Source
from usepcli.errors import BadInput
from usepcli.weights import onnx_files, readers
from usepcli.weights.cards import UNSTATED

ABOUT = "ONNX files with a YAML file beside them"
CODE = UNSTATED


def knows(source: Source) -> bool:
    """Return whether a file, or one in the folder, is called so."""
    return bool(_name(source))


def _name(source: Source) -> str:
    if source.single:
        return source.single if source.single.endswith(onnx_files.SUFFIX) else ""
    return source.first(r"[^/]*\.onnx")


def read(source: Source, stated: Stated) -> Found:
    """Return the settings that the YAML file says, and the bytes of the graph; errors as of onnx_files.said."""
    del stated
    path = source.path(_name(source))
    if not source.single:
        for name in (_name(source).removesuffix(onnx_files.SUFFIX) + end for end in (".yaml", ".yml")):
            if name in source.names:
                source.path(name)  # fetched, so that it lies beside
    told, state = onnx_files.said(path), readers.graph(path)
    if not len(state["graph"]):
        raise BadInput(f"{source.where}: an empty file")
    return Found(
        "ONNX", {**told.settings, "size": len(state["graph"])}, state,
        training_data=told.words.get("training_data", ""), licence=told.words.get("licence", ""),
        credits=told.words.get("credits", ""), code=told.words.get("licence_code", ""),
        weights=told.words.get("licence_weights", ""), gain=(),
    )  # fmt: skip
