"""BSS-eval against mir_eval, against closed forms, and where it has no value."""

from __future__ import annotations

import mir_eval
import numpy as np
import pytest
import scipy.linalg
import scipy.signal

from usepcli.metrics import bss_eval
from usepcli.metrics.bss_eval import SAR, SDR, SDRI, SIR


def speechlike(n: int, length: int, seed: int = 0) -> np.ndarray:
    """Return coloured noise with a syllable-like envelope."""
    rng = np.random.default_rng(seed)
    noise = scipy.signal.lfilter([1.0], [1.0, -0.9], rng.standard_normal((n, length)))
    return noise * (1.1 + np.sin(np.arange(length) / 600 + np.arange(n)[:, None]))


def reference(est: np.ndarray, ref: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return mir_eval.separation.bss_eval_sources(ref, est, compute_permutation=False)[:3]


@pytest.mark.parametrize("snr", [-5.0, 15.0, 50.0])
@pytest.mark.parametrize(("n", "length"), [(2, 8001), (3, 6000)])
def test_agrees_with_mir_eval(n: int, length: int, snr: float) -> None:
    ref = speechlike(n, length)
    spoiled = ref[::-1] + 0.5 * speechlike(n, length, seed=1)
    est = scipy.signal.lfilter([1.0, 0.3], [1.0], ref) + 10 ** (-snr / 20) * spoiled
    mix = ref.sum(0)
    found = bss_eval.bss_eval(est, ref, mix)
    for name, expected in zip(("sdr", "sir", "sar"), reference(est, ref), strict=True):
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-6)
    expected = reference(np.stack([mix] * n), ref)[0]
    np.testing.assert_allclose(found["mix_sdr"], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(SDRI(est, ref, mix), found["sdr"] - expected, rtol=0, atol=1e-6)


def test_far_apart_signals_have_their_closed_form() -> None:
    # Bursts more than 512 samples apart stay orthogonal under every filter of 512 taps.
    bursts = np.random.default_rng(0).standard_normal((3, 300))
    s, u, v = np.zeros((3, 9000))
    s[1000:1300], u[3000:3300], v[6000:6300] = bursts / np.linalg.norm(bursts, axis=1, keepdims=True)
    est = np.stack([0.5 * s + 0.1 * u + 0.02 * v, u])
    ref = np.stack([s, u])
    expected = (0.25 / 0.0104, 0.25 / 0.01, 0.26 / 0.0004)
    for metric, ratio in zip((SDR, SIR, SAR), expected, strict=True):
        assert metric(est, ref)[0] == pytest.approx(10 * np.log10(ratio), abs=1e-6)


def test_filtered_reference_is_no_distortion() -> None:
    ref = speechlike(2, 6000)
    ref[:, -100:] = 0  # the filter's tail must fit in
    est = scipy.signal.lfilter(np.hanning(100), [1.0], ref)
    assert (SDR(est, ref) > 50).all()


def test_four_metrics_share_one_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    ref = speechlike(2, 4000, seed=5)
    est, mix = ref + 0.1 * speechlike(2, 4000, seed=6), ref.sum(0)
    calls = []
    compute = bss_eval._compute
    monkeypatch.setattr(bss_eval, "_compute", lambda *a: calls.append(1) or compute(*a))
    values = [m(est, ref, mix) for m in (SDR, SDRI, SIR, SAR)]
    assert len(calls) == 1
    est[0] = est[1]
    assert SDR(est, ref, mix)[0] != values[0][0]
    assert len(calls) == 2


def test_a_kept_result_cannot_be_spoiled() -> None:
    ref = speechlike(2, 4000, seed=7)
    est = ref + 0.1 * speechlike(2, 4000, seed=8)
    first = bss_eval.bss_eval(est, ref)
    kept = first["sdr"].copy()
    first["sdr"][:] = 0
    np.testing.assert_array_equal(bss_eval.bss_eval(est, ref)["sdr"], kept)


def test_too_short_signals_have_a_reason() -> None:
    ref = speechlike(2, 1024)
    assert np.isnan(SDR(ref, ref)).all()
    assert SDR.reason(ref, ref) == ["1024 samples, too short for 2 filters of 512 taps"] * 2
    longer = speechlike(2, 1025)
    assert SDR.reason(longer, longer) == ["", ""]


def test_sir_of_a_lone_reference_is_missing() -> None:
    ref = speechlike(1, 3000)
    est = ref + 0.1 * speechlike(1, 3000, seed=1)
    assert SIR.reason(est, ref) == ["no second reference that could interfere"]
    assert np.isfinite(SDR(est, ref)).all() and np.isnan(SIR(est, ref)).all()


def test_equal_references_do_not_break_the_solver() -> None:
    one = speechlike(1, 4000)
    ref = np.concatenate([one, one])
    est = ref + 0.1 * speechlike(2, 4000, seed=1)
    alone = SDR(est[:1], one)
    np.testing.assert_allclose(SDR(est, ref)[0], alone[0], atol=1e-6)


def test_band_limited_references_stay_close_to_mir_eval() -> None:
    taps = scipy.signal.firwin(255, 0.4)
    ref = scipy.signal.lfilter(taps, [1.0], speechlike(2, 8000))
    est = ref + 0.2 * speechlike(2, 8000, seed=3)
    np.testing.assert_allclose(SDR(est, ref), reference(est, ref)[0], atol=1e-3)


@pytest.mark.parametrize("band", [(100.0, 800.0), (200.0, 1500.0)])
def test_bss_eval_band_limited_references_are_projected_where_they_have_energy(band: tuple[float, float]) -> None:
    # Cholesky runs through on such a nearly singular Gram matrix and used to return SDRs of -37 dB. What mir_eval makes
    # of the directions without energy is its processor's rounding, and moves its SIR by more than 1 dB: so the
    # projections are taken here by least squares on the delayed references, without those directions.
    draw, length = np.random.default_rng(0), 4000
    spec = np.fft.rfft(draw.standard_normal((2, length)))
    freq = np.fft.rfftfreq(length, 1 / 8000)
    ref = np.fft.irfft(spec * ((freq > band[0]) & (freq < band[1])), length)
    est = ref + 0.1 * ref.std() * draw.standard_normal((2, length))
    ends = np.zeros(bss_eval.TAPS - 1)

    def projected(refs: np.ndarray) -> np.ndarray:
        columns = [scipy.linalg.toeplitz(np.append(one, ends), np.zeros(bss_eval.TAPS)) for one in refs]
        delayed = np.concatenate(columns, axis=1)
        # Energies are kept down to n times eps of the largest, so amplitudes down to its root.
        least = np.sqrt(delayed.shape[1] * np.finfo(np.float64).eps)
        padded = np.append(est, np.tile(ends, (2, 1)), axis=1).T
        return np.square(delayed @ scipy.linalg.lstsq(delayed, padded, cond=least)[0]).sum(0)

    energy, every = np.square(est).sum(1), projected(ref)
    own = np.array([projected(ref[j : j + 1])[j] for j in range(2)])
    ratios = {"sdr": own / (energy - own), "sir": own / (every - own), "sar": every / (energy - every)}
    mine = bss_eval.bss_eval(est, ref)
    for name, ratio in ratios.items():
        # Rounding may decide upon one direction at the limit: of more than 100 in the smallest energy, every - own,
        # it may hold ten times its share, 0.4 dB; in the others it is nothing.
        assert mine[name] == pytest.approx(10 * np.log10(ratio), abs=0.4 if name == "sir" else 0.01), name
