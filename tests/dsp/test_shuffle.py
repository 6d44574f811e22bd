"""Shuffles over a batch: permutations, Latin rectangles, and the way back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from usepcli.dsp import shuffle
from usepcli.errors import ConfigError


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(1, 24), st.integers(1, 24), st.integers(0, 10_000), st.sampled_from(shuffle.KINDS))
@settings(max_examples=150)
def test_rows_are_permutations_and_columns_of_a_latin_rectangle_differ(
    batch: int, n_src: int, seed: int, kind: str
) -> None:
    if kind != "free" and batch < n_src:
        with pytest.raises(ConfigError, match=f"{batch} mixtures for {n_src} outputs"):
            shuffle.draw(kind, batch, n_src, generator(seed))
        return
    order = shuffle.draw(kind, batch, n_src, generator(seed))
    assert order.shape == (n_src, batch)
    assert torch.equal(order.sort(-1).values, torch.arange(batch).expand(n_src, -1))
    if kind != "free":
        assert all(len(set(column)) == n_src for column in order.T.tolist())


@given(st.integers(2, 12), st.integers(2, 6), st.integers(0, 10_000), st.sampled_from(shuffle.KINDS))
@settings(max_examples=60)
def test_restore_undoes_apply(batch: int, n_src: int, seed: int, kind: str) -> None:
    batch = max(batch, n_src)
    x = torch.randn(batch, n_src, 5, generator=generator(seed))
    order = shuffle.draw(kind, batch, n_src, generator(seed))
    moved = shuffle.apply(x, order)
    assert torch.equal(shuffle.restore(moved, order), x)
    assert torch.equal(moved[0, 1], x[order[1, 0], 1])


def test_a_full_square_is_found_without_luck() -> None:
    # 12 rows of 12: rejection alone would hardly ever find the last ones.
    order = shuffle.draw("constrained", 12, 12, generator(0))
    assert all(len(set(column)) == 12 for column in order.T.tolist())


def test_free_shuffles_do_repeat_a_mixture_sometimes() -> None:
    orders = [shuffle.draw("free", 4, 3, generator(seed)) for seed in range(30)]
    assert any(len(set(column)) < 3 for order in orders for column in order.T.tolist())


def test_constrained_rows_are_close_to_uniform() -> None:
    # Row 1 against row 0 is a derangement: of 3 mixtures there are two, equally likely.
    seen = [shuffle.draw("constrained", 3, 2, generator(seed)) for seed in range(400)]
    steps = [int((order[1, order[0].argsort()][0]) == 1) for order in seen]
    assert 0.4 < sum(steps) / len(steps) < 0.6


def test_channels_are_permutations_and_every_one_comes_up() -> None:
    index = shuffle.channels(600, 3, generator(1))
    assert torch.equal(index.sort(-1).values, torch.arange(3).expand(600, -1))
    counts = torch.tensor([int((index[:, 0] == k).sum()) for k in range(3)])
    assert (counts > 150).all()


def test_an_unknown_kind_names_its_neighbours() -> None:
    with pytest.raises(ConfigError, match="constrained"):
        shuffle.check("constraint", 4, 2)
