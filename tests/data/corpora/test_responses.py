from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from usepcli.audio import io
from usepcli.data.corpora.base import Bad
from usepcli.data.corpora.responses import responses_in
from usepcli.errors import BadInput

RATIOS = (0.5, 0.25, 0.25)
ALL = ("train", "valid", "test")


def touch(root: Path, *names: str) -> None:
    for name in names:
        io.write(root / name, np.array([0.5, 0.1]), 1000)


def found(root: Path, splits: tuple[str, ...] = ALL) -> tuple[dict[str, tuple[str, str]], str]:
    bad: list[Bad] = []
    rows, told = responses_in(root, splits, RATIOS, 0, bad)
    assert not bad and len({row.id for row in rows}) == len(rows)
    return {row.path: (row.split, row.speaker) for row in rows}, told


def test_folders_are_rooms_and_stay_in_one_split(tmp_path: Path):
    touch(tmp_path, *(f"house{h}/room{r}/{k}.wav" for h in range(2) for r in range(4) for k in range(3)))
    rows, told = found(tmp_path)
    rooms = {room: {split for split, other in rows.values() if other == room} for _, room in rows.values()}
    assert len(rooms) == 8 and all(len(splits) == 1 for splits in rooms.values())
    assert Counter(split for (split,) in rooms.values()) == {"train": 4, "valid": 2, "test": 2}
    assert "24 room responses of 8 rooms, dealt out by seed" in told and "since" not in told
    assert {split for split, _ in found(tmp_path, ("train", "test"))[0].values()} == {"train", "test"}


def test_the_layout_of_fuss(tmp_path: Path):
    touch(tmp_path, *(f"{split}/rirs_0/{k}.wav" for split in ("train", "validation", "eval") for k in range(2)))
    rows, told = found(tmp_path)
    assert rows["eval/rirs_0/1.wav"] == ("test", "eval/rirs_0") and rows["train/rirs_0/0.wav"][0] == "train"
    assert told.endswith("6 room responses of 3 rooms")
    assert set(found(tmp_path, ("valid",))[0]) == {"validation/rirs_0/0.wav", "validation/rirs_0/1.wav"}


def test_a_list_names_rooms_and_splits(tmp_path: Path):
    touch(tmp_path, *(f"{k}.wav" for k in range(6)))
    lines = [f"{k}.wav,kind,room{k // 2},{split}" for k, split in zip(range(6), "ttvvee", strict=True)]
    text = "path,label,room,split\n" + "\n".join(lines) + "\n"
    text = text.replace(",t\n", ",train\n").replace(",v\n", ",valid\n").replace(",e\n", ",test\n")
    (tmp_path / "manifest.csv").write_text(text)
    assert found(tmp_path)[0]["3.wav"] == ("valid", "room1")
    (tmp_path / "manifest.csv").write_text(text.replace("valid", "train"))
    rows, told = found(tmp_path)
    assert {split for split, _ in rows.values()} == set(ALL) and "since none is named for valid" in told
    (tmp_path / "manifest.csv").write_text(text.replace("room1", "room0"))
    with pytest.raises(BadInput, match=r"room 'room0' has responses in train and valid"):
        found(tmp_path)


def test_labels_tell_rooms_apart_where_nothing_else_does(tmp_path: Path):
    touch(tmp_path, *(f"{k}.wav" for k in range(4)))
    (tmp_path / "manifest.csv").write_text("path,label\n0.wav,hall\n1.wav,hall\n2.wav,church\n3.wav,church\n")
    rows, _ = found(tmp_path, ("train", "test"))
    assert rows["0.wav"] == rows["1.wav"] and rows["2.wav"] == rows["3.wav"] and rows["0.wav"][0] != rows["2.wav"][0]
    (tmp_path / "manifest.csv").unlink()
    rows, told = found(tmp_path)
    assert {room for _, room in rows.values()} == {""} and "rooms not told apart" in told
