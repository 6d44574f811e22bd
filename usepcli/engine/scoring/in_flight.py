"""Scores of many items, in this process or in several, each noted as soon as it is there."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from usepcli.engine import parallel

if TYPE_CHECKING:
    from usepcli.engine.journal import Part
    from usepcli.engine.scoring.scoring import Signals

Rows = list[dict[str, Any]]
Scored = tuple[int, Rows]  # an item's number and its rows
_EACH = 4  # items in flight per worker


def score(
    items: Iterable[tuple[int, Any]],
    of: Callable[[Any], Rows],
    workers: int,
    part: Part,
    track: Callable[[Iterable[Scored]], Iterable[Scored]],
) -> None:
    """Put of(item) of numbered items into `part` as they come; workers 0: in this process."""
    with contextlib.closing(_scored(items, of, workers)) as scored:
        for number, rows in track(scored):
            part.add(number, rows)


def workers(metrics: Sequence[str], items: int) -> int:
    """Return how many processes are worth their start for so many items (0: all there are): 0 for this one."""
    # A worker takes seconds to start; only BSS-eval and PESQ (0.1 s and more per item) on many items pay that back.
    heavy = {"sdr", "sdri", "sir", "sar", "pesq", "pesqi", "stoi", "stoii"} & set(metrics)
    cores = parallel.cores()
    return min(cores, 16) if heavy and cores > 1 and (items == 0 or items >= 50) else 0


def numbered(signals: Iterable[Signals], left: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Signals]]:
    """Yield signals with the numbers that `left` gives their ids, whatever order batches bring them in."""
    waiting: dict[str, deque[int]] = {}
    for number, name in left:
        waiting.setdefault(name, deque()).append(number)
    for one in signals:
        yield waiting[one.id].popleft(), one


def _scored(items: Iterable[tuple[int, Any]], of: Callable[[Any], Rows], workers: int) -> Generator[Scored]:
    if workers <= 0:
        yield from ((number, of(item)) for number, item in items)
        return
    with parallel.pool(workers) as pool:
        waiting: dict[int, Future[Rows]] = {}
        for number, item in items:
            waiting[number] = pool.submit(of, item)
            if len(waiting) >= _EACH * workers:
                next(iter(waiting.values())).result()
            for done in [n for n, future in waiting.items() if future.done()]:
                yield done, waiting.pop(done).result()
        for number, future in waiting.items():
            yield number, future.result()
