"""Frames of a stream: cut and added block by block, against the whole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from usepcli.dsp import framing
from usepcli.dsp.stft import STFT
from usepcli.dsp.stft_conv import ConvSTFT, Pair

SIZES = [(512, 400, 160, "hann"), (256, 256, 64, "sqrt_hann"), (64, 50, 25, "hann")]


def test_cut_by_hand() -> None:
    covered, waiting = framing.cut(torch.zeros(0), torch.arange(5.0), 4, 2)
    assert covered.tolist() == [0, 1, 2, 3] and waiting.tolist() == [2, 3, 4]
    covered, waiting = framing.cut(waiting, torch.tensor([5.0, 6, 7]), 4, 2)
    assert covered.tolist() == [2, 3, 4, 5, 6, 7] and waiting.tolist() == [6, 7]
    assert framing.cut(waiting, torch.zeros(1), 4, 2)[0].shape == (0,)


def test_added_and_settled_by_hand() -> None:
    # Two frames of three ones, two apart, after a tail of 10.
    summed = framing.added(torch.ones(1, 1, 2, 3), 2)
    assert summed.tolist() == [[[1, 1, 2, 1, 1]]]
    settled, tail = framing.settle(summed, torch.full((1, 1, 1), 10.0), 4)
    assert settled.tolist() == [[[11, 1, 2, 1]]] and tail.tolist() == [[[1]]]


@pytest.mark.parametrize("kind", [STFT, ConvSTFT])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("length", [1, 77, 160, 1000, 1024])
def test_spectra_heard_and_spoken_in_blocks_are_those_of_the_whole(kind: type, size: tuple, length: int) -> None:
    torch.manual_seed(length)
    known = STFT(*size)
    stft, wave, hop = known if kind is STFT else ConvSTFT(known), torch.randn(2, length), known.hop
    waiting, specs = torch.zeros(2, stft.ahead), []
    # Blocks that complete a frame each: the second STFT expects that.
    first = known.win - known.ahead
    padded = F.pad(wave, (0, first + (known.frames(length) - 1) * hop - length))
    for at, end in zip(
        [0, *range(first, padded.shape[1], hop)], [*range(first, padded.shape[1] + 1, hop)], strict=True
    ):
        spec, waiting = stft.hear(padded[:, at:end], waiting)
        specs.append(torch.complex(spec.real, spec.imag))
    assert torch.allclose(torch.cat(specs, -1), known(wave), atol=2e-5)
    noise = torch.randn(2, 3, *known(wave).shape[1:], dtype=torch.complex64)
    noise[..., [0, -1], :] = noise[..., [0, -1], :].real.to(noise.dtype)
    tail, waves = torch.zeros(2, 4, known.win - hop), []
    for part in noise.split(3, -1):
        given, tail = stft.speak(part if kind is STFT else Pair(part.real, part.imag), tail)
        waves.append(given)
    back = torch.cat([*waves, framing.over_windows(tail)], -1)[..., known.ahead : known.ahead + length]
    assert torch.allclose(back, known.inverse(noise, length), atol=2e-5)
