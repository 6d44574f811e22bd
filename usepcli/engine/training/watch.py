"""What ranks tell each other beside their exchanges: who is there, who has ended, and why.

An exchange that waits for a rank which will never come can only time out, and knows no reason. So every rank keeps a
thread at torch's rendezvous store, whatever its main thread is blocked in. A rank that ends in a fault leaves the
reason there, prints it, and all others end with the same exit code. Each rank counts a beat, which the rank before it
follows, and so misses one that was killed or stands still. A rank whose parent has gone saves and ends: nobody is
left to start it again.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from usepcli import guard, stops
from usepcli.engine.training import meeting, pidfd, status
from usepcli.engine.training.apart import Apart, Broken
from usepcli.engine.training.place import PARENT, Place
from usepcli.errors import ConfigError, Stopped, WorkerDied

TICK_S = 0.25
# Without a beat; a process that is swapped out, or one of many on a core, may take a while for one.
SILENT_S, LEAST_SILENT_S = 60.0, 15.0
KILLED = "was killed or ended without a word, most likely for lack of memory"
WORD_S = 5.0  # for a reason to reach the others


class Watch:
    """One rank's thread at the store; `silent_s`: how long a rank may give no sign."""

    def __init__(self, where: Place, environ: Mapping[str, str] = os.environ) -> None:
        self.rank, self.world, self.local = where
        self.folder: Path | None = None  # of the run, once it is this process's own
        self.asked: Path | None = None  # for the run on the command line
        self.silent_s = SILENT_S
        self.stall_s = 0.0  # how long a step may take; 0: for ever
        self.ask: Callable[[str], None] | None = None  # asks for a stop after the present step
        self._environ = environ
        self._signal: dict[str, Any] = {}  # that ends this rank, for the thread to tell of
        self._parent = int(environ.get(PARENT, os.getppid()))
        self._agent = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        self._store: Any = None
        self._met = self._leaving = self._left = self._orphan = self._lost = False
        self._ending = threading.RLock()  # taken by whichever thread ends this process, and never given back
        self._beats, self._heard, self._last = 0, time.monotonic(), b""
        self._next: int | None = None  # a pidfd of the next rank, where it is on this machine
        self._next_name = ""
        self._main = ""  # how rank 0 signs what it writes
        self._step, self._since, self._waiting = 0, 0.0, False  # since 0: not in a step
        # Whatever the library has to say of a connection that broke, the one line of its reason says better.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
        stops.last_word(self._signalled)
        self._ticked = time.monotonic()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        if self.rank and not self._agent:
            threading.Thread(target=self._keeper, daemon=True).start()

    # Coming and going

    def connect(self) -> Any:
        """Meet all ranks; return a store for their exchanges. WorkerDied where one does not come."""
        own = meeting.machine()
        self._store = self._dial(meeting.ARRIVAL_S)
        with Broken():
            self._store.set(f"here/{self.rank}", json.dumps({"pid": os.getpid(), "on": own}))
            meeting.all_here(self._store, self.world)
            following = (self.rank + 1) % self.world
            found = json.loads(self._store.get(f"here/{following}"))
            main = json.loads(self._store.get("here/0"))
        self._main = status.signature(main["pid"], main["on"].split()[0])
        self._next_name = f"rank {following} (pid {found['pid']} on {found['on'].split()[0]})"
        self._heard = time.monotonic()
        if found["on"] == own:
            with suppress(OSError, AttributeError):  # older kernels; its beat tells, too
                self._next = os.pidfd_open(found["pid"])
        self._met = True
        return self._dial(meeting.ARRIVAL_S)

    def _dial(self, patience_s: float) -> Any:
        if self._agent and not meeting.agent_there(self._environ):
            self._lost = True
            raise Stopped("torchrun has ended; run the same command again")
        keeps = self.rank == 0 and not self._agent and self._store is None
        try:
            return meeting.dial(self._environ, keeps, patience_s)
        except WorkerDied:
            self._lost = True
            raise

    def leave(self) -> None:
        """Wait until every rank has come to its end, or is gone; from here on none misses another.

        Each rank says so first, and goes on to look after the next one: rank 0 may write a model for a long time yet,
        and a machine may die meanwhile. Whoever keeps the store is the last to go.
        """
        self._leaving, self.ask = True, None
        self.rest()
        try:
            self._store.set(f"done/{self.rank}", "1")
            self._until("done")
            self._left = True
            self._store.set(f"bye/{self.rank}", "1")
            if self.rank == 0 and not self._agent:
                self._until("bye", WORD_S)
        except RuntimeError:  # nobody keeps the store any more
            if not (self._left or self._agent):
                self.found_out()
                raise Apart(f"rank {self.rank}: lost the other ranks; run the same command again") from None
        self._left = True

    def _until(self, word: str, patience_s: float = math.inf) -> None:
        """Wait until each rank has said `word`, or another has found it gone."""
        end, pause = time.monotonic() + patience_s, 0.01
        for rank in range(self.world):
            while not (self._store.check([f"{word}/{rank}"]) or self._store.check([f"gone/{rank}"])):
                if time.monotonic() > end:
                    return
                time.sleep(pause)
                pause = min(2 * pause, 0.2)

    def over(self) -> None:
        """Wait for the thread: where the interpreter ends it inside a call of the store, the process aborts."""
        self._thread.join()

    # While it goes

    def step(self, step: int) -> None:
        """Note that a step begins."""
        self._step, self._since = step, time.monotonic()

    def waiting(self, flag: bool) -> None:
        """Note that this rank waits for others, or goes on."""
        self._waiting = flag
        if self._since:
            self._since = time.monotonic()

    def rest(self) -> None:
        """Note that what comes now may take its time."""
        self._since = 0.0

    def agreed(self, name: str, facts: Mapping[str, Any], what: str) -> None:
        """Raise ConfigError where facts differ from rank 0's."""
        if self.rank == 0:
            self._store.set(name, json.dumps(dict(facts)))
            return
        theirs = json.loads(self._wait(name))
        ours = json.loads(json.dumps(dict(facts)))
        unlike = [f"{k}: {ours.get(k)!r}, there {theirs.get(k)!r}" for k in ours if ours.get(k) != theirs.get(k)]
        if unlike:
            raise ConfigError(f"{what} on {socket.gethostname()} are others than rank 0's ({'; '.join(unlike[:8])})")

    def give(self, name: str, value: str) -> None:
        """Leave a value for the other ranks."""
        with Broken():
            self._store.set(name, value)

    def take(self, name: str, stopped: Callable[[], None]) -> str:
        """Return the value that a rank leaves, however long it takes; stopped: may raise while nothing is there."""
        with Broken():
            return self._wait(name, stopped).decode()

    def _wait(self, name: str, stopped: Callable[[], None] = lambda: None) -> bytes:
        pause = 0.01
        while not self._store.check([name]):
            stopped()
            time.sleep(pause)
            pause = min(2 * pause, 0.5)
        value: bytes = self._store.get(name)
        return value

    def found_out(self) -> None:
        """Wait for the reason of a broken exchange, which ends this process; return where none is found."""
        for _ in range(round(2 * WORD_S / TICK_S)):
            if self._orphan and self._lost:
                return
            time.sleep(TICK_S)

    # The end

    def fail(self, error: BaseException) -> NoReturn:
        """End this rank and all others with an error's line and code; the first to fail is the one that is heard."""
        stops.hold()
        if self._left:  # all ranks raised it together, and rank 0 speaks
            line, code = guard.explain(error)
            if self.rank == 0:
                stops.say(line.removeprefix("usep: "))
            self._quit(code)
        if isinstance(error, Apart):
            self.found_out()
            if self._agent and self._lost:  # whose store it was
                error = Stopped("torchrun has ended; what was saved stands, run the same command to resume")
        if os.environ.get("USEP_DEBUG", "") not in ("", "0"):
            import traceback

            sys.stderr.write("".join(traceback.format_exception(error)))
        line, code = guard.explain(error)
        if self.rank:
            line = line.replace("usep: ", f"usep: rank {self.rank}: ", 1)
        self._declare({"rank": self.rank, "code": code, "line": line})

    def _declare(self, fault: dict[str, Any], dead: int = 0) -> NoReturn:
        """Publish why all end, unless another was first, and wait a little until the others have heard it."""
        self._ending.acquire()
        stops.hold()
        fault["host"] = socket.gethostname()
        mine = first = json.dumps(fault)
        try:
            if self._store is None and not self._lost:
                self._store = self._dial(4 * WORD_S)
            if not self._lost:
                first = self._store.compare_set("fault", "", mine).decode()
        except (RuntimeError, OSError, Stopped, WorkerDied):  # there is nobody to tell
            self._lost = True
        if first != mine:
            self._obey(json.loads(first))
        if not (
            "signal" in fault or (self._lost and fault["code"] == Stopped.code and self.local)
        ):  # all say so, where torchrun has ended
            stops.say(fault["line"].removeprefix("usep: "))
        self._record(fault)
        with suppress(RuntimeError):
            end = time.monotonic() + (WORD_S if self._agent or self.rank else 2 * WORD_S)
            while not self._lost and time.monotonic() < end and self._store.add("heard", 0) < self.world - 1 - dead:
                time.sleep(0.05)
        self._quit(fault["code"])

    def _obey(self, fault: Mapping[str, Any]) -> NoReturn:
        self._ending.acquire()
        stops.hold()
        if self.local == 0 and fault["host"] != socket.gethostname():
            stops.say(f"rank {self.rank}: rank {fault['rank']} on {fault['host']} ended: see its message")
        if self.rank == 0:
            self._record(fault)
        with suppress(RuntimeError):
            self._store.add("heard", 1)
        self._quit(fault["code"])

    def _record(self, fault: Mapping[str, Any]) -> None:
        # Of a run that is not this process's own, what it says may still be this start's to say anew.
        anew = self.asked and status.unsaid(self.asked, self._main, "signal" in fault)
        if (folder := self.folder or (self.asked if anew else None)) is not None:
            status.end(folder, fault["code"], fault["line"].removeprefix("usep: ").removeprefix("error: "))

    def _signalled(self, number: int, code: int) -> None:
        """A signal ends this rank where it stands: have the thread tell the others, and record it."""
        if self._leaving:  # all is told
            return
        when = "before the first step" if self.ask is None else "at once"
        again = "; run the same command again" if code == Stopped.code or self.ask else ""
        line = f"usep: stopped by {stops.name_of(number)} {when}{again}"
        fault = {"rank": self.rank, "code": code, "line": line, "signal": number}
        if self._store is not None and not self._lost:
            # The main thread may hold the store's lock just now, so it asks nothing of it itself.
            self._signal = fault
            self._thread.join(WORD_S)
        # Rank 0 tells of itself, unless it has gone without a word.
        if self.rank == 0 or (self.asked and status.read(self.asked).get("state") == status.KILLED):
            self._record(fault)

    def _quit(self, code: int) -> NoReturn:
        """End without looking back: the main thread may be blocked where no exception reaches it."""
        for child in multiprocessing.active_children():
            child.kill()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code)

    # The thread

    def _look(self) -> None:
        before = said = time.monotonic()
        while not self._left:
            time.sleep(TICK_S)
            now = time.monotonic()
            if now - before > 20 * TICK_S:  # this process stood still itself
                self._heard = now
                self._since = now if self._since else 0.0
            before = now
            if not self._orphan and os.getppid() != self._parent:
                self._orphaned()
            self._ticked = now
            try:
                if self._signal:
                    self._declare(self._signal)
                if not self._met and now - said > meeting.SAY_S:
                    said = now
                    meeting.say_awaited(self._store, self.rank, self.world)
                self._stalled(now)
                if self._store is not None and not self._lost:
                    self._tick(now)
            except RuntimeError:
                self._cut_off()

    def _keeper(self) -> None:
        """Look that rank 0, which keeps the store, answers: where it stands still, whoever asks it does so for ever."""
        before = time.monotonic()
        while self._thread.is_alive() and not self._lost:
            time.sleep(4 * TICK_S)
            now = time.monotonic()
            if now - before > 20 * TICK_S or self._store is None:
                self._ticked = now
            before = now
            if now - self._ticked > self.silent_s:
                if self._next is not None and self.rank == self.world - 1:
                    pidfd.kill(self._next)
                self._keeper_gone(f"gave no sign for {self.silent_s:.0f} s: it hangs, or its machine does")

    def _stalled(self, now: float) -> None:
        if self._since and not self._waiting and self.stall_s and now - self._since > self.stall_s:
            line = f"no progress in step {self._step} for {self.stall_s:.0f} s (twice train.worker_timeout_s)"
            self._declare(
                {"rank": self.rank, "code": WorkerDied.code, "line": f"usep: error: rank {self.rank}: {line}"}
            )

    def _tick(self, now: float) -> None:
        if self._store.check(["fault"]):
            with self._ending:  # not this rank's own, of which the main thread tells just now
                self._obey(json.loads(self._store.get("fault")))
        self._beats += 1
        self._store.set(f"beat/{self.rank}", str(self._beats))
        if self._next_name:
            self._follow(now)

    def _follow(self, now: float) -> None:
        """Look after the next rank."""
        following = (self.rank + 1) % self.world
        gone = self._next is not None and pidfd.has_ended(self._next)
        if self._store.check([f"beat/{following}"]):
            beat = self._store.get(f"beat/{following}")
            if beat != self._last:
                self._last, self._heard = beat, now
        if not gone and now - self._heard < self.silent_s:
            return
        if self._store.check([f"done/{following}"]):
            self._next_name = ""
            return
        if self._store.check(["fault"]):
            return
        how = KILLED
        if not gone:
            how = f"gave no sign for {self.silent_s:.0f} s: it hangs, or its machine does"
            if self._next is not None:  # what stands still cannot end itself
                pidfd.kill(self._next)
        if self._leaving and following:  # rank 0 alone has anything to do yet
            stops.say(f"warning: {self._next_name} {how}; all its steps were taken before")
            self._next_name = ""
            self._store.set(f"gone/{following}", "1")
            return
        line = f"usep: error: {self._next_name} {how}; run the same command again"
        self._declare({"rank": following, "code": WorkerDied.code, "line": line}, dead=1)

    def _orphaned(self) -> None:
        """The process that started this rank is gone: save and end, at once where nothing waits to be saved."""
        self._orphan = True
        self._stop("the process that started the ranks has ended")

    def _stop(self, why: str) -> None:
        if self._left or self._leaving:
            return
        if self.ask is not None and self._since:
            self.ask(why)
            return
        self._ending.acquire()
        if self.rank == 0:
            line = f"{why}; what was saved stands, run the same command to resume"
            stops.say(f"error: {line}")
            self._record({"code": Stopped.code, "line": line})
        self._quit(Stopped.code)

    def _cut_off(self) -> None:
        """The store is gone, and with it whoever kept it: torchrun, or rank 0."""
        if self._left:
            return
        self._lost, self._next_name = True, ""
        if self._agent or self._orphan:
            self._stop("torchrun has ended")
            return
        self._keeper_gone(KILLED)

    def _keeper_gone(self, how: str) -> NoReturn:
        """End because of rank 0, of which every other rank learns by itself."""
        self._ending.acquire(timeout=WORD_S)  # whoever has it may wait for rank 0
        line = f"rank 0 {how}; run the same command again"
        if self.rank == 1 or self.local == 0:
            stops.say(f"error: {line}")
            self._record({"code": WorkerDied.code, "line": line})
        self._quit(WorkerDied.code)
