"""What a journal gives back after a kill, a bad disk or a stranger's hand."""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path

import pytest

from usepcli.engine.journal import Journal

VALUES = {0: {"si-snr": 1.5, "reason": ""}, 1: [float("inf"), None, "\udcff"], 2: "text", 3: -0.0}


def written(folder: Path) -> Path:
    journal = Journal(folder, "items", "the key", {"asked": 1})
    journal.open()
    part = journal.part("items")
    part.left(len(VALUES))
    for number, value in VALUES.items():
        part.add(number, value)
    journal.close()
    return journal.path


def read(folder: Path) -> dict[int, object]:
    journal = Journal(folder, "items", "the key", {"asked": 1})
    journal.open()
    journal.close()
    return journal.part("items").done


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    path = written(tmp_path)
    before = path.read_bytes()
    assert read(tmp_path) == VALUES and path.read_bytes() == before


def test_a_changed_line_counts_for_nothing(tmp_path: Path) -> None:
    raw, draw = written(tmp_path).read_bytes(), random.Random(0)
    head = raw.index(b"\n") + 1
    path = tmp_path / "items.partial.jsonl"
    for _ in range(200):
        bitten = bytearray(raw)
        for _ in range(draw.randrange(1, 4)):
            bitten[draw.randrange(head, len(raw))] = draw.randrange(256)
        bitten = bitten[: draw.randrange(head, len(raw) + 1)]
        path.write_bytes(bitten)
        for number, value in read(tmp_path).items():
            assert value == VALUES[number]


@pytest.mark.parametrize(
    "body", ["[" * 100_000 + "]" * 100_000, "3", '["items"]', '["items", null, 1]', '["items", 1e999, 1]', '{"a": 1}']
)
def test_a_line_with_its_sum_that_is_no_result(body: str, tmp_path: Path) -> None:
    with open(written(tmp_path), "a") as file:
        file.write(f'{body[:-1]}, "{zlib.crc32(body.encode()):08x}"]\n')
    assert read(tmp_path) == VALUES


@pytest.mark.parametrize("head", [b"", b"\n", b"[]\n", b"[" * 100_000 + b"\n", b'{"key": ["the key"]}\n', b"\xff\n"])
def test_a_first_line_that_names_no_work_is_of_another(head: bytes, tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(head + path.read_bytes().split(b"\n", 1)[1])
    foreign = Journal(tmp_path, "items", "the key", {}).foreign()
    assert foreign is not None and foreign[0] == path


def test_lines_are_json(tmp_path: Path) -> None:
    lines = written(tmp_path).read_text().splitlines()
    assert [json.loads(line)[:2] for line in lines[1:]] == [["items", n] for n in VALUES]
