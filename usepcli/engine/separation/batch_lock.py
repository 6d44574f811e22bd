"""One run per output folder, or one per share of a batch: file locks that vanish with their process."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from usepcli.audio import io
from usepcli.errors import OutputError


class BatchLock:
    """Held for a whole folder (`suffix` empty), or for one share of it beside other shares.

    A run of the whole folder takes `.usep.lock` alone; a share takes it together with other shares, and a lock of
    its own. OutputError where another run holds it. `works` is False on a file system without locks.
    """

    def __init__(self, folder: Path, suffix: str = "") -> None:
        self.folder, self.suffix = folder, suffix
        self.works = True
        self._held: list[tuple[Path, int]] = []

    def __enter__(self) -> BatchLock:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take(self.folder / ".usep.lock", fcntl.LOCK_SH if self.suffix else fcntl.LOCK_EX)
            if self.suffix:
                self._take(self.folder / f".usep{self.suffix}.lock", fcntl.LOCK_EX)
        except OSError as fault:
            self._release()
            raise OutputError(
                f"{io.show(self.folder)}: cannot be made or written ({fault.strerror}); choose another folder with -o"
            ) from fault
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _take(self, path: Path, how: int) -> None:
        while True:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(handle, how | fcntl.LOCK_NB)
            except OSError as fault:
                holder = os.pread(handle, 200, 0).decode("utf-8", "replace").strip() or "another run"
                os.close(handle)
                if fault.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    self.works = False
                    return
                raise OutputError(
                    f"{io.show(self.folder)}: in use by {holder}; wait for it, choose another folder with -o, "
                    "or share the work with --shard"
                ) from fault
            try:  # the former holder may have removed the file between our two calls
                fresh = os.path.samestat(os.fstat(handle), os.stat(path))
            except FileNotFoundError:
                fresh = False
            if fresh:
                break
            os.close(handle)
        self._held.append((path, handle))
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}".encode(), 0)

    def _release(self) -> None:
        while self._held:
            path, handle = self._held.pop()
            try:  # only the last one may remove the file
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
            except OSError:
                pass
            os.close(handle)
