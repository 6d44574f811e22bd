"""Pages from written files: what goes inside, what is linked, what is measured, and what may be replaced."""

import base64
import json
import math
import re
import threading
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import io
from usepcli.engine.separation import report_files, report_sound
from usepcli.engine.separation.record import Identity, Record, Track
from usepcli.errors import OutputError
from usepcli.separator.how import How
from usepcli.separator.stitch import Seam
from usepcli.weights.store import Card

RATE, FRAMES = 8000, 20_000


def _record(folder: Path, suffix: str = ".wav", channels: int = 1, scale: float = 1.0, **more: Any) -> Record:
    """Write two sources and their sum, and return what a separation would say of them."""
    random = np.random.default_rng(0)
    parts = random.integers(-3000, 3000, (2, channels, FRAMES)).astype(np.float32) / 32768 * np.float32(scale)
    subtype = "FLOAT" if scale != 1 else "PCM_16"
    source = folder / f"in{suffix}"
    io.write(source, parts.sum(0), RATE, subtype, overwrite=True)
    tracks = []
    for k, part in enumerate(parts):
        path = folder / "out" / "sub" / f"in_{k + 1}{suffix}"
        io.write(path, part, RATE, subtype, overwrite=True)
        peak = float(np.abs(part).max())
        tracks.append(Track(str(k + 1), path, True, "", 0, peak, -20.0, -20.0, 0.5, True))
    facts = {
        "file": str(source), "source": source, "relative": Path("sub/in"), "tracks": tuple(tracks), "frames": FRAMES,
        "rate": RATE, "channels": channels, "subtype": subtype, "gain_db": 0.0, "missing_s": 0.0, "null_db": -150.0,
        "null_peak_db": -160.0, "rtf": 0.1, "seams": (Seam(8000, (1, 0), 0.1, 0.3, False, 8000),), "step_s": 0.1,
        "identity": Identity(0, 0, ""), "settings": "abc",
    }  # fmt: skip
    return Record(**{**facts, **more})


def _spec(page: Path) -> dict[str, Any]:
    found = re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert found
    return json.loads(found.group(1))["players"]["main"]


