"""Members of tars are read as the files that they were, wherever the tar lies; what is hostile stays a name."""

from __future__ import annotations

import io
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import io as audio
from usepcli.audio import metadata, raws, remote, tars
from usepcli.errors import BadInput, InputNotFound, IOFault

FORMS = {"wav": "PCM_16", "flac": "PCM_24", "ogg": "VORBIS", "mp3": "MPEG_LAYER_III", "aiff": "PCM_16", "caf": "FLOAT"}


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    wave = 0.3 * np.sin(np.arange(8000)[:, None] * np.array([0.05, 0.11]))
    for form, subtype in FORMS.items():
        sf.write(tmp_path / f"tone.{form}", wave if form != "wav" else wave[:, 0], 8000, subtype)
    return tmp_path


def _tar(path: Path, members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def test_a_member_is_read_as_the_file_that_it_was(tones: Path) -> None:
    files = {f"a/tone.{form}": (tones / f"tone.{form}").read_bytes() for form in FORMS}
    tar = _tar(tones / "x.tar", {"odd": b"x" * 700, **files})
    for form in FORMS:
        member, file = tar / f"a/tone.{form}", tones / f"tone.{form}"
        assert audio.info(member) == audio.info(file)
        assert audio.missing_s(member) == audio.missing_s(file) and metadata.read(member) == metadata.read(file)
        for start, count in ((0, -1), (777, 555)):
            (got, rate), (wanted, own) = audio.read_mono(member, start, count), audio.read_mono(file, start, count)
            assert rate == own and got.tobytes() == wanted.tobytes()
        for got, wanted in zip(audio.blocks(member, 3000), audio.blocks(file, 3000), strict=True):
            assert got.tobytes() == wanted.tobytes()


def test_names_are_only_names(tones: Path) -> None:
    wave, long = (tones / "tone.wav").read_bytes(), "n" * 180
    names = {"./here.wav": "here.wav", "/etc/passwd.wav": "etc/passwd.wav", "../../up.wav": "../../up.wav",
             f"{long}/{long}.wav": f"{long}/{long}.wav", "größe.wav": "größe.wav"}  # fmt: skip
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        tar = _tar(tones / f"{form}.tar", dict.fromkeys(names, wave), form)
        assert list(tars.index(str(tar)).places) == list(names.values())
        for name in names.values():
            assert audio.info(f"{tar}/{name}").frames == 8000


def test_what_is_no_plain_file_is_passed_over_and_said(tones: Path) -> None:
    path = tones / "odd.tar"
    with tarfile.open(path, "w") as tar:
        for name, kind in {
            "l": tarfile.SYMTYPE,
            "h": tarfile.LNKTYPE,
            "d": tarfile.CHRTYPE,
            "f": tarfile.FIFOTYPE,
        }.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
        tar.add(tones / "tone.wav", "a.wav")
        tar.add(tones / "tone.flac", "a.wav")
    found = tars.index(str(path))
    assert list(found.places) == ["a.wav"]
    assert [why for _, why in found.passed] == [
        "a link",
        "a link",
        "a device",
        "a pipe",
        "a second member of this name",
    ]


def test_a_cut_tar_gives_what_is_whole(tones: Path) -> None:
    wave = (tones / "tone.wav").read_bytes()
    tar = _tar(tones / "x.tar", {"a.wav": wave, "b.wav": wave})
    tar.write_bytes(tar.read_bytes()[: 512 + 16384 + 512 + 9000])
    assert audio.info(tar / "a.wav").frames == 8000 and tars.index(str(tar)).fault
    with pytest.raises(BadInput, match=r"x\.tar/b\.wav: the tar is cut short, 7044 bytes"):
        audio.info(tar / "b.wav")


@pytest.mark.parametrize("size", [-512, 1 << 60])
def test_lengths_that_no_member_has_end_the_look(tones: Path, size: int) -> None:
    """Sizes in base 256: one leads back to its own header, one is a long name as large as no memory."""
    tar = _tar(tones / "x.tar", {"a.wav": (tones / "tone.wav").read_bytes(), "b": b""})
    data = bytearray(tar.read_bytes())
    at = 512 + 16384
    data[at + 124 : at + 136] = bytes([0xFF if size < 0 else 0x80]) * (12 - 8) + struct.pack(">q", size)
    if size > 0:
        data[at + 124 : at + 136] = b"\x80\0\0\0" + struct.pack(">q", size)
        data[at + 156 : at + 157] = tarfile.GNUTYPE_LONGNAME
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    tar.write_bytes(data)
    found = tars.index(str(tar))
    assert list(found.places) == ["a.wav"] and found.fault


def test_what_is_no_tar_is_refused_by_name(tones: Path) -> None:
    import gzip

    bomb = tones / "bomb.tar"
    bomb.write_bytes(gzip.compress(bytes(1 << 20)))
    with pytest.raises(BadInput, match="packed by gzip"):
        audio.info(bomb / "a.wav")
    (tones / "text.tar").write_text("no tar at all\n" * 100)
    with pytest.raises(BadInput, match="no tar file"):
        audio.info(tones / "text.tar" / "a.wav")
    with pytest.raises(InputNotFound):
        audio.info(tones / "none.tar" / "a.wav")
    with pytest.raises(InputNotFound, match="holds no such member"):
        audio.info(_tar(tones / "x.tar", {"a": b"b"}) / "b")
    with pytest.raises(BadInput, match="shell command"):
        remote.address("pipe:cat x.tar")
    (tones / "folder.tar").mkdir()
    (tones / "folder.tar" / "a.wav").write_bytes((tones / "tone.wav").read_bytes())
    assert audio.info(tones / "folder.tar" / "a.wav").frames == 8000


def test_kept_places_are_trusted_no_further_than_the_headers(tones: Path) -> None:
    wave, flac = (tones / "tone.wav").read_bytes(), (tones / "tone.flac").read_bytes()
    tar, kept = _tar(tones / "x.tar", {"a.wav": wave, "b.flac": flac}), tones / "x.idx"
    tars.save(tars.index(str(tar)), kept)
    tars.note(str(tar), kept)
    _tar(tar, {"b.flac": flac, "a.wav": wave})  # as long as before
    os.utime(tar, ns=(1, 1))
    assert tars.index(str(tar)).places["a.wav"].offset == 512  # as kept
    assert audio.info(tar / "a.wav").frames == 8000
    assert tars.index(str(tar)).places["a.wav"].offset > 512


def test_a_tar_at_an_address(tones: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setattr(remote, "WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(remote, "PIECE", 5000)  # a member comes in several
    names = {f"tone.{form}": (tones / f"tone.{form}").read_bytes() for form in FORMS}
    there = fsspec.filesystem("memory")
    there.pipe("/set/y.tar", _tar(tones / "y.tar", names).read_bytes())
    try:
        for form in FORMS:
            far = Path("memory://set/y.tar") / f"tone.{form}"
            assert audio.info(far) == audio.info(tones / f"tone.{form}")
            assert np.array_equal(audio.read(far, 100, 300)[0], audio.read(tones / f"tone.{form}", 100, 300)[0])
            assert raws.facts(far).size == len(names[f"tone.{form}"])
        with pytest.raises(InputNotFound, match="memory://set/z"):
            audio.info("memory://set/z.tar/a.wav")
        drops: list[int] = []

        def dropped(path: str, start: int, end: int) -> bytes:
            drops.append(1)
            if len(drops) % 3:
                raise ConnectionResetError("dropped")
            return there.cat_file(path, start=start, end=end)

        monkeypatch.setattr(remote, "_held", type(remote._held)())
        monkeypatch.setattr(
            remote, "_system", lambda where: (type("Fs", (), {"cat_file": staticmethod(dropped)}), "/set/y.tar")
        )
        assert audio.read("memory://set/y.tar/tone.wav")[0].shape == (1, 8000)
        assert len(drops) % 3 == 0
        monkeypatch.setattr(remote, "WAITS_S", ())
        monkeypatch.setattr(remote, "_held", type(remote._held)())
        with pytest.raises(IOFault, match=r"dropped.*run the same command again"):
            audio.read("memory://set/y.tar/tone.wav")
    finally:
        there.rm("/set", recursive=True)
