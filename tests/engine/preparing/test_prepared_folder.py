"""A folder that an earlier version prepared is recognised: its key is taken over the text of rows, class names too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from usepcli.data.corpora.cutter import Job, Piece
from usepcli.data.manifest import PoolRow, Row
from usepcli.engine.preparing.prepared_folder import PreparedFolder

ROW = Row("a", "train", "a/mix.wav", ("a/s1.wav", "a/s2.wav"), sample_rate=8000, frames=16000, n_src=2)


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (ROW, "66f97379c8cfe285452af77ed76224241fe1d4865bd6829c1a34fb54fc0d6e4f"),
        (
            PoolRow("a", "train", "t", "a.wav", 8000, 16000),
            "6dc2680807756556f0e0b38ea0683eb0cb5fea4b44ae92715d03ae73c04ed8e4",
        ),
        (
            Job(ROW, (("a/mix.wav", (Piece("x.wav", 1.0),)),)),
            "96c855d03b542876b184408062068ff91cda8875a5a05f47841388562b269b0c",
        ),
    ],
)
def test_keys_stay_what_they_were(row: Any, key: str):
    assert PreparedFolder(Path("out"), Path("in"), "folder", {"seed": 0}, [row]).key == key
