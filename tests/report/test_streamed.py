"""Long recordings inside a page: as good as their length allows, of one bitrate, and in their place to the sample."""

import base64
import io
import itertools

import numpy as np
import pytest
import soundfile as sf

from usepcli.audio.resample import resample
from usepcli.report.streamed import Coding, Encoder, coding

MOST = 64_000_000
KINDS = [(8_000, 1), (8_000, 2), (11_025, 1), (16_000, 1), (22_050, 2), (44_100, 1), (48_000, 2), (96_000, 2)]


@pytest.mark.parametrize("tracks", [2, 3, 9])
@pytest.mark.parametrize(("rate", "channels"), KINDS)
def test_longer_is_never_better_and_always_fits(rate: int, channels: int, tracks: int):
    found = [coding(seconds, tracks, rate, channels, MOST) for seconds in np.geomspace(1, 40_000, 400)]
    lengths = itertools.takewhile(
        lambda pair: pair[1] is not None, zip(np.geomspace(1, 40_000, 400), found, strict=True)
    )
    fitting = [(seconds, how) for seconds, how in lengths if how]
    assert all(how is None for how in found[len(fitting) :])
    for seconds, how in fitting:
        assert tracks * how.text(seconds) <= MOST and how.rate <= rate and how.channels <= channels
    for (_, one), (_, two) in itertools.pairwise(fitting):
        assert one.kbps >= two.kbps and one.rate >= two.rate and one.channels >= two.channels
    # The last before the files are linked: an hour and a half of three tracks.
    assert fitting[-1][0] * tracks == pytest.approx(3 * 5300, rel=0.05) and fitting[-1][1].kbps == 24


def test_what_is_chosen():
    def said(minutes: float, rate: int, channels: int, tracks: int = 3) -> str:
        return str(coding(60 * minutes, tracks, rate, channels, MOST)).removeprefix("MP3 at ")

    assert [said(minutes, 48_000, 2) for minutes in (4, 20, 30, 40, 50, 60, 80, 100)] == [
        "48 kHz, two channels, 128 kbit/s", "48 kHz, two channels, 96 kbit/s", "24 kHz, two channels, 64 kbit/s",
        "24 kHz, one channel, 48 kbit/s", "24 kHz, one channel, 40 kbit/s", "24 kHz, one channel, 32 kbit/s",
        "16 kHz, one channel, 24 kbit/s", "None",
    ]  # fmt: skip
    assert said(60, 8_000, 1) == "8 kHz, one channel, 32 kbit/s"  # four bits a sample are enough
    assert said(30, 44_100, 1) == "44.1 kHz, one channel, 64 kbit/s"
    assert said(4, 9_000, 1) == "8 kHz, one channel, 32 kbit/s" and said(4, 4_000, 1).startswith("8 kHz")


def test_the_edge_between_two_steps():
    # The longest that takes the best step: a second more and the next one is taken.
    seconds = max(s for s in range(900, 1100) if coding(s, 3, 48_000, 2, MOST) == Coding(48_000, 2, 128))
    assert 3 * Coding(48_000, 2, 128).text(seconds) <= MOST < 3 * Coding(48_000, 2, 128).text(seconds + 1)
    assert coding(seconds + 1, 3, 48_000, 2, MOST) == Coding(48_000, 2, 96)


def _headers(mp3: bytes) -> list[tuple[int, int]]:
    """Return bitrate (kbit/s) and rate (Hz) of every frame, found from header to header (ISO 11172-3)."""
    large = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    small = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    rates = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
    found, at = [], 0
    while at < len(mp3):
        assert mp3[at] == 0xFF and mp3[at + 1] >> 5 == 0b111
        version = mp3[at + 1] >> 3 & 3
        kbps, rate = (large if version == 3 else small)[mp3[at + 2] >> 4], rates[version][mp3[at + 2] >> 2 & 3]
        found.append((kbps, rate))
        at += (144 if version == 3 else 72) * kbps * 1000 // rate + (mp3[at + 2] >> 1 & 1)
    assert at == len(mp3)
    return found


CODINGS = [
    (48_000, 2, Coding(48_000, 2, 128)), (44_100, 2, Coding(44_100, 2, 96)), (44_100, 1, Coding(44_100, 1, 48)),
    (48_000, 2, Coding(24_000, 2, 64)), (48_000, 2, Coding(24_000, 1, 40)), (44_100, 1, Coding(16_000, 1, 24)),
    (8_000, 1, Coding(8_000, 1, 24)), (8_000, 2, Coding(8_000, 2, 64)), (11_025, 1, Coding(11_025, 1, 24)),
]  # fmt: skip


@pytest.mark.parametrize(("rate", "channels", "how"), CODINGS)
def test_what_comes_back_is_in_its_place_at_one_bitrate(rate: int, channels: int, how: Coding):
    random, frames = np.random.default_rng(3), round(1.7 * rate) + 5
    sizes = set()
    for _ in range(2):  # two tracks: alike in everything but their sound
        wave = np.cumsum(random.standard_normal((1, frames)) * np.linspace(1, 0.5, channels)[:, None], 1)
        wave = (wave - np.roll(wave, rate // 300, 1)).astype(np.float32)
        wave *= 0.3 / np.abs(wave).max()
        encoder = Encoder(rate, channels, how)
        for start in range(0, frames, 10_000):
            encoder.push(wave[:, start : start + 10_000])
        text = encoder.finish()
        mp3 = base64.b64decode(text)
        sizes.add(len(mp3))
        assert 0.75 * how.text(frames / rate) < len(text) <= how.text(frames / rate)
        assert set(_headers(mp3)[1:]) == {(how.kbps, how.rate)} and b"Info" in mp3[:64]
        back, found = sf.read(io.BytesIO(mp3), dtype="float32", always_2d=True)
        meant = resample(wave.mean(0, keepdims=True) if how.channels < channels else wave, rate, how.rate)
        assert found == how.rate and back.T.shape == meant.shape
        # The best lag of the cross-correlation is none at all, and the level is kept.
        for one, two in zip(back.T, meant, strict=True):
            spectra = np.fft.rfft(np.stack([one, two]), 2 * len(one))
            likeness = np.fft.irfft(spectra[0] * spectra[1].conj())
            assert likeness.argmax() == 0
            assert likeness[0] / np.square(two).sum() == pytest.approx(1, abs=0.02)
    assert len(sizes) == 1


def test_a_short_sound_has_its_length():
    encoder = Encoder(16_000, 1, Coding(16_000, 1, 24))
    encoder.push(np.full((1, 7), 0.1, np.float32))
    back, _ = sf.read(io.BytesIO(base64.b64decode(encoder.finish())))
    assert len(back) == 7
