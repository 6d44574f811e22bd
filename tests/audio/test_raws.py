"""What has no end is never waited for: pipes and devices are refused where sound is opened."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from usepcli.audio import io, raws, tars
from usepcli.errors import BadInput

READERS: dict[str, Callable[[Path], Any]] = {
    "open_raw": raws.open_raw, "sha256": raws.sha256, "read_mono": io.read_mono, "read": io.read, "info": io.info,
    "wav_layout": io.wav_layout, "index": lambda path: tars.index(str(path)),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_or_device_is_refused_at_once_by_every_reader(reader: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hang.wav")
    os.symlink("hang.wav", tmp_path / "link.wav")
    for path in (tmp_path / "hang.wav", tmp_path / "link.wav", Path("/dev/zero")):
        with pytest.raises(BadInput, match=rf"{path.name}: is no regular file; pipe it in with -"):
            READERS[reader](path)


def test_folders_and_sockets_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        raws.open_raw(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "s.wav"))  # a name of a hundred bytes at most
        with pytest.raises(BadInput, match=r"cannot be opened|no regular file"):
            io.read_mono(tmp_path / "s.wav")
