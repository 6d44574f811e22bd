from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from usepcli.audio import io
from usepcli.data.manifest import Manifest, Row
from usepcli.engine.scoring import evaluate, systems
from usepcli.engine.scoring.protocols import PROTOCOLS
from usepcli.engine.scoring.scoring import failures, metric
from usepcli.errors import BadInput, InputNotFound
from usepcli.models.separator import SeparationModel
from usepcli.weights import build

RATE = 8000
METRICS = ["si-snri", "sdri"]


class Crossover(SeparationModel):
    """Separates what lies above 1 kHz from what lies below: an oracle for the items made here."""

    def __init__(self) -> None:
        super().__init__(n_src=2, sample_rate=RATE, hop=1)
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.shapes: list[tuple[int, ...]] = []

    def estimate(self, mix: Tensor) -> Tensor:
        self.shapes.append(tuple(mix.shape))
        spec = torch.fft.rfft(mix)
        low = torch.fft.rfftfreq(mix.shape[-1], 1 / RATE) < 1000
        return torch.fft.irfft(torch.stack([spec * ~low, spec * low], 1), mix.shape[-1])


def band(low: float, high: float, frames: int, seed: int, rate: int = RATE) -> np.ndarray:
    spec = np.fft.rfft(np.random.default_rng(seed).standard_normal(frames))
    hertz = np.fft.rfftfreq(frames, 1 / rate)
    # 40 dB less outside, not nothing: filters of 512 taps have no single answer for an empty band.
    wave = np.fft.irfft(np.where((hertz > low) & (hertz < high), spec, 0.01 * spec), frames)
    return (0.1 * wave / wave.std()).astype(np.float32)


def make_set(root: Path, lengths: list[int], rate: int = RATE) -> Manifest:
    """Two-source items, the low band first, of the given lengths in samples."""
    rows = []
    for i, frames in enumerate(lengths):
        item = f"item{i}"
        low, high = band(100, 800, frames, i, rate), band(1200, 3000, frames, 100 + i, rate)
        for name, wave in {"mix": low + high, "s1": low, "s2": high}.items():
            io.write(root / item / f"{name}.wav", wave, rate, subtype="FLOAT")
        names = (f"{item}/s1.wav", f"{item}/s2.wav")
        rows.append(Row(item, "test", f"{item}/mix.wav", names, sample_rate=rate, frames=frames, n_src=2))
    return Manifest(rows, root, root / "manifest.csv")


def test_an_oracle_scores_high_whatever_its_output_order(tmp_path: Path) -> None:
    rows = evaluate.score_model(Crossover(), make_set(tmp_path, [4000, 3000]), METRICS)
    assert [(row["id"], row["source"], row["n_src"]) for row in rows] == [
        (item, source, 2) for item in ("item0", "item1") for source in ("s1", "s2")
    ]
    assert list(rows[0]) == ["id", "source", "n_src", *METRICS, "reason"]
    assert all(row["si-snri"] > 25 and row["sdri"] > 25 and row["reason"] == "" for row in rows)


def test_doing_nothing_improves_nothing(tmp_path: Path) -> None:
    class Nothing(Crossover):
        def estimate(self, mix: Tensor) -> Tensor:
            return torch.stack([mix, mix], 1) / 2

    rows = evaluate.score_model(Nothing(), make_set(tmp_path, [4000]), METRICS)
    for row in rows:
        assert row["si-snri"] == pytest.approx(0, abs=1e-4)
        assert row["sdri"] == pytest.approx(0, abs=1e-4)


def test_batches_change_neither_order_nor_scores(tmp_path: Path) -> None:
    """Device cpu:0 takes the batched path of a GPU."""
    manifest = make_set(tmp_path, [3000, 4000, 3000, 4000, 3000])
    single, batched = Crossover(), Crossover()
    one = evaluate.score_model(single, manifest, ["si-snr"])
    many = evaluate.score_model(batched, manifest, ["si-snr"], device="cpu:0", batch_seconds=2 * 3000 / RATE)
    assert set(single.shapes) == {(1, 3000), (1, 4000)}
    assert batched.shapes == [(2, 3000), (1, 3000), (1, 4000), (1, 4000)]
    assert [row["id"] for row in many] == [row["id"] for row in one]
    for a, b in zip(one, many, strict=True):
        assert a["si-snr"] == pytest.approx(b["si-snr"], abs=1e-2)


