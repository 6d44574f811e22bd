"""Processes that work on tasks, of which any may die, crash or stop at any moment without holding up the rest.

Each worker has a line of its own to the parent, a pair of sockets that nobody else shares, and a thread of the parent
that listens to it. No lock and no queue is common to two workers, so one that ends in the middle of a word, or stops
there, is seen as what it is: the line breaks, or nothing comes. The first such fault is the crew's; every task not yet
done gets it, and the rest of the crew is killed when the crew is closed. Nothing is raised between two lines of the
parent: who waits for a result, or asks `check`, is told.

Signals are the parent's affair: Ctrl-C, SIGTERM and a scheduler's signals reach a whole group of processes, and a
worker that answered them too would die in the middle of a file, and look like a fault. Workers ignore them, so that
they are ended by SIGKILL alone, and die with their parent, whatever they are doing: the kernel kills them (Linux), or
they see within a second that they have another parent.

A time limit is for tasks that cannot take long, such as reading a batch. Seconds in which the parent itself stood
still, as under Ctrl-Z or a suspended job, do not count.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent import futures
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing import resource_tracker, util
from typing import Any, Protocol

from usepcli.audio import reading
from usepcli.engine import lines, working
from usepcli.errors import WorkerDied
from usepcli.files import show

AGAIN = "run the same command again"
_CRASHES = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
TICK_S = 0.5  # between two looks at the clock
GONE_S = 5.0  # until a killed process is no more


class Hands(Protocol):
    """What takes tasks and gives their results later."""

    def submit(self, task: Any, /) -> Future[Any]:
        """Take a task; the fault of these hands if they can no more."""

    def check(self) -> None:
        """Raise the fault of these hands, if any."""

    def close(self) -> None:
        """End."""


def in_order(hands: Hands, tasks: Iterable[Any], ahead: int) -> Generator[Any]:
    """Yield the results of tasks in their order, with at most `ahead` of them under way or waiting to be taken.

    What a task raised is raised in its place; WorkerDied as soon as a worker is lost.
    """
    waiting: deque[Future[Any]] = deque()
    try:
        for task in tasks:
            waiting.append(hands.submit(task))
            if len(waiting) >= ahead:
                yield _result(hands, waiting.popleft())
        while waiting:
            yield _result(hands, waiting.popleft())
    finally:
        for future in waiting:
            future.cancel()


def _result(hands: Hands, future: Future[Any]) -> Any:
    hands.check()
    while not futures.wait((future,), TICK_S).done:
        hands.check()
    return future.result()


class Waited:
    """Seconds since the last `again`, without those in which this process stood still; `over` a limit or not."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.again()

    def again(self) -> None:
        """Begin to count anew."""
        self.seconds, self._seen = 0.0, time.monotonic()

    def over(self) -> bool:
        """Count up to now; True when a limit other than 0 is passed. To be asked every TICK_S."""
        now = time.monotonic()
        self.seconds, self._seen = self.seconds + min(now - self._seen, 2 * TICK_S), now
        return 0 < self.limit_s < self.seconds


class _Hung(Exception):
    pass


class _Worker:
    """The parent's end of one process."""

    def __init__(self, limit_s: float) -> None:
        self.line, self.theirs = socket.socketpair()
        self.line.settimeout(TICK_S)
        self.process: Any = None
        self.under_way: deque[Future[Any]] = deque()
        self.unsaid: deque[list[memoryview]] = deque()  # tasks on their way to it
        self.speaking, self.burying = threading.Lock(), threading.Lock()
        self.waited = Waited(limit_s)
        self.note: Any = None  # the name of the file that it reads

    @property
    def at(self) -> str:
        """In words what it reads or read when it ended, '' for nothing."""
        name = self.note.value if self.note is not None else b""
        return f" while it read {show(os.fsdecode(name))}" if name else ""

    def gone(self, wait_s: float) -> bool:
        """Wait for its end; two threads that did so at once would rob each other of the exit code."""
        with self.burying:
            self.process.join(wait_s)
            return self.process.exitcode is not None

    def end(self) -> str:
        """Return in words how it ended."""
        self.gone(GONE_S)
        code = self.process.exitcode
        if code is None:
            return "closed its line"
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
        why = {signal.SIGKILL: ", most likely for lack of memory", signal.SIGSEGV: ", a crash"}.get(-code, "")
        return f"was killed by {name}{why}{self.at}"

    def advice(self, usual: str) -> str:
        """Return what to do about its end: where a decoder crashed, the usual would do so again."""
        if self.at and -(self.process.exitcode or 0) in _CRASHES:
            return f"the file makes its decoder crash; replace it or leave it out, and {AGAIN}"
        return usual


