"""Messages between two processes over a pair of sockets that nobody else shares.

A message is the number of its parts, their lengths, and the parts. The first is a pickle, the others are the bytes of
its arrays, which are copied neither into the pickle nor out of it.
"""

from __future__ import annotations

import io
import socket
import struct
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

_COUNT = struct.Struct("<I")


def pack(value: Any) -> list[memoryview]:
    """Return the parts of a message that carries a value; whatever pickle raises where it cannot travel."""
    body = io.BytesIO()
    arrays: list[Any] = []
    ForkingPickler(body, 5, True, arrays.append).dump(value)
    return [body.getbuffer(), *(array.raw() for array in arrays)]


def _no_matter() -> None:
    pass


def send(line: socket.socket, parts: Sequence[memoryview], idle: Callable[[], None] = _no_matter) -> None:
    """Write a message; idle: called each time a socket with a timeout takes nothing. OSError where nobody reads."""
    head = _COUNT.pack(len(parts)) + struct.pack(f"<{len(parts)}Q", *(len(part) for part in parts))
    for part in (memoryview(head), *parts):
        while part:
            try:
                part = part[line.send(part) :]
            except TimeoutError:
                idle()


def receive(line: socket.socket, idle: Callable[[], None] = _no_matter, room: Callable[[int], Any] = bytearray) -> Any:
    """Read a message and return its value; room: gives the memory for an array. EOFError or OSError as for `send`."""

    def take(place: Any) -> Any:
        left = memoryview(place)
        while left:
            try:
                count = line.recv_into(left)
            except TimeoutError:
                idle()
                continue
            if not count:
                raise EOFError
            left = left[count:]
        return place

    parts = _COUNT.unpack(take(bytearray(_COUNT.size)))[0]
    sizes = struct.unpack(f"<{parts}Q", take(bytearray(8 * parts)))
    body = take(bytearray(sizes[0]))
    return unpack([body, *(take(room(size)) for size in sizes[1:])])


def unpack(parts: Sequence[Any]) -> Any:
    """Return what `pack` made the parts of."""
    return ForkingPickler.loads(parts[0], buffers=parts[1:])
