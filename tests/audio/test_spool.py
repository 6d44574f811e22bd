from __future__ import annotations

import io as memory
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io, spool
from usepcli.errors import BadInput, IOFault, UsageError

RATE = 8000


def wave(frames: int = 20000) -> np.ndarray:
    return np.random.default_rng(5).uniform(-0.5, 0.5, (2, frames)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".caf", ".w64", ".rf64"])
def test_a_pipe_gives_what_the_file_gives(tmp_path: Path, suffix: str):
    path, room = tmp_path / f"a{suffix}", tmp_path / "room"
    room.mkdir()
    io.write(path, wave(), RATE)
    with open(path, "rb") as stream, spool.spooled(stream, room) as copy:
        assert copy.parent == room and copy.suffix in (suffix, ".ogg")
        assert copy.read_bytes() == path.read_bytes()
        assert np.array_equal(io.read(copy)[0], io.read(path)[0])
    assert list(room.iterdir()) == []


def test_a_real_pipe_that_comes_in_drops_and_never_says_how_long_it_is(tmp_path: Path):
    io.write(tmp_path / "a.wav", wave(), RATE)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    struct.pack_into("<I", content, 4, 0xFFFFFFFF)
    struct.pack_into("<I", content, 40, 0xFFFFFFFF)
    source, sink = os.pipe()

    def pour() -> None:
        with open(sink, "wb", buffering=0) as file:
            for at in range(0, len(content), 1111):
                file.write(content[at : at + 1111])

    thread = threading.Thread(target=pour)
    thread.start()
    with open(source, "rb", buffering=0) as stream, spool.spooled(stream) as copy:  # unbuffered: short reads
        assert io.info(copy).frames == 20000 and io.is_open_ended(copy)
        assert np.array_equal(io.read(copy)[0], io.read(tmp_path / "a.wav")[0])
    thread.join()
    assert not copy.exists()


def test_standard_input_of_a_process(tmp_path: Path):
    io.write(tmp_path / "a.flac", wave(), RATE)
    code = (
        "import sys\nfrom usepcli.audio import io, spool\n"
        "with spool.spooled(sys.stdin.buffer) as path: print(io.info(path).frames)"
    )
    with open(tmp_path / "a.flac", "rb") as stream:
        done = subprocess.run([sys.executable, "-c", code], stdin=stream, capture_output=True, check=True)
    assert done.stdout == b"20000\n" and done.stderr == b""


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"hello, world", "begins with b'hell'")])
def test_nothing_and_no_sound(tmp_path: Path, content: bytes, words: str):
    with pytest.raises(BadInput, match=f"standard input: {words}"), spool.spooled(memory.BytesIO(content), tmp_path):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_faults_are_of_standard_input_and_leave_nothing(tmp_path: Path):
    io.write(tmp_path / "a.wav", wave(), RATE)
    content = (tmp_path / "a.wav").read_bytes()[:44]
    room = tmp_path / "room"
    room.mkdir()
    with (
        pytest.raises(BadInput, match=r"^standard input: a header without samples"),
        spool.spooled(memory.BytesIO(content), room) as copy,
    ):
        io.read(copy)
    with pytest.raises(KeyboardInterrupt), spool.spooled(memory.BytesIO(content), room):
        raise KeyboardInterrupt
    assert list(room.iterdir()) == []


def test_a_terminal_is_told_what_a_pipe_is():
    class Terminal(memory.BytesIO):
        def isatty(self) -> bool:
            return True

    with pytest.raises(UsageError, match="is a terminal"), spool.spooled(Terminal()):
        raise AssertionError


def test_no_folder_and_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    content = memory.BytesIO(b"RIFF\0\0\0\0WAVE" + bytes(1 << 21))
    with pytest.raises(IOFault, match="absent"), spool.spooled(content, tmp_path / "absent"):
        raise AssertionError
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))  # the kernel refuses as a full disk does
    try:
        content.seek(0)
        with pytest.raises(IOFault, match="no room for a copy"), spool.spooled(content, tmp_path):
            raise AssertionError
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
