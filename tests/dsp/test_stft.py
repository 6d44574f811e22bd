from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from usepcli.dsp.stft import STFT
from usepcli.errors import ConfigError

SHAPES = [
    (512, 400, 160, "hann"), (256, 256, 64, "sqrt_hann"), (256, 256, 128, "hann"), (64, 48, 20, "sqrt_hann"),
]  # fmt: skip


@given(length=st.integers(1, 3000), shape=st.sampled_from(SHAPES), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_round_trip_for_any_length(length, shape, seed):
    wave = torch.randn(2, length, generator=torch.Generator().manual_seed(seed))
    stft = STFT(*shape)
    spec = stft(wave)
    assert spec.shape == (2, stft.bins, stft.frames(length))
    torch.testing.assert_close(stft.inverse(spec, length), wave, atol=2e-5, rtol=0)


def test_frame_is_the_windowed_transform_around_its_centre():
    wave = torch.randn(1000, dtype=torch.float64)
    stft = STFT(64, 64, 16, "hann")
    # The window is kept in float32: its angle, up to 2 pi, and its value are rounded there.
    hann = torch.hann_window(64, dtype=torch.float64)
    torch.testing.assert_close(stft.window.double(), hann, atol=4 * torch.finfo(torch.float32).eps, rtol=0)
    frame = wave[10 * 16 - 32 : 10 * 16 + 32] * stft.window
    off = 64 * torch.finfo(torch.float64).eps * float(frame.abs().sum())
    torch.testing.assert_close(stft(wave)[:, 10], torch.fft.rfft(frame), atol=off, rtol=0)


def test_leading_shapes_and_precision():
    stft = STFT(64, 64, 32)
    for lead in ((), (3,), (2, 3)):
        spec = stft(torch.randn(*lead, 100))
        assert spec.shape == (*lead, 33, 5) and spec.dtype == torch.complex64
        assert stft.inverse(spec, 100).shape == (*lead, 100)
    assert stft(torch.randn(100, dtype=torch.float64)).dtype == torch.complex128
    assert stft(torch.randn(100).bfloat16()).dtype == torch.complex64


def test_changed_spectra_do_not_blow_up_at_the_end():
    stft = STFT(64, 64, 32, "hann")
    length = 32 * 8 + 31
    spec = torch.randn(200, 33, stft.frames(length), dtype=torch.complex64)
    power = stft.inverse(spec, length).square().mean(0)
    assert power[-32:].max() < 3 * power[64:-64].max()


@pytest.mark.parametrize("sizes", [(64, 64, 33), (64, 65, 16), (63, 60, 16), (64, 64, 0)])
def test_sizes_that_cannot_be_inverted_are_refused(sizes):
    with pytest.raises(ConfigError, match=r"model\.hop"):
        STFT(*sizes)


def test_unknown_window():
    with pytest.raises(ConfigError, match="sqrt_hann"):
        STFT(64, 64, 16, "boxcar")


def test_checkpoints_carry_no_window():
    assert not STFT().state_dict()


@pytest.mark.parametrize("length", [1, 32, 33, 200, 383, 384])
def test_mirrored_edges_are_those_of_torch(length):
    wave, stft = torch.randn(2, length), STFT(64, 64, 32, "hann", "reflect")
    spec = stft(wave)
    assert spec.shape == (2, 33, stft.frames(length))
    torch.testing.assert_close(stft.inverse(spec, length), wave, atol=2e-5, rtol=0)
    if length > 32:  # else torch refuses
        torch.testing.assert_close(spec, torch.stft(wave, 64, 32, window=torch.hann_window(64), return_complex=True))


def test_unknown_edges():
    with pytest.raises(ConfigError, match=r"model\.edges: unknown edges 'wrap'"):
        STFT(64, 64, 32, edges="wrap")
