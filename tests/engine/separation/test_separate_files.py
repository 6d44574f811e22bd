from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from usepcli.audio import io
from usepcli.engine.separation import inputs, jobs
from usepcli.engine.separation.separate_files import separate_files
from usepcli.errors import IOFault, UsepError
from usepcli.models.separator import SeparationModel
from usepcli.separator.separator import Separator


class Doubler(SeparationModel):
    """Outputs twice the input and minus the input: they sum to it, and the first one clips easily."""

    def __init__(self) -> None:
        super().__init__(n_src=2, sample_rate=8000, hop=1)

    def estimate(self, mix: Tensor) -> Tensor:
        return mix[:, None] * mix.new_tensor([2.0, -1.0])[:, None]


def plan(*names: str, tmp_path: Path) -> list[jobs.Job]:
    return jobs.plan(inputs.find_sources([tmp_path / n for n in names], tmp_path / "out"), tmp_path / "out", 2)


def fail(job: jobs.Job, fault: UsepError) -> None:
    raise fault


def test_common_gain_keeps_the_sum_proportional_to_the_input(tmp_path: Path):
    wave = (0.9 * np.sin(np.arange(200_000) * 0.01)).astype(np.float32)
    io.write(tmp_path / "x.wav", wave, 8000)
    (record,) = separate_files(Separator(Doubler(), chunk_s=4), plan("x.wav", tmp_path=tmp_path), failed=fail)
    assert record.gain_db == pytest.approx(-20 * np.log10(1.8), abs=0.01)
    total = sum(io.read(path)[0] for path in record.outputs)[0]
    np.testing.assert_allclose(total, wave / 1.8, atol=1e-4)
    assert len(record.seams) == 7 and record.swaps == 0 and record.duration_s == 25.0
    assert np.abs(io.read(record.outputs[0])[0]).max() == pytest.approx(1, abs=1e-3)


def test_faults_go_to_the_caller_but_a_full_disk_ends_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a.wav", "c.wav"):
        io.write(tmp_path / name, np.full(800, 0.1, np.float32), 8000)
    (tmp_path / "b.wav").write_text("no sound")
    faults: list[str] = []
    run = plan("a.wav", "b.wav", "c.wav", tmp_path=tmp_path)
    records = list(separate_files(Separator(Doubler()), run, failed=lambda job, fault: faults.append(job.source.name)))
    assert [Path(r.file).name for r in records] == ["a.wav", "c.wav"] and faults == ["b.wav"]

    def full(*_: object) -> Iterator[np.ndarray]:
        raise IOFault("disk full")
        yield

    monkeypatch.setattr(Separator, "file", full)
    with pytest.raises(IOFault):
        list(separate_files(Separator(Doubler()), run, overwrite=True, failed=lambda job, fault: None))


def test_nothing_small_is_left_in_the_heap_while_a_file_goes_on(tmp_path: Path):
    """What stays behind between the large blocks breaks up a heap that is never trimmed: memory grows over hours."""
    draw = np.random.default_rng(0)
    with io.Writer(tmp_path / "x.wav", 8000, 2) as file:
        for _ in range(20):
            file.write(0.1 * draw.standard_normal((2, 80_000), np.float32))
    counts = []

    def watch(blocks: Iterable[np.ndarray], number: int, name: str) -> Iterator[np.ndarray]:
        for k, block in enumerate(blocks):
            if k in (16, 46):  # at 64 s and 184 s of 200 s, chunks of 4 s at the same place in them
                gc.collect()
                shot = tracemalloc.take_snapshot()
                only = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
                counts.append(sum(stat.count for stat in shot.filter_traces([only]).statistics("filename")))
            yield block

    tracemalloc.start()
    try:
        list(
            separate_files(Separator(Doubler(), chunk_s=4), plan("x.wav", tmp_path=tmp_path), watch=watch, failed=fail)
        )
    finally:
        tracemalloc.stop()
    # One array per frame of 100 ms would be 1 200 more.
    assert len(counts) == 2 and 0 < counts[1] < counts[0] + 10, counts
