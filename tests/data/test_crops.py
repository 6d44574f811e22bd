"""Recordings of any length in an epoch: how often each comes, which meet in a batch, and stretches of files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data import crops, store
from usepcli.data.crops import Deal
from usepcli.data.examples import FixedMixtures
from usepcli.data.items import Reader, trimmed_item
from usepcli.data.kept import Kept
from usepcli.data.manifest import Manifest, Row
from usepcli.data.sampling import EpochBatches, rng, spread

RATE = 8000


def noise(path: Path, frames: int, seed: int = 0, rate: int = RATE) -> np.ndarray:
    codes = np.random.default_rng(seed).integers(-8000, 8000, frames)
    wave = (codes / 32768).astype(np.float32)
    io.write(path, wave, rate)
    return wave


@pytest.mark.parametrize(
    ("lengths", "how", "expected"),
    [
        ([6.0, 29.0, 0.0], "auto", [1, 1, 1]),  # clips, one of unknown length: each once, as papers count
        ([6.0, 31.0, 0.2], "auto", [4, 21, 1]),  # recordings: as many segments of 1.5 s as they hold
        ([6.0, 29.0], "length", [4, 19]),
        ([36000.0, 6.0], "one", [1, 1]),
        ([86400.0, 1.5], "auto", [57600, 1]),
    ],
)
def test_a_recording_weighs_as_much_as_it_holds_segments(
    lengths: list[float], how: crops.How, expected: list[int]
) -> None:
    assert crops.weights(np.array(lengths), 1.5, how).tolist() == expected


@pytest.mark.parametrize("n_items", [0, 7, 100, 1001])
def test_every_recording_comes_its_due_share_rounded_either_way(n_items: int) -> None:
    weight = np.array([1, 40, 3, 7])
    deal = Deal(weight, n_items, 5)
    n = n_items or 51
    totals = np.zeros(4)
    for epoch in range(40):
        files = deal.files(epoch)
        assert len(files) == deal.n_items == n
        count, due = np.bincount(files, minlength=4), n * weight / 51
        assert (np.abs(count - due) < 1 + 1e-9).all()
        assert [deal.file(epoch, i) for i in range(0, n, 3)] == files[::3].tolist()
        totals += count
    # The start is drawn anew for each epoch: what is rarer than once an epoch is not left out.
    assert np.abs(totals / 40 - n * weight / 51).max() < 0.5


def test_each_clip_once_is_the_order_as_ever() -> None:
    deal = Deal(np.ones(9, int), 0, 3)
    assert deal.plain and deal.files(4).tolist() == list(range(9))
    assert not Deal(np.ones(9, int), 18, 3).plain and not Deal(np.array([1, 2]), 0, 3).plain


@pytest.mark.parametrize(
    ("weight", "micro", "meetings"),
    [([1, 1], 4, 0), ([5, 5, 10], 2, 0), ([3, 2, 4, 9], 16, 0), ([1] * 30, 16, 0), ([3, 1], 4, 1), ([1], 6, 3)],
)
def test_crops_of_one_recording_meet_only_where_it_is_more_than_half(
    weight: list[int], micro: int, meetings: int
) -> None:
    deal = Deal(np.array(weight), 40 * micro, 1)
    for epoch in range(3):
        files = deal.files(epoch)
        found = spread(files, micro, 1, epoch)
        assert found.shape == (40, micro) and len(set(found.ravel().tolist())) == 40 * micro
        pairs = files[found].reshape(40, 2, micro // 2)  # mixit adds the first half to the second
        assert (pairs[:, 0] == pairs[:, 1]).sum(axis=1).max() == meetings


def test_batches_of_crops_resume_anywhere_and_are_shared_by_ranks() -> None:
    def batches(**more: int) -> EpochBatches:
        return EpochBatches(100, 8, 2, 3, files=Deal(np.array([1, 5, 2]), 100, 3).files, **more)

    one = batches()
    one.start(2)
    whole = list(one)
    one.start(2, 5)
    assert list(one) == whole[10:]
    two = [batches(rank=rank, world=2) for rank in range(2)]
    keys = [key for rank in two for batch in rank for key in batch]
    assert len(keys) == len(set(keys)) == 96


def test_long_recordings_are_read_where_they_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waves = {"long": noise(tmp_path / "long.wav", 40 * RATE), "short": noise(tmp_path / "short.wav", RATE, 1)}
    rows = [Row(name, "train", f"{name}.wav", sample_rate=RATE, frames=len(wave)) for name, wave in waves.items()]
    monkeypatch.setattr(store, "LONG_S", 30.0)
    data = FixedMixtures(Manifest(rows, tmp_path, tmp_path / "manifest.csv"), RATE, 1.0, 0, False, n_items=82)
    read, lengths = io.read_mono, []

    def measured(*place: Path | int) -> tuple[np.ndarray, int]:
        found = read(*place)  # type: ignore[arg-type]
        lengths.append(len(found[0]))
        return found

    monkeypatch.setattr(io, "read_mono", measured)
    drawn = [data[0, i] for i in range(82)]
    assert Counter(example.id for example in drawn) == {"long": 80, "short": 2}
    assert lengths == [RATE] * 82  # a second each time
    starts = set()
    for example in drawn:
        wave = waves[example.id]
        at = next(int(i) for i in np.flatnonzero(wave == example.mix[0]) if (wave[i : i + RATE] == example.mix).all())
        starts.add((example.id, at))
    assert len(starts) > 75


def test_nothing_outside_its_stretch_is_read_of_a_row(tmp_path: Path) -> None:
    mix, source = noise(tmp_path / "m.wav", 1000), noise(tmp_path / "s.wav", 1000, 1)
    row = Row("r", "valid", "m.wav", ("s.wav", "s.wav"), sample_rate=RATE, frames=300, start=400)
    manifest = Manifest([row], tmp_path, tmp_path / "manifest.csv")
    whole = Reader(manifest, RATE).whole(row, True)
    assert (whole.mix == mix[400:700]).all() and (whole.sources == source[400:700]).all()
    assert (Reader(manifest, RATE, 0.01).whole(row).mix == mix[400:480]).all()
    assert (trimmed_item(manifest, row).mix == mix[400:700]).all()
    for i in range(20):
        cut = Reader(manifest, RATE, 0.0125, Kept(1 << 20)).segment(row, rng(i), True)  # 100 samples
        at = int(np.flatnonzero(mix == cut.mix[0])[0])
        assert 400 <= at <= 600 and (cut.mix == mix[at : at + 100]).all()
    longer = Reader(manifest, RATE, 0.1, Kept(1 << 20)).segment(row, rng(0), False)  # 800 samples
    assert (longer.mix[:300] == mix[400:700]).all() and not longer.mix[300:].any()


def test_a_stretch_survives_the_table(tmp_path: Path) -> None:
    rows = [Row("a", "train", "a.wav", sample_rate=8000, frames=5, start=0), Row("b", mixture="b.wav")]
    Manifest(rows, tmp_path, tmp_path / "manifest.csv").write()
    read = Manifest.read(tmp_path)
    assert [row.start for row in read.rows] == [0, None]
    assert "start=0" in repr(rows[0]) and "start" not in repr(rows[1])
    read.rows = read.rows[1:]
    read.write()
    assert "start" not in read.path.read_text()


def test_long_rows_are_cut_up_side_by_side() -> None:
    row = Row("a", frames=100_000, sample_rate=1000, start=7)
    found = crops.cut_up([row], 100, 10.0)
    assert len(found) == 10 and {r.frames for r in found} == {10_000}
    assert [r.start for r in found] == list(range(7, 100_007, 10_000)) and found[1].id == "a@10.01s"
    assert len(crops.cut_up([row], 4, 10.0)) == 4
    assert [r.frames for r in crops.cut_up([Row("b", frames=3000, sample_rate=1000)], 100, 10.0)] == [1500, 1500]
    assert crops.cut_up([row, row], 2, 10.0) == [row, row] and crops.cut_up([], 9, 1.0) == []
