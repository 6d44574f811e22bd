"""Scores of several channels: of each by itself, never of their sum, and said."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from usepcli.audio import io
from usepcli.cli.app import app
from usepcli.data.manifest import Manifest, Row
from usepcli.engine import tables
from usepcli.engine.scoring import channels, evaluate, momi, ordered, scoring
from usepcli.engine.scoring.fuss_scores import score_item
from usepcli.engine.scoring.protocols import PROTOCOLS
from usepcli.errors import PartialFailure
from usepcli.models.separator import SeparationModel

RATE, T = 8000, 8000
RNG = np.random.default_rng(11)
# Six signals of unit power at right angles: the true scores are closed formulae.
A, B, N1, N2, N3, N4 = np.linalg.qr(RNG.standard_normal((T, 6)))[0].T * 0.1 * math.sqrt(T)
NOISE = np.stack([[N1, N2], [N3, N4]])  # (K, C, T)
NOTHING = np.zeros(T)


def item(ref: np.ndarray, est: np.ndarray, **more: object) -> scoring.Signals:
    return scoring.Signals("x", ("s1", "s2"), est, ref, ref.sum(0), rate=RATE, **more)  # type: ignore[arg-type]


def test_opposite_phases_score_as_each_channel_does() -> None:
    ref = np.stack([[A, -A], [B, -B]])
    for row in scoring.score_signals(item(ref, (ref + 0.1 * NOISE)[::-1]), ["si-snr", "snr", "si-snri"]):
        assert row["si-snr"] == pytest.approx(20, abs=1e-4) and row["snr"] == pytest.approx(20, abs=1e-4)
        assert row["si-snri"] == pytest.approx(20, abs=1e-4)  # equal talkers: the mixture has 0 dB
        assert row["channels"] == 2 and row["reason"] == ""


def test_a_score_is_the_mean_of_the_channels_scores() -> None:
    ref = np.stack([[A, B], [B, A]])
    est = ref + np.array([0.1, 10**-0.5])[:, None] * NOISE  # 20 and 10 dB
    rows = scoring.score_signals(item(ref, est), ["snr", "si-snr"])
    assert [row["snr"] for row in rows] == pytest.approx([15, 15], abs=1e-4)
    assert [row["si-snr"] for row in rows] == pytest.approx([15, 15], abs=1e-4)


@pytest.mark.parametrize("name", ["sdr", "sir", "sar", "stoi", "pesq", "si-snr-fuss", "sdri"])
def test_every_metric_is_the_mean_of_what_it_gives_for_each_channel(name: str) -> None:
    if scoring.missing_metrics([name]):
        pytest.skip("not installed")
    ref = np.stack([[A, A + B], [B, B - A]])
    est = ref + np.array([0.1, 0.3])[:, None] * NOISE
    both = scoring.score_signals(item(ref, est), [name])
    each = [scoring.score_signals(item(ref[:, c], est[:, c]), [name]) for c in range(2)]
    for k, row in enumerate(both):
        assert row[name] == pytest.approx((each[0][k][name] + each[1][k][name]) / 2, abs=2e-6)


def test_a_talker_on_one_side_is_scored_there() -> None:
    ref = np.stack([[A, NOTHING], [B, B]])
    est = ref + 0.1 * NOISE
    first, second = scoring.score_signals(item(ref, est), ["si-snr", "si-snri"])
    assert first["si-snr"] == pytest.approx(20, abs=1e-4) and first["si-snri"] == pytest.approx(20, abs=1e-4)
    assert first["reason"] == "channel 2: silent reference, estimate there at -20 dB"
    # In channel 2 the mixture is s2 alone, so that nothing can improve on it.
    assert second["si-snr"] == pytest.approx(20, abs=1e-4) and second["si-snri"] == pytest.approx(20, abs=1e-4)
    assert second["reason"] == "si-snri: channel 2: the mixture is this source alone"


def test_rounding_is_no_sound() -> None:
    """Dither of 16 bits in the channel that a talker is not in: -90 dB against a talker at -20."""
    faint = np.round(RNG.standard_normal(T)) / 32768
    ref = np.stack([[A, faint], [B, B]])
    assert channels.sounding(ref).tolist() == [[True, False], [True, True]]
    assert scoring.score_signals(item(ref, ref + 0.1 * NOISE), ["si-snr"])[0]["si-snr"] == pytest.approx(20, abs=1e-4)


def test_one_assignment_for_all_channels() -> None:
    """Each channel by itself would find every source in either estimate: only together do they tell."""
    ref = np.stack([[A, NOTHING], [NOTHING, B]])
    est = np.stack([[0.1 * A, B], [A, 0.1 * B]])
    rows = scoring.score_signals(item(ref, est), ["snr"])
    assert all(row["snr"] > 100 for row in rows)
    assert np.array_equal(ordered.in_order(item(ref, est)).est, est[::-1])


def test_an_estimate_that_is_silent_or_broken_in_one_channel_has_no_score() -> None:
    ref = np.stack([[A, A], [B, B]])
    est = ref + 0.1 * NOISE
    est[0, 1], est[1, 0, 5] = 0, np.nan
    rows = scoring.score_signals(item(ref, est), ["si-snr"])
    assert [math.isnan(row["si-snr"]) for row in rows] == [True, True]
    assert "si-snr: channel 2: silent estimate" in rows[0]["reason"]
    assert "si-snr: channel 1: estimate not finite" in rows[1]["reason"]


def test_protocols_take_the_channels_together() -> None:
    protocol = PROTOCOLS["saijo2023"]
    ref = np.stack([[A, -A], [B, -B]])
    for row in score_item(item(ref, ref + 0.1 * NOISE), protocol):
        assert row["si-snr"] == pytest.approx(20, abs=0.01) and row["channels"] == 2
    panned = np.stack([[A, NOTHING], [NOTHING, B]])
    leaking = np.stack([[A, 0.1 * B], [0.1 * A, B]])
    for row in score_item(item(panned, leaking), protocol):
        assert row["si-snr"] == pytest.approx(20, abs=0.01) and row["imp"] == pytest.approx(20, abs=0.1)


def test_who_hears_one_channel_gets_the_loudest() -> None:
    ref = np.stack([[0.1 * A, A], [B, -B / 2]])
    one = channels.loudest(item(ref, 2 * ref))
    assert np.array_equal(one.ref, np.stack([A, B])) and np.array_equal(one.est, 2 * one.ref)


class Halves(SeparationModel):
    """Two halves of what it hears: linked or not, the sources add up to the channels."""

    def __init__(self) -> None:
        import torch

        super().__init__(n_src=2, sample_rate=RATE, hop=1)
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.heard: list[tuple[int, ...]] = []

    def estimate(self, mix):  # type: ignore[no-untyped-def]
        import torch

        self.heard.append(tuple(mix.shape))
        return torch.stack([mix, mix], 1) / 2


def stereo_set(root: Path, ref: np.ndarray, count: int = 1) -> Manifest:
    rows = []
    for i in range(count):
        for name, wave in {"mix": ref.sum(0), "s1": ref[0], "s2": ref[1]}.items():
            io.write(root / f"i{i}/{name}.wav", wave.astype(np.float32), RATE, "FLOAT")
        names = (f"i{i}/s1.wav", f"i{i}/s2.wav")
        rows.append(Row(f"i{i}", "test", f"i{i}/mix.wav", names, sample_rate=RATE, frames=T, n_src=2))
    return Manifest(rows, root, root / "manifest.csv")


def test_a_model_hears_channels_that_cancel(tmp_path: Path) -> None:
    manifest, model = stereo_set(tmp_path, np.stack([[A, -A], [B, -B]])), Halves()
    rows = evaluate.score_model(model, manifest, ["si-snri"])
    assert [row["si-snri"] for row in rows] == pytest.approx([0, 0], abs=1e-3)  # the mixture itself
    assert model.heard == [(1, T)]  # one decision for both
    mean = evaluate.score_model(model, manifest, ["si-snri"], channels="mix")
    assert [row["reason"] for row in mean] == ["silent reference"] * 2
    first = evaluate.score_model(model, manifest, ["si-snri"], channels="first")
    assert [row["si-snri"] for row in first] == pytest.approx([0, 0], abs=1e-3) and "channels" not in first[0]


def test_momi_is_the_mean_of_the_channels(tmp_path: Path) -> None:
    manifest, model = stereo_set(tmp_path, np.stack([[A, -A], [B, -B]]), 2), Halves()
    (row,) = momi.score_moms(model, manifest, [(0, 1)], channels="each")
    (one,) = momi.score_moms(model, manifest, [(0, 1)], channels="first")
    assert row["momi"] == pytest.approx(one["momi"], abs=1e-6) and row["channels"] == 2 and "channels" not in one


def write_both(root: Path, ref: np.ndarray, est: np.ndarray) -> list[str]:
    for kind, waves in (("ref", ref), ("est", est)):
        for k, wave in enumerate(waves, 1):
            io.write(root / kind / f"s{k}" / "x.wav", wave.astype(np.float32), RATE, "FLOAT")
            io.write(root / kind / f"s{k}" / "mono.wav", wave[0].astype(np.float32), RATE, "FLOAT")
    return ["evaluate", "--estimates", str(root / "est"), "--references", str(root / "ref"), "--metric", "si-snr"]


def test_the_command_says_how_channels_were_joined(tmp_path: Path) -> None:
    ref = np.stack([[A, -A], [B, -B]])
    line = write_both(tmp_path, ref, ref + 0.1 * NOISE)
    done = CliRunner().invoke(app, [*line, "-o", str(tmp_path / "ev")])
    assert done.exit_code == 0, done.output
    assert "channels: 2, scores are means" in done.stderr
    rows = tables.read_csv(tmp_path / "ev/items.csv")
    assert [(row["id"], row["channels"]) for row in rows] == [("mono", "1")] * 2 + [("x", "2")] * 2
    assert all(float(row["si-snr"]) == pytest.approx(20, abs=0.01) for row in rows)
    record = json.loads((tmp_path / "ev/evaluate.json").read_text())
    assert record["channels"] == {"how": "each", "most": 2}
    assert record["protocol"]["channels"].startswith("the mean over the channels")


def test_files_of_unlike_channels_are_a_row_that_names_the_way_out(tmp_path: Path) -> None:
    ref = np.stack([[A, A], [B, B]])
    line = write_both(tmp_path, ref, ref + 0.1 * NOISE)
    io.write(tmp_path / "est/s2/x.wav", ref[1, 0].astype(np.float32), RATE, "FLOAT", True)
    done = CliRunner().invoke(app, [*line, "-o", str(tmp_path / "ev")])
    assert isinstance(done.exception, PartialFailure)
    row = next(row for row in tables.read_csv(tmp_path / "ev/items.csv") if row["id"] == "x")
    assert "est/s2/x.wav: channels: 1, but 2 in" in row["reason"] and "--channels first or mix" in row["reason"]
    assert CliRunner().invoke(app, [*line, "-o", str(tmp_path / "mix"), "--channels", "mix"]).exit_code == 0
    wrong = CliRunner().invoke(app, [*line, "-o", str(tmp_path / "no"), "--channels", "left"])
    assert wrong.exit_code != 0 and "--channels" in str(wrong.exception)
