"""Swaps injected at the seams of real talkers, and what remains of them; benchmarks/seams.py is the long version."""

from __future__ import annotations

import itertools
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.dsp import overlap as ola
from usepcli.separator.stitch import Seam, Stitcher, confidence

RATE, CHUNK, OVERLAP = 8000, 32_000, 8000
PAIRS = ["1116_4362", "196_3699", "4088_887", "5104_7264"]


def talkers(pair: str, pause_s: float, seed: int) -> np.ndarray:
    """Two real talkers (2, 79 s), which is 26 chunks: parts of their sentences, with pauses."""
    folder = Path(str(resources.files("usepcli"))) / "samples" / "testset" / pair
    draw, out = np.random.default_rng(seed), np.zeros((2, 79 * RATE), np.float32)
    for row, name in zip(out, ("s1", "s2"), strict=True):
        voice, at = io.read(folder / f"{name}.flac")[0][0], 0
        while at < len(row):
            first = int(draw.uniform(0, 1) * RATE)
            part = voice[first : first + int(draw.uniform(1, 2.5) * RATE)][: len(row) - at]
            row[at : at + len(part)] = part * (0.05 / np.sqrt(np.square(part).mean() + 1e-9))
            at += len(part) + int(draw.uniform(0, pause_s) * RATE)
    return out


def estimates(true: np.ndarray, seed: int) -> list[np.ndarray]:
    """The true talkers of every chunk, leaking at -10 dB with a course of its own, in an order drawn by the seed."""
    draw, chunks = np.random.default_rng(seed), []
    for start, stop in ola.spans(true.shape[1], CHUNK, OVERLAP):
        part = true[:, start:stop]
        leak = np.repeat(draw.uniform(0, 0.5, (2, 40)), CHUNK // 40, axis=1)
        chunks.append((part * (1 - leak) + (part * leak)[::-1])[draw.permutation(2)].astype(np.float32))
    return chunks


def naive_orders(chunks: list[np.ndarray]) -> list[tuple[int, ...]]:
    """The neighbour rule: the largest sum of raw correlations on the overlap, no memory."""
    orders, old = [(0, 1)], chunks[0]
    for new in chunks[1:]:
        score = old[:, -OVERLAP:].astype(float) @ new[:, :OVERLAP].T
        orders.append((0, 1) if score[0, 0] + score[1, 1] >= score[0, 1] + score[1, 0] else (1, 0))
        old = new[list(orders[-1])]
    return orders


def tracked_orders(chunks: list[np.ndarray]) -> tuple[list[tuple[int, ...]], list[Seam]]:
    stitcher = Stitcher(OVERLAP, RATE)
    for number, chunk in enumerate(chunks):
        stitcher.push(number * (CHUNK - OVERLAP), chunk[:, None])
    return [(0, 1), *(seam.order for seam in stitcher.seams)], stitcher.seams


def remaining(chunks: list[np.ndarray], orders: list[tuple[int, ...]], true: np.ndarray) -> tuple[int, int]:
    """Changes of order before and after a tracker, relative to the truth, over chunks in which both can be told."""
    raw, kept = [], []
    for number, (chunk, order) in enumerate(zip(chunks, orders, strict=True)):
        part = true[:, number * (CHUNK - OVERLAP) :][:, :CHUNK].astype(float)
        score = chunk @ part.T
        lead = score[0, 0] + score[1, 1] - score[0, 1] - score[1, 0]
        if abs(lead) > 0.1 * np.square(part).sum() and np.square(part).sum(1).min() > 0:
            raw.append(lead > 0)
            kept.append((lead > 0) == (order == (0, 1)))
    return sum(a != b for a, b in itertools.pairwise(raw)), sum(a != b for a, b in itertools.pairwise(kept))


@pytest.mark.parametrize("pause_s", [1.0, 4.0])
def test_of_the_swaps_injected_between_real_talkers_none_remains(pause_s: float):
    injected = left = naive = 0
    for seed, pair in enumerate(PAIRS):
        true = talkers(pair, pause_s, seed)
        true[:, 12 * RATE - 4000 : 14 * RATE] = 0  # nobody speaks where chunks 4 and 5 meet
        true[1, 40 * RATE : 52 * RATE] = 0  # talker 2 silent over four chunks
        chunks = estimates(true, seed)
        before, after = remaining(chunks, tracked_orders(chunks)[0], true)
        injected, left = injected + before, left + after
        naive += remaining(chunks, naive_orders(chunks), true)[1]
    assert injected > 20
    assert left == 0 < naive


def test_confidence_is_low_where_nobody_speaks_and_high_where_both_do():
    true = talkers(PAIRS[0], 0.2, 7)
    hush = slice(12 * RATE - 4000, 13 * RATE + 4000)
    true[:, hush] = 0
    seams = tracked_orders(estimates(true, 7))[1]
    quiet = [seam for seam in seams if seam.quiet]
    assert [seam.position for seam in quiet] == [12 * RATE]
    assert all(quiet[0].confidence < seam.confidence for seam in seams if not seam.quiet)
    assert min(seam.confidence for seam in seams if not seam.quiet) > 0.9


def test_confidence_runs_from_a_guess_to_certainty():
    found = [confidence(lead) for lead in (0.0, 0.3, 1.0, 2.0, np.inf)]
    assert found[0] == 0.5 and found == sorted(found) and found[3] > 0.98 and found[4] == 1
