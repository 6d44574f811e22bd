"""Which file is read at this moment, so that a disk that hangs, or a decoder that crashes, is told by the file's name.

A read that hangs inside the system reaches no exception, and a decoder that crashes leaves none. So whoever reads notes
it: for a thread that tells who is waited for, and, in a worker process, in memory that its parent sees.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from usepcli import stops
from usepcli.files import show

PathLike = str | os.PathLike[str]

SAY_S = 30.0  # of one read, until it is told; again after twice as long, and so on
NOTED = 4096  # bytes of a name that a parent sees
_TICK_S = 0.25
_now: dict[int, tuple[PathLike]] = {}  # by thread; each read is another tuple
_lock = threading.Lock()
_say: Callable[[str], None] | None = None
_over: tuple[float, Callable[[str], None]] | None = None
_thread: threading.Thread | None = None
_note: Any = None


@contextmanager
def reading(path: PathLike) -> Iterator[None]:
    """Note that the block reads a file; within another such block the outer one's file stays noted."""
    me = threading.get_ident()
    if me in _now:
        yield
        return
    _now[me] = (path,)
    if _note is not None:
        _note.value = os.fsencode(path)[: NOTED - 1]
    elif _thread is None and (_say or _over):
        _start()
    try:
        yield
    finally:
        del _now[me]
        if _note is not None:
            _note.value = b""


def tell(say: Callable[[str], None] = stops.say) -> None:
    """Have `say` told, from another thread, of each read that lasts longer than SAY_S."""
    global _say
    _say = say


@contextmanager
def limited(limit_s: float, over: Callable[[str], None]) -> Iterator[None]:
    """Call over(path), in another thread, for a read of this program's main thread in the block that lasts longer.

    limit_s: 0 for no limit.  Time in which the process stood still does not count.
    """
    global _over
    before, _over = _over, (limit_s, over) if limit_s else None
    try:
        yield
    finally:
        _over = before


def share(note: Any) -> None:
    """Note in an array of a parent's what this process reads, and tell of nothing here."""
    global _note, _say, _over, _thread
    _now.clear()  # of threads that a fork has left behind
    _note, _say, _over, _thread = note, None, None, None


def _start() -> None:
    global _thread
    with _lock:
        if _thread is None:
            _thread = threading.Thread(target=_look, daemon=True)
            _thread.start()


def _look() -> None:
    waited: dict[int, tuple[tuple[PathLike], float, float]] = {}  # read, its seconds so far, when it is told
    before = time.monotonic()
    while True:
        time.sleep(_TICK_S)
        now = time.monotonic()
        step, before = min(now - before, 2 * _TICK_S), now
        waited = {me: _counted(waited.get(me), read, step) for me, read in dict(_now).items()}
        for me, (read, seconds, told) in waited.items():
            if seconds >= told and _say is not None:
                _say(f"still waiting for {show(read[0])} after {seconds:.0f} s: the disk hangs or is slow")
                waited[me] = read, seconds, 2 * told
            if me == threading.main_thread().ident and _over is not None and seconds > _over[0]:
                _over[1](os.fsdecode(read[0]))


def _counted(
    known: tuple[tuple[PathLike], float, float] | None, read: tuple[PathLike], step: float
) -> tuple[tuple[PathLike], float, float]:
    if known is None or known[0] is not read:
        return read, 0.0, SAY_S
    return read, known[1] + step, known[2]