def _link(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make even these short files too long to be inside a page."""
    monkeypatch.setattr(report_sound, "MOST_SAMPLES", 1000)
    monkeypatch.setattr(report_sound, "MOST_TEXT", 1000)


def test_a_short_file_is_inside_its_page(tmp_path: Path):
    card = Card(name="some", about="two <talkers>", licence="CC0", credits="by X & Y")
    page = report_files.write_report(_record(tmp_path), {"chunk_s": 10}, tmp_path / "out", card=card)
    assert page == tmp_path / "out" / "report.html"
    spec, text = _spec(page), page.read_text("utf-8")
    assert [track["name"] for track in spec["tracks"]] == ["Mixture", "Source 1", "Source 2"]
    assert all(track["src"].startswith("data:audio/flac") for track in spec["tracks"]) and spec["sound"] == "inside"
    assert spec["rate"] == RATE and spec["duration"] == FRAMES / RATE
    assert spec["seams"] == [{"time": 1.0, "order": [2, 1], "confidence": 0.3, "quiet": False}]
    assert "some (CC0)" in text and "by X &amp; Y" in text and "−150.0\xa0dB" in text
    assert "<p class='trained'>This model was trained for: two &lt;talkers&gt;. What it did not learn" in text
    assert "It is no measure of how well they are separated" in text
    # The files are sums of whole codes: nothing is lost between them and the input.
    assert "…of the PCM_16 files</dt><dd>exact" in text


def test_one_of_many_goes_beside_its_outputs_and_the_table_links_it(tmp_path: Path):
    record, out = _record(tmp_path), tmp_path / "out"
    page = report_files.write_report(record, {}, out, alone=False)
    assert page == out / "sub" / "in_report.html"
    other = _record(tmp_path, relative=Path("no/page"), file="other.wav")
    text = report_files.write_index([record, other], out, {}, failures=[("x", "y")]).read_text("utf-8")
    assert "href='./sub/in_report.html'" in text and text.count("<a href") == 1 and "1 recording failed" in text


def test_a_very_long_file_is_linked_and_what_no_browser_plays_is_written_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _link(monkeypatch)
    page = report_files.write_report(_record(tmp_path), {}, tmp_path / "out")
    assert [track["src"] for track in _spec(page)["tracks"]] == ["./../in.wav", "./sub/in_1.wav", "./sub/in_2.wav"]
    assert _spec(page)["sound"] == "linked" and not (tmp_path / "out" / "report_media").exists()
    page = report_files.write_report(_record(tmp_path, ".aiff"), {}, tmp_path / "out")
    names = ["mixture", "source_1", "source_2"]
    assert [track["src"] for track in _spec(page)["tracks"]] == [f"./report_media/{name}.flac" for name in names]
    for name, source in zip(names, ("in.aiff", "out/sub/in_1.aiff", "out/sub/in_2.aiff"), strict=True):
        copied, original = (io.read(tmp_path / p)[0] for p in (f"out/report_media/{name}.flac", source))
        assert np.array_equal(copied, original)


def test_a_middle_length_becomes_mp3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(report_sound, "MOST_FLAC_SAMPLES", 1000)
    page = report_files.write_report(_record(tmp_path), {}, tmp_path / "out")
    assert all(track["src"].startswith("data:audio/mpeg") for track in _spec(page)["tracks"])
    assert "inside this page is MP3" in page.read_text("utf-8")


@pytest.mark.parametrize("channels", [1, 2])
def test_a_long_file_is_inside_as_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int):
    monkeypatch.setattr(report_sound, "MOST_SAMPLES", 1000)
    record = _record(tmp_path, ".aiff", channels, gain_db=-6.0)
    page = report_files.write_report(record, {}, tmp_path / "out")
    spec, text = _spec(page), page.read_text("utf-8")
    assert spec["sound"] == "streamed" and spec["rate"] == RATE
    assert [(track["src"], track["gain"]) for track in spec["tracks"]] == [(f"#sound-{k}", 1.0) for k in range(3)]
    held = re.findall(r'<script type="text/plain" id="sound-\d">(.*?)</script>', text)
    waves = [sf.read(BytesIO(base64.b64decode(part)), dtype="float32", always_2d=True)[0].T for part in held]
    assert [wave.shape for wave in waves] == 3 * [(channels, FRAMES)]
    assert not (tmp_path / "out" / "report_media").exists() and "holds all that it shows" in text
    kind = {1: "one channel, 32 kbit/s", 2: "two channels, 64 kbit/s"}[channels]
    assert f"MP3 at 8 kHz, {kind}, to keep the page small" in text and "not to the sample" in text
    # What is heard is what was read, the mixture turned down as the outputs were: alike to 20 dB at least.
    paths = (record.source, *(track.path for track in record.tracks))
    for wave, path, gain in zip(waves, paths, (10 ** (-6 / 20), 1.0, 1.0), strict=True):
        meant = gain * io.read(path)[0]
        assert np.square(wave - meant)[:, 2000:-2000].mean() < 0.1 * np.square(meant).mean()


def test_places_by_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    record = _record(tmp_path)
    tracks = report_sound.heard(record, How())

    def where(samples: int) -> tuple[str, str]:
        monkeypatch.setattr(report_sound, "_samples", lambda track: samples / len(tracks))
        found = report_sound.place(tracks, replace(record, frames=samples // len(tracks)))
        return found.sound, found.codec or str(found.coding)

    lengths = [
        1,
        report_sound.MOST_FLAC_SAMPLES,
        report_sound.MOST_SAMPLES,
        report_sound.MOST_SAMPLES + 3,
        10**8,
        10**9,
    ]
    assert [where(length) for length in lengths] == [
        ("inside", "flac"), ("inside", "flac"), ("inside", "mp3"), ("streamed", "MP3 at 8 kHz, one channel, 32 kbit/s"),
        ("streamed", "MP3 at 8 kHz, one channel, 24 kbit/s"), ("linked", "None"),
    ]  # fmt: skip


def test_what_passes_full_scale_is_played_softer_by_one_gain(tmp_path: Path):
    page = report_files.write_report(_record(tmp_path, scale=20.0), {}, tmp_path / "out")
    assert "softer here, so that no peak clips" in page.read_text("utf-8")


def test_a_common_gain_goes_to_the_mixture_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _link(monkeypatch)
    page = report_files.write_report(_record(tmp_path, gain_db=-6.0), {}, tmp_path / "out")
    assert [track["gain"] for track in _spec(page)["tracks"]] == [pytest.approx(10 ** (-6 / 20)), 1.0, 1.0]
    assert "turned down by 6.00\xa0dB" in page.read_text("utf-8")


def test_a_page_says_that_it_plays_the_mean_of_many_channels(tmp_path: Path):
    for channels in (2, 3):
        record = _record(tmp_path / str(channels), channels=channels)
        page = report_files.write_report(record, {}, tmp_path / str(channels) / "out")
        assert ("of 3 channels is their mean" in page.read_text("utf-8")) == (channels == 3)


def test_channels_are_heard_as_they_were_separated(tmp_path: Path):
    record, how = _record(tmp_path, channels=3), How(channels="first")
    heard = report_sound.heard(record, how)
    assert [track.channels for track in heard] == [1, 1, 1]
    first = np.concatenate(list(heard[0].blocks()), 1)
    assert np.array_equal(first, io.read(record.source)[0][:1])


def test_near_silent_sources_are_named_but_not_played(tmp_path: Path):
    record = _record(tmp_path)
    one, two = record.tracks
    silent = Track("2", two.path, False, "", 0, 0.0, -math.inf, -math.inf, 0.0, False)
    page = report_files.write_report(_record(tmp_path, tracks=(one, silent)), {}, tmp_path / "out")
    assert len(_spec(page)["tracks"]) == 2 and "not written: 2" in page.read_text("utf-8")


def test_only_pages_of_ours_are_replaced(tmp_path: Path):
    out = tmp_path / "out"
    record = _record(tmp_path)
    report_files.write_report(record, {}, out)
    report_files.write_report(record, {}, out)
    (out / "report.html").write_text("<h1>mine</h1>")
    with pytest.raises(OutputError, match="no report of usep"):
        report_files.write_report(record, {}, out)
    with pytest.raises(OutputError, match="no report of usep"):
        report_files.write_index([record], out, {})
    report_files.write_report(record, {}, out, overwrite=True)


def test_a_page_whose_name_is_too_long_is_refused_beforehand(tmp_path: Path):
    record = _record(tmp_path, relative=Path("x" * 244))
    with pytest.raises(OutputError, match="more than 255 bytes"):
        report_files.check_replaceable(report_files.report_path(record, tmp_path, alone=False), True)


def test_a_figure_shows_input_and_sources(tmp_path: Path):
    pytest.importorskip("matplotlib")
    text = report_files.write_figure(_record(tmp_path), tmp_path / "x.svg").read_text("utf-8")
    assert all(name in text for name in ("Mixture", "Source 1", "Source 2"))
    report_files.write_figure(_record(tmp_path), tmp_path / "x.svg")  # its own
    (tmp_path / "x.svg").write_text("<svg>mine</svg>")
    with pytest.raises(OutputError, match="exists already and is no picture of usep"):
        report_files.write_figure(_record(tmp_path), tmp_path / "x.svg")


@pytest.mark.parametrize("late", [False, True])
def test_what_fails_in_the_thread_of_a_track_leaves_no_page_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: bool
):
    _link(monkeypatch)
    monkeypatch.setattr(report_sound, "_BLOCK_S", 0.1)  # 25 blocks
    record, write, seen = _record(tmp_path, ".aiff"), io.Writer.write, dict[Path, int]()

    def full(writer: io.Writer, block: np.ndarray) -> None:
        seen[writer.path] = seen.get(writer.path, 0) + 1
        if writer.path.name == "source_2.flac" and seen[writer.path] == (26 if late else 3):  # 26: in finish
            raise OutputError("no room")
        write(writer, block)

    monkeypatch.setattr(io.Writer, "write", full)
    with pytest.raises(OutputError, match="no room"):
        report_files.write_report(record, {}, tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()
    assert not [path for path in tmp_path.rglob("*") if "report_media" in path.parts and path.is_file()]


def test_a_stop_between_blocks_ends_all_tracks(tmp_path: Path):
    def stop(blocks: Any, total: int, name: str) -> Any:
        passes.append(name)
        for k, block in enumerate(blocks):
            if k == total - 1 and len(passes) == 2:  # while the sound is made
                raise KeyboardInterrupt
            yield block

    passes: list[str] = []
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        report_files.write_report(_record(tmp_path), {}, tmp_path / "out", watch=stop)
    assert threading.active_count() == before and not (tmp_path / "out" / "report.html").exists()


def test_what_lies_beside_a_page_and_is_not_ours_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _link(monkeypatch)
    page = report_files.write_report(_record(tmp_path, ".aiff"), {}, tmp_path / "out")
    beside = tmp_path / "out" / "report_media"
    assert (beside / "source_2.flac").exists()
    (beside / "notes.txt").write_text("mine")
    report_files.write_report(_record(tmp_path, ".wav"), {}, tmp_path / "out")
    assert page.exists() and [path.name for path in beside.iterdir()] == ["notes.txt"]
