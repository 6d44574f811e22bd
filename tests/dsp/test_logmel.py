"""The log-mel front end against the stock one of CLAP, and the change of rate against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from usepcli.dsp.logmel import LogMel, OffsetMel, Resample, filled, mel_bank


@pytest.mark.parametrize("kind", ["noise", "tone", "both", "chirp", "silence"])
def test_it_equals_the_stock_front_end(kind: str) -> None:
    made = pytest.importorskip("transformers").ClapFeatureExtractor
    stock = made(truncation="rand_trunc", padding="repeatpad", frequency_min=50)
    time = np.arange(480000) / 48000
    noise = np.random.default_rng(0).standard_normal(480000)
    wave = {
        "noise": 0.1 * noise, "tone": 0.5 * np.sin(2 * np.pi * 1000 * time), "silence": 0 * time,
        "both": 0.5 * np.sin(2 * np.pi * 1000 * time) + 1e-4 * noise, "chirp": np.sin(2 * np.pi * 1000 * time**2),
    }[kind].astype(np.float32)  # fmt: skip
    expected = torch.from_numpy(stock(wave, sampling_rate=48000, return_tensors="np")["input_features"][0, 0])
    found = LogMel(48000, 1024, 480, 64, 50, 14000)(torch.from_numpy(wave)[None])[0]
    assert found.shape == expected.shape == (1001, 64)
    # Near the floor of -100 dB both are noise of float32's transforms.
    error = (found - expected).abs()
    assert error.max() < 0.5 and (kind == "silence" or error[expected > -60].max() < 5e-3)


def test_triangles_have_unit_area_in_hz() -> None:
    bank = mel_bank(16385, 16000, 20, 100, 7000)
    torch.testing.assert_close(bank.sum(1) * 8000 / 16384, torch.ones(20), atol=2e-3, rtol=0)


def test_magnitudes_are_those_of_frames_within_the_wave() -> None:
    torchaudio = pytest.importorskip("torchaudio")
    made = OffsetMel(16000, 400, 160, 512, 64, 125, 7500, 0.001)
    wave = torch.randn(1, 400 + 160 * 3 + 159)
    frames = wave.unfold(1, 400, 160) * torch.hann_window(400)  # (1, 4, 400)
    bank = torchaudio.functional.melscale_fbanks(257, 125, 7500, 64, 16000, None, "htk")
    expected = torch.log(torch.fft.rfft(frames, 512).abs() @ bank + 0.001)
    torch.testing.assert_close(made(wave), expected, atol=1e-3, rtol=0)
    assert torch.equal(made(torch.zeros(1, 400)), torch.full((1, 1, 64), 0.001).log())


@pytest.mark.parametrize(("rate_in", "rate_out"), [(11025, 48000), (48000, 16000), (8000, 8000), (44100, 48000)])
def test_a_tone_is_the_same_tone_at_another_rate(rate_in: int, rate_out: int) -> None:
    def tone(rate: int) -> torch.Tensor:
        return torch.sin(2 * math.pi * 440 * torch.arange(rate // 2, dtype=torch.float64) / rate).float()[None]

    found = Resample(rate_in, rate_out)(tone(rate_in))
    assert found.shape[1] == -(-(rate_in // 2) * rate_out // rate_in)
    inner = slice(rate_out // 10, rate_out // 3)
    torch.testing.assert_close(found[:, inner], tone(rate_out)[:, inner], atol=2e-3, rtol=0)


def test_what_is_above_the_lower_rate_is_gone() -> None:
    high = torch.sin(2 * math.pi * 6000 * torch.arange(16000) / 16000)[None]
    assert Resample(16000, 8000)(high)[:, 1000:-1000].abs().max() < 1e-2


def test_clips_are_repeated_from_their_beginning_and_cut() -> None:
    assert filled(torch.tensor([[1.0, 2, 3]]), 7).tolist() == [[1, 2, 3, 1, 2, 3, 1]]
    assert filled(torch.tensor([[1.0, 2, 3]]), 2).tolist() == [[1, 2]]
