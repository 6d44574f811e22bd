"""Sums of two held-out mixtures: which ones, what is opened, what they score."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from usepcli.audio import io
from usepcli.data.items import Reader
from usepcli.data.manifest import Manifest, Row
from usepcli.engine.scoring import momi
from usepcli.errors import BadInput
from usepcli.models.separator import SeparationModel

RATE = 8000


class Shares(SeparationModel):
    """Outputs fixed shares of the mixture: nothing is separated."""

    def __init__(self, shares: tuple[float, ...] = (0.5, 0.5), rate: int = RATE) -> None:
        super().__init__(n_src=len(shares), sample_rate=rate, hop=1)
        self.shares = torch.nn.Parameter(torch.tensor(shares))

    def estimate(self, mix: Tensor) -> Tensor:
        return self.shares[:, None] * mix[:, None]


class Bands(SeparationModel):
    """Splits the spectrum at `cut` Hz: separates low from high voices perfectly where they do not overlap."""

    def __init__(self, cut: float, rate: int = RATE) -> None:
        super().__init__(n_src=2, sample_rate=rate, hop=1)
        self.cut = cut / (rate / 2)
        self.weight = torch.nn.Parameter(torch.ones(()))

    def estimate(self, mix: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(mix)
        low = torch.linspace(0, 1, spectrum.shape[-1]) < self.cut
        return self.weight * torch.stack([torch.fft.irfft(spectrum * m, mix.shape[-1]) for m in (low, ~low)], 1)


class Piece:
    """Something as long as its samples, with queries."""

    def __init__(self, length: int, queries: tuple[str, ...] = ()) -> None:
        self.length, self.queries = length, queries

    def __len__(self) -> int:
        return self.length


def tones(root: Path, lengths: tuple[int, ...], rate: int = RATE, sources: bool = False) -> Manifest:
    """Write mixtures of one tone each, 500 and 2500 Hz in turn, and return them."""
    rows = []
    for i, length in enumerate(lengths):
        wave = 0.25 * np.sin(2 * np.pi * (500, 2500)[i % 2] * np.arange(length) / rate)
        io.write(root / f"{i}.wav", wave.astype(np.float32), rate, subtype="FLOAT")
        rows.append(Row(f"t{i}", "valid", f"{i}.wav", (f"{i}.wav",) if sources else (), "", rate, length, 1))
    return Manifest(rows, root, root / "manifest.csv")


def score(manifest: Manifest, seconds: float = 0) -> float:
    return float(momi.score_moms(Bands(1500), manifest, [(0, 1)], seconds=seconds)[0]["momi"])


@given(st.integers(0, 60), st.integers(0, 40), st.integers(0, 5))
def test_pairs_are_disjoint_fixed_and_as_many_as_asked(n_items: int, n_pairs: int, seed: int) -> None:
    pairs = momi.mom_pairs(n_items, n_pairs, seed)
    flat = [i for pair in pairs for i in pair]
    assert len(pairs) == min(n_pairs, n_items // 2) and len(set(flat)) == len(flat)
    assert set(flat) <= set(range(n_items))
    assert pairs == momi.mom_pairs(n_items, n_pairs, seed)
    assert pairs == momi.mom_pairs(n_items, n_items, seed)[:n_pairs], "fewer pairs are the first of more"


def test_pairs_depend_on_the_seed() -> None:
    assert momi.mom_pairs(40, 20, 0) != momi.mom_pairs(40, 20, 1)


def test_tones_in_different_bands_are_told_apart(tmp_path: Path) -> None:
    manifest = tones(tmp_path, (4000, 4000, 4000, 4000), sources=True)
    row, other = momi.score_moms(Bands(1500), manifest, [(0, 1), (2, 3)])
    # The sum holds both at one level: 0 dB unprocessed; a perfect output is bounded far above 60 dB.
    assert row["id"] == "t0+t1" and row["momi"] > 60 and row["msi"] == pytest.approx(row["momi"])
    assert other["momi"] == pytest.approx(row["momi"], abs=1)
    assert momi.score_moms(Shares(), manifest, [(0, 1)])[0]["momi"] == pytest.approx(0, abs=1e-4)


def test_sources_are_opened_only_when_asked(corpus: Path) -> None:
    manifest = Manifest.read(corpus).split("valid")
    with_sources = momi.score_moms(Shares((0.2, 0.3, 0.4, 0.1)), manifest, [(0, 1)])[0]
    assert math.isfinite(with_sources["msi"])
    for row in manifest.rows:
        for source in row.sources:
            manifest.resolve(source).unlink()
    without = momi.score_moms(Shares((0.2, 0.3, 0.4, 0.1)), manifest, [(0, 1)], sources=False)[0]
    assert without["momi"] == with_sources["momi"] and math.isnan(without["msi"])


def test_too_few_outputs_leave_msi_open(corpus: Path) -> None:
    assert math.isnan(momi.score_moms(Shares(), Manifest.read(corpus), [(0, 1)])[0]["msi"])


def test_longer_mixtures_are_cut_and_other_rates_resampled(tmp_path: Path) -> None:
    manifest = tones(tmp_path / "a", (4000, 6000))
    cut = tones(tmp_path / "b", (4000, 4000))
    assert score(manifest) == score(cut)
    assert score(manifest, 0.25) == score(tones(tmp_path / "c", (2000, 2000)))
    twice = tones(tmp_path / "d", (8000, 12000), rate=2 * RATE)
    assert len(Reader(twice, RATE, 0.5).whole(twice.rows[1]).mix) == 4000
    assert score(twice) > 30


def test_a_row_without_a_mixture_file_scores_as_one_with_it(corpus: Path) -> None:
    manifest = Manifest.read(corpus).split("valid")
    summed = replace(manifest, rows=[replace(row, mixture="") for row in manifest.rows])
    model, pairs = Shares((0.2, 0.3, 0.4, 0.1)), [(0, 1)]
    assert momi.score_moms(model, summed, pairs) == momi.score_moms(model, manifest, pairs)


def test_batches_hold_neighbours_of_one_length() -> None:
    waves = [Piece(n) for n in (5, 5, 5, 7, 5)]
    assert [len(b) for b in momi.batches(waves, RATE, "cpu")] == [1] * 5
    assert [[len(w) for w in b] for b in momi.batches(waves, RATE, "cuda")] == [[5, 5, 5], [7], [5]]
    assert [len(b) for b in momi.batches([Piece(40 * RATE)] * 2, RATE, "cuda")] == [1, 1]
    asked = [Piece(5, queries) for queries in (("a",), ("a",), ("b",))]
    assert [len(b) for b in momi.batches(asked, RATE, "cuda")] == [2, 1]


def test_the_model_comes_back_as_it_was() -> None:
    model = Shares().train()
    est = momi.separate(model, torch.ones(1, 10), "cpu")
    assert model.training and not est.requires_grad and est.shape == (1, 2, 10)


def test_more_outputs_than_can_be_dealt_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="20 outputs"):
        momi.score_moms(Shares((0.05,) * 20), tones(tmp_path, (100, 100)), [(0, 1)])


def test_a_pair_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    manifest = tones(tmp_path, (800, 800, 800, 800))
    (tmp_path / "2.wav").write_bytes(b"RIFF no more")
    rows = momi.score_moms(Bands(1500), manifest, [(0, 2), (1, 3)])
    assert [row["id"] for row in rows] == ["t1+t3", "t0+t2"]
    assert math.isfinite(rows[0]["momi"]) and math.isnan(rows[1]["momi"])
    assert "2.wav" in rows[1]["reason"] and "reason" not in rows[0]
    with pytest.raises(BadInput, match=r"no sum of two mixtures can be made; the first, .*2\.wav"):
        momi.score_moms(Bands(1500), manifest, [(0, 2)])
