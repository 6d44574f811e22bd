from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from usepcli.dsp import overlap as ola
from usepcli.separator.stitch import Seam, Stitcher, link_channels

RATE = 8000


def join(
    sources: np.ndarray, chunk: int, overlap: int, orders: np.ndarray | None = None
) -> tuple[np.ndarray, list[Seam]]:
    """Cut sources (N, C, T) into chunks, each in an order of its own, and stitch them."""
    stitcher, pieces = Stitcher(overlap, RATE), []
    for number, (start, stop) in enumerate(ola.spans(sources.shape[2], chunk, overlap)):
        part = sources[:, :, start:stop]
        pieces.append(stitcher.push(start, part if orders is None else part[orders[number]]))
    return np.concatenate([*pieces, stitcher.finish()], axis=2), stitcher.seams


@settings(max_examples=40)
@given(
    length=st.integers(1, 3000), chunk=st.integers(20, 900), share=st.floats(0.02, 0.5), n_src=st.integers(1, 3),
    channels=st.integers(1, 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_stitching_what_was_cut_gives_it_back_bit_by_bit(
    length: int, chunk: int, share: float, n_src: int, channels: int, seed: int
):
    sources = np.random.default_rng(seed).standard_normal((n_src, channels, length)).astype(np.float32)
    sources[:, 1:] = sources[:, :1]  # one image, so that linking the channels has nothing to do
    found, seams = join(sources, chunk, max(1, int(chunk * share)))
    assert np.array_equal(found, sources)
    assert not any(seam.swapped for seam in seams)


def test_any_order_of_four_sources_is_undone():
    draw = np.random.default_rng(0)
    sources = draw.standard_normal((4, 1, 60_000)).astype(np.float32) * draw.uniform(0.05, 1, (4, 1, 1))
    orders = np.array([draw.permutation(4) for _ in ola.spans(60_000, 4000, 500)])
    found, seams = join(sources, 4000, 500, orders)
    assert np.array_equal(found, sources[orders[0]])
    assert sum(seam.swapped for seam in seams) > 10
    # The last chunk reaches further back, but the fade is as short as the others.
    assert [seam.position for seam in seams] == [stop - 500 for _, stop in ola.spans(60_000, 4000, 500)][:-1]
    assert seams[2].time_s == seams[2].position / RATE


def test_outputs_of_a_known_order_stay_in_it_whatever_they_resemble():
    """What answers one query must not become the answer to another, for all that the overlap says."""
    sources = np.random.default_rng(0).standard_normal((2, 1, 700)).astype(np.float32)
    swapped = sources[::-1, :, 300:]
    for ordered in (True, False):
        stitcher = Stitcher(100, RATE, ordered=ordered)
        pieces = [stitcher.push(0, sources[:, :, :400]), stitcher.push(300, swapped)]
        found = np.concatenate([*pieces, stitcher.finish()], axis=2)
        assert np.array_equal(found[:, :, 400:], sources[::-1, :, 400:] if ordered else sources[:, :, 400:])
        assert stitcher.seams[0].swapped is not ordered and (stitcher.seams[0].confidence == 1) is ordered


def test_estimates_that_differ_are_faded_not_cut():
    stitcher = Stitcher(100, RATE)
    pieces = [stitcher.push(0, np.full((1, 1, 400), 1.0)), stitcher.push(300, np.full((1, 1, 400), 2.0))]
    found = np.concatenate([*pieces, stitcher.finish()], axis=2)[0, 0]
    assert np.all(found[:300] == 1) and np.all(found[400:] == 2)
    assert np.all(np.diff(found) >= 0) and np.diff(found).max() < 0.02


def test_a_last_chunk_that_reaches_far_back_still_fades_without_a_jump():
    stitcher = Stitcher(100, RATE)
    pieces = [stitcher.push(0, np.full((1, 1, 400), 1.0)), stitcher.push(10, np.full((1, 1, 400), 2.0))]
    found = np.concatenate([*pieces, stitcher.finish()], axis=2)[0, 0]
    assert len(found) == 410 and np.diff(found).max() < 0.02 and found[-1] == 2


def test_channels_in_another_order_are_linked_to_the_loudest():
    draw = np.random.default_rng(2)
    t = np.arange(16_000)
    envelopes = np.stack([np.sin(2 * np.pi * t / 8000) > 0, np.sin(2 * np.pi * t / 5000) > 0])
    sources = (draw.standard_normal((2, 16_000)) * envelopes).astype(np.float32)
    late = np.roll(sources, 40, axis=1)  # 5 ms: the waveforms no longer correlate
    estimates = np.stack([sources, 0.3 * late[::-1]], axis=1)  # (N, C, T), channel 2 swapped
    linked = link_channels(estimates, RATE)
    np.testing.assert_array_equal(linked, np.stack([sources, 0.3 * late], axis=1))
