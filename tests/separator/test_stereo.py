"""Models of two channels and named stems through the one way from a waveform to its sources."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from usepcli.errors import BadInput, UsageError
from usepcli.models.stereo import StereoModel
from usepcli.separator.separator import How, Separator, Trace


class Places(StereoModel):
    """Three stems: what both channels have in common, half of what they do not, and an eighth of the mixture."""

    ordered = True

    def __init__(self, segment_s: float = 0.0) -> None:
        super().__init__(n_src=3, sample_rate=8000, hop=64)
        self.stems, self.segment_s = ("middle", "sides", "rest_of_it"), segment_s
        self.heard: list[tuple[int, ...]] = []

    def estimate(self, mix: Tensor) -> Tensor:
        self.heard.append(tuple(mix.shape))
        middle = mix.mean(1, keepdim=True).expand_as(mix)
        return torch.stack([middle, 0.5 * (mix - middle), 0.125 * mix], 1)


def stereo(seconds: float, channels: int = 2, rate: int = 8000) -> np.ndarray:
    draw = np.random.default_rng(0)
    return (0.1 * draw.standard_normal((channels, round(seconds * rate)))).astype(np.float32)


def test_two_channels_go_through_together_in_chunks():
    net, wave, trace = Places(), stereo(21), Trace()
    found = Separator(net)(wave, 8000, How(rest="leave"), trace)
    assert found.names == ("middle", "sides", "rest_of_it") and found.sources.shape == (3, 2, 21 * 8000)
    assert len(trace.seams) == 2 and not any(seam.swapped for seam in trace.seams)
    assert {shape[1] for shape in net.heard} == {2}
    middle = wave.mean(0)
    np.testing.assert_allclose(found.sources[0], [middle, middle], atol=1e-6)
    np.testing.assert_allclose(found.sources[1], 0.5 * (wave - middle), atol=1e-6)


@pytest.mark.parametrize("rest", ["share", "source"])
@pytest.mark.parametrize("rate", [8000, 11025])
def test_sources_add_up(rest: str, rate: int):
    wave, trace = stereo(3, rate=rate), Trace()
    found = Separator(Places())(wave, rate, How(rest=rest), trace)
    np.testing.assert_allclose(found.sources.sum(0), wave, atol=1e-6)
    assert trace.null.peak < 1e-6 and len(found) == (4 if rest == "source" else 3)


def test_one_channel_comes_back_as_one():
    net, wave = Places(), stereo(1)[0]
    found = Separator(net)(wave, 8000, How(rest="leave"))
    assert found.sources.shape == (3, 8000) and net.heard == [(1, 2, 8000)]
    np.testing.assert_allclose(found.sources[0], wave, atol=1e-6)


@pytest.mark.parametrize(("channels", "policy"), [(3, "linked"), (6, "linked"), (2, "each"), (1, "linked")])
def test_other_channels_are_decided_on_together_or_one_by_one(channels: int, policy: str):
    wave = stereo(2, channels)
    found = Separator(Places())(wave, 8000, How(policy))
    assert found.sources.shape == (3, channels, 16000)
    np.testing.assert_allclose(found.sources.sum(0), wave, atol=1e-6)


@pytest.mark.parametrize("rest", ["share", "leave", "source"])
def test_two_stems_are_one_source_and_all_others(rest: str):
    wave, whole = stereo(12), Separator(Places())
    four = whole(wave, 8000, How(rest=rest)).sources
    found = whole(wave, 8000, How(rest=rest, two_stems="sides"))
    assert found.names[:2] == ("sides", "no_sides") and len(found) == 2 + (rest == "source")
    np.testing.assert_array_equal(found.sources[0], four[1])
    np.testing.assert_allclose(found.sources[1], four[0] + four[2], atol=1e-6)
    np.testing.assert_array_equal(found.sources[2:], four[3:])


def test_two_stems_of_a_name_that_there_is():
    with pytest.raises(UsageError, match=r"--two-stems: unknown source 'side'.*sides"):
        Separator(Places())(stereo(1), 8000, How(two_stems="side"))


def test_the_model_says_how_much_it_hears_at_once():
    net = Places(segment_s=2.0)
    separator = Separator(net)
    assert separator.chunk_s == 2.0
    separator.rows(stereo(5)[None])
    assert max(shape[-1] for shape in net.heard) == 16000 and len(net.heard) == 3
    assert Separator(net, chunk_s=3).chunk_s == 3.0


def test_batches_are_what_single_calls_are():
    waves = [stereo(1), stereo(1)[:, ::-1].copy(), stereo(0.5), stereo(1)[0]]
    separator = Separator(Places())
    for wave, found in zip(waves, separator.batch(waves, 8000), strict=True):
        np.testing.assert_allclose(found.sources, separator(wave, 8000).sources, atol=1e-6)


def test_too_little_memory_halves_chunks_of_two_channels():
    class Small(Places):
        def estimate(self, mix: Tensor) -> Tensor:
            if mix.shape[-1] > 20_000:
                raise torch.OutOfMemoryError("too long")
            return super().estimate(mix)

    wave, separator = stereo(9), Separator(Small())
    found = separator(wave, 8000, How(rest="leave"))
    assert separator.fits_s < 5
    np.testing.assert_allclose(found.sources[2], 0.125 * wave, atol=1e-6)


def test_shifts_of_two_channels():
    found = Separator(Places())(stereo(1), 8000, How(rest="leave", shifts=3))
    np.testing.assert_allclose(found.sources[2], 0.125 * stereo(1), atol=1e-6)


def test_wrong_shapes_are_refused():
    with pytest.raises(BadInput, match=r"pass wave\.T"):
        Separator(Places())(stereo(1).T, 8000)
