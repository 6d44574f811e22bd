"""A file named as the source is that file: its neighbours are not read, and no list is made of sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from usepcli import registry
from usepcli.audio import io
from usepcli.data.corpora.folder import Folder
from usepcli.errors import BadInput, InputNotFound


def tree(root: Path) -> Path:
    for name in ("one", "two", "x/mix", "x/s1", "x/s2", "x/other"):
        io.write(root / f"{name}.wav", 0.1 * np.sin(np.arange(4000)), 8000)
    (root / "broken.wav").write_bytes(b"no sound")
    return root


def test_one_recording_is_one_row_and_its_neighbours_are_not_read(tmp_path: Path) -> None:
    corpus = Folder()
    (row,) = corpus.scan(tree(tmp_path) / "one.wav")
    assert (row.mixture, row.sources, row.frames) == ("one.wav", (), 4000)
    assert corpus.bad == []  # broken.wav lies beside it


def test_a_mixture_brings_its_sources(tmp_path: Path) -> None:
    (row,) = Folder().scan(tree(tmp_path) / "x" / "mix.wav")
    assert (row.mixture, row.sources) == ("mix.wav", ("s1.wav", "s2.wav"))


def test_a_file_that_is_no_sound_says_why(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"broken\.wav: unreadable"):
        Folder().scan(tree(tmp_path) / "broken.wav")


@pytest.mark.parametrize("corpus", ["csv", "speakers", "events", "wsj-mix"])
def test_sound_is_no_list(tmp_path: Path, corpus: str) -> None:
    with pytest.raises(BadInput, match=r"one\.wav: a sound file, where a list in CSV or a folder was expected"):
        registry.load("corpus", corpus)().scan(tree(tmp_path) / "one.wav")


def test_a_file_where_a_folder_is_expected_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(InputNotFound, match="is a file, a folder was expected"):
        registry.load("corpus", "speakers")(noise=str(tree(tmp_path) / "one.wav")).scan_noise(tmp_path)
