from __future__ import annotations

import errno

import pytest

from usepcli import guard
from usepcli.errors import BadInput, ConfigError, IOFault, Stopped, Unforeseen, WorkerDied


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (BadInput("a.wav: cut short"), BadInput, "a.wav: cut short"),
        (ValueError("two\n lines"), Unforeseen, "a.wav: ValueError: two lines (unforeseen; USEP_DEBUG=1 shows where)"),
        (FileNotFoundError(errno.ENOENT, "gone"), BadInput, "a.wav: gone; check the file"),
        (MemoryError("8 EiB"), BadInput, "a.wav: takes more memory than there is (8 EiB)"),
    ],
)
def test_whatever_an_item_raises_becomes_its_reason(error: Exception, kind: type[Exception], text: str):
    found = guard.fault(error, "a.wav")
    assert type(found) is kind and str(found).startswith(text)
    assert guard.reason(error, "a.wav") == str(found).removeprefix("a.wav: ")


@pytest.mark.parametrize(
    "error",
    [IOFault("full"), WorkerDied("gone"), Stopped("stop"), OSError(errno.ENOSPC, "No space left"), ConfigError("x")],
)
def test_what_is_no_matter_of_one_item_ends_the_run(error: Exception):
    with pytest.raises(type(error)) as caught:
        guard.fault(error, "a.wav", (ConfigError,))
    assert caught.value is error


class OutOfMemoryError(RuntimeError):
    """Named as torch's own, which a device raises."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_memory_that_ran_out_is_told_with_what_takes_less(error: Exception):
    line, code = guard.explain(error)
    assert code == 70 and "train.batch_size or data.segment_s" in line and "train.accumulate" in line
    assert "\n" not in line and isinstance(guard.fault(error, "a.wav"), BadInput)
    assert guard.explain(RuntimeError("shape '[2]' is invalid"))[1] == 1


def test_the_traceback_is_there_for_who_asks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise ValueError("odd")

    for wanted in ("0", "1"):
        monkeypatch.setenv("USEP_DEBUG", wanted)
        try:
            fail()
        except ValueError as error:
            guard.fault(error, "a.wav")
        said = capsys.readouterr().err
        assert ("in fail" in said and "ValueError: odd" in said) == (wanted == "1")
