"""What an ONNX file says of itself, read without running any of it: its opset and its weights.

A file is a protocol buffer: keys (number * 8 + kind), each with a varint (kind 0), 8 bytes (1), a length and so many
bytes (2), or 4 bytes (5). Followed is what leads to tensors, in graphs, functions and attributes of nodes; of a tensor
are read its dims (1), its type (2) and whether its numbers lie in another file (14), of the model its sets of operators
(8). (onnx/onnx.proto of the ONNX project, IR version 3 and later.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from usepcli.errors import BadInput

_FLOATS = (1, 10, 11, 16)  # float, float16, double, bfloat16
_INTEGERS = (2, 3)  # uint8 and int8, as quantised weights are
_DEEPEST = 40  # messages within messages: a graph in an attribute of a node is three of them
# Of each kind of message the fields that lead to tensors, and the kind of what is in them.
_PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}


class Graph(NamedTuple):
    """The opset of the standard operators, the number of weights, and how many tensors lie in other files."""

    opset: int
    weights: int
    outside: int


def read(raw: bytes) -> Graph:
    """Return what a file says; BadInput for bytes that are no ONNX model."""
    try:
        model = list(_fields(memoryview(raw)))
        graphs = [part for number, part in model if number == 7 and isinstance(part, memoryview)]
        opsets = [dict(_fields(part)) for number, part in model if number == 8 and isinstance(part, memoryview)]
        versions = [int(one.get(2, 0)) for one in opsets if bytes(one.get(1, b"")) in (b"", b"ai.onnx")]  # type: ignore[arg-type]
        if len(graphs) != 1 or not versions:
            raise ValueError("no graph in it, or no opset")
        tensors = list(_tensors(memoryview(raw), "model"))
        return Graph(versions[0], sum(size for size, _ in tensors), sum(outside for _, outside in tensors))
    except (ValueError, IndexError, TypeError) as fault:
        raise BadInput(f"not an ONNX model ({fault})") from fault


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of every field of a message; ValueError where it is none."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        size, at = _varint(data, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
        if size < 0 or at + size > len(data) or not number:
            raise ValueError("bytes that no protocol buffer has")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _tensors(message: memoryview, kind: str, depth: int = 0) -> Iterator[tuple[int, bool]]:
    """Yield the number of weights, and whether they lie in another file, of all tensors in a message of that kind."""
    if depth > _DEEPEST:
        raise ValueError("graphs within graphs within graphs")
    for number, part in _fields(message):
        inner = _PARTS[kind].get(number, "")
        if not inner or not isinstance(part, memoryview):
            continue
        if inner == "tensor":
            yield _tensor(part)
        else:
            yield from _tensors(part, inner, depth + 1)


def _tensor(data: memoryview) -> tuple[int, bool]:
    dims, kind, outside = [], 0, False
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            dims.append(value)
        elif number == 1 and isinstance(value, memoryview):  # packed
            at = 0
            while at < len(value):
                one, at = _varint(value, at)
                dims.append(one)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 14:
            outside = value == 1
    return math.prod(dims) if kind in _FLOATS + _INTEGERS else 0, outside
