import numpy as np
import pytest

from usepcli.engine.separation.rounding import SumRounding

STEP = 2.0**-15


def sources_of(mixture, n, seed=0):
    """Split (C, T) into n sources (n, C, T) that add up to it, each well within full scale."""
    draw = np.random.default_rng(seed)
    noise = 0.05 * draw.uniform(-1, 1, (n, *mixture.shape))
    return mixture / n + noise - noise.mean(0)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("channels", [1, 2])
def test_files_add_up_to_the_codes_of_the_recording(n, channels):
    codes = np.random.default_rng(n).integers(-(2**14), 2**14, (channels, 4000))
    sources = sources_of(codes * STEP, n).astype(np.float32)
    done = SumRounding(STEP)(sources)
    assert np.array_equal(done.sum(0) / STEP, codes)
    assert np.abs(done - sources).max() < STEP  # never a whole code away
    assert np.array_equal(done / STEP, np.rint(done / STEP))


def test_one_by_one_would_not_add_up():
    codes = np.random.default_rng(1).integers(-(2**14), 2**14, (1, 4000))
    sources = sources_of(codes * STEP, 3)
    assert np.abs(np.rint(sources / STEP).sum(0) - codes).max() >= 1


def test_silence_stays_silence():
    sources = np.zeros((3, 1, 1000))
    sources[0] = np.random.default_rng(0).uniform(-0.5, 0.5, 1000)
    done = SumRounding(STEP)(sources)
    assert not done[1:].any()
    assert np.array_equal(done[0], np.rint(sources[0] / STEP) * STEP)


def test_what_the_sum_misses_is_measured():
    rounded = SumRounding(STEP)
    rounded(np.full((2, 1, 4), 0.15 * STEP))  # adds up to 0.3 codes, of which the files hold none
    assert rounded.peak == pytest.approx(0.3 * STEP)
    assert rounded.power == pytest.approx(4 * (0.3 * STEP) ** 2)


def test_gain_comes_before_rounding():
    sources = np.array([[[0.5, -0.25]], [[0.25, 0.125]]])
    assert np.array_equal(SumRounding(STEP)(sources, 0.5), sources / 2)


def test_codes_stay_within_the_format():
    done = SumRounding(STEP)(np.array([[[1.0 - STEP / 4, -1.0]]]))
    assert done.ravel().tolist() == [1 - STEP, -1.0]
