from __future__ import annotations

import os
from pathlib import Path

import pytest

from usepcli.audio.written import MEDIA, PAGE_MARK, Written

HEAD = "file,output,source,settings,file_sha256\n"


def test_a_table_names_what_lies_beside_and_below_it(tmp_path: Path):
    (tmp_path / "out/deep").mkdir(parents=True)
    (tmp_path / "out/outputs.csv").write_text(HEAD + 'a.wav,a_1.wav,1,0,0\n"b\n.wav","deep/b\n_1.wav",1,0,0\n')
    (tmp_path / "out/outputs-2-of-3.csv").write_text(HEAD + "c.wav,./deep/../c_1.wav,1,0,0\n")
    written, table = Written(), str(tmp_path / "out/outputs.csv")
    assert written.by(tmp_path / "out/a_1.wav") == table and written.by(tmp_path / "out/deep/b\n_1.wav") == table
    assert written.by(tmp_path / "out/c_1.wav").endswith("outputs-2-of-3.csv")
    for other in ("out/a.wav", "a_1.wav", "out/deep/a_1.wav", "none/a_1.wav"):
        assert written.by(tmp_path / other) == ""
    os.symlink(tmp_path / "out", tmp_path / "seen")
    os.symlink(tmp_path / "out/a_1.wav", tmp_path / "other.wav")
    assert written.by(tmp_path / "seen/a_1.wav") and written.by(tmp_path / "other.wav") == table


def test_what_a_table_cannot_say_is_told(tmp_path: Path):
    (tmp_path / ".usep.pending").write_text("[half")
    (tmp_path / "outputs.csv").mkdir()
    written = Written()
    assert written.by(tmp_path / "a.wav") == "" and len(written.unread) == 2
    assert any("outputs.csv: cannot be read (Is a directory)" in line for line in written.unread)


def test_a_tar_file_is_no_folder_with_a_table(tmp_path: Path):
    (tmp_path / "a.tar").write_bytes(b"")
    written = Written()
    assert written.by(tmp_path / "a.tar/x.wav") == "" and not written.unread


@pytest.mark.parametrize(("head", "ours"), [(PAGE_MARK, True), (b"<html>", False)])
def test_the_sound_of_a_page_is_known_by_the_page(tmp_path: Path, head: bytes, ours: bool):
    (tmp_path / "x.html").write_bytes(b"<!DOCTYPE html>\n" + head)
    assert bool(Written().by(tmp_path / f"x{MEDIA}" / "mixture.flac")) == ours
