"""The state from which a run resumes: a torch archive behind a header with its sha256, read with weights_only=True.

At any moment of a save, and after one that failed at any point, two different states lie in the folder, each whole.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from usepcli.errors import BadInput
from usepcli.files import fault, hidden, show, sync_folder, whole, write_bytes
from usepcli.weights import archives

MAGIC = b"USEPRUN1"
# The states of a run folder, the newest first.
SAVED = ("last.ckpt", "prev.ckpt")
# What a file system without hard links answers.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)


class Last(NamedTuple):
    """The newest readable state (None for a new run), where it lies, and what was wrong with a newer one."""

    state: dict[str, Any] | None
    path: Path
    warning: str = ""


def save_state(path: Path, state: dict[str, Any], keep: bool = True) -> None:
    """Write a resume file; the file that stood there becomes `prev.ckpt` beside it, unless `keep` is false."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getvalue()
    head = MAGIC + hashlib.sha256(body).digest()
    previous = path.with_name("prev" + path.suffix)
    held = hidden(previous)
    try:
        with whole(path, len(head) + len(body)) as temporary:
            with open(temporary, "wb") as file:
                file.write(head)
                file.write(body)
            if keep and path.exists():
                _second_name(path, held)
        # Only now: before the new state has its name, this would leave one state under both names.
        if held.exists():
            os.replace(held, previous)
            sync_folder(previous.parent)
    except OSError as err:
        raise fault(previous, err) from err
    finally:
        with suppress(OSError):  # it has its place, or was never made
            held.unlink()


def _second_name(path: Path, other: Path) -> None:
    other.unlink(missing_ok=True)
    try:
        os.link(path, other)
    except OSError as err:
        if err.errno not in _NO_LINKS:
            raise
        write_bytes(other, path.read_bytes())


def load_state(path: Path) -> dict[str, Any]:
    """Read a resume file; BadInput if it is short, damaged or not ours, IOFault if the disk fails."""
    import torch

    try:
        raw = path.read_bytes()
    except OSError as err:
        raise BadInput(f"{show(path)}: cannot be read ({err.strerror})") from err
    head = len(MAGIC)
    body = raw[head + 32 :]
    if raw[: head - 1] == MAGIC[:-1] and raw[:head] != MAGIC:
        raise BadInput(f"{show(path)}: written by another version of usep, which has to go on with it")
    if raw[:head] != MAGIC or hashlib.sha256(body).digest() != raw[head : head + 32]:
        raise BadInput(f"{show(path)}: damaged or not a usep checkpoint (sha256 does not match)")
    archives.check(io.BytesIO(body), show(path))
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except Exception as err:  # torch's reader raises almost anything
        said = (str(err).strip().splitlines() or [type(err).__name__])[0]
        raise BadInput(f"{show(path)}: no archive that this torch {torch.__version__} reads ({said[:120]})") from err
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise BadInput(f"{show(path)}: holds no state of a run")
    return state


def load_last(folder: Path) -> Last:
    """Return the newest readable state of a run folder; BadInput where there are states and none is readable."""
    faults: list[str] = []
    for path in (folder / name for name in SAVED):
        if path.exists():
            try:
                return Last(_whole_state(load_state(path), path), path, "; ".join(faults))
            except BadInput as found:
                faults.append(str(found))
    if faults:
        raise BadInput("; ".join(faults) + "; no readable checkpoint is left, start in another folder with -o")
    return Last(None, folder / SAVED[0])


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) and _number(one) for key, one in value.items())


def _tensors(value: Any) -> bool:
    from torch import Tensor

    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(one, Tensor) for key, one in value.items()
    )


def _average(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and _tensors(value.get("state")) and _count(value.get("steps")))


def _scored(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and _number(value[0]) and isinstance(value[1], int)


# What each entry has to be, and whether every version of usep wrote it.
_ENTRIES: dict[str, tuple[Callable[[Any], bool], bool]] = {
    **dict.fromkeys(("step", "epoch", "in_epoch", "skipped", "in_row"), (_count, True)),
    **dict.fromkeys(("best", "seconds"), (_number, True)),
    **dict.fromkeys(("window", "schedule", "bad"), (_numbers, True)),
    **dict.fromkeys(("optimizers", "scaler"), (lambda value: isinstance(value, dict), True)),
    "objective": (_tensors, True),
    "average": (_average, True),
    "best_states": (lambda value: isinstance(value, list) and all(map(_scored, value)), True),
    "best_top": (_scored, False),
    "best_items": (lambda value: isinstance(value, dict) and all(map(_numbers, value.values())), False),
    "at_start": (_numbers, False),
    "due": (lambda value: isinstance(value, bool), False),
    "fixed": (lambda value: isinstance(value, dict) and all(isinstance(v, dict) for v in value.values()), False),
}


def _whole_state(state: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the state; BadInput names the first entry that is not there, or not what it has to be."""
    for key, (fits, always) in _ENTRIES.items():
        if key not in state and always:
            raise BadInput(f"{show(path)}: has no '{key}', as the state of a run of this version of usep has")
        if key in state and not fits(state[key]):
            raise BadInput(f"{show(path)}: its '{key}' is not what the state of a run holds there")
    return state


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """Turn what taking over a state of other settings raises into a BadInput that names the file."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as err:
        said = " ".join((str(err) or type(err).__name__).split())[:200]
        raise BadInput(
            f"{show(path)}: does not fit this run ({said}); give the settings that it was saved with, or start in "
            "another folder with -o"
        ) from err
