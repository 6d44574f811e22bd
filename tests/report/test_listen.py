"""Sound in pages comes back as it went in; pictures show levels, pitches and extremes at any length."""

import base64
import io
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from usepcli.report import listen


def _decode(uri: str) -> tuple[np.ndarray, int]:
    wave, rate = sf.read(io.BytesIO(base64.b64decode(uri.split(",", 1)[1])), dtype="float32", always_2d=True)
    return wave.T, rate


def _array(picture: dict[str, Any], key: str) -> np.ndarray:
    kind = np.int8 if key in ("low", "high") else np.uint8
    return np.frombuffer(base64.b64decode(picture[key]), kind)


@pytest.mark.parametrize("channels", [1, 2])
def test_flac_holds_sixteen_bits_exactly(channels: int):
    codes = np.random.default_rng(0).integers(-32768, 32768, (channels, 5000))
    wave = (codes / 32768).astype(np.float32)
    uri = listen.encode(wave, 16000)
    assert uri.startswith("data:audio/flac;base64,")
    back, rate = _decode(uri)
    assert rate == 16000 and np.array_equal(back * 32768, codes)


def test_gain_channels_rate_and_clipping():
    wave = np.stack([np.full(9600, 0.75), np.zeros(9600), np.full(9600, 0.15)])
    back, rate = _decode(listen.encode(wave, 96000, gain=2.0))
    assert rate == 48000 and back.shape == (1, 4800)
    assert np.allclose(back[0, 500:-500], 0.6, atol=1e-3)
    assert _decode(listen.encode(np.full(100, 1.5), 8000))[0].max() == 32767 / 32768


@pytest.mark.parametrize(("rate", "stored"), [(8000, 8000), (9000, 11025), (44100, 44100), (96000, 48000)])
def test_mp3_takes_the_next_rate_that_it_knows(rate: int, stored: int):
    assert listen.page_rate(rate, "mp3") == stored
    back, found = _decode(listen.encode(np.sin(np.arange(rate) * 0.2).astype(np.float32) / 2, rate, "mp3"))
    assert found == stored and abs(back.shape[1] - stored) <= 1


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000])
def test_mp3_sounds_as_what_went_in(rate: int, channels: int):
    n = np.arange(2 * rate) / rate
    wave = np.stack([0.5 * np.sin(2 * np.pi * 440 * n), 0.3 * np.sin(2 * np.pi * 700 * n)])[:channels]
    back, _ = _decode(listen.encode(wave, rate, "mp3"))
    assert back.shape == wave.shape
    error = (back - wave)[:, 2000:-3000]
    assert 10 * np.log10(np.square(wave).mean() / np.square(error).mean()) > 30  # of its own coding, 39 and more


def test_nothing_cannot_be_encoded():
    with pytest.raises(ValueError, match="without samples"):
        listen.encode(np.zeros((1, 0)), 8000)


@pytest.mark.parametrize(("codec", "rate"), [("flac", 48_000), ("flac", 96_000), ("mp3", 16_000)])
def test_blocks_of_any_size_give_the_sound_of_the_whole(codec: str, rate: int):
    wave = np.random.default_rng(3).uniform(-0.5, 0.5, (2, 20_000)).astype(np.float32)
    encoder = listen.Encoder(rate, 2, codec)
    for start in range(0, 20_000, 777):
        encoder.push(wave[:, start : start + 777])
    parts, whole = (_decode(uri)[0] for uri in (encoder.finish(), listen.encode(wave, rate, codec)))
    # A stream of the resampler may round otherwise than the whole: by a code at most.
    assert parts.shape == whole.shape and np.abs(parts - whole).max() <= 1 / 32768


@pytest.mark.parametrize(("hertz", "amplitude"), [(440.0, 1.0), (1000.0, 0.1), (3000.0, 0.01)])
def test_a_sine_stands_at_its_band_and_level(hertz: float, amplitude: float):
    rate = 8000
    picture = listen.picture(amplitude * np.sin(2 * np.pi * hertz * np.arange(rate) / rate), rate)
    columns, rows = picture["columns"], picture["rows"]
    codes = _array(picture, "spectrum").reshape(columns, rows)
    mel = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), rows + 2)[1:-1]
    band = np.abs(700 * (10 ** (mel / 2595) - 1) - hertz).argmin()
    middle = codes[columns // 2]
    assert abs(int(middle.argmax()) - band) <= 1
    decibel = picture["floor_db"] * (1 - middle.max() / 255)
    assert decibel == pytest.approx(20 * np.log10(amplitude), abs=2.0)  # a sine between two bins loses up to 1.4 dB
    level = picture["floor_db"] * (1 - _array(picture, "level")[columns // 2] / 255.0)
    assert level == pytest.approx(20 * np.log10(amplitude), abs=0.5)


@pytest.mark.parametrize("blocks", [1, 7, 400, 16000])
def test_blocks_of_any_size_give_the_picture_of_the_whole(blocks: int):
    wave = np.random.default_rng(1).standard_normal((2, 16000)).astype(np.float32) * 0.1
    painter = listen.Painter(8000, 100)
    for start in range(0, 16000, 16000 // blocks):
        painter.push(wave[:, start : start + 16000 // blocks])
    whole = listen.Painter(8000, 100)
    whole.push(wave)
    assert painter.finish() == whole.finish()


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_any_length_fits_the_columns_and_loses_no_extreme(seconds: float):
    rate, frames = 8000, 60 * 8000 + 17
    wave = np.random.default_rng(2).uniform(-0.2, 0.2, (1, frames)).astype(np.float32)
    wave[0, 123_457], wave[0, 400_003] = 0.9, -0.8
    painter = listen.Painter(rate, 200, rows=8, seconds=seconds)
    for start in range(0, frames, 10_000):
        painter.push(wave[:, start : start + 10_000])
    picture = painter.finish()
    assert 50 <= picture["columns"] <= 200
    assert (picture["columns"] - 1) * picture["step_s"] < frames / rate <= picture["columns"] * picture["step_s"]
    low, high = _array(picture, "low"), _array(picture, "high")
    assert high.argmax() == int(123_457 / rate / picture["step_s"]) and high.max() == round(0.9 * 127)
    assert low.argmin() == int(400_003 / rate / picture["step_s"]) and low.min() == -round(0.8 * 127)


def test_silence_and_a_single_sample():
    picture = listen.picture(np.zeros((1, 1)), 48000)
    assert picture["columns"] == 1 and not _array(picture, "spectrum").any()


def test_bands_are_triangles_that_overlap_by_half():
    bands = listen.mel_bands(48000, 2048, 96)
    assert bands.shape == (1025, 96) and bands.min() == 0 and 0.5 < bands.max(0).min() <= bands.max() <= 1
    assert (bands[1:-1].sum(1) > 0).all()  # no frequency is left out
