"""Training examples: segments of fixed mixtures, fresh mixtures of a pool, faults on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from usepcli.audio import io
from usepcli.data.batch import Example, Unusable, collate
from usepcli.data.examples import DynamicMixtures, FixedMixtures, place
from usepcli.data.kept import Kept
from usepcli.data.manifest import Manifest, Phrase, Pool, PoolRow, Row
from usepcli.errors import BadInput, ConfigError

RATE = 8000


def write(path: Path, wave: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    io.write(path, wave.astype(np.float32), RATE)


def fixed(root: Path, sources: bool = True) -> Manifest:
    draw, rows = np.random.default_rng(0), []
    for i in range(4):
        parts = np.round(draw.uniform(-0.3, 0.3, (2, 4000)) * 32768) / 32768
        write(root / f"{i}/mix.wav", parts.sum(0))
        for k in range(2):
            write(root / f"{i}/s{k}.wav", parts[k])
        names = tuple(f"{i}/s{k}.wav" for k in range(2)) if sources else ()
        rows.append(Row(f"id{i}", "train", f"{i}/mix.wav", names, "", RATE, 4000, 2, (), "", "", "", ""))
    return Manifest(rows, root, root / "manifest.csv")


def pool(root: Path, speakers: list[str], frames: int = 6000) -> Pool:
    draw, rows = np.random.default_rng(1), []
    for i, speaker in enumerate(speakers):
        write(root / f"u{i}.wav", draw.standard_normal(frames) * 0.05)
        rows.append(PoolRow(f"u{i}", "train", speaker, f"u{i}.wav", RATE, frames, "somewhere", ""))
    return Pool(rows, root, root / "pool.csv")


@pytest.mark.parametrize("keep", [True, False])
def test_fixed_mixtures_cut_mixture_and_sources_at_the_same_place(tmp_path: Path, keep: bool) -> None:
    data = FixedMixtures(fixed(tmp_path), RATE, 0.25, seed=0, with_sources=True, kept=Kept(1 << 20) if keep else None)
    for index in range(4):
        example = data[3, index]
        assert example.sources is not None and example.sources.shape == (2, 2000)
        assert np.abs(example.sources.sum(0) - example.mix).max() < 1e-6
        assert np.array_equal(example.mix, data[3, index].mix)
    assert not np.array_equal(data[3, 0].mix, data[4, 0].mix)


def test_mixtures_alone_never_touch_the_sources(tmp_path: Path) -> None:
    manifest = fixed(tmp_path)
    for file in tmp_path.rglob("s*.wav"):
        file.unlink()
    assert FixedMixtures(manifest, RATE, 0.25, 0, with_sources=False)[0, 1].sources is None


def test_missing_sources_are_said_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mixit"):
        FixedMixtures(fixed(tmp_path, sources=False), RATE, 0.25, 0, with_sources=True)


def test_an_unusable_file_is_replaced_by_the_same_one_each_time(tmp_path: Path) -> None:
    manifest = fixed(tmp_path)
    (tmp_path / "2/s1.wav").write_bytes(b"")
    data = FixedMixtures(manifest, RATE, 0.25, 0, with_sources=True)
    example = data[0, 2]
    assert example.id != "id2" and "2/s1.wav" in example.bad_files[0].reason
    assert np.array_equal(example.mix, data[0, 2].mix)


def test_an_item_has_one_name_however_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = fixed(tmp_path)
    io.write(tmp_path / "2/mix.wav", np.ones(100, np.float32), RATE, overwrite=True)  # the list says more
    data = FixedMixtures(manifest, RATE, 0.25, 0, with_sources=True)
    found = [bad for epoch in range(8) for bad in data[epoch, 2].bad_files]
    assert len(found) >= 8 and {bad.item for bad in found} == {"id2"}
    dynamic = DynamicMixtures([pool(tmp_path, ["a", "b", "c"])], RATE, 0.5, seed=0, n_items=8)
    first, row = dynamic.voices.row(dynamic.voices.utterances(0)[0])
    broken = first.resolve(row.path)
    segment = dynamic.store.segment

    def fail(path: Path, *place: float) -> np.ndarray:
        wave = segment(path, *place)  # type: ignore[arg-type]
        if path == broken:
            raise RuntimeError("a library that nobody foresaw")
        return wave

    monkeypatch.setattr(dynamic.store, "segment", fail)
    named = {bad.item for i in range(8) for bad in dynamic[0, i].bad_files}
    assert named == {str(broken)}


def test_not_finite_audio_is_unusable(tmp_path: Path) -> None:
    manifest = fixed(tmp_path)
    import soundfile

    for name in ("mix", "s0", "s1"):
        soundfile.write(tmp_path / f"1/{name}.wav", np.full(4000, np.nan), RATE, subtype="FLOAT")
    assert FixedMixtures(manifest, RATE, 0.25, 0, True)[0, 1].bad_files


def test_an_utterance_is_what_its_list_says_or_no_data(tmp_path: Path) -> None:
    speech, noise = pool(tmp_path / "s", list("abcdef")), pool(tmp_path / "n", [""])
    wave = np.full(5999, 0.1, np.float32)
    io.write(tmp_path / "s/u1.wav", wave, RATE, overwrite=True)
    io.write(tmp_path / "s/u2.wav", wave[:3000], 2 * RATE, overwrite=True)
    data = DynamicMixtures([speech], RATE, 0.5, seed=0, n_items=8)
    bad = {one.item: one.reason for i in range(12) for one in data[0, i].bad_files}
    assert set(bad) == {str(tmp_path / f"s/u{k}.wav") for k in (1, 2)}
    assert "shorter than the list says, 5999 samples where 6000" in bad[str(tmp_path / "s/u1.wav")]
    assert "16000 Hz where the list says 8000 Hz" in bad[str(tmp_path / "s/u2.wav")]
    io.write(tmp_path / "n/u0.wav", np.full(6001, 0.1, np.float32), RATE, overwrite=True)
    speech.rows = [replace(row, frames=0, sample_rate=0) for row in speech.rows]  # which promises nothing
    hum = DynamicMixtures([speech], RATE, 0.5, 0, 8, noise=noise, noise_prob=1.0)
    with pytest.raises(BadInput, match=r"n/u0\.wav: longer than the list says"):
        hum[0, 0]
    assert not DynamicMixtures([speech], RATE, 0.5, 0, 8)[0, 0].bad_files


def test_dynamic_mixtures_sum_and_differ_and_repeat(tmp_path: Path) -> None:
    data = DynamicMixtures([pool(tmp_path, ["a", "b", "c"])], RATE, 0.5, seed=0, n_items=8, level_db=6.0)
    one = data[0, 0]
    assert one.sources is not None and one.sources.shape == (2, 4000)
    assert np.abs(one.sources.sum(0) - one.mix).max() < 1e-6
    assert np.array_equal(one.mix, data[0, 0].mix)
    assert not np.array_equal(one.mix, data[0, 1].mix) and not np.array_equal(one.mix, data[1, 0].mix)
    ratios = [
        20 * np.log10(np.linalg.norm(s[0]) / np.linalg.norm(s[1])) for i in range(8) for s in [data[0, i].sources]
    ]
    assert max(np.abs(ratios)) <= 6.01


def test_the_number_of_talkers_is_drawn_evenly_or_is_one(tmp_path: Path) -> None:
    speech = pool(tmp_path, ["a", "b", "c"])
    data = DynamicMixtures([speech], RATE, 0.1, seed=0, n_items=8, n_talkers=3, min_talkers=1)
    found = [data[0, i].sources for i in range(300)]
    counts = [sum(s is not None and len(s) == k for s in found) for k in (1, 2, 3)]
    # 300 draws with p = 1/3: five deviations of sqrt(300 p (1 - p)) = 8.2
    assert sum(counts) == 300 and all(abs(count - 100) < 41 for count in counts)
    assert data.most_sources == 3
    always = [DynamicMixtures([speech], RATE, 0.1, 0, 8, n_talkers=3, min_talkers=k)[0, 1].mix for k in (0, 3)]
    assert np.array_equal(*always)
    rarely = DynamicMixtures([speech], RATE, 0.1, seed=0, n_items=8, n_talkers=3, min_talkers=1, fewer_prob=0.2)
    counts = [len(rarely[0, i].sources) for i in range(400)]
    # One and two share a fifth: both counts are binomial, and five standard deviations are 40 and 30 of 400.
    assert abs(counts.count(3) - 320) < 40 and abs(counts.count(1) - 40) < 30 and counts.count(2)
    with pytest.raises(
        ConfigError, match=r"data\.fewer_prob: found 0\.2; expected 0, or data\.min_talkers of 1 .* data\.talkers, 3"
    ):
        DynamicMixtures([speech], RATE, 0.5, 0, 8, n_talkers=3, fewer_prob=0.2)
    with pytest.raises(ConfigError, match=r"data\.min_talkers: found 3; expected at most data\.talkers, 2"):
        DynamicMixtures([speech], RATE, 0.5, 0, 8, n_talkers=2, min_talkers=3)


def test_a_talker_is_drawn_by_a_power_of_its_number_of_utterances(tmp_path: Path) -> None:
    speech = pool(tmp_path, ["much"] * 16 + ["some"] * 4 + ["one"], frames=100)
    for power, shares in ((0.0, (1, 1, 1)), (0.5, (4, 2, 1)), (1.0, (16, 4, 1))):
        data = DynamicMixtures([speech], RATE, 0.1, seed=0, n_items=8, n_talkers=1, talker_power=power)
        ends = dict(zip(map(data.voices.name, range(3)), np.diff(data.cumulated, prepend=0), strict=True))
        want = np.array(shares) / sum(shares)
        np.testing.assert_allclose([ends["much"], ends["some"], ends["one"]], want, rtol=1e-12)


def test_responses_colour_each_source_and_the_sum_stays_the_mixture(tmp_path: Path) -> None:
    speech = pool(tmp_path, ["a", "b"])
    plain, coloured = (DynamicMixtures([speech], RATE, 0.5, 0, 8, response_db=db)[0, 0] for db in (0.0, 12.0))
    assert coloured.sources is not None and plain.sources is not None
    assert np.abs(coloured.sources.sum(0) - coloured.mix).max() < 1e-6
    assert np.abs(np.abs(np.fft.rfft(coloured.sources[0])) - np.abs(np.fft.rfft(plain.sources[0]))).max() > 0.1


def test_unnamed_utterances_of_one_origin_never_meet(tmp_path: Path) -> None:
    named, unnamed = pool(tmp_path / "n", ["a"]), pool(tmp_path / "u", [""] * 30)
    data = DynamicMixtures([named, unnamed], RATE, 0.5, 0, 8)
    chosen = []
    data._voice = lambda talker, draw: (chosen.append(talker) or np.ones(4000), "")  # type: ignore[method-assign]
    for index in range(20):
        data[0, index]
    pairs = [set(chosen[i : i + 2]) for i in range(0, len(chosen), 2)]
    assert all(data.voices.talkers.index("0/a") in pair for pair in pairs)
    with pytest.raises(ConfigError, match="1 talkers found, 2 needed"):
        DynamicMixtures([unnamed], RATE, 0.5, 0, 8)


@pytest.mark.parametrize("more", [{}, {"noises": 3, "speeds": [0.9, 1.1], "response_db": 6.0}])
def test_noise_lies_at_the_asked_ratio_and_outside_the_sources(tmp_path: Path, more: dict[str, Any]) -> None:
    speech, noise = pool(tmp_path / "s", ["a", "b"]), pool(tmp_path / "n", ["", ""])
    data = DynamicMixtures([speech], RATE, 0.5, 0, 4, noise=noise, noise_snr_db=(10.0, 10.0), noise_prob=1.0, **more)
    example = data[0, 0]
    assert example.sources is not None
    rest = example.mix - example.sources.sum(0)
    ratio = 10 * np.log10(np.sum(example.sources.sum(0) ** 2) / np.sum(rest**2))
    assert ratio == pytest.approx(10.0, abs=0.01)


def test_up_to_so_many_noises_are_added_up(tmp_path: Path) -> None:
    speech, noise = pool(tmp_path / "s", ["a", "b"]), pool(tmp_path / "n", ["", "", ""])
    data = DynamicMixtures([speech], RATE, 0.5, 0, 4, noise=noise, noise_prob=1.0, noises=3)
    drawn: list[int] = []
    one = data._one_noise
    data._one_noise = lambda draw: drawn.append(len(drawn)) or one(draw)  # type: ignore[func-returns-value,method-assign]
    counts = []
    for index in range(60):
        drawn.clear()
        data[0, index]
        counts.append(len(drawn))
    # Each number has a third of the draws: one is missing among 60 with a chance of 3 (2/3)^60 = 8e-11.
    assert set(counts) == {1, 2, 3}


def test_speed_changes_length_and_join_fills_the_segment(tmp_path: Path) -> None:
    data = DynamicMixtures([pool(tmp_path, ["a", "b"])], RATE, 2.0, 0, 4, speeds=[0.5], join_prob=1.0)
    assert data.store.whole(tmp_path / "u0.wav", 0.5).size == 12000
    example = data[0, 0]
    assert example.sources is not None
    quiet = np.abs(example.sources).max(0) < 1e-6
    assert quiet.mean() < 0.5


def test_twenty_unusable_draws_in_a_row_end_it(tmp_path: Path) -> None:
    manifest = fixed(tmp_path)
    for file in tmp_path.rglob("mix.wav"):
        file.unlink()
    with pytest.raises(BadInput, match="20 unusable files in a row"):
        FixedMixtures(manifest, RATE, 0.25, 0, False)[0, 0]


def test_place_and_collate_pad_with_zeros() -> None:
    draw = np.random.default_rng(0)
    assert np.count_nonzero(place(np.ones(10, np.float32), 30, draw)) == 10
    batch = collate(
        [
            Example("a", np.ones(5, np.float32), np.ones((1, 5), np.float32)),
            Example("b", np.ones(8, np.float32), np.ones((3, 8), np.float32), bad_files=(Unusable("a", "x"),)),
        ]
    )
    assert batch.mix.shape == (2, 8) and batch.sources is not None and batch.sources.shape == (2, 3, 8)
    assert batch.sources[0].sum() == 5 and batch.bad_files == [("a", "x")] and len(batch) == 2
    assert collate([Example("a", np.ones(5, np.float32))]).sources is None


def test_what_is_known_in_words_reaches_the_batch(tmp_path: Path) -> None:
    manifest = fixed(tmp_path)
    manifest.rows = [
        replace(row, queries=("low", "high"), caption="both", phrases=(Phrase("low", 0.5),), label="x", text="said")
        for row in manifest.rows
    ]
    needs = {"mix", "sources", "queries", "caption", "phrases", "label"}
    data = FixedMixtures(manifest, RATE, 0.25, 0, True, needs=needs)
    batch = collate([data[0, 0], data[0, 1]]).to(torch.device("cpu"))
    assert batch.queries == [("low", "high")] * 2 and batch.caption == ["both"] * 2 and batch.label == ["x"] * 2
    assert batch.phrases == [(Phrase("low", 0.5),)] * 2 and batch.text == ["said"] * 2 and batch.ids == ["id0", "id1"]


def test_a_fixed_number_of_phrases_is_drawn_anew_each_time_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    manifest = fixed(tmp_path)
    said = [tuple(Phrase(f"sound {k}") for k in range(count)) for count in (5, 1)]
    manifest.rows = [replace(row, phrases=said[i % 2], caption="all") for i, row in enumerate(manifest.rows)]
    data = FixedMixtures(manifest, RATE, 0.25, 0, False, needs={"phrases"}, n_phrases=3, crops="one")
    drawn = []
    for epoch in range(6):
        examples = {e.id: e for e in (data[epoch, index] for index in range(2))}
        batch = collate([examples["id0"], examples["id1"]])
        assert batch.incomplete == [True, False] and [len(own) for own in batch.phrases] == [3, 3]
        assert batch.phrases[1] == (Phrase("sound 0", 1 / 3),) * 3
        assert batch.files == [("0/mix.wav",), ("1/mix.wav",)]
        drawn.append(batch.phrases[0])
        assert collate([data[epoch, 0]]).phrases == collate([data[epoch, 0]]).phrases
    assert len(set(drawn)) > 1 and all(len(set(own)) == 3 for own in drawn)


@pytest.mark.parametrize(
    ("words", "need", "said"),
    [
        ({}, "queries", "item id0 has none"),
        ({"queries": ("low",)}, "queries", "1 queries for 2 sources"),
        ({"queries": ("low", "")}, "queries", "query 2 is empty"),
        ({"queries": ("low", "high")}, "caption", "reads caption and item id0 has none"),
    ],
)
def test_missing_words_are_said_before_training(
    tmp_path: Path, words: dict[str, tuple[str, ...]], need: str, said: str
) -> None:
    manifest = fixed(tmp_path)
    manifest.rows = [replace(row, **words) for row in manifest.rows]
    with pytest.raises(ConfigError, match=said):
        FixedMixtures(manifest, RATE, 0.25, 0, True, needs={"mix", need})


def test_dynamic_mixtures_bring_the_query_of_every_source(tmp_path: Path) -> None:
    """Utterances of other queries are never joined to a source; without queries the draws are what they were."""
    plain = pool(tmp_path, ["dog", "dog", "rain", "rain"], frames=1000)
    asked = replace(plain, rows=[replace(r, query=f"{r.speaker} {i % 2}") for i, r in enumerate(plain.rows)])
    options = {"join_prob": 1.0, "level_db": 0.0}
    data = DynamicMixtures([asked], RATE, 0.5, 0, 4, needs={"mix", "queries"}, **options)
    query = {asked.resolve(row.path): row.query for row in asked.rows}
    heard: list[Path] = []
    read = data.store.segment
    data.store.segment = lambda path, *place: heard.append(path) or read(path, *place)  # type: ignore[method-assign]
    for i in range(8):
        heard.clear()
        example = data[0, i]
        assert len(example.queries) == 2 and {q.split()[0] for q in example.queries} == {"dog", "rain"}
        assert {query[path] for path in heard} == set(example.queries)
        # The class beside each query, so that another phrase for the same class is not taken for an absent sound.
        assert example.label.split(";") == [asked_for.split()[0] for asked_for in example.queries]
    bare = DynamicMixtures([plain], RATE, 0.5, 0, 4, **options)[0, 0]
    assert bare.queries == () and bare.label == ""
    with pytest.raises(ConfigError, match=r"u0 has none; fill in the column 'query'"):
        DynamicMixtures([plain], RATE, 0.5, 0, 4, needs={"queries"})
    with pytest.raises(ConfigError, match="reads caption, which only fixed mixtures have"):
        DynamicMixtures([asked], RATE, 0.5, 0, 4, needs={"caption"})
