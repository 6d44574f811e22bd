"""Orders of an epoch: the same items for any number of ranks, near their tars, and of like length."""

from __future__ import annotations

import numpy as np
import pytest

from usepcli.data.crops import Deal
from usepcli.data.manifest import Manifest, Row
from usepcli.data.order import Order, padded, shards, whole_only
from usepcli.data.sampling import EpochBatches, rng
from usepcli.errors import ConfigError

N, FILES = 997, np.arange(997)


def _plain(epoch: int) -> np.ndarray:
    del epoch
    return FILES


def _heard(order: Order, world: int, accumulate: int, epoch: int = 2, first: int = 0) -> list[list[int]]:
    """Return the items of each step, of all ranks together."""
    steps: dict[int, list[int]] = {}
    for rank in range(world):
        batches = EpochBatches(order.n_items, 16, accumulate, order.seed, rank, world, None, order)
        batches.start(epoch, first)
        for k, keys in enumerate(batches):
            steps.setdefault(k // accumulate, []).extend(i for _, i in keys)
    return [steps[k] for k in sorted(steps)]


@pytest.mark.parametrize("bucket", [0, 5])
@pytest.mark.parametrize("shard", [None, FILES // 50])
def test_ranks_and_micro_batches_share_one_order(shard: np.ndarray | None, bucket: int) -> None:
    order = Order(N, 3, _plain, shard, 4, 60, rng(1).uniform(1, 9, N), bucket)
    alone = _heard(order, 1, 1)
    assert len(alone) == N // 16 and len({i for step in alone for i in step}) == 16 * len(alone)
    for world, accumulate in ((2, 1), (1, 4), (2, 2)):
        shared = _heard(order, world, accumulate)
        assert [set(step) for step in shared] == [set(step) for step in alone]  # step by step, not only in the epoch
    assert _heard(order, 1, 1, first=20) == alone[20:]
    assert _heard(order, 1, 1, epoch=3) != alone


def test_tars_are_read_from_one_end_to_the_other_a_few_at_a_time() -> None:
    shard, window, reach = FILES // 50, 3, 40
    order = Order(N, 0, _plain, shard, window, reach)(0, 1, 1)
    assert sorted(order) == list(range(N))
    seen = [order[np.isin(shard[order], [tar])] for tar in range(20)]
    assert all(abs(np.corrcoef(items, np.arange(len(items)))[0, 1]) > 0.8 for items in seen[:19])
    open_at = [len(np.unique(shard[order[at : at + 20]])) for at in range(0, N - 20, 20)]
    assert max(open_at) <= 2 * window
    firsts = np.array([np.flatnonzero(shard[order] == tar)[0] for tar in range(20)])
    assert not np.array_equal(np.argsort(firsts), np.arange(20))  # the tars themselves are shuffled


def test_recordings_that_come_several_times() -> None:
    deal = Deal(np.array([1, 5, 2, 8] * 10), 0, 3)
    order = Order(deal.n_items, 3, deal.files, np.repeat([0, 1], 20), 1, 10)
    items = order(1, 4, 2)
    assert sorted(items) == list(range(160))
    assert np.bincount(deal.files(1)[items], minlength=40).tolist() == [1, 5, 2, 8] * 10


def test_batches_of_like_length_hold_little_silence() -> None:
    lengths = rng(5).uniform(1, 9, 4000)
    plain, sorted_ = (Order(4000, 1, lambda _: np.arange(4000), None, 8, 9, lengths, bucket) for bucket in (0, 50))
    before, after = padded(lengths, plain(0, 16, 16), 16), padded(lengths, sorted_(0, 16, 16), 16)
    # The longest of 16 uniform on [1, 9] is 1 + 8 * 16/17 on average, the mean 5: 1 - 5 / 8.53 = 0.414.
    assert before == pytest.approx(0.414, abs=0.02) and after < 0.02
    assert padded(np.array([2.0, 4.0]), np.array([0, 1]), 2) == 0.25


def test_what_cannot_be_ordered_is_told(tmp_path) -> None:
    rows = [Row("a", mixture="x.tar/a.flac"), Row("b", sources=("y.tar/b.flac",)), Row("c", mixture="x.tar/c.flac")]
    assert shards(Manifest(rows, tmp_path, tmp_path / "m.csv")).tolist() == [0, 1, 0]
    with pytest.raises(ConfigError, match=r"a of .* lies in none"):
        shards(Manifest([Row("a", mixture="a.flac")], tmp_path, tmp_path / "m.csv"))
    with pytest.raises(ConfigError, match="equally long"):
        whole_only([1.0], 4.0, 10)
    with pytest.raises(ConfigError, match="does not say how long"):
        whole_only([1.0, 0.0], 0.0, 10)