def test_items_beyond_the_memory_of_the_device_are_cut_into_chunks_and_said(tmp_path: Path) -> None:
    class Small(Crossover):
        def estimate(self, mix: Tensor) -> Tensor:
            if mix.shape[-1] > 20_000:
                raise torch.OutOfMemoryError("too long")
            return super().estimate(mix)

    said: list[str] = []
    rows = evaluate.score_model(Small(), make_set(tmp_path, [40_000, 8000, 40_000]), ["si-snr"], say=said.append)
    assert all(row["si-snr"] > 25 for row in rows)
    assert len(said) == 1 and said[0].startswith("item0: too long for the memory of cpu"), said


def test_long_items_go_through_whole_where_they_fit(tmp_path: Path) -> None:
    model = Crossover()
    evaluate.score_model(model, make_set(tmp_path, [30 * RATE]), ["si-snr"])  # chunks of `separate` are 10 s
    assert model.shapes == [(1, 30 * RATE)]


def test_a_stale_length_in_the_manifest_breaks_no_batch(tmp_path: Path) -> None:
    manifest = make_set(tmp_path, [3000, 4000])
    manifest.rows = [Row(**{**row.__dict__, "frames": 3000}) for row in manifest.rows]
    rows = evaluate.score_model(Crossover(), manifest, ["si-snr"], device="cpu:0")
    assert [row["si-snr"] > 25 for row in rows] == [True, True, False, False] and failures(rows) == ["item1"]
    assert rows[0]["reason"] == "" and "longer than the list says, 4000" in rows[2]["reason"]


def test_workers_give_the_same_rows_and_leave_the_environment_alone(tmp_path: Path) -> None:
    manifest = make_set(tmp_path, [3000, 4000, 3500])
    before = dict(os.environ)
    alone = evaluate.score_model(Crossover(), manifest, METRICS)
    spread = evaluate.score_model(Crossover(), manifest, METRICS, workers=1)
    for a, b in zip(alone, spread, strict=True):
        assert a == pytest.approx(b, abs=1e-6)
    assert dict(os.environ) == before


def test_other_rates_are_resampled_and_said_once(tmp_path: Path) -> None:
    said: list[str] = []
    manifest = make_set(tmp_path, [8000, 8000], rate=16000)
    model = Crossover()
    rows = evaluate.score_model(model, manifest, ["si-snri"], say=said.append)
    assert set(model.shapes) == {(1, 4000)}
    assert all(row["si-snri"] > 20 for row in rows)
    assert len(said) == 1 and "16000 Hz" in said[0] and "8000 Hz" in said[0]


def test_the_model_comes_back_in_its_mode_and_limit_counts_items(tmp_path: Path) -> None:
    model = Crossover().train()
    counted: list[int] = []

    def track(items: object, total: int) -> object:
        counted.append(total)
        return items

    rows = evaluate.score_model(model, make_set(tmp_path, [3000, 3000]), ["snr"], limit=1, track=track)  # type: ignore[arg-type]
    assert model.training and {row["id"] for row in rows} == {"item0"} and counted == [1]


