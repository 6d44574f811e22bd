"""An output folder that one run at a time fills: locked, bound to settings, resumed, emptied and finished.

NAME.json stands in a finished folder and NAME.partial.json in one that is being filled. Both hold the settings and
`key`, a hash of all that decides about the files. The same key goes on, another is refused with what differs, or
empties the folder where the caller may overwrite.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from usepcli.engine import shards
from usepcli.engine.shards import Shard
from usepcli.errors import BadInput, IOFault, OutputError
from usepcli.files import folder_for, read_json, refused, show, write_text

# How long a killed run's data workers may take to notice that their parent is gone: until then they hold its lock.
ORPHANS_S = 10.0
SHARES_S = 2.0
_HIDDEN = re.compile(r"\..*\.\d+\.tmp")  # as files.whole names what it writes
_HIDDEN_ONCE = re.compile(r".\.tmp\.\d+$")  # as earlier versions did


class Lock:
    """Held for a whole folder, or for one `share` of it beside other shares; it vanishes with its process.

    A run of the whole folder takes NAME.lock alone; a share takes it together with other shares, and NAME-share.lock
    of its own. OutputError where another run holds it or nothing may be written there; a file system without locks is
    said on stderr.
    """

    def __init__(self, folder: Path, name: str = "", share: str = "", advice: str = "") -> None:
        self.folder, self.advice = folder, advice
        whole = folder / f"{name}.lock"
        self._wanted = [(whole, fcntl.LOCK_EX)]
        if share:
            self._wanted = [(whole, fcntl.LOCK_SH), (folder / f"{name or '.usep'}{share}.lock", fcntl.LOCK_EX)]
        self._held: list[tuple[Path, int]] = []

    def take(self) -> None:
        """Make the folder and lock it; a folder that was made for nothing goes again. Errors as for `files.refused`."""
        try:
            with folder_for(self.folder):
                try:
                    for path, how in self._wanted:
                        self._take(path, how)
                except BaseException:
                    self.release()
                    raise
        except OSError as fault:
            raise refused(self.folder, fault) from fault

    def _take(self, path: Path, how: int) -> None:
        # A share that ends has the whole lock for an instant, to see whether it is the last one.
        patience = time.monotonic() + (SHARES_S if how == fcntl.LOCK_SH else ORPHANS_S)
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, how | fcntl.LOCK_NB)
            except OSError as fault:
                holder = os.pread(handle, 200, 0).decode("utf-8", "replace").strip() or "another run"
                os.close(handle)
                if fault.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    sys.stderr.write(f"{show(self.folder)}: no file locks here; do not start a second run in it now\n")
                    return
                if (alive(holder) and how != fcntl.LOCK_SH) or time.monotonic() > patience:
                    raise OutputError(
                        f"{show(self.folder)}: in use by {holder}; wait for it, or choose another folder with -o"
                        f"{self.advice}"
                    ) from fault
                time.sleep(0.1)
                continue
            if _stands(handle, path):
                break
            os.close(handle)  # the former holder removed the file between our two calls
        self._held.append((path, handle))
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}".encode(), 0)

    def release(self) -> None:
        """Give back what is held."""
        while self._held:
            path, handle = self._held.pop()
            with suppress(OSError):  # only the last one may remove the file
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            os.close(handle)

    def __enter__(self) -> Lock:
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _stands(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def alive(holder: str) -> bool:
    """Return whether the process that a lock names may still run; one on another host counts as running."""
    words = holder.split()
    if len(words) < 4 or not words[1].isdecimal() or words[3] != socket.gethostname():
        return True
    return Path(f"/proc/{words[1]}").exists() if Path("/proc").is_dir() else True


class Folder:
    """`claim` before writing into it, `finish` when all is there, `release` at the end whatever happens.

    Subclasses state their `name`, the `command` that makes such folders, and what a run makes in them (`made`), the
    facts that the record shall hold, and their key.  A `share` works beside other shares of the same settings: it
    clears nothing away and writes no finished record, which are for a run that has the folder to itself.
    """

    name: str
    command: str
    made: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()  # further names that a folder of another command holds
    over_others = False  # whether to overwrite means what other programs made, too
    afresh = False  # whether to overwrite means a folder of the same settings, too
    part: tuple[str, str] = ("", "")  # how the names of what shares leave begin and end

    def __init__(
        self, path: Path, key: str = "", facts: dict[str, Any] | None = None, share: Shard | None = None
    ) -> None:
        self.path, self.key, self.facts, self.share = path, key, facts or {}, share
        self.done, self.partial = path / f"{self.name}.json", path / f"{self.name}.partial.json"
        self.lock = Lock(path, share=share.suffix if share else "")

    def parts(self) -> dict[Path, Shard]:
        """Return what shares left in the folder to be taken together."""
        return shards.parts(self.path, *self.part) if self.part[0] else {}

    def shared_out(self) -> frozenset[int]:
        """Return into how many shares the work was shared out, by what lies here and by this run."""
        return frozenset(share.count for share in [*self.parts().values(), *([self.share] if self.share else [])])

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return self.done.exists()

    def check(self, overwrite: bool) -> None:
        """Raise OutputError where the folder is a file, another program's, or made with other settings."""
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{show(self.path)}: is a file where a folder is to be made; choose another -o")
        earlier = self.earlier()
        if earlier is None:
            taken = [name for name in (*self.made, *self.foreign) if (self.path / name).exists()]
            taken += [path.name for path in self.parts()]
            if taken and not (overwrite and self.over_others):
                raise OutputError(
                    f"{show(self.path)}: holds '{taken[0]}', which `{self.command}` did not make; choose another -o"
                    f"{' or pass --overwrite' if self.over_others else ''}"
                )
        elif earlier.get("key") != self.key and not overwrite:
            raise OutputError(
                f"{show(self.path)}: was made with other settings ({self.differences(earlier)}); choose another -o "
                "or pass --overwrite"
            )

    def claim(self, overwrite: bool, merge: bool = False) -> None:
        """Lock the folder and make it ours: go on if it has these settings, empty it if told to, else OutputError.

        merge: BadInput where nothing was begun.
        """
        if merge and self.earlier() is None:
            raise BadInput(f"{show(self.path)}: no shard was run here; run them with --shard I/N, or leave --merge out")
        self.lock.take()
        try:
            self.check(overwrite)
            earlier = self.earlier()
            if self.share:
                if earlier is None:
                    write_text(self.partial, self.text({}))
                return
            if earlier is not None and (earlier.get("key") != self.key or (overwrite and self.afresh)):
                self._empty()
            if self.partial.exists():  # a run that was killed may have left files half-written
                self.clean()
            if not self.complete:
                write_text(self.partial, self.text({}))
        except BaseException:
            self.release()
            raise

    def clean(self) -> None:
        """Remove what killed writers left in the folder itself, and below it in what a run makes."""
        for place in (self.path.iterdir(), *((self.path / name).rglob("*") for name in self.made)):
            for path in [path for path in place if _is_debris(path.name) and path.is_file()]:
                path.unlink(missing_ok=True)

    def finish(self, results: dict[str, Any]) -> None:
        """Write the record of a finished folder, in which shares have no parts of their own any more."""
        write_text(self.done, self.text(results))
        for path in self.parts():
            path.unlink(missing_ok=True)
        self.partial.unlink(missing_ok=True)

    def release(self) -> None:
        """Give the folder's lock back."""
        self.lock.release()

    def text(self, results: dict[str, Any]) -> str:
        """Return the record with what has come of it."""
        return json.dumps({**self.facts, **results}, indent=2) + "\n"

    def earlier(self) -> dict[str, Any] | None:
        """Return the record of an earlier run, {} for one that cannot be read, None without one."""
        for path in (self.done, self.partial):
            try:
                found = read_json(path)
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                return {}
            return found if isinstance(found, dict) else {}
        return None

    def differences(self, earlier: dict[str, Any]) -> str:
        """Return in words what differs from an earlier record; subclasses know of more than settings."""
        before, now = earlier.get("settings"), self.facts["settings"]
        if not isinstance(before, dict):
            return f"its {self.name}.json cannot be read"
        changed = [name for name in now if before.get(name, now[name]) != now[name]]
        told = [f"{name} was {json.dumps(before[name])}, now {json.dumps(now[name])}" for name in changed[:3]]
        return ", ".join(told) or "the recordings have changed"

    def _empty(self) -> None:
        # First a record that fits no settings: a kill from here on leaves a folder that has to be overwritten again.
        write_text(self.partial, "{}\n")
        try:
            for path in (self.done, *self.parts(), *(self.path / name for name in self.made)):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        except OSError as fault:
            raise IOFault(f"{show(self.path)}: cannot be emptied: {fault.strerror}") from fault


def _is_debris(name: str) -> bool:
    return bool(_HIDDEN.fullmatch(name) or _HIDDEN_ONCE.search(name))
