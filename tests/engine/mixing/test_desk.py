from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usepcli.engine.mixing.automation import Curve, curve
from usepcli.engine.mixing.desk import desk, parse_gains, parse_pans
from usepcli.errors import UsageError

NAMES = ["drums", "bass", "lead vocals"]


def test_gains_by_name_and_number():
    gains = parse_gains(NAMES, ["bass=-20", "3=6"], ["1"])
    np.testing.assert_allclose(gains, [0, 0.1, 10**0.3])
    assert parse_gains(NAMES, ["1=0", "bass=-inf"], []).tolist() == [1, 0, 1]
    assert parse_gains(["a=b"], ["a=b=0"], []).tolist() == [1]


@pytest.mark.parametrize(
    ("gains", "mutes", "message"),
    [
        (["drum=3"], [], "did you mean 'drums'"),
        (["4=3"], [], "or 1 to 3"),
        (["0=3"], [], "no such source"),
        (["bass"], [], "expected NAME=dB"),
        (["bass=loud"], [], "expected NAME=dB"),
        (["bass=nan"], [], "expected NAME=dB"),
        (["bass=inf"], [], "expected NAME=dB"),
        (["=3"], [], "expected NAME=dB"),
        (["bass=3"], ["2"], "given twice"),
    ],
)
def test_wrong_gains(gains: list[str], mutes: list[str], message: str):
    with pytest.raises(UsageError, match=message):
        parse_gains(NAMES, gains, mutes)


def test_a_name_that_is_also_another_ones_number_is_ambiguous():
    with pytest.raises(UsageError, match="fits 2 sources"):
        parse_gains(["2", "1"], ["1=3"], [])
    assert parse_gains(["1", "2"], [], ["1"]).tolist() == [0, 1]


def test_pans_by_name_and_number():
    assert parse_pans(NAMES, ["bass=-0.3", "3=1"]).tolist() == [0, -0.3, 1]
    for wrong in ("bass=1.1", "bass=nan", "bass", "bass=left"):
        with pytest.raises(UsageError, match=r"--pan: found .*expected NAME=-1..1"):
            parse_pans(NAMES, [wrong])


def test_the_balance_law():
    weights = desk(["a", "b", "c", "d", "e"], pans=["a=-1", "b=-0.5", "d=0.5", "e=1"], gains=["e=20"])
    found = weights.weights(0, 10, 8000, 2)[..., 0]
    half = math.cos(math.pi / 4)
    np.testing.assert_allclose(found, np.array([[1, 0], [1, half], [1, 1], [half, 1], [0, 10]]))
    assert found[0, 1] == 0 and found[2].tolist() == [1, 1]


def test_only_a_pan_that_moves_something_asks_for_two_channels():
    assert desk(NAMES, pans=["1=0"]).channels(1) == 1 and desk(NAMES, pans=["1=0"]).neutral
    assert desk(NAMES, pans=["1=0"]).channels(6) == 6
    assert desk(NAMES, pans=["1=0.1"]).channels(1) == 2 and not desk(NAMES, pans=["1=0.1"]).neutral
    with pytest.raises(UsageError, match="6 channels; only mono and stereo"):
        desk(NAMES, pans=["1=0.1"]).channels(6)


def test_automation_adds_to_the_gain_and_leaves_the_others():
    found = desk(NAMES, ["1=-20"], ["3"], [], {"drums": curve([(0, 20), (1, 0)]), "3": curve([(0, 6)])})
    weights = found.weights(0, 1001, 1000, 1)[:, 0]
    assert not found.neutral and weights.shape == (3, 1001)
    np.testing.assert_allclose(20 * np.log10(weights[0]), np.linspace(0, -20, 1001), atol=1e-9)
    assert np.all(weights[1] == 1) and not weights[2].any()


def test_automation_of_unknown_and_repeated_sources():
    with pytest.raises(UsageError, match=r"rides.csv: source 'drum': no such source"):
        desk(NAMES, curves={"drum": curve([(0, 0)])}, origin="rides.csv")
    with pytest.raises(UsageError, match="given twice"):
        desk(NAMES, curves={"drums": curve([(0, 0)]), "1": curve([(0, 0)])})


def test_a_curve_is_linear_in_db_and_held_at_its_ends():
    found = 20 * np.log10(curve([(1, -6), (3, 6)]).gains(0, 5, 1))
    np.testing.assert_allclose(found, [-6, -6, 0, 6, 6], atol=1e-12)
    assert np.all(curve([(0, 0), (2, 0)]).gains(0, 100, 10) == 1)


def test_mutes_fade_out_after_their_time_and_in_before_the_next_point():
    rate, found = 1000, curve([(0, 0), (1, -math.inf), (2, 0)]).gains(0, 3000, 1000)
    assert np.all(found[: rate + 1] == 1) and found[1005] == pytest.approx(0.5)
    assert np.all(found[1010:1990] == 0)
    assert found[1995] == pytest.approx(0.5) and np.all(found[2000:] == 1)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1, -math.inf), (2, -6)], Curve(((2, -6),), ((-math.inf, 2),))),
        ([(0, 3), (1, -math.inf)], Curve(((0, 3), (1, 3)), ((1, math.inf),))),
        ([(0, -math.inf)], Curve((), ((-math.inf, math.inf),))),
        ([(0, 3), (1, -math.inf), (2, -math.inf), (4, 0)], Curve(((0, 3), (1, 3), (2, 3), (4, 0)), ((1, 4),))),
    ],
)
def test_spans_of_mutes(points: list[tuple[float, float]], expected: Curve):
    assert curve(points) == expected


@given(
    points=st.lists(st.tuples(st.floats(0, 2), st.sampled_from([-math.inf, -40.0, -6.0, 0.0, 12.0])), min_size=1),
    cut=st.integers(0, 2500),
)
def test_curves_have_no_steps_and_do_not_depend_on_blocks(points: list[tuple[float, float]], cut: int):
    rate = 1000
    unique = sorted({round(t, 1): (round(t, 1), g) for t, g in points}.values())
    moved = curve(unique)
    whole = moved.gains(0, 2500, rate)
    assert np.array_equal(np.concatenate([moved.gains(0, cut, rate), moved.gains(cut, 2500 - cut, rate)]), whole)
    assert np.all((whole >= 0) & (whole <= 10 ** (12 / 20) + 1e-9))
    # The steepest: a fade of 10 ms at 12 dB, pi / 2 of its mean slope, beside a rise of 52 dB in 0.1 s.
    assert np.abs(np.diff(whole)).max() < 4 * (np.pi / 2 / 10 + 0.06)
