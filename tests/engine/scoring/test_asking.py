"""Scores of models by query: each item is asked for its own sources, and no permutation mends a wrong answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from usepcli.audio import io
from usepcli.data.manifest import Manifest, Row
from usepcli.engine.scoring import asking, evaluate, fuss_scores, momi
from usepcli.engine.scoring.protocols import PROTOCOLS
from usepcli.engine.scoring.scoring import Signals, score_signals
from usepcli.engine.training import health
from usepcli.errors import BadInput
from usepcli.metrics import momi as figures
from usepcli.models.queried import Conditions, QueriedModel
from usepcli.models.separator import SeparationModel
from usepcli.separator.how import Trace
from usepcli.separator.presence import Evidence
from usepcli.separator.separator import Separator
from usepcli.weights.cards import Calibration, Card

RATE = 8000
TONES = {"low": 300, "middle": 1000, "high": 3000}


class Bands(QueriedModel):
    """Knows what its words mean: gives the octave around the frequency that a query names."""

    def __init__(self) -> None:
        super().__init__(sample_rate=RATE, hop=1)
        self.weight = nn.Parameter(torch.ones(()))

    def encode(self, queries: Sequence[str]) -> Conditions:
        return (torch.tensor([float(TONES[query]) for query in queries]),)

    def estimate(self, mix: Tensor, *conditions: Tensor) -> Tensor:
        spectrum, hertz = torch.fft.rfft(mix), torch.fft.rfftfreq(mix.shape[-1], 1 / RATE)
        ratio = hertz / conditions[0][..., None]  # (B, N, F)
        mask = (ratio > 0.7) & (ratio < 1.4)
        return self.weight * torch.fft.irfft(mask * spectrum[:, None], mix.shape[-1])


class AllBands(SeparationModel):
    """Gives the same octaves, all of them, without being asked."""

    def __init__(self) -> None:
        super().__init__(n_src=len(TONES), sample_rate=RATE, hop=1)
        self.net = Bands()

    def estimate(self, mix: Tensor) -> Tensor:
        return self.net.estimate(mix, *(part[None] for part in self.net.encode(list(TONES))))


def tone(name: str, frames: int, phase: float = 0.0) -> np.ndarray:
    time = np.arange(frames) / RATE
    return (0.2 * np.sin(2 * np.pi * TONES[name] * time + phase)).astype(np.float32)


def manifest(root: Path, *asked: tuple[str, ...], frames: int = 4000) -> Manifest:
    """One mixture for each tuple of queries, whose sources are the tones of these names."""
    rows = []
    for i, queries in enumerate(asked):
        for k, query in enumerate(queries):
            io.write(root / f"{i}_{k}.wav", tone(query, frames, i), RATE, "FLOAT")
        sources = tuple(f"{i}_{k}.wav" for k in range(len(queries)))
        rows.append(Row(f"m{i}", "test", "", sources, "", RATE, frames, len(queries), queries=queries))
    return Manifest(rows, root, root / "manifest.csv")


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
def test_each_item_is_asked_for_its_own_sources(tmp_path: Path, device: str) -> None:
    """Device cpu:0 takes the batched path of a GPU: equal lengths, and not always equal queries."""
    data = manifest(tmp_path, ("low", "high"), ("low", "high"), ("high", "middle", "low"), ("middle",), ("high", "low"))
    rows = evaluate.score_model(Bands(), data, ["si-snr"], device=device)
    assert [(row["id"], row["source"]) for row in rows] == [
        (row.id, f"s{k + 1}") for row in data.rows for k in range(len(row.sources))
    ]
    assert all(row["si-snr"] > 30 for row in rows)
    assert momi.score_moms(Bands(), data, [(0, 2)])[0]["id"] == "m0+m2"


def test_a_model_that_is_not_asked_stands_beside_one_that_is(tmp_path: Path) -> None:
    """Which of its outputs a query means is found by what fits best; words do not matter to it."""
    data = manifest(tmp_path, ("low", "high"), ("high", "middle", "low"), ("middle",))
    asked, unasked = (evaluate.score_model(model, data, ["si-snr", "sdr"]) for model in (Bands(), AllBands()))
    for one, other in zip(asked, unasked, strict=True):
        assert (one["id"], one["source"]) == (other["id"], other["source"])
        assert other["si-snr"] == pytest.approx(one["si-snr"], abs=1e-3) and other["si-snr"] > 30
    turned = replace(data, rows=[replace(row, queries=row.queries[::-1]) for row in data.rows])
    again = evaluate.score_model(AllBands(), turned, ["si-snr", "sdr"])
    assert [row["sdr"] for row in again] == [row["sdr"] for row in unasked]
    means = [evaluate.summary(rows, ["sdr"])[0] for rows in (asked, unasked)]
    assert means[0]["mean"] == pytest.approx(means[1]["mean"], abs=1e-2) and means[0]["n"] == means[1]["n"]


def test_a_wrong_answer_is_not_taken_for_another_query(tmp_path: Path) -> None:
    data = manifest(tmp_path, ("low", "high"))
    swapped = replace(data, rows=[replace(data.rows[0], queries=("high", "low"))])
    assert all(row["si-snr"] < -20 for row in evaluate.score_model(Bands(), swapped, ["si-snr"]))
    for protocol in PROTOCOLS.values():
        right, wrong = (
            [row["si-snr"] for row in evaluate.score_model(Bands(), m, [], protocol=protocol)] for m in (data, swapped)
        )
        assert min(right) > 20 > -20 > max(wrong)


def test_items_that_cannot_be_asked_are_named(tmp_path: Path) -> None:
    data = manifest(tmp_path, ("low", "high"))
    for queries, said in (((), "no queries"), (("low",), "1 queries for 2 sources"), (("low", ""), "query 2 is empty")):
        data.rows = [replace(data.rows[0], queries=queries)]
        with pytest.raises(BadInput, match=f"item m0: {said}"):
            evaluate.score_model(Bands(), data, ["si-snr"])


def test_sums_of_two_mixtures_are_asked_for_the_sources_of_both(tmp_path: Path) -> None:
    data = manifest(tmp_path, ("low", "high"), ("middle",))
    (row,) = momi.score_moms(Bands(), data, [(0, 1)])
    assert row["momi"] > 25 and row["msi"] > 25
    data.rows[1] = replace(data.rows[1], queries=("low",))  # the first mixture's source, once more
    (wrong,) = momi.score_moms(Bands(), data, [(0, 1)])
    assert wrong["momi"] < row["momi"] - 20 and wrong["msi"] < row["msi"] - 20


def test_health_of_answers_is_that_of_each_mixture(tmp_path: Path) -> None:
    data = manifest(tmp_path, ("low", "high"), ("high", "middle", "low"), ("middle",))
    found = health.from_mixtures(Bands(), data, teacher=Bands())
    assert found["loudest_share"] == pytest.approx((1 / 2 + 1 / 3) / 2, abs=0.01)
    assert found["silent_share"] == 0 and found["teacher_agreement"] == pytest.approx(60, abs=5)


def signals(order: list[int], ordered: bool) -> Signals:
    waves = np.stack([tone(name, 4000) for name in TONES])
    ref = waves.copy()
    ref[1] = 0
    return Signals("x", ("s1", "s2", "s3"), waves[order], ref, waves.sum(0), rate=RATE, ordered=ordered)


def test_ordered_estimates_keep_their_places_beside_a_silent_reference() -> None:
    right = score_signals(signals([0, 1, 2], True), ["si-snr"])
    assert [row["reason"] for row in right] == ["", "silent reference", ""] and right[0]["si-snr"] > 100
    turned = score_signals(signals([2, 1, 0], True), ["si-snr"])
    assert turned[0]["si-snr"] < -20 and turned[2]["si-snr"] < -20 and math.isnan(turned[1]["si-snr"])
    assert score_signals(signals([2, 1, 0], False), ["si-snr"])[0]["si-snr"] > 100
    protocol = PROTOCOLS["fuss-google"]
    assert fuss_scores.score_item(signals([2, 1, 0], True), protocol)[0]["si-snr"] < -20
    assert fuss_scores.score_item(signals([2, 1, 0], False), protocol)[0]["si-snr"] > 50
    with pytest.raises(BadInput, match="2 answers for 3 references"):
        score_signals(signals([0, 2, 1], True)._replace(est=np.zeros((2, 4000))), ["si-snr"])


def test_known_owners_and_a_known_order_leave_nothing_to_choose() -> None:
    waves = np.stack([tone(name, 4000) for name in TONES]).astype(np.float64)
    mixtures = np.stack([waves[0], waves[1] + waves[2]])
    assert figures.momi(waves, mixtures, [0, 1, 1]) == pytest.approx(figures.momi(waves, mixtures))
    assert figures.momi(waves, mixtures, [1, 0, 1]) < figures.momi(waves, mixtures) - 20
    whole, turned = waves.sum(0), waves[::-1]
    assert figures.msi(turned, waves, whole) > 60 > -20 > figures.msi(turned, waves, whole, True)
    assert math.isnan(figures.msi(waves[:2], waves, whole, True))


def scenes(root: Path) -> Manifest:
    """Thirty mixtures of one or two of the three tones."""
    return manifest(root, *[("low", "high"), ("middle",), ("middle", "low")] * 10)


def test_a_calibration_tells_what_is_there_from_what_is_not(tmp_path: Path) -> None:
    data = scenes(tmp_path)
    rows = asking.ask_all(Separator(Bands()), data)
    for row in data.rows:
        asked = {one["query"]: one["there"] for one in rows if one["id"] == row.id}
        assert {query for query, there in asked.items() if there} == set(row.queries)
        assert sum(not there for there in asked.values()) == min(len(row.queries), 3 - len(row.queries))
    assert asking.usual_window(data) == 0.5
    found = asking.calibrated(rows, "tones", 0.5)
    assert (found["present"], found["absent"], found["misses"], found["false_alarms"]) == (50, 40 - 10, 0, 0)
    judged = asking.ask_all(Separator(Bands(), Card(presence=found)), data, seed=7)
    assert all((row["presence"] > 0.5) is row["there"] for row in judged)
    assert [(row["metric"], row["mean"]) for row in asking.told(judged)] == [("misses", 0), ("false-alarms", 0)]
    with pytest.raises(BadInput, match="2 queries of its items and 1 of others; expected 20"):
        asking.calibrated([row for row in rows if row["id"] == "m0"], "tones", 0.5)


def test_an_item_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    data = scenes(tmp_path)
    (tmp_path / "0_1.wav").unlink()
    rows = asking.ask_all(Separator(Bands()), data)
    assert [row["id"] for row in rows if row["reason"]] == ["m0"] and len({row["id"] for row in rows}) == 30


def test_odds_are_those_of_two_normal_distributions() -> None:
    """z ~ N(m, s) of either kind: log odds (m1 - m0) z / s^2 - (m1^2 - m0^2) / (2 s^2), whatever the numbers of each.

    With 20,000 draws the weight 2 m / s^2 = 1 has a standard error of about 0.02; the ridge takes as much.
    """
    draw = np.random.default_rng(0)
    there = np.arange(20_000) % 4 == 0
    z = np.stack([draw.normal(np.where(there, 3.0, 1.0), math.sqrt(2)), draw.normal(size=len(there))], 1)
    weights, bias = asking.fitted(z, there)
    assert weights == pytest.approx([1, 0], abs=0.06) and bias == pytest.approx(-2, abs=0.12)
    assert Calibration(tuple(weights), bias, 1.0).odds([2.0, 0.0]) == pytest.approx(1, abs=0.1)


def test_evidence_counts_every_sample_once() -> None:
    """x = 1 for 2.5 s, an answer of 0.5 in the second second and none elsewhere; at once, and in overlapping chunks."""
    x, s = np.ones((1, 250), np.float32), np.zeros((2, 1, 250), np.float32)
    s[0, :, 100:200] = 0.5
    whole, parts = Evidence(2, 100), Evidence(2, 100)
    whole.push(0, x, s)
    for start, stop in ((0, 80), (60, 140), (120, 250)):
        parts.push(start, x[:, start:stop], s[:, :, start:stop])
    for found in (whole, parts):
        level, purity = 10 * math.log10(0.25 * 100 / 250), 10 * math.log10(0.5)
        assert found.loudest(2.0) == pytest.approx(np.array([[level, purity], [-60, -60]]))
        # Windows of one second begin every half, and the last holds what is over.
        each = found.measures(1.0)[:, 0, 0]
        assert each == pytest.approx([-60, *(10 * math.log10(0.25 * part) for part in (0.5, 1, 0.5))])
        assert found.loudest(1.0)[0] == pytest.approx([10 * math.log10(0.25), purity])
        # Odds that are the square of the share of power: 1/1000 at least, 1/64, 1/16 and 1/64.
        squares = Calibration((2 * math.log(10) / 10, 0.0), 0.0, 1.0)
        odds = (1 / 1000 + 1 / 64 + 1 / 16 + 1 / 64) / 4
        assert found.presence(squares)[0] == pytest.approx(odds / (1 + odds))
    silent = Evidence(1, 100)
    silent.push(0, 0 * x, 0 * s[:1])
    assert silent.presence(Calibration((0.0, 0.0), 9.0, 1.0)) == (0.0,) and not len(silent.measures(1.0))


def test_odds_of_a_long_recording_are_the_mean_of_its_windows() -> None:
    """A sound in one of 40 windows whose odds there are 1000 has odds of 25 in all; what never was clear stays so."""
    x, s = np.ones((1, 40 * 100), np.float32), np.full((2, 1, 40 * 100), 0.1, np.float32)
    s[0, :, :50] = 1
    evidence = Evidence(2, 50)
    evidence.push(0, x, s)
    clear = Calibration((1.0, 0.0), 10.0, 1.0)  # odds e^10, at most 1000, of all; e^-10, at least 1/1000, at -20 dB
    assert evidence.presence(clear) == pytest.approx((1000 / 79 / (1 + 1000 / 79), 0.001), rel=0.02)


def test_what_is_judged_absent_is_silent_and_in_the_residual() -> None:
    found = asking.calibrated(
        [
            {"id": str(k), "there": k % 2 == 0, "reason": "", "level": -3.0 - 40 * (k % 2), "purity": 0.0}
            for k in range(40)
        ],
        "made up",
        1.0,
    )  # fmt: skip
    wave = tone("low", 4000) + np.float32(1e-4) * tone("high", 4000)
    separator = Separator(Bands(), Card(presence=found))
    made = separator.ask(["low", "high"])(wave, RATE)
    assert made.presence[0] > 0.9 and made.presence[1] < 0.1 and not made.sources[1].any()
    assert np.array_equal(made.sources[0] + made.sources[2], wave) or np.abs(made.sources.sum(0) - wave).max() < 1e-7
    trace = Trace()
    kept = separator.ask(["low", "high"], always=True)(wave, RATE, trace=trace)
    assert kept.sources[1].any() and kept.presence == made.presence == separator.ask(["low", "high"]).presence(trace)
    assert Separator(Bands()).ask(["low", "high"])(wave, RATE).presence == ()