def test_a_real_tiny_model_scores_deterministically(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build.model({"name": "conformer_mask", "preset": "tiny", "n_src": 2, "sample_rate": RATE}).eval()
    manifest = make_set(tmp_path, [2000])
    once, again = (evaluate.score_model(model, manifest, ["si-snri"]) for _ in range(2))
    assert once == again and all(math.isfinite(row["si-snri"]) for row in once)


def test_silent_source_of_an_item_is_a_row_with_a_reason(tmp_path: Path) -> None:
    manifest = make_set(tmp_path, [3000])
    io.write(tmp_path / "item0/s2.wav", np.zeros(3000, np.float32), RATE, overwrite=True)
    rows = evaluate.score_model(Crossover(), manifest, ["si-snr", "sdr"])
    assert [row["reason"] for row in rows] == ["", "silent reference"]
    assert math.isnan(rows[1]["sdr"]) and math.isfinite(rows[0]["sdr"])


@pytest.mark.parametrize("protocol", [None, "fuss-google"])
def test_the_sum_of_the_sources_is_the_mixture_where_no_file_is_listed(tmp_path: Path, protocol: str | None) -> None:
    manifest = make_set(tmp_path, [3000, 4000])
    summed = replace(manifest, rows=[replace(row, mixture="") for row in manifest.rows])
    asked = {"protocol": PROTOCOLS[protocol]} if protocol else {}
    metrics = [] if protocol else ["si-snri"]
    one, other = (evaluate.score_model(Crossover(), m, metrics, unprocessed=True, **asked) for m in (manifest, summed))
    assert [{k: repr(v) for k, v in row.items()} for row in one] == [{k: repr(v) for k, v in r.items()} for r in other]


def test_files_of_a_manifest_without_mixtures_are_heard_beside_the_sum(tmp_path: Path) -> None:
    manifest = make_set(tmp_path / "ref", [3000])
    for k in (1, 2):
        wave, rate = io.read_mono(tmp_path / f"ref/item0/s{k}.wav")
        io.write(tmp_path / f"est/item0/s{k}.wav", wave, rate)
    summed = replace(manifest, rows=[replace(row, mixture="") for row in manifest.rows])
    one, other = (systems.of_manifest_files(tmp_path / "est", m).signals("item0") for m in (manifest, summed))
    assert one.mix is not None and other.mix is not None
    np.testing.assert_allclose(one.mix, other.mix, atol=1e-6)


def test_items_without_references_or_without_items_are_refused(tmp_path: Path) -> None:
    manifest = make_set(tmp_path, [3000])
    manifest.rows = [Row("bare", "test", "item0/mix.wav", (), sample_rate=RATE, frames=3000)]
    with pytest.raises(BadInput, match=r"bare has no sources; a score needs references"):
        evaluate.score_model(Crossover(), manifest, ["si-snr"])
    manifest.rows = []
    with pytest.raises(BadInput, match="no items"):
        evaluate.score_model(Crossover(), manifest, ["si-snr"])


@pytest.mark.parametrize("layout", ["s{k}/{i}.wav", "{i}/s{k}.wav", "{i}_{k}.wav", "{i}_s{k}.wav"])
def test_folders_in_every_layout_with_outputs_in_any_order(tmp_path: Path, layout: str) -> None:
    make_set(tmp_path / "ref", [3000, 4000])
    for i in ("item0", "item1"):
        for k, name in ((1, "s2"), (2, "s1"), (3, "mix")):
            wave, rate = io.read_mono(tmp_path / "ref" / i / f"{name}.wav")
            noise = 0.001 * np.random.default_rng(k).standard_normal(len(wave)).astype(np.float32)
            io.write(tmp_path / "est" / layout.format(i=i, k=k), wave + noise, rate, subtype="FLOAT")
    said: list[str] = []
    rows = evaluate.score_folders(
        tmp_path / "est", tmp_path / "ref", tmp_path / "ref", ["si-snr", "si-snri"], say=said.append
    )
    assert [(row["id"], row["source"]) for row in rows] == [(f"item{i}", f"s{k}") for i in (0, 1) for k in (1, 2)]
    assert all(row["si-snr"] == pytest.approx(40, abs=0.5) and row["reason"] == "" for row in rows)
    assert "2 items" in said[1]


def test_unequal_lengths_are_trimmed_and_noted(tmp_path: Path) -> None:
    make_set(tmp_path / "ref", [3000])
    for k in (1, 2):
        wave, rate = io.read_mono(tmp_path / f"ref/item0/s{k}.wav")
        io.write(tmp_path / f"est/item0_{k}.wav", wave[: 2900 + k], rate)
    rows = evaluate.score_folders(tmp_path / "est", tmp_path / "ref", None, ["si-snr"])
    assert all(row["reason"] == "trimmed from 3000 to 2901 samples" and row["si-snr"] > 50 for row in rows)


def test_unequal_rates_are_refused(tmp_path: Path) -> None:
    make_set(tmp_path / "ref", [3000])
    make_set(tmp_path / "est", [6000], rate=16000)
    with pytest.raises(BadInput, match=r"8000 Hz but .*16000 Hz"):
        evaluate.score_folders(tmp_path / "est", tmp_path / "ref", None, ["si-snr"])


def test_an_item_that_cannot_be_scored_is_a_row_that_says_why(tmp_path: Path) -> None:
    manifest = make_set(tmp_path, [3000, 3000, 3000])
    (tmp_path / "item1/s2.wav").write_bytes(b"RIFF no more")
    rows = evaluate.score_model(Crossover(), manifest, ["si-snr"])
    assert [row["id"] for row in rows] == ["item0"] * 2 + ["item1"] * 2 + ["item2"] * 2
    assert [math.isfinite(row["si-snr"]) for row in rows] == [True, True, False, False, True, True]
    assert all("item1/s2.wav" in row["reason"] for row in rows[2:4]) and failures(rows) == ["item1"]
    with pytest.raises(BadInput, match=r"item1/s2\.wav"):  # who asks for the signals hears of it
        list(evaluate.separated(Crossover(), manifest))


def test_a_model_that_fails_on_one_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Crossover):
        """Fails on items of 2000 samples, and makes no numbers of those of 1000."""

        def estimate(self, mix: torch.Tensor) -> torch.Tensor:
            if mix.shape[-1] == 2000:
                raise RuntimeError("a shape that nobody foresaw")
            return super().estimate(mix) * (math.nan if mix.shape[-1] == 1000 else 1)

    rows = evaluate.score_model(Odd(), make_set(tmp_path, [3000, 2000, 1000]), ["si-snr"])
    assert failures(rows) == ["item1"] and "RuntimeError: a shape" in rows[2]["reason"]
    assert math.isfinite(rows[0]["si-snr"]) and rows[4]["reason"] == "si-snr: estimate not finite"


