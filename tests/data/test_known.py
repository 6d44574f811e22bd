"""Which items are read with their sources, and how an epoch is dealt out to both kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from usepcli.data.known import Halves, Split, known
from usepcli.data.manifest import Manifest, Row
from usepcli.errors import ConfigError


def manifest(labels: list[str], mixtures: list[str] | None = None, bare: int = 0) -> Manifest:
    rows = [
        Row(f"{k}", "train", mixtures[k] if mixtures else f"{k}.wav", (f"{k}a.wav", f"{k}b.wav"), label=label)
        for k, label in enumerate(labels)
    ]
    rows += [Row(f"bare{k}", "train", f"bare{k}.wav") for k in range(bare)]
    return Manifest(rows, Path(), Path("manifest.csv"))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.25, 0.5, 0.75])
def test_every_class_gives_its_share(share: float) -> None:
    labels = ["dog"] * 100 + ["rain"] * 60 + ["cat;wind"] * 40
    found = known(manifest(labels), Split(share, 3))
    assert found.sum() == round(200 * share)
    for label in set(labels):
        mine = np.array([one == label for one in labels])
        assert abs(found[mine].sum() - share * mine.sum()) <= 1, label


def test_the_seed_alone_draws_and_small_classes_take_turns() -> None:
    table = manifest([f"class{k % 40}" for k in range(80)])
    draws = [known(table, Split(0.05, seed)) for seed in range(30)]
    assert (known(table, Split(0.05, 7)) == draws[7]).all()
    assert all(draw.sum() == 4 for draw in draws) and len({draw.tobytes() for draw in draws}) > 25
    assert np.any(draws, axis=0).sum() > 40  # of 80, met with 120 draws


def test_a_recording_is_known_as_a_whole_and_items_without_sources_never() -> None:
    names = [f"{k // 5}.wav" for k in range(100)]
    found = known(manifest(["dog"] * 100, names, bare=10), Split(0.5))
    assert len(found) == 110 and not found[100:].any() and found.sum() == 50
    assert all(len(set(found[at : at + 5])) == 1 for at in range(0, 100, 5))
    assert (known(manifest(["dog"] * 4, bare=2), Split(0.0)) == [True] * 4 + [False] * 2).all()


@pytest.mark.parametrize(("share", "bare"), [(0.0, 0), (0.05, 0), (0.99, 0)])
def test_all_or_none_is_refused(share: float, bare: int) -> None:
    with pytest.raises(ConfigError, match=r"objective.supervised: a share of 0.* of the 5 items"):
        known(manifest(["dog"] * 5, bare=bare), Split(share))


@pytest.mark.parametrize(("batch", "micro"), [(8, 8), (8, 4), (6, 3), (5, 5), (3, 3)])
def test_half_of_every_micro_batch_is_known_and_the_larger_kind_is_heard_once(batch: int, micro: int) -> None:
    which = np.arange(43) < 5
    deal = Halves(np.ones(43, int), which, 0, 0)
    assert deal.n_items == 2 * 38
    for epoch in range(2):
        files = deal.files(epoch)
        assert [deal.file(epoch, i) for i in range(deal.n_items)] == files.tolist()
        assert which[files[::2]].all() and sorted(files[1::2]) == [*range(5, 43)]
        assert {7, 8} == set(np.bincount(files[::2]))
        order = deal.order(epoch, batch, micro)
        assert len(order) == deal.n_items // batch * batch == len(set(order))
        share = which[files[order]].reshape(-1, micro).sum(1)
        assert set(share) <= {micro // 2, (micro + 1) // 2}
        assert abs(int(share.sum()) - len(order) / 2) <= 0.5
    assert not np.array_equal(deal.order(0, batch, micro), deal.order(1, batch, micro))
    assert Halves(np.ones(43, int), which, 21, 0).n_items == 20
