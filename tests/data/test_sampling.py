"""Order of examples: a pure function of seed and place, whatever the ranks and interruptions."""

from __future__ import annotations

from usepcli.data.sampling import EpochBatches, epoch_order, rng, torch_seed


def keys(batches: EpochBatches, epoch: int, first: int = 0) -> list[list[tuple[int, int]]]:
    batches.start(epoch, first)
    return list(batches)


def test_an_epoch_visits_each_item_once_and_epochs_differ() -> None:
    batches = EpochBatches(10, 3, 1, seed=1)
    first, second = keys(batches, 0), keys(batches, 1)
    assert len(first) == len(batches) == batches.steps_per_epoch == 3
    assert len({i for batch in first for _, i in batch}) == 9
    assert [i for b in first for _, i in b] != [i for b in second for _, i in b]


def test_starting_in_mid_epoch_gives_the_rest_of_the_same_order() -> None:
    batches = EpochBatches(20, 4, 2, seed=3)
    assert keys(batches, 5, 2) == keys(batches, 5)[4:]


def test_ranks_and_micro_batches_share_out_the_same_global_batches() -> None:
    whole = keys(EpochBatches(24, 8, 1, seed=0), 2)
    ranks = [keys(EpochBatches(24, 8, 2, seed=0, rank=r, world=2), 2) for r in range(2)]
    for step, batch in enumerate(whole):
        shared = [key for rank in ranks for part in rank[2 * step : 2 * step + 2] for key in part]
        assert shared == batch


def test_counters_give_independent_reproducible_draws() -> None:
    assert rng(1, 2, 3).integers(1 << 30) == rng(1, 2, 3).integers(1 << 30)
    assert rng(1, 2, 3).integers(1 << 30) != rng(1, 3, 2).integers(1 << 30)
    assert torch_seed(1, 2) != torch_seed(2, 1) and 0 <= torch_seed(5) < 1 << 63
    assert sorted(epoch_order(7, 0, 0)) == list(range(7))
