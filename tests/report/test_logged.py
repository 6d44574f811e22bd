"""A log that grows is read on from where the last reading ended, and says what reading all of it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from usepcli.errors import BadInput, InputNotFound
from usepcli.report import logged, plots
from usepcli.report.logged import Logged


def test_each_reading_takes_what_is_new_and_no_torn_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, taken = tmp_path / "train.csv", list[int]()
    take = Logged._take
    monkeypatch.setattr(
        Logged, "_take", lambda self, lines, *more: (taken.append(len(lines)), take(self, lines, *more))
    )
    monkeypatch.setattr(logged, "_STEP", 64)
    path.write_text("step,epoch,loss\n" + "".join(f"{k},0,{k / 7}\n" for k in range(100)) + "100,0,1", encoding="utf-8")
    log = Logged(path)
    assert np.array_equal(log.read()["loss"], np.arange(100) / 7) and sum(taken) == 100 and len(taken) > 9
    with path.open("a", encoding="utf-8") as file:
        file.write(".5\n101,0,\n102,0,x\n")
    found = log.read()
    assert sum(taken) == 103 and "lr" not in found and found["step"].tolist() == [*range(103)]
    assert found["loss"][100] == 1.5 and np.isnan(found["loss"][101:]).all()
    path.write_text("step,lr,loss\n1,0.5,2\n", encoding="utf-8")  # with another column, so written anew
    assert {name: column.tolist() for name, column in log.read().items()} == {"step": [1], "loss": [2], "lr": [0.5]}


def test_what_is_no_table_is_told(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    with pytest.raises(InputNotFound, match="no such table"):
        Logged(path).read()
    for text, told in (
        (b"step,loss\n1,\xff\n", "not a CSV table in UTF-8"),
        (b"step,loss\n1,2\n1\n", ":3: 1 cells, 2"),
    ):
        path.write_bytes(text)
        with pytest.raises(BadInput, match=told):
            Logged(path).read()
    path.write_bytes(b"")
    assert Logged(path).read() == {}


def test_a_line_of_many_points_keeps_its_ends_and_its_extremes() -> None:
    draw = np.random.default_rng(0)
    step, loss = np.arange(100_000.0), draw.standard_normal(100_000)
    loss[[5, 40_000]] = np.nan
    loss[77_777] = 9.0
    places, values = plots._thinned(step, loss)
    assert len(places) <= 2 * plots.DRAWN + 2 and places[0] == 0 and places[-1] == step[-1] and 77_777 in places
    assert np.array_equal(values, loss[places.astype(int)]) and (np.diff(places) > 0).all()
    for part in np.array_split(np.arange(100_000), plots.DRAWN):
        here = values[(places >= part[0]) & (places <= part[-1])]
        assert here.min() == np.nanmin(loss[part]) and here.max() == np.nanmax(loss[part])
    assert np.array_equal(plots._thinned(step[:4000], loss[:4000])[1], loss[:4000], equal_nan=True)
