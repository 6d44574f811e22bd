"""Reads that last are told by the file's name, and end what must not wait for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from usepcli.audio import reading


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    lines: list[str] = []
    monkeypatch.setattr(reading, "SAY_S", 0.3)
    monkeypatch.setattr(reading, "_say", None)  # undone at the end
    reading.tell(lines.append)
    yield lines


def test_a_read_that_lasts_is_told_with_its_name_and_again(said: list[str], until: Callable[..., Any]) -> None:
    with reading.reading("far/slow.wav"), reading.reading(Path("far/inner.wav")):
        until(lambda: len(said) > 1)
    assert all(line.startswith("still waiting for far/slow.wav after ") for line in said)
    assert all(line.endswith(" s: the disk hangs or is slow") for line in said)


def test_a_limit_ends_what_hangs_within_its_block_alone(said: list[str], until: Callable[..., Any]) -> None:
    over: list[str] = []
    with reading.limited(0.5, over.append), reading.reading("x.wav"):
        until(lambda: over)
    assert set(over) == {"x.wav"}
    over.clear()
    with reading.limited(0.0, over.append), reading.reading("y.wav"):
        until(lambda: any("y.wav" in line for line in said))
    said.clear()
    with reading.reading("z.wav"):
        until(lambda: any("z.wav" in line for line in said))
    assert not over
