"""Tars as WebDataset writes them become rows; what is bad in one is named as TAR/MEMBER and leaves the others."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import tars
from usepcli.data.corpora.tar import Tar, listed
from usepcli.data.items import Reader, trimmed_item
from usepcli.data.manifest import Manifest, Phrase
from usepcli.data.sampling import rng
from usepcli.engine.preparing.prepare import prepare
from usepcli.errors import BadInput, InputNotFound, MissingDependency


def _flac(wave: np.ndarray) -> bytes:
    data = io.BytesIO()
    sf.write(data, wave, 8000, format="FLAC", subtype="PCM_16")
    return data.getvalue()


def _write(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def _sample(key: str, seed: int, **more: bytes) -> dict[str, bytes]:
    s1, s2 = np.round(rng(seed).uniform(-8000, 8000, (2, 4000 + 100 * seed))) / 32768
    parts = {"mix.flac": _flac(s1 + s2), "s1.flac": _flac(s1), "s2.flac": _flac(s2)}
    return {f"{key}.{name}": data for name, data in (*parts.items(), *more.items())}


def test_samples_and_layouts(tmp_path: Path) -> None:
    said = {"split": "dev", "text": "good day", "speakers": ["a", "b"], "phrases": [["dog", 2]], "licence": "CC0"}
    whole = _flac(np.ones(4000) / 4)
    _write(tmp_path / "train-0.tar", _sample("a/000001", 1, json=json.dumps(said).encode(), npy=b"x"))
    _write(tmp_path / "train-1.tar", {"b.flac": whole, "b.txt": b"yes\n", "b.cls": b"3"})
    _write(tmp_path / "test-0.tar", {"c/mix.wav": whole, "c/s1.wav": whole, "mix/d.wav": whole, "s1/d.wav": whole})
    rows = {row.id: row for row in Tar().scan(tmp_path)}
    one = rows["a/000001"]
    assert (one.split, one.text, one.speakers, one.phrases) == ("valid", "good day", ("a", "b"), (Phrase("dog", 2.0),))
    assert one.mixture == "train-0.tar/a/000001.mix.flac" and one.frames == 4100 and one.licence == "CC0"
    assert one.sources == ("train-0.tar/a/000001.s1.flac", "train-0.tar/a/000001.s2.flac") and one.n_src == 2
    assert (rows["b"].split, rows["b"].text, rows["b"].label) == ("train", "yes", "3")
    assert rows["c"].sources == ("test-0.tar/c/s1.wav",) and rows["d"].sources == ("test-0.tar/s1/d.wav",)
    assert rows["c"].split == rows["d"].split == "test"


def test_a_prepared_list_reads_as_files_do_and_keeps_places(tmp_path: Path) -> None:
    for n in range(3):
        members = _sample("000000", 2 * n) | _sample("000001", 2 * n + 1)
        _write(tmp_path / f"set/{n}.tar", members)
        for name, data in members.items():
            (tmp_path / f"files/{n}").mkdir(parents=True, exist_ok=True)
            (tmp_path / f"files/{n}/{name}").write_bytes(data)
    done = prepare(tmp_path / "set/{0..2}.tar", tmp_path / "list", "tar", {"split_ratios": (1.0, 0.0, 0.0)})
    assert done.mixtures == {"train": 6} and not done.bad
    tars._known.clear()
    listed = Manifest.read(tmp_path / "list")
    reader = Reader(listed, 8000, 0.1)
    for row in listed.rows:
        n, key = row.id.split("/")
        for path, part in zip((row.mixture, *row.sources), ("mix", "s1", "s2"), strict=True):
            member, file = sf.read(tmp_path / f"files/{n}/{key}.{part}.flac", dtype="float32")[0], listed.resolve(path)
            assert str(file).endswith(f"{n}.tar/{key}.{part}.flac")
            assert np.array_equal(trimmed_item(listed, row).mix, member) or part != "mix"
        assert reader.segment(row, rng(1), True).sources.shape == (2, 800)
    assert len(list((tmp_path / "list/index").iterdir())) == 3
    assert tars._noted[str(tmp_path / "set/0.tar")].is_file()


def test_bad_samples_are_named_and_leave_the_others(tmp_path: Path) -> None:
    good = _sample("ok", 1)
    sound = good["ok.s1.flac"]
    bad = {"bad.flac": sound[:60], "words.flac": sound, "words.json": b"[1", "hum.noise.flac": sound}
    bad |= {"list.flac": sound, "list.json": b'{"speakers": ["a;b"]}'}
    _write(tmp_path / "x.tar", {**good, **bad})
    (tmp_path / "y.tar").write_bytes(b"\x1f\x8b packed")
    found = Tar()
    assert [row.id for row in found.scan(tmp_path)] == ["ok"]
    reasons = {bad.path: bad.reason for bad in found.bad}
    assert set(reasons) == {"x.tar/bad.flac", "x.tar/words", "x.tar/list", "x.tar/hum", "y.tar"}
    assert "gzip" in reasons["y.tar"] and "json cannot be read" in reasons["x.tar/words"]
    with pytest.raises(InputNotFound):
        Tar().scan(tmp_path / "none.tar")
    with pytest.raises(InputNotFound):
        listed(tmp_path / "none*.tar")
    with pytest.raises(BadInput, match="unpacked first"):
        listed(_write(tmp_path / "z.tgz", good))
    with pytest.raises(BadInput, match="more than 1000000"):
        listed(tmp_path / "{0..1000000000}.tar")


def test_what_an_address_needs_is_said_before_any_other_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    pytest.importorskip("braceexpand")
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingDependency, match=r"^https://a/x-0\.tar: aiohttp .*pip install 'usepcli\[shards\]'$"):
        Tar().scan(Path("https://a/x-{0..9}.tar"))


def test_parts_of_long_recordings_are_refused_with_what_to_do(tmp_path: Path) -> None:
    """The second part has no sound of its own, and the first would pass for the whole recording."""
    part = {"frames": 2000, "sample_rate": 8000}
    for start in (0, 2000):
        said = json.dumps({**part, "start": start}).encode()
        one = _sample("000000", 1, json=said) if start == 0 else {"000001.json": said}
        _write(tmp_path / f"{start}.tar", one)
        with pytest.raises(BadInput, match=rf"is a part of a long recording \(start {start}\).* manifest.csv"):
            Tar().scan(tmp_path / f"{start}.tar")
    assert Tar().scan(_write(tmp_path / "own.tar", _sample("a", 1, json=b'{"start": 3}'))) != []  # another's word
