"""A set in tars holds what its files held, goes on behind the last whole tar, and leaves out what cannot be read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio import raws
from usepcli.data.manifest import Manifest, Pool
from usepcli.data.sampling import rng
from usepcli.engine.preparing import pack
from usepcli.engine.preparing.prepare import prepare
from usepcli.errors import ConfigError

pytest.importorskip("webdataset")
SAME = {"split_ratios": (1.0, 0.0, 0.0)}


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for n in range(6):
        for part in ("mix", "s1", "s2"):
            path = tmp_path / f"rec/{part}/{n}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            sf.write(path, rng(n, len(part)).uniform(-0.5, 0.5, 2000), 8000)
    return tmp_path / "rec"


def _sums(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("shards/*.tar"))}


def test_members_are_the_files_and_a_stopped_run_goes_on(recordings: Path, tmp_path: Path) -> None:
    prepare(recordings, tmp_path / "list", "folder", SAME)
    prepare(recordings, tmp_path / "tars", "folder", SAME, shards="20KB", quiet=True)
    loose, packed = Manifest.read(tmp_path / "list"), Manifest.read(tmp_path / "tars")
    sums = _sums(tmp_path / "tars")
    assert len(sums) == 3 and len(packed) == len(loose) == 6
    for row, other in zip(loose.rows, packed.rows, strict=True):
        assert (row.id, row.frames, row.split) == (other.id, other.frames, other.split)
        for path, member in zip((row.mixture, *row.sources), (other.mixture, *other.sources), strict=True):
            with raws.open_raw(packed.resolve(member)) as file:
                assert file.read() == loose.resolve(path).read_bytes()
    kept = (tmp_path / "tars/shards/train-000000.tar").stat().st_mtime_ns
    (tmp_path / "tars/prepare.json").rename(tmp_path / "tars/prepare.partial.json")  # killed in its second tar
    for name in ("train-000001.tar", "train-000002.tar"):
        (tmp_path / "tars/shards" / name).unlink()
    (tmp_path / "tars/shards/.train-000001.tar.1234.tmp").write_bytes(b"half")
    done = prepare(recordings, tmp_path / "tars", "folder", SAME, shards="20KB", quiet=True)
    assert _sums(tmp_path / "tars") == sums and not list((tmp_path / "tars/shards").glob(".*"))
    assert (tmp_path / "tars/shards/train-000000.tar").stat().st_mtime_ns == kept
    again = prepare(recordings, tmp_path / "tars", "folder", SAME, shards="20KB", quiet=True)
    assert again.table() == done.table() and again.kept == 6
    # Other programs' trainings read the samples alone; so does usep.
    back = prepare(tmp_path / "tars/shards", tmp_path / "back", "tar")
    assert back.mixtures == {"train": 6} and {row.id for row in Manifest.read(tmp_path / "back").rows} == {
        row.id for row in loose.rows
    }


def test_what_cannot_be_read_is_left_out_and_named(recordings: Path, tmp_path: Path) -> None:
    (recordings / "s1/2.wav").write_bytes(b"")
    done = prepare(recordings, tmp_path / "tars", "folder", SAME, shards="20KB", quiet=True)
    ids = [row.id for row in Manifest.read(tmp_path / "tars").rows]
    assert len(ids) == 6 and done.bad[0].path == "s1/2.wav"  # its row is a mixture with one source less
    lines = "".join(f"mix/{n}.wav,s2/{n}.wav,train\n" for n in range(6))
    (tmp_path / "list.csv").write_text("mix,s1,split\n" + lines)
    (recordings / "s2/3.wav").unlink()
    done = prepare(
        tmp_path / "list.csv", tmp_path / "more", "csv", {"root": str(recordings)}, shards="20KB", quiet=True
    )
    assert [bad.path for bad in done.bad] == ["mix/3"] and "No such file" in done.bad[0].reason
    assert len(Manifest.read(tmp_path / "more")) == 5 and done.mixtures == {"train": 5}


def test_what_was_made_for_the_tars_alone_goes(tmp_path: Path) -> None:
    for talker in "abcdef":
        for n in range(2):
            (tmp_path / "rec" / talker).mkdir(parents=True, exist_ok=True)
            sf.write(tmp_path / f"rec/{talker}/{n}.wav", rng(n, ord(talker)).uniform(-0.5, 0.5, 8000), 8000)
    counts = {"train": 3, "valid": 1, "test": 1, "seconds": 1.0, "split_ratios": (0.34, 0.33, 0.33)}
    prepare(tmp_path / "rec", tmp_path / "tars", "speakers", counts, shards="50KB", quiet=True)
    assert not (tmp_path / "tars/wav").exists() and not (tmp_path / "tars/pool").exists()
    for table in (Manifest.read(tmp_path / "tars"), Pool.read(tmp_path / "tars")):
        for row in table.rows:
            name = row.mixture if hasattr(row, "mixture") else row.path
            with raws.open_raw(table.resolve(name)) as file:
                assert len(np.frombuffer(file.read()[44:], "<i2")) == 8000
    assert prepare(tmp_path / "rec", tmp_path / "tars", "speakers", counts, shards="50KB", quiet=True).kept == 17


@pytest.mark.parametrize(("text", "size"), [("1GB", 10**9), ("1.5GiB", 3 << 29), ("500mb", 5 * 10**8)])
def test_sizes(text: str, size: int) -> None:
    assert pack.parse_size(text) == size
    for wrong in ("", "GB", "1XB", "-1GB", "1", "9KB", "inf"):
        with pytest.raises(ConfigError, match="--shards"):
            pack.parse_size(wrong)