class Crew:
    """Some processes that compute function(task); to be closed.

    start: "fork", which gives them all that this process has, or "spawn".  named, if_dead, if_hung: of an error's line,
    who is lost and what to do about it.  limit_s: how long a task may take (0: for ever).  ahead: tasks that a worker
    may have at once.  room: gives the memory for an array of so many bytes.  grace_s: for the tasks under way when the
    crew is closed, as far as they hold `working.at_work`.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        size: int,
        start: str = "spawn",
        *,
        named: str = "a worker process",
        if_dead: str = "run again",
        if_hung: str = "run again",
        limit_s: float = 0.0,
        ahead: int = 1,
        room: Callable[[int], Any] = bytearray,
        grace_s: float = 0.0,
    ) -> None:
        self.named, self.if_dead, self.if_hung = named, if_dead, if_hung
        self.limit_s, self.ahead, self.room, self.grace_s = limit_s, ahead, room, grace_s
        self.fault: Exception | None = None
        self.closed = False
        self._lock, self._queue = threading.Lock(), deque[tuple[list[memoryview], Future[Any]]]()
        self._workers: list[_Worker] = []
        self._ears: list[threading.Thread] = []
        # At the latest before multiprocessing waits for its processes, which would never end of themselves.
        self._kill = util.Finalize(self, _kill, [self._workers], exitpriority=10)
        context: Any = multiprocessing.get_context(start)
        if start == "spawn":
            # Begun beside the first worker, it would have the signals that are blocked for a worker unblocked.
            resource_tracker.ensure_running()
        # Nothing is ever sent: the pipe becomes ready when the parent closes it.
        asked, self._end = context.Pipe(duplex=False)
        try:
            for number in range(size):
                self._hire(context, (function, asked if grace_s else None), number)
        except OSError as err:
            self.close()
            raise WorkerDied(f"{named} could not be started ({err.strerror or err}): {if_dead}") from err
        except BaseException:
            self.close()
            raise
        finally:
            asked.close()
        self._ears = [threading.Thread(target=self._attend, args=(one,), daemon=True) for one in self._workers]
        for ear in self._ears:
            ear.start()

    def _hire(self, context: Any, what: tuple[Any, ...], number: int) -> None:
        one = _Worker(self.limit_s)
        # A fork has the parent's ends of the others, which must close when the parent is no more.
        others = [other.line for other in self._workers] + [one.line]
        handed = others if context.get_start_method() == "fork" else []
        one.note = context.RawArray("c", reading.NOTED)
        args = (*what, one.theirs, os.getpid(), handed, one.note)
        one.process = context.Process(target=working.work, args=args, daemon=True)
        one.process.name = f"{self.named} {number + 1}"
        # They begin with signals blocked, until they know to ignore them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, working.IGNORED)
        try:
            one.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            one.theirs.close()
        self._workers.append(one)

    def submit(self, task: Any, /) -> Future[Any]:
        """Give a task to whoever has least to do, or keep it until somebody is free."""
        future: Future[Any] = Future()
        job = lines.pack(task), future
        with self._lock:
            self._check()
            one = min(self._workers, key=lambda worker: len(worker.under_way))
            if len(one.under_way) >= self.ahead:
                self._queue.append(job)
                return future
            self._assign(one, job)
        self._speak(one)
        self.check()  # a fault from now on finds the future where it is
        return future

    def check(self) -> None:
        """Raise WorkerDied if a worker was lost."""
        with self._lock:
            self._check()

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault
        if self.closed:
            raise RuntimeError("this crew is closed")

    def _assign(self, one: _Worker, job: tuple[list[memoryview], Future[Any]]) -> None:
        parts, future = job
        if future.set_running_or_notify_cancel():
            if not one.under_way:
                one.waited.again()
            one.under_way.append(future)
            one.unsaid.append(parts)

    def _speak(self, one: _Worker) -> None:
        with one.speaking, suppress(OSError):  # whoever listens to it meets the same
            while one.unsaid:
                try:
                    lines.send(one.line, one.unsaid.popleft(), lambda: self._idle(one))
                except _Hung as hung:
                    self._fail(WorkerDied(str(hung)))
                    return

    def _idle(self, one: _Worker) -> None:
        """Nothing came from a worker, or went to it, for a while: is it too long?"""
        if self.fault is not None or self.closed:
            raise BrokenPipeError
        if not one.under_way:
            one.waited.again()
        elif one.waited.over():
            raise _Hung(f"{self.named} ({one.process.pid}) gave nothing for {self.limit_s:g} s{one.at}: {self.if_hung}")

    def _attend(self, one: _Worker) -> None:
        try:
            while True:
                good, value = lines.receive(one.line, lambda: self._idle(one), self.room)
                with self._lock:
                    one.waited.again()
                    future = one.under_way.popleft()
                    while self._queue and len(one.under_way) < self.ahead:
                        self._assign(one, self._queue.popleft())
                future.set_result(value) if good else future.set_exception(value)
                self._speak(one)
                del future, value
        except _Hung as hung:
            self._fail(WorkerDied(str(hung)))
        except (EOFError, OSError):
            if not self.closed and self.fault is None:
                self._fail(WorkerDied(f"{self.named} ({one.process.pid}) {one.end()}: {one.advice(self.if_dead)}"))
        except Exception as error:  # whatever it is, nobody must wait for this thread
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        with self._lock:
            if self.closed or self.fault is not None:
                return
            self.fault = error
            lost = [future for one in self._workers for future in one.under_way]
            lost += [future for _, future in self._queue if future.set_running_or_notify_cancel()]
            self._queue.clear()
        for future in lost:
            with suppress(futures.InvalidStateError):  # its result came just now
                future.set_exception(error)

    def close(self) -> None:
        """Let the tasks under way end within grace_s, drop the others, and kill whoever is left."""
        with self._lock:
            self.closed = True
            for _, future in self._queue:
                future.cancel()
            self._queue.clear()
        self._end.close()
        until = time.monotonic() + self.grace_s
        for one in self._workers:
            one.gone(max(0.0, until - time.monotonic()))
        self._kill()
        for ear in self._ears:
            ear.join(GONE_S)
        for one in self._workers:
            one.line.close()


def _kill(workers: Sequence[_Worker]) -> None:
    for one in workers:
        one.process.kill()
    for one in workers:
        if not one.gone(GONE_S):
            # Inside the kernel, waiting for a disk. It ends when it comes out; this process must not wait for it.
            multiprocessing.process._children.discard(one.process)  # type: ignore[attr-defined]
        with suppress(OSError):
            one.line.shutdown(socket.SHUT_RDWR)


class Alone:
    """function(task) in one thread of this process, so that a task that takes longer than limit_s can be told.

    hung: what is said then.
    """

    def __init__(self, function: Callable[[Any], Any], limit_s: float, hung: str) -> None:
        self.function, self.hung, self._waited = function, hung, Waited(limit_s)
        self._tasks: queue.SimpleQueue[tuple[Any, Future[Any]] | None] = queue.SimpleQueue()
        self._last: Future[Any] = Future()
        self._last.set_result(None)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, task: Any, /) -> Future[Any]:
        """Take a task."""
        self._last = Future()
        self._waited.again()
        self._tasks.put((task, self._last))
        return self._last

    def check(self) -> None:
        """Raise WorkerDied where the last task takes too long."""
        if not self._last.done() and self._waited.over():
            raise WorkerDied(self.hung)

    def close(self) -> None:
        """Let the thread end after the task under way, and wait for that up to the limit.

        An interpreter that ends makes a thread end where it asks for the lock again. In the midst of torch's C++ that
        is std::terminate: the process would be aborted (SIGABRT) after all its work is done.
        """
        with suppress(queue.Empty):
            while True:
                self._tasks.get_nowait()
        self._tasks.put(None)
        while self._thread.is_alive() and not self._waited.over():
            self._thread.join(TICK_S)

    def _work(self) -> None:
        while (job := self._tasks.get()) is not None:
            task, future = job
            if future.set_running_or_notify_cancel():
                try:
                    result = self.function(task)
                except Exception as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del job, task, future
