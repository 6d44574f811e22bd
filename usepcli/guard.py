"""A bad one never stops the others: whatever working on one item raises becomes a fault with a reason.

    for item in items:
        try:
            work(item)
        except Exception as error:
            failed(item, guard.fault(error, item))

What is no matter of one item ends the run all the same: a full disk, a process that died, a request to stop.
"""

from __future__ import annotations

import errno
import os
import sys

from usepcli.errors import BadInput, InputNotFound, IOFault, Stopped, Unforeseen, UsepError, WorkerDied
from usepcli.files import show
from usepcli.stops import Ended, name_of

_ENDS = (IOFault, WorkerDied, Stopped, BrokenPipeError)
# What the system says of a name under which nothing can be; outputs are told apart before (`files.fault`).
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
# The last is how oneDNN says it; it says so, too, of what it cannot do at all, which no released model asks for.
_NO_MEMORY = ("allocate memory", "not enough memory", "out of memory", "bad_alloc", "could not create a primitive")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)


def stops(error: Exception) -> bool:
    """Whether an error is no matter of one item, but of the disk, of a process or of somebody's wish."""
    return isinstance(error, _ENDS) or (isinstance(error, OSError) and error.errno in _DISK)


def fault(error: Exception, item: str | os.PathLike[str], ends: tuple[type[Exception], ...] = ()) -> UsepError:
    """Return why `item` failed, or raise the error again where it ends the run, as do the caller's own `ends`.

    With USEP_DEBUG set, the traceback goes to stderr.
    """
    if stops(error) or isinstance(error, ends):
        raise error
    if os.environ.get("USEP_DEBUG", "") not in ("", "0"):
        import traceback

        sys.stderr.write("".join(traceback.format_exception(error)))
    if isinstance(error, UsepError):
        return error
    if short_of_memory(error):
        return BadInput(f"{show(item)}: takes more memory than there is ({str(error) or 'no details'}); leave it out")
    if isinstance(error, OSError) and error.strerror:
        return BadInput(f"{show(item)}: {error.strerror}; check the file and run again")
    said = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
    return Unforeseen(f"{show(item)}: {said} (unforeseen; USEP_DEBUG=1 shows where)")


def reason(error: Exception, item: str | os.PathLike[str], ends: tuple[type[Exception], ...] = ()) -> str:
    """Return the text of `fault` without the item's name, for tables that name it in another column."""
    return str(fault(error, item, ends)).removeprefix(f"{show(item)}: ")


def explain(error: BaseException) -> tuple[str, int]:
    """Return the line to print for what ended a command, and the exit code."""
    if isinstance(error, UsepError):
        return f"usep: error: {error}", error.code
    if short_of_memory(error):
        advice = (
            "in a training lower train.batch_size or data.segment_s, or raise train.accumulate, and run it again: it "
            "goes on from its last checkpoint; elsewhere take fewer --workers, or smaller files"
        )
        return f"usep: error: out of memory ({_named(error)}); {advice}", WorkerDied.code
    if isinstance(error, OSError) and error.strerror:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        return f"usep: error: {place}{error.strerror}", (InputNotFound if error.errno in _NOWHERE else IOFault).code
    if isinstance(error, KeyboardInterrupt):
        return "usep: stopped by Ctrl-C", 130
    if isinstance(error, Ended):
        return f"usep: stopped by {name_of(error.number)}", int(str(error.code))
    if isinstance(error, SystemExit):
        return "usep: ended", error.code if isinstance(error.code, int) else int(error.code is not None)
    return f"usep: unexpected error {_named(error)} (a bug; run with USEP_DEBUG=1 to see where)", 1


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def short_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, as Python, numpy, torch or what lies below them say it."""
    # Torch has a class of its own for a device, and a plain RuntimeError for the processor.
    if any(kind.__name__ in ("MemoryError", "OutOfMemoryError") for kind in type(error).__mro__):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
