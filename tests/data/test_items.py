"""One reader of items: what a mixture is where no file holds it, and how lengths are brought together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.items import Reader, fitted, together, trimmed, trimmed_item
from usepcli.data.kept import Kept
from usepcli.data.manifest import Manifest, Row
from usepcli.data.sampling import rng
from usepcli.errors import BadInput

RATE = 8000


def write(path: Path, frames: int, seed: int, rate: int = RATE) -> np.ndarray:
    wave = (0.1 * np.random.default_rng(seed).standard_normal(frames)).astype(np.float32)
    io.write(path, wave, rate, "FLOAT")
    return wave


@pytest.fixture
def item(tmp_path: Path) -> tuple[Manifest, np.ndarray, np.ndarray]:
    """A row whose sources last 3000 and 2000 samples, without a mixture file."""
    long, short = write(tmp_path / "a.wav", 3000, 0), write(tmp_path / "b.wav", 2000, 1)
    row = Row("x", "test", "", ("a.wav", "b.wav"), "", RATE, 3000, 2)
    return Manifest([row], tmp_path, tmp_path / "manifest.csv"), long, np.pad(short, (0, 1000))


def test_without_a_file_the_sum_is_the_mixture_for_every_way_of_reading(
    item: tuple[Manifest, np.ndarray, np.ndarray],
) -> None:
    manifest, long, short = item
    (row,) = manifest.rows
    want = long + short
    for found in (Reader(manifest, RATE).whole(row, True), trimmed_item(manifest, row)):
        assert np.array_equal(found.mix, want) and found.note == "" and found.rate == RATE
        assert found.sources is not None and np.array_equal(found.sources, np.stack([long, short]))
    assert np.array_equal(Reader(manifest, RATE, 0.1).whole(row).mix, want[:800])
    assert Reader(manifest, RATE).whole(row).sources is None
    whole = Reader(manifest, RATE, 3000 / RATE).segment(row, rng(0), False)
    assert np.array_equal(whole.mix, want) and whole.sources is None


@pytest.mark.parametrize("keep", [True, False])
def test_a_segment_behind_the_end_of_one_source_hears_the_others(
    item: tuple[Manifest, np.ndarray, np.ndarray], keep: bool
) -> None:
    manifest, long, short = item
    reader = Reader(manifest, RATE, 400 / RATE, Kept(1 << 20) if keep else None)
    places = set()
    for seed in range(40):
        found = reader.segment(manifest.rows[0], rng(seed), True)
        start = int(rng(seed).integers(2601))
        assert found.sources is not None
        want = np.stack([long, short])[:, start : start + 400]
        assert np.array_equal(found.sources, want)
        assert np.array_equal(found.mix, found.sources.sum(0))
        places.add(start >= 2000)
    assert places == {True, False}
    stale = replace(manifest.rows[0], frames=900_000)
    with pytest.raises(BadInput, match="shorter than the list says"):
        reader.segment(stale, rng(0), True)


def test_a_source_that_ends_early_beside_a_mixture_file_is_no_silence(tmp_path: Path) -> None:
    write(tmp_path / "m.wav", 3000, 0)
    write(tmp_path / "a.wav", 10, 1)
    row = Row("x", "test", "m.wav", ("a.wav",), "", RATE, 3000, 1)
    reader = Reader(Manifest([row], tmp_path, tmp_path / "m.csv"), RATE, 400 / RATE)
    with pytest.raises(BadInput, match="shorter than the list says, 10 samples where 3000"):
        reader.segment(row, rng(0), True)


def test_a_file_is_what_the_list_says_or_no_data(tmp_path: Path) -> None:
    """Rate and length of mixture and sources alike, however they are read; 0 promises nothing."""
    mix = write(tmp_path / "m.wav", 3000, 0)
    for name, frames, rate in (("cut", 2900, RATE), ("long", 3100, RATE), ("fast", 3000, 16000), ("s", 3000, RATE)):
        write(tmp_path / f"{name}.wav", frames, 1, rate)

    def reads(row: Row) -> list[Callable[[], object]]:
        manifest = Manifest([row], tmp_path, tmp_path / "m.csv")
        reader = Reader(manifest, RATE, 400 / RATE)
        by_start = [lambda: reader.segment(row, rng(0), True), lambda: reader.whole(row, True)]
        return [*by_start, lambda: trimmed_item(manifest, row), lambda: reader.sources(row, 400)]

    row = Row("x", "test", "m.wav", ("s.wav",), "", RATE, 3000, 1)
    for name, said in (
        ("cut", "shorter .* 2900 .* 3000"),
        ("long", "longer .* 3100 .* 3000"),
        ("fast", "16000 Hz .* 8000 Hz"),
    ):
        for read in reads(replace(row, sources=(f"{name}.wav",))):
            with pytest.raises(BadInput, match=rf"{name}\.wav: {said}"):
                read()
        for read in reads(replace(row, mixture=f"{name}.wav"))[:3]:
            with pytest.raises(BadInput, match=rf"{name}\.wav: {said}"):
                read()
    for read in [*reads(row), *reads(replace(row, start=2000, frames=1000)), *reads(replace(row, sample_rate=0))]:
        read()
    for read in reads(replace(row, start=2500, frames=501)):
        with pytest.raises(
            BadInput, match=r"\.wav: shorter than the list says, 3000 samples .* from sample 2500 to 3001"
        ):
            read()
    # Where the list says nothing, a source still lasts as long as its mixture; scores take what all have in common.
    bare = replace(row, sources=("cut.wav",), frames=0)
    for read in reads(bare)[:2]:
        with pytest.raises(BadInput, match=r"cut\.wav: shorter than its mixture, 2900 samples"):
            read()
    cut = trimmed_item(Manifest([bare], tmp_path, tmp_path / "m.csv"), bare)
    assert cut.note == "trimmed from 3000 to 2900 samples" and np.array_equal(cut.mix, mix[:2900])
    for read in reads(replace(bare, sources=("long.wav",))):
        read()


@pytest.mark.parametrize("rate", [RATE, 11025])
def test_whole_utterances_have_the_same_bits_with_and_without_the_cache(tmp_path: Path, rate: int) -> None:
    write(tmp_path / "m.wav", 6 * rate, 0, rate)
    write(tmp_path / "s.wav", 6 * rate, 1, rate)
    row = Row("x", "", "m.wav", ("s.wav",), "", rate, 6 * rate, 1)
    for one, length in ((row, 6 * RATE), (replace(row, start=rate, frames=2 * rate), 2 * RATE)):
        manifest = Manifest([one], tmp_path, tmp_path / "m.csv")
        plain, keeping = Reader(manifest, RATE), Reader(manifest, RATE, kept=Kept(1 << 20))
        found = [reader.segment(one, rng(0), True) for reader in (plain, keeping, keeping)]
        assert all(len(item.mix) == length for item in found) and found[0].sources is not None
        for item in found[1:]:
            assert np.array_equal(item.mix, found[0].mix) and np.array_equal(item.sources, found[0].sources)
        inner = slice(100, -100) if one.start else slice(None)  # a filter reaches beyond the ends of a stretch
        want = plain.whole(one, True).mix[inner]
        np.testing.assert_allclose(found[0].mix[inner], want, atol=0 if rate == RATE else 1e-6)


def test_files_of_one_item_have_as_many_channels_where_their_mean_is_heard(tmp_path: Path) -> None:
    mix = write(tmp_path / "m.wav", 3000, 0)
    io.write(tmp_path / "s.wav", np.stack([mix, -mix]), RATE, "FLOAT")
    for row in (
        Row("x", "", "m.wav", ("s.wav",), "", RATE, 3000, 1),
        Row("x", "", "", ("m.wav", "s.wav"), "", RATE, 3000),
    ):
        manifest = Manifest([row], tmp_path, tmp_path / "m.csv")
        with pytest.raises(BadInput, match=r"s\.wav: channels: 2, but 1 in .*m\.wav"):
            Reader(manifest, RATE, 0.1).segment(row, rng(0), True)
        assert Reader(manifest, RATE, 0.1, channels="first").segment(row, rng(0), True).mix.any()
        if row.mixture:
            Reader(manifest, RATE, 0.1).segment(row, rng(0), False)


def test_a_sum_of_sources_is_as_long_as_the_list_says(item: tuple[Manifest, np.ndarray, np.ndarray]) -> None:
    manifest, _, _ = item
    (row,) = manifest.rows
    for frames in (2999, 3001):
        other = replace(row, frames=frames)
        for read in (lambda: Reader(manifest, RATE).whole(other), lambda: trimmed_item(manifest, other)):  # noqa: B023
            with pytest.raises(BadInput, match=rf"a\.wav: .* has 3000 samples where {frames} were expected"):
                read()


def test_an_item_without_any_file_is_named(tmp_path: Path) -> None:
    row = Row("none", "test", "", (), "", RATE, 1)
    manifest = Manifest([row], tmp_path, tmp_path / "m.csv")
    for read in (
        lambda: Reader(manifest, RATE).whole(row),
        lambda: Reader(manifest, RATE, 1.0).segment(row, rng(0), False),
        lambda: trimmed_item(manifest, row),
    ):
        with pytest.raises(BadInput, match="item none has neither a mixture nor sources"):
            read()


def test_files_of_one_item_have_one_rate(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 100, 0)
    write(tmp_path / "b.wav", 100, 0, 16000)
    with pytest.raises(BadInput, match=r"b\.wav: 16000 Hz but .*a\.wav: 8000 Hz"):
        together([tmp_path / "a.wav", tmp_path / "b.wav"])


def test_trimmed_and_fitted() -> None:
    waves = [np.ones(3, np.float32), np.ones(5, np.float32)]
    cut, note = trimmed(waves)
    assert cut.shape == (2, 3) and note == "trimmed from 5 to 3 samples"
    assert trimmed(waves[:1])[1] == ""
    assert fitted(waves, 4).tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