@pytest.mark.parametrize("workers", [0, 1])
def test_folders_with_a_broken_and_an_incomplete_item(tmp_path: Path, workers: int) -> None:
    make_set(tmp_path / "ref", [3000, 3000, 3000])
    make_set(tmp_path / "est", [3000, 3000, 3000])
    for i in range(3):
        (tmp_path / f"est/item{i}/mix.wav").unlink()
    (tmp_path / "est/item1/s1.wav").unlink()
    wave = np.full(3000, np.nan, np.float32)
    soundfile.write(tmp_path / "est/item2/s1.wav", wave, RATE, subtype="FLOAT")
    rows = evaluate.score_folders(tmp_path / "est", tmp_path / "ref", None, ["si-snr"], workers=workers)
    assert failures(rows) == ["item1", "item2"] and len(rows) == 6 and rows[0]["reason"] == ""
    assert "1 estimates for 2" in rows[2]["reason"] and "3000 samples are NaN" in rows[4]["reason"]


def test_an_item_too_short_for_stoi_keeps_its_other_scores(tmp_path: Path) -> None:
    pytest.importorskip("pystoi")
    rows = evaluate.score_model(Crossover(), make_set(tmp_path, [100, 8000]), ["si-snr", "stoi"])
    assert all(math.isfinite(row["si-snr"]) for row in rows) and not failures(rows)
    assert [math.isfinite(row["stoi"]) for row in rows] == [False, False, True, True]
    assert rows[0]["reason"] == "stoi: less than 0.4 s of reference that is not silent" and rows[2]["reason"] == ""


def test_a_metric_that_fails_leaves_the_others_their_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise IndexError("axis 2 is out of bounds")

    monkeypatch.setattr(metric("snr"), "score", fail)
    rows = evaluate.score_model(Crossover(), make_set(tmp_path, [3000]), ["snr", "si-snr"])
    assert all(math.isnan(row["snr"]) and math.isfinite(row["si-snr"]) for row in rows)
    assert rows[0]["reason"].startswith("snr: IndexError: axis 2 is out of bounds")


def test_missing_estimates_are_failures_or_left_out_by_intent(tmp_path: Path) -> None:
    make_set(tmp_path / "ref", [3000, 3000])
    make_set(tmp_path / "est", [3000])
    rows = evaluate.score_folders(tmp_path / "est", tmp_path / "ref", None, ["si-snr"])
    assert failures(rows) == ["item1"] and rows[2]["reason"] == "not scored: no estimate"
    rows = evaluate.score_folders(tmp_path / "est", tmp_path / "ref", None, ["si-snr"], skip_missing=True)
    assert [row["reason"] for row in rows] == ["", "", "no estimate", "no estimate"]
    assert evaluate.summary(rows, ["si-snr"])[0]["missing"] == 2
    both = (tmp_path / "est", tmp_path / "ref")
    rows = evaluate.score_folders(*both, tmp_path / "est", ["si-snri"], skip_missing=True)
    assert not failures(rows)
    make_set(tmp_path / "elsewhere", [3000]).path.parent.joinpath("item0").rename(tmp_path / "elsewhere/other")
    with pytest.raises(InputNotFound, match="no mixture for any of 2 items, the first is item0"):
        evaluate.score_folders(*both, tmp_path / "elsewhere", ["si-snri"])
    with pytest.raises(InputNotFound, match="no estimates for any of 2 items, the first is item0"):
        evaluate.score_folders(tmp_path / "elsewhere", tmp_path / "ref", None, ["si-snr"])
