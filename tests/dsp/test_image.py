from __future__ import annotations

import numpy as np
import pytest

from usepcli.dsp import image

RATE = 8000


def bursts(seed: int, seconds: float = 4.0) -> np.ndarray:
    """Two sounds (2, L) of noise in bursts, one below and one above 1 kHz."""
    draw, count = np.random.default_rng(seed), int(seconds * RATE)
    spectrum = np.fft.rfft(draw.standard_normal((2, count)))
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    spectrum[0, frequency > 1000] = 0
    spectrum[1, frequency <= 1000] = 0
    return (np.fft.irfft(spectrum, count) * (np.sin(np.arange(count) / [[900], [1400]]) > 0)).astype(np.float32)


def level(wave: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(wave, dtype=np.float64).mean(-1))


def test_the_guide_is_the_mean_and_of_equal_channels_the_channel_itself():
    wave = bursts(0)
    np.testing.assert_allclose(image.guide(wave, RATE), wave.mean(0), atol=1e-7)
    np.testing.assert_array_equal(image.guide(np.stack([wave[0]] * 3), RATE), wave[0])


def test_what_cancels_in_the_mean_is_heard_all_the_same():
    low, high = bursts(1)
    side = np.stack([low + high, -low - high])
    heard = image.guide(side, RATE)
    assert abs(np.corrcoef(heard, low + high)[0, 1]) > 0.999
    almost = np.stack([low + high, -0.98 * (low + high)])
    assert level(image.guide(almost, RATE)) > 0.9 * level(low + high)


def test_one_talker_in_phase_and_one_in_opposite_phase_are_both_heard():
    low, high = bursts(2)
    heard = image.guide(np.stack([low + high, low - high]), RATE)
    for part in (low, high):
        assert abs(heard @ part) > 0.5 * (part @ part) * min(1, level(heard) / level(low + high))


def test_channels_that_are_the_guide_at_other_levels_get_its_very_sources():
    sources = bursts(3)
    heard = sources.sum(0)
    found = image.spread(sources, heard, np.stack([heard, heard, -0.25 * heard]), RATE)
    np.testing.assert_array_equal(found[:, 0], sources)
    np.testing.assert_array_equal(found[:, 1], sources)
    np.testing.assert_allclose(found[:, 2], -0.25 * sources, atol=1e-7)


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_the_sources_of_every_channel_add_up_to_it(channels: int):
    draw = np.random.default_rng(channels)
    wave = draw.standard_normal((channels, 9001)).astype(np.float32)
    wave[:, 3000:5000] = 0
    sources = draw.standard_normal((3, 9001)).astype(np.float32)
    sources[2] = 0
    found = image.spread(sources, wave.mean(0), wave, RATE)
    assert found.shape == (3, channels, 9001)
    np.testing.assert_allclose(found.sum(0), wave, atol=1e-5)
    assert not found[2].any()


def test_sources_keep_their_place_and_distance():
    # Estimates with leaks of -12 dB; talker 1 left and early, talker 2 right and early there.
    # Both sound over the whole band, so that only place and time tell them apart.
    true = np.random.default_rng(4).standard_normal((2, 4 * RATE)) * (np.sin(np.arange(4 * RATE) / [[900], [1400]]) > 0)
    ears = np.stack([[true[0], 0.5 * np.roll(true[0], 3)], [0.4 * np.roll(true[1], 4), true[1]]])  # (N, C, L)
    wave = ears.sum(0)
    heard = image.guide(wave, RATE)
    guided = np.stack([e.mean(0) for e in ears])
    leaky = np.stack([guided[0] + 0.25 * guided[1], 0.75 * guided[1]]).astype(np.float32)
    found = image.spread(leaky, heard, wave, RATE)
    for n in range(2):
        ratio = level(found[n, 0]) / level(found[n, 1]) / (level(ears[n, 0]) / level(ears[n, 1]))
        assert abs(20 * np.log10(ratio)) < 0.5
        before = np.square(leaky[n] - guided[n]).sum() / np.square(guided[n]).sum()
        error = np.square(found[n] - ears[n]).sum() / np.square(ears[n]).sum()
        assert error < 0.3 * before  # what the channels say about the place takes part of the leak away


@pytest.mark.parametrize("kind", ["two tones", "noise", "noise in one place"])
def test_one_split_at_all_times_is_that_of_every_channel(kind: str):
    # A guide divided 1 to 2 throughout tells nothing about places; a filter of powers alone made it 1 to 50.
    t, draw = np.arange(4 * RATE) / RATE, np.random.default_rng(5)
    wave = (
        np.sin(2 * np.pi * np.array([[500.0], [900.0]]) * t)
        if kind == "two tones"
        else draw.standard_normal((2, 4 * RATE))
    )
    if kind == "noise in one place":
        wave = np.stack([wave[0], 0.6 * np.roll(wave[0], 5)])
    wave = wave.astype(np.float32)
    heard = image.guide(wave, RATE)
    found = image.spread(np.stack([heard / 3, 2 * heard / 3]), heard, wave, RATE)
    share = (found * wave).sum(2) / np.square(wave).sum(1)  # (N, C)
    np.testing.assert_allclose(share, [[1 / 3] * 2, [2 / 3] * 2], atol=0.03)


def test_a_stretch_that_cancels_in_the_guide_is_not_lost_with_a_silent_source():
    low, high = bursts(6)
    wave = np.stack([low + high, low + 0.5 * high])
    wave[1, RATE : RATE + 4000] = -wave[0, RATE : RATE + 4000]
    heard = wave.mean(0)
    found = image.spread(np.stack([heard, 0 * heard]), heard, wave, RATE)
    assert not found[1].any()
    np.testing.assert_allclose(found[0], wave, atol=1e-5)


@pytest.mark.parametrize("length", [1, 2, 50, 700])
def test_shorter_than_a_frame_is_fine(length: int):
    wave = np.random.default_rng(0).standard_normal((2, length)).astype(np.float32)
    heard = image.guide(wave, RATE)
    found = image.spread(np.stack([0.3 * heard, 0.7 * heard]), heard, wave, RATE)
    np.testing.assert_allclose(found.sum(0), wave, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 3])
def test_one_source_apart_is_the_first_of_two(channels: int) -> None:
    """Of correlated and of separate parts; silence, all of the guide, and channels that are nothing but the guide."""
    draw = np.random.default_rng(0)
    own = np.convolve(draw.standard_normal(9000), [1, 0.9, 0.5], "same")
    wave = (own * np.array([[2], [0.5], [1]])[:channels] + draw.standard_normal((channels, 9000))).astype(np.float32)
    heard = wave.mean(0)
    for source in (own.astype(np.float32), 0 * heard, heard.copy()):
        for over in (wave, np.stack([heard, -0.5 * heard, heard])[:channels]):
            pair = image.spread(np.stack([source, heard - source]), heard, over, 8000)
            found = image.apart(source, heard, over, 8000)
            # Single precision, through three passes that divide by sums of powers.
            np.testing.assert_allclose(found, pair[0], atol=2e-5 * np.abs(over).max())
