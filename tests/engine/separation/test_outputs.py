from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.engine.separation.outputs import Peak, default_subtype, write_all
from usepcli.errors import BadInput, OutputError


@pytest.mark.parametrize(
    ("form", "subtype", "suffix", "expected"),
    [
        ("WAV", "PCM_16", ".wav", "PCM_16"),
        ("WAV", "PCM_24", ".wav", "PCM_24"),
        ("WAV", "PCM_32", ".flac", "PCM_24"),
        ("WAV", "PCM_U8", ".wav", "PCM_U8"),
        ("WAV", "PCM_U8", ".flac", "PCM_S8"),
        ("FLAC", "PCM_24", ".wav", "PCM_24"),
        ("FLAC", "PCM_S8", ".wav", "PCM_U8"),
        ("WAV", "FLOAT", ".wav", "FLOAT"),
        ("WAV", "DOUBLE", ".wav", "FLOAT"),
        ("WAV", "FLOAT", ".flac", "PCM_24"),
        ("MP3", "MPEG_LAYER_III", ".wav", "PCM_16"),
        ("OGG", "VORBIS", ".flac", "PCM_16"),
        ("WAV", "ULAW", ".wav", "PCM_16"),
    ],
)
def test_default_subtype(form: str, subtype: str, suffix: str, expected: str, tmp_path: Path):
    assert default_subtype(io.Info(8000, 1, 1, subtype, form), suffix) == expected
    io.Writer(tmp_path / f"x{suffix}", 8000, 1, expected)  # the format can hold it


def pieces(*peaks: float) -> Iterator[np.ndarray]:
    for peak in peaks:
        yield np.array([[[0.0, peak, 0.1]], [[0.2, 0.0, -0.1]]], np.float32)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
@pytest.mark.parametrize("peak", [2.5, -1.7, 1.0])
def test_one_gain_for_all_sources_and_no_clipped_sample(tmp_path: Path, subtype: str, peak: float):
    paths, runs = [tmp_path / "a.wav", tmp_path / "b.wav"], []

    def produce() -> Iterator[np.ndarray]:
        runs.append(1)
        return pieces(0.5, peak, 0.3)

    done = write_all(paths, 8000, 1, subtype, produce)
    first, second = (io.read(path)[0][0] for path in paths)
    step = {"PCM_U8": 2.0**-7, "PCM_16": 2.0**-15}.get(subtype, 2.0**-23)
    expected = (1 - step) / peak if peak > 0 else 1 / -peak
    assert done.gain == pytest.approx(expected, rel=1e-5) and done.frames == 9 and len(runs) == 2
    np.testing.assert_allclose(first, done.gain * np.concatenate(list(pieces(0.5, peak, 0.3)), 2)[0, 0], atol=step)
    np.testing.assert_allclose(second[[0, 3, 6]], 0.2 * done.gain, atol=step)


@pytest.mark.parametrize(("subtype", "peak"), [("FLOAT", 3.0), ("PCM_16", 32767 / 32768), ("PCM_16", -1.0)])
def test_what_fits_is_written_as_it_is_in_one_pass(tmp_path: Path, subtype: str, peak: float):
    done = write_all([tmp_path / "a.wav", tmp_path / "b.wav"], 8000, 1, subtype, lambda: pieces(peak))
    assert done.gain == 1 and done.gain_db == 0
    assert io.read(tmp_path / "a.wav")[0][0, 1] == np.float32(peak)


def test_a_fault_in_the_middle_leaves_no_file_behind(tmp_path: Path):
    def produce() -> Iterator[np.ndarray]:
        yield from pieces(0.5)
        raise BadInput("broken")

    with pytest.raises(BadInput):
        write_all([tmp_path / "a.wav", tmp_path / "b.wav"], 8000, 1, "PCM_16", produce)
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_never_replaced_unasked(tmp_path: Path):
    (tmp_path / "b.wav").write_bytes(b"mine")
    with pytest.raises(OutputError):
        write_all([tmp_path / "a.wav", tmp_path / "b.wav"], 8000, 1, "PCM_16", lambda: pieces(0.5))
    assert [p.name for p in tmp_path.iterdir()] == ["b.wav"] and (tmp_path / "b.wav").read_bytes() == b"mine"


def test_peak_of_nothing_allows_everything():
    assert Peak().fits(1e6, 0.0)


def test_clipping_by_wish(tmp_path: Path):
    with pytest.raises(BadInput, match="--clip gain"):
        write_all([tmp_path / "a.wav", tmp_path / "b.wav"], 8000, 1, "PCM_16", lambda: pieces(1.5), clip="error")
    assert not list(tmp_path.iterdir())
    done = write_all([tmp_path / "a.wav", tmp_path / "b.wav"], 8000, 1, "PCM_16", lambda: pieces(1.5), clip="allow")
    assert done.gain == 1 and io.read(tmp_path / "a.wav")[0][0, 1] == np.float32(32767 / 32768)
    assert write_all([tmp_path / "c.wav"], 8000, 1, "PCM_16", lambda: iter([next(pieces(0.5))[:1]]), clip="error")


def test_files_that_are_not_wanted_at_the_end_never_appear(tmp_path: Path):
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    write_all(paths, 8000, 1, "PCM_16", lambda: pieces(0.5), wanted=lambda: [False, True])
    assert [path.name for path in tmp_path.iterdir()] == ["b.wav"]


def test_all_outputs_of_a_file_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = io.Writer.__exit__

    def fails_on_a(self: io.Writer, kind: object, value: object, trace: object) -> None:
        if self.path.name == "a.wav" and kind is None:
            first(self, BadInput, None, None)
            raise BadInput("the disk is full")
        first(self, kind, value, trace)  # type: ignore[arg-type]

    monkeypatch.setattr(io.Writer, "__exit__", fails_on_a)
    with pytest.raises(BadInput):
        write_all([tmp_path / "a.wav", tmp_path / "b.wav"], 8000, 1, "PCM_16", lambda: pieces(0.5))
    assert not list(tmp_path.iterdir())  # b was in place already


def test_a_signal_between_a_file_and_the_record_of_it_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = io.Writer.__enter__

    def enter(self: io.Writer) -> io.Writer:
        real(self)  # the file is there, and nobody knows yet that it must be closed
        raise KeyboardInterrupt

    monkeypatch.setattr(io.Writer, "__enter__", enter)
    with pytest.raises(KeyboardInterrupt):
        write_all([tmp_path / "a.wav", tmp_path / "b.wav"], 8000, 1, "PCM_16", lambda: pieces(0.5))
    assert not list(tmp_path.iterdir())
