"""Live streams: the numbers of the whole recording, given in the time that `latency_s` says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from usepcli.audio.resample_live import LiveResampler
from usepcli.errors import BadInput, ConfigError, UsageError
from usepcli.models.separator import SeparationModel
from usepcli.separator.separator import How, Separator
from usepcli.weights import build

RATES = [8000, 16000, 44100, 6000]
CAUSAL = {"causal": True, "norm": "cumln", "input_norm": "none"}


def model(**options: object) -> SeparationModel:
    torch.manual_seed(0)
    return build.model({"name": "convtasnet", "preset": "tiny", **CAUSAL, **options}).eval()


def separator(**options: object) -> Separator:
    return Separator(model(**options))


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def pushed(live, wave: np.ndarray, seed: int = 0, longest: int = 700) -> list[np.ndarray]:
    draw, at, pieces = np.random.default_rng(seed), 0, []
    while at < wave.shape[-1]:
        size = int(draw.integers(0, longest))
        pieces.append(live.push(wave[..., at : at + size]))
        at += size
    return [*pieces, live.finish()]


@torch.no_grad()
def whole(asked: Separator, wave: np.ndarray, rate: int) -> np.ndarray:
    """The sources (N, C, T) of a wave (C, T) from one call of the model, with silence behind the end."""
    pad = 0 if rate == asked.rate else -(-2 * rate // asked.rate)
    low = LiveResampler(rate, asked.rate, len(wave)).push(np.pad(wave, ((0, 0), (0, pad))), last=True)
    est = asked.model(torch.from_numpy(low)).transpose(0, 1).numpy()  # (N, C, L)
    high = LiveResampler(asked.rate, rate, est.shape[0] * est.shape[1]).push(est.reshape(-1, est.shape[2]), last=True)
    return high.reshape(*est.shape[:2], -1)[..., : wave.shape[1]]


@pytest.mark.parametrize("rate", RATES)
def test_blocks_give_the_model_s_own_sources_of_the_whole(rate: int) -> None:
    asked, wave = separator(), noise(2, rate // 2)
    got = np.concatenate(pushed(asked.live(rate), wave), axis=2)
    want = whole(asked, wave, rate)
    assert got.shape == want.shape == (2, 2, rate // 2) and got.dtype == np.float32
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("length", [1, 2, 17])
@pytest.mark.parametrize("rate", RATES)
def test_short_streams_have_their_length(rate: int, length: int) -> None:
    wave = torch.from_numpy(noise(length))
    live = separator().live(rate)
    pieces = [live.push(wave), live.push(wave[:0]), live.finish()]
    assert np.concatenate(pieces, axis=1).shape == (2, length)


def waits(live, wave: np.ndarray, size: int) -> float:
    """The most seconds by which what was given lay behind what was taken."""
    worst = given = 0
    for at in range(0, wave.shape[-1], size):
        given += live.push(wave[..., at : at + size]).shape[-1]
        worst = max(worst, min(at + size, wave.shape[-1]) - given)
    return worst / live.rate


def test_at_the_model_s_rate_the_latency_is_that_of_one_frame() -> None:
    live = separator().live(8000)
    assert live.latency_s == 16 / 8000
    assert waits(live, noise(1000), 1) == 15 / 8000  # the 16th sample brings the first


@pytest.mark.parametrize("rate", [6000, 16000, 44100, 48000])
def test_the_latency_between_rates_is_measured(rate: int) -> None:
    live = separator().live(rate)
    found = waits(live, noise(rate), rate // 1000)
    assert 0.6 * live.latency_s < found <= live.latency_s


@pytest.mark.parametrize("rate", [8000, 16000])
def test_no_source_is_given_before_what_it_depends_on(rate: int) -> None:
    asked, wave = separator(), noise(rate)
    other, start = wave.copy(), rate // 2
    other[start:] = noise(rate - start, seed=1) * 5
    one, two = (np.concatenate(pushed(asked.live(rate), each), axis=1) for each in (wave, other))
    first = int((np.abs(one - two).max(0) > 1e-5).argmax())
    assert start - asked.live(rate).latency_s * rate < first <= start
    # What was given when the change came is what the changed stream gives.
    live = asked.live(rate)
    early = live.push(wave[:start])
    assert np.allclose(early, two[:, : early.shape[1]], atol=1e-6)


def test_the_rest_can_be_a_source_of_its_own() -> None:
    asked, wave = separator(consistency="none"), noise(2, 20000)
    live = asked.live(16000, How(channels="each", rest="source"))
    got = np.concatenate(pushed(live, wave), axis=2)
    assert got.shape == (3, 2, 20000) and asked.names(live.how)[-1] == "residual"
    np.testing.assert_allclose(got.sum(0), wave, atol=1e-6)
    assert np.abs(got[2]).max() > 0.05


@pytest.mark.parametrize(("channels", "heard"), [("mix", lambda wave: wave.mean(0)), ("first", lambda wave: wave[0])])
def test_channels_can_be_made_one(channels: str, heard) -> None:
    asked, wave = separator(), noise(2, 4000)
    got = np.concatenate(pushed(asked.live(8000, How(channels=channels, rest="leave")), wave), axis=2)
    np.testing.assert_allclose(got, whole(asked, heard(wave)[None], 8000), atol=1e-5)


def test_a_long_block_goes_through_in_parts_and_gives_the_same() -> None:
    asked, wave = separator(), noise(20000)
    live, other = asked.live(8000), asked.live(8000)
    once = np.concatenate([live.push(wave), live.finish()], axis=1)
    np.testing.assert_allclose(once, np.concatenate(pushed(other, wave), axis=1), atol=1e-6)


def test_streams_do_not_know_of_each_other() -> None:
    asked, wave = separator(), noise(2, 3000)
    lives = [asked.live(8000) for _ in wave]
    apart = [np.concatenate(pushed(asked.live(8000), each), axis=1) for each in wave]
    for at in range(0, 3000, 100):
        for live, each, want in zip(lives, wave, apart, strict=True):
            got, before = live.push(each[at : at + 100]), max(0, (at - 8) // 8 * 8)
            np.testing.assert_allclose(got, want[:, before : before + got.shape[1]], atol=1e-6)


def test_what_cannot_be_live_says_so() -> None:
    with pytest.raises(ConfigError, match=r"no live separation: model\.causal is false"):
        separator(causal=False).live(8000)
    for how in (How(), How(channels="linked", rest="leave")):
        with pytest.raises(UsageError, match="channel policy 'linked'; choose from: each, first, mix"):
            separator().live(8000, how)
    with pytest.raises(UsageError, match=r"treatment of the rest 'share'.*choose from: leave, source"):
        separator().live(8000, How(channels="each"))
    with pytest.raises(BadInput, match="rate: found 0; expected whole Hz"):
        separator().live(0)


def test_wrong_blocks_are_refused() -> None:
    live = separator().live(8000)
    with pytest.raises(BadInput, match="without samples"):
        live.finish()
    live.push(noise(2, 100))
    for wrong, said in (
        (noise(100), "the same in every block"), (noise(3, 100), "3 channels after blocks of 2"),
        (np.zeros((2, 100), np.int16), "int16"), (noise(2, 100) * np.nan, "NaN"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=said):
            live.push(wrong)
    live.finish()
    with pytest.raises(UsageError, match="finished"):
        live.push(noise(2, 100))
