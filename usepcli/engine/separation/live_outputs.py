"""Where the sources of a stream go while it runs: files that are whole at every moment, and pipes to other programs."""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from usepcli.audio import pcm
from usepcli.audio.growing import GrowingWav
from usepcli.errors import BadInput, IOFault, OutputError, UsageError
from usepcli.files import show

STDOUT = "standard output"
_LOOK_S = 0.1
_PATIENCE_S = 1.0  # with a reader that does not read, once a stop is asked for
_ATOMIC = 4096  # bytes that a pipe takes at once where it takes any

Stop = Callable[[], bool]


class Wanted(NamedTuple):
    """A pipe that is asked for: where it is, and which sources it gets as channels, by their places."""

    where: str
    places: tuple[int, ...]

    @property
    def name(self) -> str:
        """What messages call it."""
        return STDOUT if self.where == "-" else show(self.where)


def is_pipe(where: str) -> bool:
    """Whether a name is standard output, or something that exists and is neither file nor folder."""
    try:
        mode = 0 if where == "-" else os.stat(where).st_mode
    except OSError:
        return False
    return not mode or stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def wanted(texts: Sequence[str], names: Sequence[str]) -> list[Wanted]:
    """Read SOURCE=PIPE, SOURCE being a number, `residual` or `all`; UsageError for anything else."""
    found = []
    for text in texts:
        source, is_, where = text.partition("=")
        if not is_ or source not in (*names, "all"):
            known = ", ".join((*names, "all"))
            raise UsageError(f"--pipe: found '{text}'; expected SOURCE=PIPE with a source of {known}, and - for stdout")
        if not is_pipe(where):
            raise UsageError(f"--pipe {text}: '{where}' is no pipe that is there; make it with mkfifo, or name -")
        places = range(len(names)) if source == "all" else [names.index(source)]
        found.append(Wanted(where, tuple(places)))
    return found


def refuse_twice(pipes: Sequence[Wanted]) -> None:
    """Raise UsageError for one pipe that is asked for twice, and for a terminal that would get samples."""
    places = [pipe.where for pipe in pipes]
    if twice := [where for where in places if places.count(where) > 1]:
        raise UsageError(f"{Wanted(twice[0], ()).name}: is named twice; one pipe takes one stream of samples")
    if "-" in places and sys.stdout.isatty():
        raise UsageError(f"{STDOUT}: is a terminal, and samples are no text; pipe it into a program")


class _Pipe:
    """A pipe that is being written; `gone` once its reader has left."""

    def __init__(self, wish: Wanted, stop: Stop) -> None:
        self.wish, self.stop, self.gone = wish, stop, False
        self._late = 0.0
        self._handle = sys.stdout.fileno() if wish.where == "-" else self._opened()

    def _opened(self) -> int:
        """Wait for a reader; -1 where a stop is asked for before one comes."""
        while not self.stop():
            try:
                return os.open(self.wish.where, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as err:
                if err.errno != errno.ENXIO:
                    raise OutputError(f"{self.wish.name}: cannot be written to: {err.strerror}") from err
            time.sleep(_LOOK_S)
        self.gone = True
        return -1

    def write(self, data: bytes) -> None:
        """Write all, as fast as the reader reads; IOFault where the system refuses."""
        view = memoryview(data)
        while view and not self.gone:
            try:
                if select.select([], [self._handle], [], _LOOK_S)[1]:
                    view = view[os.write(self._handle, view[:_ATOMIC]) :]
                elif self.stop():
                    self._late += _LOOK_S
                    self.gone = self._late > _PATIENCE_S
            except BlockingIOError:
                continue
            except BrokenPipeError:
                self.gone = True
            except OSError as err:
                raise IOFault(f"{self.wish.name}: writing failed: {err.strerror}") from err

    def close(self) -> None:
        """Close it, if it was opened here."""
        if self.wish.where != "-" and self._handle >= 0:
            os.close(self._handle)


class Outputs:
    """Takes the sources (N, C, t) of a stream and gives each to its file and to the pipes that asked for it.

    `kept` are files by the places of their sources. They appear with the first samples. A pipe whose reader leaves gets
    nothing more, and `left` names it; the others go on.
    """

    def __init__(
        self, kept: Sequence[tuple[int, Path]], pipes: Sequence[Wanted], subtype: str, code: str, clip: str,
        overwrite: bool, stop: Stop,
    ) -> None:  # fmt: skip
        """Open the pipes; `subtype` is that of the files, `code` that of the samples in pipes, one of pcm.CODES."""
        self._kept, self._clip, self._overwrite = list(kept), clip, overwrite
        self._subtype, self._code = subtype, code
        self.files: list[GrowingWav] = []
        self.left: list[str] = []
        self.limited = 0
        self._pipes: list[_Pipe] = []
        try:
            for wish in pipes:
                self._pipes.append(_Pipe(wish, stop))
        except BaseException:
            self.close()
            raise

    @property
    def alone(self) -> bool:
        """Whether there is nothing any more that anybody could read."""
        return not self._kept and all(pipe.gone for pipe in self._pipes)

    def keep(self, sources: np.ndarray, rate: int) -> None:
        """Write the next sources into their files; all of them hold as much, also where the disk is full."""
        if not sources.shape[2] or not self._kept:
            return
        if not self.files:
            self._open(rate, sources.shape[1])
        parts = [
            self._bytes(sources[place], file.code) for (place, _), file in zip(self._kept, self.files, strict=True)
        ]
        try:
            for file, part in zip(self.files, parts, strict=True):
                file.write(part)
        except IOFault:
            least = min(file.frames for file in self.files)
            for file in self.files:
                file.cut(least)
            if not least:
                self._take_back()
            raise

    def send(self, sources: np.ndarray) -> None:
        """Write the next sources into the pipes, as fast as these are read."""
        for pipe in self._pipes:
            if sources.shape[2] and not pipe.gone:
                chosen = sources[list(pipe.wish.places)]
                pipe.write(self._bytes(chosen.reshape(-1, sources.shape[2]), self._code))
                if pipe.gone:
                    self.left.append(pipe.wish.name)

    def _open(self, rate: int, channels: int) -> None:
        try:
            for _, path in self._kept:
                self.files.append(GrowingWav(path, rate, channels, self._subtype, self._overwrite))
        except BaseException:
            self._take_back()
            raise

    def _take_back(self) -> None:
        for file in self.files:
            file.close()
            file.path.unlink(missing_ok=True)
        self.files = []

    def _bytes(self, wave: np.ndarray, code: str) -> bytes:
        data, limited = pcm.encode(wave, code)
        if limited and self._clip == "error":
            raise BadInput(
                f"a sample would leave the range of {code}; expected none with --clip error; take --subtype FLOAT"
            )
        self.limited += limited
        return data

    def close(self) -> None:
        """Complete the files and let go of the pipes; IOFault where the disk fails, after all have been tried."""
        for pipe in self._pipes:
            pipe.close()
        faults = []
        for file in self.files:
            try:
                file.close()
            except IOFault as fault:
                faults.append(fault)
        if faults:
            raise faults[0]
