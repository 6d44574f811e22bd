"""STOI and PESQ: the libraries' own values, missing ones with a reason, and no library at all."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from usepcli import registry
from usepcli.metrics.pesq import utterances

RATE = 8000
NAMES = ["stoi", "stoii", "pesq", "pesqi"]


def metric(name: str):
    pytest.importorskip({"s": "pystoi", "p": "pesq"}[name[0]])
    return registry.load("metric", name)


def babble(seconds: float, seed: int = 0, rate: int = RATE, on: float = 0.6, period: float = 1.0) -> np.ndarray:
    """Noise (T,) that comes and goes: as good as speech to both measures."""
    t = np.arange(round(seconds * rate)) / rate
    return np.random.default_rng(seed).standard_normal(len(t)) * (t % period < on)


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Estimates (2,T), references (2,T) and their mixture (T,)."""
    ref = np.stack([babble(2, 0), babble(2, 1)])
    return ref + 0.2 * babble(2, 2, on=1), ref, ref.sum(0)


def test_values_are_those_of_the_libraries() -> None:
    est, ref, mix = scene()
    stoi, pesq = pytest.importorskip("pystoi").stoi, pytest.importorskip("pesq").pesq
    by_stoi = [stoi(s, e, RATE) for e, s in zip(est, ref, strict=True)]
    by_pesq = [pesq(RATE, s, e, "nb") for e, s in zip(est, ref, strict=True)]
    np.testing.assert_array_equal(metric("stoi")(est, ref, None, RATE), by_stoi)
    np.testing.assert_array_equal(metric("pesq")(est, ref, None, RATE), by_pesq)
    before = [stoi(s, mix, RATE) for s in ref], [pesq(RATE, s, mix, "nb") for s in ref]
    np.testing.assert_array_equal(metric("stoii")(est, ref, mix, RATE), np.subtract(by_stoi, before[0]))
    np.testing.assert_array_equal(metric("pesqi")(est, ref, mix, RATE), np.subtract(by_pesq, before[1]))
    assert min(by_stoi) > 0.9 and min(by_pesq) > 2  # the right way round, not those of something silent


def test_a_perfect_estimate_has_the_best_score_and_the_mixture_improves_nothing() -> None:
    _, ref, mix = scene()
    np.testing.assert_allclose(metric("stoi")(ref, ref, None, RATE), 1, atol=1e-9)
    np.testing.assert_allclose(metric("pesq")(ref, ref, None, RATE), 4.5486, atol=1e-3)  # P.862.1 of 4.5
    for name in ("stoii", "pesqi"):
        np.testing.assert_array_equal(metric(name)(np.stack([mix, mix]), ref, mix, RATE), [0, 0])


def test_units_and_direction() -> None:
    for name in NAMES:
        found = registry.load("metric", name)
        assert (found.name, found.unit) == (name, {"s": "", "p": "MOS"}[name[0]])
        assert found.higher_is_better and found.needs_mixture == name.endswith(("stoii", "pesqi"))


def test_pesq_listens_wide_band_at_16_khz_and_not_at_other_rates() -> None:
    pesq = pytest.importorskip("pesq").pesq
    ref = babble(1.5, rate=16000)[None]
    est = ref + 0.2 * babble(1.5, 3, 16000, on=1)
    assert metric("pesq")(est, ref, None, 16000) == [pesq(16000, ref[0], est[0], "wb")]
    values, reasons = metric("pesq").score(est, ref, None, 11025)
    assert np.isnan(values).all() and reasons == ["11025 Hz, defined at 8000 and 16000 Hz only"]
    assert np.isfinite(metric("stoi")(est, ref, None, 11025)).all()


@pytest.mark.parametrize(
    ("name", "wave", "said"),
    [
        ("stoi", babble(0.2), "less than 0.4 s of reference that is not silent"),
        ("pesq", babble(0.2), "shorter than 0.25 s"),
        ("pesq", 1e-30 * babble(1), "no utterance found"),
    ],
)
def test_what_the_libraries_cannot_score_is_nan_with_a_reason(name: str, wave: np.ndarray, said: str) -> None:
    """pystoi would return 1e-5 with a warning, pesq would raise."""
    values, reasons = metric(name).score(babble(len(wave) / RATE, 5)[None], wave[None], None, RATE)
    assert np.isnan(values).all() and reasons == [said]


@pytest.mark.parametrize("name", ["stoi", "pesq"])
def test_one_missing_value_leaves_the_others_alone(name: str) -> None:
    est, ref, _ = scene()
    alone = metric(name)(est[:1], ref[:1], None, RATE)
    est, ref = np.concatenate([est, est, est]), np.concatenate([ref, ref, ref])
    est[1], est[2, 7], ref[3] = 0, np.nan, 0
    values, reasons = metric(name).score(est, ref, None, RATE)
    assert reasons == ["", "silent estimate", "estimate not finite", "silent reference", "", ""]
    assert np.isnan(values).tolist() == [bool(why) for why in reasons] and values[0] == values[4] == alone[0]


def test_a_mixture_without_a_score_is_named() -> None:
    est, ref, mix = scene()
    values, reasons = metric("pesqi").score(est, ref, 1e-44 * mix, RATE)
    assert np.isnan(values).all() and reasons == ["mixture: one signal too quiet beside the other"] * 2
    assert metric("pesqi").score(est, ref, 0 * mix, RATE)[1] == ["silent mixture"] * 2


def test_more_utterances_than_the_library_holds_are_refused() -> None:
    """60 of them in a minute crash it; a long signal with few is scored."""
    assert utterances(babble(60, on=0.5), RATE) == 60 and utterances(babble(60, on=1.2, period=2), RATE) == 30
    many, fewer = babble(20, on=0.22, period=0.45)[None], babble(20, on=1.2, period=2)[None]
    values, reasons = metric("pesq").score(many, many, None, RATE)
    assert np.isnan(values).all() and "more than 40 utterances" in reasons[0]
    assert metric("pesq").score(fewer, fewer, None, RATE)[1] == [""]


def test_an_improvement_listens_to_the_estimate_once(monkeypatch: pytest.MonkeyPatch) -> None:
    library, (est, ref, mix) = pytest.importorskip("pesq"), scene()
    est, ref, mix = 1.01 * est, 1.01 * ref, 1.01 * mix  # signals that no other test has scored
    heard, real = [], library.pesq

    def count(*given, **options):
        heard.append(given)
        return real(*given, **options)

    monkeypatch.setattr(library, "pesq", count)
    metric("pesq")(est, ref, mix, RATE)
    metric("pesqi")(est, ref, mix, RATE)
    assert len(heard) == 4
    metric("pesq")(est, ref, mix, 16000)
    assert len(heard) == 6


@pytest.mark.parametrize("name", NAMES)
def test_without_a_rate_there_is_no_score(name: str) -> None:
    est, ref, mix = scene()
    with pytest.raises(ValueError, match="no sample rate"):
        registry.load("metric", name)(est, ref, mix)


@pytest.mark.parametrize("name", NAMES)
def test_without_the_library_every_row_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("pystoi", "pesq"):
        monkeypatch.setitem(sys.modules, package, None)
    found = registry.load("metric", name)
    why = f"{'pystoi' if 'stoi' in name else 'pesq'} not installed; run: pip install 'usepcli[metrics]'"
    values, reasons = found.score(*scene(), RATE)
    assert np.isnan(values).all() and reasons == [why, why] and found.missing() == why
