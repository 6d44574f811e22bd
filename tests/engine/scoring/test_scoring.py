from __future__ import annotations

import math

import numpy as np
import pytest

from usepcli.engine.scoring import scoring
from usepcli.errors import BadInput, MissingDependency, UsageError
from usepcli.metrics.base import Metric

RNG = np.random.default_rng(3)
T = 2400


def signals(est: np.ndarray, ref: np.ndarray, note: str = "", mix: bool = True) -> scoring.Signals:
    names = tuple(f"s{k + 1}" for k in range(len(ref)))
    return scoring.Signals("item", names, est, ref, ref.sum(0) if mix else None, note)


def orthogonal(n: int) -> np.ndarray:
    """n unit-power signals (n,T) at right angles: the true scores are closed formulae."""
    q, _ = np.linalg.qr(RNG.standard_normal((T, n)))
    return q.T * math.sqrt(T)


def test_values_are_the_closed_formula() -> None:
    """est = ref + a * noise at right angles: SNR is -20 log10 a; two equal talkers mix at 0 dB."""
    s = orthogonal(4)
    rows = scoring.score_signals(signals(s[:2] + 0.1 * s[2:], s[:2]), ["snr", "snri", "si-snr", "si-snri"])
    for row in rows:
        for name in ("snr", "snri", "si-snr", "si-snri"):
            assert row[name] == pytest.approx(20.0, abs=1e-5), name
    assert [row["reason"] for row in rows] == ["", ""]


def test_swapped_outputs_score_the_same() -> None:
    s = orthogonal(4)
    ref, est = s[:2], s[:2] + np.array([[0.1], [0.3]]) * s[2:]
    straight, swapped = (scoring.score_signals(signals(e, ref), ["si-snri", "sdr"]) for e in (est, est[::-1]))
    assert straight == swapped
    assert straight[0]["si-snri"] > straight[1]["si-snri"] + 9


def test_best_of_more_outputs_counts_and_the_others_are_ignored() -> None:
    s = orthogonal(4)
    est = np.stack([s[3], s[1], 0.5 * s[2], s[0]])
    rows = scoring.score_signals(signals(est, s[:2]), ["si-snr"])
    assert all(row["si-snr"] > 100 for row in rows) and len(rows) == 2


def test_silent_reference_is_a_row_with_a_reason_and_harms_no_other() -> None:
    s = orthogonal(3)
    ref = np.stack([s[0], np.zeros(T)])
    rows = scoring.score_signals(signals(s[:2], ref), ["si-snr", "sdr", "si-snri"])
    assert rows[1]["reason"] == "silent reference"
    assert all(math.isnan(rows[1][name]) for name in ("si-snr", "sdr", "si-snri"))
    assert rows[0]["si-snr"] > 100 and rows[0]["sdr"] > 60
    assert rows[0]["reason"] == "si-snri: the mixture is this source alone"


def test_an_item_of_silence_alone_gives_rows_only() -> None:
    rows = scoring.score_signals(signals(np.zeros((2, T)), np.zeros((2, T))), ["si-snri"])
    assert [row["reason"] for row in rows] == ["silent reference"] * 2


@pytest.mark.parametrize(
    ("spoil", "metric", "reason"),
    [
        (lambda est: est * np.array([[1.0], [0.0]]), "si-snr", "si-snr: silent estimate"),
        (lambda est: np.where(est > 0, est, np.nan), "si-snr", "si-snr: estimate not finite"),
    ],
)
def test_spoilt_estimates_have_reasons(spoil: object, metric: str, reason: str) -> None:
    s = orthogonal(2)
    rows = scoring.score_signals(signals(spoil(s), s), [metric])  # type: ignore[operator]
    assert reason in [row["reason"] for row in rows]
    assert any(math.isnan(row[metric]) for row in rows)


def test_short_items_have_no_bss_eval_but_say_why() -> None:
    s = orthogonal(4)[:, :600]
    rows = scoring.score_signals(signals(s[:2] + 0.1 * s[2:], s[:2]), ["sdr", "si-snr"])
    assert all(math.isnan(row["sdr"]) and row["reason"].startswith("sdr: 600 samples") for row in rows)
    assert all(math.isfinite(row["si-snr"]) for row in rows)


def test_fewer_estimates_than_references_is_a_fault_that_names_the_item() -> None:
    s = orthogonal(3)
    with pytest.raises(BadInput, match="item: 2 estimates for 3"):
        scoring.score_signals(signals(s[:2], s), ["si-snr"])


def test_unknown_metrics_and_missing_mixtures_are_usage_errors() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'si-snri'"):
        scoring.check_metrics(["si-snrri"])
    with pytest.raises(UsageError, match=r"sdri.*--mixtures"):
        scoring.check_metrics(["sdr", "sdri"], has_mixture=False)
    scoring.check_metrics(["sdr"], has_mixture=False)


def test_summary_counts_missing_and_clusters_by_item() -> None:
    rows = [{"id": i, "snr": v} for i, v in [("a", 1.0), ("a", 3.0), ("b", 4.0), ("b", 8.0), ("c", math.nan)]]
    (total,) = scoring.summary(rows, ["snr"])
    half = 12.706204736174694 * 2.0  # t(0.975, 1) times the standard error of the item means 2 and 6
    assert (total["mean"], total["median"], total["n"], total["missing"]) == (4.0, 3.5, 4, 1)
    assert (total["ci95_low"], total["ci95_high"]) == pytest.approx((4 - half, 4 + half))


def test_every_metric_states_its_convention() -> None:
    from usepcli import registry

    for name in registry.METRICS:
        text, found = scoring.convention(name), scoring.metric(name)
        assert text.endswith("against the same reference") == found.needs_mixture
        assert found.unit in text and not text.startswith("in "), name


class _Absent(Metric):
    """A metric whose library is not installed, and which wants the rate."""

    def missing(self) -> str:
        return "not installed, pip install 'usepcli[metrics]'"

    def score(self, est, ref, mix=None, rate=None):
        assert rate == 8000
        return np.full(len(ref), np.nan), [self.missing()] * len(ref)


def test_a_missing_library_empties_its_column_and_ends_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where nothing else is asked for is there nothing to do."""
    real = scoring.metric
    monkeypatch.setattr(scoring, "metric", lambda name: _Absent(name, False) if name == "pesq" else real(name))
    why = "not installed, pip install 'usepcli[metrics]'"
    assert scoring.missing_metrics(["pesq", "snr"]) == {"pesq": why}
    scoring.check_metrics(["pesq", "snr"])
    with pytest.raises(MissingDependency, match=r"^pesq: not installed, pip install"):
        scoring.check_metrics(["pesq", "pesq"])
    s = orthogonal(2)
    rows = scoring.score_signals(signals(s, s)._replace(rate=8000), ["pesq", "snr"])
    assert all(math.isnan(row["pesq"]) and row["reason"] == f"pesq: {why}" for row in rows)
    assert all(row["snr"] > 100 for row in rows)


def test_the_rate_reaches_the_metrics() -> None:
    pytest.importorskip("pesq")
    s = orthogonal(2)
    (row, _) = scoring.score_signals(signals(s, s)._replace(rate=11025), ["pesq"])
    assert row["reason"] == "pesq: 11025 Hz, defined at 8000 and 16000 Hz only"
