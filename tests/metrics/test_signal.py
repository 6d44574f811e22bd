"""SNR and SI-SNR metrics: closed forms, improvements and missing values."""

from __future__ import annotations

import numpy as np
import pytest

from usepcli import registry


def orthogonal(n: int, length: int = 4000) -> np.ndarray:
    t = np.arange(length)
    return np.stack([np.cos(2 * np.pi * (7 * i + 3) * t / length) for i in range(n)])


SPEECH = {"pesq", "pesqi", "stoi", "stoii"}  # these need a sample rate and more than noise: test_speech.py
RATIOS = [name for name in registry.METRICS if name not in SPEECH and not name.startswith("holes")]


def metric(name: str):
    return registry.load("metric", name)


@pytest.mark.parametrize("name", RATIOS)
def test_every_metric_knows_its_name_and_returns_one_value_per_source(name: str) -> None:
    rng = np.random.default_rng(0)
    ref = rng.standard_normal((2, 3000))
    found = metric(name)(ref + 0.1 * rng.standard_normal((2, 3000)), ref, ref.sum(0))
    assert metric(name).name == name
    assert metric(name).unit == "dB" and metric(name).higher_is_better
    assert found.shape == (2,) and np.isfinite(found).all() and (found > 0).all()


def test_known_levels_give_known_values() -> None:
    s, u, v = orthogonal(3)
    ref, mix = np.stack([s, u]), s + u
    est = np.stack([2 * s + 0.2 * v, u + 0.01 * v])
    np.testing.assert_allclose(metric("si-snr")(est, ref), [20, 40], atol=1e-6)
    np.testing.assert_allclose(metric("si-snri")(est, ref, mix), [20, 40], atol=1e-6)
    np.testing.assert_allclose(metric("snr")(est, ref), [-10 * np.log10(1.04), 40], atol=1e-6)
    np.testing.assert_allclose(metric("snri")(est, 2 * ref, 2 * mix), [20, 20 * np.log10(2 / 1)], atol=1e-2)


def test_the_mixture_itself_improves_nothing() -> None:
    ref = np.random.default_rng(0).standard_normal((3, 2000))
    mix = ref.sum(0)
    for name in ("si-snri", "si-snri-fuss", "snri", "sdri"):
        np.testing.assert_allclose(metric(name)(np.stack([mix] * 3), ref, mix), 0, atol=1e-9)


@pytest.mark.parametrize("name", ["si-snri", "si-snri-fuss", "snri", "sdri"])
def test_a_mixture_of_one_source_cannot_be_improved(name: str) -> None:
    rng = np.random.default_rng(0)
    ref, noise = rng.standard_normal((2, 1, 3000))
    for mix in (ref[0], ref[0].astype(np.float32).astype(np.float64)):
        values, reasons = metric(name).score(ref + 0.1 * noise, ref, mix)
        assert np.isnan(values).all() and reasons == ["the mixture is this source alone"]
    found = metric(name)(ref + 0.1 * noise, ref, ref[0] + noise[0])  # one source and noise
    np.testing.assert_allclose(found, 20, atol=1.5)


@pytest.mark.parametrize("name", RATIOS)
def test_missing_values_have_a_reason(name: str) -> None:
    rng = np.random.default_rng(0)
    ref = rng.standard_normal((4, 3000))
    est, mix = ref + 0.1 * rng.standard_normal((4, 3000)), ref.sum(0)
    clean = metric(name)(est[[0, 2, 3]], ref[[0, 2, 3]], mix)
    ref[1] = 0
    est[2] = 0
    est[3, 5] = np.nan
    values, reasons = metric(name)(est, ref, mix), metric(name).reason(est, ref, mix)
    silent = "" if name.startswith("snr") or name.endswith("fuss") else "silent estimate"
    assert reasons == ["", "silent reference", silent, "estimate not finite"]
    assert np.isnan(values).tolist() == [bool(why) for why in reasons]
    # The value that is left is the one without the silent source.
    assert values[0] == pytest.approx(clean[0], abs=1e-9)


@pytest.mark.parametrize("name", ["si-snri", "si-snri-fuss", "snri", "sdri"])
def test_improvement_needs_a_sounding_mixture(name: str) -> None:
    ref = np.random.default_rng(0).standard_normal((2, 2000))
    assert metric(name).needs_mixture
    assert metric(name).reason(ref, ref, np.zeros(2000)) == ["silent mixture"] * 2
    with pytest.raises(ValueError, match="no mixture"):
        metric(name)(ref, ref)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"estimates \(2, 10\), references \(3, 10\)"):
        metric("si-snr")(np.ones((2, 10)), np.ones((3, 10)))
    with pytest.raises(ValueError, match=r"mixture \(9,\)"):
        metric("si-snri")(np.ones((2, 10)), np.ones((2, 10)), np.ones(9))
